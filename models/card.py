"""Model cards: what a bundle is, how it was scored, under which terms its data stand, and where it stops being good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.assessment import Assessment, StreamingAssessment
from models.crossvalidation import CrossValidation
from models.data import DatasetName
from models.evaluation import LabelFigures
from models.recipes import Recipe
from streamer.bundle import ModelBundle

#: The publishers' own words.
TERMS: Final[dict[DatasetName, str]] = {
    "hapt": """\
From the README of the HAPT archive (the one of UCI HAR says the same and names Anguita et al., ESANN 2013):

> Use of this dataset in publications must be acknowledged by referencing the following publications
>
> - Jorge-L. Reyes-Ortiz, Luca Oneto, Albert Samà, Xavier Parra, Davide Anguita. Transition-Aware Human Activity
>   Recognition Using Smartphones. Neurocomputing. Springer 2015.
>
> This dataset is distributed AS-IS and no responsibility implied or explicit can be addressed to the authors or their
> institutions for its use or misuse. Any commercial use is prohibited.""",
    "wisdm-watch": """\
The archive's README states no terms. The data are those of G. M. Weiss, K. Yoneda, T. Hayajneh: Smartphone and
smartwatch-based biometrics using activities of daily living, IEEE Access 7, 2019.""",
    "fitbit": "None are stated with the data; neither the person nor the arm is.",
}


def card(
    recipe: Recipe,
    bundle: ModelBundle,
    assessments: Sequence[Assessment],
    streaming: Sequence[StreamingAssessment],
    crossvalidation: CrossValidation | None,
) -> str:
    """CARD.md as text; every figure in it comes from a command that it names."""
    parts = [
        f"# {bundle.manifest.name}",
        recipe.summary[0].upper() + recipe.summary[1:] + ".",
        _facts(recipe, bundle),
        f"Made by `har-models train {recipe.name} --seed {bundle.manifest.training['seed']}`.",
        "## Figures",
    ]
    if crossvalidation is not None:
        parts.append(_crossvalidated(crossvalidation))
    parts += [_assessed(assessment) for assessment in assessments]
    parts += [_streamed(one) for one in streaming]
    parts += ["## Limits", "\n".join(f"* {limit}" for limit in recipe.limits)]
    parts += ["## Terms of the data", TERMS[recipe.dataset]]
    return "\n\n".join(parts) + "\n"


def _facts(recipe: Recipe, bundle: ModelBundle) -> str:
    manifest, spec = bundle.manifest, bundle.spec
    training, smoothing = manifest.training, manifest.smoothing
    facts = {
        "bundle": f"digest `{bundle.digest}`, version {manifest.version}, seed {training['seed']}",
        "size": f"{training['parameters']} parameters, {len(bundle.model) // 1000} kB of ONNX",
        "windows": f"{spec.window_len} samples ({spec.window_len / spec.rate_hz:g} s) every {spec.hop_len} "
        f"({spec.hop_len / spec.rate_hz:g} s) on a {spec.rate_hz} Hz grid",
        "needs": f"{' and '.join(spec.sensors)}, {manifest.min_feed_rate_hz:g} Hz or faster",
        "activities": ", ".join(bundle.labels),
        "smoothing": f"weight {smoothing.weight:g}, enter {smoothing.enter:g}, leave {smoothing.leave:g}, dwell "
        f"{smoothing.dwell}",
        "temperature": training["temperature"],
        "calibration": f"temperature and smoothing were fitted on groups held out of a first fit "
        f"({training['calibrated_on']}); the shipped network was then fitted on all"
        if recipe.calibrated
        else "none: temperature and smoothing are set, not fitted",
    }
    return "\n".join(("| | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in facts.items())))


def _crossvalidated(result: CrossValidation) -> str:
    lines = [
        f"### Fitted models on data they did not see: {result.protocol}",
        "",
        f"`har-models crossvalidate {result.recipe}{_options(result)}`, {result.epochs} epochs a fit.",
        "",
        "| seed | fold | windows | accuracy | macro-F1 | per-group macro-F1 |",
        "|---|---|---|---|---|---|",
        *(
            f"| {run.seed} | {run.fold} | {run.n} | {run.accuracy:.4f} | {run.macro_f1:.4f} "
            f"| {run.group_macro_f1:.4f} |"
            for run in result.runs
        ),
        f"| mean | | | **{result.accuracy:.4f}** | {result.macro_f1:.4f} | **{result.group_macro_f1:.4f}** |",
    ]
    if result.leaky_random_split is not None:
        lines += [
            "",
            (
                "For comparison only, and leaky by construction: with neighbouring, overlapping windows of the one "
                "person dealt at random to training (70 %) and test (30 %), as others have published (record 95.51 %): "
                f"accuracy {result.leaky_random_split['accuracy']:.4f}, macro-F1 "
                f"{result.leaky_random_split['macro_f1']:.4f}."
            ),
        ]
    pooled = "over all held-out windows of the first seed"
    return "\n".join([*lines, "", f"Per activity, {pooled}:", "", _per_class(result.pooled.per_class)])


def _options(result: CrossValidation) -> str:
    seeds = len({run.seed for run in result.runs})
    return f" --seeds {seeds}" if seeds > 1 else ""


def _assessed(result: Assessment) -> str:
    figures = result.figures
    seen = (
        "\n\n**The shipped model learned from these very recordings: this tells whether it was built rightly, not how "
        "well it does on other people.**"
        if result.seen_in_training
        else ""
    )
    lines = [
        f"### This bundle on {result.dataset}: {result.protocol}",
        "",
        f"`har-models evaluate {result.bundle} --dataset {result.dataset}`{seen}",
        "",
        "| windows | accuracy | macro-F1 | per-group macro-F1 | log-loss | ECE |",
        "|---|---|---|---|---|---|",
        (
            f"| {figures.n} | {figures.accuracy:.4f} | {figures.macro_f1:.4f} | {figures.group_macro_f1:.4f} | "
            f"{figures.log_loss:.4f} | {figures.ece:.4f} |"
        ),
    ]
    if result.phase_accuracy is not None:
        values = " | ".join(f"{value:.4f}" for value in result.phase_accuracy)
        count = len(result.phase_accuracy)
        lines += [
            "",
            "Accuracy by the phase of the windows, in eighths of a hop:",
            "",
            "| " + " | ".join(f"{i}/{count}" for i in range(count)) + " |",
            "|" + "---|" * count,
            f"| {values} |",
        ]
    if not result.seen_in_training:
        lines += ["", _per_class(figures.per_class)]
    return "\n".join(lines)


def _streamed(result: StreamingAssessment) -> str:
    seen = " These recordings were seen in training." if result.seen_in_training else ""
    return "\n".join(
        (
            f"### This bundle, streaming, on {result.dataset}: {result.protocol}",
            "",
            f"`har-models evaluate {result.bundle} --dataset {result.dataset} --streaming`; by labelled time.{seen}",
            "",
            (
                "| labelled s | accuracy in hindsight | accuracy live | live unknown | bouts told | labelled stretches "
                "| median decision delay, s |"
            ),
            "|---|---|---|---|---|---|---|",
            (
                f"| {result.seconds:.0f} | {result.hindsight_accuracy:.4f} | {result.live_accuracy:.4f} | "
                f"{result.live_unknown:.4f} | {result.bouts} | {result.true_bouts} | {result.decision_delay_s:.2f} |"
            ),
        )
    )


def _per_class(per_class: dict[str, LabelFigures]) -> str:
    return "\n".join(
        (
            "| activity | precision | recall | F1 | windows |",
            "|---|---|---|---|---|",
            *(
                f"| {label} | {own.precision:.3f} | {own.recall:.3f} | {own.f1:.3f} | {own.support} |"
                for label, own in per_class.items()
                if own.support
            ),
        )
    )
