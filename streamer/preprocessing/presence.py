"""Whether a watch's optional sensor is there: which samples are made of it, and which do without.

A watch may have no gyroscope, or switch it off to save its battery. Where the spec allows it, its samples go on then,
with exactly 0 in the gyroscope's channels. Nobody can tell a sensor that is absent from one whose message is under way,
so it is waited for, by the readings' own times: the watermark of the accelerometer says how late it is.

* **At a start** the gyroscope is waited for until the last sample of the first window, SENSOR_SKEW_NS at most: a watch
  that has none waits no longer than with a model that takes none. Of messages longer than half of that, the start waits
  for one more, since the gyroscope's first one may come second. Where it began in the first half of that time,
  the segment begins with both sensors, as if both were needed; else without.
* **While it is used** it is waited for SENSOR_SKEW_NS. A hole of at most `max_gap_ns` is bridged. From a longer one
  on, or where it was given up, samples do without; the segment goes on.
* **When it comes back** it is used from its first reading on, where the hole was at most RETURN_NS: so long it was
  waited for in any case. Else from RETURN_NS after its first reading on, for samples up to there may have been made.
  Its filters begin anew; the segment's grid and rate class stay.

        acc       x x x x x x x x x x x x x x x x x x x x x x x x x x x
        gyro      x x x x                           x x x x x x x x x x
        samples   2 2 2 2 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 2 2 2 2 2    of one sensor, of two
                          |- longer than RETURN_NS -|-RETURN_NS-|

No order of messages changes a sample so long as each sensor's readings are known no later than a bound after the
other's of the same time: 4 s (RETURN_NS less the second over which readings behind a gap must come to be believed), and
at a start half of what is waited. Of what comes later, readings whose samples are made are counted as late.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.preprocessing.intake import Intake
from streamer.preprocessing.segments import AWAY, Segments, Turn, floor_index
from streamer.preprocessing.spec import PreprocessingSpec
from streamer.preprocessing.timelines import NEVER, SENSOR_SKEW_NS

#: After a longer hole a sensor is used so long after its first reading: half of the time for which it is waited for.
RETURN_NS: Final = SENSOR_SKEW_NS // 2

Int64 = NDArray[np.int64]


class Presence:
    """Lets the second of two sensors leave and join in the segments of the first.

    State: none of its own; `joins` and `feed_hz` of the segments.
    """

    def __init__(self, spec: PreprocessingSpec, intake: Intake, segments: Segments) -> None:
        self._spec = spec
        self._intake = intake
        self._segments = segments
        self._start_wait_ns = min(SENSOR_SKEW_NS, (spec.window_len - 1) * spec.period_ns)

    def at_start(self, turn: Turn, row: int) -> bool | tuple[int, int | None]:
        """How many sensors a segment opens with, and from when on the second one is used that comes later; while
        neither can be told, whether a later run is worth a look.

        To be asked where the first sensor has readings. Moves `start` past runs that can't be part of the segment.
        """
        first, second = 2 * row, 2 * row + 1
        slot, times = int(turn.rows[row]), turn.lanes.times
        anchor_ns = int(times[turn.start[first]])
        if turn.run_end[second] > turn.start[second]:
            if times[turn.run_end[second] - 1] >= anchor_ns:
                begin_ns = int(times[turn.start[second]])
                begins = begin_ns <= anchor_ns + self._start_wait_ns // 2
                return (2, None) if begins else (1, _used_from(begin_ns, None))
            if turn.closed[second]:
                turn.start[second] = turn.run_end[second]
                return True
        # What is held back, or astray, may be of this start.
        is_heard = turn.lanes.end[second] > turn.run_end[second] or self._intake.is_astray(slot, 1)
        if not self._is_over(turn, slot, anchor_ns, is_heard=is_heard):
            return False
        turn.start[second] = turn.run_end[second]
        return 1, None

    def attend(self, turn: Turn) -> None:
        """Let the sensor leave and join open segments; sets `used` and `over`.

        Moves `start` past readings that are of no use, and sets `again` where a later run is worth a look.
        """
        segments, rows = self._segments, turn.rows
        is_open = segments.factor[rows] > 0
        used = turn.used = is_open & (segments.feed_hz[rows, 1] > 0)
        given_up = (turn.run_end == turn.lanes.end)[1::2] & self.is_given_up(turn)
        turn.over = turn.closed.copy()
        turn.over[1::2] |= given_up
        has_readings = (turn.run_end > turn.start)[1::2]
        for row in np.flatnonzero((used & turn.over[1::2]) | (is_open & ~used & has_readings)).tolist():
            if used[row]:
                leaves = self._is_worked_off(turn, row)
            else:
                leaves = self._is_useless(turn, row)
                used[row] = not leaves and segments.feed_hz[rows[row], 1] > 0
            if leaves:
                self._leave(turn, row)
                used[row] = False
        # A gap of a sensor that isn't used ends nothing.
        turn.closed = turn.closed.copy()
        turn.closed[1::2] &= used

    def is_given_up(self, turn: Turn) -> NDArray[np.bool_]:
        """(m,) bool, whether the sensor has not been heard of for too long, by the other's watermark."""
        lines = self._intake.timelines
        behind_ns = lines.watermark_ns[turn.rows, 0] - lines.newest_ns[turn.rows, 1]
        given_up: NDArray[np.bool_] = behind_ns >= self._patience_ns(turn)
        return given_up

    def goes_on(self, turn: Turn, used: NDArray[np.bool_], first: Int64, horizon: Int64) -> NDArray[np.bool_]:
        """(m,) bool, where this turn goes to what the sensor had before it left, or to where it joins.

        Args:
            turn: the turn.
            used: (m,) bool, of the turn.
            first: (m,) int64, fine index of the turn's first sample.
            horizon: (m, 2) int64, last index that each sensor can supply.
        """
        joins = self._segments.joins[turn.rows]
        leaves = used & turn.over[1::2] & (horizon[:, 1] <= horizon[:, 0])
        return leaves | (~used & (first < joins) & (joins <= horizon[:, 0]))

    def note_passed(self, rows: Int64, used: NDArray[np.bool_]) -> None:
        """Tell the intake up to which time samples are made without the sensor: its readings there are late."""
        made_ns = self._segments.time_ns(rows, self._segments.next_index[rows] - 1)
        self._intake.passed_ns[rows] = np.where((self._segments.factor[rows] > 0) & ~used, made_ns, NEVER)

    def _patience_ns(self, turn: Turn) -> int:
        return min(SENSOR_SKEW_NS, self._spec.max_gap_ns + 1) if turn.is_flush else SENSOR_SKEW_NS

    def _is_over(self, turn: Turn, slot: int, anchor_ns: int, *, is_heard: bool) -> bool:
        """Whether a start has waited for long enough for the sensor."""
        waited_ns = int(self._intake.timelines.watermark_ns[slot, 0]) - anchor_ns
        if waited_ns >= self._patience_ns(turn):
            return True
        if is_heard or waited_ns < self._start_wait_ns:
            return False
        # Not by one long message, for the other sensor's may come behind it.
        return turn.is_flush or int(self._intake.before_ns[slot]) - anchor_ns >= self._start_wait_ns // 2

    def _is_worked_off(self, turn: Turn, row: int) -> bool:
        """Whether all samples are made that the run of a sensor in use reaches."""
        slot, segments = int(turn.rows[row]), self._segments
        offset_ns = turn.lanes.times[turn.run_end[2 * row + 1] - 1] - segments.anchor_ns[slot]
        return bool(segments.next_index[slot] > floor_index(offset_ns, segments.factor[slot], self._spec.period_ns))

    def _is_useless(self, turn: Turn, row: int) -> bool:
        """Whether the run of a sensor that is back is over before it joins; joins it, where its rate is known."""
        slot, segments, lane = int(turn.rows[row]), self._segments, 2 * row + 1
        run = turn.lanes.times[turn.start[lane] : turn.run_end[lane]]
        if segments.joins[slot] == AWAY:
            segments.joins[slot] = segments.index_from(slot, _used_from(int(run[0]), None))
        if segments.next_index[slot] < segments.joins[slot]:
            return False
        at = np.array([slot])
        ends_before = bool(run[-1] < segments.time_ns(at, segments.next_index[at])[0])
        rate_hz = segments.rate_hz(slot, run)
        if turn.over[lane] and (ends_before or not rate_hz):
            return True
        segments.feed_hz[slot, 1] = rate_hz
        return False

    def _leave(self, turn: Turn, row: int) -> None:
        """End the sensor's run; what follows says from when on it is used again."""
        slot, segments, lane = int(turn.rows[row]), self._segments, 2 * row + 1
        end, times = int(turn.run_end[lane]), turn.lanes.times
        segments.feed_hz[slot, 1] = 0
        at_ns = _used_from(int(times[end]), int(times[end - 1])) if turn.closed[lane] else None
        segments.joins[slot] = segments.index_from(slot, at_ns)
        turn.start[lane] = end
        turn.again[row] = True


def _used_from(first_ns: int, last_ns: int | None) -> int:
    """The time from which on a sensor is used that is back.

    Args:
        first_ns: its first reading.
        last_ns: its last reading before, None where it wasn't waited for.
    """
    was_waited_for = last_ns is not None and first_ns - last_ns <= RETURN_NS
    return first_ns if was_waited_for else first_ns + RETURN_NS
