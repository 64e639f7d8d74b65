"""The benchmark's picture: what was reached of each target, and the curves behind it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from tests.benchmarks.figures import Figure, Row

_GOOD: Final = "tab:blue"
_BAD: Final = "tab:orange"


def plot(rows: list[Row], path: Path) -> None:
    """Write a PNG: targets on the left, cost by stage and curves on the right."""
    mpl.use("Agg")
    aims = [(row, figure) for row in rows for figure in row.figures if figure.target is not None]
    curves = [(row, name, points) for row in rows for name, points in row.curves.items() if points]
    stages = next((row for row in rows if row.number == 6), None)
    panels = len(curves) + (stages is not None)
    height = max(4.0, 0.28 * len(aims) + 1.0, 2.2 * panels)
    picture = Picture(figsize=(14, height), layout="constrained")
    grid = picture.add_gridspec(max(panels, 1), 2, width_ratios=(3, 2))
    _draw_aims(picture.add_subplot(grid[:, 0]), aims)
    panel = 0
    if stages is not None:
        _draw_stages(picture.add_subplot(grid[panel, 1]), stages)
        panel += 1
    for row, name, points in curves:
        axes = picture.add_subplot(grid[panel, 1])
        axes.plot(*zip(*points, strict=True), marker="o", color=_GOOD)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(f"row {row.number}: {name}", fontsize=9)
        axes.grid(visible=True, which="both", alpha=0.3)
        panel += 1
    picture.savefig(path, dpi=110)


def _draw_aims(axes: Axes, aims: list[tuple[Row, Figure]]) -> None:
    """How many times better than its target each figure is; below 1 it is not reached."""
    labels, times, values = [], [], []
    for row, figure in aims:
        ratio = figure.ratio
        times.append(math.nan if not ratio else ratio if figure.better == "higher" else 1 / ratio)
        labels.append(f"{row.number}: {figure.name.strip()}")
        sign = ">=" if figure.better == "higher" else "<="
        value = "not measured" if figure.value is None else f"{figure.value:.3g}"
        values.append(f" {value} {figure.unit} ({sign} {figure.target:g})")
    positions = range(len(aims))
    bars = axes.barh(positions, times, color=[_GOOD if t >= 1 else _BAD for t in times])
    axes.bar_label(bars, values, fontsize=6)
    axes.set_yticks(positions, labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.3)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_title("times better than the target", fontsize=9)
    axes.grid(visible=True, axis="x", alpha=0.3)


def _draw_stages(axes: Axes, row: Row) -> None:
    """The service's cost by stage beside the floor's parts, in the unit of the figures."""
    parts = {
        "service": [f for f in row.figures if f.name.startswith("  ")],
        "floor": [f for f in row.figures if f.name.startswith("floor: ")],
    }
    colours = iter(mpl.color_sequences["tab20"])
    for position, figures in enumerate(parts.values()):
        left = 0.0
        for figure in figures:
            width = max(figure.value or 0.0, 0.0)
            name = figure.name.strip().removeprefix("floor: ")
            axes.barh(position, width, left=left, color=next(colours), label=f"{name} {width:.1f}")
            left += width
    axes.set_yticks(range(len(parts)), list(parts))
    axes.legend(fontsize=6, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    axes.set_title(f"row {row.number}: µs of processor time per watch-second", fontsize=9)
