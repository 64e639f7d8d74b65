"""How watches stand between two calls, for whoever looks on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """Copies of what is held of some watches, one row each.

    Attributes:
        devices: n names.
        activity: (n,) int64, place in `ModelBundle.activities`: of a label, a group or unknown; `tracking.NONE` outside
            any bout.
        onset_ns: (n,) int64, start of the current bout.
        confidence: (n,) float64, smoothed probability of the activity at the latest window; of the leader for unknown.
        completeness: (n,) float64, of the latest window.
        latest_ns: (n,) int64, start of the latest window; `bouts.NO_WINDOW` before the first.
        smoothed: (n, labels) float64, smoothed probabilities; zeros before the first window behind a start or a gap.
        passing: (n, passages) float64, the same of the model's passages.
        challenger: (n,) int64, the activity that leads against the current one, `tracking.NONE` for none.
        lead: (n,) int64, windows for which it has led.
        gap_ns: (n,) int64, longest hole since the last change of activity.
        restart_gap_ns: (n,) int64, the hole that ended the last segment, until the next window.
        unfit: (n,) int64, index into `WatchNotes.REASONS`, or `WatchNotes.FIT`.
        newest_ns: (n, sensors) int64, newest reading of each of the model's sensors; `timelines.NEVER` for none.
        feed_hz: (n, sensors) float64, rate that each sensor's feed was taken to have; 0 while that isn't known, and of
            an optional sensor while it isn't used.
        partial: (n,) bool, whether the latest window lacks an optional sensor, in part at least.
        gathered: (n,) int64, grid samples since the segment began; 0 while there is none.
    """

    devices: tuple[str, ...]
    activity: Int64
    onset_ns: Int64
    confidence: Float64
    completeness: Float64
    latest_ns: Int64
    smoothed: Float64
    passing: Float64
    challenger: Int64
    lead: Int64
    gap_ns: Int64
    restart_gap_ns: Int64
    unfit: Int64
    newest_ns: Int64
    feed_hz: Float64
    partial: NDArray[np.bool_]
    gathered: Int64

    def slowest_hz(self, row: int) -> float:
        """Rate of the slowest sensor in use; 0 while none is known."""
        known = self.feed_hz[row][self.feed_hz[row] > 0]
        return float(known.min()) if len(known) else 0.0
