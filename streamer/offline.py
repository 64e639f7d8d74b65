"""The live recognizer over a recording in a file.

Of a capture it is given the messages as they came, when they came: what was told live is told again, silence included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from streamer.bundle import ModelBundle, find_bundle, load_bundle
from streamer.preprocessing.pipeline import pieces
from streamer.recognizer import Recognizer
from streamer.recording import Arrived, Recording, in_order_of_arrival, read_recordings
from streamer.watches import Limits
from streamer.wire.events import ActivityEvent


def classify_file(path: Path, *, model: str, every_window: bool = False) -> Iterator[ActivityEvent]:
    """Events of the recordings in a file: of a capture in the order of arrival, else one recording after the other.

    Raises:
        BundleError: the model can't be used.
        RecordingError: the file isn't a recording.
    """
    yield from classify_recordings(read_recordings(path), load_bundle(find_bundle(model)), every_window=every_window)


def classify_recordings(
    recordings: Sequence[Recording], bundle: ModelBundle, *, every_window: bool = False
) -> Iterator[ActivityEvent]:
    """Events of the recordings of one file; see `classify_file`."""
    recognizer = Recognizer(bundle, limits=Limits(max_watches=max(len(recordings), 1)), every_window=every_window)
    if any(recording.arrivals for recording in recordings):
        yield from _classify_arrivals(recognizer, in_order_of_arrival(recordings))
        return
    for recording in recordings:
        yield from classify_recording(recognizer, recording)


def classify_recording(recognizer: Recognizer, recording: Recording) -> Iterator[ActivityEvent]:
    """Events of one recording; its last bout ends with it."""
    if recording.arrivals:
        yield from _classify_arrivals(recognizer, recording.arrivals)
        return
    for piece in pieces(recording.streams):
        yield from recognizer.recognize([piece], now_ns=0).events
    yield from recognizer.finish("end_of_recording").events


def _classify_arrivals(recognizer: Recognizer, messages: Iterable[Arrived]) -> Iterator[ActivityEvent]:
    for message in messages:
        if recognizer.watches.is_due(message.arrived_ns):
            yield from recognizer.process([], message.arrived_ns).events
        yield from recognizer.recognize([message.batch], message.arrived_ns).events
    yield from recognizer.finish("end_of_recording").events
