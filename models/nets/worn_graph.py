"""`models.nets.worn` as nodes of an ONNX graph, and back.

Names of its nodes and constants begin with WORN, by which they are told from the network's own. All sums run within one
window, so that its bits do not depend on what else is in a run; roots are square roots, which are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from models.nets.graph import Graph
from models.nets.worn import QUIET, Worn

WORN: Final = "worn_"
#: As the end of a slice: behind whatever is last.
_END: Final = np.iinfo(np.int64).max


def worn_nodes(worn: Worn, windows: str) -> tuple[Graph, str]:
    """The nodes, and the name of the factor (batch, 1) that they give.

    Args:
        worn: taught.
        windows: name of the windows (batch, window_len, channels).
    """
    graph = Graph(WORN)
    series = graph.add("Transpose", windows, perm=[0, 2, 1])
    found, means = [], []
    for places in worn.sensors:
        x = graph.add("Gather", series, graph.constant(np.array(places, np.int64)), axis=1)
        means.append(graph.add("GlobalAveragePool", x))
        off = graph.add("Sub", x, means[-1])
        later, earlier = (_slice(graph, x, first, end) for first, end in ((1, _END), (0, -1)))
        smooth = graph.add("AveragePool", off, kernel_shape=[worn.smooth_len], strides=[worn.smooth_len])
        for part in (off, graph.add("Sub", later, earlier), smooth):
            strength = _strength(graph, graph.add("GlobalAveragePool", graph.add("Mul", part, part)))
            found += [graph.add(over, strength, axes=[1]) for over in ("ReduceMin", "ReduceMean", "ReduceMax")]
        peak = graph.add("ReduceMax", graph.add("Abs", off), axes=[1, 2])
        found.append(_strength(graph, graph.add("Mul", peak, peak)))
    down = graph.add("Gather", series, graph.constant(np.array(worn.gravity, np.int64)), axis=1)
    gravity = graph.add("GlobalAveragePool", down)
    found += [
        graph.add("Sqrt", graph.add("ReduceMean", graph.add("Mul", gravity, gravity), axes=[1])),
        graph.add("ReduceMin", graph.add("Abs", gravity), axes=[1]),
        graph.add("ReduceMax", graph.add("Abs", means[0]), axes=[1]),
    ]
    statistics = graph.add("Flatten", graph.add("Concat", *found, axis=1), axis=1)
    hidden = graph.add("Relu", _layer(graph, worn.hidden, statistics))
    return graph, graph.add("Sigmoid", _layer(graph, worn.last, hidden))


def worn_of(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, NDArray[np.float32]]) -> Worn:
    """What `worn_nodes` made nodes of.

    Raises:
        KeyError, ValueError: these are no such nodes.
    """
    gathers, (hidden, last), pools = (
        [node for node in nodes if node.op_type == kind] for kind in ("Gather", "Gemm", "AveragePool")
    )
    *sensors, gravity = ([int(place) for place in constants[node.input[1]]] for node in gathers)
    kernel = next(a for a in pools[0].attribute if a.name == "kernel_shape").ints[0]
    worn = Worn(sensors, gravity, int(kernel))
    for layer, node in ((worn.hidden, hidden), (worn.last, last)):
        for target, name in ((layer.weight, node.input[1]), (layer.bias, node.input[2])):
            with torch.no_grad():
                target.copy_(torch.from_numpy(np.array(constants[name])))
    return worn.requires_grad_(requires_grad=False)


def _slice(graph: Graph, x: str, first: int, end: int) -> str:
    """Samples from first to end of x (batch, channels, time)."""
    return graph.add("Slice", x, *(graph.constant(np.array([value], np.int64)) for value in (first, end, 2)))


def _strength(graph: Graph, power: str) -> str:
    """The eighth root."""
    power = graph.add("Add", power, graph.constant(np.array([QUIET], np.float32)))
    for _ in range(3):
        power = graph.add("Sqrt", power)
    return power


def _layer(graph: Graph, layer: nn.Linear, x: str) -> str:
    weight, bias = (value.detach().numpy().astype(np.float32) for value in (layer.weight, layer.bias))
    return graph.add("Gemm", x, graph.constant(weight), graph.constant(bias), transB=1)
