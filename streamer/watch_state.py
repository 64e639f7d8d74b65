"""A watch's whole state as one small value: for a checkpoint, or to hand a watch over to another process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from streamer.errors import ConfigError
from streamer.preprocessing.slots import Slots, SlotState
from streamer.wire.events import Reason

SCHEMA: Final = 1


class WatchState(msgspec.Struct, frozen=True, kw_only=True):
    """Arrays by stage and name, as (dtype, shape, bytes); only the bundle that made them can go on with them."""

    schema: int
    model_digest: str
    device: str
    stages: dict[str, dict[str, tuple[str, tuple[int, ...], bytes]]]


def encode_state(device_id: str, model_digest: str, stages: Mapping[str, SlotState]) -> bytes:
    """A watch's state as bytes."""
    arrays = {
        stage: {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in state.items()}
        for stage, state in stages.items()
    }
    return msgspec.msgpack.encode(WatchState(schema=SCHEMA, model_digest=model_digest, device=device_id, stages=arrays))


def decode_state(data: bytes, model_digest: str) -> tuple[str, dict[str, SlotState]]:
    """Device and arrays by stage of an encoded state.

    Raises:
        ConfigError: it is damaged, of another layout or of another bundle.
    """
    try:
        state = msgspec.msgpack.decode(data, type=WatchState)
    except msgspec.DecodeError as error:
        raise ConfigError(f"watch state: {error}") from error
    if (state.schema, state.model_digest) != (SCHEMA, model_digest):
        raise ConfigError(
            f"state of watch {state.device}: schema {state.schema}, bundle {state.model_digest}; "
            f"expected schema {SCHEMA}, bundle {model_digest}"
        )
    try:
        return state.device, {
            stage: {name: np.frombuffer(raw, dtype).reshape(shape) for name, (dtype, shape, raw) in arrays.items()}
            for stage, arrays in state.stages.items()
        }
    except (ValueError, TypeError) as error:
        raise ConfigError(f"state of watch {state.device}: {error}") from error


class WatchNotes(Slots):
    """What belongs to a watch and to no other stage.

    State: the last message counter, the first reading's time, and why the watch is unfit for the model.
    """

    ARRAYS = ("seq", "first_ns", "unfit")
    REASONS: Final[tuple[Reason, ...]] = ("sensor_missing", "feed_rate")
    FIT: Final = -1

    def __init__(self, capacity: int) -> None:
        self.seq = np.full(capacity, -1, np.int64)
        self.first_ns = np.zeros(capacity, np.int64)
        self.unfit = np.full(capacity, self.FIT, np.int64)

    def reset(self, slot: int) -> None:
        """Forget a slot."""
        self.seq[slot] = -1
        self.first_ns[slot] = 0
        self.unfit[slot] = self.FIT
