"""Recordings in arrays, for those who use har-stream from Python: readings in, bouts or windows out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamer.imu import ImuBatch
from streamer.wire.events import ActivityEvent, Reason
from streamer.wire.readings import MAX_MAGNITUDE, MAX_RATE_HZ, MAX_T_NS, MIN_RATE_HZ

#: What the one watch of an array is called.
DEVICE: Final = "array"
#: A wrist at rest reads 9.8 m/s², a free fall 0; below this in the median it is g, or gravity was taken out.
_LEAST_GRAVITY: Final = 3.0


@dataclass(frozen=True, slots=True)
class Bout:
    """A maximal run of one activity.

    Attributes:
        activity: a label of the model, a group of labels if it tells groups, or unknown.
        start_ns, end_ns: half open; ns, on the clock of the readings.
        confidence: smoothed probability of the activity when it was decided, 0 to 1.
        decided_ns: when it was known, had the readings come live: the end of the deciding window.
        reason: why it is unknown, else None.
        groups: groups that the activity is in, the widest first.
    """

    activity: str
    start_ns: int
    end_ns: int
    confidence: float
    decided_ns: int
    reason: Reason | None = None
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ClassifiedWindows:
    """The windows of one recording, in time order.

    Attributes:
        labels: activities in the order of the columns.
        start_ns: (m,) int64, ns; windows are all of one length and overlap.
        end_ns: (m,) int64, ns.
        probabilities: (m, labels) float32, before smoothing.
        completeness: (m,) float64, share of each window free of holes.
    """

    labels: tuple[str, ...]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    completeness: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def activities(self) -> list[str]:
        """The most probable activity of each."""
        return [self.labels[i] for i in self.probabilities.argmax(axis=1).tolist()]


def batch_of(t_ns: ArrayLike, acc: ArrayLike | None, gyro: ArrayLike | None, rate_hz: float | None) -> ImuBatch:
    """Arrays as the readings of one watch.

    Raises:
        ValueError: shapes, types, times or values are not those of readings; the message says which.
    """
    times = np.asarray(t_ns)
    if times.ndim != 1 or not len(times) or times.dtype.kind not in "iu":
        hint = "; seconds become nanoseconds by np.rint(1e9 * t).astype(np.int64)" if times.dtype.kind == "f" else ""
        raise ValueError(f"t_ns is {times.dtype} {times.shape}; expected (n,) integers, n > 0{hint}")
    times = times.astype(np.int64)
    if times.min() < 0 or times.max() >= MAX_T_NS:
        raise ValueError("t_ns is out of range; expected 0 <= t_ns < 2^62")
    back = np.flatnonzero(np.diff(times) < 0)
    if len(back):
        raise ValueError(f"t_ns goes back at reading {back[0] + 1}; expected ascending times")
    if acc is None and gyro is None:
        raise ValueError("acc and gyro are both None; expected one of them at least")
    if rate_hz is not None and not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise ValueError(f"rate_hz is {rate_hz}; expected {MIN_RATE_HZ} to {MAX_RATE_HZ:.0f}, or None")
    acc_values, gyro_values = (
        None if values is None else _sensor(name, values, len(times)) for name, values in (("acc", acc), ("gyro", gyro))
    )
    if acc_values is not None:
        magnitude = float(np.median(np.sqrt((acc_values**2).sum(axis=1))))
        if magnitude < _LEAST_GRAVITY:
            raise ValueError(
                f"acc has a median magnitude of {magnitude:.3g}; expected m/s² with gravity in it, about 9.8. "
                "Readings in g are to be multiplied by 9.80665"
            )
    return ImuBatch(DEVICE, times, acc_values, gyro_values, rate_hz)


def _sensor(name: str, values: ArrayLike, n: int) -> NDArray[np.float64]:
    array = np.array(values)
    if array.shape != (n, 3) or array.dtype.kind not in "iuf":
        raise ValueError(f"{name} is {array.dtype} {array.shape}; expected numbers ({n}, 3), as many as t_ns")
    readings = np.ascontiguousarray(array, np.float64)
    # NaN fails any comparison.
    outside = np.flatnonzero(~(np.abs(readings) <= MAX_MAGNITUDE).all(axis=1))
    if len(outside):
        raise ValueError(
            f"{name}[{outside[0]}] is {readings[outside[0]]}; expected magnitudes up to {MAX_MAGNITUDE:.0f}"
        )
    return readings


def bouts_of(events: Iterable[ActivityEvent]) -> list[Bout]:
    """Bouts from the events of one watch; one that another follows ends where that begins."""
    bouts: list[Bout] = []
    begun: ActivityEvent | None = None
    changed = False
    for event in events:
        if event.type == "start":
            if begun is not None and changed:
                bouts.append(_bout(begun, event.onset_ns))
            begun, changed = event, False
        elif event.type == "end" and begun is not None:
            # Of one that another takes over from, the other's beginning is known only behind it.
            changed = event.reason == "changed"
            if not changed:
                bouts.append(_bout(begun, event.window_end_ns))
                begun = None
    return bouts


def _bout(start: ActivityEvent, end_ns: int) -> Bout:
    return Bout(start.activity, start.onset_ns, end_ns, start.confidence, start.decided_ns, start.reason, start.groups)


def windows_of_events(events: Iterable[ActivityEvent], labels: Sequence[str]) -> ClassifiedWindows:
    """Windows from the events of one watch."""
    windows = [event for event in events if event.type == "window"]
    probabilities = [[event.probabilities[label] for label in labels] for event in windows if event.probabilities]
    return ClassifiedWindows(
        tuple(labels),
        np.array([event.window_start_ns for event in windows], np.int64),
        np.array([event.window_end_ns for event in windows], np.int64),
        np.array(probabilities, np.float32).reshape(len(windows), len(labels)),
        np.array([event.completeness for event in windows], np.float64),
    )
