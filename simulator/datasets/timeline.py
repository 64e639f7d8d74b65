"""Times for recordings that come without usable ones."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NANOSECONDS: Final = 1_000_000_000

#: First reading of every recording without a date: 2020-01-01T00:00:00Z, arbitrary. `simulator replay --start now`
#: moves recordings to the present.
EPOCH_NS: Final = 1_577_836_800 * NANOSECONDS

#: Put between pieces that do not continue one another: longer than the holes that models bridge (1 s in the shipped
#: bundles), so that filters and windows start afresh instead of joining two unrelated movements.
PAUSE_NS: Final = 10 * NANOSECONDS


def grid(start_ns: int, readings: int, rate_hz: int) -> NDArray[np.int64]:
    """(readings,) int64 ns: an exact grid from start_ns; rate_hz divides 10^9."""
    return start_ns + np.arange(readings, dtype=np.int64) * (NANOSECONDS // rate_hz)
