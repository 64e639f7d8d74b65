"""A bundle in pictures: PNG files and one HTML page that shows them."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import msgspec
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.assessment import OFFICIAL, evaluate_bundle
from models.crossvalidation import CrossValidation
from models.data import LabelledWindows, labelled_windows, official_windows, sittings_of
from models.evaluation import Figures
from models.recipes import RECIPES
from streamer.bundle import ModelBundle
from streamer.errors import ConfigError

#: Windows drawn in the principal components, at most.
_POINTS: Final = 3000
_DPI: Final = 110


def write_report(bundle: ModelBundle, folder: Path) -> Path:
    """Write the pictures and index.html into `folder`; the page's path.

    Figures are those of the official test split, or of the cross-validation that stands in the bundle; where there is
    neither, those on the training recordings, and the page says so.

    Raises:
        ConfigError: the bundle is not of a recipe here, or its data set is missing.
    """
    mpl.use("agg")
    recipe = RECIPES.get(bundle.manifest.training.get("recipe", ""))
    if recipe is None:
        raise ConfigError(
            f"bundle {bundle.manifest.name} names no recipe of this release; expected one of {', '.join(RECIPES)}"
        )
    figures, source = _figures(bundle, official=recipe.official_split)
    if recipe.official_split:
        windows = official_windows("test", bundle.labels)
    else:
        windows = labelled_windows(sittings_of(recipe.dataset), bundle.spec, bundle.labels)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "curves.png": ("Training curves of the fit that left some groups out to calibrate on", _curves(bundle)),
        "confusion.png": (f"Confusion: rows are the truth, in shares ({source})", _confusion(figures)),
        "per_class.png": (f"Precision, recall and F1 by activity ({source})", _per_class(figures)),
        "per_group.png": (
            f"Accuracy by {'block' if recipe.dataset == 'fitbit' else 'subject'} ({source})",
            _per_group(figures),
        ),
        "pca.png": ("Windows in three principal components of their means and spectra", _components(windows, bundle)),
        "windows.png": ("An example window of each activity", _examples(windows, bundle)),
    }
    for name, (_, picture) in pictures.items():
        picture.savefig(folder / name, dpi=_DPI)
    captions = {name: caption for name, (caption, _) in pictures.items()}
    page = folder / "index.html"
    page.write_text(_page(bundle, figures, source, captions), encoding="utf-8")
    return page


def _figures(bundle: ModelBundle, *, official: bool) -> tuple[Figures, str]:
    """Figures and where they are from, in words."""
    if official:
        return evaluate_bundle(bundle, OFFICIAL).figures, "official test windows"
    stored = bundle.manifest.training.get("crossvalidation")
    if stored is not None:
        result = msgspec.json.decode(stored, type=CrossValidation)
        return result.pooled, f"held-out windows of {result.protocol}"
    dataset = bundle.manifest.training["dataset"]
    return evaluate_bundle(bundle, dataset).figures, "TRAINING recordings, which flatters the model"


def _curves(bundle: ModelBundle) -> Figure:
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


def _confusion(figures: Figures) -> Figure:
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


def _per_class(figures: Figures) -> Figure:
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


def _per_group(figures: Figures) -> Figure:
    groups = sorted(figures.per_group.items(), key=lambda entry: entry[1].accuracy)
    figure = Figure(figsize=(3 + 0.25 * len(groups), 4), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(groups)), [own.accuracy for _, own in groups])
    axes.axhline(figures.accuracy, color="black", linewidth=1, linestyle="--")
    axes.set_xticks(range(len(groups)), [name for name, _ in groups], rotation=90)
    axes.set(ylabel="accuracy", ylim=(0, 1))
    return figure


def _components(windows: LabelledWindows, bundle: ModelBundle) -> Figure:
    rows = np.random.default_rng(0).permutation(len(windows))[:_POINTS]
    points, explained = principal_components(features(windows.samples[rows]), 3)
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.add_subplot(projection="3d")
    colours = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]  # every listed colormap has them
    for i, label in enumerate(bundle.labels):
        own = points[windows.targets[rows] == i]
        axes.scatter(own[:, 0], own[:, 1], own[:, 2], s=5, label=label, color=colours[i % len(colours)])
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


def _examples(windows: LabelledWindows, bundle: ModelBundle) -> Figure:
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


def _page(bundle: ModelBundle, figures: Figures, source: str, captions: dict[str, str]) -> str:
    name = html.escape(bundle.manifest.name)
    facts = {
        "bundle": f"{bundle.manifest.name}, digest {bundle.digest}",
        "figures on": source,
        "windows": str(figures.n),
        "accuracy": f"{figures.accuracy:.4f}",
        "macro-F1": f"{figures.macro_f1:.4f}",
        "mean macro-F1 of groups": f"{figures.group_macro_f1:.4f}",
        "log-loss": f"{figures.log_loss:.4f}",
        "calibration error": f"{figures.ece:.4f}",
        "seed": bundle.manifest.training.get("seed", ""),
    }
    table = _table([("", ""), *facts.items()])
    classes = _table(
        [
            ("activity", "precision", "recall", "F1", "windows"),
            *(
                (label, f"{own.precision:.3f}", f"{own.recall:.3f}", f"{own.f1:.3f}", str(own.support))
                for label, own in figures.per_class.items()
            ),
        ]
    )
    pictures = "".join(
        f'<figure><img src="{file}" alt="{html.escape(text)}"><figcaption>{html.escape(text)}</figcaption></figure>\n'
        for file, text in captions.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>\n'
        "<style>body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}img{max-width:100%}"
        "table{border-collapse:collapse;margin:1em 0}"
        "td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ccc}"
        "figure{margin:2em 0}figcaption{color:#555}</style>\n"
        f"<h1>{name}</h1>\n<p>{html.escape(bundle.manifest.training.get('summary', ''))}</p>\n"
        f"{table}\n{classes}\n{pictures}</html>\n"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table><tr>{head.replace('td>', 'th>')}</tr>" + "".join(f"<tr>{row}</tr>" for row in body) + "</table>"
