"""Readings of many watches' sensors in one pair of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T", bound=np.generic)
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

NO_TIMES: Final = np.empty(0, np.int64)
NO_VALUES: Final = np.empty((0, 3), np.float64)
_LARGEST: Final = int(np.iinfo(np.int64).max)


@dataclass(slots=True, eq=False)
class Lanes:
    """Readings of some slots' lanes, laid end to end: lane i is times[start[i]:end[i]].

    Attributes:
        times: (n,) int64 ns, ascending within a lane.
        values: (n, 3) float64, (n, 6) where both sensors are in one lane.
        start, end: (lanes,) int64.
        steady: whether it is known that no step within a lane is longer than a gap.
        released: (lanes,) int64, end of the readings that the watermark has passed.
    """

    times: Int64
    values: Float64
    start: Int64
    end: Int64
    steady: bool = False
    released: Int64 = field(init=False)
    _keys: Int64 | None = None

    def first_after(self, lane: Int64, t_ns: Int64) -> Int64:
        """Index of each lane's first reading after each time; the lane's end where there is none."""
        if len(self.start) == 1:
            return np.searchsorted(self.times, t_ns, side="right")
        # One search over all lanes: times count from the lane's first reading, lanes are set apart by `span`.
        span = _LARGEST // (len(self.start) + 1)
        base = self.times[np.minimum(self.start, len(self.times) - 1)]
        if self._keys is None:
            lengths = self.end - self.start
            self._keys = np.minimum(self.times - np.repeat(base, lengths), span - 1)
            self._keys += np.repeat(np.arange(len(self.start)) * span, lengths)
        wanted = np.minimum(np.maximum(t_ns - base[lane], -1), span - 1)
        wanted += lane * span
        after: Int64 = np.searchsorted(self._keys, wanted, side="right")
        return after

    def last_at_or_before(self, lane: Int64, t_ns: Int64) -> Int64:
        """Index of each lane's last reading at or before each time; the lane's first where there is none."""
        at: Int64 = np.maximum(self.first_after(lane, t_ns) - 1, self.start[lane])
        return at

    def paired(self, lane: Int64, run_end: Int64, may_be: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Lanes]:
        """Which of some lanes have readings of the same times as the lane behind; both in one, of six values.

        A cubic's weights hang on times alone, and a row of six is fetched as fast as one of three.

        Args:
            lane: (rows,) the first of the two.
            run_end: (lanes,) end of each lane's readings that count.
            may_be: (rows,) bool, which rows to look at.

        Returns:
            (rows,) bool, and a lane for each row where it is True.
        """
        start, length = self.start[lane], run_end[lane] - self.start[lane]
        further = self.start[lane + 1] - start
        paired: NDArray[np.bool_] = may_be & (length == run_end[lane + 1] - self.start[lane + 1])
        while True:
            number = length[paired]
            end: Int64 = number.cumsum()
            own = np.arange(number.sum()) + np.repeat(start[paired] - end + number, number)
            other = own + np.repeat(further[paired], number)
            apart = self.times[own] != self.times[other]
            if not apart.any():
                values = np.concatenate([self.values.take(own, axis=0), self.values.take(other, axis=0)], axis=1)
                return paired, Lanes(self.times[own], values, end - number, end)
            # Without those rows once more.
            paired[np.flatnonzero(paired)[np.searchsorted(end, np.flatnonzero(apart), side="right")]] = False


def spread(each: NDArray[_T], n: Int64) -> NDArray[_T]:
    """Each row's value for each of its n samples; one row's stays as it is, to be broadcast where it meets them."""
    return each if len(each) == 1 else np.repeat(each, n)


def lay(times: list[Int64], values: list[Float64], lengths: list[int]) -> Lanes:
    """Lanes from parts laid end to end; `lengths` says how many readings of them each lane has."""
    numbers = np.array(lengths, np.int64)
    end = numbers.cumsum()
    return Lanes(np.concatenate(times), np.concatenate(values), end - numbers, end)


class Readings:
    """Some readings of each lane: times (n,) int64 and values (n, 3) float64."""

    def __init__(self, lanes: int) -> None:
        self.times: list[Int64] = [NO_TIMES] * lanes
        self.values: list[Float64] = [NO_VALUES] * lanes

    def grow(self, lanes: int) -> None:
        """Make room for `lanes` lanes."""
        more = lanes - len(self.times)
        self.times += [NO_TIMES] * more
        self.values += [NO_VALUES] * more

    def put(self, lane: int, times: Int64, values: Float64) -> None:
        """Take a lane's readings instead of those before; copied, so that what they are part of is let go."""
        self.times[lane], self.values[lane] = times.copy(), values.copy()

    def clear(self, lane: int) -> None:
        """Forget a lane's readings."""
        self.times[lane], self.values[lane] = NO_TIMES, NO_VALUES

    def export(self, lanes: Sequence[int]) -> tuple[Int64, Int64, Float64]:
        """Numbers, times and values of some lanes' readings, laid end to end."""
        times, values = [self.times[lane] for lane in lanes], [self.values[lane] for lane in lanes]
        lengths = np.array([len(t) for t in times], np.int64)
        return lengths, np.concatenate([NO_TIMES, *times]), np.concatenate([NO_VALUES, *values])

    def import_(self, lanes: Sequence[int], lengths: Int64, times: Int64, values: Float64) -> None:
        """Put what `export` gave into as many lanes."""
        # The last piece, behind the last end, is empty: no lanes give no pieces.
        ends = np.cumsum(lengths)
        for lane, t, v in zip(lanes, np.split(times, ends)[:-1], np.split(values, ends)[:-1], strict=True):
            self.put(lane, t, v)
