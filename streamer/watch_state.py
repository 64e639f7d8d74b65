"""The state of some watches as bytes: for a snapshot of all, or to hand one over to another process.

A MessagePack header that names the watches and describes the arrays, its length before it, then the arrays as they
lie in memory: a fleet's state is written without another copy of it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.errors import ConfigError
from streamer.preprocessing.slots import Slots, SlotState
from streamer.wire import topics
from streamer.wire.events import Reason

SCHEMA: Final = 4
_LENGTH: Final = struct.Struct("<I")
#: Types of a slot's arrays; NumPy would take a good deal more for the name of a type.
_DTYPE: Final = re.compile(r"[<>|](b1|[iu][1248]|f[248])")


class _Array(msgspec.Struct, frozen=True, array_like=True):
    stage: str
    name: str
    dtype: str
    shape: tuple[int, ...]


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    """Only the bundle that made the arrays can go on with them."""

    schema: int
    model_digest: str
    devices: list[str]
    arrays: list[_Array]


#: Bytes, or an array's memory.
Piece = bytes | memoryview


def encode_state(devices: Sequence[str], model_digest: str, stages: Mapping[str, SlotState]) -> Iterator[Piece]:
    """The state of watches in pieces, whose sum `decode_state` takes."""
    arrays = [(stage, name, array) for stage, state in stages.items() for name, array in state.items()]
    header = msgspec.msgpack.encode(
        _Header(
            schema=SCHEMA,
            model_digest=model_digest,
            devices=list(devices),
            arrays=[_Array(stage, name, array.dtype.str, array.shape) for stage, name, array in arrays],
        )
    )
    yield _LENGTH.pack(len(header))
    yield header
    for _, _, array in arrays:
        # An empty array's memory can't be looked at as bytes.
        yield np.ascontiguousarray(array).data.cast("B") if array.size else b""


def decode_state(data: bytes | memoryview, model_digest: str) -> tuple[list[str], dict[str, SlotState]]:
    """Watches, and arrays by stage, of an encoded state.

    Raises:
        ConfigError: it is damaged, of another layout or of another bundle.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        header = msgspec.msgpack.decode(data[_LENGTH.size : _LENGTH.size + length], type=_Header)
    except (struct.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"watch state: {error}; expected one of this release") from error
    unnamed = [device for device in header.devices if not topics.DEVICE_NAME.fullmatch(device)]
    if unnamed:
        raise ConfigError(f"watch state: is of {unnamed[0]!r:.100}; expected names that watches may have")
    if (header.schema, header.model_digest) != (SCHEMA, model_digest):
        raise ConfigError(
            f"state of {_named(header.devices)}: schema {header.schema}, "
            f"bundle {ascii(header.model_digest)[1:-1]:.40}; "
            f"expected schema {SCHEMA}, bundle {model_digest}"
        )
    stages: dict[str, SlotState] = {}
    offset = _LENGTH.size + length
    try:
        for array in header.arrays:
            values = _values(array, data, offset)
            stages.setdefault(array.stage, {})[array.name] = values
            offset += values.nbytes
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"state of {_named(header.devices)}: {error!s:.200}") from error
    if offset != len(data):
        raise ConfigError(f"state of {_named(header.devices)}: {len(data)} bytes; expected {offset}")
    return header.devices, stages


def _values(array: _Array, data: bytes | memoryview, offset: int) -> NDArray[np.generic]:
    if not _DTYPE.fullmatch(array.dtype) or min(array.shape, default=0) < 0:
        raise ValueError(f"an array of {array.dtype!r:.20}; expected one of numbers")
    return np.frombuffer(data, array.dtype, prod(array.shape), offset).reshape(array.shape)


def _named(devices: Sequence[str]) -> str:
    return f"watch {devices[0]}" if len(devices) == 1 else f"{len(devices)} watches"


class WatchNotes(Slots):
    """What belongs to a watch and to no other stage.

    State: the last message counter, and why the watch is unfit for the model.
    """

    ARRAYS = ("seq", "unfit")
    REASONS: Final[tuple[Reason, ...]] = ("sensor_missing", "feed_rate")
    FIT: Final = -1

    def __init__(self, capacity: int) -> None:
        self.seq = np.full(capacity, -1, np.int64)
        self.unfit = np.full(capacity, self.FIT, np.int64)

    def reset(self, slot: int) -> None:
        """Forget a slot."""
        self.seq[slot] = -1
        self.unfit[slot] = self.FIT
