"""Draws the figures of the explanation pages, from synthetic motion and the shipped models: python docs/figures.py

`QUOTED` computes what the pages quote; a test holds the pages to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt, sosfilt_zi, sosfiltfilt

from models.fitting.chain import forward
from simulator.synthetic import synthetic_watches
from streamer.bundle import ModelBundle, find_bundle, load_bundle
from streamer.classifier import Classifier
from streamer.imu import STANDARD_GRAVITY
from streamer.offline import classify_recording
from streamer.preprocessing.pipeline import windows_of
from streamer.preprocessing.spec import UCI_HAR
from streamer.recognizer import Recognizer
from streamer.recording import Recording
from streamer.wire.events import ActivityEvent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float64 = NDArray[np.float64]
HERE: Final = Path(__file__).resolve().parent
IMAGES: Final = HERE / "images"
NANOSECONDS: Final = 1e9
#: Colours that nobody takes for one another.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#999999"
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


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A change of activity as the recognizer saw it, in seconds from it.

    Attributes:
        before, after: the activities.
        starts_s, ends_s: of the windows.
        newest, smoothed: probability of `after` by each window, and by the chain of it and those before it.
        onset_s, decided_s: of the start event.
    """

    before: str
    after: str
    starts_s: Float64
    ends_s: Float64
    newest: Float64
    smoothed: Float64
    onset_s: float
    decided_s: float


def example_change(bundle: ModelBundle, *, watch: int = 0, change: int = 4, around_s: float = 18.0) -> Change:
    """One of a synthetic watch's changes."""
    recording = recordings()[watch]
    before, after = recording.spans[change - 1], recording.spans[change]
    events = events_of(bundle, recording)
    windows = [event for event in events if event.type == "window"]
    told = np.array([[(event.probabilities or {})[label] for label in bundle.labels] for event in windows])
    place, chain = bundle.labels.index(after.activity), bundle.manifest.smoothing.chain
    if chain is None:
        raise ValueError(f"bundle {bundle.manifest.name} has no chain; expected one")
    newest, smoothed = told[:, place], forward([told], chain)[0][:, place]
    starts_s, ends_s = (
        np.array([(getattr(event, f"window_{side}_ns") - after.start_ns) / NANOSECONDS for event in windows])
        for side in ("start", "end")
    )
    start = next(
        event
        for event in events
        if event.type == "start" and event.activity == after.activity and event.decided_ns > after.start_ns
    )
    shown = np.abs(ends_s - 3.0) < around_s / 2
    return Change(
        before.activity,
        after.activity,
        starts_s[shown],
        ends_s[shown],
        newest[shown],
        smoothed[shown],
        (start.onset_ns - after.start_ns) / NANOSECONDS,
        (start.decided_ns - after.start_ns) / NANOSECONDS,
    )


# --- the same motion, reported otherwise ----------------------------------------------------------------------------


def _turned(degrees: float) -> Float64:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def _without_gravity(acc: Float64) -> Float64:
    return acc - STANDARD_GRAVITY * gravity_of(acc / STANDARD_GRAVITY).causal


#: What may become of acceleration, (n, 3) m/s², on its way from the wrist.
REPORTED: Final[dict[str, Callable[[Float64], Float64]]] = {
    "as the model knows it": lambda acc: acc,
    "the strap turned by 20 degrees": lambda acc: acc @ _turned(20).T,
    "the other way round on the wrist": lambda acc: acc * [-1, -1, 1],
    "on the inside of the wrist": lambda acc: acc * [1, -1, -1],
    "all axes with the other sign": lambda acc: -acc,
    "in g, taken for m/s²": lambda acc: acc / STANDARD_GRAVITY,
    "without gravity": _without_gravity,
}


@cache
def shares_right() -> dict[str, float]:
    """Share of windows inside one activity whose most probable label is right, by how the motion is reported."""
    bundle = load_bundle(find_bundle("wisdm-watch-cnn"))
    classifier = Classifier(bundle)
    found = {}
    for name, change in REPORTED.items():
        right: list[NDArray[np.bool_]] = []
        for recording in recordings()[:3]:
            (stream,) = recording.streams
            moved = replace(stream, acc=change(acceleration(recording) * STANDARD_GRAVITY), gyro=None)
            windows = windows_of([moved], bundle.spec)
            labels = np.array(bundle.labels)[
                classifier.predict(windows.samples)[:, : len(bundle.labels)].argmax(axis=1)
            ]
            for span in recording.spans:
                inside = (windows.start_ns >= span.start_ns) & (windows.start_ns + bundle.spec.window_ns <= span.end_ns)
                right.append(labels[inside] == span.activity)
        found[name] = float(np.concatenate(right).mean())
    return found


# --- drawing --------------------------------------------------------------------------------------------------------


def draw_chain(axes: Axes, *, watch: int = 6, change: int = 10) -> None:
    """One axis of acceleration taken apart, around a change."""
    recording = recordings()[watch]
    before, after = recording.spans[change - 1], recording.spans[change]
    acc = acceleration(recording)
    t_s = np.arange(len(acc)) / UCI_HAR.rate_hz - (after.start_ns - recording.start_ns) / NANOSECONDS
    shown = (t_s >= -5) & (t_s < 8)
    gravity = gravity_of(acc).causal
    axis = int(np.argmax(np.abs(gravity[shown].mean(axis=0))))
    axes.plot(t_s[shown], acc[shown, axis], color=GREY, linewidth=0.8, label="total acceleration")
    axes.plot(t_s[shown], gravity[shown, axis], color=BLUE, linewidth=2, label="gravity: low-pass, 0.3 Hz")
    axes.plot(t_s[shown], (acc - gravity)[shown, axis], color=ORANGE, linewidth=0.8, label="body: total minus gravity")
    axes.set(
        xlabel=f"s from the change, {before.activity} to {after.activity}",
        ylabel="g",
        title="One axis of a synthetic watch",
    )
    axes.legend(loc="upper left")


def draw_turn(axes: Axes) -> None:
    """The step response."""
    t_s, causal, zero_phase = step_response()
    axes.plot(t_s, t_s >= 0, color=GREY, linewidth=1, label="true")
    axes.plot(t_s, causal, color=BLUE, linewidth=2, label="causal")
    axes.plot(t_s, zero_phase, color=GREEN, linewidth=2, linestyle="--", label="zero-phase")
    axes.set(xlabel="s from the turn", ylabel="gravity on this axis, g", title="A wrist turns by 90 degrees")
    axes.legend()


def draw_restarts(axes: Axes, *, length_s: float = 13.0) -> None:
    """Three estimates of gravity from one stretch of running."""
    recording = next(r for r in recordings() if any(span.activity == "running" for span in r.spans[1:]))
    span = next(span for span in recording.spans[1:] if span.activity == "running")
    acc = acceleration(recording)
    gravity = gravity_of(acc)
    first = int((span.start_ns - recording.start_ns) / NANOSECONDS * UCI_HAR.rate_hz) + 10 * UCI_HAR.rate_hz
    rows = slice(first, first + int(length_s * UCI_HAR.rate_hz))
    t_s = np.arange(rows.stop - rows.start) / UCI_HAR.rate_hz
    axis = int(np.argmax(np.abs(gravity.causal[rows].mean(axis=0))))
    axes.plot(t_s, gravity.restarted[rows, axis], color=ORANGE, linewidth=1.2, label="causal, anew in each window")
    axes.plot(t_s, gravity.zero_phase[rows, axis], color=GREEN, linewidth=2, linestyle="--", label="zero-phase")
    axes.plot(t_s, gravity.causal[rows, axis], color=BLUE, linewidth=2, label="causal, state carried on")
    axes.set(xlabel="s", ylabel="gravity on one axis, g", title="Somebody runs", ylim=(None, 2.6))
    axes.legend()


def draw_change(axes: Axes) -> None:
    """How one change came to be decided."""
    bundle = load_bundle(find_bundle("wisdm-watch-cnn"))
    change = example_change(bundle)
    for start_s, end_s, p in zip(change.starts_s, change.ends_s, change.newest, strict=True):
        axes.plot([start_s, end_s], [p, p], color=GREY, linewidth=1.5, solid_capstyle="butt", zorder=1)
    axes.plot(change.ends_s, change.newest, "o", color=GREY, label="by the window that ends here")
    axes.plot(change.ends_s, change.smoothed, "o-", color=BLUE, label="by the chain")
    enter = bundle.manifest.smoothing.enter
    axes.axhline(enter, color="black", linewidth=0.8, linestyle=":")
    axes.text(change.starts_s[0], enter + 0.02, f"enter: {enter}")
    for at_s, name, color in (
        (0.0, "change", "black"),
        (change.onset_s, "onset_ns", GREEN),
        (change.decided_s, "decided_ns", ORANGE),
    ):
        axes.axvline(at_s, color=color, linewidth=1.5)
        # The change stands to the left of its line: the onset may lie close behind it.
        beside_s, side = (-0.1, "right") if at_s == 0 else (0.1, "left")
        axes.text(at_s + beside_s, 1.06, name, color=color, ha=side)
    axes.set(
        xlabel=f"s from the change, {change.before} to {change.after}",
        ylabel=f"probability of {change.after}",
        ylim=(-0.05, 1.12),
    )
    axes.legend(loc="center left", bbox_to_anchor=(0, 0.3))


def draw_delays(axes: Axes) -> None:
    """Distribution of the delays."""
    found = np.sort(delays())
    axes.step(found, np.arange(1, len(found) + 1) / len(found), color=BLUE, linewidth=2, where="post")
    for share in (0.5, 0.9):
        at_s = float(np.quantile(found, share))
        axes.plot([at_s, at_s, 0], [0, share, share], color=GREY, linewidth=0.8)
        axes.text(at_s + 0.15, share - 0.06, f"{at_s:.1f} s")
    axes.set(
        xlabel="s from the change to its decision",
        ylabel="share of changes",
        xlim=(0, float(found[-1]) + 0.5),
        ylim=(0, 1.02),
        title=f"{len(found)} changes of synthetic watches",
    )


#: What is drawn into which file.
DRAWN: Final[dict[str, tuple[Callable[[Axes], None], ...]]] = {
    "gravity.svg": (draw_chain,),
    "causal.svg": (draw_turn, draw_restarts),
    "delay.svg": (draw_change,),
    "delays.svg": (draw_delays,),
}


def main() -> None:
    """Write docs/images."""
    import matplotlib as mpl  # noqa: PLC0415 - the numbers need none of it
    import matplotlib.pyplot as plt  # noqa: PLC0415

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "har-stream", "svg.fonttype": "none", "font.size": 9, "path.simplify": True})
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
    for name, parts in DRAWN.items():
        # Narrow, so that a phone can show them.
        figure, axes = plt.subplots(len(parts), 1, figsize=(5.6, 2.7 * len(parts)), layout="constrained", squeeze=False)
        for draw, place in zip(parts, axes[:, 0], strict=True):
            draw(place)
        figure.savefig(IMAGES / name, metadata={"Date": None})
        plt.close(figure)
        print(IMAGES / name, (IMAGES / name).stat().st_size, "bytes")


def quoted_of_gravity() -> list[str]:
    """What explanation/causal.md says."""
    return [f"{value:.3f} g" for value in gravity_differences()] + [f"{value:.2f} s" for value in step_times()]


def quoted_of_delays() -> list[str]:
    """What explanation/latency.md says."""
    median, ninth = np.quantile(delays(), (0.5, 0.9)).tolist()
    return [f"{median:.1f} s in the median", f"{ninth:.1f} s for nine of ten", f"over {len(delays())} changes"]


def quoted_of_shares() -> list[str]:
    """What explanation/test-scores.md says."""
    return [f"| {name} | {100 * share:.0f} % |" for name, share in shares_right().items()]


#: What pages quote, so that a test can look for it there.
QUOTED: Final[dict[str, Callable[[], list[str]]]] = {
    "explanation/causal.md": quoted_of_gravity,
    "explanation/latency.md": quoted_of_delays,
    "explanation/test-scores.md": quoted_of_shares,
}


if __name__ == "__main__":
    main()
