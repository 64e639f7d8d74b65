"""Readings at their own times to samples on the model's grid, for many watches per call.

Released readings of a sensor without a hole longer than `max_gap_ns` form a *run*; where the runs of all sensors
overlap lies a *segment*, whose grid is anchored at the reading that completes it.

    acc     x  x  x  x  x  x           x  x  x  x        x: readings
    gyro       x  x  x  x  x  x  x  x  x  x  x  x
    grid       |  |  |  |  |           |  |  |  |        two segments: the hole in acc is longer than max_gap_ns

A sample depends on its four nearest readings only, so no result depends on how readings were cut into messages or
messages into calls. An optional sensor ends no segment: `presence` has its rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.preprocessing.intake import Intake
from streamer.preprocessing.interpolation import along
from streamer.preprocessing.lanes import Lanes, spread
from streamer.preprocessing.presence import Presence
from streamer.preprocessing.segments import Segments, Turn, floor_index
from streamer.preprocessing.spec import PreprocessingSpec
from streamer.preprocessing.timelines import SENSOR_SKEW_NS

#: Fine grid points per grid point, at most: feeds faster than this are interpolated rather than averaged.
MAX_FACTOR: Final = 32
#: Fine grid points per second, at most (one grid's own rate may be higher). Wrists move below 20 Hz; a sender that
#: declares 10 kHz and then sends a reading a second would have each of them cost a second of this.
MAX_FINE_HZ: Final = 400
#: Samples per turn for all watches together, and for one watch at least. Messages may state few readings over a long
#: time; cut into turns, which changes no sample, they take time but not memory.
_TURN_SAMPLES: Final = 131_072
_TURN_SAMPLES_EACH: Final = 256

#: Back from the end of a run to its last reading, and the one before.
_LAST_TWO: Final = np.array([1, 2]).reshape(2, 1, 1)

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
        partial: (m,) bool, True where the samples are made without the optional sensor, whose values are 0.
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
    partial: NDArray[np.bool_]
    samples: Float64
    hole_ns: Int64
    closed: Int64
    gap_ns: Int64


class Aligner(Segments):
    """Grid samples from readings; its state is that of the segments."""

    def __init__(self, spec: PreprocessingSpec, intake: Intake, *, capacity: int) -> None:
        super().__init__(spec, intake, capacity=capacity)
        self._presence = Presence(spec, intake, self) if spec.optional_sensors else None
        self._counts = AlignCounts()

    def take_counts(self) -> AlignCounts:
        """The counts since the last call of this."""
        counts, self._counts = self._counts, AlignCounts()
        return counts

    def advance(self, slots: Sequence[int], lanes: Lanes, *, is_flush: bool = False) -> Iterator[GridChunk]:
        """Yield the samples that the slots' released readings determine, segment after segment.

        A second chunk belongs to later segments, so chunks must be worked off in order.

        Args:
            slots: distinct.
            lanes: of these slots.
            is_flush: no more is waited for: an optional sensor that is behind by more than a gap is given up.
        """
        rows = np.asarray(slots, np.int64)
        while len(lanes.times):
            turn = Turn(rows, lanes, *self._runs(lanes), is_flush)
            chunk = self._chunk(turn)
            self._intake.keep(rows, lanes, turn.start)
            if len(chunk.slots) or len(chunk.closed):
                yield chunk
            if not turn.again.any():
                return
            rows = rows[turn.again]
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
            partial=np.empty(0, np.bool_),
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

    def _chunk(self, turn: Turn) -> GridChunk:
        """One segment's samples for each row; what is left to do stands in the turn."""
        rows = turn.rows
        for row in np.flatnonzero(self.factor[rows] == 0).tolist():
            turn.again[row] = self._open(turn, row)
        if self._presence is not None:
            self._presence.attend(turn)
        factor, first = self.factor[rows], self.next_index[rows]
        is_open = factor > 0
        horizon = self._horizon(turn, first)
        last = horizon.min(axis=1)
        counts = np.maximum(last - first + 1, 0) * is_open
        most = max(_TURN_SAMPLES // max(len(rows), 1), _TURN_SAMPLES_EACH)
        cut = counts > most
        ending = self._ending(turn, horizon == last[:, None], is_open & ~cut)
        if self._presence is not None and turn.used is not None:
            turn.again |= is_open & self._presence.goes_on(turn, turn.used, first, horizon)
        if cut.any():
            counts = np.minimum(counts, most)
            turn.again |= cut
        emitting = np.flatnonzero(counts)
        samples, hole_ns = self._interpolate(turn, emitting, counts)
        self.next_index[rows] = first + counts
        if is_open.any():
            self._move_on(turn, is_open)
        ended, gap_ns = self._end_runs(turn, ending)
        stalled = self._drop_stalled(turn, ~cut) & is_open if len(self._sensors) > 1 else ended
        over = np.flatnonzero(ended | stalled)
        if len(over):
            self.factor[rows[over]] = 0
            self._counts.gaps += len(over)
        self._counts.bridged += int(np.count_nonzero(hole_ns))
        if self._presence is not None and turn.used is not None:
            self._presence.note_passed(rows, turn.used)
        return GridChunk(
            rows[emitting],
            (first == 0)[emitting],
            factor[emitting],
            first[emitting],
            counts[emitting],
            np.zeros(len(emitting), np.bool_) if turn.used is None else ~turn.used[emitting],
            samples,
            hole_ns,
            rows[over],
            gap_ns[over],
        )

    def _open(self, turn: Turn, row: int) -> bool:
        """Open a segment where all sensors' runs overlap; else say whether a later run is worth a look.

        Moves `start` past runs that can't be part of any segment.
        """
        width, slot = len(self._sensors), int(turn.rows[row])
        needed, joins_at_ns = width, None
        if self._presence is not None and turn.run_end[2 * row] > turn.start[2 * row]:
            found = self._presence.at_start(turn, row)
            if isinstance(found, bool):
                return found
            needed, joins_at_ns = found
        mine = slice(row * width, row * width + needed)
        start, run_end = turn.start[mine], turn.run_end[mine]
        if bool((run_end <= start).any()):
            return False
        anchor = int(turn.lanes.times[start].max())
        short = turn.lanes.times[run_end - 1] < anchor
        useless, rates = turn.closed[mine] & short, None
        if not useless.any():
            if short.any():
                # Whether this run reaches the anchor is not known yet.
                return False
            rates = self._rates(turn, row, needed, anchor)
            if rates is None:
                return False
            useless = rates == 0
        if rates is None or useless.any():
            start[useless] = run_end[useless]
            return True
        self.feed_hz[slot, :needed], self.feed_hz[slot, needed:] = rates, 0
        self.anchor_ns[slot] = anchor
        self.next_index[slot] = 0
        most = min(MAX_FACTOR, max(1, MAX_FINE_HZ // self._spec.rate_hz))
        self.factor[slot] = min(max(1, int(np.ceil(rates.max() / self._spec.rate_hz - 0.2))), most)
        self.joins[slot] = 0 if needed == width else self.index_from(slot, joins_at_ns)
        return False

    def _rates(self, turn: Turn, row: int, needed: int, anchor: int) -> Float64 | None:
        """Rates of the needed sensors' feeds, 0 where a run is over too soon; None while one is not known yet."""
        slot, width = int(turn.rows[row]), len(self._sensors)
        rates = np.zeros(needed)
        for sensor in range(needed):
            lane = row * width + sensor
            run = turn.lanes.times[turn.start[lane] : turn.run_end[lane]]
            rates[sensor] = self.rate_hz(slot, run[np.searchsorted(run, anchor) :])
            is_over = turn.closed[lane]
            if sensor and self._presence is not None:
                is_over |= self._presence.is_given_up(turn)[row]
            if not (rates[sensor] or is_over):
                return None
        return rates

    def _horizon(self, turn: Turn, first: Int64) -> Int64:
        """Last grid index that each lane can supply, (rows, sensors) int64; -1 for none.

        A point between two readings needs the reading after them, unless the run ends there; a point on a reading
        needs nothing more.
        """
        rows, shape = turn.rows, (len(turn.rows), len(self._sensors))
        start, run_end = turn.start.reshape(shape), turn.run_end.reshape(shape)
        anchor, factor = self.anchor_ns[rows][:, None], np.maximum(self.factor[rows], 1)[:, None]
        # Both in one array, offset[0] and offset[1], for half as many calls.
        offset = turn.lanes.times[np.maximum(run_end - _LAST_TWO, 0)] - anchor
        length = run_end - start
        offset[1][length < 2] = -1
        at = floor_index(offset, factor, self._spec.period_ns)
        on_grid = at[0] * self._spec.period_ns // factor == offset[0]
        horizon: Int64 = np.where(turn.over.reshape(shape) | (on_grid & (at[0] == at[1] + 1)), at[0], at[1])
        horizon[length == 0] = -1
        if turn.used is not None:
            # Without the second sensor the first one goes to where it joins.
            horizon[:, 1] = np.where(turn.used, horizon[:, 1], np.maximum(self.joins[rows], first) - 1)
        return horizon

    @staticmethod
    def _ending(turn: Turn, is_last: NDArray[np.bool_], of: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(rows, sensors) bool: of the lanes that reach least far those by whose gap a segment ends, of some rows."""
        if not turn.closed.any():
            return np.zeros(is_last.shape, np.bool_)
        ending: NDArray[np.bool_] = turn.closed.reshape(is_last.shape) & is_last & of[:, None]
        if turn.used is not None:
            # Whether the optional sensor's gap is known by now hangs on the order of messages.
            ending[:, 1] = False
        return ending

    def _move_on(self, turn: Turn, is_open: NDArray[np.bool_]) -> None:
        """Let go of the readings that no sample to come needs."""
        moves = np.repeat(is_open, len(self._sensors))
        if turn.used is not None:
            # Of a sensor that is to join the first readings are kept, for they tell its rate.
            moves[1::2] &= turn.used
        turn.start = np.where(moves, self._first_needed(turn), turn.start)

    @staticmethod
    def _end_runs(turn: Turn, ending: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Int64]:
        """Move on past the gaps that end segments; whether a row's segment ended, and its longest gap."""
        ended = np.asarray(ending.any(axis=1))
        gap_ns = np.zeros(len(ended), np.int64)
        for row, sensor in np.argwhere(ending).tolist() if ended.any() else ():
            lane = row * ending.shape[1] + sensor
            end = turn.run_end[lane]
            turn.start[lane] = end
            gap_ns[row] = max(int(gap_ns[row]), int(turn.lanes.times[end] - turn.lanes.times[end - 1]))
        turn.again |= ended
        return ended, gap_ns

    def _interpolate(self, turn: Turn, emitting: Int64, counts: Int64) -> tuple[Float64, Int64]:
        """Samples (m, 3 * sensors) of the rows that emit any, and the holes that they bridge (m,).

        Where the second sensor isn't used its values are 0.
        """
        width = len(self._sensors)
        if not len(emitting):
            return np.empty((0, 3 * width)), np.empty(0, np.int64)
        slots, n = turn.rows[emitting], counts[emitting]
        end: Int64 = n.cumsum()
        # Samples are numbered through; those of a row count from the next one of its segment.
        index = np.arange(end[-1]) + spread(self.next_index[slots] - end + n, n)
        offset = index * self._spec.period_ns // spread(self.factor[slots], n)
        grid_ns = spread(self.anchor_ns[slots], n) + offset
        if width == 1:
            return along(turn.lanes, emitting, n, grid_ns, run_end=turn.run_end, feed_hz=self.feed_hz[slots, 0])
        # Where both sensors come in one message, a time is looked up once, for both.
        alike = self.feed_hz[slots, 0] == self.feed_hz[slots, 1]
        together, lanes = turn.lanes.paired(
            2 * emitting, turn.run_end, alike if turn.used is None else alike & turn.used[emitting]
        )
        if together.all():
            return along(lanes, np.arange(len(n)), n, grid_ns, run_end=lanes.end, feed_hz=self.feed_hz[slots, 0])
        samples, hole_ns = np.zeros((len(grid_ns), 3 * width)), np.zeros(len(grid_ns), np.int64)
        of = np.repeat(together, n)
        if together.any():
            rates = self.feed_hz[slots[together], 0]
            own = np.arange(len(rates))
            samples[of], hole_ns[of] = along(lanes, own, n[together], grid_ns[of], run_end=lanes.end, feed_hz=rates)
        # The others' sensors one behind the other in one go: calls cost more than numbers.
        first, second = ~together, ~together if turn.used is None else ~together & turn.used[emitting]
        of_first, of_second = np.repeat(first, n), np.repeat(second, n)
        values, own_hole_ns = along(
            turn.lanes,
            np.concatenate([2 * emitting[first], 2 * emitting[second] + 1]),
            np.concatenate([n[first], n[second]]),
            np.concatenate([grid_ns[of_first], grid_ns[of_second]]),
            run_end=turn.run_end,
            feed_hz=np.concatenate([self.feed_hz[slots[first], 0], self.feed_hz[slots[second], 1]]),
        )
        samples[of_first, :3], samples[of_second, 3:] = np.split(values, [np.count_nonzero(of_first)])
        hole_ns[of_first], second_hole_ns = np.split(own_hole_ns, [np.count_nonzero(of_first)])
        hole_ns[of_second] = np.maximum(hole_ns[of_second], second_hole_ns)
        return samples, hole_ns

    def _first_needed(self, turn: Turn) -> Int64:
        """The reading before the one at or before the next grid point, per lane."""
        next_ns = np.repeat(self.time_ns(turn.rows, self.next_index[turn.rows]), len(self._sensors))
        at = turn.lanes.last_at_or_before(np.arange(len(turn.start)), next_ns)
        needed: Int64 = np.minimum(np.maximum(np.minimum(at, turn.run_end - 1) - 1, turn.start), turn.lanes.end)
        return needed

    def _drop_stalled(self, turn: Turn, of: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Drop what has waited too long for the other sensor; True for rows of `of` where one is that far behind."""
        rows, lanes, start, width = turn.rows, turn.lanes, turn.start, len(self._sensors)
        newest = self._intake.timelines.newest_ns[rows]
        stalled = np.zeros(len(rows), np.bool_)
        # An optional sensor that is behind is given up, which ends nothing.
        ahead_ns = newest[:, 1] - newest[:, 0] if self._is_optional else newest.max(axis=1) - newest.min(axis=1)
        for i in np.flatnonzero(of & (ahead_ns > SENSOR_SKEW_NS)).tolist():
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
