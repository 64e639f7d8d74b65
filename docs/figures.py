"""Draws the figures of the explanation pages, from synthetic motion and the shipped models: python docs/figures.py

`QUOTED` computes the numbers that the pages quote; a test holds the pages to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt, sosfilt_zi, sosfiltfilt

from simulator.synthetic import synthetic_watches
from streamer.bundle import ModelBundle, find_bundle, load_bundle
from streamer.imu import STANDARD_GRAVITY
from streamer.offline import classify_recording
from streamer.preprocessing.spec import UCI_HAR
from streamer.recognizer import Recognizer
from streamer.recording import Recording
from streamer.wire.events import ActivityEvent

Float64 = NDArray[np.float64]
HERE: Final = Path(__file__).resolve().parent
IMAGES: Final = HERE / "images"
NANOSECONDS: Final = 1e9
#: Seconds of synthetic motion that numbers are taken from, and watches that wear it.
LENGTH_S: Final = 900.0
WATCHES: Final = 8


@cache
def recordings() -> tuple[Recording, ...]:
    """Watches whose wearers change their activity about once a minute, 50 Hz."""
    return tuple(watch.recording(LENGTH_S) for watch in synthetic_watches(WATCHES))


def acceleration(recording: Recording) -> Float64:
    """(n, 3) float64, g."""
    (stream,) = recording.streams
    if stream.acc is None:
        raise TypeError("a synthetic watch has an accelerometer")
    return stream.acc / STANDARD_GRAVITY


# --- gravity --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Gravity:
    """Three estimates of gravity from the same (n, 3) acceleration, g.

    Attributes:
        causal: state carried from the first reading on, as har-stream does.
        zero_phase: forwards and backwards, as is often done to recorded data.
        restarted: causal, but anew in each window of 2.56 s, as when windows are filtered one by one.
    """

    causal: Float64
    zero_phase: Float64
    restarted: Float64


def gravity_of(acc: Float64) -> Gravity:
    """All three, with the low-pass of UCI HAR: order 3, 0.3 Hz."""
    low_pass = UCI_HAR.gravity
    sos = butter(low_pass.order, low_pass.cutoff_hz, fs=UCI_HAR.rate_hz, output="sos")
    settled = sosfilt_zi(sos)

    def primed(x: Float64) -> Float64:
        filtered: Float64 = sosfilt(sos, x, axis=0, zi=settled[:, :, None] * x[0])[0]
        return filtered

    length = UCI_HAR.window_len
    windows = [primed(acc[first : first + length]) for first in range(0, len(acc), length)]
    return Gravity(primed(acc), sosfiltfilt(sos, acc, axis=0), np.concatenate(windows))


def gravity_differences() -> tuple[float, float, float, float]:
    """How far the other two estimates are from the causal one, g: mean and 99th percentile of each."""
    off: dict[str, list[Float64]] = {"zero_phase": [], "restarted": []}
    for recording in recordings():
        gravity = gravity_of(acceleration(recording))
        for name, parts in off.items():
            parts.append(np.abs(getattr(gravity, name) - gravity.causal).ravel())
    zero_phase, restarted = (np.concatenate(parts) for parts in off.values())
    return (
        float(zero_phase.mean()),
        float(np.quantile(zero_phase, 0.99)),
        float(restarted.mean()),
        float(np.quantile(restarted, 0.99)),
    )


def step_response() -> tuple[Float64, Float64, Float64]:
    """A wrist that turns by 90 degrees at 0 s: time (s), gravity by the causal and by the zero-phase filter (g)."""
    t_s = np.arange(-4.0, 6.0, 1 / UCI_HAR.rate_hz)
    acc = np.repeat((t_s >= 0).astype(np.float64)[:, None], 3, axis=1)
    gravity = gravity_of(acc)
    return t_s, gravity.causal[:, 0], gravity.zero_phase[:, 0]


def step_times() -> tuple[float, float]:
    """Seconds after a turn until the causal estimate has gone half and 95 % of the way."""
    t_s, causal, _ = step_response()
    return float(t_s[np.argmax(causal >= 0.5)]), float(t_s[np.argmax(causal >= 0.95)])


# --- delay ----------------------------------------------------------------------------------------------------------


def events_of(bundle: ModelBundle, recording: Recording) -> list[ActivityEvent]:
    """Every window and every start of a bout."""
    return list(classify_recording(Recognizer(bundle, every_window=True), recording))


@cache
def delays() -> Float64:
    """Seconds from a synthetic watch's change of activity to the decision for the new one, where it is ever told."""
    bundle = load_bundle(find_bundle("wisdm-watch-cnn"))
    found: list[float] = []
    for recording in recordings():
        starts = [event for event in events_of(bundle, recording) if event.type == "start"]
        for span in recording.spans[1:-1]:
            told = [
                event.decided_ns
                for event in starts
                if event.activity == span.activity and span.start_ns < event.decided_ns <= span.end_ns
            ]
            if told:
                found.append((told[0] - span.start_ns) / NANOSECONDS)
    return np.array(found)


QUOTED: Final[dict[str, Callable[[], dict[str, float]]]] = {
    "explanation/causal.md": lambda: {
        **dict(zip(("zero-phase", "its p99", "restarted", "its p99 "), gravity_differences(), strict=True)),
        **dict(zip(("half way", "95 %"), step_times(), strict=True)),
    },
    "explanation/latency.md": lambda: {
        "median": float(np.median(delays())),
        "p90": float(np.quantile(delays(), 0.9)),
        "changes": len(delays()),
    },
}
