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
from typing import Final, TypeVar

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

#: Back from the end of a run to its last reading, and the one before.
_LAST_TWO: Final = np.array([1, 2]).reshape(2, 1, 1)

_T = TypeVar("_T", bound=np.generic)
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
        gaps = np.empty(0, np.intp)
        if not lanes.steady:
            gaps = np.flatnonzero(lanes.times[1:] - lanes.times[:-1] > self._spec.max_gap_ns) + 1
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
        shape = (len(rows), width)
        start = lanes.start.copy()
        again = np.zeros(len(rows), np.bool_)
        for i in np.flatnonzero(self.factor[rows] == 0).tolist():
            mine = slice(i * width, (i + 1) * width)
            again[i] = self._open(int(rows[i]), lanes, run_end[mine], closed[mine], start[mine])
        factor, anchor_ns, first = self.factor[rows], self.anchor_ns[rows], self.next_index[rows]
        is_open = factor > 0
        horizon = self._horizon(
            lanes.times,
            start.reshape(shape),
            run_end.reshape(shape),
            closed=closed.reshape(shape),
            anchor=anchor_ns[:, None],
            factor=np.maximum(factor, 1)[:, None],
        )
        last = horizon.min(axis=1)
        counts = np.maximum(last - first + 1, 0) * is_open
        turn = max(_TURN_SAMPLES // max(len(rows), 1), _TURN_SAMPLES_EACH)
        cut = counts > turn
        ended = np.zeros(len(rows), np.bool_)
        if closed.any():
            ended = is_open & (closed.reshape(shape) & (horizon == last[:, None])).any(axis=1) & ~cut
        if cut.any():
            counts = np.minimum(counts, turn)
            again |= cut
        emitting = np.flatnonzero(counts)
        samples, hole_ns = self._interpolate(rows, lanes, run_end, emitting, counts)
        self.next_index[rows] = first + counts
        if is_open.any():
            start = np.where(np.repeat(is_open, width), self._first_needed(rows, lanes, run_end, start), start)
        gap_ns = np.zeros(len(rows), np.int64)
        for i in np.flatnonzero(ended).tolist():
            for lane in range(i * width, (i + 1) * width):
                if closed[lane] and horizon[i, lane - i * width] == last[i]:
                    start[lane] = run_end[lane]
                    gap_ns[i] = max(int(gap_ns[i]), int(lanes.times[run_end[lane]] - lanes.times[run_end[lane] - 1]))
        again |= ended
        stalled = self._drop_stalled(rows, lanes, start, ~cut) & is_open if width > 1 else ended
        over = np.flatnonzero(ended | stalled)
        if len(over):
            self.factor[rows[over]] = 0
            self._counts.gaps += len(over)
        self._counts.bridged += int(np.count_nonzero(hole_ns))
        chunk = GridChunk(
            rows[emitting],
            (first == 0)[emitting],
            factor[emitting],
            first[emitting],
            counts[emitting],
            samples,
            hole_ns,
            rows[over],
            gap_ns[over],
        )
        return chunk, start, again

    def _open(self, slot: int, lanes: Lanes, run_end: Int64, closed: NDArray[np.bool_], start: Int64) -> bool:
        """Open a segment where all sensors' runs overlap; else say whether a later run is worth a look.

        Moves `start` past runs that can't be part of any segment.
        """
        if bool((run_end <= start).any()):
            return False
        anchor = int(lanes.times[start].max())
        short = lanes.times[run_end - 1] < anchor
        useless = closed & short
        rates = np.zeros(len(start))
        if not useless.any():
            if short.any():
                # Whether this run reaches the anchor is not known yet.
                return False
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
                    return False
        if useless.any():
            start[useless] = run_end[useless]
            return True
        self.anchor_ns[slot] = anchor
        self.next_index[slot] = 0
        self.feed_hz[slot] = rates
        most = min(MAX_FACTOR, max(1, MAX_FINE_HZ // self._spec.rate_hz))
        self.factor[slot] = min(max(1, int(np.ceil(rates.max() / self._spec.rate_hz - 0.2))), most)
        return False

    def _horizon(
        self, times: Int64, start: Int64, run_end: Int64, *, closed: NDArray[np.bool_], anchor: Int64, factor: Int64
    ) -> Int64:
        """Last grid index that each lane can supply, (rows, sensors) int64; -1 for none.

        A point between two readings needs the reading after them, unless the run ends there; a point on a reading
        needs nothing more.
        """
        # Both in one array, offset[0] and offset[1], for half as many calls.
        offset = times[np.maximum(run_end - _LAST_TWO, 0)] - anchor
        length = run_end - start
        offset[1][length < 2] = -1
        at = _floor_index(offset, factor, self._spec.period_ns)
        on_grid = at[0] * self._spec.period_ns // factor == offset[0]
        horizon: Int64 = np.where(closed | (on_grid & (at[0] == at[1] + 1)), at[0], at[1])
        horizon[length == 0] = -1
        return horizon

    def _interpolate(
        self, rows: Int64, lanes: Lanes, run_end: Int64, emitting: Int64, counts: Int64
    ) -> tuple[Float64, Int64]:
        """Samples (m, 3 * sensors) of the rows that emit any, and the holes that they bridge (m,)."""
        width = len(self._sensors)
        if not len(emitting):
            return np.empty((0, 3 * width)), np.empty(0, np.int64)
        slots, n = rows[emitting], counts[emitting]
        end: Int64 = n.cumsum()
        total = int(end[-1])
        # Samples are numbered through; those of a row count from the next one of its segment.
        index = np.arange(total) + _spread(self.next_index[slots] - end + n, n)
        offset = index * self._spec.period_ns // _spread(self.factor[slots], n)
        grid_ns = _spread(self.anchor_ns[slots], n) + offset
        # All sensors in one go, sensor after sensor: calls cost more than numbers.
        lane, feed_period_ns = emitting * width, 1e9 / self.feed_hz[slots, 0]
        if width > 1:
            lane = np.concatenate([lane, lane + 1])
            feed_period_ns = np.concatenate([feed_period_ns, 1e9 / self.feed_hz[slots, 1]])
            n, grid_ns = np.concatenate([n, n]), np.concatenate([grid_ns, grid_ns])
        values, interval_ns = interpolate(
            lanes.times,
            lanes.values,
            lanes.last_at_or_before(_spread(lane, n), grid_ns),
            grid_ns,
            first=_spread(lanes.start[lane], n),
            last=_spread(run_end[lane] - 1, n),
            min_step_ns=_spread(feed_period_ns / 4, n),
        )
        hole_ns: Int64 = np.where(interval_ns > _spread(HOLE_PERIODS * feed_period_ns, n), interval_ns, 0)
        if width > 1:
            values = np.concatenate([values[:total], values[total:]], axis=1)
            hole_ns = np.maximum(hole_ns[:total], hole_ns[total:])
        return values, hole_ns

    def _first_needed(self, rows: Int64, lanes: Lanes, run_end: Int64, start: Int64) -> Int64:
        """The reading before the one at or before the next grid point, per lane."""
        width = len(self._sensors)
        factor = np.maximum(self.factor[rows], 1)
        next_ns = self.anchor_ns[rows] + self.next_index[rows] * self._spec.period_ns // factor
        at = lanes.last_at_or_before(np.arange(len(start)), np.repeat(next_ns, width))
        needed: Int64 = np.minimum(np.maximum(np.minimum(at, run_end - 1) - 1, start), lanes.end)
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


def _spread(each: NDArray[_T], n: Int64) -> NDArray[_T]:
    """Each row's value for each of its n samples; one row's stays as it is, to be broadcast where it meets them."""
    return each if len(each) == 1 else np.repeat(each, n)


def _floor_index(offset_ns: Int64, factor: Int64, period_ns: int) -> Int64:
    """Largest i with i * period_ns // factor <= offset_ns, in integers."""
    return ((offset_ns + 1) * factor - 1) // period_ns
