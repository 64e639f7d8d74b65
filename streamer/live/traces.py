"""Readings and probabilities of the watches that somebody looks at, thinned out for the eye, and of no others.

A watch is looked at from the moment that a page or a detail asks for it, and for a minute after nobody has: who
reloads the page finds its traces where they were.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.imu import ImuBatch
from streamer.results import Result

#: Readings per second and sensor that a trace shows: what a wrist does lies below half of it.
TRACE_HZ: Final = 25
_BIN_NS: Final = 1_000_000_000 // TRACE_HZ
#: How far a trace goes back.
TRACE_NS: Final = 12_000_000_000
#: Pieces of a trace that are kept at most: those of a watch that sends one reading a message.
_MOST_PIECES: Final = 400
#: Windows whose probabilities are kept of a watch: a quarter of an hour of the shipped watch model.
WINDOWS: Final = 360
#: Watches that are looked at, at most; the one longest not asked for makes room.
MOST_WATCHES: Final = 1000
_LINGER_NS: Final = 60_000_000_000
#: Time over which the rate is taken.
_RATE_NS: Final = 5_000_000_000
#: Hundredths of m/s² and thousandths of rad/s: what a pixel shows, in few digits.
_SCALES: Final = {"acc": 100.0, "gyro": 1000.0}


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Readings of one sensor as they are shown.

    Attributes:
        number: counts the watch's pieces.
        start_ms: time of the first reading, ms since the UTC epoch.
        readings: for each reading ms since the first, then x, y, z: hundredths of m/s² or thousandths of rad/s.
    """

    number: int
    start_ms: int
    readings: list[int]


@dataclass(slots=True)
class SensorTrace:
    """One sensor's latest readings.

    Attributes:
        pieces: thinned out to TRACE_HZ, oldest first, over TRACE_NS at most.
        rate_hz: at which readings come, by their own times; None for too few of them.
    """

    pieces: deque[Piece] = field(default_factory=lambda: deque(maxlen=_MOST_PIECES))
    _newest_ns: int = 0
    _bin: int = -1
    _numbers: int = 0
    # Of each batch the time of its last reading, and readings in it.
    _arrivals: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_MOST_PIECES))

    def add(self, t_ns: NDArray[np.int64], values: NDArray[np.float64], scale: float) -> None:
        """Take readings.

        Args:
            t_ns: (n,) int64, ns since the UTC epoch.
            values: (n, 3) float64.
            scale: by which they are multiplied to be shown.
        """
        last_ns = int(t_ns[-1])
        if last_ns < self._newest_ns - TRACE_NS:
            # Its clock was set back.
            self.pieces.clear()
            self._arrivals.clear()
            self._bin = -1
        self._newest_ns = last_ns
        if last_ns - int(t_ns[0]) > TRACE_NS:
            recent = t_ns > last_ns - TRACE_NS
            t_ns, values = t_ns[recent], values[recent]
        self._arrivals.append((last_ns, len(t_ns)))
        while len(self._arrivals) > 2 and self._arrivals[1][0] < last_ns - _RATE_NS:
            self._arrivals.popleft()
        bins = t_ns // _BIN_NS
        shown = np.flatnonzero(np.diff(bins, prepend=self._bin) > 0)
        if not len(shown):
            return
        self._bin = int(bins[shown[-1]])
        times_ms = t_ns[shown] // 1_000_000
        start_ms = int(times_ms[0])
        rows = np.empty((len(shown), 4), np.int64)
        rows[:, 0] = times_ms - start_ms
        rows[:, 1:] = np.rint(values[shown] * scale)
        self._numbers += 1
        self.pieces.append(Piece(self._numbers, start_ms, rows.ravel().tolist()))
        while self.pieces[0].start_ms < start_ms - TRACE_NS // 1_000_000:
            self.pieces.popleft()

    @property
    def rate_hz(self) -> float | None:
        """Readings per second over the last ones."""
        if len(self._arrivals) < 2:
            return None
        first_ns, last_ns = self._arrivals[0][0], self._arrivals[-1][0]
        readings = sum(n for _, n in self._arrivals) - self._arrivals[0][1]
        return readings / (last_ns - first_ns) * 1e9 if last_ns > first_ns else None

    def since(self, number: int) -> list[Piece]:
        """The pieces behind a number."""
        if not self.pieces or self.pieces[-1].number <= number:
            return []
        return [piece for piece in self.pieces if piece.number > number]


class ProbabilityLog:
    """The probabilities of a watch's latest windows, to half a hundredth.

    State: a bounded queue, and how many windows were ever added.
    """

    def __init__(self) -> None:
        self._windows: deque[tuple[int, bytes]] = deque(maxlen=WINDOWS)
        self.count = 0

    def add(self, end_ns: int, probabilities: NDArray[np.float32]) -> None:
        """Take a window's.

        Args:
            end_ns: its end.
            probabilities: (labels,) float32.
        """
        if self._windows and end_ns < self._windows[-1][0]:
            self._windows.clear()
        self._windows.append((end_ns, np.rint(probabilities * 200.0).astype(np.uint8).tobytes()))
        self.count += 1

    def since(self, count: int) -> list[tuple[int, list[int]]]:
        """Of the windows behind the first `count`: end in ms, and probabilities in two hundredths."""
        new = min(self.count - count, len(self._windows))
        return [
            (end_ns // 1_000_000, list(quantised))
            for end_ns, quantised in (self._windows[i] for i in range(len(self._windows) - new, len(self._windows)))
        ]


@dataclass(slots=True)
class WatchTraces:
    """What is kept of one watch that is looked at; asked_ns is when somebody last asked for it."""

    asked_ns: int
    acc: SensorTrace = field(default_factory=SensorTrace)
    gyro: SensorTrace = field(default_factory=SensorTrace)
    windows: ProbabilityLog = field(default_factory=ProbabilityLog)


class Traces:
    """The watches that are looked at.

    State: what is kept of each, the one longest not asked for first.
    """

    def __init__(self) -> None:
        self._watches: OrderedDict[str, WatchTraces] = OrderedDict()

    def __len__(self) -> int:
        return len(self._watches)

    def look_at(self, devices: Iterable[str], now_ns: int) -> None:
        """Keep what comes of these watches from now on, and let go of those that nobody asks for any more."""
        for device_id in devices:
            watch = self._watches.get(device_id)
            if watch is None:
                self._watches[device_id] = WatchTraces(now_ns)
            else:
                watch.asked_ns = now_ns
                self._watches.move_to_end(device_id)
        while self._watches:
            oldest = next(iter(self._watches.values()))
            if len(self._watches) <= MOST_WATCHES and oldest.asked_ns > now_ns - _LINGER_NS:
                return
            self._watches.popitem(last=False)

    def of(self, device_id: str) -> WatchTraces | None:
        """What is kept of a watch, None where nobody looks at it."""
        return self._watches.get(device_id)

    def take(self, result: Result) -> None:
        """Add what a call brought of them."""
        if not self._watches:
            return
        for batch in result.batches:
            watch = self._watches.get(batch.device_id)
            if watch is not None:
                _add(watch, batch)
        for scored in result.windows:
            for row, device_id in enumerate(scored.devices):
                watch = self._watches.get(device_id)
                if watch is not None:
                    watch.windows.add(int(scored.end_ns[row]), scored.probabilities[row])


def _add(watch: WatchTraces, batch: ImuBatch) -> None:
    sensors: Sequence[tuple[SensorTrace, NDArray[np.float64] | None, float]] = (
        (watch.acc, batch.acc, _SCALES["acc"]),
        (watch.gyro, batch.gyro, _SCALES["gyro"]),
    )
    for trace, values, scale in sensors:
        if values is not None:
            trace.add(batch.t_ns, values, scale)
