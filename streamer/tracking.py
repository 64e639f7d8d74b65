"""Probabilities over time to bouts of activity, for many watches.

windows     W W W W S W W S S S S S     leading activity after smoothing (W walking, S sitting)
dwell = 2           1     1 2           windows for which another one has led
bouts       [walking      )[sitting     a start is decided at `2`; its onset is the window at `1`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.bundle import Smoothing
from streamer.preprocessing.slots import Slots

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: No bout yet.
NONE: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """What one window each made of some watches.

    Attributes:
        activity: (m,) int64, current activity: label index, len(labels) for unknown, NONE before the first bout.
        previous: (m,) int64, the activity before this window.
        confidence: (m,) float64, smoothed probability of the current activity; of the leader while that is unknown.
        leader: (m,) int64, label with the highest smoothed probability.
        left: (m,) float64, smoothed probability of the previous activity, 0 if that was none or unknown.
        switched: (m,) bool, True where a bout starts.
        onset_ns: (m,) int64, start of the first window of the current bout.
        previous_onset_ns: (m,) int64, the same of the bout before this window.
    """

    activity: Int64
    previous: Int64
    confidence: Float64
    leader: Int64
    left: Float64
    switched: NDArray[np.bool_]
    onset_ns: Int64
    previous_onset_ns: Int64


class ActivityTracker(Slots):
    """Exponential smoothing, two thresholds and a minimum dwell.

    State: per slot the smoothed probabilities, the current activity and its onset, the challenger with its first
    window and its lead. `reset` restarts a slot.

    >>> tracker = ActivityTracker(2, Smoothing(weight=1.0, enter=0.6, leave=0.4, dwell=2), capacity=1)
    >>> one = np.array([0])
    >>> for start, p in ((0, [0.9, 0.1]), (1, [0.9, 0.1]), (2, [0.1, 0.9]), (3, [0.2, 0.8])):
    ...     tracked = tracker.update(one, np.array([p]), np.array([start]))
    ...     print(tracked.activity[0], tracked.switched[0], tracked.onset_ns[0])
    -1 False 0
    0 True 0
    0 False 0
    1 True 2
    """

    ARRAYS = ("smoothed", "started", "activity", "onset_ns", "challenger", "lead", "challenger_onset_ns")

    def __init__(self, labels: int, smoothing: Smoothing, *, capacity: int) -> None:
        self.unknown = labels
        self._smoothing = smoothing
        self.smoothed = np.zeros((capacity, labels))
        self.started = np.zeros(capacity, np.bool_)
        self.activity = np.full(capacity, NONE)
        self.onset_ns = np.zeros(capacity, np.int64)
        self.challenger = np.full(capacity, NONE)
        self.lead = np.zeros(capacity, np.int64)
        self.challenger_onset_ns = np.zeros(capacity, np.int64)

    def reset(self, slot: int) -> None:
        """Restart a slot: no bout, nothing smoothed."""
        self.started[slot] = False
        self.activity[slot] = self.challenger[slot] = NONE
        self.lead[slot] = self.onset_ns[slot] = 0

    def set_unknown(self, slot: int, onset_ns: int) -> None:
        """Restart a slot inside a bout of unknown."""
        self.reset(slot)
        self.activity[slot] = self.unknown
        self.onset_ns[slot] = onset_ns

    def update(self, slots: Int64, probabilities: NDArray[np.floating], start_ns: Int64) -> Tracked:
        """Take one window for each of distinct slots.

        Args:
            slots: (m,) int64.
            probabilities: (m, labels) of the windows.
            start_ns: (m,) int64, starts of the windows.
        """
        rows = np.arange(len(slots))
        newest = probabilities.astype(np.float64)
        weight = np.where(self.started[slots], self._smoothing.weight, 1.0)[:, None]
        smoothed = (1.0 - weight) * self.smoothed[slots] + weight * newest
        self.smoothed[slots] = smoothed
        self.started[slots] = True

        # A column for unknown, which no probability supports.
        support = np.concatenate([smoothed, np.zeros((len(slots), 1))], axis=1)
        leader = smoothed.argmax(axis=1)
        previous = self.activity[slots]
        left = np.where(previous == NONE, 0.0, support[rows, previous])
        holds = (previous >= 0) & (previous != self.unknown) & (left >= self._smoothing.leave)
        wanted = np.where(
            smoothed[rows, leader] >= self._smoothing.enter, leader, np.where(holds, previous, self.unknown)
        )
        challenged = wanted != previous
        goes_on = challenged & (wanted == self.challenger[slots])
        lead = np.where(challenged, np.where(goes_on, self.lead[slots], 0) + 1, 0)
        challenger_onset_ns = np.where(goes_on, self.challenger_onset_ns[slots], start_ns)
        switched = lead >= self._smoothing.dwell
        activity = np.where(switched, wanted, previous)
        previous_onset_ns = self.onset_ns[slots]
        onset_ns = np.where(switched, challenger_onset_ns, previous_onset_ns)

        self.activity[slots] = activity
        self.onset_ns[slots] = onset_ns
        self.challenger[slots] = np.where(challenged & ~switched, wanted, NONE)
        self.lead[slots] = np.where(switched, 0, lead)
        self.challenger_onset_ns[slots] = challenger_onset_ns
        confidence = np.where(
            (activity == NONE) | (activity == self.unknown), smoothed[rows, leader], support[rows, activity]
        )
        return Tracked(activity, previous, confidence, leader, left, switched, onset_ns, previous_onset_ns)
