"""WISDM: smartwatch (LG G Watch) at the wrist, 20 Hz nominal, 18 activities of about three minutes each.

Source: Weiss, Yoneda, Hayajneh: Smartphone and smartwatch-based biometrics using activities of daily living, IEEE
Access 2019. Files hold one activity after the other by code; their times are the watch's own clock (ns since it was
started), so each file jumps back and forth in time. Accelerometer and gyroscope stand in files of their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.datasets.location import DataFiles, DataSet, open_files
from simulator.datasets.timeline import EPOCH_NS, PAUSE_NS
from streamer.errors import RecordingError
from streamer.imu import ImuBatch
from streamer.number_text import parse_floats
from streamer.recording import ActivitySpan, Recording

RATE_HZ: Final = 20.0

DATA_SET: Final = DataSet(
    name="wisdm-watch",
    archives=(
        "wisdm-dataset.zip",
        "wisdm+smartphone+and+smartwatch+activity+and+biometrics+dataset.zip",
    ),
    folders=("wisdm-dataset",),
    marker="activity_key.txt",
    page="https://archive.ics.uci.edu/dataset/507",
    url="https://archive.ics.uci.edu/static/public/507/"
    "wisdm+smartphone+and+smartwatch+activity+and+biometrics+dataset.zip",
)

#: Activity by its letter, after activity_key.txt; there is no N.
LABELS: Final = {
    "A": "walking",
    "B": "running",
    "C": "stairs",
    "D": "sitting",
    "E": "standing",
    "F": "typing",
    "G": "brushing_teeth",
    "H": "eating_soup",
    "I": "eating_chips",
    "J": "eating_pasta",
    "K": "drinking",
    "L": "eating_sandwich",
    "M": "kicking",
    "O": "catching",
    "P": "dribbling",
    "Q": "writing",
    "R": "clapping",
    "S": "folding_clothes",
}

_FILE: Final = re.compile(r"raw/watch/accel/data_(\d+)_accel_watch\.txt")
_TO_BLANKS: Final = bytes.maketrans(b",;", b"  ")
_BLANK: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class _SensorFile:
    """codes (n,) uint8 ASCII letters; t_ns (n,) int64 on the watch's clock; values (n, 3) float64."""

    codes: NDArray[np.uint8]
    t_ns: NDArray[np.int64]
    values: NDArray[np.float64]

    def of(self, code: int) -> _SensorFile:
        """The rows of one activity."""
        rows = self.codes == code
        return _SensorFile(self.codes[rows], self.t_ns[rows], self.values[rows])


def read_recordings(root: Path, *, subjects: Collection[str] | None = None) -> list[Recording]:
    """One recording per subject with both sensors, by subject number; accelerometer and gyroscope as two streams.

    Activities follow one another in the order in which the watch's clock says they were recorded. Times inside an
    activity are the watch's, to the nanosecond and with their holes; what lay between activities (23 s to 18 h) is
    shortened to `timeline.PAUSE_NS`, the first reading lies at `timeline.EPOCH_NS`. Most readings are 49.5 to 50 ms
    apart; seven activities have stretches at about 100 Hz.

    Args:
        root: folder that holds the data set, or the archive or unpacked folder itself.
        subjects: "1600" to "1650"; None for all.

    Raises:
        RecordingError: the data set is missing or not in its published form.
    """
    with open_files(root, DATA_SET) as files:
        gyros = set(files.names("raw/watch/gyro"))
        recordings = []
        for name in files.names("raw/watch/accel"):
            match = _FILE.fullmatch(name)
            # Some published copies lack files; a recording needs both sensors.
            if match is None or (subjects is not None and match[1] not in subjects):
                continue
            gyro_name = name.replace("accel", "gyro")
            if gyro_name in gyros:
                recordings.append(_recording(match[1], _read(files, name), _read(files, gyro_name)))
    return recordings


def _recording(subject: str, acc: _SensorFile, gyro: _SensorFile) -> Recording:
    device = f"wisdm-{subject}"
    blocks = []
    for code in np.intersect1d(acc.codes, gyro.codes).tolist():
        block_acc, block_gyro = acc.of(code), gyro.of(code)
        start_ns = int(min(block_acc.t_ns[0], block_gyro.t_ns[0]))
        blocks.append((start_ns, LABELS[chr(code)], block_acc, block_gyro))
    blocks.sort(key=lambda block: block[0])
    acc_times, gyro_times, spans, begin_ns = [], [], [], EPOCH_NS
    for start_ns, activity, block_acc, block_gyro in blocks:
        acc_times.append(block_acc.t_ns + (begin_ns - start_ns))
        gyro_times.append(block_gyro.t_ns + (begin_ns - start_ns))
        end_ns = int(max(acc_times[-1][-1], gyro_times[-1][-1])) + 1
        spans.append(ActivitySpan(activity, begin_ns, end_ns))
        begin_ns = end_ns + PAUSE_NS
    acc_values = np.concatenate([block.values for _, _, block, _ in blocks])
    gyro_values = np.concatenate([block.values for _, _, _, block in blocks])
    streams = (
        ImuBatch(device, np.concatenate(acc_times), acc_values, None),
        ImuBatch(device, np.concatenate(gyro_times), None, gyro_values),
    )
    return Recording(device, subject, streams, tuple(spans), RATE_HZ)


def _read(files: DataFiles, name: str) -> _SensorFile:
    """A file of lines `subject,letter,t_ns,x,y,z;`."""
    text = np.frombuffer(files.read(name).translate(_TO_BLANKS), np.uint8).copy()
    letters = (text >= ord("A")) & (text <= ord("S"))
    # A letter between blanks is an activity; one inside a number is Java's exponent (1.0E-4).
    letters[1:-1] &= (text[:-2] == _BLANK) & (text[2:] == _BLANK)
    codes = text[letters]
    text[letters] = _BLANK
    values = parse_floats(text.tobytes())
    if values is None or not len(codes) or len(values) != 5 * len(codes):
        raise RecordingError(f"{files.place}: {name} is not lines of `subject,activity letter,t_ns,x,y,z;`")
    unheard = sorted({chr(code) for code in np.unique(codes).tolist()} - LABELS.keys())
    if unheard:
        raise RecordingError(f"{files.place}: {name} has activity {unheard[0]}; expected one of {''.join(LABELS)}")
    table = values.reshape(-1, 5)
    # Clocks stay below 2^53 ns (104 days since the watch was started), so the way through float64 is exact.
    if table[:, 1].max() >= 2**53:
        raise RecordingError(f"{files.place}: {name} has times of 2^53 ns and more; expected a watch's own clock")
    return _SensorFile(codes, table[:, 1].astype(np.int64), np.ascontiguousarray(table[:, 2:]))
