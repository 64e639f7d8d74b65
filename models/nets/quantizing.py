"""A bundle's model in integers of 8 bits, beside the one in float32: smaller, and faster where convolutions are.

Everything up to the features before the last layer is quantized statically: ranges of activations are taken from
windows of training subjects, weights have a scale per output channel, and ONNX Runtime runs the convolutions in
integers. Dynamic quantization would not do: it takes ranges from whatever is in a run, so that a window's probabilities
would depend on what else is in it, and it is slower for convolutions.

What stays in float32: the first layer, since 256 steps from the least to the greatest reading are too coarse to tell a
posture by (one point of macro-F1 of `uci-har-cnn`, all but 0.02 of what is lost); what lies behind the features (last
layer, softmax, refusal); and recurrent layers, which ONNX Runtime has in integers by dynamic quantization only. Their
weights are kept in 8 bits and turned into float32 once, when the session is made.

Weights have 7 bits: on processors without VNNI, ONNX Runtime adds pairs of products in 16 bits, which 8 bits of both
sides overflow. With 7 the sums are exact, so that they are the same everywhere.
Source: ONNX Runtime, Quantize ONNX models, on U8S8 and reduce_range.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from models.nets.golden import golden_vectors
from models.scoring.subjects import sittings_to_meet
from models.windows.data import Sitting, labelled_windows
from streamer.bundle import ModelBundle, save_bundle
from streamer.errors import ConfigError

Float32 = NDArray[np.float32]

#: Windows that ranges are taken from, and recordings that those are taken from.
CALIBRATION_WINDOWS: Final = 1024
_CALIBRATION_SITTINGS: Final = 16
#: Windows per run of the calibration. Ranges are the means of the runs' least and greatest values: what one window in a
#: thousand reaches is not worth the steps that it takes from all others.
_CALIBRATION_BATCH: Final = 16
#: Constants of fewer numbers are left as they are.
_WORTH_PACKING: Final = 256
#: Operations in which weights are multiplied with what comes in.
_PRODUCTS: Final = frozenset({"Conv", "Gemm", "MatMul"})
_RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN"})
_OUTPUT: Final = "probabilities"
_SUFFIX: Final = "-int8"


def quantize_bundle(bundle: ModelBundle, folder: Path, *, seed: int = 0) -> ModelBundle:
    """Write a bundle's integer twin, under its name with `-int8`.

    Args:
        bundle: the float32 one.
        folder: of the new one.
        seed: of the choice of calibration windows.

    Raises:
        ConfigError: it is in integers already, or the data set that it was trained on is not known here.
        BundleError: what was written does not verify.
    """
    name = bundle.manifest.name + _SUFFIX
    if bundle.manifest.name.endswith(_SUFFIX):
        raise ConfigError(f"bundle {bundle.manifest.name} is quantized already; expected one in float32")
    windows = calibration_windows(bundle, seed=seed)
    model = quantize(bundle.model, windows)
    training = bundle.manifest.training | {
        "quantized_from": bundle.digest,
        "quantized": f"weights and activations in 8 bits; ranges of {len(windows)} windows of training subjects",
        "summary": f"{bundle.manifest.training.get('summary', bundle.manifest.name)}; in integers of 8 bits",
    }
    manifest = msgspec.structs.replace(bundle.manifest, name=name, training=training)
    golden = golden_vectors(manifest, model, lambda samples: _run(model, samples), seed=seed)
    return save_bundle(folder, manifest, model, golden)


def calibration_windows(bundle: ModelBundle, *, seed: int) -> Float32:
    """Windows of training subjects, as many of each activity as may be: (n, window_len, channels) float32.

    Raises:
        ConfigError: the data set that the bundle was trained on is not one of those known here.
    """
    dataset = bundle.manifest.training.get("dataset")
    if dataset is None:
        raise ConfigError(
            f"bundle {bundle.manifest.name} names no data set that it was trained on; expected one to take ranges from"
        )
    rng = np.random.default_rng(seed)
    sittings: list[Sitting] = sittings_to_meet(bundle, dataset, subjects="train").sittings
    chosen = rng.permutation(len(sittings))[:_CALIBRATION_SITTINGS].tolist()
    found = labelled_windows([sittings[number] for number in sorted(chosen)], bundle.spec, bundle.labels)
    each = CALIBRATION_WINDOWS // len(bundle.labels)
    rows = [rng.permutation(np.flatnonzero(found.targets == target))[:each] for target in range(len(bundle.labels))]
    chosen_windows: Float32 = found.samples[rng.permutation(np.concatenate(rows))]
    return chosen_windows


def quantize(model: bytes, windows: Float32) -> bytes:
    """An ONNX model in integers where ONNX Runtime runs that well, with the same input and output.

    Args:
        model: float32, as `models.nets.export` writes it: a softmax over one last layer.
        windows: (n, window_len, channels) to take ranges of activations from.
    """
    proto = onnx.load_from_string(model)
    for number, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{number}"
    exact = _exact(proto.graph)
    if any(node.op_type in _PRODUCTS and node.name not in exact for node in proto.graph.node):
        proto = _static(proto, windows, exact)
    _pack_weights(proto.graph)
    _trim(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    return content


def _static(proto: Any, windows: Float32, exact: Iterable[str]) -> Any:  # noqa: ANN401 (onnx has no types)
    """The model with QuantizeLinear and DequantizeLinear around what may run in integers."""
    logging.getLogger("root").addFilter(lambda record: "pre-processing" not in record.getMessage())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            proto,
            str(path),
            _Reader(windows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "Transpose"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(exact),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},
        )
        return onnx.load(str(path))


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Windows in batches."""

    def __init__(self, windows: Float32) -> None:
        self._batches: Iterator[Float32] = (
            windows[first : first + _CALIBRATION_BATCH] for first in range(0, len(windows), _CALIBRATION_BATCH)
        )

    def get_next(self) -> dict[str, Float32] | None:
        """The next batch, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {"windows": batch}


def _exact(graph: Any) -> set[str]:  # noqa: ANN401 (onnx has no types)
    """Names of nodes that stay in float32: up to the first products of weights, and behind the features."""
    inside = _before(graph, _features(graph))
    exact = {node.name for node in graph.node if node.name not in inside}
    for node in graph.node:
        if node.name in inside and node.op_type in _PRODUCTS:
            before = {name for value in node.input for name in _before(graph, value)}
            if not any(other.op_type in _PRODUCTS and other.name in before for other in graph.node):
                exact |= {node.name} | before
    return exact


def _features(graph: Any) -> str:  # noqa: ANN401 (onnx has no types)
    """Name of what the last layer before the softmax is given."""
    made_by = {name: node for node in graph.node for name in node.output}
    softmax = next((node for node in reversed(graph.node) if node.op_type == "Softmax"), None)
    last = None if softmax is None else made_by.get(softmax.input[0])
    if last is None or last.op_type not in {"Gemm", "MatMul", "Add"}:
        raise ConfigError("model has no last layer before a softmax; expected one as har-models exports it")
    if last.op_type == "Add":
        last = made_by[last.input[0]]
    name: str = last.input[0]
    return name


def _before(graph: Any, name: str) -> set[str]:  # noqa: ANN401 (onnx has no types)
    """Names of the nodes that a value hangs on."""
    made_by = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    waiting = [name]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting += node.input
    return found


def _pack_weights(graph: Any) -> None:  # noqa: ANN401 (onnx has no types)
    """Keep large float32 matrices in 8 bits with a scale per row; the runtime unpacks them when it loads the model."""
    used_by = {name: node for node in graph.node for name in node.input}
    for tensor in list(graph.initializer):
        value = numpy_helper.to_array(tensor)
        if value.dtype != np.float32 or value.size < _WORTH_PACKING or value.ndim < 2:
            continue
        node = used_by.get(tensor.name)
        if node is None or node.op_type not in _PRODUCTS | _RECURRENT:
            continue
        # The axis of a last layer's and a convolution's outputs, or of a recurrent layer's gates.
        axis = value.ndim - 1 if node.op_type == "MatMul" else 1 if node.op_type in _RECURRENT else 0
        others = tuple(i for i in range(value.ndim) if i != axis)
        scale = np.maximum(np.abs(value).max(axis=others, keepdims=True), 1e-12).astype(np.float32) / np.float32(127)
        packed = np.rint(value / scale).astype(np.int8)
        names = [f"{tensor.name}_{part}" for part in ("packed", "scale", "whole")]
        graph.initializer.remove(tensor)
        graph.initializer.extend([numpy_helper.from_array(packed, names[0]), numpy_helper.from_array(scale, names[1])])
        cast = helper.make_node("Cast", [names[0]], [names[2]], to=onnx.TensorProto.FLOAT)
        # Not DequantizeLinear: that is left in the graph for the runtime to fuse, and would be computed in every run.
        scaled = helper.make_node("Mul", [names[2], names[1]], [tensor.name])
        graph.node.insert(0, scaled)
        graph.node.insert(0, cast)


def _trim(graph: Any) -> None:  # noqa: ANN401 (onnx has no types)
    """Leave out what says nothing: zero points of zero, which is what they are without one, and long names."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        zero = values.get(node.input[2]) if node.op_type == "DequantizeLinear" and len(node.input) > 2 else None
        # Activations' zero points must be of the type that they are quantized to.
        if zero is not None and zero.dtype in {np.dtype(np.int8), np.dtype(np.int32)} and not zero.any():
            del node.input[2]
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    for node in graph.node:
        node.name = ""
        for side in (node.input, node.output):
            side[:] = [names.setdefault(name, f"v{len(names)}") if name else "" for name in side]
    for tensor in kept:
        tensor.name = names[tensor.name]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    # Shapes of values in between go by their former names.
    del graph.value_info[:]


def _run(model: bytes, samples: Float32) -> Float32:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    result: Float32 = session.run([_OUTPUT], {"windows": samples})[0]
    return result
