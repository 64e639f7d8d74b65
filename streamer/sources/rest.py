"""What acceleration says of its own unit: gravity is 1 g, and is there all the time.

An acceleration is looked at second by second, by its readings' times. A second's *mean* vector is gravity and little
else, since nobody speeds up for long; its *spread* says whether the wearer kept still.

    sensor                             judged by                        says
    unit and gravity are documented    mean of half a g or more         as documented
                                       mean of less than a quarter      no gravity in it
                                       about 1 where 9.8 is due         g, at rest; and m/s² likewise
    unit documented, gravity not       the same                         the same
    gravity documented, unit not       mean of about 1 or about 9.8     that unit, also in motion
    neither                            the same, or nothing, at rest    that unit, or no gravity

One second's verdict may err, a turn of the hand or a lift, so several must agree; `needed` says how many. A verdict
that contradicts the ones before it halves their weight, so that a sender that was set otherwise is followed within
seconds. While verdicts contradict each other, or the second under way is beyond what anybody does, nothing is certain.

All sums are of integers, thousandths of the unit: they come out the same however readings were cut into messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Annotated, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from streamer.imu import STANDARD_GRAVITY
from streamer.wire.senders.streams import Sensor

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: What can be said of an acceleration; the numbers stand in the state of watches.
UNSETTLED: Final = 0
MS2: Final = 1
G: Final = 2
NO_GRAVITY: Final = 3
_GRAVITY: Final = {MS2: STANDARD_GRAVITY, G: 1.0}

SECOND_NS: Final = 1_000_000_000
#: Readings without which a second says nothing.
_LEAST: Final = 5
#: A hole, or a step back, begins another second.
_HOLE_NS: Final = 500_000_000
_MOST_VOTES: Final = 8
#: Gravities that the mean of a second under way may have without anybody's wondering.
_LEAST_G: Final = 0.2
_MOST_G: Final = 3.0
_MOMENT_NS: Final = 400_000_000


class Second(NamedTuple):
    """A second of acceleration, in its own unit: length of the mean vector, and root of the summed variances."""

    mean: float
    spread: float


class _Sums(msgspec.Struct, array_like=True):
    """The second under way: its first and last time, and sums over thousandths of the unit."""

    first_ns: int
    last_ns: int
    n: Annotated[int, Meta(ge=0)] = 0
    x: int = 0
    y: int = 0
    z: int = 0
    squares: int = 0

    def add(self, t_ns: Int64, milli: Int64) -> None:
        if len(t_ns):
            self.last_ns = int(t_ns[-1])
            self.n += len(t_ns)
            x, y, z = milli.sum(axis=0).tolist()
            self.x, self.y, self.z = self.x + x, self.y + y, self.z + z
            self.squares += int((milli**2).sum())

    def second(self) -> Second:
        length_2 = (self.x**2 + self.y**2 + self.z**2) / self.n**2
        return Second(sqrt(length_2) / 1000, sqrt(max(self.squares / self.n - length_2, 0.0)) / 1000)


class Evidence(msgspec.Struct, array_like=True):
    """What the seconds of one acceleration have said.

    State: votes for MS2, G and NO_GRAVITY, and the second under way.
    """

    votes: Annotated[list[int], Meta(min_length=3, max_length=3)] = msgspec.field(default_factory=lambda: [0, 0, 0])
    sums: _Sums | None = None

    def hear(self, sensor: Sensor, t_ns: Int64, values: Float64) -> None:
        """Take readings in.

        Args:
            sensor: whose they are.
            t_ns: (n,) int64, in the order of arrival.
            values: (n, 3) float64, as sent.
        """
        for second in self._seconds(t_ns, values):
            verdict = judge(sensor, second)
            if verdict != UNSETTLED:
                for i, votes in enumerate(self.votes):
                    self.votes[i] = min(votes + 1, _MOST_VOTES) if i == verdict - 1 else votes // 2

    def settled(self, sensor: Sensor) -> int:
        """What is settled; UNSETTLED while the seconds are too few or contradict each other."""
        cast = [i for i, votes in enumerate(self.votes) if votes]
        if len(cast) != 1:
            return UNSETTLED
        verdict = cast[0] + 1
        return verdict if self.votes[cast[0]] >= needed(sensor, verdict) else UNSETTLED

    def is_doubtful(self, unit: int) -> bool:
        """Whether what has come does not go together with a unit, so that readings had better wait."""
        if sum(map(bool, self.votes)) > 1:
            return True
        gravity = _GRAVITY.get(unit)
        if gravity is None or self.sums is None or self.sums.n < _LEAST:
            return False
        gravities = self.sums.second().mean / gravity
        # A jump is without gravity for a moment.
        return gravities > _MOST_G or (gravities < _LEAST_G and self.sums.last_ns - self.sums.first_ns > _MOMENT_NS)

    def _seconds(self, t_ns: Int64, values: Float64) -> Iterator[Second]:
        """The seconds that readings complete."""
        if not len(t_ns):
            return
        milli = np.rint(values * 1000).astype(np.int64)
        last_ns = int(t_ns[0]) if self.sums is None else self.sums.last_ns
        steps = np.diff(t_ns, prepend=last_ns)
        breaks = set(np.flatnonzero((steps < 0) | (steps > _HOLE_NS)).tolist())
        first = 0
        for i, at_ns in enumerate(t_ns.tolist()):
            if i in breaks:
                self.sums, first = None, i
            elif self.sums is not None and at_ns - self.sums.first_ns >= SECOND_NS:
                self.sums.add(t_ns[first:i], milli[first:i])
                if self.sums.n >= _LEAST:
                    yield self.sums.second()
                self.sums, first = None, i
            if self.sums is None:
                self.sums = _Sums(at_ns, at_ns)
        if self.sums is not None:
            self.sums.add(t_ns[first:], milli[first:])


def judge(sensor: Sensor, second: Second) -> int:
    """What one second says; UNSETTLED for nothing."""
    mean, spread = second
    rest = UNSETTLED
    if abs(mean - 1.0) < 0.12 and spread < 0.1:
        rest = G
    elif abs(mean - STANDARD_GRAVITY) < 1.0 and spread < 1.0:
        rest = MS2
    if sensor.unit is None:
        if sensor.sure:
            return G if 0.5 < mean < 1.8 else MS2 if 5.0 < mean < 18.0 else UNSETTLED
        return rest or (NO_GRAVITY if mean + spread < 0.5 else UNSETTLED)
    if rest:
        return rest
    documented = MS2 if sensor.unit == "m/s²" else G
    gravities = mean / _GRAVITY[documented]
    return documented if gravities > 0.5 else NO_GRAVITY if gravities < 0.25 else UNSETTLED


def needed(sensor: Sensor, verdict: int) -> int:
    """Seconds that must agree before a verdict is settled."""
    if verdict == NO_GRAVITY:
        return 3
    as_documented = sensor.unit is not None and verdict == (MS2 if sensor.unit == "m/s²" else G)
    return 1 if sensor.sure or as_documented else 2
