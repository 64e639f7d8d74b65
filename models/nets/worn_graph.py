"""`models.nets.worn` as nodes of an ONNX graph, and back.

Names of its nodes and constants begin with WORN, by which they are told from the network's own. All sums run within one
window, so that its bits do not depend on what else is in a run: ONNX Runtime's ReduceMean and ReduceSum over the last
axis add in another order for an odd number of rows, its GlobalAveragePool does not. Roots are square roots, which are
exact.
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
from models.nets.worn import QUIET, Worn, bands

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
    by_sensor = graph.constant(np.array([0, len(worn.sensors), 3, -1], np.int64))
    quiet = graph.constant(np.array([QUIET], np.float32))
    series = graph.add("Transpose", windows, perm=[0, 2, 1])
    places = [place for sensor in worn.sensors for place in sensor]
    x = graph.add("Gather", series, graph.constant(np.array(places, np.int64)), axis=1)
    mean = graph.add("GlobalAveragePool", x)
    off = graph.add("Sub", x, mean)
    squares = graph.add("Mul", off, off)
    later, earlier = (_slice(graph, x, first, end) for first, end in ((1, _END), (0, -1)))
    fast, slow = graph.add("Sub", later, earlier), _averages(graph, off, worn.smooth_len)
    by_axis = [
        graph.add("GlobalAveragePool", power)
        for power in (squares, graph.add("Mul", fast, fast), graph.add("Mul", slow, slow))
    ]
    strength = _strength(graph, graph.add("Reshape", graph.add("Concat", *by_axis, axis=2), by_sensor), quiet)
    # Each statistic is (batch, sensors, one or more).
    found = [graph.add(over, strength, axes=[2], keepdims=0) for over in ("ReduceMin", "ReduceMean", "ReduceMax")]

    waves = [graph.add("MatMul", off, basis) for basis in _fourier(graph, worn.window_len)]
    cosine, sine = (graph.add("Mul", wave, wave) for wave in waves)
    spectrum = _over_axes(graph, graph.add("Add", cosine, sine), by_sensor)
    in_bands = graph.add("MatMul", spectrum, graph.constant(bands(worn.window_len).numpy()))
    flat = graph.add("Reshape", squares, graph.constant(np.array([0, len(worn.sensors), -1], np.int64)))
    peak = graph.add("ReduceMax", flat, axes=[2])
    relative = _relative(graph, spectrum, quiet)
    found += [
        _strength(graph, graph.add("Concat", peak, in_bands, axis=2), quiet),
        graph.add("GlobalAveragePool", graph.add("Sqrt", relative)),
        _root_mean_square(graph, relative),
        graph.add("Sqrt", graph.add("ReduceMax", relative, axes=[2])),
    ]

    averages = _averages(graph, off, worn.block_len)
    parts = graph.add("Sub", _averages(graph, squares, worn.block_len), graph.add("Mul", averages, averages))
    strength = _strength(graph, graph.add("Relu", _over_axes(graph, parts, by_sensor)), quiet)
    middle = graph.add("GlobalAveragePool", strength)
    found += [
        graph.add("ReduceMin", strength, axes=[2]),
        middle,
        graph.add("ReduceMax", strength, axes=[2]),
        _root_mean_square(graph, graph.add("Sub", strength, middle)),
        _root_mean_square(graph, _relative(graph, _over_axes(graph, squares, by_sensor), quiet)),
    ]

    gravity = graph.add("Gather", series, graph.constant(np.array(worn.gravity, np.int64)), axis=1)
    gravity = graph.add("GlobalAveragePool", gravity)
    own = graph.add("Gather", mean, graph.constant(np.arange(3)), axis=1)
    of_gravity = [
        graph.add("Sqrt", graph.add("ReduceMean", graph.add("Mul", gravity, gravity), axes=[1])),
        graph.add("ReduceMin", graph.add("Abs", gravity), axes=[1]),
        graph.add("ReduceMax", graph.add("Abs", own), axes=[1]),
    ]
    kinds = (graph.add("Concat", *found, axis=2), graph.add("Concat", *of_gravity, axis=1))
    statistics = graph.add("Concat", *(graph.add("Flatten", kind, axis=1) for kind in kinds), axis=1)
    hidden = graph.add("Relu", _layer(graph, worn.hidden, statistics))
    return graph, graph.add("Sigmoid", _layer(graph, worn.last, hidden))


def worn_of(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, NDArray[np.float32]]) -> Worn:
    """What `worn_nodes` made nodes of.

    Raises:
        KeyError, ValueError: these are no such nodes.
    """
    gathers, (hidden, last), pools, products = (
        [node for node in nodes if node.op_type == kind] for kind in ("Gather", "Gemm", "AveragePool", "Mul")
    )
    if (len(gathers), len(pools)) != (3, 3):
        raise ValueError("what knows a wearer is as another release wrote it")
    places, gravity = ([int(place) for place in constants[node.input[1]]] for node in gathers[:2])
    smooth_len, block_len = (
        int(next(a for a in node.attribute if a.name == "kernel_shape").ints[0]) for node in pools[:2]
    )
    worn = Worn(
        [places[first : first + 3] for first in range(0, len(places), 3)],
        gravity,
        # The first product of constants is of time and frequency.
        window_len=len(next(constants[node.input[0]] for node in products if node.input[0] in constants)),
        smooth_len=smooth_len,
        block_len=block_len,
    )
    for layer, node in ((worn.hidden, hidden), (worn.last, last)):
        for target, name in ((layer.weight, node.input[1]), (layer.bias, node.input[2])):
            with torch.no_grad():
                target.copy_(torch.from_numpy(np.array(constants[name])))
    return worn.requires_grad_(requires_grad=False)


def _fourier(graph: Graph, window_len: int) -> tuple[str, str]:
    """The matrices of `models.nets.worn.fourier`, computed once when the model is loaded: they would be most of it."""
    steps = graph.constant(np.arange(window_len, dtype=np.float32)[:, None])
    cycles = graph.constant(np.arange(1, window_len // 2 + 1, dtype=np.float32))
    unit = graph.constant(np.array(2 * np.pi / window_len, np.float32))
    angles = graph.add("Mul", graph.add("Mul", steps, cycles), unit)
    half = graph.constant(np.array(0.5, np.float32))
    cosine = graph.add("Mul", half, graph.add("Cos", graph.add("Mul", steps, unit)))
    hann = graph.add("Sub", half, cosine)
    hann = graph.add("Div", hann, graph.constant(np.array(np.sqrt(window_len), np.float32)))
    return graph.add("Mul", graph.add("Cos", angles), hann), graph.add("Mul", graph.add("Sin", angles), hann)


def _averages(graph: Graph, x: str, length: int) -> str:
    """Of parts of x (batch, channels, time)."""
    return graph.add("AveragePool", x, kernel_shape=[length], strides=[length])


def _over_axes(graph: Graph, power: str, by_sensor: str) -> str:
    """(batch, sensors, ...) mean over a sensor's axes of power (batch, 3 x sensors, ...)."""
    return graph.add("ReduceMean", graph.add("Reshape", power, by_sensor), axes=[2], keepdims=0)


def _relative(graph: Graph, power: str, quiet: str) -> str:
    """Power (batch, sensors, ...) over its mean."""
    power = graph.add("Add", power, quiet)
    return graph.add("Div", power, graph.add("GlobalAveragePool", power))


def _root_mean_square(graph: Graph, x: str) -> str:
    """(batch, sensors, 1) of x (batch, sensors, ...)."""
    return graph.add("Sqrt", graph.add("GlobalAveragePool", graph.add("Mul", x, x)))


def _slice(graph: Graph, x: str, first: int, end: int) -> str:
    """Samples from first to end of x (batch, channels, time)."""
    return graph.add("Slice", x, *(graph.constant(np.array([value], np.int64)) for value in (first, end, 2)))


def _strength(graph: Graph, power: str, quiet: str) -> str:
    """The eighth root."""
    power = graph.add("Add", power, quiet)
    for _ in range(3):
        power = graph.add("Sqrt", power)
    return power


def _layer(graph: Graph, layer: nn.Linear, x: str) -> str:
    weight, bias = (value.detach().numpy().astype(np.float32) for value in (layer.weight, layer.bias))
    return graph.add("Gemm", x, graph.constant(weight), graph.constant(bias), transB=1)
