"""Model cards: what a bundle is, how it was scored, under which terms its data stand, and where it stops being good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.recipes import Recipe
from models.reports.sections import assessed, crossvalidated, streamed
from models.scoring.assessment import Assessment
from models.scoring.crossvalidation import CrossValidation
from models.scoring.streaming import StreamingAssessment
from models.windows.data import DatasetName
from streamer.bundle import ModelBundle

#: What cards have since they say how their figures came about.
PROTOCOL_HEADING: Final = "## Protocol"
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
    crossvalidations: Sequence[CrossValidation],
    *,
    stressed: Sequence[str] = (),
    tried: str | None,
) -> str:
    """CARD.md as text; every figure in it comes from a command that it names.

    Args:
        recipe: that the bundle was made by.
        bundle: whose card this is.
        assessments: how it does on windows.
        streaming: how it does on whole recordings.
        crossvalidations: how others of the recipe do.
        stressed: how it does on varied recordings and on watches that nobody wears, as Markdown.
        tried: what was tried on the way, as Markdown.
    """
    parts = [
        f"# {bundle.manifest.name}",
        recipe.summary[0].upper() + recipe.summary[1:] + ".",
        _facts(recipe, bundle),
        f"Made by `har-models train {recipe.name} --seed {bundle.manifest.training['seed']}`.",
        PROTOCOL_HEADING,
        _protocol(recipe, crossvalidations),
        "## Figures",
        *(crossvalidated(one) for one in crossvalidations),
        *(assessed(one) for one in assessments),
        *(streamed(one) for one in streaming),
        *stressed,
    ]
    if tried is not None:
        parts += ["## What was tried", tried]
    parts += ["## Limits", "\n".join(f"* {limit}" for limit in recipe.limits)]
    parts += ["## Terms of the data", TERMS[recipe.dataset]]
    return "\n\n".join(parts) + "\n"


def _protocol(recipe: Recipe, crossvalidations: Sequence[CrossValidation]) -> str:
    groups = "block of time" if recipe.dataset == "fitbit" else "person"
    lines = [f"No {groups} is on both sides of any split: who is scored was not learned from, unless a figure says so."]
    if recipe.official_split:
        lines.append(
            "Network, epochs, temperature, smoothing and every threshold were chosen on held-out training subjects; "
            "the official test split was read once for the released model."
        )
    else:
        lines.append(f"Whatever was chosen was chosen on what was held out of training, never on the {groups} scored.")
    lines.append(
        "Preprocessing is causal and the same in training, in these figures and live (`streamer/preprocessing`); "
        "no mean, scale or other statistic comes from test data."
    )
    if any(run.temperature is not None for one in crossvalidations for run in one.runs):
        lines.append(
            f"A cross-validated model's temperature and chain were fitted on {_calibration_groups(crossvalidations)}, "
            "each as told by a network of seed 0 that had not seen it, as the shipped bundle's were."
            if recipe.chained
            else "A cross-validated model's temperature was fitted on a fifth of its training groups, by a network "
            "that had not seen them, as the shipped bundle's was."
        )
    lines.append("How each figure is defined: docs/explanation/scoring.md.")
    return "\n".join(f"* {line}" for line in lines)


def _calibration_groups(crossvalidations: Sequence[CrossValidation]) -> str:
    settings = [one.settings for one in crossvalidations if one.settings is not None]
    some = {one.calibration_folds for one in settings if one.calibration_folds is not None}
    if not some:
        return "its training groups"
    return f"the training groups of {' or '.join(map(str, sorted(some)))} of its folds"


def _facts(recipe: Recipe, bundle: ModelBundle) -> str:
    manifest, spec = bundle.manifest, bundle.spec
    training, smoothing = manifest.training, manifest.smoothing
    facts = {
        "bundle": f"digest `{bundle.digest}`, version {manifest.version}, seed {training['seed']}",
        "size": f"{training['parameters']} parameters, {len(bundle.model) // 1000} kB of ONNX",
        "windows": f"{spec.window_len} samples ({spec.window_len / spec.rate_hz:g} s) every {spec.hop_len} "
        f"({spec.hop_len / spec.rate_hz:g} s) on a {spec.rate_hz} Hz grid",
        "needs": f"{spec.sensors_in_words}, {manifest.min_feed_rate_hz:g} Hz or faster",
        "activities": ", ".join(bundle.labels),
        "smoothing": f"{_smoothed(bundle)}, enter {smoothing.enter:g}, leave {smoothing.leave:g}, dwell "
        f"{smoothing.dwell}" + ("" if smoothing.group_enter is None else f"; groups from {smoothing.group_enter:g} on"),
        "temperature": training["temperature"],
        "calibration": f"temperature and smoothing were fitted on {_held_out(recipe)} "
        f"({training['calibrated_on']}); the shipped network was then fitted on all"
        if recipe.calibrated
        else "none: temperature and smoothing are set, not fitted",
    }
    return "\n".join(("| | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in facts.items())))


def _held_out(recipe: Recipe) -> str:
    if recipe.chained:
        return "all groups, each as said of it by a fit that had not seen it"
    return "groups held out of a first fit"


def _smoothed(bundle: ModelBundle) -> str:
    chain = bundle.manifest.smoothing.chain
    if chain is None:
        return f"weight {bundle.manifest.smoothing.weight:g}"
    passages = bundle.manifest.passages
    known = f", among them the passages {', '.join(passages)}" if passages else ""
    kin = "; ".join(" and ".join((*bundle.outputs, "none of these")[place] for place in one) for one in chain.kin)
    return (
        f"a chain of {chain.states} states{known}; evidence {chain.evidence:g}"
        + (f", {chain.within:g} between {kin}" if kin else "")
        + f", prior weight {chain.prior_weight:g}"
        + ("" if not chain.repeated else f", {chain.repeated:g} of it repeated by the next window")
    )
