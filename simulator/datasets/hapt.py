"""HAPT: raw phone recordings at the waist, 50 Hz, of 30 subjects; the source of UCI HAR.

61 experiments of 5 to 13 minutes, 73 % of the time labelled with six activities and six postural transitions.
Source: Reyes-Ortiz et al., Transition-aware human activity recognition using smartphones, Neurocomputing 2016;
RawData/labels.txt holds experiment, user, activity, first and last sample (from 1, both included).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from simulator.datasets.location import DataFiles, DataSet, open_files
from simulator.datasets.timeline import EPOCH_NS, NANOSECONDS, grid
from streamer.errors import RecordingError
from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.recording import ActivitySpan, Recording

RATE_HZ: Final = 50
PERIOD_NS: Final = NANOSECONDS // RATE_HZ

DATA_SET: Final = DataSet(
    name="hapt",
    archives=(
        "HAPT Data Set.zip",
        "smartphone+based+recognition+of+human+activities+and+postural+transitions.zip",
    ),
    folders=("HAPT Data Set",),
    marker="RawData/labels.txt",
    page="https://archive.ics.uci.edu/dataset/341",
    url="https://archive.ics.uci.edu/static/public/341/"
    "smartphone+based+recognition+of+human+activities+and+postural+transitions.zip",
)

#: Activity by its code from 1, after activity_labels.txt; the last six are postural transitions.
LABELS: Final = (
    "walking",
    "walking_upstairs",
    "walking_downstairs",
    "sitting",
    "standing",
    "lying",
    "stand_to_sit",
    "sit_to_stand",
    "sit_to_lie",
    "lie_to_sit",
    "stand_to_lie",
    "lie_to_stand",
)

_FILE: Final = re.compile(r"RawData/acc_exp(\d\d)_user(\d\d)\.txt")


def read_recordings(root: Path, *, subjects: Collection[str] | None = None) -> list[Recording]:
    """One recording per experiment, in the order of the experiments.

    Accelerations are converted from g to m/s². The files hold no times: readings lie on an exact 50 Hz grid from
    `timeline.EPOCH_NS`. Unlabelled stretches have no span.

    Args:
        root: folder that holds the data set, or the archive or unpacked folder itself.
        subjects: "1" to "30"; None for all.

    Raises:
        RecordingError: the data set is missing or not in its published form.
    """
    with open_files(root, DATA_SET) as files:
        spans = _spans(files)
        recordings = []
        for name in files.names("RawData"):
            match = _FILE.fullmatch(name)
            if match is None:
                continue
            experiment, subject = int(match[1]), str(int(match[2]))
            if subjects is None or subject in subjects:
                recordings.append(_recording(files, name, experiment, subject, tuple(spans.get(experiment, ()))))
    return recordings


def _recording(
    files: DataFiles, name: str, experiment: int, subject: str, spans: tuple[ActivitySpan, ...]
) -> Recording:
    acc = files.read_table(name, 3) * STANDARD_GRAVITY
    gyro = files.read_table(name.replace("acc_", "gyro_"), 3)
    if len(acc) != len(gyro):
        raise RecordingError(f"{files.place}: {name} has {len(acc)} rows, its gyroscope {len(gyro)}; expected as many")
    device = f"hapt-exp{experiment:02d}"
    stream = ImuBatch(device, grid(EPOCH_NS, len(acc), RATE_HZ), acc, gyro, rate_hz=float(RATE_HZ))
    return Recording(device, subject, (stream,), spans, float(RATE_HZ))


def _spans(files: DataFiles) -> dict[int, list[ActivitySpan]]:
    by_experiment: dict[int, list[ActivitySpan]] = {}
    for row in files.read_table(DATA_SET.marker, 5):
        experiment, _, code, first, last = (int(value) for value in row)
        if not 1 <= code <= len(LABELS):
            raise RecordingError(f"{files.place}: {DATA_SET.marker} has activity {code}; expected 1 to {len(LABELS)}")
        span = ActivitySpan(LABELS[code - 1], EPOCH_NS + (first - 1) * PERIOD_NS, EPOCH_NS + last * PERIOD_NS)
        by_experiment.setdefault(experiment, []).append(span)
    return {experiment: sorted(spans, key=lambda span: span.start_ns) for experiment, spans in by_experiment.items()}
