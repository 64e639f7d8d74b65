"""What a watch's clock may do: which readings go on with its time, and when another time is believed.

Nobody can tell a watch's clock from its readings' times alone, so each sensor of a watch has a *timeline* with these
rules. They look at nothing but that sensor's own readings in their order of arrival.

* **Present.** A reading later than the watermark and at most `bridge_ns` ahead of the newest one goes on with the
  timeline. Every present reading ends the suspicion that the clock moved.
* **Astray.** Any other reading is late, or ahead by a leap. Astray readings in a row that go on with each other might
  be a clock that was set, a watch that was restarted, or a pause. They move the timeline once they are at least
  LEAP_READINGS over `leap_ns`; until then they are held, so that a pause costs no reading. A single reading from
  elsewhere, or a message of them, is dropped when the next present reading comes and has changed nothing else.
* **Known times.** Times that were taken before are what a broker delivers again after a break, or what a watch sends
  from its memory: late readings, and never twice in a result. There a streak must last RETURN_NS, unbroken, and none of
  its readings may be one that came before. To tell, a timeline keeps *marks*: of the first reading in each
  MARK_NS of time one byte that hangs on its time and values. A reading delivered again meets its mark, and the streak
  counts anew; readings of a clock that was set back don't. Readings held in such a streak would be too many: they are
  dropped. While a streak goes on its own readings may come again, if they lead to its last one.

        times          0 ------------------> 100    begins at 0 again, unlike before    delivered again: 50 to 100
        known          [0, newest]                  60 s of other readings: back        marks at 60, 80: late, dropped

A leap ahead is a gap like any other. A step back ends the segment, and all of the watch's sensors begin anew.

Limits. A clock set back by less than RETURN_NS into known times is deaf until it has caught up, and one whose readings
pause more often than that does not move a timeline back at all. Marks reach MARKS times MARK_NS back, near three hours:
what is delivered again from before that for a minute is taken for a clock that was set back, and so are readings whose
mark two later clocks have overwritten. Where a clock was set back, readings of before that are delivered again late as
long as they lie behind the present; those that pass it go on with it. Known times are the present stretch, the one
before, and the hull of all older ones. Feeds with steps longer than `bridge_ns` never make a streak, nor a window.

Past 400 lines with its rules written out: they hang together, and nothing else may know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from streamer.preprocessing.lanes import NO_TIMES, NO_VALUES
from streamer.preprocessing.slots import Slots

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
#: Times (n,) and values (n, 3) in their order of arrival.
Arrived = tuple[Int64, Float64]

NEVER: Final = -(2**62)
#: Readings that move a timeline, at least.
LEAP_READINGS: Final = 16
#: Their time, where the timeline has been before.
RETURN_NS: Final = 60_000_000_000
#: Readings of a leap that are held at most; more of them in less time are believed at once.
MOST_HELD: Final = 1024
#: Of these a reading may be the double; others are found out when they are taken.
_LATEST_HELD: Final = 64
#: A leap ahead by more begins another stretch of known times. Shorter ones may be pauses whose readings come later.
STRETCH_NS: Final = 12 * 3_600_000_000_000
#: A sensor this far behind its sibling is taken as absent.
SENSOR_SKEW_NS: Final = 10_000_000_000
MARK_NS: Final = 20_000_000_000
MARKS: Final = 512


class Timelines(Slots):
    """The times of each sensor of many watches.

    State: per slot and sensor the newest time and the watermark, where the present run and the present stretch began,
    earlier stretches, the streak of readings astray, and marks.
    """

    ARRAYS = (
        "newest_ns",
        "watermark_ns",
        "next_mark_ns",
        "began_ns",
        "since_ns",
        "earlier_ns",
        "astray",
        "pending",
        "marks",
    )

    def __init__(self, sensors: int, *, capacity: int, lateness_ns: int, bridge_ns: int, leap_ns: int) -> None:
        """Build the arrays.

        Args:
            sensors: of each watch.
            capacity: slots.
            lateness_ns: how far readings may come out of order.
            bridge_ns: how far ahead of the newest reading the next may be without doubt.
            leap_ns: time over which readings from elsewhere must come until they are believed.
        """
        self.lateness_ns = lateness_ns
        self.bridge_ns = max(bridge_ns, lateness_ns)
        self.leap_ns = leap_ns
        shape = (capacity, sensors)
        self.newest_ns = np.full(shape, NEVER, np.int64)
        self.watermark_ns = np.full(shape, NEVER, np.int64)
        self.next_mark_ns = np.full(shape, NEVER, np.int64)
        self.began_ns = np.full(shape, NEVER, np.int64)
        self.since_ns = np.full(shape, NEVER, np.int64)
        # Two stretches, first and last time of each: the hull of older ones, and the one before the present.
        self.earlier_ns = np.full((*shape, 2, 2), NEVER, np.int64)
        # First time, last time, readings, and whether the latest ones repeat earlier ones.
        self.astray = np.zeros((*shape, 4), np.int64)
        # Marks of the streak astray, by the place's number modulo their own.
        self.pending = np.zeros((*shape, RETURN_NS // MARK_NS + 2), np.uint8)
        # Two bytes for each place, for a clock that was set back comes by again; 0 for none.
        self.marks = np.zeros((*shape, MARKS, 2), np.uint8)

    def reset(self, slot: int) -> None:
        """Forget a slot's times."""
        for name in self.ARRAYS:
            getattr(self, name)[slot] = NEVER if name.endswith("_ns") else 0

    def read(self, slot: int, sensor: int, held: Arrived, arrived: Arrived | None) -> Timeline:
        """One sensor's timeline, to be put through what arrived; `held` is what `write` said was held."""
        times, values = held
        before = len(times)
        if arrived is not None:
            times, values = np.concatenate([times, arrived[0]]), np.concatenate([values, arrived[1]])
        at = (slot, sensor)
        first_ns, last_ns, astray, repeats = self.astray[at].tolist()
        timeline = Timeline(
            lateness_ns=self.lateness_ns,
            bridge_ns=self.bridge_ns,
            leap_ns=self.leap_ns,
            times=times.tolist(),
            values=values,
            before=before,
            is_fed=arrived is not None,
            marks=self.marks[at],
            newest_ns=int(self.newest_ns[at]),
            watermark_ns=int(self.watermark_ns[at]),
            began_ns=int(self.began_ns[at]),
            since_ns=int(self.since_ns[at]),
            earlier_ns=[(first, last) for first, last in self.earlier_ns[at].tolist()],
            first_ns=first_ns,
            last_ns=last_ns,
            astray=astray,
            repeats=bool(repeats),
            pending=self.pending[at],
            held=list(range(before)) if astray else [],
        )
        if not astray:
            # They were held when the clock went back, and are of the present now.
            for i in range(before):
                timeline.take(i)
        return timeline

    def write(self, slot: int, sensor: int, timeline: Timeline) -> None:
        """Keep what became of a timeline."""
        at = (slot, sensor)
        self.newest_ns[at] = timeline.newest_ns
        self.watermark_ns[at] = timeline.watermark_ns
        self.next_mark_ns[at] = _next_mark(timeline.newest_ns)
        self.began_ns[at] = timeline.began_ns
        self.since_ns[at] = timeline.since_ns
        self.earlier_ns[at] = timeline.earlier_ns
        self.astray[at] = timeline.first_ns, timeline.last_ns, timeline.astray, timeline.repeats

    def go_back(self, slot: int, at_ns: int) -> tuple[list[int], int]:
        """Begin a slot's timelines anew at a time; the sensors that do, and how far the newest of them steps back.

        The clock is the watch's: what one sensor proves holds for the others. One that is there already stays.
        """
        steps: dict[int, int] = {}
        for sensor, newest_ns in enumerate(self.newest_ns[slot].tolist()):
            is_there = self.since_ns[slot, sensor] <= at_ns and newest_ns - at_ns <= SENSOR_SKEW_NS
            if newest_ns != NEVER and not is_there:
                timeline = self.read(slot, sensor, (NO_TIMES, NO_VALUES), None)
                timeline.go_back(at_ns)
                self.write(slot, sensor, timeline)
                steps[sensor] = newest_ns - at_ns
        return list(steps), max(steps.values())

    def mark(self, slot: int, sensor: int, times: Int64, values: Float64) -> None:
        """Set the marks of present readings that came in order; to be called when the newest reaches the next mark."""
        marks = self.marks[slot, sensor]
        next_ns = int(self.next_mark_ns[slot, sensor])
        while (i := int(np.searchsorted(times, next_ns))) < len(times):
            _set_mark(marks, int(times[i]) // MARK_NS, _digest(int(times[i]), values[i]))
            next_ns = _next_mark(int(times[i]))
        self.next_mark_ns[slot, sensor] = next_ns


@dataclass(slots=True, kw_only=True)
class Timeline:
    """One sensor's times, reading by reading.

    Attributes:
        times, values: the readings in their order of arrival, those held first.
        before: how many of them were held.
        is_fed: whether there may be others.
        marks: (MARKS, 2) uint8, written to.
        newest_ns, watermark_ns: of the present readings.
        began_ns: first reading since the last leap.
        since_ns: first time of the present stretch.
        earlier_ns: first and last time of the stretches before.
        first_ns, last_ns, astray: the streak of readings astray and how many went ahead in it.
        repeats: whether the streak went back to where it had been, and has not come to its last reading since.
        pending: marks of the streak; written to.
        held: indices of the readings astray that may still be taken.
        kept: indices of the readings taken, in the order of arrival.
        duplicates: readings dropped because one held has their time.
    """

    lateness_ns: int
    bridge_ns: int
    leap_ns: int
    times: list[int]
    values: Float64
    before: int
    is_fed: bool
    marks: NDArray[np.uint8]
    newest_ns: int
    watermark_ns: int
    began_ns: int
    since_ns: int
    earlier_ns: list[tuple[int, int]]
    first_ns: int
    last_ns: int
    astray: int
    repeats: bool
    pending: NDArray[np.uint8]
    held: list[int]
    kept: list[int] = field(default_factory=list)
    duplicates: int = 0

    def take(self, i: int) -> bool:
        """Take or leave a reading; False, and nothing done with it, where it proves that the clock went back."""
        t_ns = self.times[i]
        if self.newest_ns == NEVER or self.watermark_ns < t_ns <= self.newest_ns + self.bridge_ns:
            self._end_streak()
            self._keep(i)
            return True
        if not self._go_astray(i) or not self._is_believed():
            return True
        if t_ns <= self.newest_ns:
            if self.held:
                self.held.pop()
            return False
        self._go_ahead(self.held or [i])
        return True

    def goes_on(self, t_ns: int) -> bool:
        """Whether a reading is beyond doubt."""
        return not self.astray and 0 < t_ns - self.newest_ns <= self.bridge_ns and t_ns > self.watermark_ns

    def keep_all(self, first: int, end: int) -> None:
        """Take readings beyond doubt, each ahead of the one before it."""
        mark = self.newest_ns // MARK_NS
        if self.times[end - 1] // MARK_NS == mark:
            self.kept += range(first, end)
            self.newest_ns = self.times[end - 1]
            self.watermark_ns = max(self.watermark_ns, self.newest_ns - self.lateness_ns)
        else:
            for i in range(first, end):
                self._keep(i)

    def readings(self, indices: list[int]) -> Arrived:
        """Some of the readings."""
        return np.array([self.times[i] for i in indices], np.int64), self.values[np.array(indices, np.intp)]

    def leave(self, i: int) -> None:
        """Undo that a reading, the latest, was taken or held."""
        for indices in (self.kept, self.held):
            if indices and indices[-1] == i:
                indices.pop()

    def go_back(self, at_ns: int) -> None:
        """Begin anew at a time."""
        if not (self.astray and abs(self.first_ns - at_ns) <= SENSOR_SKEW_NS):
            # Its sibling was first to tell; readings of the time before may still come, and are late.
            self.newest_ns += SENSOR_SKEW_NS
        self._end_streak()
        self._begin_stretch(at_ns)
        self.newest_ns = self.watermark_ns = at_ns - 1
        self.began_ns = at_ns

    def _keep(self, i: int) -> None:
        t_ns = self.times[i]
        if self.newest_ns == NEVER:
            self.newest_ns = self.began_ns = self.since_ns = t_ns
            self.watermark_ns = t_ns - self.lateness_ns
        elif t_ns > self.newest_ns:
            if t_ns // MARK_NS > self.newest_ns // MARK_NS:
                _set_mark(self.marks, t_ns // MARK_NS, _digest(t_ns, self.values[i]))
            self.newest_ns = t_ns
            self.watermark_ns = max(self.watermark_ns, t_ns - self.lateness_ns)
        else:
            self.since_ns = min(self.since_ns, t_ns)
        self.kept.append(i)

    def _go_astray(self, i: int) -> bool:
        """Add a reading to the streak astray, or begin one with it; False where it only repeats the streak."""
        t_ns = self.times[i]
        if self.astray and self.first_ns <= t_ns <= self.last_ns - self.lateness_ns * (not self.repeats):
            # Delivered again, if it leads to the streak's last reading. Of something else, the streak must not go on.
            self.repeats = t_ns < self.last_ns
            return False
        if not self.astray or self.repeats or not 0 < t_ns - self.last_ns + self.lateness_ns <= self._reach_ns:
            self.astray, self.first_ns, self.last_ns, self.repeats = 1, t_ns, t_ns, False
            self.held = [i]
            return True
        if t_ns <= self.last_ns and any(self.times[j] == t_ns for j in self.held[-_LATEST_HELD:]):
            self.duplicates += 1
            return False
        if t_ns > self.last_ns:
            place = t_ns // MARK_NS
            if place > self.last_ns // MARK_NS:
                digest = _digest(t_ns, self.values[i])
                if digest in self.marks[place % MARKS]:
                    self.astray, self.first_ns = 0, t_ns
                self.pending[place % len(self.pending)] = digest
            self.astray += 1
            self.last_ns = t_ns
        self.first_ns = min(self.first_ns, t_ns)
        self.held.append(i)
        return True

    @property
    def _reach_ns(self) -> int:
        return self.lateness_ns + self.bridge_ns

    def _is_believed(self) -> bool:
        """Whether the streak astray proves another time; where it is in known times, its readings are let go."""
        known = any(
            first_ns <= self.last_ns and self.first_ns <= last_ns
            for first_ns, last_ns in (*self.earlier_ns, (self.since_ns, self.newest_ns))
        )
        if known:
            self.held.clear()
        too_many = len(self.held) >= MOST_HELD
        lasts = too_many or self.last_ns - self.first_ns >= (RETURN_NS if known else self.leap_ns)
        if too_many and self.astray < LEAP_READINGS:
            # Over and over the same times.
            self._end_streak()
        return lasts and self.astray >= LEAP_READINGS

    def _go_ahead(self, indices: list[int]) -> None:
        first_ns = min(self.times[i] for i in indices)
        if first_ns - self.newest_ns > STRETCH_NS:
            self._begin_stretch(first_ns)
        self.began_ns = first_ns
        self.held = []
        self._end_streak()
        for i in indices:
            self._keep(i)

    def _end_streak(self) -> None:
        if self.astray:
            self._settle_marks()
            self.astray = 0
            self.held.clear()

    def _settle_marks(self) -> None:
        """Make the marks of a streak that is over lasting; while it goes on, its own readings may come again."""
        places = range(self.first_ns // MARK_NS + 1, self.last_ns // MARK_NS + 1)
        for place in places[-len(self.pending) :]:
            _set_mark(self.marks, place, int(self.pending[place % len(self.pending)]))

    def _begin_stretch(self, at_ns: int) -> None:
        older, before = self.earlier_ns
        if older[0] != NEVER:
            before = min(older[0], before[0]), max(older[1], before[1])
        self.earlier_ns = [before, (self.since_ns, self.newest_ns)]
        self.since_ns = at_ns


def take(t_ns: Int64, timelines: Sequence[Timeline]) -> tuple[int, int] | None:
    """Put a message's readings, those after the held ones, through the timelines of its sensors.

    Returns:
        Index of the first reading not taken, for it proves that the clock went back, and the time from which on it is
        believed; None where all were taken.
    """
    bridge_ns = min((timeline.bridge_ns for timeline in timelines), default=0)
    steps = np.diff(t_ns)
    orderly_to = [*(np.flatnonzero((steps <= 0) | (steps > bridge_ns)) + 1).tolist(), len(t_ns)]
    i = turn = 0
    while i < len(t_ns):
        while orderly_to[turn] <= i:
            turn += 1
        first_ns = int(t_ns[i])
        if all(timeline.goes_on(first_ns) for timeline in timelines):
            for timeline in timelines:
                timeline.keep_all(timeline.before + i, timeline.before + orderly_to[turn])
            i = orderly_to[turn]
            continue
        for number, timeline in enumerate(timelines):
            if not timeline.take(timeline.before + i):
                for other in timelines[:number]:
                    other.leave(other.before + i)
                return i, timeline.first_ns if timeline.held else first_ns
        i += 1
    return None


def _next_mark(newest_ns: int) -> int:
    return (newest_ns // MARK_NS + 1) * MARK_NS


def _digest(t_ns: int, values: Float64) -> int:
    """1 to 255, by which a reading is known again."""
    return 1 + crc32(values.tobytes(), t_ns & 0xFFFFFFFF) % 255


def _set_mark(marks: NDArray[np.uint8], place: int, digest: int) -> None:
    both = marks[place % MARKS]
    if digest not in both:
        both[1] = both[0]
        both[0] = digest
