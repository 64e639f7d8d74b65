"""In which unit accelerations seem to be that should be in m/s², told by the gravity in them. Pure."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from streamer.sources.rest import MS2, NO_GRAVITY, Evidence, G
from streamer.wire.senders.streams import Sensor

Scale = Literal["m/s2", "g", "raw", "no_gravity", "unclear"]

#: What har-stream's own formats hold by definition.
_SENSOR: Final = Sensor("har-stream", "acc", "total", "m/s²")
_SCALES: Final[dict[int, Scale]] = {MS2: "m/s2", G: "g", NO_GRAVITY: "no_gravity"}
#: Nobody is accelerated like this for long: 16 g, which is as far as watches measure.
_MOST_MS2: Final = 160.0
#: Readings without which nothing is said.
_LEAST: Final = 10

#: Full scale of the gyroscopes in watches and phones, 2000 degrees per second, in rad/s: nothing is faster.
FASTEST_RAD_S: Final = 2000 * np.pi / 180


def scale_of(t_ns: NDArray[np.int64], acc: NDArray[np.float64]) -> Scale:
    """The unit of accelerations, as far as it can be told.

    Args:
        t_ns: (n,) int64, in the order of time.
        acc: (n, 3) float64, in whatever unit.

    >>> t_ns, lying = np.arange(90) * 50_000_000, np.tile([0.0, 0.0, 1.0], (90, 1))
    >>> [scale_of(t_ns, unit * lying) for unit in (9.81, 1.0, 1000.0, 0.01)], scale_of(t_ns[:5], lying[:5])
    (['m/s2', 'g', 'raw', 'no_gravity'], 'unclear')
    """
    if len(acc) >= _LEAST and float(np.median(np.linalg.norm(acc, axis=1))) > _MOST_MS2:
        return "raw"
    evidence = Evidence()
    evidence.hear(_SENSOR, t_ns, acc)
    return _SCALES.get(evidence.settled(_SENSOR), "unclear")


def stuck_axes(values: NDArray[np.float64]) -> list[int]:
    """The axes of (n, 3) readings that never change while another does: not wired, or left out by the sender."""
    if len(values) < _LEAST:
        return []
    moves = np.ptp(values, axis=0) > 0
    return [] if not moves.any() else [int(axis) for axis in np.flatnonzero(~moves)]
