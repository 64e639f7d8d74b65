"""Readings as they come, put in order: what is late or double is dropped, what is too new is held back.

Each sensor of each watch is a *lane* with its own newest time. A reading is *released* when the lane's watermark, its
newest time minus the allowed lateness, passes it; what comes later than that is counted and dropped.

    lateness = 2      arrival   1  2  4  3  6  5  3
                      released     -  1  2  3  4  4      (watermark 4: up to 4, and the last 3 is too late)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.imu import ImuBatch
from streamer.preprocessing.lanes import NO_TIMES, NO_VALUES, Lanes, lay
from streamer.preprocessing.slots import Slots, SlotState
from streamer.preprocessing.spec import Sensor

NEVER: Final = -(2**62)
#: A sensor this far behind its sibling is taken as absent; what waits for it is dropped, so that it stays bounded.
SENSOR_SKEW_NS: Final = 10_000_000_000

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(slots=True)
class IntakeCounts:
    """Readings dropped since the counts were last taken; one of both sensors counts once."""

    late: int = 0
    duplicate: int = 0


class Intake(Slots):
    """The readings that later samples still need, in order, for many watches.

    State: per lane the newest time, the watermark and the readings; per slot the rate its sender declares, and since
    when and until when it has sent nothing but readings of a sensor that the windows are not made of.
    """

    ARRAYS = ("declared_hz", "newest_ns", "watermark_ns", "useless_ns")

    def __init__(self, sensors: Sequence[Sensor], *, capacity: int, lateness_ns: int) -> None:
        self._sensors = tuple(sensors)
        self._lateness_ns = lateness_ns
        self._counts = IntakeCounts()
        self.declared_hz = np.zeros(capacity, np.float64)
        self.newest_ns = np.full((capacity, len(sensors)), NEVER, np.int64)
        self.watermark_ns = np.full((capacity, len(sensors)), NEVER, np.int64)
        self.useless_ns = np.full((capacity, 2), NEVER, np.int64)
        self._times: list[Int64] = [NO_TIMES] * (capacity * len(sensors))
        self._values: list[Float64] = [NO_VALUES] * (capacity * len(sensors))

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` slots."""
        more = (capacity - len(self.declared_hz)) * len(self._sensors)
        super().grow(capacity)
        self._times += [NO_TIMES] * more
        self._values += [NO_VALUES] * more

    def export_rows(self, rows: Int64) -> SlotState:
        """A copy of some slots' rows and of the readings they still need, laid end to end with their numbers."""
        state = super().export_rows(rows)
        for number, sensor in enumerate(self._sensors):
            lanes = [slot * len(self._sensors) + number for slot in rows.tolist()]
            times = [self._times[lane] for lane in lanes]
            state[f"{sensor}_lengths"] = np.array([len(t) for t in times], np.int64)
            state[f"{sensor}_times"] = np.concatenate([NO_TIMES, *times])
            state[f"{sensor}_values"] = np.concatenate([NO_VALUES, *(self._values[lane] for lane in lanes)])
        return state

    def import_rows(self, rows: Int64, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Put what `export_rows` gave into as many slots."""
        super().import_rows(rows, state)
        for number, sensor in enumerate(self._sensors):
            # The last piece, behind the last end, is empty: no slots give no pieces.
            ends = np.cumsum(state[f"{sensor}_lengths"].astype(np.int64))
            times = np.split(state[f"{sensor}_times"].astype(np.int64), ends)[:-1]
            values = np.split(state[f"{sensor}_values"].astype(np.float64), ends)[:-1]
            for slot, slot_times, slot_values in zip(rows.tolist(), times, values, strict=True):
                lane = slot * len(self._sensors) + number
                self._times[lane], self._values[lane] = slot_times.copy(), slot_values.copy()

    def reset(self, slot: int) -> None:
        """Forget a slot's readings."""
        self.declared_hz[slot] = 0
        self.newest_ns[slot] = self.watermark_ns[slot] = self.useless_ns[slot] = NEVER
        for lane in self._lanes_of(slot):
            self._times[lane], self._values[lane] = NO_TIMES, NO_VALUES

    def take_counts(self) -> IntakeCounts:
        """The counts since the last call of this."""
        counts, self._counts = self._counts, IntakeCounts()
        return counts

    def push(self, slots: Sequence[int], batches: Sequence[ImuBatch]) -> Lanes:
        """Lanes of distinct slots with one batch added to each, in order and released as far as may be."""
        width = len(self._sensors)
        times: list[Int64] = []
        values: list[Float64] = []
        lengths: list[int] = []
        for slot, batch in zip(slots, batches, strict=True):
            if batch.rate_hz is not None:
                self.declared_hz[slot] = batch.rate_hz
            self._note_useless(slot, batch)
            lane = slot * width
            for readings in (batch.acc, batch.gyro)[:width]:
                carried = self._times[lane]
                times.append(carried)
                values.append(self._values[lane])
                if readings is None:
                    lengths.append(len(carried))
                else:
                    times.append(batch.t_ns)
                    values.append(readings)
                    lengths.append(len(carried) + len(readings))
                lane += 1
        rows = np.asarray(slots, np.int64)
        lanes = lay(times, values, lengths)
        steps = np.diff(lanes.times)
        inner = lanes.end[:-1] - 1
        steps[inner[(inner >= 0) & (inner < len(steps))]] = 1
        if len(steps) and int(steps.min()) <= 0:
            lanes = self._put_in_order(rows, batches, lanes)
        self._release(rows, lanes, self._lateness_ns)
        return lanes

    def flush(self, slots: Sequence[int]) -> Lanes:
        """Lanes of slots that have gone quiet or ended: what lateness still held back is released."""
        rows = np.asarray(slots, np.int64)
        lanes = self._lay_carried(rows)
        self._release(rows, lanes, 0)
        return lanes

    def carried(self, rows: Int64) -> Lanes:
        """Lanes of slots as they are, released as far as they were."""
        lanes = self._lay_carried(rows)
        self._mark_released(rows, lanes)
        return lanes

    def keep(self, rows: Int64, lanes: Lanes, start: Int64) -> None:
        """Carry the readings that later samples need; copied, so that a message's memory is let go."""
        width = len(self._sensors)
        bounds = zip(start.tolist(), lanes.end.tolist(), strict=True)
        numbers = [slot * width + sensor for slot in rows.tolist() for sensor in range(width)]
        for number, (first, end) in zip(numbers, bounds, strict=True):
            self._times[number] = lanes.times[first:end].copy()
            self._values[number] = lanes.values[first:end].copy()

    def missing_sensor(self, slots: Sequence[int]) -> list[int]:
        """The slots in which a sensor has been wanting for longer than SENSOR_SKEW_NS."""
        rows = np.asarray(slots, np.int64)
        newest = self.newest_ns[rows]
        behind = newest.max(axis=1, initial=NEVER) - newest.min(axis=1) > SENSOR_SKEW_NS
        useless = self.useless_ns[rows, 1] - self.useless_ns[rows, 0] > SENSOR_SKEW_NS
        return [
            slots[i]
            for i in np.flatnonzero(behind | useless).tolist()
            if useless[i] or self._waited_ns(slots[i]) > SENSOR_SKEW_NS
        ]

    def _note_useless(self, slot: int, batch: ImuBatch) -> None:
        if batch.acc is not None or "gyro" in self._sensors:
            self.useless_ns[slot] = NEVER
        else:
            first_ns, newest_ns = self.useless_ns[slot].tolist()
            oldest_ns = int(batch.t_ns.min())
            self.useless_ns[slot, 0] = oldest_ns if first_ns == NEVER else min(first_ns, oldest_ns)
            self.useless_ns[slot, 1] = max(newest_ns, int(batch.t_ns.max()))

    def _waited_ns(self, slot: int) -> int:
        newest = self.newest_ns[slot]
        return waited_ns(self._times[self._lanes_of(slot)[int(newest.argmax())]], newest)

    def _lanes_of(self, slot: int) -> range:
        width = len(self._sensors)
        return range(slot * width, (slot + 1) * width)

    def _lay_carried(self, rows: Int64) -> Lanes:
        lanes = [lane for slot in rows.tolist() for lane in self._lanes_of(slot)]
        times = [self._times[lane] for lane in lanes]
        return lay(times, [self._values[lane] for lane in lanes], [len(t) for t in times])

    def _put_in_order(self, rows: Int64, batches: Sequence[ImuBatch], lanes: Lanes) -> Lanes:
        """Sort each disordered lane, dropping and counting readings that come late or twice."""
        width = len(self._sensors)
        times: list[Int64] = []
        values: list[Float64] = []
        for i, (slot, batch) in enumerate(zip(rows.tolist(), batches, strict=True)):
            late = duplicate = 0
            for sensor, readings in enumerate((batch.acc, batch.gyro)[:width]):
                lane = i * width + sensor
                t = lanes.times[lanes.start[lane] : lanes.end[lane]]
                v = lanes.values[lanes.start[lane] : lanes.end[lane]]
                if readings is not None and len(t) > 1 and int(np.diff(t).min()) <= 0:
                    kept, counts = self._merge(slot, sensor, t, len(batch))
                    t, v = t[kept], v[kept]
                    late, duplicate = max(late, counts.late), max(duplicate, counts.duplicate)
                times.append(t)
                values.append(v)
            self._counts.late += late
            self._counts.duplicate += duplicate
        return lay(times, values, [len(t) for t in times])

    def _merge(self, slot: int, sensor: int, t: Int64, fresh: int) -> tuple[NDArray[np.intp], IntakeCounts]:
        """Which of a lane's readings stay, in order of time, and how many of the `fresh` ones at its end do not."""
        carried = len(t) - fresh
        arriving = t[carried:]
        newest = np.concatenate([self.newest_ns[slot, sensor : sensor + 1], arriving])
        newest_before = np.maximum.accumulate(newest)[:-1]
        watermark = np.maximum(newest_before - self._lateness_ns, self.watermark_ns[slot, sensor])
        late = arriving <= watermark
        kept = np.concatenate([np.arange(carried), carried + np.flatnonzero(~late)])
        kept = kept[np.argsort(t[kept], kind="stable")]
        kept = kept[np.diff(t[kept], prepend=NEVER) != 0]
        duplicate = int(np.isin(arriving, t[kept]).sum()) - (len(kept) - carried)
        return kept, IntakeCounts(late=fresh - (len(kept) - carried) - duplicate, duplicate=duplicate)

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


def waited_ns(times: Int64, newest_ns: Int64) -> int:
    """How long the sensor that is ahead has waited for its sibling: since its first reading after the sibling's newest.

    Counted on the readings, so that a watch which pauses isn't taken for one that lost a sensor when it goes on.

    Args:
        times: (n,) int64, readings kept of the sensor that is ahead.
        newest_ns: (sensors,) int64, newest time of each.
    """
    return int(newest_ns.max() - times[np.searchsorted(times, newest_ns.min(), side="right")])
