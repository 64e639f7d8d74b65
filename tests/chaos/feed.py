"""What the watches send in a schedule, and which events must come of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from simulator import sources
from simulator.synthetic import synthetic_watches
from simulator.watches import Copy, in_time_order
from streamer.bundle import find_bundle, load_bundle
from streamer.imu import ImuBatch
from streamer.recognizer import Recognizer
from streamer.recording import Recording
from streamer.wire import topics
from streamer.wire.events import ActivityEvent
from streamer.wire.payload import CONTENT_TYPES, Message, encode_cbor

MODEL: Final = "uci-har-cnn"
START_NS: Final = 1_700_000_000_000_000_000
SECOND: Final = 1_000_000_000
#: Event types that count: the retained state only repeats what start and end say.
COUNTED: Final = frozenset({"start", "end", "window"})
#: Subjects of HAPT whose recordings are played, each twice recorded.
_SUBJECTS: Final = ("2", "4", "9", "10", "12")
#: Where the slice begins in a recording: behind the standing still at its start.
_SKIP_S: Final = 40
_STAGGER_NS: Final = 260_000_000


@dataclass(frozen=True, slots=True)
class Feed:
    """Messages of several watches in the order in which they are sent.

    Attributes:
        model: the bundle that recognises them.
        messages: what is sent.
        due_s: when, in recorded seconds since the first.
    """

    model: str
    messages: tuple[Message, ...]
    due_s: tuple[float, ...]

    def oracle(self, leave_out: frozenset[int] = frozenset()) -> dict[str, ActivityEvent]:
        """The events of one uninterrupted run, by id, in their order.

        Args:
            leave_out: indices of messages that never arrive.
        """
        recognizer = Recognizer(load_bundle(find_bundle(self.model)), every_window=True)
        heard = [message for i, message in enumerate(self.messages) if i not in leave_out]
        events = recognizer.process(heard, now_ns=START_NS).events
        return {event.id: event for event in events if event.type in COUNTED}


@cache
def recorded_feed(*, watches: int = 8, seconds: float = 90.0, batch_s: float = 0.5) -> Feed:
    """A slice of real recordings where HAR_DATA_DIR names the data sets, of synthetic motion elsewhere.

    Args:
        watches: how many, 10 at most.
        seconds: length of each.
        batch_s: seconds of readings in a message.
    """
    slices = [
        cut(r, r.device_id, skip_s=_SKIP_S, seconds=seconds, start_ns=START_NS + i * _STAGGER_NS)
        for i, r in enumerate(recordings(watches, seconds=seconds + _SKIP_S))
    ]
    batches = list(in_time_order([Copy(r, r.device_id, 0) for r in slices], None, batch_s=batch_s))
    first_ns = int(batches[0].t_ns[-1])
    due_s = tuple((int(b.t_ns[-1]) - first_ns) / SECOND for b in batches)
    return Feed(MODEL, tuple(map(as_message, batches)), due_s)


def as_message(batch: ImuBatch) -> Message:
    """The batch as a watch sends it."""
    return Message(topics.imu(batch.device_id), encode_cbor(batch), CONTENT_TYPES["cbor"])


@cache
def recordings(number: int, *, seconds: float) -> tuple[Recording, ...]:
    """Recordings at 50 Hz, of real people where HAR_DATA_DIR names the data sets, else synthetic.

    Args:
        number: how many, 10 at most.
        seconds: length of synthetic ones; real ones have about 300 s.
    """
    folder = os.environ.get("HAR_DATA_DIR")
    if folder:
        found = [
            recording
            for subject in _SUBJECTS[: (number + 1) // 2]
            for recording in sources.load("hapt", Path(folder), sources.Selection(subject=subject))
        ]
        return tuple(recording for recording in found if isinstance(recording, Recording))[:number]
    return tuple(watch.recording(seconds) for watch in synthetic_watches(number, seed=0, rate_hz=50))


def cut(recording: Recording, device_id: str, *, skip_s: float, seconds: float, start_ns: int) -> Recording:
    """A stretch of a recording as another watch's, its first reading at start_ns."""
    begin_ns = recording.start_ns + round(skip_s * SECOND)
    streams = []
    for stream in recording.streams:
        kept = (begin_ns <= stream.t_ns) & (stream.t_ns < begin_ns + round(seconds * SECOND))
        streams.append(
            ImuBatch(
                device_id,
                stream.t_ns[kept] + (start_ns - begin_ns),
                None if stream.acc is None else stream.acc[kept],
                None if stream.gyro is None else stream.gyro[kept],
                stream.rate_hz,
            )
        )
    return replace(recording, device_id=device_id, streams=tuple(streams), spans=())
