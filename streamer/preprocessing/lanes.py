"""Readings of many watches' sensors in one pair of arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

NO_TIMES: Final = np.empty(0, np.int64)
NO_VALUES: Final = np.empty((0, 3), np.float64)


@dataclass(slots=True, eq=False)
class Lanes:
    """Readings of some slots' lanes, laid end to end: lane i is times[start[i]:end[i]].

    Attributes:
        times: (n,) int64 ns, ascending within a lane.
        values: (n, 3) float64.
        start, end: (lanes,) int64.
        released: (lanes,) int64, end of the readings that the watermark has passed.
    """

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


def lay(times: list[Int64], values: list[Float64], lengths: list[int]) -> Lanes:
    """Lanes from parts laid end to end; `lengths` says how many readings of them each lane has."""
    end = np.cumsum(np.asarray(lengths, np.int64))
    return Lanes(np.concatenate(times), np.concatenate(values), end - lengths, end)
