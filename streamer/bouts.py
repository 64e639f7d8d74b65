"""Events from what the tracker decided: bouts that start and end, the current state, every window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.bundle import ModelBundle
from streamer.preprocessing.pipeline import Windows
from streamer.preprocessing.slots import Slots
from streamer.tracking import NONE, ActivityTracker, Tracked
from streamer.wire.events import SCHEMA, ActivityEvent, EventType, Reason, event_id

Int64 = NDArray[np.int64]

#: Start of the latest window while there is none.
NO_WINDOW: Final = -1


@dataclass(frozen=True, slots=True)
class _Bout:
    """One bout, as its events name it; decided_ns is when its start was decided."""

    activity: int
    onset_ns: int
    decided_ns: int


class BoutLog(Slots):
    """Writes the events of many watches.

    State: per slot when the current bout was decided, the latest window and whether it lacks an optional sensor, and
    the longest hole since the last change of activity. `reset` clears a slot.
    """

    ARRAYS = ("decided_ns", "window_start_ns", "completeness", "confidence", "partial", "gap_ns", "restart_gap_ns")

    def __init__(
        self, bundle: ModelBundle, tracker: ActivityTracker, names: Sequence[str], *, capacity: int, every_window: bool
    ) -> None:
        self._model = bundle.manifest.name
        self._digest = bundle.digest
        self._window_ns = bundle.spec.window_ns
        self._optional = bundle.spec.optional_sensors
        self._labels = bundle.labels
        self._activities, self._paths = bundle.activities, bundle.paths
        self._tracker = tracker
        self._names = names
        self._every_window = every_window
        self.decided_ns = np.zeros(capacity, np.int64)
        self.window_start_ns = np.full(capacity, NO_WINDOW, np.int64)
        self.completeness = np.zeros(capacity)
        self.confidence = np.zeros(capacity)
        self.partial = np.zeros(capacity, np.bool_)
        self.gap_ns = np.zeros(capacity, np.int64)
        self.restart_gap_ns = np.zeros(capacity, np.int64)

    def reset(self, slot: int) -> None:
        """Forget a slot's bout and window."""
        self.decided_ns[slot] = self.gap_ns[slot] = self.restart_gap_ns[slot] = 0
        self.window_start_ns[slot] = NO_WINDOW
        self.completeness[slot] = self.confidence[slot] = self.partial[slot] = 0

    def of_windows(
        self, windows: Windows, probabilities: NDArray[np.float32], tracked: Tracked
    ) -> Iterator[ActivityEvent]:
        """Events of one window each for distinct slots: ends, starts and states on a change, windows on request."""
        slots = windows.slots
        hole_ns = np.maximum(windows.gap_ns, self.restart_gap_ns[slots])
        self.restart_gap_ns[slots] = 0
        self.gap_ns[slots] = np.maximum(self.gap_ns[slots], hole_ns)
        self.window_start_ns[slots] = windows.start_ns
        self.completeness[slots] = windows.completeness
        if self._optional:
            self.partial[slots] = windows.partial > 0
        self.confidence[slots] = tracked.confidence
        changed = range(len(slots)) if self._every_window else np.flatnonzero(tracked.switched).tolist()
        for i in changed:
            slot = int(slots[i])
            if tracked.switched[i]:
                if tracked.previous[i] != NONE:
                    bout = _Bout(
                        int(tracked.previous[i]), int(tracked.previous_onset_ns[i]), int(self.decided_ns[slot])
                    )
                    yield self._event("end", slot, bout, float(tracked.left[i]), "changed")
                yield from self._start(slot, int(tracked.activity[i]), int(tracked.onset_ns[i]))
            if self._every_window:
                yield self._window(slot, int(hole_ns[i]), probabilities[i], int(tracked.leader[i]))

    def end(self, slot: int, reason: Reason) -> Iterator[ActivityEvent]:
        """End the current bout, if there is one."""
        activity = int(self._tracker.activity[slot])
        if activity != NONE:
            bout = _Bout(activity, int(self._tracker.onset_ns[slot]), int(self.decided_ns[slot]))
            yield self._event("end", slot, bout, float(self.confidence[slot]), reason)

    def end_at_gap(self, slot: int, gap_ns: int) -> Iterator[ActivityEvent]:
        """End the current bout because readings are missing, and stamp the hole on what follows."""
        self.gap_ns[slot] = max(int(self.gap_ns[slot]), gap_ns)
        had_bout = int(self._tracker.activity[slot]) != NONE
        yield from self.end(slot, "gap")
        if had_bout:
            nothing = _Bout(self._tracker.unknown, self.latest_end_ns(slot), self.latest_end_ns(slot))
            yield msgspec.structs.replace(self._event("state", slot, nothing, 0.0, "gap"), bout_id=None)
        self.gap_ns[slot] = self.restart_gap_ns[slot] = gap_ns

    def start_unknown(self, slot: int, onset_ns: int, decided_ns: int, reason: Reason) -> Iterator[ActivityEvent]:
        """End the current bout and start one of unknown, without a window to show for it."""
        yield from self.end(slot, reason)
        self._tracker.set_unknown(slot, onset_ns)
        self.window_start_ns[slot] = decided_ns - self._window_ns
        self.confidence[slot] = self.completeness[slot] = self.partial[slot] = 0
        yield from self._start(slot, self._tracker.unknown, onset_ns, reason)

    def _start(self, slot: int, activity: int, onset_ns: int, reason: Reason | None = None) -> Iterator[ActivityEvent]:
        if activity == self._tracker.unknown and reason is None:
            reason = "uncertain"
        bout = _Bout(activity, onset_ns, self.latest_end_ns(slot))
        self.decided_ns[slot] = bout.decided_ns
        confidence = float(self.confidence[slot])
        yield self._event("start", slot, bout, confidence, reason)
        yield self._event("state", slot, bout, confidence, reason)
        self.gap_ns[slot] = 0

    def current(self, slot: int) -> tuple[str, tuple[str, ...], float] | None:
        """The current bout's activity, the groups around it, and how sure the latest window is; None without a bout."""
        activity = int(self._tracker.activity[slot])
        if activity == NONE:
            return None
        return self._activities[activity], self._paths[activity], float(self.confidence[slot])

    def latest_completeness(self, slot: int) -> float | None:
        """Of the slot's latest window; None before the first."""
        return None if self.window_start_ns[slot] == NO_WINDOW else float(self.completeness[slot])

    def latest_end_ns(self, slot: int, *, default: int = 0) -> int:
        """End of the slot's latest window, `default` before the first."""
        start_ns = int(self.window_start_ns[slot])
        return default if start_ns == NO_WINDOW else start_ns + self._window_ns

    def _bout_id(self, slot: int, bout: _Bout) -> str:
        return event_id(
            model_digest=self._digest,
            device=self._names[slot],
            kind="bout",
            onset_ns=bout.onset_ns,
            decided_ns=bout.decided_ns,
        )

    def _event(
        self, kind: EventType, slot: int, bout: _Bout, confidence: float, reason: Reason | None
    ) -> ActivityEvent:
        device, end_ns = self._names[slot], self.latest_end_ns(slot)
        return ActivityEvent(
            schema=SCHEMA,
            id=event_id(model_digest=self._digest, device=device, kind=kind, onset_ns=bout.onset_ns, decided_ns=end_ns),
            bout_id=self._bout_id(slot, bout),
            type=kind,
            device=device,
            activity=self._activities[bout.activity],
            groups=self._paths[bout.activity],
            confidence=confidence,
            onset_ns=bout.onset_ns,
            decided_ns=end_ns,
            window_start_ns=end_ns - self._window_ns,
            window_end_ns=end_ns,
            completeness=float(self.completeness[slot]),
            gap_ns=int(self.gap_ns[slot]),
            model=self._model,
            model_digest=self._digest,
            reason=reason,
            without=self._optional if self.partial[slot] else (),
        )

    def _window(self, slot: int, hole_ns: int, probabilities: NDArray[np.float32], leader: int) -> ActivityEvent:
        """The window's own view: its leading label after smoothing, whatever the bout around it."""
        device, end_ns = self._names[slot], self.latest_end_ns(slot)
        start_ns = end_ns - self._window_ns
        activity = int(self._tracker.activity[slot])
        bout_id = None
        if activity != NONE:
            bout_id = self._bout_id(
                slot, _Bout(activity, int(self._tracker.onset_ns[slot]), int(self.decided_ns[slot]))
            )
        return ActivityEvent(
            schema=SCHEMA,
            id=event_id(model_digest=self._digest, device=device, kind="window", onset_ns=start_ns, decided_ns=end_ns),
            bout_id=bout_id,
            type="window",
            device=device,
            activity=self._labels[leader],
            groups=self._paths[leader],
            confidence=float(self._tracker.smoothed[slot, leader]),
            onset_ns=start_ns,
            decided_ns=end_ns,
            window_start_ns=start_ns,
            window_end_ns=end_ns,
            completeness=float(self.completeness[slot]),
            gap_ns=hole_ns,
            model=self._model,
            model_digest=self._digest,
            # What passages have is no activity's; like "none of these" it is what the sum lacks of 1.
            probabilities=dict(zip(self._labels, probabilities.tolist(), strict=False)),
            without=self._optional if self.partial[slot] else (),
        )
