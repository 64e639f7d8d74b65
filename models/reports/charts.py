"""Pictures of a model's windows: how it learned, what it confuses, whom it fails, how sure it may be."""

from __future__ import annotations

import json
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.reports.palette import FAINT, FIRST, INK, SECOND, WRONG, colour_of
from models.scoring.evaluation import Figures
from models.scoring.spread import spread_over_groups
from models.windows.data import LabelledWindows
from streamer.bundle import ModelBundle

#: Windows drawn in the principal components, at most.
_POINTS: Final = 3000
#: Between two box plots, so that there is room for words.
_APART: Final = 1.15


def curves(bundle: ModelBundle) -> Figure:
    """Loss, and scores on held-out groups, over the epochs."""
    history: list[list[float | None]] = json.loads(bundle.manifest.training.get("history", "[]"))
    figure = Figure(figsize=(8, 4), layout="constrained")
    loss, scores = figure.subplots(1, 2)
    epochs = [row[0] for row in history]
    loss.plot(epochs, [row[1] for row in history])
    loss.set(xlabel="epoch", ylabel="training loss")
    for column, label in ((2, "accuracy"), (3, "macro-F1")):
        scores.plot(epochs, [np.nan if row[column] is None else row[column] for row in history], label=label)
    scores.set(xlabel="epoch", ylabel="on held-out training groups")
    scores.legend()
    return figure


def confusion(figures: Figures) -> Figure:
    """Shares of each true activity."""
    counts = np.array(figures.confusion, np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 3 + 0.45 * len(figures.labels)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="answer", ylabel="truth")
    axes.set_xticks(range(len(figures.labels)), figures.labels, rotation=60, ha="right")
    axes.set_yticks(range(len(figures.labels)), figures.labels)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, shrink=0.7)
    return figure


def per_class(figures: Figures) -> Figure:
    """Precision, recall and F1 of each activity."""
    figure = Figure(figsize=(4 + 0.5 * len(figures.labels), 4.5), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(figures.labels))
    for i, (label, values) in enumerate(
        {
            "precision": [own.precision for own in figures.per_class.values()],
            "recall": [own.recall for own in figures.per_class.values()],
            "F1": [own.f1 for own in figures.per_class.values()],
        }.items()
    ):
        axes.bar(places + 0.27 * (i - 1), values, 0.27, label=label)
    axes.set_xticks(places, figures.labels, rotation=60, ha="right")
    axes.set_ylim(0, 1)
    axes.legend(loc="lower right")
    return figure


def per_group(figures: Figures, groups: str) -> Figure:
    """Box plots over groups, and each group by itself.

    Args:
        figures: of all.
        groups: what a group is, in the plural.
    """
    in_order = sorted(figures.per_group.items(), key=lambda entry: entry[1].macro_f1)
    spread = spread_over_groups(figures.per_group)
    names = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
    figure = Figure(figsize=(7.4 + 0.16 * len(in_order), 4.6), layout="constrained")
    boxes, each = figure.subplots(1, 2, sharey=True, width_ratios=(3.8, 1 + 0.16 * len(in_order)))
    drawn = boxes.boxplot(
        [[getattr(own, name) for _, own in in_order] for name in names],
        positions=[_APART * place for place in range(len(names))],
        widths=0.5,
        showfliers=False,
        patch_artist=True,
        medianprops={"color": INK, "linewidth": 1.6},
        whiskerprops={"color": FAINT},
        capprops={"color": FAINT},
    )
    # The same places in every report.
    aside = np.random.default_rng(0).uniform(-0.15, 0.15, len(in_order))
    for place, (name, colour) in enumerate(zip(names, (FIRST, SECOND), strict=True)):
        drawn["boxes"][place].set(facecolor=colour, alpha=0.25, edgecolor=colour)
        values = [getattr(own, name) for _, own in in_order]
        boxes.scatter(_APART * place + aside, values, s=14, color=colour, zorder=3, linewidths=0)
        over = spread[name]
        boxes.annotate(
            f"median {over.median:.3f}\n10 % {over.p10:.3f}\nworst {over.worst:.3f}",
            (_APART * place + 0.3, over.median),
            fontsize=8,
            va="center",
            color=INK,
        )
    boxes.set_xticks([_APART * place for place in range(len(names))], names.values())
    boxes.set(xlim=(-0.4, _APART * len(names) - 0.35), ylabel=f"of {len(in_order)} {groups}")
    for place, (_, own) in enumerate(in_order):
        each.plot([place, place], [own.macro_f1, own.accuracy], color=FAINT, linewidth=1, zorder=1)
    for name, colour in zip(names, (FIRST, SECOND), strict=True):
        each.scatter(range(len(in_order)), [getattr(own, name) for _, own in in_order], s=18, color=colour, zorder=2)
    each.axhline(figures.accuracy, color=FIRST, linewidth=0.8, linestyle="--", label="accuracy of all windows")
    each.set_xticks(range(len(in_order)), [name for name, _ in in_order], rotation=90, fontsize=7)
    each.set_xlabel(f"{groups}, the worst first")
    each.legend(loc="lower right", fontsize=8)
    lowest = min(min(own.accuracy, own.macro_f1) for _, own in in_order)
    each.set_ylim(max(0.0, lowest - 0.08 * (1.02 - lowest) - 0.01), 1.005 + 0.02 * (1 - lowest))
    for axes in (boxes, each):
        _plain(axes)
    return figure


def reliability(figures: Figures) -> Figure:
    """How often the model is right where it is so sure, and how often it is so sure."""
    bins = figures.reliability
    width = 1 / len(bins)
    places = (np.arange(len(bins)) + 0.5) * width
    share = np.array([own.n for own in bins]) / figures.n
    figure = Figure(figsize=(5.4, 6.2), layout="constrained")
    diagram, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
    for place, own in zip(places.tolist(), bins, strict=True):
        if not own.n:
            continue
        diagram.bar(place, own.accuracy, width * 0.94, color=FIRST, alpha=0.85)
        low, high = sorted((own.accuracy, own.confidence))
        diagram.bar(
            place, high - low, width * 0.94, low, color=WRONG, alpha=0.28, hatch="////", edgecolor=WRONG, linewidth=0
        )
        # Few windows say little.
        diagram.text(place, 0.012, f"{own.n}", ha="center", fontsize=6, rotation=90, color="white")
    diagram.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--")
    diagram.text(0.03, 0.94, f"ECE {figures.ece:.4f}\nlog-loss {figures.log_loss:.4f}", va="top", fontsize=11)
    diagram.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy; hatched: gap to the confidence")
    histogram.bar(places, share, width * 0.94, color=SECOND)
    confidence = sum(own.n * own.confidence for own in bins) / figures.n
    histogram.axvline(confidence, color=INK, linewidth=1.2, label=f"mean confidence {confidence:.3f}")
    histogram.axvline(figures.accuracy, color=FIRST, linewidth=1.2, ls="--", label=f"accuracy {figures.accuracy:.3f}")
    histogram.set(xlabel="confidence: probability of the most probable activity", ylabel="share of windows")
    histogram.legend(loc="upper left", fontsize=8)
    for axes in (diagram, histogram):
        _plain(axes)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)


def components(windows: LabelledWindows, bundle: ModelBundle) -> Figure:
    """Windows in three principal components, coloured by activity."""
    rows = np.random.default_rng(0).permutation(len(windows))[:_POINTS]
    points, explained = principal_components(features(windows.samples[rows]), 3)
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.add_subplot(projection="3d")
    for i, label in enumerate(bundle.labels):
        own = points[windows.targets[rows] == i]
        axes.scatter(own[:, 0], own[:, 1], own[:, 2], s=5, label=label, color=colour_of(label))
    axes.set(**{f"{axis}label": f"{100 * share:.0f} %" for axis, share in zip("xyz", explained, strict=True)})
    figure.legend(loc="outside right upper", markerscale=3)
    return figure


def features(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, k) float64: mean and log amplitude spectrum of each channel, standardised."""
    spectrum = np.abs(np.fft.rfft(samples - samples.mean(axis=1, keepdims=True), axis=1))
    parts = [samples.mean(axis=1), np.log1p(spectrum).reshape(len(samples), -1)]
    raw = np.concatenate(parts, axis=1).astype(np.float64)
    result: NDArray[np.float64] = (raw - raw.mean(axis=0)) / np.maximum(raw.std(axis=0), 1e-9)
    return result


def principal_components(values: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, count) coordinates of centred values along their principal axes, and the variance share of each axis."""
    left, singular, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    return left[:, :count] * singular[:count], (singular**2 / np.sum(singular**2))[:count]


def examples(windows: LabelledWindows, bundle: ModelBundle) -> Figure:
    """A window of each activity."""
    columns = 3
    rows = -(-len(bundle.labels) // columns)
    figure = Figure(figsize=(4 * columns, 2.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    time_s = np.arange(bundle.spec.window_len) / bundle.spec.rate_hz
    for i, axes in enumerate(grid.flat):
        own = np.flatnonzero(windows.targets == i) if i < len(bundle.labels) else np.empty(0, np.int64)
        if not len(own):
            axes.set_axis_off()
            continue
        sample = windows.samples[own[len(own) // 2]]
        for channel, values in zip(bundle.spec.channels, sample.T, strict=True):
            axes.plot(time_s, values, linewidth=0.8, label=channel)
        axes.set_title(bundle.labels[i], fontsize=9)
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), fontsize=7)
    figure.supxlabel(f"s; acceleration in {bundle.spec.acc_unit}, angular rate in rad/s", fontsize=8)
    return figure
