"""The input journal: every call that the recognizer was given, in files that survive the process.

The recognizer is deterministic, so that its input is as good as its state and much cheaper to write down. A folder
holds segments, each named after its first record:

    journal-0000000000000000.log   segment header frame, then a frame for each record
    journal-0000000000004711.log   begun at a snapshot, before which nothing need be kept but for the older snapshot

A frame is its length and CRC-32 (little endian, 4 bytes each), then MessagePack. A process that is killed may leave
half a frame at the end of a segment: reading stops there, and the next process begins a segment of its own.
"""

from __future__ import annotations

import logging
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from streamer.wire.payload import Message

logger = logging.getLogger(__name__)

SCHEMA: Final = 1
_FRAME: Final = struct.Struct("<II")
_PATTERN: Final = "journal-*.log"


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call of the recognizer.

    Attributes:
        now_ns: its time argument, ns since the UTC epoch.
        deaf_ns: time just before it in which nobody listened.
        published: the events of all records before this one had been published.
        messages: in the order of arrival; none for a tick.
    """

    now_ns: int
    deaf_ns: int
    published: int
    messages: list[Message]


class _Segment(msgspec.Struct, frozen=True, array_like=True):
    schema: int
    model_digest: str
    first: int


class Journal:
    """Writes records, numbered from `first` on, to a segment of its own.

    `append` only remembers; `write` brings what was remembered to the disk and may run in another thread than
    `append`, one at a time.

    State: the records not yet written, and how far the open segment is whole.

    Attributes:
        next: number of the next record.
        durable: every record before it survives the process.
        written_bytes: payload bytes that wait no more.
    """

    def __init__(self, folder: Path, *, model_digest: str, first: int) -> None:
        self.next = self.durable = first
        self.written_bytes = 0
        self._appended_bytes = 0
        self._folder = folder
        self._model_digest = model_digest
        self._waiting: list[Call] = []
        self._file: int | None = None
        self._whole = 0
        self._begin = True

    def append(self, call: Call) -> int:
        """Remember a record for the next `write`; its number."""
        self._waiting.append(call)
        self._appended_bytes += _size_of(call)
        self.next += 1
        return self.next - 1

    @property
    def waiting_bytes(self) -> int:
        """Payload bytes that no `write` has brought to the disk."""
        return self._appended_bytes - self.written_bytes

    def write(self) -> None:
        """Bring every record that was remembered before to the disk; then `durable` is past the last of them.

        Raises:
            OSError: the disk does not take them; the next call tries again.
        """
        waiting = self._waiting[:]
        if waiting:
            frames = b"".join(map(_frame, waiting))
            if self._begin or self._file is None:
                self._open_segment()
            self._append_to_file(frames)
            # `append` may have added to its end meanwhile, and only there.
            del self._waiting[: len(waiting)]
            self.written_bytes += sum(map(_size_of, waiting))
            self.durable += len(waiting)

    def skip_to(self, record: int) -> None:
        """Forget what waits in front of a record, for a snapshot holds it; the next record begins a segment."""
        skipped = self._waiting[: max(record - self.durable, 0)]
        del self._waiting[: len(skipped)]
        self.written_bytes += sum(map(_size_of, skipped))
        self.durable += len(skipped)
        self._begin = True

    def close(self) -> None:
        """Let the open segment go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open_segment(self) -> None:
        self.close()
        path = _segment_path(self._folder, self.durable)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._whole = 0
        self._append_to_file(_frame(_Segment(SCHEMA, self._model_digest, self.durable)))
        sync_folder(self._folder)
        self._begin = False

    def _append_to_file(self, frames: bytes) -> None:
        if self._file is None:
            raise OSError("the journal is closed")
        # Behind the last whole frame, whatever an earlier attempt left there.
        os.ftruncate(self._file, self._whole)
        os.lseek(self._file, self._whole, os.SEEK_SET)
        rest = memoryview(frames)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        if sys.platform == "darwin":
            os.fsync(self._file)
        else:
            os.fdatasync(self._file)
        self._whole += len(frames)


def read_journal(folder: Path, *, model_digest: str, first: int) -> Iterator[tuple[int, Call]]:
    """The records from number `first` on, as far as they follow on each other without a hole.

    A frame torn at a segment's end is what a killed process leaves. Where a record is missing the reading ends with
    an error in the log: what comes later can't be put on top of a state that lacks it.
    """
    wanted = first
    for path in segments(folder):
        data = path.read_bytes()
        frames = _frames(data)
        try:
            header = msgspec.msgpack.decode(next(frames, b""), type=_Segment)
        except msgspec.DecodeError:
            logger.warning("%s: no segment header; passed over", path)
            continue
        if (header.schema, header.model_digest) != (SCHEMA, model_digest):
            logger.error("%s: schema %d, bundle %s; passed over", path, header.schema, header.model_digest)
            continue
        if header.first > wanted:
            logger.error("%s: begins with record %d, expected %d; reading ends there", path, header.first, wanted)
            return
        for number, frame in enumerate(frames, header.first):
            # A segment may begin again with records that could not be confirmed in the one before it.
            if number == wanted:
                yield number, msgspec.msgpack.decode(frame, type=Call)
                wanted += 1


def segments(folder: Path) -> list[Path]:
    """The segments' files in the order of their records."""
    return sorted(folder.glob(_PATTERN))


def forget_before(folder: Path, number: int) -> None:
    """Delete the segments that hold nothing but records before `number`.

    Raises:
        OSError: one can't be deleted.
    """
    files = segments(folder)
    for path, following in pairwise(files):
        if _first_of(following) > number:
            break
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: that can't be done.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _segment_path(folder: Path, first: int) -> Path:
    return folder / _PATTERN.replace("*", f"{first:016d}")


def _first_of(segment: Path) -> int:
    return int(segment.stem.partition("-")[2])


def _size_of(call: Call) -> int:
    return sum(len(message.payload) for message in call.messages)


def _frame(record: Call | _Segment) -> bytes:
    body = msgspec.msgpack.encode(record)
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _frames(data: bytes) -> Iterator[bytes]:
    """The whole frames from the beginning on."""
    at = 0
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        body = data[at + _FRAME.size : at + _FRAME.size + length]
        if len(body) < length or zlib.crc32(body) != checksum:
            logger.warning("journal: %d bytes at the end of a segment are not whole; passed over", len(data) - at)
            return
        yield body
        at += _FRAME.size + length
