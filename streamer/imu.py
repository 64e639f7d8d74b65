"""Motion readings of one watch: the value that every stage before the windows passes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Standard gravity, m/s² (CGPM 1901, exact by definition).
STANDARD_GRAVITY: Final = 9.80665


@dataclass(frozen=True, slots=True, eq=False)
class ImuBatch:
    """Consecutive readings of one watch, from one message or from a whole recording.

    Attributes:
        device_id: who sent them.
        t_ns: (n,) int64, ns since the UTC epoch, in the order of arrival.
        acc: (n, 3) float64, m/s², sensor frame, gravity included; None when the message has no accelerometer.
        gyro: (n, 3) float64, rad/s, sensor frame; None when the message has no gyroscope.
        rate_hz: the rate that the sender declares, None when it declares none.
        seq: the sender's message counter, None when it has none.
    """

    device_id: str
    t_ns: NDArray[np.int64]
    acc: NDArray[np.float64] | None
    gyro: NDArray[np.float64] | None
    rate_hz: float | None = None
    seq: int | None = None

    def __len__(self) -> int:
        return len(self.t_ns)

    def __getitem__(self, rows: slice) -> ImuBatch:
        """The readings of a slice, as views."""
        return ImuBatch(
            self.device_id,
            self.t_ns[rows],
            None if self.acc is None else self.acc[rows],
            None if self.gyro is None else self.gyro[rows],
            self.rate_hz,
            self.seq,
        )


def joined(batches: Sequence[ImuBatch]) -> ImuBatch:
    """Consecutive batches of one watch as one, with the first one's rate; all have the same sensors.

    A single one is returned as it is; of several none's message counter holds for all.
    """
    if len(batches) == 1:
        return batches[0]
    acc = [batch.acc for batch in batches if batch.acc is not None]
    gyro = [batch.gyro for batch in batches if batch.gyro is not None]
    return ImuBatch(
        batches[0].device_id,
        np.concatenate([batch.t_ns for batch in batches]),
        np.concatenate(acc) if acc else None,
        np.concatenate(gyro) if gyro else None,
        batches[0].rate_hz,
    )
