"""What a row of the benchmark's table comes to: figures, each beside what it was to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from simulator.load import LoadOptions
from simulator.load_expectation import Published
from tests.benchmarks.stand import Cores

#: Watches join within 5 s, and then every one of them has its first window and its first change of activity: a rush
#: that is no part of sustaining them.
_WARM_UP_S: Final = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number.

    Attributes:
        name: what was measured.
        value: None when it could not be; the row's notes say why.
        unit: of the value.
        per: what the value was divided by, empty for nothing.
        target: what it was to reach, None where it only explains another.
        better: on which side of the target it is reached.
    """

    name: str
    value: float | None
    unit: str
    per: str = ""
    target: float | None = None
    better: Literal["higher", "lower"] = "lower"

    @property
    def ratio(self) -> float | None:
        """Value over target."""
        return None if self.value is None or not self.target else self.value / self.target

    @property
    def is_reached(self) -> bool | None:
        """Whether the target is reached, None without one."""
        if self.target is None:
            return None
        if self.value is None:
            return False
        return self.value >= self.target if self.better == "higher" else self.value <= self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table.

    Attributes:
        number, title: of the row.
        figures: what was measured.
        notes: what one must know to read them, in sentences.
        others_share: what else ran on the machine meanwhile, in cores, the most over the row's runs.
        curves: series for the plot, by name: pairs of x and y.
    """

    number: int
    title: str
    figures: list[Figure]
    notes: list[str] = field(default_factory=list)
    others_share: float | None = None
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How thoroughly to measure.

    Attributes:
        seconds: of a load, after its warm-up.
        step: capacity is told to within this factor.
        repetitions: of what is measured in turns with its floor.
        fleet: watches of the runs that need a large fleet.
        published: what the service publishes: changes of activity, or every window.
    """

    cores: Cores
    seconds: float
    step: float
    repetitions: int
    fleet: int
    published: Published

    def load(self, devices: int, **changes: Any) -> LoadOptions:  # noqa: ANN401 - attributes of LoadOptions
        """A load of that many watches, measured once they have joined and had their first windows."""
        seconds = changes.pop("seconds", self.seconds)
        given = {"published": self.published} | changes
        return LoadOptions(devices=devices, warmup_s=_WARM_UP_S, duration_s=_WARM_UP_S + seconds, **given)


MeasureRow = Callable[[Effort], Row]


def text(row: Row) -> str:
    """A row for people: one line for each figure."""
    others = "" if row.others_share is None else f"   (everything else used {row.others_share:.2f} cores)"
    lines = [f"{row.number}. {row.title}{others}"]
    for figure in row.figures:
        value = "-" if figure.value is None else f"{figure.value:.4g}"
        per = f" {figure.unit} per {figure.per}" if figure.per else f" {figure.unit}"
        aim = ""
        if figure.target is not None:
            sign = ">=" if figure.better == "higher" else "<="
            verdict = "reached" if figure.is_reached else "NOT reached"
            ratio = "" if figure.ratio is None else f", {figure.ratio:.2f} of it"
            aim = f"   to reach {sign} {figure.target:g}: {verdict}{ratio}"
        lines.append(f"   {figure.name:52}{value:>10}{per}{aim}")
    lines += [f"   {note}" for note in row.notes]
    return "\n".join(lines)
