"""A bundle's ONNX model as the network that it was exported from, so that it can learn further.

Only graphs that `models.nets.export` writes are known. The network has its normalisations folded into the convolutions,
as the graph has, and the temperature in its last layer; exported again, it gives the same graph to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from models.nets.export import GATES, to_onnx
from models.nets.networks import Cnn, CnnConfig, ConvLstm, ConvLstmConfig, Lstm, LstmConfig, Network, NormedConv
from models.nets.worn_graph import WORN, worn_of
from streamer.bundle import ModelBundle
from streamer.errors import BundleError, one_line

_Constants = Mapping[str, NDArray[np.float32]]


def import_network(bundle: ModelBundle) -> Network:
    """The network of a bundle's model, in evaluation mode.

    Raises:
        BundleError: the model is not one that `har-models` writes.
    """
    try:
        graph = onnx.load_from_string(bundle.model).graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        kinds = {node.op_type for node in graph.node}
        read = _cnn if "LSTM" not in kinds else _conv_lstm if "Conv" in kinds else _lstm
        own = [node for node in graph.node if not node.output[0].startswith(WORN)]
        network = read(own, constants).eval()
        beside = [node for node in graph.node if node.output[0].startswith(WORN)]
        network.worn = worn_of(beside, constants) if beside else None
        again = onnx.load_from_string(to_onnx(network, window_len=bundle.spec.window_len)).graph
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _refusal(bundle, one_line(error) or type(error).__name__) from error
    if list(graph.node) != list(again.node) or list(graph.initializer) != list(again.initializer):
        raise _refusal(bundle, "its graph is another")
    return network


def _refusal(bundle: ModelBundle, what: str) -> BundleError:
    return BundleError(
        f"model of bundle {bundle.manifest.name}: cannot learn further ({what}); expected one that har-models wrote"
    )


def _cnn(nodes: Sequence[onnx.NodeProto], constants: _Constants) -> Cnn:
    # A residual block ends with an addition; its shortcut, where it has one, comes first.
    blocks: list[list[onnx.NodeProto]] = [[]]
    for node in nodes:
        if node.op_type == "Conv":
            blocks[-1].append(node)
        elif node.op_type == "Add":
            blocks.append([])
    (stem, *blocks[0]), *_ = blocks
    blocks = [block for block in blocks if block]
    (div,), (gemm,) = ([node for node in nodes if node.op_type == kind] for kind in ("Div", "Gemm"))
    scale, weight = constants[div.input[1]], constants[gemm.input[1]]
    config = CnnConfig(
        widths=tuple(len(constants[block[-1].input[1]]) for block in blocks),
        kernel=_first(blocks[0][-1], "kernel_shape"),
        stem_kernel=_first(stem, "kernel_shape"),
        stem_stride=_first(stem, "strides"),
    )
    network = Cnn(config, len(scale), len(weight))
    _fold(network.stem, stem, constants)
    for layers, block in zip(network.residual_blocks(), blocks, strict=True):
        own = [layers.first, layers.second]
        for layer, node in zip(own if layers.shortcut is None else [layers.shortcut, *own], block, strict=True):
            _fold(layer, node, constants)
    _set(network.scale, scale)
    _set(network.head.weight, weight)
    _set(network.head.bias, constants[gemm.input[2]])
    return network


def _lstm(nodes: Sequence[onnx.NodeProto], constants: _Constants) -> Lstm:
    (div,), (embed,), (add,), (gemm,) = (
        [node for node in nodes if node.op_type == kind] for kind in ("Div", "MatMul", "Add", "Gemm")
    )
    layers = [node for node in nodes if node.op_type == "LSTM"]
    scale, weight, embedding = (constants[node.input[1]] for node in (div, gemm, embed))
    hidden = embedding.shape[1]
    network = Lstm(LstmConfig(hidden=hidden, layers=len(layers)), len(scale), len(weight))
    _set_recurrent(network.lstm, layers, constants)
    _set(network.scale, scale)
    _set(network.embed.weight, embedding.T)
    _set(network.embed.bias, constants[add.input[1]])
    _set(network.head.weight, weight)
    _set(network.head.bias, constants[gemm.input[2]])
    return network


def _conv_lstm(nodes: Sequence[onnx.NodeProto], constants: _Constants) -> ConvLstm:
    (div,), (gemm,) = ([node for node in nodes if node.op_type == kind] for kind in ("Div", "Gemm"))
    convolutions, layers = ([node for node in nodes if node.op_type == kind] for kind in ("Conv", "LSTM"))
    scale, weight = constants[div.input[1]], constants[gemm.input[1]]
    config = ConvLstmConfig(
        stem=tuple(len(constants[node.input[1]]) for node in convolutions),
        hidden=weight.shape[1] // 2,
        layers=len(layers),
        kernel=_first(convolutions[0], "kernel_shape"),
    )
    network = ConvLstm(config, len(scale), len(weight))
    for layer, node in zip(network.convolutions(), convolutions, strict=True):
        _fold(layer, node, constants)
    _set_recurrent(network.lstm, layers, constants)
    _set(network.scale, scale)
    _set(network.head.weight, weight)
    _set(network.head.bias, constants[gemm.input[2]])
    return network


def _set_recurrent(lstm: nn.LSTM, layers: Sequence[onnx.NodeProto], constants: _Constants) -> None:
    hidden, weights = lstm.hidden_size, dict(lstm.named_parameters())
    for number, node in enumerate(layers):
        w, r, biases = (constants[name][0] for name in node.input[1:4])
        for kind, value in (
            ("weight_ih", w),
            ("weight_hh", r),
            ("bias_ih", biases[: 4 * hidden]),
            ("bias_hh", biases[4 * hidden :]),
        ):
            gates = dict(zip(GATES, np.split(value, 4), strict=True))
            _set(weights[f"{kind}_l{number}"], np.concatenate([gates[gate] for gate in range(4)]))


def _fold(layer: NormedConv, node: onnx.NodeProto, constants: _Constants) -> None:
    """Weights that hold their normalisation already, which is made to do nothing but add the bias."""
    _set(layer.conv.weight, constants[node.input[1]])
    _set(layer.norm.bias, constants[node.input[2]])
    # Not the default 1e-5: the gain 1 / sqrt(variance + eps) is to be exactly 1.
    layer.norm.eps = 0.0


def _first(node: onnx.NodeProto, attribute: str) -> int:
    return int(next(a for a in node.attribute if a.name == attribute).ints[0])


def _set(target: Tensor, value: NDArray[np.float32]) -> None:
    if tuple(target.shape) != value.shape:
        raise ValueError(f"an array of {value.shape} where {tuple(target.shape)} is expected")
    with torch.no_grad():
        target.copy_(torch.from_numpy(np.array(value, np.float32)))
