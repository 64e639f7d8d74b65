"""How far figures are apart: over people, and over seeds. A mean alone hides whom a model fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from models.scoring.evaluation import GroupFigures


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over groups: people, or blocks of time where there is one person only.

    Attributes:
        mean, median: over groups, each counted once.
        interval: of the mean, 95 %, by Student's t over groups, cut to 0 and 1; None for one group. It is about other
            groups of the kind: blocks of one person say nothing of other people.
        p10: 10th percentile, linear between neighbours: nine of ten do better.
        worst: the lowest.
        worst_group: whose that is.
    """

    mean: float
    interval: tuple[float, float] | None
    median: float
    p10: float
    worst: float
    worst_group: str

    def text(self) -> str:
        """One line."""
        of_mean = "" if self.interval is None else f" ({self.interval[0]:.4f} to {self.interval[1]:.4f})"
        return (
            f"mean {self.mean:.4f}{of_mean}  median {self.median:.4f}  10th percentile {self.p10:.4f}  worst "
            f"{self.worst:.4f} ({self.worst_group})"
        )


class OverSeeds(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over seeds: mean, standard deviation (of the population: 0 for one seed), and the worst seed's."""

    mean: float
    std: float
    worst: float


def spread_over_groups(per_group: Mapping[str, GroupFigures]) -> dict[str, Spread]:
    """Accuracy and macro-F1 over groups."""
    found = {}
    for name in ("accuracy", "macro_f1"):
        values = {group: float(getattr(own, name)) for group, own in per_group.items()}
        every = np.array(list(values.values()))
        p10, median = np.quantile(every, (0.1, 0.5)).tolist()
        worst = min(values, key=values.__getitem__)
        found[name] = Spread(
            mean=float(every.mean()),
            interval=_interval(every),
            median=median,
            p10=p10,
            worst=values[worst],
            worst_group=worst,
        )
    return found


def _interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    n = len(values)
    if n < 2:
        return None
    half = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / n**0.5
    mean = float(values.mean())
    return max(mean - half, 0.0), min(mean + half, 1.0)


def over_seeds(values: Sequence[float], *, best: Literal["high", "low"]) -> OverSeeds:
    """Of one value for each seed; which end is the worst depends on which is the best."""
    worst = min(values) if best == "high" else max(values)
    return OverSeeds(mean=float(np.mean(values)), std=float(np.std(values)), worst=worst)
