"""How far figures are apart: over people, and over seeds. A mean alone hides whom a model fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from models.evaluation import GroupFigures


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over groups: people, or blocks of time where there is one person only.

    Attributes:
        mean, median: over groups, each counted once.
        p10: 10th percentile, linear between neighbours: nine of ten do better.
        worst: the lowest.
        worst_group: whose that is.
    """

    mean: float
    median: float
    p10: float
    worst: float
    worst_group: str

    def text(self) -> str:
        """One line."""
        return f"median {self.median:.4f}  10th percentile {self.p10:.4f}  worst {self.worst:.4f} ({self.worst_group})"


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
        p10, median = np.quantile(list(values.values()), (0.1, 0.5)).tolist()
        worst = min(values, key=values.__getitem__)
        found[name] = Spread(
            mean=float(np.mean(list(values.values()))),
            median=median,
            p10=p10,
            worst=values[worst],
            worst_group=worst,
        )
    return found


def over_seeds(values: Sequence[float], *, best: Literal["high", "low"]) -> OverSeeds:
    """Of one value for each seed; which end is the worst depends on which is the best."""
    worst = min(values) if best == "high" else max(values)
    return OverSeeds(mean=float(np.mean(values)), std=float(np.std(values)), worst=worst)
