"""What can be replayed: the data sets, synthetic motion, and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from simulator.datasets import fitbit, hapt, uci_har, wisdm
from simulator.datasets.location import DataSet, find, how_to_get
from simulator.synthetic import shipped_profiles, synthetic_watches
from simulator.watches import Watch
from streamer.errors import ConfigError, nearest
from streamer.recording import Recording, read_recordings

Split = Literal["train", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)

#: Data sets by the name of their source.
DATA_SETS: Final[dict[str, DataSet]] = {
    module.DATA_SET.name: module.DATA_SET for module in (uci_har, hapt, fitbit, wisdm)
}
SYNTHETIC: Final = "synthetic"
NAMES: Final = (*DATA_SETS, SYNTHETIC)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a source to replay.

    Attributes:
        subject: one person, None for all.
        split: the publisher's split of UCI HAR and HAPT, None for both parts.
        devices: how many watches; synthetic ones are made to order.
        seed, rate_hz: of synthetic watches.
        activities: what synthetic watches do, empty for what the default model recognises.
    """

    subject: str | None = None
    split: Split | None = None
    devices: int | None = None
    seed: int = 0
    rate_hz: int = 50
    activities: tuple[str, ...] = ()


def load(source: str, root: Path, selection: Selection) -> list[Watch]:
    """The watches of a source: one of NAMES, or a path to a recording.

    Raises:
        RecordingError: a data set or file is missing or not in its form.
        ConfigError: the selection does not fit the source, or selects nothing.
    """
    has_split = source in (uci_har.DATA_SET.name, hapt.DATA_SET.name)
    if selection.split is not None and not has_split:
        raise ConfigError(f"--split {selection.split}: {source} has no published split; uci-har and hapt have one")
    if source == SYNTHETIC:
        _refuse_subject(source, selection)
        return list(
            synthetic_watches(
                selection.devices or 1,
                seed=selection.seed,
                rate_hz=selection.rate_hz,
                playlist=selection.activities,
            )
        )
    if selection.activities:
        raise ConfigError(
            f"--activity {selection.activities[0]}: {source} holds what was recorded; synthetic takes any"
        )
    if source not in DATA_SETS:
        if not Path(source).exists():
            meant = nearest(source, NAMES)
            raise ConfigError(f"source {source!r} is neither a file nor one of {', '.join(NAMES)}{meant}")
        _refuse_subject(source, selection)
        return list(read_recordings(Path(source)))
    subjects = None if selection.subject is None else {selection.subject}
    part: frozenset[str] = frozenset()
    if selection.split is not None:
        part = uci_har.TEST_SUBJECTS if selection.split == "test" else uci_har.SUBJECTS - uci_har.TEST_SUBJECTS
        subjects = set(part) if subjects is None else subjects & part
    readers: dict[str, Callable[[], list[Recording]]] = {
        "uci-har": lambda: uci_har.read_recordings(root, selection.split, subjects=subjects),
        "hapt": lambda: hapt.read_recordings(root, subjects=subjects),
        "wisdm-watch": lambda: wisdm.read_recordings(root, subjects=subjects),
        "fitbit": lambda: [r for r in fitbit.read_recordings(root) if subjects is None or r.subject in subjects],
    }
    recordings = readers[source]()
    if not recordings:
        where = "" if selection.split is None else f" in the {selection.split} split"
        # Of the part that was asked for, so that what is suggested is there.
        known = SUBJECTS[source] if selection.split is None else sorted(part, key=int)
        raise ConfigError(
            f"--subject {selection.subject}: {source} has no such subject{where}; {_EXPECTED[source]}"
            f"{nearest(selection.subject or '', known)}"
        )
    return list(recordings)


#: Who took part, by data set.
SUBJECTS: Final[dict[str, tuple[str, ...]]] = {
    "uci-har": tuple(sorted(uci_har.SUBJECTS, key=int)),
    "hapt": tuple(sorted(uci_har.SUBJECTS, key=int)),
    "wisdm-watch": tuple(map(str, range(1600, 1651))),
    "fitbit": ("1",),
}
_EXPECTED: Final = {
    "uci-har": f"expected 1 to 30, of which {', '.join(sorted(uci_har.TEST_SUBJECTS, key=int))} are the test split",
    "hapt": f"expected 1 to 30, of which {', '.join(sorted(uci_har.TEST_SUBJECTS, key=int))} are the test split",
    "wisdm-watch": "expected 1600 to 1650",
    "fitbit": "expected 1",
}

_WHAT: Final = {
    "uci-har": "phone at the waist, 50 Hz, 30 subjects, 6 activities; stitched from published filtered windows",
    "hapt": "phone at the waist, 50 Hz, 61 raw recordings of the same 30 subjects",
    "fitbit": "Fitbit at the wrist, 10 Hz, 1 subject, 10 activities of a minute each",
    "wisdm-watch": "smartwatch at the wrist, 20 Hz, 18 activities of three minutes per subject",
}


def descriptions(root: Path) -> list[tuple[str, str, str]]:
    """Name, what it is, and where it was found or how to get it; for every source."""
    rows = []
    for name, data_set in DATA_SETS.items():
        place = find(root, data_set)
        rows.append((name, _WHAT[name], f"found: {place}" if place else f"not in {root}: {how_to_get(data_set)}"))
    playlist = ", ".join(shipped_profiles().playlist)
    rows.append((SYNTHETIC, f"generated motion at the wrist, any rate: {playlist}", "always there"))
    rows.append(
        (
            "PATH",
            "CSV, Parquet, .npz: t_ns or time, acc_x..z in m/s², gyro_x..z in rad/s, device, label; or a recording",
            "your own",
        )
    )
    return rows


def _refuse_subject(source: str, selection: Selection) -> None:
    if selection.subject is not None:
        raise ConfigError(f"--subject {selection.subject}: {source} has no subjects; the data sets have")
