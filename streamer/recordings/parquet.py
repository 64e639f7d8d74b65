"""Recordings in Parquet: the columns of the CSV form; see `streamer.recording`. Needs the extra `parquet`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError, one_line
from streamer.recording import SENSORS, Recording
from streamer.recordings import captures
from streamer.recordings.npz import nanoseconds
from streamer.recordings.rows import LONGEST_NAME, RowReader
from streamer.recordings.table import Arrivals

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK_ROWS: Final = 1 << 18


def read_parquet(path: Path, file: BinaryIO) -> list[Recording]:
    """The recordings in an opened Parquet file.

    Raises:
        RecordingError: pyarrow is not installed, or the file is not in the form; the message names row, column, value.
        OSError: it cannot be read.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise RecordingError(f"{path}: is Parquet, which needs pyarrow: pip install 'har-stream[parquet]'") from error
    try:
        table = pq.ParquetFile(file)
        reader = _ParquetReader(path, table.schema_arrow)
        for block in table.iter_batches(batch_size=_BLOCK_ROWS, columns=reader.columns):
            reader.push(block)
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError) as error:
        raise RecordingError(f"{path}: not readable as Parquet ({one_line(error)})") from error
    return reader.recordings()


class _ParquetReader:
    """Blocks of one file to recordings.

    State: the rows so far.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        names = schema.names
        times = [name for name in ("t_ns", "time") if name in names]
        if len(times) != 1:
            columns = ", ".join(names)
            raise RecordingError(f"{path}: has the columns {one_line(columns, 100)}; expected one of t_ns and time")
        self._time = times[0]
        self._sensors = [sensor for sensor, axes in SENSORS.items() if any(axis in names for axis in axes)]
        missing = [axis for sensor in self._sensors or ["acc"] for axis in SENSORS[sensor] if axis not in names]
        if missing:
            raise RecordingError(f"{path}: has no column {missing[0]}; expected all three axes of a sensor")
        self._path = path
        self._rows = RowReader(path, time_column=self._time, names_devices="device" in names)
        self._named = [name for name in ("device", "label") if name in names]
        self._arrived = [name for name in (*captures.REQUIRED, *captures.OPTIONAL) if name in names]
        if not set(captures.REQUIRED) <= set(self._arrived):
            self._arrived = []
        axes = (axis for sensor in self._sensors for axis in SENSORS[sensor])
        self.columns = [self._time, *axes, *self._named, *self._arrived]

    def push(self, block: pa.RecordBatch) -> None:
        """Take a block of rows.

        Raises:
            RecordingError: a column or row is not in the documented form.
        """
        sensors = {
            sensor: np.stack([self._numbers(block, axis) for axis in SENSORS[sensor]], axis=1)
            for sensor in self._sensors
        }
        names = {name: self._names(block, name) for name in self._named}
        self._rows.add(
            self._times(block),
            device=names.get("device"),
            label=names.get("label"),
            acc=sensors.get("acc"),
            gyro=sensors.get("gyro"),
            arrivals=self._arrivals(block) if self._arrived else None,
        )

    def recordings(self) -> list[Recording]:
        """What the blocks so far hold.

        Raises:
            RecordingError: no rows, a device that cannot be named so, times that go back.
        """
        return self._rows.recordings()

    def _times(self, block: pa.RecordBatch) -> NDArray[np.int64]:
        import pyarrow as pa  # noqa: PLC0415 - optional

        column = block.column(self._time)
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise self._rows.wrong(row, self._time, "empty", "a time")
        if self._time == "time":
            if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
                raise self._wrong_type("time", column.type, "seconds")
            return nanoseconds(self._rows, column.to_numpy(zero_copy_only=False))
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64())
        if not pa.types.is_integer(column.type):
            raise self._wrong_type("t_ns", column.type, "integers or timestamps")
        times: NDArray[np.int64] = column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
        return times

    def _arrivals(self, block: pa.RecordBatch) -> Arrivals:
        rate_hz = np.zeros(block.num_rows)
        if "rate_hz" in self._arrived:
            # A null is NaN there.
            rate_hz = np.nan_to_num(self._numbers(block, "rate_hz"))
        return Arrivals(
            message=self._integers(block, "message"),
            arrived_ns=self._integers(block, "arrived_ns"),
            rate_hz=rate_hz,
            seq=self._integers(block, "seq", absent=-1),
        )

    def _integers(self, block: pa.RecordBatch, name: str, *, absent: int | None = None) -> NDArray[np.int64]:
        """(rows,) int64; `absent` stands for nulls and for a column that is not there."""
        import pyarrow as pa  # noqa: PLC0415 - optional

        if absent is not None and name not in self._arrived:
            return np.full(block.num_rows, absent, np.int64)
        column = block.column(name)
        if not pa.types.is_integer(column.type):
            raise self._wrong_type(name, column.type, "integers")
        if column.null_count:
            if absent is None:
                row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
                raise self._rows.wrong(row, name, "empty", "a whole number")
            column = column.fill_null(absent)
        numbers: NDArray[np.int64] = column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
        return numbers

    def _numbers(self, block: pa.RecordBatch, name: str) -> NDArray[np.float64]:
        import pyarrow as pa  # noqa: PLC0415 - optional

        column = block.column(name)
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            raise self._wrong_type(name, column.type, "numbers")
        values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        return values

    def _names(self, block: pa.RecordBatch, name: str) -> NDArray[np.bytes_]:
        import pyarrow as pa  # noqa: PLC0415 - optional

        column: Any = block.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise self._wrong_type(name, column.type, "text")
        # Few names on many rows: encoded once each.
        coded = column.fill_null("").dictionary_encode()
        texts = [text.encode() for text in coded.dictionary.to_pylist()]
        for number, text in enumerate(texts):
            if len(text) > LONGEST_NAME:
                row = int(np.flatnonzero(coded.indices.to_numpy() == number)[0])
                raise self._rows.wrong(row, name, "too long", f"at most {LONGEST_NAME} bytes")
        names: NDArray[np.bytes_] = np.array(texts or [b""], np.bytes_)[coded.indices.to_numpy()]
        return names

    def _wrong_type(self, name: str, found: object, expected: str) -> RecordingError:
        return RecordingError(f"{self._path}: column {name} is {one_line(found, 50)}; expected {expected}")
