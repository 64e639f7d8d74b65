"""Readings at their own times to samples on the model's grid, for many watches per call.

Released readings of a sensor without a hole longer than `max_gap_ns` form a *run*; where the runs of all sensors
overlap lies a *segment*, whose grid is anchored at the reading that completes it.

    acc     x  x  x  x  x  x           x  x  x  x        x: readings
    gyro       x  x  x  x  x  x  x  x  x  x  x  x
    grid       |  |  |  |  |           |  |  |  |        two segments: the hole in acc is longer than max_gap_ns

A sample depends on its four nearest readings only, so no result depends on how readings were cut into messages or
messages into calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.preprocessing.intake import Intake
from streamer.preprocessing.interpolation import interpolate
from streamer.preprocessing.lanes import Lanes
from streamer.preprocessing.slots import Slots
from streamer.preprocessing.spec import PreprocessingSpec
from streamer.preprocessing.timelines import SENSOR_SKEW_NS

#: Readings from which a feed's rate is taken when it declares none.
RATE_READINGS: Final = 16
#: Fine grid points per grid point, at most: feeds faster than this are interpolated rather than averaged.
MAX_FACTOR: Final = 32
#: Fine grid points per second, at most (one grid's own rate may be higher). Wrists move below 20 Hz; a sender that
#: declares 10 kHz and then sends a reading a second would have each of them cost a second of this.
MAX_FINE_HZ: Final = 400
#: Samples per turn for all watches together, and for one watch at least. Messages may state few readings over a long
#: time; cut into turns, which changes no sample, they take time but not memory.
_TURN_SAMPLES: Final = 131_072
_TURN_SAMPLES_EACH: Final = 256
#: An interval longer than this many feed periods is a hole. One and a half: half way to one missing reading.
HOLE_PERIODS: Final = 1.5

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(slots=True)
class AlignCounts:
    """Holes since the counts were last taken: samples interpolated across short ones, segments ended by long ones."""

    bridged: int = 0
    gaps: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class GridChunk:
    """Consecutive samples of one segment for each of several watches.

    Attributes:
        slots: (m,) int64, distinct.
        opened: (m,) bool, True where these are the segment's first samples.
        factor: (m,) int64, fine grid points per grid point.
        first: (m,) int64, fine index of each slot's first sample in the segment.
        counts: (m,) int64, fine samples per slot.
        samples: (sum(counts), 3 or 6) float64, m/s² and rad/s, slot after slot.
        hole_ns: (sum(counts),) int64, length of the hole a sample was interpolated across, 0 for none.
        closed: (q,) int64, slots whose segment ended after these samples.
        gap_ns: (q,) int64, the hole that ended it; 0 when a sensor stayed away.
    """

    slots: Int64
    opened: NDArray[np.bool_]
    factor: Int64
    first: Int64
    counts: Int64
    samples: Float64
    hole_ns: Int64
    closed: Int64
    gap_ns: Int64


class Aligner(Slots):
    """Grid samples from readings.

    State: per slot the segment's anchor, rate class and next grid index; all of it goes with the segment.
    """

    ARRAYS = ("anchor_ns", "next_index", "factor", "feed_hz")

    def __init__(self, spec: PreprocessingSpec, intake: Intake, *, capacity: int) -> None:
        self._spec = spec
        self._sensors = spec.sensors
        self._intake = intake
        self._counts = AlignCounts()
        self.anchor_ns = np.zeros(capacity, np.int64)
        self.next_index = np.zeros(capacity, np.int64)
        #: 0 while no segment is open.
        self.factor = np.zeros(capacity, np.int64)
        self.feed_hz = np.zeros((capacity, len(spec.sensors)), np.float64)

    def reset(self, slot: int) -> None:
        """Forget a slot's segment."""
        self.factor[slot] = self.next_index[slot] = self.anchor_ns[slot] = 0
        self.feed_hz[slot] = 0

    def take_counts(self) -> AlignCounts:
        """The counts since the last call of this."""
        counts, self._counts = self._counts, AlignCounts()
        return counts

    def advance(self, slots: Sequence[int], lanes: Lanes) -> Iterator[GridChunk]:
        """Yield the samples that the slots' released readings determine, segment after segment.

        A second chunk belongs to later segments, so chunks must be worked off in order.
        """
        rows = np.asarray(slots, np.int64)
        while len(lanes.times):
            run_end, closed = self._runs(lanes)
            chunk, start, again = self._chunk(rows, lanes, run_end, closed)
            self._intake.keep(rows, lanes, start)
            if len(chunk.slots) or len(chunk.closed):
                yield chunk
            if not again.any():
                return
            rows = rows[again]
            lanes = self._intake.carried(rows)

    def close(self, slot: int, gap_ns: int) -> GridChunk:
        """End a slot's segment, if there is one, for the readings' times break off by `gap_ns`."""
        closed = np.array([slot] if self.factor[slot] else [], np.int64)
        self.factor[slot] = 0
        self._counts.gaps += len(closed)
        none = np.empty(0, np.int64)
        return GridChunk(
            slots=none,
            opened=np.empty(0, np.bool_),
            factor=none,
            first=none,
            counts=none,
            samples=np.empty((0, 3 * len(self._sensors))),
            hole_ns=none,
            closed=closed,
            gap_ns=np.full(len(closed), gap_ns, np.int64),
        )

    def _runs(self, lanes: Lanes) -> tuple[Int64, NDArray[np.bool_]]:
        """End of each lane's first run, and whether a gap ended it."""
        gaps = np.flatnonzero(np.diff(lanes.times) > self._spec.max_gap_ns) + 1
        if not len(gaps):
            return lanes.released, np.zeros(len(lanes.start), np.bool_)
        # The first gap behind a lane's start that still lies inside its released part.
        nearest = np.append(gaps, np.iinfo(np.int64).max)[np.searchsorted(gaps, lanes.start, side="right")]
        closed = nearest < lanes.released
        return np.where(closed, nearest, lanes.released), closed

    def _chunk(
        self, rows: Int64, lanes: Lanes, run_end: Int64, closed: NDArray[np.bool_]
    ) -> tuple[GridChunk, Int64, NDArray[np.bool_]]:
        """One segment's samples for each row, the first reading each lane still needs, and the rows with more."""
        width = len(self._sensors)
        start = lanes.start.copy()
        again = np.zeros(len(rows), np.bool_)
        opened = np.zeros(len(rows), np.bool_)
        for i in np.flatnonzero(self.factor[rows] == 0).tolist():
            mine = slice(i * width, (i + 1) * width)
            opened[i], again[i] = self._open(int(rows[i]), lanes, run_end[mine], closed[mine], start[mine])
        is_open = self.factor[rows] > 0
        anchor = np.repeat(self.anchor_ns[rows], width)
        factor = np.repeat(self.factor[rows], width)
        horizon = np.where(
            np.repeat(is_open, width) & (run_end > start),
            self._horizon(lanes.times, start, run_end, closed=closed, anchor=anchor, factor=np.maximum(factor, 1)),
            -1,
        )
        last = horizon.reshape(-1, width).min(axis=1)
        counts = np.where(is_open, np.maximum(last - self.next_index[rows] + 1, 0), 0)
        turn = max(_TURN_SAMPLES // max(len(rows), 1), _TURN_SAMPLES_EACH)
        cut = counts > turn
        if cut.any():
            counts = np.minimum(counts, turn)
            again |= cut
        ended = is_open & (closed & (horizon == np.repeat(last, width))).reshape(-1, width).any(axis=1) & ~cut
        gap_ns = np.zeros(len(rows), np.int64)
        emitting = np.flatnonzero(counts)
        samples, hole_ns = self._interpolate(rows, lanes, run_end, emitting, counts)
        first = self.next_index[rows]
        chunk_factor = self.factor[rows]
        self.next_index[rows] += counts
        if is_open.any():
            needed = self._first_needed(rows, lanes, run_end, start)
            start = np.where(np.repeat(is_open, width), needed, start)
        for i in np.flatnonzero(ended).tolist():
            for lane in range(i * width, (i + 1) * width):
                if closed[lane] and horizon[lane] == last[i]:
                    start[lane] = run_end[lane]
                    gap_ns[i] = max(int(gap_ns[i]), int(lanes.times[run_end[lane]] - lanes.times[run_end[lane] - 1]))
        again |= ended
        stalled = self._drop_stalled(rows, lanes, start, ~cut) & ~ended & is_open if width > 1 else ended & False
        self.factor[rows[ended | stalled]] = 0
        over = np.flatnonzero(ended | stalled)
        self._counts.gaps += len(over)
        self._counts.bridged += int(np.count_nonzero(hole_ns))
        chunk = GridChunk(
            rows[emitting],
            (first == 0)[emitting],
            chunk_factor[emitting],
            first[emitting],
            counts[emitting],
            samples,
            hole_ns,
            rows[over],
            gap_ns[over],
        )
        return chunk, start, again

    def _open(
        self, slot: int, lanes: Lanes, run_end: Int64, closed: NDArray[np.bool_], start: Int64
    ) -> tuple[bool, bool]:
        """Open a segment where all sensors' runs overlap; else say whether a later run is worth a look.

        Moves `start` past runs that can't be part of any segment.
        """
        if bool((run_end <= start).any()):
            return False, False
        anchor = int(lanes.times[start].max())
        short = lanes.times[run_end - 1] < anchor
        useless = closed & short
        rates = np.zeros(len(start))
        if not useless.any():
            if short.any():
                # Whether this run reaches the anchor is not known yet.
                return False, False
            for lane in range(len(start)):
                run = lanes.times[start[lane] : run_end[lane]]
                from_anchor = run[np.searchsorted(run, anchor) :][:RATE_READINGS]
                if self._intake.declared_hz[slot] > 0:
                    rates[lane] = self._intake.declared_hz[slot]
                elif len(from_anchor) == RATE_READINGS:
                    rates[lane] = 1e9 / float(np.median(np.diff(from_anchor)))
                elif closed[lane]:
                    useless[lane] = True
                else:
                    return False, False
        if useless.any():
            start[useless] = run_end[useless]
            return False, True
        self.anchor_ns[slot] = anchor
        self.next_index[slot] = 0
        self.feed_hz[slot] = rates
        most = min(MAX_FACTOR, max(1, MAX_FINE_HZ // self._spec.rate_hz))
        self.factor[slot] = min(max(1, int(np.ceil(rates.max() / self._spec.rate_hz - 0.2))), most)
        return True, False

    def _horizon(
        self, times: Int64, start: Int64, run_end: Int64, *, closed: NDArray[np.bool_], anchor: Int64, factor: Int64
    ) -> Int64:
        """Last grid index that each lane can supply: (lanes,) int64.

        A point between two readings needs the reading after them, unless the run ends there; a point on a reading
        needs nothing more.
        """
        last = times[np.maximum(run_end - 1, 0)] - anchor
        before = np.where(run_end - start > 1, times[np.maximum(run_end - 2, 0)] - anchor, -1)
        at_last = _floor_index(last, factor, self._spec.period_ns)
        at_before = _floor_index(before, factor, self._spec.period_ns)
        on_grid = at_last * self._spec.period_ns // factor == last
        horizon: Int64 = np.where(closed | (on_grid & (at_last == at_before + 1)), at_last, at_before)
        return horizon

    def _interpolate(
        self, rows: Int64, lanes: Lanes, run_end: Int64, emitting: Int64, counts: Int64
    ) -> tuple[Float64, Int64]:
        width = len(self._sensors)
        n = counts[emitting]
        total = int(n.sum())
        samples = np.empty((total, 3 * width))
        hole_ns = np.zeros(total, np.int64)
        if not total:
            return samples, hole_ns
        slots = rows[emitting]
        index = np.arange(total) + np.repeat(self.next_index[slots] - (np.cumsum(n) - n), n)
        offset = index * self._spec.period_ns // np.repeat(self.factor[slots], n)
        grid_ns = np.repeat(self.anchor_ns[slots], n) + offset
        for sensor in range(width):
            lane = emitting * width + sensor
            at = lanes.last_at_or_before(np.repeat(lane, n), grid_ns)
            feed_period_ns = np.repeat(1e9 / self.feed_hz[slots, sensor], n)
            samples[:, 3 * sensor : 3 * sensor + 3], interval_ns = interpolate(
                lanes.times,
                lanes.values,
                at,
                grid_ns,
                first=np.repeat(lanes.start[lane], n),
                last=np.repeat(run_end[lane] - 1, n),
                min_step_ns=feed_period_ns / 4,
            )
            hole = np.where(interval_ns > HOLE_PERIODS * feed_period_ns, interval_ns, 0)
            np.maximum(hole_ns, hole, out=hole_ns)
        return samples, hole_ns

    def _first_needed(self, rows: Int64, lanes: Lanes, run_end: Int64, start: Int64) -> Int64:
        """The reading before the one at or before the next grid point, per lane."""
        width = len(self._sensors)
        factor = np.maximum(self.factor[rows], 1)
        next_ns = self.anchor_ns[rows] + self.next_index[rows] * self._spec.period_ns // factor
        at = lanes.last_at_or_before(np.arange(len(start)), np.repeat(next_ns, width))
        needed: Int64 = np.clip(np.minimum(at, run_end - 1) - 1, start, lanes.end)
        return needed

    def _drop_stalled(self, rows: Int64, lanes: Lanes, start: Int64, of: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Drop what has waited too long for the other sensor; True for rows of `of` where one is that far behind."""
        width = len(self._sensors)
        newest = self._intake.timelines.newest_ns[rows]
        stalled = np.zeros(len(rows), np.bool_)
        for i in np.flatnonzero(of & (newest.max(axis=1) - newest.min(axis=1) > SENSOR_SKEW_NS)).tolist():
            ahead = i * width + int(newest[i].argmax())
            kept = lanes.times[start[ahead] : lanes.end[ahead]]
            stalled[i] = self._intake.waited_ns(int(rows[i]), kept) > SENSOR_SKEW_NS
            if not stalled[i]:
                continue
            oldest = int(newest[i].max()) - SENSOR_SKEW_NS
            for lane in range(i * width, (i + 1) * width):
                times = lanes.times[start[lane] : lanes.end[lane]]
                # One reading older than the bound stays, so that the age of the wait can still be told.
                start[lane] += max(int(np.searchsorted(times, oldest)) - 1, 0)
        return stalled


def _floor_index(offset_ns: Int64, factor: Int64, period_ns: int) -> Int64:
    """Largest i with i * period_ns // factor <= offset_ns, in integers."""
    return ((offset_ns + 1) * factor - 1) // period_ns
