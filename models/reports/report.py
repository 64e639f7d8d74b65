"""A bundle in pictures: PNG files and one HTML page that shows them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from models.recipes import RECIPES, Recipe
from models.reports import charts, stream_charts
from models.scoring.assessment import OFFICIAL, evaluate_bundle
from models.scoring.crossvalidation import crossvalidations_in
from models.scoring.evaluation import Figures
from models.scoring.spread import spread_over_groups
from models.scoring.streaming import StreamingAssessment, stream_data_set, streaming_figures
from models.windows.data import labelled_windows, official_windows, sittings_of
from streamer.bundle import ModelBundle
from streamer.errors import ConfigError

_DPI: Final = 110
_TRAINING: Final = "TRAINING recordings, which flatters the model"


def write_report(bundle: ModelBundle, folder: Path) -> Path:
    """Write the pictures and index.html into `folder`; the page's path.

    Figures are those of the official test split, or of the cross-validation that stands in the bundle; where there is
    neither, those on the training recordings, and the page says so. Recordings are streamed of the first data set that
    the card streams, or else of the training recordings.

    Raises:
        ConfigError: the bundle is not of a recipe here, or its data set is missing.
    """
    mpl.use("agg")
    recipe = RECIPES.get(bundle.manifest.training.get("recipe", ""))
    if recipe is None:
        raise ConfigError(
            f"bundle {bundle.manifest.name} names no recipe of this release; expected one of {', '.join(RECIPES)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context():
        mpl.rcParams.update({"font.size": 9, "legend.frameon": False})
        figures, source, streamed, pictures = _drawn(bundle, recipe)
        for name, (_, picture) in pictures.items():
            picture.savefig(folder / name, dpi=_DPI)
    captions = {name: caption for name, (caption, _) in pictures.items()}
    page = folder / "index.html"
    page.write_text(_page(bundle, figures, source, streamed, captions), encoding="utf-8")
    return page


def _drawn(
    bundle: ModelBundle, recipe: Recipe
) -> tuple[Figures, str, StreamingAssessment, dict[str, tuple[str, Figure]]]:
    """Figures, where they are from, those of streams, and the pictures with their captions by file name."""
    figures, source = _figures(bundle, official=recipe.official_split)
    dataset = recipe.stream_on[0] if recipe.stream_on else recipe.dataset
    recordings = stream_data_set(bundle, dataset)
    streamed = streaming_figures(bundle, dataset, recordings)
    seen = ", WHICH THE MODEL LEARNED FROM" if streamed.seen_in_training else ""
    if recipe.official_split:
        windows = official_windows("test", bundle.labels)
    else:
        windows = labelled_windows(sittings_of(recipe.dataset), bundle.spec, bundle.labels)
    groups = "blocks" if recipe.dataset == "fitbit" else "subjects"
    shown = stream_charts.ordinary(recordings)
    pictures = {
        "confusion.png": (f"Confusion: rows are the truth, in shares ({source})", charts.confusion(figures)),
        "per_class.png": (f"Precision, recall and F1 by activity ({source})", charts.per_class(figures)),
        "per_group.png": (f"Accuracy and macro-F1 of {groups} ({source})", charts.per_group(figures, groups)),
    }
    sure, of_what = figures, source
    if not sure.reliability:
        # A cross-validation of an earlier version has no bins of confidence.
        sure, of_what = evaluate_bundle(bundle, recipe.dataset).figures, _TRAINING
    pictures["reliability.png"] = (
        f"Reliability: how often it is right where it is so sure ({of_what})",
        charts.reliability(sure),
    )
    pictures["timeline.png"] = (
        (
            f"Truth against events: {shown.recording.device_id} of {dataset}{seen}; of {len(recordings)} recordings "
            "the one of median accuracy"
        ),
        stream_charts.timeline(shown, bundle.labels),
    )
    if any(one.onsets for one in recordings):
        pictures["onset_delay.png"] = (
            f"Time to detection from the true onset, {dataset}: {streamed.protocol}{seen}",
            stream_charts.onset_delays(recordings, streamed),
        )
    pictures |= {
        "curves.png": (
            "Training curves of the fit that left some groups out to calibrate on",
            charts.curves(bundle),
        ),
        "pca.png": (
            "Windows in three principal components of their means and spectra",
            charts.components(windows, bundle),
        ),
        "windows.png": ("An example window of each activity", charts.examples(windows, bundle)),
    }
    return figures, source, streamed, pictures


def _figures(bundle: ModelBundle, *, official: bool) -> tuple[Figures, str]:
    """Figures and where they are from, in words."""
    if official:
        return evaluate_bundle(bundle, OFFICIAL).figures, "official test windows"
    for result in crossvalidations_in(bundle):
        return result.pooled, f"held-out windows of {result.protocol}"
    dataset = bundle.manifest.training["dataset"]
    return evaluate_bundle(bundle, dataset).figures, _TRAINING


def _page(
    bundle: ModelBundle, figures: Figures, source: str, streamed: StreamingAssessment, captions: dict[str, str]
) -> str:
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
        **{
            f"{name.replace('macro_f1', 'macro-F1')} of groups": own.text()
            for name, own in spread_over_groups(figures.per_group).items()
        },
        "seed": bundle.manifest.training.get("seed", ""),
    }
    table = _table([("", ""), *facts.items()])
    streams = f"<pre>{html.escape(streamed.text())}</pre>"
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
        "pre{white-space:pre-wrap;font-size:13px;background:#f4f4f6;padding:1em}"
        "figure{margin:2em 0}figcaption{color:#555}</style>\n"
        f"<h1>{name}</h1>\n<p>{html.escape(bundle.manifest.training.get('summary', ''))}</p>\n"
        f"{table}\n{classes}\n{streams}\n{pictures}</html>\n"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table><tr>{head.replace('td>', 'th>')}</tr>" + "".join(f"<tr>{row}</tr>" for row in body) + "</table>"
