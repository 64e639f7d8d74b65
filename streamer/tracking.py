"""Probabilities over time to bouts of activity, for many watches.

windows     W W W W S W W S S S S S     leading activity after smoothing (W walking, S sitting)
dwell = 2           1     1 2           windows for which another one has led
bouts       [walking      )[sitting     a start is decided at `2`; its onset is the window at `1`

Where a bundle tells groups of activities, too, the narrowest that is sure enough is told:

windows     p p p ? ? ? s s s ? ? ?     p pasta is sure, s soup; ?: either of them, and nothing but eating is sure
bouts       [pasta  )[eating)[soup      soup goes on while it does not fall below `leave`, though eating is surer

Where a bundle's model knows passages, too, one in progress is neither told nor unknown:

windows     S S S d d d T T T T         S sitting, d getting up, T standing
bouts       [sitting  )[standing        what was told is held; the onset is the start of the first window at T, which
                                        lies within the passage
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.bundle import Smoothing
from streamer.chain import ForwardFilter
from streamer.preprocessing.slots import Slots

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: No bout yet.
NONE: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """What one window each made of some watches.

    An activity is a number: a label's index, behind the labels a group's, last of all unknown; NONE before the first
    bout.

    Attributes:
        activity: (m,) int64, current activity.
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
    """Smoothing by an exponential mean or a chain, two thresholds and a minimum dwell.

    State: per slot the smoothed probabilities (of labels, then of passages, then with a chain of none of these), what
    the chain keeps of the newest window, the current activity and its onset, the challenger with its first window and
    its lead. `reset` restarts a slot.

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

    ARRAYS = ("smoothed", "said", "started", "activity", "onset_ns", "challenger", "lead", "challenger_onset_ns")

    def __init__(
        self,
        labels: int,
        smoothing: Smoothing,
        *,
        capacity: int,
        groups: Sequence[Collection[int]] = (),
        passages: int = 0,
    ) -> None:
        """No watch has a bout.

        Args:
            labels: how many there are.
            smoothing: thresholds and dwell.
            capacity: slots.
            groups: labels of each group that may be told: a tree, so that of two one is inside the other or apart.
            passages: how many outputs of the model there are behind the labels.
        """
        self.labels, self.passages = labels, passages
        self.unknown = labels + len(groups)
        self._smoothing = smoothing
        self._groups = _Groups(labels, smoothing, groups) if groups and smoothing.group_enter is not None else None
        self._filter = None if smoothing.chain is None else ForwardFilter(smoothing.chain)
        width = labels + passages if smoothing.chain is None else smoothing.chain.states
        self.smoothed = np.zeros((capacity, width))
        self.said = np.zeros((capacity, 0 if self._filter is None else self._filter.kept), np.float32)
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
            probabilities: (m, labels and passages) of the windows; what a row lacks of 1 is none of these.
            start_ns: (m,) int64, starts of the windows.
        """
        rows = np.arange(len(slots))
        smoothed = self._smooth(slots, probabilities)
        # What the passages have together: it holds what was told before them.
        passing: Float64 | float = 0.0
        if smoothed.shape[1] > self.labels:
            passing = smoothed[:, self.labels : self.labels + self.passages].sum(axis=1)
            smoothed = smoothed[:, : self.labels]

        # A column for unknown, which no probability supports, and for groups that are never told.
        nothing = np.zeros((len(slots), self.unknown + 1 - self.labels))
        if self._groups is not None:
            nothing[:, :-1] = self._groups.sums(smoothed)
        support = np.concatenate([smoothed, nothing], axis=1)
        leader = smoothed.argmax(axis=1)
        previous, challenger = self.activity[slots], self.challenger[slots]
        left = np.where(previous == NONE, 0.0, support[rows, previous])
        if self._groups is None:
            holds = (previous >= 0) & (previous != self.unknown) & (left + passing >= self._smoothing.leave)
            otherwise = np.where(holds, previous, self.unknown)
        else:
            held = support
            if self.passages:
                held = support.copy()
                held[rows, previous] += passing
            otherwise = self._groups.narrowest(held, previous)
        if self.passages:
            # Nor does a first bout begin as unknown while one passes from something to something else.
            begins = (previous == NONE) & (otherwise == self.unknown) & (passing >= self._smoothing.leave)
            otherwise = np.where(begins, NONE, otherwise)
        wanted = np.where(smoothed[rows, leader] >= self._smoothing.enter, leader, otherwise)
        challenged = wanted != previous
        agrees = wanted == challenger
        if self._groups is not None:
            wanted, agrees = self._groups.common(wanted, challenger)
        goes_on = challenged & agrees
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

    def _smooth(self, slots: Int64, probabilities: NDArray[np.floating]) -> Float64:
        """(m, width) float64, what is kept as `smoothed` from now on."""
        started = self.started[slots]
        if self._filter is None:
            newest = probabilities.astype(np.float64)
            weight = np.where(started, self._smoothing.weight, 1.0)[:, None]
            smoothed = (1.0 - weight) * self.smoothed[slots] + weight * newest
        else:
            smoothed, self.said[slots] = self._filter.update(
                self.smoothed[slots], self.said[slots], started, probabilities
            )
        self.smoothed[slots] = smoothed
        self.started[slots] = True
        return smoothed


class _Groups:
    """Which group is told where no label is sure enough; numbers as in `Tracked`.

    What is told stays until its own probability falls below its `leave`; whatever else is to be told must reach its
    `enter`, also a group around it. What newly reaches that goes before what stays, and of several the narrowest is
    told; but groups around the current activity wait until that no longer holds, so that no bout widens before.
    """

    def __init__(self, labels: int, smoothing: Smoothing, groups: Sequence[Collection[int]]) -> None:
        self._columns = np.array([label for group in groups for label in sorted(group)])
        self._begins = np.cumsum([0, *(len(group) for group in groups[:-1])])
        members = [frozenset({label}) for label in range(labels)] + [frozenset(group) for group in groups]
        n = len(members) + 1
        # Rows for unknown and, last, for NONE, which an index of -1 leads to.
        self._around = np.zeros((n + 1, n + 1), np.bool_)
        self._around[: n - 1, : n - 1] = [[inner <= outer for outer in members] for inner in members]
        self._around[n - 1, n - 1] = True
        enter = 1.0 if smoothing.group_enter is None else smoothing.group_enter
        leave = smoothing.leave if smoothing.group_leave is None else smoothing.group_leave
        # A label that is sure is found before groups are looked at.
        enters = np.array([np.inf] * labels + [enter] * len(groups) + [0.0])
        leaves = np.array([smoothing.leave] * labels + [min(leave, enter)] * len(groups) + [0.0])
        narrow = np.array([n - len(own) for own in members] + [0])
        self._threshold = np.where(np.eye(n + 1, n, dtype=np.bool_), leaves, enters)
        self._rank = np.where(self._around[:, :n] | (narrow == 0), narrow, n + narrow)

    def sums(self, smoothed: Float64) -> Float64:
        """(m, groups) probabilities of groups; added in one order, however many rows there are.

        Args:
            smoothed: (m, labels) float64.
        """
        found: Float64 = np.add.reduceat(np.take(smoothed, self._columns, axis=1), self._begins, axis=1)
        return found

    def narrowest(self, support: Float64, previous: Int64) -> Int64:
        """(m,) the current label where it holds, else the narrowest group that is sure enough, else unknown.

        Args:
            support: (m, labels + groups + 1) float64.
            previous: (m,) int64, the current activities.
        """
        found: Int64 = np.where(support >= self._threshold[previous], self._rank[previous], -1).argmax(axis=1)
        return found

    def common(self, wanted: Int64, challenger: Int64) -> tuple[Int64, NDArray[np.bool_]]:
        """What has led for as long as the challenger, where that is the case: of a group and what is in it, the group.

        Args:
            wanted: (m,) int64, what leads now.
            challenger: (m,) int64, what has led before.
        """
        narrower, wider = self._around[wanted, challenger], self._around[challenger, wanted]
        return np.where(narrower, challenger, wanted), narrower | wider
