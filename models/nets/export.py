"""A trained network as an ONNX graph that needs nothing around it: windows in, probabilities out.

The graph is written node by node rather than traced: two small networks need ten kinds of nodes, a tracer would add a
dependency, and batch normalisation is folded into the convolutions on the way.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from models.nets.graph import Graph
from models.nets.networks import Cnn, ConvLstm, Lstm, Network, NormedConv
from models.nets.worn_graph import worn_nodes

#: Read by every onnxruntime from 1.20 on (which reads up to opset 21, IR 10).
OPSET: Final = 17
IR_VERSION: Final = 9
#: torch stacks an LSTM's gates as input, forget, cell, output; ONNX as input, output, forget, cell.
GATES: Final = (0, 3, 1, 2)


def to_onnx(network: Network, *, window_len: int, temperature: float = 1.0) -> bytes:
    """An ONNX model: "windows" (batch, window_len, channels) float32 to "probabilities" (batch, outputs) float32.

    Scaling, softmax and temperature are inside, and whether anybody wears the watch, where the network was taught that:
    rows lack of 1 what nobody does.

    Args:
        network: an Lstm, a ConvLstm or a Cnn; its evaluation behaviour is exported.
        window_len: samples per window.
        temperature: logits are divided by it (Guo et al., On calibration of modern neural networks, 2017).
    """
    graph = Graph()
    channels = len(network.scale)
    scaled = graph.add("Div", "windows", graph.constant(_array(network.scale)))
    if isinstance(network, Lstm):
        features, head = _lstm(graph, network, scaled), network.head
    elif isinstance(network, ConvLstm):
        features, head = _conv_lstm(graph, network, scaled), network.head
    elif isinstance(network, Cnn):
        features, head = _cnn(graph, network, scaled), network.head
    else:
        raise TypeError(f"network is {type(network).__name__}; expected Lstm, ConvLstm or Cnn")
    # The temperature goes into the last layer's weights.
    weight, bias = _array(head.weight) / np.float32(temperature), _array(head.bias) / np.float32(temperature)
    logits = graph.add("Gemm", features, graph.constant(weight), graph.constant(bias), transB=1)
    if network.worn is None:
        graph.add("Softmax", logits, output="probabilities", axis=-1)
    else:
        told = graph.add("Softmax", logits, axis=-1)
        beside, factor = worn_nodes(network.worn, "windows")
        graph.nodes += beside.nodes
        graph.constants += beside.constants
        graph.add("Mul", told, factor, output="probabilities")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "har-stream",
            [helper.make_tensor_value_info("windows", TensorProto.FLOAT, ["batch", window_len, channels])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", head.out_features])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="har-stream",
    )
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _lstm(graph: Graph, network: Lstm, windows: str) -> str:
    """(batch, hidden): output of the last LSTM layer at the last step."""
    # (batch, time, channels) @ (channels, hidden); Gemm takes matrices only.
    embedded = graph.add("MatMul", windows, graph.constant(_array(network.embed.weight).T))
    x = graph.add("Relu", graph.add("Add", embedded, graph.constant(_array(network.embed.bias))))
    _, state = _recurrent(graph, network.lstm, graph.add("Transpose", x, perm=[1, 0, 2]))
    return graph.add("Squeeze", state, graph.constant(np.array([0], np.int64)))


def _conv_lstm(graph: Graph, network: ConvLstm, windows: str) -> str:
    """(batch, 2 * hidden): mean and maximum over the steps of the last LSTM layer."""
    x = graph.add("Transpose", windows, perm=[0, 2, 1])
    for layer in network.convolutions():
        x = graph.add("Relu", _conv(graph, layer, x))
    steps, _ = _recurrent(graph, network.lstm, graph.add("Transpose", x, perm=[2, 0, 1]))
    return _pooled(graph, graph.add("Transpose", steps, perm=[1, 2, 0]))


def _recurrent(graph: Graph, lstm: nn.LSTM, x: str) -> tuple[str, str]:
    """Steps (time, batch, hidden) and state (1, batch, hidden) of the last layer, of x (time, batch, channels)."""
    hidden = lstm.hidden_size
    weights = dict(lstm.named_parameters())
    state = ""
    for layer in range(lstm.num_layers):
        w, r, input_bias, hidden_bias = (
            _reorder_gates(_array(weights[f"{kind}_l{layer}"]), hidden)[None]
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        biases = np.concatenate([input_bias, hidden_bias], axis=1)
        steps, state = f"steps{layer}", f"state{layer}"
        graph.nodes.append(
            helper.make_node(
                "LSTM",
                [x, graph.constant(w), graph.constant(r), graph.constant(biases)],
                [steps, state],
                hidden_size=hidden,
            )
        )
        # (time, direction, batch, hidden) to (time, batch, hidden)
        x = graph.add("Squeeze", steps, graph.constant(np.array([1], np.int64)))
    return x, state


def _reorder_gates(value: NDArray[np.float32], hidden: int) -> NDArray[np.float32]:
    return np.concatenate([value[gate * hidden : (gate + 1) * hidden] for gate in GATES])


def _cnn(graph: Graph, network: Cnn, windows: str) -> str:
    """(batch, 2 * widths[-1]): mean and maximum over time."""
    x = graph.add("Relu", _conv(graph, network.stem, graph.add("Transpose", windows, perm=[0, 2, 1])))
    for block in network.residual_blocks():
        shortcut = x if block.shortcut is None else _conv(graph, block.shortcut, x)
        inner = graph.add("Relu", _conv(graph, block.first, x))
        x = graph.add("Relu", graph.add("Add", _conv(graph, block.second, inner), shortcut))
    return _pooled(graph, x)


def _pooled(graph: Graph, x: str) -> str:
    """(batch, 2 * channels): mean and maximum over time of x (batch, channels, time)."""
    pooled = graph.add("Concat", graph.add("GlobalAveragePool", x), graph.add("GlobalMaxPool", x), axis=1)
    return graph.add("Flatten", pooled, axis=1)


def _conv(graph: Graph, layer: NormedConv, x: str) -> str:
    conv, norm = layer.conv, layer.norm
    # Folded in float64, so that the rounding is that of the stored weights alone.
    variance, mean = _array(norm.running_var).astype(np.float64), _array(norm.running_mean).astype(np.float64)
    gain = _array(norm.weight).astype(np.float64) / np.sqrt(variance + norm.eps)
    weight = (_array(conv.weight) * gain[:, None, None]).astype(np.float32)
    bias = (_array(norm.bias) - mean * gain).astype(np.float32)
    padding = int(conv.padding[0])
    return graph.add(
        "Conv",
        x,
        graph.constant(weight),
        graph.constant(bias),
        kernel_shape=[int(conv.kernel_size[0])],
        strides=[int(conv.stride[0])],
        pads=[padding, padding],
    )


def _array(value: torch.Tensor | None) -> NDArray[np.float32]:
    if value is None:
        raise TypeError("a weight is None; expected a tensor")
    array: NDArray[np.float32] = value.detach().cpu().numpy().astype(np.float32)
    return array
