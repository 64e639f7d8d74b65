"""In which unit accelerations and angular rates seem to be, told by gravity. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from streamer.imu import STANDARD_GRAVITY
from streamer.likeness.finding import Finding
from streamer.sources.rest import MS2, NO_GRAVITY, SECOND_NS, G, Second, judge
from streamer.wire.senders.streams import Sensor

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Scale = Literal["m/s2", "g", "raw", "no_gravity", "other", "unclear"]

#: What har-stream's own formats hold by definition.
_SENSOR: Final = Sensor("har-stream", "acc", "total", "m/s²")
#: Readings without which a second, and the whole, says nothing.
_LEAST_A_SECOND: Final = 5
_LEAST: Final = 10
#: Nobody is accelerated like this for long: 16 g, which is as far as watches measure.
_MOST_MS2: Final = 160.0
#: Lengths of the means of most seconds of a feed in g, and what else those may be: nobody speeds up for long.
_AS_IF_G: Final = (0.75, 1.25)
_PERHAPS_G: Final = (0.5, 1.5)
_CALM: Final = 0.1
#: Gravity as a sensor that is right may show it: chips are off by some per cent.
_RIGHT: Final = (0.85, 1.18)
_LEAST_CALM_S: Final = 3
#: Numbers from here on are told without decimals.
_LARGE: Final = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class Seconds:
    """Acceleration second by second.

    Attributes:
        mean: (m, 3) float64, mean of each second: gravity and little else.
        spread: (m,) float64, root of the summed variances.
    """

    mean: Float64
    spread: Float64

    def __len__(self) -> int:
        return len(self.spread)

    @property
    def length(self) -> Float64:
        """(m,) float64: of the means."""
        lengths: Float64 = np.linalg.norm(self.mean, axis=1)
        return lengths


def seconds_of(t_ns: Int64, values: Float64) -> Seconds:
    """The seconds of readings in order of time; those of too few readings are left out."""
    if not len(t_ns):
        return Seconds(np.empty((0, 3)), np.empty(0))
    bins = (t_ns - t_ns[0]) // SECOND_NS
    first = np.flatnonzero(np.diff(bins, prepend=-1))
    n = np.diff(np.append(first, len(bins)))
    mean = np.add.reduceat(values, first) / n[:, None]
    squares = np.add.reduceat((values**2).sum(axis=1), first) / n
    spread = np.sqrt(np.maximum(squares - (mean**2).sum(axis=1), 0.0))
    full = n >= _LEAST_A_SECOND
    return Seconds(mean[full], spread[full])


def scale_of(seconds: Seconds) -> Scale:
    """The unit of accelerations, as far as it can be told.

    >>> t_ns, lying = np.arange(90) * 50_000_000, np.tile([0.0, 0.0, 1.0], (90, 1))
    >>> [scale_of(seconds_of(t_ns, unit * lying)) for unit in (9.81, 1.0, 1000.0, 0.01, 19.62)]
    ['m/s2', 'g', 'raw', 'no_gravity', 'other']
    >>> scale_of(seconds_of(t_ns[:4], lying[:4]))
    'unclear'
    """
    if not len(seconds):
        return "unclear"
    length = seconds.length
    if float(np.median(length)) > _MOST_MS2:
        return "raw"
    pairs = zip(length.tolist(), seconds.spread.tolist(), strict=True)
    said = Counter(judge(_SENSOR, Second(mean, spread)) for mean, spread in pairs)
    gravity = calm_gravity(seconds)
    if said[MS2] * 2 > len(seconds):
        right = gravity is None or _RIGHT[0] < gravity / STANDARD_GRAVITY < _RIGHT[1]
        return "m/s2" if right else "other"
    if (said[G] + said[NO_GRAVITY]) * 2 > len(seconds):
        return _small(length, said)
    return "unclear" if gravity is None else "other"


def _small(length: Float64, said: Counter[int]) -> Scale:
    """What means of seconds that are far below 9.81 stand for."""
    low, high = np.quantile(length, (0.1, 0.9)).tolist()
    if _AS_IF_G[0] < low and high < _AS_IF_G[1]:
        return "g"
    perhaps_g = _PERHAPS_G[0] < low and high < _PERHAPS_G[1]
    return "no_gravity" if said[NO_GRAVITY] * 2 > len(length) and not perhaps_g else "unclear"


def calm_gravity(seconds: Seconds) -> float | None:
    """The median length of acceleration while the wearer keeps still; None where that is too short."""
    calm = seconds.spread < _CALM * seconds.length
    return float(np.median(seconds.length[calm])) if int(calm.sum()) >= _LEAST_CALM_S else None


def judge_scale(seconds: Seconds, trained: str | None) -> list[Finding]:
    """What is wrong with the unit of accelerations.

    Args:
        seconds: of a stretch.
        trained: gravity in the training data, for people; None where nobody knows it.
    """
    scale = scale_of(seconds)
    if scale in {"m/s2", "unclear"}:
        return []
    gravity = calm_gravity(seconds)
    found = float(np.median(seconds.length)) if gravity is None else gravity
    when = "in the mean of a second" if gravity is None else "at rest"
    seen = f"|acc| {when} is {found:.3g} m/s²" if found < _LARGE else f"|acc| {when} is {found:.0f} m/s²"
    expected = f"the training data had {trained}" if trained else f"{STANDARD_GRAVITY:.2f} is expected"
    figures = {"gravity_ms2": found, "factor": found / STANDARD_GRAVITY}
    if scale == "g":
        return [
            Finding(
                kind="acceleration_in_g",
                seen=f"{seen}: this feed seems to be in g",
                expected=expected,
                advice=f"multiply by {STANDARD_GRAVITY} in the sender or switch the app to m/s²",
                figures=figures,
            )
        ]
    if scale == "no_gravity":
        return [
            Finding(
                kind="gravity_missing",
                seen=f"{seen}: gravity has been taken out",
                expected=expected,
                advice="send the acceleration with gravity (Android: TYPE_ACCELEROMETER, not linear acceleration)",
                figures=figures,
            )
        ]
    known = _factor_says(found / STANDARD_GRAVITY)
    return [
        Finding(
            kind="acceleration_scale",
            seen=f"{seen}, {found / STANDARD_GRAVITY:.3g} times what it should be{known}",
            expected=expected,
            advice="scale the sensor's counts by its range, to m/s², and once",
            figures=figures,
        )
    ]


def _factor_says(factor: float) -> str:
    """What a known factor stands for."""
    for known, says in (
        (1000 / STANDARD_GRAVITY, ": this feed seems to be in milli-g"),
        (STANDARD_GRAVITY, ": it seems to have been converted from g twice"),
        (2.0, ": the sensor's range seems to be half of what the sender takes it for"),
        (0.5, ": the sensor's range seems to be twice what the sender takes it for"),
        (4.0, ": the sensor's range seems to be a quarter of what the sender takes it for"),
    ):
        if abs(factor / known - 1) < 0.12:
            return says
    return ""
