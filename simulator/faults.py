"""What goes wrong between a watch and a service, as functions over message sequences; all seeded.

They know no clock and no broker: a sequence of batches in, another out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

import cbor2
import numpy as np

from streamer.errors import ConfigError, nearest
from streamer.imu import ImuBatch

Fault = Callable[[Iterable[ImuBatch], np.random.Generator], Iterator[ImuBatch]]


def jitter(batches: Iterable[ImuBatch], rng: np.random.Generator, *, sigma_s: float) -> Iterator[ImuBatch]:
    """Reading times off by a normal error, cut at three sigma; a batch's readings stay in ascending order."""
    for batch in batches:
        error_s = np.clip(rng.normal(0.0, sigma_s, len(batch)), -3 * sigma_s, 3 * sigma_s)
        yield replace(batch, t_ns=np.sort(batch.t_ns + np.rint(error_s * 1e9).astype(np.int64)), rate_hz=None)


def drop(batches: Iterable[ImuBatch], rng: np.random.Generator, *, share: float) -> Iterator[ImuBatch]:
    """Each message is lost with the given probability."""
    return (batch for batch in batches if rng.random() >= share)


def duplicate(batches: Iterable[ImuBatch], rng: np.random.Generator, *, share: float) -> Iterator[ImuBatch]:
    """Each message is sent twice with the given probability."""
    for batch in batches:
        yield batch
        if rng.random() < share:
            yield batch


def reorder(batches: Iterable[ImuBatch], rng: np.random.Generator, *, share: float) -> Iterator[ImuBatch]:
    """Each message changes places with the next of its device with the given probability."""
    held: dict[str, ImuBatch] = {}
    for batch in batches:
        earlier = held.pop(batch.device_id, None)
        if earlier is None and rng.random() < share:
            held[batch.device_id] = batch
            continue
        yield batch
        if earlier is not None:
            yield earlier
    yield from held.values()


def garbage(batch: ImuBatch, rng: np.random.Generator) -> bytes:
    """A payload that nothing sensible can be made of: noise, a torn message, NaN, or text."""
    match int(rng.integers(4)):
        case 0:
            return rng.bytes(int(rng.integers(1, 2000)))
        case 1:
            whole = cbor2.dumps({"t0_ns": int(batch.t_ns[0]), "rate_hz": 50.0, "acc": cbor2.CBORTag(86, bytes(480))})
            return whole[: int(rng.integers(1, len(whole)))]
        case 2:
            return b'{"t_ns": %d, "acc_x": NaN, "acc_y": 0.0, "acc_z": 9.8}' % int(batch.t_ns[0])
        case _:
            return b'{"t_ns": "yesterday", "acc_x": [1, 2'


FAULTS: Final[dict[str, tuple[float, Callable[[float], Fault]]]] = {
    "jitter": (0.005, lambda x: lambda batches, rng: jitter(batches, rng, sigma_s=x)),
    "drop": (0.01, lambda x: lambda batches, rng: drop(batches, rng, share=x)),
    "duplicate": (0.01, lambda x: lambda batches, rng: duplicate(batches, rng, share=x)),
    "reorder": (0.01, lambda x: lambda batches, rng: reorder(batches, rng, share=x)),
}


def parse_fault(text: str) -> Fault:
    """The fault that `NAME` or `NAME=X` names: jitter (sigma in s), drop, duplicate, reorder (share of messages).

    Raises:
        ConfigError: no such fault, or X is out of range.
    """
    name, _, number = text.partition("=")
    if name not in FAULTS:
        raise ConfigError(
            f"fault {name!r}: expected one of {', '.join(FAULTS)}, each with an optional =X{nearest(name, FAULTS)}"
        )
    default, make = FAULTS[name]
    try:
        value = float(number) if number else default
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"fault {name}: X is {number!r}; expected a number from 0 to 1")
    return make(value)
