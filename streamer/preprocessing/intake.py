"""Readings as they come, put in order: what is late or double is dropped, what is too new is held back.

Each sensor of each watch is a *lane* with its own newest time. A reading is *released* when the lane's watermark, its
newest time minus the allowed lateness, passes it; what comes later than that is counted and dropped.

    lateness = 2      arrival   1  2  4  3  6  5  3
                      released     -  1  2  3  4  4      (watermark 4: up to 4, and the last 3 is too late)

An optional sensor is not waited for longer than SENSOR_SKEW_NS: so far behind the accelerometer's watermark its
readings are released, too.

Readings that go on in order, nearly all there are, are taken together; the others one by one (see `timelines`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.imu import ImuBatch
from streamer.preprocessing.lanes import Lanes, Readings, lay
from streamer.preprocessing.slots import Slots, SlotState
from streamer.preprocessing.spec import PreprocessingSpec
from streamer.preprocessing.timelines import NEVER, SENSOR_SKEW_NS, Timeline, Timelines, take

#: Readings from elsewhere move a watch's time once they last this long: longer than a message of a second.
LEAP_NS: Final = 1_000_000_000

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(slots=True)
class IntakeCounts:
    """What happened since the counts were last taken.

    Attributes:
        late, duplicate: readings dropped; one of both sensors counts once.
        clock_jumps: watches whose clock went back.
    """

    late: int = 0
    duplicate: int = 0
    clock_jumps: int = 0


class Intake(Slots):
    """The readings that later samples still need, in order, for many watches.

    State: per lane the readings that are needed, and those of which nobody knows yet whether the clock was set; per
    slot the rate its sender declares, since when and until when it has sent nothing but readings of a sensor that
    the windows are not made of, up to which time samples were made without an optional one, and how far the watermark
    was a message ago. Times are in `timelines`, a stage of its own.
    """

    ARRAYS = ("declared_hz", "useless_ns", "passed_ns", "before_ns")

    def __init__(self, spec: PreprocessingSpec, *, capacity: int, lateness_ns: int) -> None:
        self._spec = spec
        self._sensors = spec.sensors
        self._is_optional = bool(spec.optional_sensors)
        self._lateness_ns = lateness_ns
        self._counts = IntakeCounts()
        lanes = capacity * len(self._sensors)
        self.timelines = Timelines(
            len(self._sensors),
            capacity=capacity,
            lateness_ns=lateness_ns,
            bridge_ns=spec.max_gap_ns,
            # In time for the first window behind a pause.
            leap_ns=min(LEAP_NS, spec.window_ns - 2 * spec.period_ns),
        )
        self.declared_hz = np.zeros(capacity, np.float64)
        self.useless_ns = np.full((capacity, 2), NEVER, np.int64)
        #: NEVER while the optional sensor is used or waited for.
        self.passed_ns = np.full(capacity, NEVER, np.int64)
        #: The first sensor's watermark before the latest message that moved it; where one sensor is optional.
        self.before_ns = np.full(capacity, NEVER, np.int64)
        self._needed = Readings(lanes)
        self._held = Readings(lanes)
        #: Slots with readings astray; their next ones are looked at one by one.
        self._astray: set[int] = set()
        #: Slots with a time in `useless_ns`.
        self._useless: set[int] = set()
        #: Slots whose clock went back, with what is left of their batches, and the time it is now.
        self._turned: dict[int, tuple[ImuBatch, int]] = {}

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` slots."""
        super().grow(capacity)
        for readings in (self._needed, self._held):
            readings.grow(capacity * len(self._sensors))

    def export_rows(self, rows: Int64) -> SlotState:
        """A copy of some slots' rows and of their readings, laid end to end with their numbers."""
        state = super().export_rows(rows)
        for number, sensor in enumerate(self._sensors):
            lanes = (rows * len(self._sensors) + number).tolist()
            for kind, readings in ((sensor, self._needed), (f"{sensor}_held", self._held)):
                lengths, times, values = readings.export(lanes)
                state |= {f"{kind}_lengths": lengths, f"{kind}_times": times, f"{kind}_values": values}
        return state

    def import_rows(self, rows: Int64, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Put what `export_rows` gave into as many slots."""
        super().import_rows(rows, state)
        for number, sensor in enumerate(self._sensors):
            lanes = (rows * len(self._sensors) + number).tolist()
            for kind, readings in ((sensor, self._needed), (f"{sensor}_held", self._held)):
                lengths, times = (state[f"{kind}_{part}"].astype(np.int64) for part in ("lengths", "times"))
                readings.import_(lanes, lengths, times, state[f"{kind}_values"].astype(np.float64))
        # Each of them may have readings astray: to look at them one by one is right in any case.
        self._astray.update(rows.tolist())
        self._useless.update(rows.tolist())

    def reset(self, slot: int) -> None:
        """Forget a slot's readings."""
        self.declared_hz[slot] = 0
        self.useless_ns[slot] = self.passed_ns[slot] = self.before_ns[slot] = NEVER
        for lane in self._lanes_of(slot):
            self._needed.clear(lane)
            self._held.clear(lane)
        self._astray.discard(slot)
        self._useless.discard(slot)

    def take_counts(self) -> IntakeCounts:
        """The counts since the last call of this."""
        counts, self._counts = self._counts, IntakeCounts()
        return counts

    def push(self, slots: Sequence[int], batches: Sequence[ImuBatch]) -> Lanes:
        """Lanes of distinct slots with one batch added to each, in order and released as far as may be.

        Where a slot's clock went back, the lanes end before that; `take_turned` gives the rest of its batch.
        """
        width = len(self._sensors)
        times: list[Int64] = []
        values: list[Float64] = []
        lengths: list[int] = []
        before_ns = self._count_passed(slots, batches) if self._is_optional else None
        odd: set[int] = self._astray.intersection(slots) if self._astray else set()
        for slot, batch in zip(slots, batches, strict=True):
            if batch.rate_hz is not None:
                self.declared_hz[slot] = batch.rate_hz
            self._note_useless(slot, batch)
            lane = slot * width
            for readings in (batch.acc, batch.gyro)[:width]:
                needed = self._needed.times[lane]
                times.append(needed)
                values.append(self._needed.values[lane])
                if readings is None:
                    lengths.append(len(needed))
                else:
                    if not len(needed):
                        odd.add(slot)
                    times.append(batch.t_ns)
                    values.append(readings)
                    lengths.append(len(needed) + len(readings))
                lane += 1
        rows = np.asarray(slots, np.int64)
        lanes = lay(times, values, lengths)
        steps = lanes.times[1:] - lanes.times[:-1]
        # Seen as unsigned, a step back is a huge one: one pass tests both ends.
        disorder = (steps - 1).view(np.uint64) >= self.timelines.bridge_ns
        if len(lanes.end) > 1:
            # From one lane to the next anything may be.
            inner = lanes.end[:-1] - 1
            disorder[inner[(inner >= 0) & (inner < len(steps))]] = False
        if disorder.any():
            lane_of = np.searchsorted(lanes.end, np.flatnonzero(disorder), side="right")
            odd.update(rows[lane_of // width].tolist())
        else:
            lanes.steady = self.timelines.bridge_ns <= self._spec.max_gap_ns
        if odd:
            lanes = self._put_in_order(rows, batches, lanes, odd)
        self._release(rows, lanes, self._lateness_ns)
        if before_ns is not None:
            moved = self.timelines.watermark_ns[rows, 0] > before_ns
            self.before_ns[rows[moved]] = before_ns[moved]
        return lanes

    def take_turned(self) -> dict[int, tuple[ImuBatch, int]]:
        """Slots whose clock went back in the latest `push`, with what is left of their batches and the time it is now.

        Each is to be brought to its end, then turned by `turn_back`, then pushed again with what is left.
        """
        turned, self._turned = self._turned, {}
        return turned

    def turn_back(self, slot: int, at_ns: int) -> int:
        """Let a slot's readings begin anew at a time; how far its clock went back, ns."""
        self._counts.clock_jumps += 1
        sensors, step_ns = self.timelines.go_back(slot, at_ns)
        for sensor in sensors:
            self._needed.clear(slot * len(self._sensors) + sensor)
        self.useless_ns[slot] = self.passed_ns[slot] = NEVER
        return step_ns

    def is_astray(self, slot: int, sensor: int) -> bool:
        """Whether a sensor has readings of which nobody knows yet whether its clock was set."""
        return len(self._held.times[slot * len(self._sensors) + sensor]) > 0

    def flush(self, slots: Sequence[int]) -> Lanes:
        """Lanes of slots that have gone quiet or ended: what lateness still held back is released."""
        rows = np.asarray(slots, np.int64)
        lanes = self._lay_needed(rows)
        self._release(rows, lanes, 0)
        return lanes

    def carried(self, rows: Int64) -> Lanes:
        """Lanes of slots as they are, released as far as they were."""
        lanes = self._lay_needed(rows)
        self._mark_released(lanes, self.timelines.watermark_ns[rows])
        return lanes

    def keep(self, rows: Int64, lanes: Lanes, start: Int64) -> None:
        """Carry the readings that later samples need; copied, so that a message's memory is let go."""
        width = len(self._sensors)
        bounds = zip(start.tolist(), lanes.end.tolist(), strict=True)
        numbers = [slot * width + sensor for slot in rows.tolist() for sensor in range(width)]
        for number, (first, end) in zip(numbers, bounds, strict=True):
            self._needed.put(number, lanes.times[first:end], lanes.values[first:end])

    def missing_sensor(self, slots: Sequence[int]) -> list[tuple[int, int]]:
        """The slots in which a required sensor has been wanting for longer than SENSOR_SKEW_NS, each with the time
        since when the other readings have come without a pause.
        """
        if len(self._sensors) == 1 and self._useless.isdisjoint(slots):
            return []
        rows = np.asarray(slots, np.int64)
        newest = self.timelines.newest_ns[rows]
        if self._is_optional:
            behind = newest[:, 1] - newest[:, 0] > SENSOR_SKEW_NS
        else:
            behind = newest.max(axis=1) - newest.min(axis=1) > SENSOR_SKEW_NS
        useless = self.useless_ns[rows, 1] - self.useless_ns[rows, 0] > SENSOR_SKEW_NS
        missing = []
        for i in np.flatnonzero(behind | useless).tolist():
            slot = slots[i]
            sensor = int(newest[i].argmax())
            if useless[i]:
                missing.append((slot, int(self.useless_ns[slot, 0])))
            elif self.waited_ns(slot, self._needed.times[slot * len(self._sensors) + sensor]) > SENSOR_SKEW_NS:
                missing.append((slot, int(self.timelines.began_ns[slot, sensor])))
        return missing

    def waited_ns(self, slot: int, times: Int64) -> int:
        """How long the sensor that is ahead has waited for its sibling: the time of its readings after the sibling's
        newest, pauses left out.

        So a watch which pauses isn't taken for one that lost a sensor when it goes on.

        Args:
            slot: of which watch.
            times: (n,) int64, readings kept of the sensor that is ahead.
        """
        since = np.searchsorted(times, self.timelines.newest_ns[slot].min(), side="right")
        return int(np.minimum(np.diff(times[since:]), self.timelines.bridge_ns).sum())

    def _count_passed(self, slots: Sequence[int], batches: Sequence[ImuBatch]) -> Int64:
        """Count readings of the optional sensor whose samples are made; the first sensor's watermarks up to now."""
        lines = self.timelines
        for slot, batch in zip(slots, batches, strict=True):
            if batch.gyro is not None and self.passed_ns[slot] != NEVER:
                # Not those that are late to their own sensor: they are counted there.
                in_time = batch.t_ns > lines.watermark_ns[slot, 1]
                self._counts.late += int(np.count_nonzero(in_time & (batch.t_ns <= self.passed_ns[slot])))
        before_ns: Int64 = lines.watermark_ns[np.asarray(slots, np.int64), 0]
        return before_ns

    def _note_useless(self, slot: int, batch: ImuBatch) -> None:
        if batch.acc is not None or "gyro" in self._sensors:
            if slot in self._useless:
                self._useless.discard(slot)
                self.useless_ns[slot] = NEVER
            return
        self._useless.add(slot)
        first_ns, newest_ns = self.useless_ns[slot].tolist()
        t_ns = batch.t_ns
        before = int(t_ns[0]) if first_ns == NEVER else newest_ns
        # A pause, or a clock that was set, is no time without the other sensor.
        leaps = np.flatnonzero(np.abs(np.diff(t_ns, prepend=before)) > self.timelines.bridge_ns)
        if len(leaps) or first_ns == NEVER:
            t_ns = t_ns[leaps[-1] :] if len(leaps) else t_ns
            first_ns = newest_ns = int(t_ns[0])
        self.useless_ns[slot] = min(first_ns, int(t_ns.min())), max(newest_ns, int(t_ns.max()))

    def _lanes_of(self, slot: int) -> range:
        width = len(self._sensors)
        return range(slot * width, (slot + 1) * width)

    def _lay_needed(self, rows: Int64) -> Lanes:
        lanes = [lane for slot in rows.tolist() for lane in self._lanes_of(slot)]
        times = [self._needed.times[lane] for lane in lanes]
        return lay(times, [self._needed.values[lane] for lane in lanes], [len(t) for t in times])

    def _put_in_order(self, rows: Int64, batches: Sequence[ImuBatch], lanes: Lanes, odd: AbstractSet[int]) -> Lanes:
        """The lanes anew, those of odd slots with their readings taken one by one."""
        width = len(self._sensors)
        times: list[Int64] = []
        values: list[Float64] = []
        bounds = list(zip(lanes.start.tolist(), lanes.end.tolist(), strict=True))
        for i, (slot, batch) in enumerate(zip(rows.tolist(), batches, strict=True)):
            if slot in odd:
                for t, v in self._take_singly(slot, batch):
                    times.append(t)
                    values.append(v)
            else:
                for start, end in bounds[i * width : (i + 1) * width]:
                    times.append(lanes.times[start:end])
                    values.append(lanes.values[start:end])
        return lay(times, values, [len(t) for t in times])

    def _take_singly(self, slot: int, batch: ImuBatch) -> list[tuple[Int64, Float64]]:
        """For each sensor what is needed of before and what its timeline takes of a batch, in order of time."""
        lines: list[Timeline] = []
        for sensor, readings in enumerate((batch.acc, batch.gyro)[: len(self._sensors)]):
            lane = slot * len(self._sensors) + sensor
            held = self._held.times[lane], self._held.values[lane]
            lines.append(self.timelines.read(slot, sensor, held, None if readings is None else (batch.t_ns, readings)))
        proof = take(batch.t_ns, [line for line in lines if line.is_fed])
        arrived = len(batch)
        if proof is not None:
            arrived, at_ns = proof
            self._turned[slot] = batch[arrived:], at_ns
        late = duplicate = 0
        found: list[tuple[Int64, Float64]] = []
        for sensor, line in enumerate(lines):
            lane = slot * len(self._sensors) + sensor
            self.timelines.write(slot, sensor, line)
            kept_times, kept_values = line.readings(line.kept)
            times = np.concatenate([self._needed.times[lane], kept_times])
            order = np.argsort(times, kind="stable")
            # Of two readings of one time the first counts.
            order = order[np.diff(times[order], prepend=NEVER) != 0]
            found.append((times[order], np.concatenate([self._needed.values[lane], kept_values])[order]))
            self._held.put(lane, *line.readings(line.held))
            duplicate = max(duplicate, len(times) - len(order) + line.duplicates)
            taken = len(line.kept) + len(line.held) + line.duplicates
            late = max(late, line.before + line.is_fed * arrived - taken)
        self._counts.late += late
        self._counts.duplicate += duplicate
        if proof is not None or any(line.astray for line in lines):
            self._astray.add(slot)
        else:
            self._astray.discard(slot)
        return found

    def _release(self, rows: Int64, lanes: Lanes, lateness_ns: int) -> None:
        """Move newest times and watermarks on; set how far each lane is released."""
        lines, shape = self.timelines, (len(rows), len(self._sensors))
        newest = lines.newest_ns.take(rows, axis=0)
        if len(lanes.times):
            last = lanes.times[np.maximum(lanes.end - 1, 0)]
            newest = np.maximum(newest, np.where(lanes.end > lanes.start, last, NEVER).reshape(shape))
        watermark = np.maximum(lines.watermark_ns.take(rows, axis=0), newest - lateness_ns)
        if self._is_optional:
            waited_ns = np.minimum(newest[:, 1], watermark[:, 0] - SENSOR_SKEW_NS)
            watermark[:, 1] = np.maximum(watermark[:, 1], waited_ns)
        lines.newest_ns[rows] = newest
        lines.watermark_ns[rows] = watermark
        for lane in np.flatnonzero(newest >= lines.next_mark_ns.take(rows, axis=0)).tolist():
            row, sensor = divmod(lane, len(self._sensors))
            own = slice(int(lanes.start[lane]), int(lanes.end[lane]))
            lines.mark(int(rows[row]), sensor, lanes.times[own], lanes.values[own])
        self._mark_released(lanes, watermark)

    @staticmethod
    def _mark_released(lanes: Lanes, watermark: Int64) -> None:
        none = not len(lanes.times)
        lanes.released = lanes.end if none else lanes.first_after(np.arange(len(lanes.start)), watermark.ravel())
