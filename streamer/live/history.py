"""The latest bouts of many watches, in a bounded place for each.

start  walking ......... end (changed)
                    start sitting ........ end (gap)             what events tell
       [walking    )[sitting              )                      what is kept: a bout ends where the next begins

The current bout is not kept here: the recognizer knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.wire.events import ActivityEvent

#: Bouts that are kept of a watch: more than a quarter of an hour of quarter minutes.
DEPTH: Final = 64
_FIRST_CAPACITY: Final = 64


class Bout(NamedTuple):
    """A bout that has ended; activity is an index into the names of activities."""

    activity: int
    onset_ns: int
    end_ns: int
    confidence: float
    reason: str


class BoutHistory:
    """The latest bouts of each watch.

    State: rings of bouts, one for each watch that has ended one; 1.4 kB each.
    """

    def __init__(self, activities: Sequence[str], is_followed: Callable[[str], object]) -> None:
        """Nothing is known yet.

        Args:
            activities: whatever events may tell.
            is_followed: whether a name still is a watch's; those of others are forgotten before more room is taken.
        """
        self._numbers = {label: number for number, label in enumerate(activities)}
        self._is_followed = is_followed
        self._reasons: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self._activity = np.zeros((0, DEPTH), np.int16)
        self._onset_ns = np.zeros((0, DEPTH), np.int64)
        self._end_ns = np.zeros((0, DEPTH), np.int64)
        self._confidence = np.zeros((0, DEPTH), np.float32)
        self._reason = np.zeros((0, DEPTH), np.int8)
        self._count = np.zeros(0, np.int64)
        #: Number of the latest change of a watch's bouts, of all changes.
        self._version = np.zeros(0, np.int64)
        self._changes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def note(self, event: ActivityEvent) -> None:
        """Take an event; states and windows tell nothing new."""
        if event.type == "end":
            if event.reason == "evicted":
                self.forget(event.device)
            else:
                self._append(event)
        elif event.type == "start":
            self._cut(event)

    def forget(self, device_id: str) -> None:
        """Drop a watch's bouts."""
        row = self._rows.pop(device_id, None)
        if row is not None:
            self._free.append(row)

    def version(self, device_id: str) -> int:
        """A number that changes with the watch's bouts; 0 while there are none."""
        row = self._rows.get(device_id)
        return 0 if row is None else int(self._version[row])

    def bouts(self, device_id: str, *, after_ns: int) -> list[Bout]:
        """The bouts that ended after a time, oldest first."""
        row = self._rows.get(device_id)
        if row is None:
            return []
        count = int(self._count[row])
        places = np.arange(max(count - DEPTH, 0), count) % DEPTH
        places = places[self._end_ns[row, places] > after_ns]
        names = list(self._reasons)
        return [
            Bout(activity, onset_ns, end_ns, confidence, names[reason])
            for activity, onset_ns, end_ns, confidence, reason in zip(
                self._activity[row, places].tolist(),
                self._onset_ns[row, places].tolist(),
                self._end_ns[row, places].tolist(),
                self._confidence[row, places].tolist(),
                self._reason[row, places].tolist(),
                strict=True,
            )
        ]

    def _append(self, event: ActivityEvent) -> None:
        row = self._rows.get(event.device)
        if row is None:
            row = self._new_row(event.device)
        place = int(self._count[row]) % DEPTH
        if self._count[row] and event.onset_ns < self._onset_ns[row, place - 1]:
            # Its clock was set back: what was before lies in another time.
            self._count[row] = place = 0
        self._activity[row, place] = self._numbers[event.activity]
        self._onset_ns[row, place] = event.onset_ns
        self._end_ns[row, place] = event.decided_ns
        self._confidence[row, place] = event.confidence
        self._reason[row, place] = self._reasons.setdefault(event.reason or "", len(self._reasons))
        self._count[row] += 1
        self._mark_changed(row)

    def _cut(self, event: ActivityEvent) -> None:
        row = self._rows.get(event.device)
        if row is None or not self._count[row]:
            return
        place = (int(self._count[row]) - 1) % DEPTH
        if self._onset_ns[row, place] < event.onset_ns < self._end_ns[row, place]:
            self._end_ns[row, place] = event.onset_ns
            self._mark_changed(row)

    def _mark_changed(self, row: int) -> None:
        self._changes += 1
        self._version[row] = self._changes

    def _new_row(self, device_id: str) -> int:
        if not self._free:
            for name in [name for name in self._rows if not self._is_followed(name)]:
                self.forget(name)
        if not self._free:
            self._grow()
        row = self._rows[device_id] = self._free.pop()
        self._count[row] = 0
        return row

    def _grow(self) -> None:
        before = len(self._count)
        capacity = max(2 * before, _FIRST_CAPACITY)
        self._free += range(capacity - 1, before - 1, -1)
        for name in ("_activity", "_onset_ns", "_end_ns", "_confidence", "_reason", "_count", "_version"):
            array: NDArray[np.generic] = getattr(self, name)
            grown = np.zeros((capacity, *array.shape[1:]), array.dtype)
            grown[:before] = array
            setattr(self, name, grown)
