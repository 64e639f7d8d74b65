"""Recordings in CSV: a header and one line per reading, cells separated by commas; see `streamer.recording`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.number_text import CellTable
from streamer.recording import SENSORS, Recording
from streamer.recordings import captures
from streamer.recordings.rows import LONGEST_NAME, RowReader
from streamer.recordings.table import Arrivals

_CHUNK_BYTES: Final = 1 << 24
#: A header is no longer than this, whatever the file is.
_LONGEST_HEADER: Final = 10_000


def read_csv(path: Path, file: BinaryIO) -> list[Recording]:
    """The recordings in an opened CSV file.

    Raises:
        RecordingError: it is not in the form; the message names line, column and value.
        OSError: it cannot be read.
    """
    reader = _CsvReader(path, file.readline(_LONGEST_HEADER))
    for chunk in _chunks(path, file):
        reader.push(chunk)
    return reader.recordings()


def _chunks(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """Whole lines, about 16 MiB at a time; empty lines at the end of the file are left out."""
    while chunk := file.read(_CHUNK_BYTES):
        chunk += file.readline(_CHUNK_BYTES)
        if len(chunk) >= 2 * _CHUNK_BYTES:
            raise RecordingError(f"{path}: a line has more than {_CHUNK_BYTES} bytes; expected readings")
        chunk = chunk.replace(b"\r", b"").replace(b'"', b"")
        if not chunk.endswith(b"\n"):
            chunk += b"\n"
        if len(chunk) < _CHUNK_BYTES // 2:
            chunk = chunk.rstrip(b"\n") + b"\n"
        yield chunk


class _CsvReader:
    """Lines of one file to recordings, chunk by chunk.

    State: the rows so far.
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
        self._sensors = [sensor for sensor, axes in SENSORS.items() if any(axis in names for axis in axes)]
        missing = [axis for sensor in self._sensors or ["acc"] for axis in SENSORS[sensor] if axis not in names]
        if missing:
            raise RecordingError(f"{path}: line 1 has no {missing[0]}; expected all three axes of a sensor")
        self._is_capture = all(name in self._columns for name in captures.REQUIRED)
        used = [self._time, *(axis for sensor in self._sensors for axis in SENSORS[sensor]), "device", "label"]
        if self._is_capture:
            used += [*captures.REQUIRED, *captures.OPTIONAL]
        self._used = [name for name in used if name in self._columns]
        self._rows = RowReader(
            path, time_column=self._time, names_devices="device" in self._columns, place=lambda row: f"line {row + 2}"
        )

    def push(self, text: bytes) -> None:
        """Take whole lines.

        Raises:
            RecordingError: a line is not in the documented form.
        """
        table = CellTable(text, self._width)
        if table.odd_row is not None:
            line = text.split(b"\n")[table.odd_row].decode("utf-8", "replace")
            raise RecordingError(
                f"{self._path}: line {self._rows.rows + 2 + table.odd_row} is {line!r:.100}; "
                f"expected {self._width} cells"
            )
        for name in self._used:
            # All cells of a column take the room of the longest.
            row = table.first_longer_than(LONGEST_NAME, self._columns[name])
            if row is not None:
                raise self._rows.wrong(row, name, "too long", f"at most {LONGEST_NAME} bytes")
        sensors = {sensor: self._sensor(table, sensor) for sensor in self._sensors}
        self._rows.add(
            self._times(table),
            device=table.column(self._columns["device"]) if "device" in self._columns else None,
            label=table.column(self._columns["label"]) if "label" in self._columns else None,
            acc=sensors.get("acc"),
            gyro=sensors.get("gyro"),
            arrivals=self._arrivals(table) if self._is_capture else None,
        )

    def recordings(self) -> list[Recording]:
        """What the lines so far hold.

        Raises:
            RecordingError: no lines, a device that cannot be named so, times that go back.
        """
        if not self._rows.rows:
            raise RecordingError(f"{self._path}: has no lines after its header; expected readings")
        return self._rows.recordings()

    def _times(self, table: CellTable) -> NDArray[np.int64]:
        index = self._columns[self._time]
        try:
            if self._time == "t_ns":
                return table.column(index).astype(np.int64)
            return table.column_ns(index)
        except (ValueError, OverflowError):
            if self._time == "t_ns":
                raise self._wrong_cell(table, "t_ns", "whole nanoseconds in 64 bits", _nanoseconds) from None
            raise self._wrong_cell(table, "time", "seconds, zero or more, before 2116", _seconds) from None

    def _arrivals(self, table: CellTable) -> Arrivals:
        return Arrivals(
            message=self._integers(table, "message"),
            arrived_ns=self._integers(table, "arrived_ns"),
            rate_hz=self._rates(table),
            seq=self._integers(table, "seq", absent=b"-1"),
        )

    def _integers(self, table: CellTable, name: str, *, absent: bytes | None = None) -> NDArray[np.int64]:
        """(rows,) int64; `absent` stands for empty cells and for a column that is not there."""
        if absent is not None and name not in self._columns:
            return np.full(table.rows, int(absent), np.int64)
        cells = table.column(self._columns[name])
        if absent is not None:
            cells = np.where(cells == b"", absent, cells)
        try:
            return cells.astype(np.int64)
        except (ValueError, OverflowError):
            raise self._wrong_cell(table, name, "a whole number in 64 bits", _nanoseconds) from None

    def _rates(self, table: CellTable) -> NDArray[np.float64]:
        """(rows,) float64, 0 where none is declared."""
        if "rate_hz" not in self._columns:
            return np.zeros(table.rows)
        cells = table.column(self._columns["rate_hz"])
        try:
            return np.where(cells == b"", b"0", cells).astype(np.float64)
        except ValueError:
            raise self._wrong_cell(table, "rate_hz", "a number", _number) from None

    def _sensor(self, table: CellTable, sensor: str) -> NDArray[np.float64]:
        """(rows, 3) float64, NaN where a cell is empty."""
        values = np.empty((table.rows, 3))
        for axis, name in enumerate(SENSORS[sensor]):
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
        return values

    def _wrong_cell(
        self, table: CellTable, column: str, expected: str, parse: Callable[[bytes], object]
    ) -> RecordingError:
        """The error for the first cell of a column that `parse` does not take."""
        for row, cell in enumerate(table.column(self._columns[column]).tolist()):
            try:
                parse(cell)
            except ValueError:
                return self._rows.wrong(row, column, repr(cell.decode("utf-8", "replace")), expected)
        return RecordingError(f"{self._path}: column {column} is not {expected}")


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
    if b"-" in cell or not 0 <= (value := float(cell)) < 2**62 / 1e9:
        raise ValueError("negative, endless or too far in the future")
    return value
