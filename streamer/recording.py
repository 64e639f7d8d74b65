"""Recordings: what one watch measured, with the labels that somebody gave it; read from and written to CSV.

The CSV has a header and one line per reading, cells separated by commas:

    t_ns or time         UTC epoch, or any origin: whole nanoseconds, or seconds with decimals; ascending per device
    acc_x acc_y acc_z    m/s², gravity included
    gyro_x gyro_y gyro_z rad/s
    device               optional; several devices make several recordings; without it, the file's name
    label                optional; empty where nothing is known

One of the two sensors may be missing, as columns or line by line as empty cells (sensors with times of their own).
Other columns are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.imu import ImuBatch
from streamer.number_text import Cells, CellTable
from streamer.wire import topics

_SENSORS: Final = {sensor: tuple(f"{sensor}_{axis}" for axis in "xyz") for sensor in ("acc", "gyro")}
_CHUNK_BYTES: Final = 1 << 24
#: Longer without a reading, and a label is not taken to have held on.
_HOLE_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ActivitySpan:
    """One activity from start_ns up to, not including, end_ns (UTC epoch, ns)."""

    activity: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Recording:
    """What one watch measured over one sitting.

    Attributes:
        device_id: the watch.
        subject: the person, None when unknown.
        streams: one entry when both sensors share their times, else one per sensor; times ascend.
        spans: labelled stretches in time order, empty when nothing is labelled.
        rate_hz: nominal rate, None when unknown.
    """

    device_id: str
    subject: str | None
    streams: tuple[ImuBatch, ...]
    spans: tuple[ActivitySpan, ...] = ()
    rate_hz: float | None = None

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


def read_recordings(path: Path) -> list[Recording]:
    """The recordings in a CSV file, one per device, in the order of their first line.

    Raises:
        RecordingError: the file is missing or not in the form above; the message names line, column and value.
    """
    try:
        with path.open("rb") as file:
            reader = _CsvReader(path, file.readline())
            for chunk in _chunks(file):
                reader.push(chunk)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error
    return reader.recordings()


def write_csv(path: Path, recordings: Sequence[Recording]) -> None:
    """Write recordings as `read_recordings` reads them back, to the last bit; subjects are not kept."""
    sensors = [
        sensor for sensor in _SENSORS if any(getattr(s, sensor) is not None for r in recordings for s in r.streams)
    ]
    header = ["t_ns", "device", *(column for sensor in sensors for column in _SENSORS[sensor]), "label"]
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


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines, about 16 MiB at a time; empty lines at the end of the file are left out."""
    while chunk := file.read(_CHUNK_BYTES):
        chunk = (chunk + file.readline()).replace(b"\r", b"").replace(b'"', b"")
        if not chunk.endswith(b"\n"):
            chunk += b"\n"
        if len(chunk) < _CHUNK_BYTES // 2:
            chunk = chunk.rstrip(b"\n") + b"\n"
        yield chunk


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Lines of a file: t_ns (n,) int64; device, label (n,) numbers of names; acc, gyro (n, 3), NaN where empty."""

    t_ns: NDArray[np.int64]
    device: NDArray[np.int32]
    label: NDArray[np.int32]
    acc: NDArray[np.float64] | None
    gyro: NDArray[np.float64] | None


class _CsvReader:
    """Lines of one file to recordings, chunk by chunk.

    State: the rows so far, the names met in the device and label columns, and the next line's number.
    """

    def __init__(self, path: Path, header: bytes) -> None:
        text = header.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").replace('"', "").strip()
        names = [name.strip() for name in text.split(",")]
        self._path = path
        self._columns = {name: index for index, name in enumerate(names)}
        self._width = len(names)
        times = [name for name in ("t_ns", "time") if name in self._columns]
        if len(times) != 1:
            raise RecordingError(f"{path}: line 1 is {text!r:.100}; expected column names with one of t_ns and time")
        self._time = times[0]
        self._sensors = [sensor for sensor, axes in _SENSORS.items() if any(axis in names for axis in axes)]
        missing = [axis for sensor in self._sensors or ["acc"] for axis in _SENSORS[sensor] if axis not in names]
        if missing:
            raise RecordingError(f"{path}: line 1 has no {missing[0]}; expected all three axes of a sensor")
        self._next_line = 2
        self._rows: list[_Rows] = []
        self._devices: dict[bytes, int] = {}
        self._labels: dict[bytes, int] = {b"": 0}

    def push(self, text: bytes) -> None:
        """Take whole lines.

        Raises:
            RecordingError: a line is not in the documented form.
        """
        table = CellTable(text, self._width)
        if table.odd_row is not None:
            line = text.split(b"\n")[table.odd_row].decode("utf-8", "replace")
            raise RecordingError(
                f"{self._path}: line {self._next_line + table.odd_row} is {line!r:.100}; expected {self._width} cells"
            )
        devices = table.column(self._columns["device"]) if "device" in self._columns else np.zeros(table.rows, "S1")
        labels = table.column(self._columns["label"]) if "label" in self._columns else np.zeros(table.rows, "S1")
        sensors = {sensor: self._sensor(table, sensor) for sensor in self._sensors}
        rows = _Rows(
            self._times(table),
            _numbered(devices, self._devices),
            _numbered(labels, self._labels),
            sensors.get("acc"),
            sensors.get("gyro"),
        )
        self._rows.append(rows)
        self._next_line += table.rows

    def recordings(self) -> list[Recording]:
        """What the lines so far hold.

        Raises:
            RecordingError: no lines, a device that cannot be named so, times that go back.
        """
        if not self._rows:
            raise RecordingError(f"{self._path}: has no lines after its header; expected readings")
        t_ns = np.concatenate([rows.t_ns for rows in self._rows])
        device = np.concatenate([rows.device for rows in self._rows])
        label = np.concatenate([rows.label for rows in self._rows])
        acc = np.concatenate([rows.acc for rows in self._rows if rows.acc is not None] or [np.empty((0, 3))])
        gyro = np.concatenate([rows.gyro for rows in self._rows if rows.gyro is not None] or [np.empty((0, 3))])
        recordings = []
        for name, number in self._devices.items():
            # One watch alone needs no copy of a day of readings.
            own = np.flatnonzero(device == number) if len(self._devices) > 1 else np.s_[:]
            times = t_ns[own]
            back = np.flatnonzero(np.diff(times) < 0)
            if len(back):
                line = int(np.flatnonzero(device == number)[back[0] + 1]) + 2
                now_ns, before_ns = times[back[0] + 1], times[back[0]]
                raise self._wrong(line, self._time, f"{now_ns} ns", f"a time from {before_ns} ns on")
            device_id = self._device_id(name, int(np.argmax(device == number)) + 2)
            streams = _streams(device_id, times, acc[own] if len(acc) else None, gyro[own] if len(gyro) else None)
            if not streams:
                raise RecordingError(f"{self._path}: device {device_id} has empty cells only; expected readings")
            rate_hz = _rate_hz(streams[0].t_ns)
            spans = _spans(times, label[own], list(self._labels), rate_hz)
            recordings.append(Recording(device_id, None, streams, spans, rate_hz))
        return recordings

    def _times(self, table: CellTable) -> NDArray[np.int64]:
        index = self._columns[self._time]
        try:
            if self._time == "t_ns":
                return table.column(index).astype(np.int64)
            return table.column_ns(index)
        except (ValueError, OverflowError):
            if self._time == "t_ns":
                raise self._wrong_cell(table, "t_ns", "whole nanoseconds in 64 bits", _nanoseconds) from None
            raise self._wrong_cell(table, "time", "seconds, zero or more", _seconds) from None

    def _sensor(self, table: CellTable, sensor: str) -> NDArray[np.float64]:
        """(rows, 3) float64, NaN in the rows whose three cells are empty."""
        values = np.empty((table.rows, 3))
        for axis, name in enumerate(_SENSORS[sensor]):
            cells = table.column(self._columns[name])
            empty = cells == b""
            if empty.any():
                cells[empty] = b"0"
            try:
                values[:, axis] = cells.astype(np.float64)
            except ValueError:
                raise self._wrong_cell(table, name, "a number", _number) from None
            if not np.isfinite(values[:, axis]).all():
                raise self._wrong_cell(table, name, "a finite number", _finite)
            values[empty, axis] = np.nan
        absent = np.isnan(values)
        partly = np.flatnonzero(absent.any(axis=1) & ~absent.all(axis=1))
        if len(partly):
            name = _SENSORS[sensor][int(absent[partly[0]].argmax())]
            raise self._wrong(self._next_line + int(partly[0]), name, "empty", "all three axes or none")
        return values

    def _device_id(self, name: bytes, line: int) -> str:
        if "device" not in self._columns:
            return re.sub(r"[^A-Za-z0-9._:@-]+", "-", self._path.stem).strip("-._:@")[:64] or "recording"
        text = name.decode("utf-8", "replace")
        if not topics.DEVICE_NAME.fullmatch(text):
            raise self._wrong(line, "device", repr(text), "1 to 64 of A-Z a-z 0-9 . _ : @ -, a letter or digit first")
        return text

    def _wrong_cell(
        self, table: CellTable, column: str, expected: str, parse: Callable[[bytes], object]
    ) -> RecordingError:
        """The error for the first cell of a column that `parse` does not take."""
        for row, cell in enumerate(table.column(self._columns[column]).tolist()):
            try:
                parse(cell)
            except ValueError:
                return self._wrong(self._next_line + row, column, repr(cell.decode("utf-8", "replace")), expected)
        return RecordingError(f"{self._path}: column {column} is not {expected}")

    def _wrong(self, line: int, column: str, value: str, expected: str) -> RecordingError:
        return RecordingError(f"{self._path}: line {line}, column {column} is {value:.100}; expected {expected}")


def _numbered(cells: Cells, numbers: dict[bytes, int]) -> NDArray[np.int32]:
    """(n,) number of each cell's text; new texts get the next numbers. Looked up once per run of equal cells."""
    starts = np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]]))
    of_runs = [numbers.setdefault(cell, len(numbers)) for cell in cells[starts].tolist()]
    return np.repeat(np.array(of_runs, np.int32), np.diff(starts, append=len(cells)))


def _streams(
    device_id: str, t_ns: NDArray[np.int64], acc: NDArray[np.float64] | None, gyro: NDArray[np.float64] | None
) -> tuple[ImuBatch, ...]:
    """One stream when the rows have the same sensors throughout, else one per sensor."""
    has_acc = np.zeros(len(t_ns), bool) if acc is None else ~np.isnan(acc[:, 0])
    has_gyro = np.zeros(len(t_ns), bool) if gyro is None else ~np.isnan(gyro[:, 0])
    if has_acc.all() and has_gyro.all():
        return (ImuBatch(device_id, t_ns, acc, gyro),)
    streams = []
    if acc is not None and has_acc.any():
        streams.append(ImuBatch(device_id, t_ns[has_acc], acc[has_acc], None))
    if gyro is not None and has_gyro.any():
        streams.append(ImuBatch(device_id, t_ns[has_gyro], None, gyro[has_gyro]))
    return tuple(streams)


def _rate_hz(t_ns: NDArray[np.int64]) -> float | None:
    """Nominal rate: from the median interval, the whole number of Hz where that is within 1 %."""
    interval_ns = float(np.median(np.diff(t_ns))) if len(t_ns) > 1 else 0.0
    if interval_ns <= 0:
        return None
    rate_hz = 1e9 / interval_ns
    return float(round(rate_hz)) if abs(rate_hz - round(rate_hz)) <= 0.01 * rate_hz else rate_hz


def _spans(
    t_ns: NDArray[np.int64], label: NDArray[np.int32], names: Sequence[bytes], rate_hz: float | None
) -> tuple[ActivitySpan, ...]:
    """Runs of one label without a hole; each ends one interval after its last reading, at the latest with the next."""
    interval_ns = round(1e9 / rate_hz) if rate_hz else 1
    bounds = np.flatnonzero((np.diff(label) != 0) | (np.diff(t_ns) > _HOLE_NS)) + 1
    spans = []
    for first, end in pairwise([0, *bounds.tolist(), len(label)]):
        text = names[label[first]].decode("utf-8", "replace").strip()
        if text:
            end_ns = int(t_ns[end - 1]) + interval_ns
            if end < len(t_ns):
                end_ns = min(end_ns, int(t_ns[end]))
            spans.append(ActivitySpan(text, int(t_ns[first]), end_ns))
    return tuple(spans)


def _number(cell: bytes) -> float:
    return float(cell or b"0")


def _finite(cell: bytes) -> float:
    if not math.isfinite(value := _number(cell)):
        raise ValueError("not finite")
    return value


def _nanoseconds(cell: bytes) -> int:
    if not -(2**63) <= (value := int(cell)) < 2**63:
        raise ValueError("beyond 64 bits")
    return value


def _seconds(cell: bytes) -> float:
    if b"-" in cell or not math.isfinite(value := float(cell)):
        raise ValueError("negative or not finite")
    return value
