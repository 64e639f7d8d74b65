"""Recordings: what one watch measured, with the labels that somebody gave it; read from files.

A CSV has a header and one line per reading, cells separated by commas; a Parquet file has the same columns:

    t_ns or time         UTC epoch, or any origin: whole nanoseconds, or seconds with decimals; ascending per device
    acc_x acc_y acc_z    m/s², gravity included
    gyro_x gyro_y gyro_z rad/s
    device               optional; several devices make several recordings; without it, the file's name
    label                optional; empty where nothing is known

One of the two sensors may be missing, as columns or line by line as empty cells (sensors with times of their own).
Other columns are ignored. An .npz archive of NumPy has arrays instead of columns: t_ns (n,) or time (n,), acc (n, 3),
gyro (n, 3), and if there, device and label, (n,) or one for all. NaN stands for an empty cell.

A *capture* is a recording that also knows its messages: which readings came together, when, in which order, and what
the sender declared about them. It gives what was recognised live again to the last bit. JSON lines (.jsonl) hold a
message a line; in a CSV or Parquet file the columns arrived_ns and message make a capture, with rate_hz and seq for
what was declared, and times may go back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.imu import ImuBatch

#: Columns of each sensor.
SENSORS: Final = {sensor: tuple(f"{sensor}_{axis}" for axis in "xyz") for sensor in ("acc", "gyro")}
#: How files begin: that tells their formats, whatever they are called.
_PARQUET: Final = b"PAR1"
_ZIP: Final = b"PK\x03\x04"
_BRACE: Final = b"{"


@dataclass(frozen=True, slots=True)
class ActivitySpan:
    """One activity from start_ns up to, not including, end_ns (UTC epoch, ns)."""

    activity: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Arrived(ImuBatch):
    """One message as it came.

    Attributes:
        arrived_ns: when, ns since the UTC epoch, by the clock of whoever recorded it.
    """

    arrived_ns: int = 0

    @property
    def batch(self) -> ImuBatch:
        """The readings alone, as a recognizer takes them."""
        return self[:]


@dataclass(frozen=True, slots=True)
class Recording:
    """What one watch measured over one sitting.

    Attributes:
        device_id: the watch.
        subject: the person, None when unknown.
        streams: one entry when both sensors share their times, else one per sensor; times ascend.
        spans: labelled stretches in time order, empty when nothing is labelled.
        rate_hz: nominal rate, None when unknown.
        arrivals: of a capture the messages in their order of arrival, which its streams sort by time; else empty.
    """

    device_id: str
    subject: str | None
    streams: tuple[ImuBatch, ...]
    spans: tuple[ActivitySpan, ...] = ()
    rate_hz: float | None = None
    arrivals: tuple[Arrived, ...] = ()

    @property
    def start_ns(self) -> int:
        """Time of the first reading."""
        return min(int(stream.t_ns[0]) for stream in self.streams)

    @property
    def end_ns(self) -> int:
        """Time of the last reading."""
        return max(int(stream.t_ns[-1]) for stream in self.streams)

    def messages(self, readings: int) -> Iterator[ImuBatch]:
        """The readings in messages of at most `readings`, in the order of their last reading's time."""
        pieces = [stream[i : i + readings] for stream in self.streams for i in range(0, len(stream), readings)]
        pieces.sort(key=lambda piece: int(piece.t_ns[-1]))
        yield from pieces


def in_order_of_arrival(recordings: Iterable[Recording]) -> Iterator[Arrived]:
    """The messages of all captures among the recordings."""
    return heapq.merge(*(recording.arrivals for recording in recordings), key=lambda message: message.arrived_ns)


def read_recordings(path: Path) -> list[Recording]:
    """The recordings in a CSV, JSON lines, Parquet or .npz file, one per device, in the order of their first line.

    Raises:
        RecordingError: the file is missing or not in the form above; the message names row, column and value.
    """
    # The formats' modules make Recordings, so they can't be imported before those are defined.
    from streamer.recordings.csv import read_csv  # noqa: PLC0415
    from streamer.recordings.jsonl import read_jsonl  # noqa: PLC0415
    from streamer.recordings.npz import read_npz_recordings  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            begin = file.peek(4)[:4]
            if begin == _PARQUET:
                # pyarrow is optional.
                from streamer.recordings.parquet import read_parquet  # noqa: PLC0415

                return read_parquet(path, file)
            if begin[:1] == _BRACE:
                return read_jsonl(path, file)
            return read_npz_recordings(path, file) if begin == _ZIP else read_csv(path, file)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror or error})") from error


def write_csv(path: Path, recordings: Sequence[Recording]) -> None:
    """Write recordings as `read_recordings` reads them back, to the last bit; subjects are not kept."""
    sensors = [
        sensor for sensor in SENSORS if any(getattr(s, sensor) is not None for r in recordings for s in r.streams)
    ]
    header = ["t_ns", "device", *(column for sensor in sensors for column in SENSORS[sensor]), "label"]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        print(*header, sep=",", file=file)
        for recording in recordings:
            file.writelines(_lines(recording, sensors))


def _lines(recording: Recording, sensors: Sequence[str]) -> Iterator[str]:
    span_starts = np.array([span.start_ns for span in recording.spans], np.int64)
    rows: list[tuple[int, str]] = []
    for stream in recording.streams:
        cells = []
        for sensor in sensors:
            values: NDArray[np.float64] | None = getattr(stream, sensor)
            cells.append(
                [",,"] * len(stream) if values is None else [f"{x!r},{y!r},{z!r}" for x, y, z in values.tolist()]
            )
        which = (np.searchsorted(span_starts, stream.t_ns, side="right") - 1).tolist()
        for t_ns, span_index, *measured in zip(stream.t_ns.tolist(), which, *cells, strict=True):
            span = recording.spans[span_index] if span_index >= 0 else None
            label = span.activity if span is not None and t_ns < span.end_ns else ""
            rows.append((t_ns, f"{t_ns},{recording.device_id},{','.join(measured)},{label}\n"))
    rows.sort(key=lambda row: row[0])
    return (line for _, line in rows)
