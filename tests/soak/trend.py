"""Whether a series of samples grows, against its own noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

#: Means of this many stretches are what the line is laid through: single samples of memory hang on the one before.
_STRETCHES: Final = 10
_CONFIDENCE: Final = 0.99


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through samples.

    Attributes:
        slope: per second.
        low, high: bounds of its 99 % confidence interval.
        over: seconds between the first and the last sample.
        level: the samples' mean.
    """

    slope: float
    low: float
    high: float
    over: float
    level: float

    @property
    def grows(self) -> bool:
        """Whether the slope is above zero beyond doubt."""
        return self.low > 0


def trend(times_s: Sequence[float], values: Sequence[float]) -> Trend:
    """The line through the means of ten equal stretches, with Student's t of eight degrees of freedom for its slope.

    Samples of memory hang on the one before: taken singly they would make any wandering look certain. Means of
    stretches longer than that wandering are nearly independent.

    Args:
        times_s: ascending.
        values: as many; at least two a stretch.

    Raises:
        ValueError: too few samples.

    >>> trend(range(100), [5.0 + (i % 3) for i in range(100)]).grows
    False
    >>> trend(range(100), [5.0 + (i % 3) + 0.1 * i for i in range(100)]).grows
    True
    """
    if len(values) < 2 * _STRETCHES:
        raise ValueError(f"{len(values)} samples; expected at least {2 * _STRETCHES}")
    t = np.array([part.mean() for part in np.array_split(np.asarray(times_s, float), _STRETCHES)])
    v = np.array([part.mean() for part in np.array_split(np.asarray(values, float), _STRETCHES)])
    line = stats.linregress(t, v)
    width = float(stats.t.ppf((1 + _CONFIDENCE) / 2, _STRETCHES - 2)) * float(line.stderr)
    slope = float(line.slope)
    return Trend(slope, slope - width, slope + width, times_s[-1] - times_s[0], float(np.mean(values)))
