"""A Fitbit at the wrist, 10 Hz, ten activities of about a minute each.

`sensor_original.csv` concatenates 14 raw files without timestamps; person and arm are not stated, so it counts as one
subject. Seams between raw files inside a block are invisible in it and are read as continuous.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from simulator.datasets.location import DataSet, open_files
from simulator.datasets.timeline import EPOCH_NS, NANOSECONDS, PAUSE_NS, grid
from streamer.errors import RecordingError
from streamer.imu import ImuBatch
from streamer.number_text import parse_floats
from streamer.recording import ActivitySpan, Recording

RATE_HZ: Final = 10
DEVICE: Final = "fitbit"

DATA_SET: Final = DataSet(
    name="fitbit",
    archives=("fitbit.zip",),
    folders=("fitbit",),
    marker="sensor_original.csv",
    page="a copy of your own; no publisher's address is known",
    url=None,
)

#: Activity by its code from 0.
LABELS: Final = (
    "walking",
    "walking_upstairs",
    "walking_downstairs",
    "running",
    "standing",
    "sitting",
    "jumping",
    "squats",
    "lying",
    "sit_ups",
)

_HEADER: Final = b"ActivityID,AccelX,AccelY,AccelZ,GyroX,GyroY,GyroZ"


def read_recordings(root: Path) -> list[Recording]:
    """One recording with a block per activity, in the file's order, 10 s of nothing between blocks.

    The pause is `timeline.PAUSE_NS`: the blocks were recorded hours apart and must not run into one another. Within
    a block readings lie on an exact 10 Hz grid.

    Args:
        root: folder that holds the data set, or the data set's own folder.

    Raises:
        RecordingError: the data set is missing or not in its published form.
    """
    with open_files(root, DATA_SET) as files:
        header, _, body = files.read(DATA_SET.marker).partition(b"\n")
        values = parse_floats(body)
        if header.strip() != _HEADER or values is None or not len(values) or len(values) % 7:
            raise RecordingError(f"{files.place}: {DATA_SET.marker} is not rows of {_HEADER.decode()}")
        table = values.reshape(-1, 7)
        codes = table[:, 0].astype(np.int64)
        if not (codes.min() >= 0 and codes.max() < len(LABELS)):
            raise RecordingError(f"{files.place}: ActivityID runs to {codes.max()}; expected 0 to {len(LABELS) - 1}")
    starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    times, spans, begin_ns = [], [], EPOCH_NS
    for first, end in pairwise(starts):
        times.append(grid(begin_ns, end - first, RATE_HZ))
        end_ns = begin_ns + (end - first) * NANOSECONDS // RATE_HZ
        spans.append(ActivitySpan(LABELS[codes[first]], begin_ns, end_ns))
        begin_ns = end_ns + PAUSE_NS
    acc, gyro = np.ascontiguousarray(table[:, 1:4]), np.ascontiguousarray(table[:, 4:7])
    stream = ImuBatch(DEVICE, np.concatenate(times), acc, gyro, rate_hz=float(RATE_HZ))
    return [Recording(DEVICE, "1", (stream,), tuple(spans), float(RATE_HZ))]
