"""A capture's messages as rows: of CSV, and of Parquet, which is made from JSON lines."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from streamer.errors import ConfigError
from streamer.recording import SENSORS, Arrived
from streamer.recordings.jsonl import read_messages

#: The columns that every reader takes, then those by which rows are a capture.
COLUMNS: Final = ("t_ns", "device", *chain(*SENSORS.values()), "label", "arrived_ns", "message", "rate_hz", "seq")
#: Readings of a row group: a minute of many watches, an hour of one.
_GROUP_ROWS: Final = 200_000


def header() -> bytes:
    """The first line of CSV."""
    return ",".join(COLUMNS).encode() + b"\n"


def csv_rows(message: Arrived, number: int, label: str | None) -> bytes:
    """A message's readings, a line each; numbers in the shortest form that reads back the same double."""
    cells = []
    for values in (message.acc, message.gyro):
        if values is None:
            cells.append([",,"] * len(message))
        else:
            cells.append([f"{x!r},{y!r},{z!r}" for x, y, z in values.tolist()])
    rate_hz = "" if message.rate_hz is None else repr(message.rate_hz)
    seq = "" if message.seq is None else message.seq
    end = f"{label or ''},{message.arrived_ns},{number},{rate_hz},{seq}\n"
    rows = zip(message.t_ns.tolist(), *cells, strict=True)
    return "".join(f"{t_ns},{message.device_id},{acc},{gyro},{end}" for t_ns, acc, gyro in rows).encode()


def require_pyarrow(path: Path) -> None:
    """Raise where Parquet cannot be written.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(f"--out {path}: Parquet needs pyarrow: pip install 'har-stream[parquet]', or take .csv")


def parquet_from_lines(lines: Path, path: Path) -> None:
    """Write the messages of JSON lines as Parquet.

    Raises:
        OSError: it cannot be written.
    """
    import pyarrow as pa  # noqa: PLC0415 - optional
    import pyarrow.parquet as pq  # noqa: PLC0415

    kinds = {"t_ns": pa.int64(), "arrived_ns": pa.int64(), "message": pa.int64(), "seq": pa.int64()}
    kinds |= {"device": pa.string(), "label": pa.string()}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in COLUMNS])
    with lines.open("rb") as file, pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for columns in _groups(enumerate(read_messages(lines, file))):
            writer.write_table(pa.table(columns, schema=schema))


def _groups(messages: Iterator[tuple[int, tuple[Arrived, str]]]) -> Iterator[dict[str, Any]]:
    """Columns of up to a row group's messages; None stands for null."""
    waiting: list[tuple[int, Arrived, str]] = []
    rows = 0
    for number, (message, label) in messages:
        waiting.append((number, message, label))
        rows += len(message)
        if rows >= _GROUP_ROWS:
            yield _columns(waiting)
            waiting, rows = [], 0
    if waiting:
        yield _columns(waiting)


def _columns(messages: list[tuple[int, Arrived, str]]) -> dict[str, Any]:
    def each(values: list[Any]) -> list[Any]:
        return [value for value, (_, m, _) in zip(values, messages, strict=True) for _ in range(len(m))]

    columns: dict[str, Any] = {
        "t_ns": np.concatenate([m.t_ns for _, m, _ in messages]),
        "device": each([m.device_id for _, m, _ in messages]),
        "label": each([label or None for _, _, label in messages]),
        "arrived_ns": each([m.arrived_ns for _, m, _ in messages]),
        "message": each([number for number, _, _ in messages]),
        "rate_hz": each([m.rate_hz for _, m, _ in messages]),
        "seq": each([m.seq for _, m, _ in messages]),
    }
    for sensor, axes in SENSORS.items():
        for axis, name in enumerate(axes):
            column: list[float | None] = []
            for _, message, _ in messages:
                values = message.acc if sensor == "acc" else message.gyro
                column += [None] * len(message) if values is None else values[:, axis].tolist()
            columns[name] = column
    return {name: columns[name] for name in COLUMNS}
