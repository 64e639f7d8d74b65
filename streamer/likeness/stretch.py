"""Some twenty seconds of one watch's readings, gathered from its messages as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from streamer.imu import ImuBatch

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
SensorName = Literal["acc", "gyro"]

#: Time of a stretch by the readings' own clock, pauses left out.
LENGTH_NS: Final = 20_000_000_000
#: Readings of a stretch: of one sensor at most, and of a slow one at least.
MOST: Final = 2048
_LEAST: Final = 64
#: A rest at the end of a recording that is long enough.
_LEAST_REST_NS: Final = 5_000_000_000
#: A longer step is a pause, and counts as this much.
PAUSE_NS: Final = 2_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Readings of one sensor.

    Attributes:
        t_ns: (n,) int64, in the order of arrival.
        values: (n, 3) float64, m/s² or rad/s.
        starts: (m,) int64, index of each message's first reading.
    """

    t_ns: Int64
    values: Float64
    starts: Int64

    def __len__(self) -> int:
        return len(self.t_ns)

    def in_order(self) -> tuple[Int64, Float64]:
        """Times, ascending and each once, and their values."""
        steps = np.diff(self.t_ns)
        if (steps > 0).all():
            return self.t_ns, self.values
        order = np.argsort(self.t_ns, kind="stable")
        order = order[np.diff(self.t_ns[order], prepend=-1) > 0]
        return self.t_ns[order], self.values[order]


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """What is judged at once.

    Attributes:
        acc, gyro: None where nothing came of that sensor.
        declared_hz: what the watch says that its rate is, None where it doesn't.
        length_ns: its time, pauses left out.
    """

    acc: Track | None
    gyro: Track | None
    declared_hz: float | None
    length_ns: int

    @property
    def tracks(self) -> dict[SensorName, Track]:
        """The sensors that came."""
        both: dict[SensorName, Track | None] = {"acc": self.acc, "gyro": self.gyro}
        return {name: track for name, track in both.items() if track is not None}


@dataclass(slots=True)
class _Lane:
    """One sensor's readings on their way."""

    times: list[Int64] = field(default_factory=list)
    values: list[Float64] = field(default_factory=list)
    n: int = 0
    last_ns: int = 0
    length_ns: int = 0

    def add(self, t_ns: Int64, values: Float64) -> None:
        first_ns, last_ns = int(t_ns[0]), int(t_ns[-1])
        if self.n:
            self.length_ns += min(max(first_ns - self.last_ns, 0), PAUSE_NS)
        self.length_ns += max(last_ns - first_ns, 0)
        self.last_ns = last_ns
        self.times.append(t_ns)
        self.values.append(values)
        self.n += len(t_ns)

    def track(self) -> Track | None:
        if not self.n:
            return None
        ends = np.cumsum([len(times) for times in self.times])
        starts = np.concatenate([[0], ends[:-1]])
        t_ns, values = np.concatenate(self.times)[:MOST], np.concatenate(self.values)[:MOST]
        return Track(t_ns, values, starts[starts < MOST])


class Gathering:
    """Readings of one watch until there are enough for a stretch.

    State: the messages so far; they are kept as they are, and put together once.
    """

    def __init__(self) -> None:
        self._acc = _Lane()
        self._gyro = _Lane()
        self._declared_hz: float | None = None

    def add(self, batch: ImuBatch) -> bool:
        """Take a message; whether there is enough."""
        if batch.rate_hz is not None:
            self._declared_hz = batch.rate_hz
        for lane, values in ((self._acc, batch.acc), (self._gyro, batch.gyro)):
            if values is not None and len(values) and lane.n < MOST:
                lane.add(batch.t_ns, values)
        lanes = [lane for lane in (self._acc, self._gyro) if lane.n]
        if max(lane.n for lane in lanes) >= MOST:
            return True
        longest_ns = max(lane.length_ns for lane in lanes)
        # Sensors may come in messages of their own, each of many seconds.
        both = min(lane.length_ns for lane in lanes) >= LENGTH_NS // 2
        return len(self) >= _LEAST and longest_ns >= (LENGTH_NS if both else 2 * LENGTH_NS)

    def __len__(self) -> int:
        return max(self._acc.n, self._gyro.n)

    def stretch(self) -> Stretch:
        """What has been gathered."""
        length_ns = min(max(self._acc.length_ns, self._gyro.length_ns), 2 * LENGTH_NS)
        return Stretch(self._acc.track(), self._gyro.track(), self._declared_hz, length_ns)


def stretches_of(messages: Iterable[ImuBatch]) -> Iterator[Stretch]:
    """A recording's stretches, one after the other; a rest at its end where that is long enough."""
    gathering = Gathering()
    for message in messages:
        if gathering.add(message):
            yield gathering.stretch()
            gathering = Gathering()
    rest = gathering.stretch()
    if rest.length_ns >= _LEAST_REST_NS or len(gathering) >= _LEAST:
        yield rest
