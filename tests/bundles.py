"""A bundle small enough to predict by hand: it tells postures by which way gravity points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from streamer.bundle import Golden, Manifest, ModelBundle, Smoothing, save_bundle
from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.preprocessing.pipeline import windows_of
from streamer.preprocessing.spec import LowPass, PreprocessingSpec

#: Gravity along x is standing, along y sitting, along z lying.
POSTURES: Final = ("standing", "sitting", "lying")
#: One second of 20 Hz per window, a new window every half second.
POSTURE_SPEC: Final = PreprocessingSpec(
    rate_hz=20,
    window_len=20,
    hop_len=10,
    max_gap_ns=1_000_000_000,
    acc_unit="m/s2",
    median_len=1,
    noise=None,
    gravity=LowPass(order=3, cutoff_hz=0.3),
    gyro_drift=None,
    initial_state="primed",
    channels=("total_acc_x", "total_acc_y", "total_acc_z"),
)
#: The newest window alone decides, at once.
UNSMOOTHED: Final = Smoothing(weight=1.0, enter=0.6, leave=0.4, dwell=1)
START_NS: Final = 1_700_000_000_000_000_000


def make_bundle(
    folder: Path,
    *,
    spec: PreprocessingSpec = POSTURE_SPEC,
    labels: tuple[str, ...] = POSTURES,
    smoothing: Smoothing = UNSMOOTHED,
    min_feed_rate_hz: float = 8.0,
    groups: Mapping[str, str] | None = None,
    passages: tuple[str, ...] = (),
) -> ModelBundle:
    """A verified bundle in `folder`; output i is as probable as channel i's mean over the window is large.

    Args:
        folder: where to write it.
        spec: any; its first channels are the ones that labels hang on.
        labels: any, with the passages as many as there are channels at most.
        smoothing: any.
        min_feed_rate_hz: any.
        groups: of labels that the vocabulary has no place for.
        passages: any.
    """
    outputs = len(labels) + len(passages)
    motion = _turning_watch(spec)
    windows = windows_of([motion], spec).samples
    if motion.acc is None or motion.gyro is None:
        raise TypeError("the turning watch lacks a sensor; expected both")
    manifest = Manifest(
        schema=1,
        name="posture",
        version="1",
        labels=labels,
        preprocessing=spec,
        min_feed_rate_hz=min_feed_rate_hz,
        smoothing=smoothing,
        training={"recipe": "none"},
        model_sha256="0" * 64,
        golden_sha256="0" * 64,
        groups=dict(groups or {}),
        passages=passages,
    )
    golden = Golden(motion.t_ns, motion.acc, motion.gyro, windows, mean_softmax(windows, outputs))
    return save_bundle(folder, manifest, mean_softmax_onnx(spec, outputs), golden)


def mean_softmax(windows: NDArray[np.float32], labels: int) -> NDArray[np.float32]:
    """What the model computes, (m, labels) float32: softmax over the first channels' means."""
    logits = windows.astype(np.float64).mean(axis=1)[:, :labels]
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


def mean_softmax_onnx(spec: PreprocessingSpec, labels: int, *, output: str = "probabilities") -> bytes:
    """The same as an ONNX model."""
    channels = len(spec.channels)
    nodes = [
        helper.make_node("Transpose", ["windows"], ["channels"], perm=[0, 2, 1]),
        # Not ReduceMean: that sums in another order for a batch of one, which shows in the last bit.
        helper.make_node("GlobalAveragePool", ["channels"], ["means"]),
        helper.make_node("Flatten", ["means"], ["mean"], axis=1),
        helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [output], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "mean-softmax",
        [helper.make_tensor_value_info("windows", TensorProto.FLOAT, ["batch", spec.window_len, channels])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", labels])],
        [numpy_helper.from_array(np.eye(channels, labels, dtype=np.float32), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _turning_watch(spec: PreprocessingSpec) -> ImuBatch:
    """Gravity turning slowly from axis to axis for eight windows."""
    n = spec.window_len + 8 * spec.hop_len
    t_ns = START_NS + np.arange(n, dtype=np.int64) * spec.period_ns
    angle = np.linspace(0.0, 2.0 * np.pi, n)[:, None] + np.array([0.0, 2.0, 4.0])
    return ImuBatch("golden", t_ns, STANDARD_GRAVITY * np.sin(angle), 0.1 * np.cos(angle))
