"""Rows of a file as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """What rows say about the messages that they came in.

    Attributes:
        message: (n,) int64, the same for the rows of one message, which stand together.
        arrived_ns: (n,) int64, ns since the UTC epoch.
        rate_hz: (n,) float64, declared by the sender, 0 where it declared none.
        seq: (n,) int64, the sender's counter, -1 where it has none.
    """

    message: NDArray[np.int64]
    arrived_ns: NDArray[np.int64]
    rate_hz: NDArray[np.float64]
    seq: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows in their order.

    Attributes:
        t_ns: (n,) int64.
        device, label: (n,) int32, numbers of names.
        acc, gyro: (n, 3) float64, m/s² and rad/s, NaN where a row has none; None where the file has no such columns.
        arrivals: how they came, None where the file does not say.
    """

    t_ns: NDArray[np.int64]
    device: NDArray[np.int32]
    label: NDArray[np.int32]
    acc: NDArray[np.float64] | None
    gyro: NDArray[np.float64] | None
    arrivals: Arrivals | None = None

    def __len__(self) -> int:
        return len(self.t_ns)


def joined(blocks: Sequence[Rows]) -> Rows:
    """All rows of a file's blocks, which have the same columns."""
    if len(blocks) == 1:
        return blocks[0]
    acc = [block.acc for block in blocks if block.acc is not None]
    gyro = [block.gyro for block in blocks if block.gyro is not None]
    arrivals = [block.arrivals for block in blocks if block.arrivals is not None]
    return Rows(
        _one([block.t_ns for block in blocks]),
        _one([block.device for block in blocks]),
        _one([block.label for block in blocks]),
        _one(acc) if acc else None,
        _one(gyro) if gyro else None,
        Arrivals(
            _one([part.message for part in arrivals]),
            _one([part.arrived_ns for part in arrivals]),
            _one([part.rate_hz for part in arrivals]),
            _one([part.seq for part in arrivals]),
        )
        if arrivals
        else None,
    )


def _one(parts: Sequence[NDArray[_T]]) -> NDArray[_T]:
    return np.concatenate(parts)
