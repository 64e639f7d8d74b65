"""Sections of a model card, one for each kind of figures: over fitted models, over windows, over streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from models.scoring.assessment import Assessment
from models.scoring.crossvalidation import CrossValidation
from models.scoring.evaluation import Figures, LabelFigures
from models.scoring.segments import OVERLAPS
from models.scoring.spread import Spread, spread_over_groups
from models.scoring.streaming import StreamingAssessment

#: What figures of windows with their past are.
PAST_IN_WORDS: Final = (
    "Windows alone are what others publish. With its past a window is answered by itself and the windows before it in "
    "its recording, from the beginning on and never by a later one, through the bundle's chain, as it is when served. "
    "In random order the same windows have their recording's blocks of activity shuffled before, so that nothing is "
    "owed to the order in which everybody was told to do them."
)
_HEADS: Final = "windows | accuracy | macro-F1 | per-group macro-F1 | log-loss | ECE"
#: What figures of ten seconds are, and those with the past beside them.
TEN_SECONDS_IN_WORDS: Final = (
    "Of ten seconds alone: windows that end ten seconds of one activity, by the windows of these ten seconds and "
    "nothing before them, as others score windows of ten seconds. With their past: of the same people's recordings, "
    "whose activities were recorded one by one, cut into pieces of 20 to 90 s and put together in random order."
)


def crossvalidated(result: CrossValidation) -> str:
    """The section of a cross-validation."""
    lines = [
        f"### Fitted models on data they did not see: {result.protocol}",
        "",
        f"`har-models crossvalidate {result.recipe}{_options(result)}`, {result.epochs} epochs a fit.",
        "",
        "| seed | fold | windows | accuracy | macro-F1 | per-group macro-F1 | log-loss | ECE | temperature |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {run.seed} | {run.fold} | {run.n} | {run.accuracy:.4f} | {run.macro_f1:.4f} "
            f"| {run.group_macro_f1:.4f} | {_cell(run.log_loss)} | {_cell(run.ece)} | {_cell(run.temperature)} |"
            for run in result.runs
        ),
    ]
    if result.over_seeds:
        for name in ("mean", "std", "worst"):
            mark = "**" if name == "mean" else ""
            cells = " | ".join(f"{mark}{getattr(one, name):.4f}{mark}" for one in result.over_seeds.values())
            lines.append(f"| {name} of seeds | | | {cells} | |")
    else:
        lines.append(
            f"| mean | | | **{result.accuracy:.4f}** | {result.macro_f1:.4f} | **{result.group_macro_f1:.4f}** | | | |"
        )
    if len({run.fold for run in result.runs}) > 1:
        worst = result.worst_run
        past = [run.past_accuracy for run in result.without_details().runs if run.past_accuracy is not None]
        of_past = f", and {min(past):.4f} with their past" if past else ""
        lines += ["", f"Worst fold: {worst.accuracy:.4f} accuracy (seed {worst.seed}, fold {worst.fold}){of_past}."]
    if result.spread:
        lines += ["", "Over groups, each in the mean over seeds:", "", _spread(result.spread)]
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
    if len(result.by_seed) > 1 and result.with_past is not None:
        lines += [
            "",
            f"With their past, over {len(result.by_seed)} seeds:",
            "",
            "| windows | | accuracy | macro-F1 | per-group macro-F1 | log-loss | ECE |",
            "|---|---|---|---|---|---|---|",
            *(
                f"| {name} | {which} | " + " | ".join(f"{getattr(one, which):.4f}" for one in over.values()) + " |"
                for name, over in result.with_past_over_seeds.items()
                for which in ("mean", "std", "worst")
            ),
        ]
    if result.ways:
        lines += ["", "All held-out windows of the first seed:", "", *_ways_table(result.ways)]
    if result.with_past is not None:
        lines += ["", f"{PAST_IN_WORDS} The chain of each run was fitted on its training groups alone."]
        if result.with_past.ten_seconds is not None:
            lines += ["", TEN_SECONDS_IN_WORDS]
    lines += _streams(result)
    lines += ["", "Per activity, over all held-out windows of the first seed:", "", _per_class(result.pooled.per_class)]
    return "\n".join(lines)


def _streams(result: CrossValidation) -> list[str]:
    """What is told of whole recordings of who was held out: the mean of runs, and how far they go apart."""
    if not result.streams():
        return []
    return [
        "",
        (
            "Whole recordings of who was held out, through the recognizer, by a bundle of each run's network and of "
            "smoothing fitted on its training groups alone; shares are of labelled time."
        ),
        "",
        "| | mean of runs | least | most |",
        "|---|---|---|---|",
        *(
            f"| {name} | {np.mean(values):.4g} | {min(values):.4g} | {max(values):.4g} |"
            for name, values in result.streams().items()
        ),
    ]


def _options(result: CrossValidation) -> str:
    seeds = sorted({run.seed for run in result.runs})
    if seeds == list(range(len(seeds))):
        options = f" --seeds {len(seeds)}" if len(seeds) > 1 else ""
    else:
        options = "".join(f" --seed {seed}" for seed in seeds)
    if result.settings is not None:
        if result.settings.all_subjects:
            options += " --all-subjects"
        if result.settings.all_subjects or (result.settings.official_split and result.settings.folds):
            options += f" --folds {result.settings.folds}"
        if result.settings.calibration_folds is not None:
            options += f" --calibration-folds {result.settings.calibration_folds}"
    return options


def assessed(result: Assessment) -> str:
    """The section of a bundle's figures on a data set."""
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
        *(_ways_table(result.ways) if len(result.ways) > 1 else _figures_table(figures)),
    ]
    if result.with_past is not None:
        lines += ["", f"{PAST_IN_WORDS} What follows is of windows alone."]
    elif result.without_past:
        lines += ["", f"Not with their past: {result.without_past}"]
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
    if figures.refused:
        lines += ["", f"Rather none of these than any activity: {figures.refused:.4f} of windows."]
    lines += ["", _spread(spread_over_groups(figures.per_group))]
    if not result.seen_in_training:
        lines += ["", _per_class(figures.per_class)]
    return "\n".join(lines)


def _figures_table(alone: Figures) -> list[str]:
    return [f"| {_HEADS} |", "|---" * 6 + "|", f"| {_cells(alone)} |"]


def _ways_table(ways: Sequence[tuple[str, Figures]]) -> list[str]:
    """One row for each way of answering, the tenth of groups that it fails most included."""
    tenth = [spread_over_groups(own.per_group)["macro_f1"].p10 for _, own in ways]
    rows = [f"| {name} | {_cells(own)} | {p10:.4f} |" for (name, own), p10 in zip(ways, tenth, strict=True)]
    return [f"| | {_HEADS} | 10th percentile of groups' macro-F1 |", "|---" * 8 + "|", *rows]


def _cells(own: Figures) -> str:
    return (
        f"{own.n} | {own.accuracy:.4f} | {own.macro_f1:.4f} | {own.group_macro_f1:.4f} | {own.log_loss:.4f} | "
        f"{own.ece:.4f}"
    )


def streamed(result: StreamingAssessment) -> str:
    """The section of a bundle's figures over continuous recordings."""
    seen = " These recordings were seen in training." if result.seen_in_training else ""
    names = ("in hindsight", "live")
    both = list(zip(names, (result.segments, result.live_segments), strict=True))
    frames = (
        (
            names[0],
            result.hindsight_accuracy,
            result.hindsight_unknown,
            result.hindsight_group,
            result.hindsight_group_right,
        ),
        (names[1], result.live_accuracy, result.live_unknown, result.live_group, result.live_group_right),
    )
    overlaps = [f"{overlap:g}" for overlap in OVERLAPS]
    return "\n".join(
        (
            f"### This bundle, streaming, on {result.dataset}: {result.protocol}",
            "",
            f"`har-models evaluate {result.bundle} --dataset {result.dataset} --streaming`; by labelled time.{seen}",
            "",
            f"{result.seconds:.0f} s are labelled. Time told:",
            "",
            "| | accuracy | unknown | group | of it the right group |",
            "|---|---|---|---|---|",
            *(f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |" for name, *values in frames),
            "",
            f"Bouts, {result.segments.true_bouts} true ones:",
            "",
            "| | F1 | edit score | insertions per hour | fragmented | merges | deleted | told |",
            "|---|---|---|---|---|---|---|---|",
            *(
                f"| {name} | {own.bout_f1:.4f} | {own.edit_score:.4f} | {own.insertions_per_h:.1f} | "
                f"{own.fragmentation:.2%} | {own.merges} | {own.deleted} | {own.told_bouts} |"
                for name, own in both
            ),
            "",
            f"| F1 by overlap | {' | '.join(overlaps)} |",
            "|---" * (1 + len(overlaps)) + "|",
            *(
                f"| {name} | {' | '.join(f'{own.bout_f1_by_overlap[one]:.4f}' for one in overlaps)} |"
                for name, own in both
            ),
            "",
            f"| time lost to | {' | '.join(result.segments.lost_time.__struct_fields__)} |",
            "|---" * (1 + len(result.segments.lost_time.__struct_fields__)) + "|",
            *(
                f"| {name} | {' | '.join(f'{share:.4f}' for share in msgspec.structs.astuple(own.lost_time))} |"
                for name, own in both
            ),
            "",
            (
                f"Time to detection, from the true onset of {result.onsets} changes of activity; and from the onset in "
                f"an event to its decision, over {result.bouts} bouts:"
            ),
            "",
            "| median, s | 95th percentile, s | never detected | decided early | median decision delay, s |",
            "|---|---|---|---|---|",
            (
                f"| {_cell(result.detection_median_s, 2)} | {_cell(result.detection_p95_s, 2)} | "
                f"{result.never_detected:.2%} | {result.early:.2%} | {result.decision_delay_s:.2f} |"
            ),
            "",
            _spread(result.spread),
        )
    )


def _spread(spread: Mapping[str, Spread]) -> str:
    return "\n".join(
        (
            "| over groups | mean | 95 % interval of it | median | 10th percentile | worst |",
            "|---|---|---|---|---|---|",
            *(
                f"| {name.replace('macro_f1', 'macro-F1')} | {one.mean:.4f} | {_range(one.interval)} | "
                f"{one.median:.4f} | {one.p10:.4f} | {one.worst:.4f} ({one.worst_group}) |"
                for name, one in spread.items()
            ),
        )
    )


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _cell(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


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
