"""Readings at their own times to samples on the model's grid, for many watches per call.

Each sensor of each watch is a *lane* with its own newest time. A reading is released when the lane's watermark
(newest time minus the allowed lateness) passes it. Released readings without a hole longer than `max_gap_ns` form a
run; where the runs of all sensors overlap lies a *segment*, whose grid is anchored at the reading that completes it.

    acc     x  x  x  x  x  x           x  x  x  x        x: readings
    gyro       x  x  x  x  x  x  x  x  x  x  x  x
    grid       |  |  |  |  |           |  |  |  |        two segments: the hole in acc is longer than max_gap_ns

A sample depends on its four nearest readings only, so no result depends on how readings were cut into messages or
messages into calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.imu import ImuBatch
from streamer.preprocessing.interpolation import interpolate
from streamer.preprocessing.slots import Slots, SlotState
from streamer.preprocessing.spec import PreprocessingSpec

NEVER: Final = -(2**62)
#: Readings from which a feed's rate is taken when it declares none.
RATE_READINGS: Final = 16
#: A sensor this far behind its sibling is taken as absent; what waits for it is dropped, so that it stays bounded.
SENSOR_SKEW_NS: Final = 10_000_000_000
#: Fine grid points per grid point, at most: feeds faster than this are interpolated rather than averaged.
MAX_FACTOR: Final = 32
#: An interval longer than this many feed periods is a hole. One and a half: half way to one missing reading.
HOLE_PERIODS: Final = 1.5

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(slots=True)
class AlignCounts:
    """What happened to readings, since the counts were last taken."""

    late: int = 0
    duplicate: int = 0
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


@dataclass(slots=True, eq=False)
class Lanes:
    """Readings of some slots' lanes, laid end to end: lane i is times[start[i]:end[i]]."""

    times: Int64
    values: Float64
    start: Int64
    end: Int64
    released: Int64 = field(init=False)

    def last_at_or_before(self, lane: Int64, t_ns: Int64) -> Int64:
        """Index of each lane's last reading at or before each time; the lane's first where there is none."""
        # One search over all lanes: times count from the lane's first reading, lanes are set apart by `span`.
        span = np.iinfo(np.int64).max // (len(self.start) + 1)
        base = self.times[np.minimum(self.start, len(self.times) - 1)]
        lengths = self.end - self.start
        keys = np.minimum(self.times - np.repeat(base, lengths), span - 1)
        keys += np.repeat(np.arange(len(self.start)) * span, lengths)
        wanted = np.clip(t_ns - base[lane], 0, span - 1) + lane * span
        at: Int64 = np.searchsorted(keys, wanted, side="right") - 1
        return at


class Aligner(Slots):
    """Grid samples from readings.

    State: per slot the segment's anchor, rate class and next grid index; per lane the newest time, the watermark and
    the readings still needed. A gap forgets the
    segment; `reset` forgets the slot.
    """

    ARRAYS = ("anchor_ns", "next_index", "factor", "declared_hz", "feed_hz", "newest_ns", "watermark_ns")

    def __init__(self, spec: PreprocessingSpec, *, capacity: int, lateness_ns: int) -> None:
        lanes = len(spec.sensors)
        self._spec = spec
        self._sensors = spec.sensors
        self._lateness_ns = lateness_ns
        self.counts = AlignCounts()
        self.anchor_ns = np.zeros(capacity, np.int64)
        self.next_index = np.zeros(capacity, np.int64)
        #: 0 while no segment is open.
        self.factor = np.zeros(capacity, np.int64)
        self.declared_hz = np.zeros(capacity, np.float64)
        self.feed_hz = np.zeros((capacity, lanes), np.float64)
        self.newest_ns = np.full((capacity, lanes), NEVER, np.int64)
        self.watermark_ns = np.full((capacity, lanes), NEVER, np.int64)
        self.times: list[Int64] = [_NO_TIMES] * (capacity * lanes)
        self.values: list[Float64] = [_NO_VALUES] * (capacity * lanes)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` slots."""
        more = (capacity - len(self.anchor_ns)) * len(self._sensors)
        super().grow(capacity)
        self.times += [_NO_TIMES] * more
        self.values += [_NO_VALUES] * more

    def export_slot(self, slot: int) -> SlotState:
        """A copy of one slot's rows and of the readings it still needs."""
        state = super().export_slot(slot)
        for sensor, lane in zip(self._sensors, self._lanes_of(slot), strict=True):
            state[f"{sensor}_times"], state[f"{sensor}_values"] = self.times[lane], self.values[lane]
        return state

    def import_slot(self, slot: int, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Put what `export_slot` gave into a slot."""
        super().import_slot(slot, state)
        for sensor, lane in zip(self._sensors, self._lanes_of(slot), strict=True):
            self.times[lane] = state[f"{sensor}_times"].astype(np.int64)
            self.values[lane] = state[f"{sensor}_values"].astype(np.float64)

    def reset(self, slot: int) -> None:
        """Forget everything about a slot."""
        self.factor[slot] = self.next_index[slot] = self.anchor_ns[slot] = 0
        self.declared_hz[slot] = 0
        self.feed_hz[slot] = 0
        self.newest_ns[slot] = self.watermark_ns[slot] = NEVER
        for lane in self._lanes_of(slot):
            self.times[lane], self.values[lane] = _NO_TIMES, _NO_VALUES

    def missing_sensor(self, slots: Sequence[int]) -> list[int]:
        """The slots in which one sensor has kept the other waiting for longer than SENSOR_SKEW_NS."""
        rows = np.asarray(slots, np.int64)
        newest = self.newest_ns[rows]
        behind = newest.max(axis=1, initial=NEVER) - newest.min(axis=1) > SENSOR_SKEW_NS
        return [slot for slot in rows[behind].tolist() if self._waited_ns(slot) > SENSOR_SKEW_NS]

    def _waited_ns(self, slot: int) -> int:
        """Time that readings of one sensor have waited for the other."""
        oldest = min(int(self.times[lane][0]) for lane in self._lanes_of(slot) if len(self.times[lane]))
        newest = self.newest_ns[slot]
        return int(newest.max()) - max(int(newest.min()), oldest)

    def take_counts(self) -> AlignCounts:
        """The counts since the last call of this."""
        counts, self.counts = self.counts, AlignCounts()
        return counts

    def push(self, slots: Sequence[int], batches: Sequence[ImuBatch]) -> Iterator[GridChunk]:
        """Take in one batch for each of distinct slots; yield the samples that became known.

        A second chunk of a call belongs to later segments, so chunks must be worked off in order.
        """
        width = len(self._sensors)
        times: list[Int64] = []
        values: list[Float64] = []
        lengths: list[int] = []
        for slot, batch in zip(slots, batches, strict=True):
            if batch.rate_hz is not None:
                self.declared_hz[slot] = batch.rate_hz
            lane = slot * width
            for readings in (batch.acc, batch.gyro)[:width]:
                carried = self.times[lane]
                times.append(carried)
                values.append(self.values[lane])
                if readings is None:
                    lengths.append(len(carried))
                else:
                    times.append(batch.t_ns)
                    values.append(readings)
                    lengths.append(len(carried) + len(readings))
                lane += 1
        rows = np.asarray(slots, np.int64)
        lanes = _lay(times, values, lengths)
        steps = np.diff(lanes.times)
        inner = lanes.end[:-1] - 1
        steps[inner[(inner >= 0) & (inner < len(steps))]] = 1
        if len(steps) and int(steps.min()) <= 0:
            lanes = self._put_in_order(rows, batches, lanes)
        self._release(rows, lanes, self._lateness_ns)
        yield from self._advance(rows, lanes)

    def flush(self, slots: Sequence[int]) -> Iterator[GridChunk]:
        """Release what lateness still held back, for slots that have gone quiet or ended."""
        rows = np.asarray(slots, np.int64)
        lanes = self._carried(rows)
        self._release(rows, lanes, 0)
        yield from self._advance(rows, lanes)

    def _lanes_of(self, slot: int) -> range:
        width = len(self._sensors)
        return range(slot * width, (slot + 1) * width)

    def _carried(self, rows: Int64) -> Lanes:
        lanes = [lane for slot in rows.tolist() for lane in self._lanes_of(slot)]
        times = [self.times[lane] for lane in lanes]
        return _lay(times, [self.values[lane] for lane in lanes], [len(t) for t in times])

    def _put_in_order(self, rows: Int64, batches: Sequence[ImuBatch], lanes: Lanes) -> Lanes:
        """Sort each disordered lane, dropping and counting readings that come late or twice."""
        width = len(self._sensors)
        times: list[Int64] = []
        values: list[Float64] = []
        for i, (slot, batch) in enumerate(zip(rows.tolist(), batches, strict=True)):
            for sensor, readings in enumerate((batch.acc, batch.gyro)[:width]):
                lane = i * width + sensor
                t = lanes.times[lanes.start[lane] : lanes.end[lane]]
                v = lanes.values[lanes.start[lane] : lanes.end[lane]]
                if readings is not None and len(t) > 1 and int(np.diff(t).min()) <= 0:
                    t, v = self._merge(slot, sensor, t, v, len(batch))
                times.append(t)
                values.append(v)
        return _lay(times, values, [len(t) for t in times])

    def _merge(self, slot: int, sensor: int, t: Int64, v: Float64, fresh: int) -> tuple[Int64, Float64]:
        carried = len(t) - fresh
        arriving = t[carried:]
        newest_before = np.maximum.accumulate(np.concatenate([self.newest_ns[slot, sensor : sensor + 1], arriving]))[
            :-1
        ]
        watermark = np.maximum(newest_before - self._lateness_ns, self.watermark_ns[slot, sensor])
        late = arriving <= watermark
        repeated = np.isin(arriving[late], t[:carried])
        self.counts.duplicate += int(repeated.sum())
        self.counts.late += int(late.sum()) - int(repeated.sum())
        kept = np.concatenate([np.arange(carried), carried + np.flatnonzero(~late)])
        kept = kept[np.argsort(t[kept], kind="stable")]
        twice = np.concatenate([[False], np.diff(t[kept]) == 0])
        self.counts.duplicate += int(twice.sum())
        kept = kept[~twice]
        return t[kept], v[kept]

    def _release(self, rows: Int64, lanes: Lanes, lateness_ns: int) -> None:
        """Move newest times and watermarks on; set how far each lane is released."""
        filled = lanes.end > lanes.start
        newest = self.newest_ns[rows].ravel()
        newest[filled] = np.maximum(newest[filled], lanes.times[lanes.end[filled] - 1])
        watermark = np.maximum(self.watermark_ns[rows].ravel(), newest - lateness_ns)
        self.newest_ns[rows] = newest.reshape(len(rows), -1)
        self.watermark_ns[rows] = watermark.reshape(len(rows), -1)
        self._mark_released(rows, lanes)

    def _mark_released(self, rows: Int64, lanes: Lanes) -> None:
        behind = lanes.times <= np.repeat(self.watermark_ns[rows].ravel(), lanes.end - lanes.start)
        passed = np.concatenate([[0], np.cumsum(behind)])
        lanes.released = lanes.start + passed[lanes.end] - passed[lanes.start]

    def _advance(self, rows: Int64, lanes: Lanes) -> Iterator[GridChunk]:
        """Yield what the released readings determine, segment after segment."""
        while len(lanes.times):
            run_end, closed = self._runs(lanes)
            chunk, start, again = self._chunk(rows, lanes, run_end, closed)
            self._keep(rows, lanes, start)
            if len(chunk.slots) or len(chunk.closed):
                yield chunk
            if not again.any():
                return
            rows = rows[again]
            lanes = self._carried(rows)
            self._mark_released(rows, lanes)

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
        ended = is_open & (closed & (horizon == np.repeat(last, width))).reshape(-1, width).any(axis=1)
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
        stalled = self._drop_stalled(rows, lanes, start) & ~ended & is_open if width > 1 else ended & False
        self.factor[rows[ended | stalled]] = 0
        over = np.flatnonzero(ended | stalled)
        self.counts.gaps += len(over)
        self.counts.bridged += int(np.count_nonzero(hole_ns))
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
        useless = closed & (lanes.times[run_end - 1] < anchor)
        rates = np.zeros(len(start))
        if not useless.any():
            for lane in range(len(start)):
                run = lanes.times[start[lane] : run_end[lane]]
                from_anchor = run[np.searchsorted(run, anchor) :][:RATE_READINGS]
                if self.declared_hz[slot] > 0:
                    rates[lane] = self.declared_hz[slot]
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
        self.factor[slot] = min(max(1, int(np.ceil(rates.max() / self._spec.rate_hz - 0.2))), MAX_FACTOR)
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

    def _drop_stalled(self, rows: Int64, lanes: Lanes, start: Int64) -> NDArray[np.bool_]:
        """Drop what has waited too long for the other sensor; True where a sensor is that far behind."""
        width = len(self._sensors)
        newest = self.newest_ns[rows]
        stalled: NDArray[np.bool_] = newest.max(axis=1) - newest.min(axis=1) > SENSOR_SKEW_NS
        for i in np.flatnonzero(stalled).tolist():
            oldest = int(newest[i].max()) - SENSOR_SKEW_NS
            for lane in range(i * width, (i + 1) * width):
                times = lanes.times[start[lane] : lanes.end[lane]]
                # One reading older than the bound stays, so that the age of the wait can still be told.
                start[lane] += max(int(np.searchsorted(times, oldest)) - 1, 0)
        return stalled

    def _keep(self, rows: Int64, lanes: Lanes, start: Int64) -> None:
        """Carry the readings that later samples need; copied, so that a message's memory is let go."""
        width = len(self._sensors)
        bounds = zip(start.tolist(), lanes.end.tolist(), strict=True)
        numbers = [slot * width + sensor for slot in rows.tolist() for sensor in range(width)]
        for number, (first, end) in zip(numbers, bounds, strict=True):
            self.times[number] = lanes.times[first:end].copy()
            self.values[number] = lanes.values[first:end].copy()


_NO_TIMES: Final = np.empty(0, np.int64)
_NO_VALUES: Final = np.empty((0, 3), np.float64)


def _lay(times: list[Int64], values: list[Float64], lengths: list[int]) -> Lanes:
    end = np.cumsum(np.asarray(lengths, np.int64))
    return Lanes(np.concatenate(times), np.concatenate(values), end - lengths, end)


def _floor_index(offset_ns: Int64, factor: Int64, period_ns: int) -> Int64:
    """Largest i with i * period_ns // factor <= offset_ns, in integers."""
    return ((offset_ns + 1) * factor - 1) // period_ns
