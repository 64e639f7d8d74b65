"""Somebody's own labelled recordings, fit to teach a model; what is wrong with them is said in one line each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.windows.data import Sitting
from streamer.activities import ACTIVITIES, GROUPS, check_activity
from streamer.bundle import MANIFEST_FILE, ModelBundle
from streamer.errors import ConfigError, RecordingError, nearest
from streamer.recording import Recording, read_recordings

#: Endings of the names of recordings in a folder.
SUFFIXES: Final = frozenset({".csv", ".jsonl", ".npz", ".parquet"})
#: An activity is learned from all its recordings but one, which is held out.
LEAST_RECORDINGS: Final = 2
#: Names as alike as this are taken for slips of the pen: walkng for walking.
_ALIKE: Final = 0.8


@dataclass(frozen=True, slots=True)
class OwnRecording:
    """One file of one sitting.

    Attributes:
        name: its path below the folder; what must not be on both sides of a split.
        sha256: of its content.
        recordings: of each watch in it.
    """

    name: str
    sha256: str
    recordings: tuple[Recording, ...]

    @property
    def sittings(self) -> list[Sitting]:
        """Its recordings as one group."""
        return [Sitting(self.name, recording) for recording in self.recordings]

    def seconds(self) -> dict[str, float]:
        """Labelled time of each activity."""
        found: dict[str, float] = {}
        for recording in self.recordings:
            for span in recording.spans:
                found[span.activity] = found.get(span.activity, 0.0) + (span.end_ns - span.start_ns) / 1e9
        return found


def read_own(data: Path, base: ModelBundle, *, new: Sequence[str] = ()) -> list[OwnRecording]:
    """The labelled recordings in a folder and the folders in it, or in one file; by name.

    Args:
        data: folder or file.
        base: the model that is to learn from them.
        new: activities that are new although a known one has nearly their name.

    Raises:
        RecordingError: there are none, one cannot be read, is not labelled, or the model cannot take it.
        ConfigError: a label is no name of an activity, or seems misspelt; or an activity has too few recordings.
    """
    if not data.exists():
        raise RecordingError(f"--data {data}: no such folder; expected one with recordings")
    paths = [data] if data.is_file() else sorted(filter(_is_recording, data.rglob("*")))
    if not paths:
        raise RecordingError(f"--data {data}: holds no recordings; expected files {', '.join(sorted(SUFFIXES))}")
    root = data.parent if data.is_file() else data
    own = [OwnRecording(str(path.relative_to(root)), _digest(path), tuple(read_recordings(path))) for path in paths]
    for one in own:
        _check(one, base)
    _check_labels(own, base, new)
    return own


def labels_of(own: Iterable[OwnRecording]) -> list[str]:
    """Activities in the order in which they first come."""
    return list(dict.fromkeys(span.activity for one in own for r in one.recordings for span in r.spans))


def placed(options: Iterable[str], labels: Sequence[str], own: Sequence[str]) -> dict[str, str]:
    """Groups of one's own activities, from LABEL=GROUP each.

    Args:
        options: of the command line.
        labels: of the model.
        own: activities of the recordings.

    Raises:
        ConfigError: one is not of this form, is of no recording's activity, or there is no such group.
    """
    found: dict[str, str] = {}
    for option in options:
        label, _, group = option.partition("=")
        if label not in own:
            raise ConfigError(
                f"--group {option}: no recording is labelled {label or 'so'}; expected LABEL=GROUP with one of "
                f"{', '.join(own)}"
            )
        groups = [name for name in GROUPS if name not in labels]
        if group not in groups:
            raise ConfigError(
                f"--group {option}: {group or 'nothing'} is no group; expected one of {', '.join(groups)}"
                f"{nearest(group, groups)}"
            )
        found[label] = group
    return found


def _is_recording(path: Path) -> bool:
    # A bundle's golden vectors are none, when what was taught is written among what it learned from.
    return path.suffix.lower() in SUFFIXES and not (path.parent / MANIFEST_FILE).exists()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(one: OwnRecording, base: ModelBundle) -> None:
    name, spec = base.manifest.name, base.spec
    longest_s = max(one.seconds().values(), default=0.0)
    if not longest_s:
        raise RecordingError(f"{one.name}: nothing in it is labelled; expected a label, as by simulator record --label")
    if not any(
        (span.end_ns - span.start_ns) >= spec.window_ns for recording in one.recordings for span in recording.spans
    ):
        raise RecordingError(
            f"{one.name}: labelled for {longest_s:.1f} s at a time; "
            f"expected {spec.window_ns / 1e9:.1f} s at least, a window of {name}"
        )
    for recording in one.recordings:
        for sensor in spec.required_sensors:
            if all(getattr(stream, sensor) is None for stream in recording.streams):
                raise RecordingError(f"{one.name}: {recording.device_id} has no {sensor}; {name} needs it")
        if recording.rate_hz is not None and recording.rate_hz < 0.9 * base.manifest.min_feed_rate_hz:
            raise RecordingError(
                f"{one.name}: {recording.device_id} has {recording.rate_hz:g} readings a second; "
                f"{name} needs {base.manifest.min_feed_rate_hz:g} or more"
            )


def _check_labels(own: Sequence[OwnRecording], base: ModelBundle, new: Sequence[str]) -> None:
    found = labels_of(own)
    for label in new:
        if label not in found:
            raise ConfigError(f"--new {label}: no recording is labelled so; expected one of {', '.join(found)}")
    for label in found:
        files = [one.name for one in own if label in one.seconds()]
        check_activity(label, where=f"{files[0]}: label")
        if label in GROUPS and label not in (*base.labels, *ACTIVITIES, *new):
            raise ConfigError(
                f"{files[0]}: label {label!r} names a group of activities; expected one that is in it, or where it is "
                f"meant as an activity --new {label}"
            )
        if label not in base.labels and label not in ACTIVITIES and label not in new:
            meant = nearest(label, base.labels, alike=_ALIKE)
            if meant:
                raise ConfigError(
                    f"{files[0]}: label {label!r} is no activity of {base.manifest.name}{meant} "
                    f"A new one is taught by --new {label}"
                )
    for label in found:
        files = [one.name for one in own if label in one.seconds()]
        if len(files) < LEAST_RECORDINGS:
            raise ConfigError(
                f"label {label} is in one recording only ({files[0]}); expected {LEAST_RECORDINGS} at least, "
                "so that one can be held out to see what was learned from the others"
            )
