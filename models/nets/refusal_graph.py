"""Refusal as nodes of an ONNX graph: the factor of `models.nets.refusal` on an exported model's probabilities."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from models.nets.graph import Graph
from models.nets.refusal import Refusal, Region

Float32 = NDArray[np.float32]


def refusal_nodes(graph: Graph, features: str, windows: str, refusal: Refusal) -> str:
    """Add the factor (batch, 1) to a graph; the name of its output, by which probabilities are to be multiplied.

    Sums run within one window only, by convolution and pooling: those of MatMul and ReduceSum may be added up in
    another order for a batch of one.

    Args:
        graph: to add to.
        features: name of what the last layer is given, (batch, n).
        windows: name of the input, (batch, window_len, channels).
        refusal: fitted.
    """
    # (batch, n, 1): what belongs to a window stands in channels.
    x = graph.add("Unsqueeze", features, graph.constant(np.array([2], np.int64)))
    first = _region_nodes(graph, x, refusal.features)
    series = graph.add("Transpose", windows, perm=[0, 2, 1])
    means = graph.add("GlobalAveragePool", series)
    off = graph.add("Sub", series, means)
    variances = graph.add("GlobalAveragePool", graph.add("Mul", off, off))
    down = graph.add("Gather", means, graph.constant(np.array(refusal.gravity, np.int64)), axis=1)
    moved = graph.add("Gather", variances, graph.constant(np.array(refusal.motion, np.int64)), axis=1)
    mean_power = graph.add("GlobalAveragePool", graph.add("Transpose", moved, perm=[0, 2, 1]))
    power = graph.add("Mul", mean_power, graph.constant(_scalar(len(refusal.motion))))
    strength = graph.add("Sqrt", graph.add("Sqrt", graph.add("Sqrt", power)))
    second = _region_nodes(graph, graph.add("Concat", down, strength, axis=1), refusal.posture)
    return graph.add("Min", first, second)


def with_refusal(model: bytes, refusal: Refusal) -> bytes:
    """An exported model with the factor on its probabilities.

    Args:
        model: an ONNX model that ends with a last layer (Gemm) and a softmax.
        refusal: of the same network.

    Raises:
        ValueError: the model ends otherwise.
    """
    proto = onnx.load_from_string(model)
    nodes = list(proto.graph.node)
    # Behind the softmax there may be a factor of whether somebody wears the watch.
    end = nodes[-1]
    softmax = next((node for node in nodes if node.op_type == "Softmax"), end)
    last = next((node for node in nodes if softmax.input[0] in node.output), None)
    if softmax.op_type != "Softmax" or last is None or last.op_type != "Gemm":
        raise ValueError(f"model ends with {end.op_type}; expected a Gemm and a Softmax")
    graph = Graph("refusal_")
    factor = refusal_nodes(graph, last.input[0], proto.graph.input[0].name, refusal)
    output = end.output[0]
    end.output[0] = "unrefused"
    proto.graph.node.extend([*graph.nodes, helper.make_node("Mul", ["unrefused", factor], [output])])
    proto.graph.initializer.extend(graph.constants)
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    return content


def _region_nodes(graph: Graph, x: str, region: Region) -> str:
    """Factor (batch, 1) of a view (batch, n, 1)."""
    weight = np.ascontiguousarray(region.projection.T[:, :, None])
    z = graph.add("Conv", x, graph.constant(weight), graph.constant(region.offset), kernel_shape=[1])
    z = graph.add("Transpose", z, perm=[0, 2, 1])
    off = graph.add("Sub", z, graph.constant(np.ascontiguousarray(region.clusters[None])))
    weighed = graph.add("Mul", graph.add("Mul", off, off), graph.constant(np.ascontiguousarray(region.precision[None])))
    # (batch, clusters, 1); a minimum does not depend on order.
    nearest = graph.add("ReduceMin", graph.add("GlobalAveragePool", weighed), axes=[1, 2], keepdims=0)
    distance = graph.add("Sqrt", graph.add("Unsqueeze", nearest, graph.constant(np.array([1], np.int64))))
    left = graph.add("Sub", graph.constant(_scalar(region.threshold)), distance)
    return graph.add("Sigmoid", graph.add("Mul", left, graph.constant(_scalar(region.steepness))))


def _scalar(value: float) -> Float32:
    return np.array([value], np.float32)
