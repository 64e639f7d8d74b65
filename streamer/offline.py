"""The live recognizer over a recording in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from streamer.bundle import find_bundle, load_bundle
from streamer.preprocessing.pipeline import pieces
from streamer.recognizer import Recognizer
from streamer.recording import Recording, read_recordings
from streamer.watches import Limits
from streamer.wire.events import ActivityEvent


def classify_file(path: Path, *, model: str, every_window: bool = False) -> Iterator[ActivityEvent]:
    """Events of the recordings in a file, one recording after the other.

    Raises:
        BundleError: the model can't be used.
        RecordingError: the file isn't a recording.
    """
    recordings = read_recordings(path)
    recognizer = Recognizer(
        load_bundle(find_bundle(model)), limits=Limits(max_watches=max(len(recordings), 1)), every_window=every_window
    )
    for recording in recordings:
        yield from classify_recording(recognizer, recording)


def classify_recording(recognizer: Recognizer, recording: Recording) -> Iterator[ActivityEvent]:
    """Events of one recording; its last bout ends with it."""
    for piece in pieces(recording.streams):
        yield from recognizer.recognize([piece], now_ns=0).events
    yield from recognizer.finish("end_of_recording").events
