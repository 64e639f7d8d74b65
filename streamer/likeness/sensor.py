"""Sensors that do not measure: frozen ones, dead axes, and values that pile up at the end of the range."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.imu import STANDARD_GRAVITY
from streamer.likeness.finding import Finding
from streamer.likeness.stretch import SensorName

Float64 = NDArray[np.float64]

#: Readings without which nothing is said.
_LEAST: Final = 50
_AXES: Final = "xyz"
#: The others must move by this much for an axis that doesn't to be dead: at rest coarse sensors show one value.
_MOVES: Final[dict[SensorName, float]] = {"acc": 0.5, "gyro": 0.1}
#: Values from here on may be at the end of a range: 1.4 g, 115 degrees per second.
_LARGE: Final[dict[SensorName, float]] = {"acc": 1.4 * STANDARD_GRAVITY, "gyro": 2.0}
#: What counts as the same value, as a share of it, and what lies just below.
_SAME: Final = 1e-3
_BELOW: Final = 0.05
#: Readings at the very end of the range: so many at least, of them so many next to one another, and so many times
#: those just below.
_LEAST_AT_END: Final = 8
_LEAST_PAIRS: Final = 3
_PILE: Final = 2.0
#: Training that went this much farther shows that a sensor's range is too small.
_FARTHER: Final = 1.1
_RANGES_G: Final = (2.0, 4.0, 8.0, 16.0)
_UNITS: Final[dict[SensorName, str]] = {"acc": "m/s²", "gyro": "rad/s"}


def stuck_axes(values: Float64, least: int = 10) -> list[int]:
    """The axes of (n, 3) readings that never change while another does: not wired, or left out by the sender."""
    if len(values) < least:
        return []
    moves = np.ptp(values, axis=0) > 0
    return [] if not moves.any() else [int(axis) for axis in np.flatnonzero(~moves)]


def judge_sensor(name: SensorName, values: Float64, extreme: float | None) -> list[Finding]:
    """What is wrong with a sensor's values.

    Args:
        name: of the sensor.
        values: (n, 3) float64, in the order of time.
        extreme: the largest |value| of the training data; None where nobody knows it.
    """
    if len(values) < _LEAST:
        return []
    ranges = np.ptp(values, axis=0)
    if not ranges.any():
        x, y, z = values[0].tolist()
        off = "it is switched off or missing" if not values.any() else "it has stopped, or what sends its values has"
        return [
            Finding(
                kind="frozen",
                seen=f"{name} is ({x:.3g}, {y:.3g}, {z:.3g}) throughout: {off}",
                expected="a sensor's noise alone changes its values",
                advice="restart the sensor, or leave it out of the messages if there is none",
                figures={"readings": float(len(values))},
            )
        ]
    found: list[Finding] = []
    stuck = stuck_axes(values)
    if stuck and float(ranges.max()) > _MOVES[name]:
        axes = ", ".join(f"{name}_{_AXES[axis]}" for axis in stuck)
        found.append(
            Finding(
                kind="dead_axis",
                seen=f"{axes} never changes, while the others move by {ranges.max():.3g} {_UNITS[name]}",
                expected="all three axes move",
                advice="send all three axes as they are measured",
                figures={f"{name}_{_AXES[axis]}": float(values[0, axis]) for axis in stuck},
            )
        )
    return found + _saturated(name, values, extreme)


def _saturated(name: SensorName, values: Float64, extreme: float | None) -> list[Finding]:
    """The axis, and the end of its range, at which most values pile up."""
    worst: tuple[int, int, float] | None = None
    for axis in range(3):
        for sign in (1.0, -1.0):
            column = sign * values[:, axis]
            end = float(column.max())
            if end < _LARGE[name] or (extreme is not None and extreme < _FARTHER * end):
                continue
            at_end = column >= end * (1 - _SAME)
            n = int(at_end.sum())
            below = int(((column < end * (1 - _SAME)) & (column >= end * (1 - _BELOW))).sum())
            pairs = int((at_end[1:] & at_end[:-1]).sum())
            is_pile = n >= _LEAST_AT_END and pairs >= _LEAST_PAIRS and n > _PILE * below
            if is_pile and (worst is None or n > worst[0]):
                worst = n, axis, sign * end
    if worst is None:
        return []
    n, axis, end = worst
    of_g = next((f" ({g:g} g)" for g in _RANGES_G if abs(abs(end) / STANDARD_GRAVITY / g - 1) < 0.03), "")
    level = f"{end:.3g} {_UNITS[name]}{of_g if name == 'acc' else ''}"
    expected = "values end one by one, not at a wall"
    if extreme is not None:
        expected = f"the training data went to {extreme:.3g}"
    return [
        Finding(
            kind="saturated",
            seen=f"{name}_{_AXES[axis]} stands at {level} in {n} of {len(values)} readings: its range ends there",
            expected=expected,
            advice="choose a larger range for the sensor",
            figures={"level": end, "readings": float(n)},
        )
    ]
