"""Capture files as they are written: message by message, whole at every moment.

A message goes to the file in one write, and a write that fails is taken back, so that JSON lines and CSV are whole
whenever the process ends, by SIGKILL too; `sync` puts them on the disk. Parquet has its index at the end: its messages
wait as JSON lines beside it until `close`, and are what a crash leaves.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Protocol

from simulator.capture_rows import csv_rows, header, parquet_from_lines, require_pyarrow
from streamer.errors import ConfigError, HarError, nearest
from streamer.recording import Arrived
from streamer.recordings.jsonl import encode_line

#: Endings of names, and what they make of a file.
FORMATS: Final = (".jsonl", ".csv", ".parquet")


class CaptureError(HarError):
    """What was captured cannot be written any more."""


class CaptureFile(Protocol):
    """A file that takes messages."""

    @property
    def size(self) -> int:
        """Bytes written."""
        ...

    def add(self, message: Arrived, label: str | None) -> None:
        """Write a message.

        Raises:
            CaptureError: it cannot be written; what was before it is there.
        """
        ...

    def sync(self) -> None:
        """Have everything on the disk."""
        ...

    def close(self) -> Path | None:
        """Finish; where the messages are, None where there were none, and then no file.

        Raises:
            CaptureError: the file cannot be finished.
        """
        ...


def open_capture(path: Path, *, force: bool) -> CaptureFile:
    """A file whose format follows from its name; it comes into being with the first message.

    Raises:
        ConfigError: no such format, the file is there and `force` does not say to replace it, or it cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        meant = nearest(suffix, FORMATS)
        raise ConfigError(f"--out {path}: expected a name that ends with {', '.join(FORMATS)}{meant}")
    if path.is_dir():
        raise ConfigError(f"--out {path}: is a folder; expected the name of a file")
    if path.exists() and not force:
        raise ConfigError(f"--out {path}: is there already; expected a new name, or --force to replace it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {path}: cannot be written; expected a name in a folder that can")
    if suffix == ".parquet":
        require_pyarrow(path)
        return _ParquetFile(path, force=force)
    return _CsvFile(path, force=force) if suffix == ".csv" else _LinesFile(path, force=force)


class _Appended:
    """A file of whole pieces.

    State: the file, from the first piece on, and its size.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        self.path = path
        self.size = 0
        self._flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if force else os.O_EXCL)
        self._file: int | None = None

    def write(self, piece: bytes) -> None:
        """Write all of a piece or nothing.

        Raises:
            CaptureError: it cannot be.
        """
        try:
            if self._file is None:
                self._file = os.open(self.path, self._flags, 0o666)
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            if self._file is not None:
                os.ftruncate(self._file, self.size)
            raise CaptureError(
                f"{self.path}: cannot be written any further ({error.strerror}); it holds {self.size} bytes, all whole"
            ) from error
        self.size += len(piece)

    def sync(self) -> None:
        """Have everything on the disk."""
        if self._file is not None:
            os.fsync(self._file)

    def close(self) -> Path | None:
        """Finish; None where nothing was written."""
        if self._file is None:
            return None
        self.sync()
        os.close(self._file)
        self._file = None
        return self.path


class _LinesFile(_Appended):
    """JSON lines."""

    def add(self, message: Arrived, label: str | None) -> None:
        """See `CaptureFile`."""
        self.write(encode_line(message, label))


class _CsvFile(_Appended):
    """Rows.

    State: messages so far.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        super().__init__(path, force=force)
        self._messages = 0

    def add(self, message: Arrived, label: str | None) -> None:
        """See `CaptureFile`."""
        rows = csv_rows(message, self._messages, label)
        self.write(rows if self._messages else header() + rows)
        self._messages += 1


class _ParquetFile:
    """Rows in columns, made of lines at the end."""

    def __init__(self, path: Path, *, force: bool) -> None:
        self._path = path
        # What an earlier crash left behind is somebody's recording.
        lines = path.with_name(f"{path.name}.jsonl")
        if lines.exists() and not force:
            raise ConfigError(
                f"--out {path}: {lines} is left of a recording that did not end; expected a new name, or --force to "
                "replace it"
            )
        self._lines = _LinesFile(lines, force=force)

    @property
    def size(self) -> int:
        """Bytes of the lines."""
        return self._lines.size

    def add(self, message: Arrived, label: str | None) -> None:
        """See `CaptureFile`."""
        self._lines.add(message, label)

    def sync(self) -> None:
        """See `CaptureFile`."""
        self._lines.sync()

    def close(self) -> Path | None:
        """See `CaptureFile`."""
        lines = self._lines.close()
        if lines is None:
            return None
        draft = self._path.with_name(f"{self._path.name}.tmp")
        try:
            parquet_from_lines(lines, draft)
            draft.replace(self._path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise CaptureError(
                f"{self._path}: cannot be written ({error.strerror or error}); the recording is in {lines}"
            ) from error
        lines.unlink()
        return self._path
