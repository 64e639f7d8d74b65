"""UCI HAR: published windows of filtered phone signals at the waist, 50 Hz, 30 subjects, subject-disjoint split.

Source: Anguita et al., A public domain dataset for human activity recognition using smartphones, ESANN 2013.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from simulator.datasets.location import DataFiles, DataSet, open_files
from simulator.datasets.timeline import EPOCH_NS, NANOSECONDS, PAUSE_NS, grid
from streamer.errors import RecordingError
from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.recording import ActivitySpan, Recording

Split = Literal["train", "test"]

RATE_HZ: Final = 50
PERIOD_NS: Final = NANOSECONDS // RATE_HZ
WINDOW_LEN: Final = 128
HOP_LEN: Final = 64

DATA_SET: Final = DataSet(
    name="uci-har",
    archives=("UCI HAR Dataset.zip", "human+activity+recognition+using+smartphones.zip"),
    folders=("UCI HAR Dataset",),
    marker="test/Inertial Signals/total_acc_x_test.txt",
    page="https://archive.ics.uci.edu/dataset/240",
    url="https://archive.ics.uci.edu/static/public/240/human+activity+recognition+using+smartphones.zip",
)

#: Activity by its code from 1, after activity_labels.txt (whose LAYING is `lying` here).
LABELS: Final = ("walking", "walking_upstairs", "walking_downstairs", "sitting", "standing", "lying")

#: The publisher's test subjects, for HAPT too, which has the same people. Source: test/subject_test.txt.
TEST_SUBJECTS: Final = frozenset({"2", "4", "9", "10", "12", "13", "18", "20", "24"})
SUBJECTS: Final = frozenset(str(number) for number in range(1, 31))

_SIGNALS: Final = ("body_acc", "body_gyro", "total_acc")


@dataclass(frozen=True, slots=True, eq=False)
class OfficialWindows:
    """The windows of one split in the published order.

    Attributes:
        signals: (n, 128, 9) float32; body_acc xyz in g, angular rate xyz in rad/s, total_acc xyz in g.
        labels: (n,) activity names.
        subjects: (n,) int64, 1 to 30.
    """

    signals: NDArray[np.float32]
    labels: NDArray[np.str_]
    subjects: NDArray[np.int64]


def read_windows(root: Path, split: Split) -> OfficialWindows:
    """The published windows as they are: THE ONE BYPASS OF `streamer.preprocessing`, because they are filtered already.

    Args:
        root: folder that holds the data set, or the archive or unpacked folder itself.
        split: the publisher's split by subject.

    Raises:
        RecordingError: the data set is missing or not in its published form.
    """
    with open_files(root, DATA_SET) as files:
        signals = _signals(files, split, _SIGNALS).astype(np.float32)
        labels, subjects = _labels(files, split, len(signals))
    return OfficialWindows(signals, labels, subjects)


def read_recordings(
    root: Path, split: Split | None = None, *, subjects: Collection[str] | None = None
) -> list[Recording]:
    """One recording per subject, stitched from the published windows of total acceleration and angular rate.

    Consecutive windows whose halves are equal are joined into segments (16 s in the median); between segments lies
    `timeline.PAUSE_NS` without readings, because nothing tells how much was left out. What that costs against
    `hapt`, which has the raw readings of the same people: the signals have passed the publisher's median and 20 Hz
    filters, so a model's own noise filter sees them filtered twice; the angular rate's slow drift is already removed;
    and filters and windows start afresh at every segment.

    Args:
        root: folder that holds the data set, or the archive or unpacked folder itself.
        split: the publisher's split by subject, None for both.
        subjects: "1" to "30"; None for all.

    Raises:
        RecordingError: the data set is missing or not in its published form.
    """
    recordings = []
    with open_files(root, DATA_SET) as files:
        splits: tuple[Split, ...] = ("train", "test") if split is None else (split,)
        for part in splits:
            signals = _signals(files, part, ("total_acc", "body_gyro"))
            labels, owners = _labels(files, part, len(signals))
            for owner in np.unique(owners).tolist():
                if subjects is None or str(owner) in subjects:
                    own = owners == owner
                    recordings.append(_stitched(str(owner), signals[own], labels[own]))
    return sorted(recordings, key=lambda recording: recording.device_id)


def _stitched(subject: str, windows: NDArray[np.float64], labels: NDArray[np.str_]) -> Recording:
    """windows: (n, 128, 6) float64, total acceleration in g and angular rate in rad/s."""
    joins = (windows[1:, :HOP_LEN] == windows[:-1, HOP_LEN:]).all(axis=(1, 2)) & (labels[1:] == labels[:-1])
    bounds = [0, *(np.flatnonzero(~joins) + 1).tolist(), len(windows)]
    pieces, times, spans, begin_ns = [], [], [], EPOCH_NS
    for first, end in pairwise(bounds):
        piece = np.concatenate([windows[first:end, :HOP_LEN].reshape(-1, 6), windows[end - 1, HOP_LEN:]])
        pieces.append(piece)
        times.append(grid(begin_ns, len(piece), RATE_HZ))
        end_ns = begin_ns + len(piece) * PERIOD_NS
        spans.append(ActivitySpan(str(labels[first]), begin_ns, end_ns))
        begin_ns = end_ns + PAUSE_NS
    device = f"uci-har-{int(subject):02d}"
    signals = np.concatenate(pieces)
    acc, gyro = signals[:, :3] * STANDARD_GRAVITY, np.ascontiguousarray(signals[:, 3:])
    stream = ImuBatch(device, np.concatenate(times), acc, gyro, rate_hz=float(RATE_HZ))
    return Recording(device, subject, (stream,), tuple(spans), float(RATE_HZ))


def _signals(files: DataFiles, split: Split, signals: tuple[str, ...]) -> NDArray[np.float64]:
    """(n, 128, 3 per signal) float64."""
    names = [f"{split}/Inertial Signals/{signal}_{axis}_{split}.txt" for signal in signals for axis in "xyz"]
    columns = [files.read_table(name, WINDOW_LEN) for name in names]
    for name, column in zip(names, columns, strict=True):
        if len(column) != len(columns[0]):
            raise RecordingError(f"{files.place}: {name} has {len(column)} windows; expected {len(columns[0])}")
    return np.stack(columns, axis=2)


def _labels(files: DataFiles, split: Split, windows: int) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    codes = files.read_table(f"{split}/y_{split}.txt", 1)[:, 0].astype(np.int64)
    subjects = files.read_table(f"{split}/subject_{split}.txt", 1)[:, 0].astype(np.int64)
    if not len(codes) == len(subjects) == windows:
        raise RecordingError(
            f"{files.place}: {windows} {split} windows, {len(codes)} labels, {len(subjects)} subjects; expected as many"
        )
    if not (codes.min() >= 1 and codes.max() <= len(LABELS)):
        raise RecordingError(f"{files.place}: y_{split}.txt runs to {codes.max()}; expected 1 to {len(LABELS)}")
    return np.array(LABELS)[codes - 1], subjects
