"""Readings to test with: still watches, swinging watches, and a seeded worst of feeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.imu import STANDARD_GRAVITY, ImuBatch
from tests.bundles import POSTURES, START_NS

SECOND: Final = 1_000_000_000
MS: Final = 1_000_000


def times(seconds: float, rate_hz: float = 20.0, *, start_s: float = 0.0) -> NDArray[np.int64]:
    """(n,) int64 ns: a perfect clock from START_NS + start_s on."""
    n = round(seconds * rate_hz)
    offsets: NDArray[np.int64] = np.rint(np.arange(n) * (1e9 / rate_hz)).astype(np.int64)
    return offsets + (START_NS + round(start_s * SECOND))


def still(
    posture: str, seconds: float, *, start_s: float = 0.0, rate_hz: float = 20.0, device: str = "wrist"
) -> ImuBatch:
    """A watch that rests in a posture of the posture bundle."""
    t_ns = times(seconds, rate_hz, start_s=start_s)
    acc = np.zeros((len(t_ns), 3))
    acc[:, POSTURES.index(posture)] = STANDARD_GRAVITY
    return ImuBatch(device, t_ns, acc, np.zeros_like(acc))


def noise(n: int, *, rate_hz: float = 50.0, seed: int = 0, device: str = "wrist") -> ImuBatch:
    """N evenly spaced readings of noise."""
    rng = np.random.default_rng(seed)
    return ImuBatch(device, times(n / rate_hz, rate_hz), rng.normal(size=(n, 3)) * 3, rng.normal(size=(n, 3)))


def joined(*batches: ImuBatch) -> ImuBatch:
    """Batches of both sensors, one after the other."""
    acc = np.concatenate([b.acc for b in batches if b.acc is not None])
    gyro = np.concatenate([b.gyro for b in batches if b.gyro is not None])
    return ImuBatch(batches[0].device_id, np.concatenate([b.t_ns for b in batches]), acc, gyro)


def rows(batch: ImuBatch, index: NDArray[np.integer] | NDArray[np.bool_]) -> ImuBatch:
    """The readings at some indices."""
    return ImuBatch(
        batch.device_id,
        batch.t_ns[index],
        None if batch.acc is None else batch.acc[index],
        None if batch.gyro is None else batch.gyro[index],
        batch.rate_hz,
    )


@dataclass(frozen=True)
class Feed:
    """How badly one watch behaves.

    Attributes:
        n: readings.
        rate_hz: nominal rate.
        jitter: standard deviation of the intervals, in periods.
        holes: for each stream (reading, length in ns): the clock jumps ahead before that reading.
        repeats: readings that are sent twice.
        disorder_ns: readings may arrive this much later than newer ones.
        separate: the sensors come in messages of their own, with times of their own.
        declares_rate: each message says the nominal rate.
        seed: of the values and the jitter.
    """

    n: int
    rate_hz: float
    jitter: float
    holes: tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]
    repeats: tuple[int, ...]
    disorder_ns: int
    separate: bool
    declares_rate: bool
    seed: int

    def streams(self, device: str) -> list[ImuBatch]:
        """The readings in their order of arrival: one stream, or one per sensor."""
        rng = np.random.default_rng(self.seed)
        rate_hz = self.rate_hz if self.declares_rate else None
        streams = []
        for stream in range(1 + self.separate):
            acc, gyro = rng.normal(size=(self.n, 3)) * 3, rng.normal(size=(self.n, 3))
            streams.append(ImuBatch(device, self._times(stream, rng), acc, gyro, rate_hz))
        if self.separate:
            first, second = streams
            streams = [
                ImuBatch(device, first.t_ns, first.acc, None, rate_hz),
                ImuBatch(device, second.t_ns, None, second.gyro, rate_hz),
            ]
        return [self._disturbed(stream, rng) for stream in streams]

    def _times(self, stream: int, rng: np.random.Generator) -> NDArray[np.int64]:
        steps = rng.normal(1e9 / self.rate_hz, self.jitter * 1e9 / self.rate_hz, self.n).clip(1e6)
        t_ns = START_NS + np.cumsum(steps).astype(np.int64)
        for reading, length_ns in self.holes[stream]:
            t_ns[reading % self.n :] += length_ns
        return t_ns

    def _disturbed(self, stream: ImuBatch, rng: np.random.Generator) -> ImuBatch:
        order = np.sort(np.concatenate([np.arange(self.n), np.array(self.repeats, np.int64) % self.n]))
        delay = rng.uniform(0, max(self.disorder_ns, 1), len(order)).astype(np.int64)
        return rows(stream, order[np.argsort(stream.t_ns[order] + delay, kind="stable")])


def feeds(*, disorder_ns: int, most: int = 500) -> st.SearchStrategy[Feed]:
    """Feeds of 10 to 200 Hz with jitter, holes short and long, repeats and bounded disorder."""
    hole = st.tuples(st.integers(0, most), st.sampled_from([100 * MS, 500 * MS, 2 * SECOND, 3 * SECOND]))
    # Two holes of 3 s and a message of 2 s keep one sensor within the 10 s by which the other may be ahead.
    holes = st.lists(hole, max_size=2).map(tuple)
    return st.builds(
        Feed,
        n=st.integers(40, most),
        rate_hz=st.sampled_from([10.0, 20.0, 25.0, 50.0, 52.0, 100.0, 104.0, 200.0]),
        jitter=st.sampled_from([0.0, 0.05, 0.3]),
        holes=st.tuples(holes, holes),
        repeats=st.lists(st.integers(0, most), max_size=5).map(tuple),
        disorder_ns=st.sampled_from([0, disorder_ns]),
        separate=st.booleans(),
        declares_rate=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
    )


#: Numbers to cut, group and interleave by, taken in turn and over again.
turns = st.lists(st.integers(1, 60), min_size=1, max_size=12)


def messages(streams: Sequence[ImuBatch], sizes: Sequence[int], *, most_ns: int = 2 * SECOND) -> list[ImuBatch]:
    """A watch's streams cut into messages of these sizes, in the order of their last reading's time.

    A stream's own order stays. Messages of separate sensors span `most_ns` at most, so that neither is far ahead.
    """
    cut: list[tuple[int, int, ImuBatch]] = []
    for stream in streams:
        first = turn = newest_ns = 0
        while first < len(stream):
            size = sizes[turn % len(sizes)]
            if len(streams) > 1:
                in_time = stream.t_ns[first : first + size] <= stream.t_ns[first] + most_ns
                size = int(np.argmin(np.append(in_time, False)))
            message = stream[first : first + size]
            newest_ns = max(newest_ns, int(message.t_ns.max()))
            cut.append((newest_ns, len(cut), message))
            first, turn = first + size, turn + 1
    return [message for _, _, message in sorted(cut, key=lambda entry: entry[:2])]


def interleaved(watches: Sequence[Sequence[ImuBatch]], by: Sequence[int]) -> list[ImuBatch]:
    """All watches' messages in one order of arrival; each watch's own order stays."""
    waiting = [list(reversed(watch)) for watch in watches]
    order: list[ImuBatch] = []
    while any(waiting):
        left = [watch for watch in waiting if watch]
        order.append(left[by[len(order) % len(by)] % len(left)].pop())
    return order
