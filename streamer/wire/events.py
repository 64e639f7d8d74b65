"""What har-stream publishes: one JSON document for bout starts and ends, states and windows alike."""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import msgspec

from streamer.preprocessing.spec import Sensor

SCHEMA: Final = 1

EventType = Literal["start", "end", "state", "window"]
#: Why a bout ended or why an activity is unknown.
Reason = Literal[
    "changed",  # another activity took over
    "uncertain",  # no activity is probable enough
    "gap",  # readings are missing for longer than the model bridges
    "silence",  # nothing arrives any more
    "evicted",  # forgotten for age or for want of room
    "shutdown",  # the service stops
    "end_of_recording",
    "sensor_missing",  # the model needs a sensor that the watch does not send
    "feed_rate",  # the watch is slower than the model can take
]


class ActivityEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that became known about one watch.

    Attributes:
        schema: version of this document.
        id: the same for the same model, device, type, onset and decision time: a repeat is recognisable.
        bout_id: shared by all events of a bout; null for windows and states outside any bout.
        type: start and end of a bout, state (the current activity, retained), window (every window, on request).
        device: the watch.
        activity: a label of the bundle; a group of labels where none of them is sure enough, if it tells groups; or
            unknown.
        groups: groups that the activity is in, the widest first, and last itself where it is one; left out for none.
        confidence: smoothed probability of the activity, 0 to 1.
        onset_ns: start of the first window of the bout, ns since the UTC epoch.
        decided_ns: end of the window that decided it.
        window_start_ns, window_end_ns: that window, half open.
        completeness: share of the window's time free of holes, at the feed's own rate. A sensor that the model can do
            without makes no hole.
        gap_ns: for windows the longest hole inside or just before; else since the last change of activity; 0 for none.
            Of a clock that was set back, how far.
        reason: for ends and for unknown.
        model, model_digest: the bundle.
        probabilities: for windows: probability by label, before smoothing. What the sum lacks of 1 is passages between
            activities, which are never told, and none of these.
        without: sensors that the model can do without and the window lacks, in part at least; absent for none.
    """

    schema: int
    id: str
    bout_id: str | None
    type: EventType
    device: str
    activity: str
    groups: tuple[str, ...] = ()
    confidence: float
    onset_ns: int
    decided_ns: int
    window_start_ns: int
    window_end_ns: int
    completeness: float
    gap_ns: int
    model: str
    model_digest: str
    reason: Reason | None = None
    probabilities: dict[str, float] | None = None
    without: tuple[Sensor, ...] = ()


_encoder = msgspec.json.Encoder()


def encode_event(event: ActivityEvent) -> bytes:
    """JSON, one line; floats in their shortest form that reads back the same."""
    return _encoder.encode(event)


def event_id(*, model_digest: str, device: str, kind: str, onset_ns: int, decided_ns: int) -> str:
    """16 hex digits that identify an event or a bout (`kind` "bout", decided_ns of its start)."""
    text = f"{model_digest}|{device}|{kind}|{onset_ns}|{decided_ns}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
