"""Golden vectors: made-up motion and what a bundle must make of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.bundle import Golden, Manifest, ModelBundle
from streamer.classifier import Classifier
from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.preprocessing.pipeline import windows_of
from streamer.preprocessing.spec import PreprocessingSpec

#: 2020-01-01T00:00:00Z, arbitrary.
_START_NS: Final = 1_577_836_800_000_000_000
#: Windows in the vectors.
_WINDOWS: Final = 8


def synthetic_motion(spec: PreprocessingSpec, *, seed: int) -> ImuBatch:
    """Readings of nobody: swings about a slowly turning gravity, with jittered times and a few lost readings.

    Long enough for eight windows; no value comes from a data set.
    """
    rng = np.random.default_rng(seed)
    length_ns = spec.window_ns + (_WINDOWS + 1) * spec.hop_len * spec.period_ns
    n = length_ns // spec.period_ns
    t_ns = _START_NS + np.arange(n) * spec.period_ns + rng.integers(-spec.period_ns // 5, spec.period_ns // 5, n)
    t_ns[0] = _START_NS
    kept = rng.uniform(size=n) > 0.02
    t_ns = t_ns[kept]
    t_s = (t_ns - _START_NS) / 1e9
    tilt = 0.6 * np.sin(2.0 * np.pi * t_s / 17.0)
    gravity = STANDARD_GRAVITY * np.stack([np.sin(tilt), np.cos(tilt) * 0.6, np.cos(tilt) * 0.8], axis=1)
    # From rest over a stroll to a run, so that windows differ.
    effort = np.clip(t_s / t_s[-1] * 1.5 - 0.2, 0.0, 1.0)[:, None]
    phase = 2.0 * np.pi * np.cumsum(np.gradient(t_s)[:, None] * (1.2 + 1.4 * effort), axis=0)
    swing = sum(np.sin(k * phase + rng.uniform(0.0, 6.0, 3)) * rng.uniform(0.5, 1.0, 3) / k for k in (1, 2, 3))
    acc = gravity + 7.0 * effort * swing + 0.05 * rng.standard_normal((len(t_s), 3))
    gyro = 2.0 * effort * np.cos(phase + rng.uniform(0.0, 6.0, 3)) + 0.02 * rng.standard_normal((len(t_s), 3))
    return ImuBatch("golden", t_ns, acc, gyro)


def golden_vectors(
    manifest: Manifest, model: bytes, expected: Callable[[NDArray[np.float32]], NDArray[np.float32]], *, seed: int
) -> Golden:
    """What this release makes of the synthetic motion: windows and probabilities.

    Args:
        manifest: names the preprocessing and the labels.
        model: the ONNX model.
        expected: probabilities of windows by other means; the model must agree with them.
        seed: of the motion.

    Raises:
        BundleError: the model does not agree with `expected`.
    """
    motion = synthetic_motion(manifest.preprocessing, seed=seed)
    if motion.acc is None or motion.gyro is None:
        raise TypeError("synthetic motion lacks a sensor; expected both")
    windows = windows_of([motion], manifest.preprocessing).samples
    draft = Golden(motion.t_ns, motion.acc, motion.gyro, windows, expected(windows))
    # The classifier checks the model against its golden vectors, so here against `expected`.
    probabilities = Classifier(ModelBundle(manifest, model, draft, "")).predict(windows)
    return Golden(motion.t_ns, motion.acc, motion.gyro, windows, probabilities)
