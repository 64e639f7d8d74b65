"""Snapshots: the whole state before a record of the journal, in one file that is there whole or not at all.

    magic, CRC-32 of all that follows, length of the header, header (MessagePack), the fleet's state (watch_state.py)

The newest two are kept: should the newest turn out to be damaged, the one before it and more of the journal do.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from streamer.durability.journal import sync_folder
from streamer.watch_state import Piece
from streamer.watches import Liveness

logger = logging.getLogger(__name__)

SCHEMA: Final = 3
_MAGIC: Final = b"har-stream snapshot\n"
_PREFIX: Final = struct.Struct("<II")
_PATTERN: Final = "snapshot-*.bin"
_GENERATIONS: Final = 2


class Unpublished(msgspec.Struct, frozen=True, array_like=True):
    """A publication that the broker has not confirmed yet, and the record that led to it."""

    record: int
    topic: str
    payload: bytes
    retain: bool


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot holds besides the fleet's state.

    Attributes:
        schema: version of this layout.
        model_digest: the bundle's.
        workers: among how many processes the watches were shared.
        record: the journal's first record that is not in the state.
        now_ns: time of the newest call in the state.
        liveness: when watches were last heard of.
        outbox: what was still to be published.
        unacknowledged: digests of messages in the state that the broker may bring again.
        farewell: what would end every bout, should this bundle not be the next process's.
    """

    schema: int
    model_digest: str
    workers: int
    record: int
    now_ns: int
    liveness: Liveness
    outbox: list[Unpublished]
    unacknowledged: list[int]
    farewell: list[Unpublished]


def write_snapshot(folder: Path, header: Header, pieces: Iterable[Piece]) -> int:
    """Write a snapshot and delete all but the newest two; the oldest record that the kept ones need.

    Raises:
        OSError: the disk does not take it; the earlier ones stay.
    """
    path = folder / _PATTERN.replace("*", f"{header.record:016d}")
    unfinished = path.with_suffix(".tmp")
    encoded = msgspec.msgpack.encode(header)
    try:
        with unfinished.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(_MAGIC + _PREFIX.pack(0, len(encoded)))
            checksum = zlib.crc32(len(encoded).to_bytes(4, "little"))
            for piece in (encoded, *pieces):
                checksum = zlib.crc32(piece, checksum)
                file.write(piece)
            file.seek(len(_MAGIC))
            file.write(_PREFIX.pack(checksum, len(encoded)))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            unfinished.unlink()
        raise
    unfinished.replace(path)
    sync_folder(folder)
    kept = snapshots(folder)
    for outdated in kept[:-_GENERATIONS]:
        outdated.unlink()
    # The first snapshot has the journal's beginning for its elder.
    return _record_of(kept[-_GENERATIONS]) if len(kept) >= _GENERATIONS else 0


def load_snapshot(folder: Path) -> tuple[Header, memoryview] | None:
    """The newest snapshot that is whole, and the fleet's state in it; None when there is none."""
    for path in reversed(snapshots(folder)):
        try:
            return _read(path)
        except (ValueError, msgspec.DecodeError, struct.error) as error:
            logger.error("%s: %s; trying the one before it", path, error)  # noqa: TRY400 # no traceback is wanted
    return None


def snapshots(folder: Path) -> list[Path]:
    """The snapshots' files, the oldest first."""
    return sorted(folder.glob(_PATTERN))


def _read(path: Path) -> tuple[Header, memoryview]:
    data = memoryview(path.read_bytes())
    if bytes(data[: len(_MAGIC)]) != _MAGIC:
        raise ValueError("not a snapshot")
    checksum, length = _PREFIX.unpack_from(data, len(_MAGIC))
    if zlib.crc32(data[len(_MAGIC) + 4 :]) != checksum:
        raise ValueError("damaged")
    first = len(_MAGIC) + _PREFIX.size
    header = msgspec.msgpack.decode(data[first : first + length], type=Header)
    if header.schema != SCHEMA:
        raise ValueError(f"schema {header.schema}, expected {SCHEMA}")
    return header, data[first + length :]


def _record_of(path: Path) -> int:
    return int(path.stem.partition("-")[2])
