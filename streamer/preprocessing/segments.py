"""The open segment of each watch, and one turn of working off readings: what `align` and `presence` share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.preprocessing.intake import Intake
from streamer.preprocessing.lanes import Lanes
from streamer.preprocessing.slots import Slots
from streamer.preprocessing.spec import PreprocessingSpec

#: Readings from which a feed's rate is taken when it declares none.
RATE_READINGS: Final = 16
#: Index from which on an optional sensor is used of which nothing is there.
AWAY: Final = 2**62

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Turn:
    """Readings of some slots, as far as one segment of each goes. Lanes are numbered as in `lanes`.

    Attributes:
        rows: (m,) int64, the slots.
        lanes: their readings.
        run_end: (lanes,) int64, end of each lane's first run.
        closed: (lanes,) bool, whether a gap ended it.
        is_flush: whether these are the last readings for now.
        start: (lanes,) int64, the first reading that each lane still needs; moved on.
        again: (m,) bool, whether a slot's later runs are worth a look; set.
        used: (m,) bool, whether the samples are made of the optional sensor, too; None where none is optional.
        over: (lanes,) bool, `closed`, or nothing more is waited for.
    """

    rows: Int64
    lanes: Lanes
    run_end: Int64
    closed: NDArray[np.bool_]
    is_flush: bool
    start: Int64 = field(init=False)
    again: NDArray[np.bool_] = field(init=False)
    used: NDArray[np.bool_] | None = None
    over: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.lanes.start.copy()
        self.again = np.zeros(len(self.rows), np.bool_)
        self.over = self.closed


class Segments(Slots):
    """Where each slot's open segment stands.

    State: per slot the segment's anchor, rate class and next grid index, the rate of each sensor's feed, and from which
    index on an optional sensor is used; all of it goes with the segment.
    """

    ARRAYS = ("anchor_ns", "next_index", "factor", "feed_hz", "joins")

    def __init__(self, spec: PreprocessingSpec, intake: Intake, *, capacity: int) -> None:
        self._spec = spec
        self._sensors = spec.sensors
        self._is_optional = bool(spec.optional_sensors)
        self._intake = intake
        self.anchor_ns = np.zeros(capacity, np.int64)
        self.next_index = np.zeros(capacity, np.int64)
        #: Fine grid points per grid point; 0 while no segment is open.
        self.factor = np.zeros(capacity, np.int64)
        #: 0 of a sensor that the present samples are made without.
        self.feed_hz = np.zeros((capacity, len(spec.sensors)), np.float64)
        self.joins = np.zeros(capacity, np.int64)

    def reset(self, slot: int) -> None:
        """Forget a slot's segment."""
        self.factor[slot] = self.next_index[slot] = self.anchor_ns[slot] = self.joins[slot] = 0
        self.feed_hz[slot] = 0

    def slowest_hz(self, slots: Int64) -> Float64:
        """(n,) float64, rate of the slowest sensor that each slot's present samples are made of; 0 for none."""
        feed_hz = self.feed_hz[slots]
        slowest: Float64 = feed_hz.min(axis=1)
        return np.where(feed_hz[:, 1] > 0, slowest, feed_hz[:, 0]) if self._is_optional else slowest

    def rate_hz(self, slot: int, times: Int64) -> float:
        """A feed's rate by what its sender declares or by its first readings; 0 while there are too few of them."""
        if self._intake.declared_hz[slot] > 0:
            return float(self._intake.declared_hz[slot])
        if len(times) < RATE_READINGS:
            return 0.0
        return 1e9 / float(np.median(np.diff(times[:RATE_READINGS])))

    def time_ns(self, rows: Int64, index: Int64) -> Int64:
        """Times of the segments' fine grid points."""
        return self.anchor_ns[rows] + index * self._spec.period_ns // np.maximum(self.factor[rows], 1)

    def index_from(self, slot: int, at_ns: int | None) -> int:
        """First fine index to come, on the grid itself, at or after a time; AWAY for none."""
        if at_ns is None:
            return AWAY
        factor = int(self.factor[slot])
        after_ns, to_come = at_ns - int(self.anchor_ns[slot]), int(self.next_index[slot])
        return max(-(-after_ns // self._spec.period_ns), -(-to_come // factor)) * factor


def floor_index(offset_ns: Int64, factor: Int64, period_ns: int) -> Int64:
    """Largest i with i * period_ns // factor <= offset_ns, in integers."""
    return ((offset_ns + 1) * factor - 1) // period_ns
