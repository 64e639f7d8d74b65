"""Figures of a recipe on groups that its fitted models did not see: one document, put together run by run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from models.scoring.evaluation import Figures, GroupFigures, pooled
from models.scoring.past import PastFigures, WithoutGyro, ways
from models.scoring.spread import OverSeeds, Spread, over_seeds, spread_over_groups
from models.scoring.streaming import StreamingAssessment
from streamer.bundle import ModelBundle
from streamer.errors import ConfigError

#: Figures over seeds, and which end is the best.
_OVER_SEEDS: Final[dict[str, Literal["high", "low"]]] = {
    "accuracy": "high",
    "macro_f1": "high",
    "group_macro_f1": "high",
    "log_loss": "low",
    "ece": "low",
}

#: In a bundle's `training`: figures of the protocol that a recipe is scored by first, and of others.
_KEYS: Final = (
    "crossvalidation",
    "crossvalidation_of_training_subjects",
    "crossvalidation_of_all_subjects",
)


#: What is told of whole recordings, in words.
STREAMED: Final[dict[str, Callable[[StreamingAssessment], float]]] = {
    "hours": lambda one: one.seconds / 3600,
    "right in hindsight": lambda one: one.hindsight_accuracy,
    "right live": lambda one: one.live_accuracy,
    "a right group, in hindsight": lambda one: one.hindsight_group_right,
    "a wrong group": lambda one: one.hindsight_group - one.hindsight_group_right,
    "a wrong activity": lambda one: 1 - one.hindsight_accuracy - one.hindsight_group - one.hindsight_unknown,
    "unknown": lambda one: one.hindsight_unknown,
    "bout F1": lambda one: one.segments.bout_f1,
    "insertions per hour": lambda one: one.segments.insertions_per_h,
    "fragmented": lambda one: one.segments.fragmentation,
    "edit score": lambda one: one.segments.edit_score,
    "time to detection, median s": lambda one: np.inf if one.detection_median_s is None else one.detection_median_s,
    "95th percentile, s": lambda one: np.inf if one.detection_p95_s is None else one.detection_p95_s,
    "never detected": lambda one: one.never_detected,
}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One fitted model on groups that it did not see.

    Attributes:
        seed, fold: which one.
        groups: those it was scored on.
        n, accuracy, macro_f1, group_macro_f1, log_loss, ece: as in Figures; None where earlier versions had none.
        temperature: that divides the logits, fitted on some of the run's training groups by a network that did not see
            them; None where the recipe or the command fits none.
        calibrated_on: those groups.
        uncalibrated_log_loss, uncalibrated_ece: with a temperature of 1.
        figures: all of them; None in documents of earlier versions and in bundles.
        with_past: of the same windows with those before them, by a chain fitted on training groups alone; None where
            the recipe has none, and in bundles.
        without_gyro: of the same windows without their gyroscope; None where a feed cannot lack it, and in bundles.
        past_accuracy: that of `with_past` in order, which bundles keep.
        streamed: of whole recordings of these groups through the recognizer, by a bundle of this run's network and of
            smoothing fitted on training groups alone; None where the recipe has no chain.
    """

    seed: int
    fold: int
    groups: tuple[str, ...]
    n: int
    accuracy: float
    macro_f1: float
    group_macro_f1: float
    log_loss: float | None = None
    ece: float | None = None
    temperature: float | None = None
    calibrated_on: tuple[str, ...] = ()
    uncalibrated_log_loss: float | None = None
    uncalibrated_ece: float | None = None
    figures: Figures | None = None
    with_past: PastFigures | None = None
    without_gyro: WithoutGyro | None = None
    past_accuracy: float | None = None
    streamed: StreamingAssessment | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What makes runs go together.

    Attributes:
        recipe, recipe_digest: what was fitted: its name, and a digest of all in it that decides a fit.
        folds: by group; 0 for the official test split.
        official_split: whether there is one; without, folds go over everybody as it is.
        all_subjects: whether folds go over the official test subjects, too.
        calibrated: whether each run fits its temperature.
        calibration_folds: of the other folds, on how many each run's temperature and chain are fitted; None for all.
    """

    recipe: str
    recipe_digest: str
    folds: int
    official_split: bool
    all_subjects: bool
    calibrated: bool
    calibration_folds: int | None = None


class SeedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """All held-out windows of one seed together."""

    seed: int
    n: int
    accuracy: float
    macro_f1: float
    group_macro_f1: float
    log_loss: float
    ece: float


class CrossValidation(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a recipe.

    Attributes:
        recipe, protocol: what was scored and how, in words.
        epochs: of each fit.
        runs: one per seed and fold.
        accuracy, macro_f1, group_macro_f1: means over seeds of the figures over all held-out windows.
        accuracy_std: over seeds, 0 for one.
        pooled: all held-out windows of the first seed.
        leaky_random_split: accuracy and macro-F1 where neighbouring windows of one person were dealt at random to
            training (70 %) and test, as has been published for the Fitbit data; flattering by construction.

    Of these documents of earlier versions have nothing:

    Attributes:
        settings: what makes further runs go with these.
        planned: seeds and folds that belong here, those yet to be run included.
        by_seed: figures of each seed.
        over_seeds: mean, standard deviation and worst of each of them.
        per_group: each group's windows, and its figures in the mean over seeds.
        spread: of those over groups.
        with_past: all held-out windows of the first seed with those before them; None where the recipe has no chain.
        with_past_over_seeds: as `over_seeds`, of windows with those before them, in order and shuffled, and with those
            of ten seconds alone.
        without_gyro: all held-out windows of the first seed without their gyroscope; None where none may lack it.
    """

    recipe: str
    protocol: str
    epochs: int
    runs: tuple[Run, ...]
    accuracy: float
    accuracy_std: float
    macro_f1: float
    group_macro_f1: float
    pooled: Figures
    leaky_random_split: dict[str, float] | None
    settings: Settings | None = None
    planned: tuple[tuple[int, int], ...] = ()
    by_seed: tuple[SeedFigures, ...] = ()
    over_seeds: dict[str, OverSeeds] = {}
    per_group: dict[str, GroupFigures] = {}
    spread: dict[str, Spread] = {}
    with_past: PastFigures | None = None
    with_past_over_seeds: dict[str, dict[str, OverSeeds]] = {}
    without_gyro: WithoutGyro | None = None

    def json(self) -> bytes:
        """One JSON document."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Planned runs that are not there yet."""
        done = {(run.seed, run.fold) for run in self.runs}
        return [one for one in self.planned if one not in done]

    @property
    def worst_run(self) -> Run:
        """The fitted model with the lowest accuracy: the worst fold, where there are folds."""
        return min(self.runs, key=lambda run: run.accuracy)

    @property
    def key(self) -> str:
        """The name of such figures in a bundle's `training`; a bundle holds one of each."""
        if self.settings is None or (not self.settings.all_subjects and self.settings.folds == 0):
            return _KEYS[0]
        return _KEYS[2] if self.settings.all_subjects else _KEYS[1] if self.settings.official_split else _KEYS[0]

    @property
    def ways(self) -> list[tuple[str, Figures]]:
        """All held-out windows of the first seed in each way they were answered; none where it is windows alone."""
        found = ways(self.pooled, self.with_past, self.without_gyro)
        return found if len(found) > 1 else []

    def streams(self) -> dict[str, list[float]]:
        """What `Run.streamed` says, run by run; nothing where recordings were not streamed."""
        told = [run.streamed for run in self.runs if run.streamed is not None]
        return {name: [of(one) for one in told] for name, of in STREAMED.items()} if told else {}

    def without_details(self) -> CrossValidation:
        """The document as bundles hold it: runs without their confusions, bins and people."""
        runs = tuple(
            msgspec.structs.replace(
                run,
                figures=None,
                with_past=None,
                without_gyro=None,
                past_accuracy=run.past_accuracy if run.with_past is None else run.with_past.in_order.accuracy,
                streamed=run.streamed and msgspec.structs.replace(run.streamed, per_group={}, spread={}),
            )
            for run in self.runs
        )
        return msgspec.structs.replace(self, runs=runs)

    def text(self) -> str:
        """A table for people."""
        lines = [f"{self.recipe}: {self.protocol}, {self.epochs} epochs"]
        lines.append("  seed  fold       n  accuracy  macro-F1  per-group  log-loss     ECE  temperature")
        for run in self.runs:
            loss, ece, temperature = (
                "-" if value is None else f"{value:.4f}" for value in (run.log_loss, run.ece, run.temperature)
            )
            lines.append(
                f"  {run.seed:4d}  {run.fold:4d}  {run.n:6d}  {run.accuracy:8.4f}  {run.macro_f1:8.4f}  "
                f"{run.group_macro_f1:9.4f}  {loss:>8}  {ece:>6}  {temperature:>11}"
            )
        for name in ("mean", "std", "worst"):
            values = [f"{getattr(one, name):.4f}" for one in self.over_seeds.values()]
            if values:
                cells = (f"{value:>{width}}" for value, width in zip(values, (8, 8, 9, 8, 6), strict=True))
                lines.append(f"  {name + ' of seeds':20}  " + "  ".join(cells))
        if not self.over_seeds:
            lines.append(
                f"  mean of seeds         {self.accuracy:8.4f}  {self.macro_f1:8.4f}  {self.group_macro_f1:9.4f}"
            )
        for name, over in self.with_past_over_seeds.items():
            for which in ("mean", "std", "worst"):
                values = [f"{getattr(one, which):.4f}" for one in over.values()]
                cells = (f"{value:>{width}}" for value, width in zip(values, (8, 8, 9, 8, 6), strict=True))
                lines.append(f"  {f'past {name}, {which}':20}  " + "  ".join(cells))
        lines += [
            f"  {name}, first seed: accuracy {own.accuracy:.4f}  macro-F1 {own.macro_f1:.4f}  per-group "
            f"{own.group_macro_f1:.4f}"
            for name, own in self.ways
        ]
        worst = self.worst_run
        lines.append(f"  worst run: seed {worst.seed} fold {worst.fold}, accuracy {worst.accuracy:.4f}")
        past = [run.with_past.in_order.accuracy for run in self.runs if run.with_past is not None]
        if past:
            lines.append(f"  worst run with their past: accuracy {min(past):.4f}")
        lines += [f"  {name} by group, mean over seeds: {one.text()}" for name, one in self.spread.items()]
        lines += [
            f"  streamed, {name}: mean of runs {np.mean(values):.4f}, from {min(values):.4f} to {max(values):.4f}"
            for name, values in self.streams().items()
        ]
        if self.leaky_random_split is not None:
            leaky = ", ".join(f"{name} {value:.4f}" for name, value in self.leaky_random_split.items())
            lines.append(f"random 70/30 split of neighbouring windows, which leaks: {leaky}")
        if self.missing:
            yet = ", ".join(f"seed {seed} fold {fold}" for seed, fold in self.missing)
            lines.append(f"INCOMPLETE: not run yet: {yet}")
        return "\n".join(lines)


def put_together(
    settings: Settings,
    runs: Iterable[Run],
    planned: Iterable[tuple[int, int]],
    *,
    who: str,
    epochs: int,
    leaky: dict[str, float] | None,
) -> CrossValidation:
    """The document of the runs so far.

    Args:
        settings: of all of them.
        runs: in any order, one at least, with their figures.
        planned: seeds and folds that are to be run in all.
        who: what folds go by, in words.
        epochs: of each fit.
        leaky: figures of the random split that leaks.
    """
    runs = sorted(runs, key=lambda run: (run.seed, run.fold))
    seeds = sorted({run.seed for run in runs})
    by_seed = {seed: pooled([run.figures for run in runs if run.seed == seed and run.figures]) for seed in seeds}
    over = _over_seeds(list(by_seed.values()))
    pasts = [_past([run for run in runs if run.seed == seed]) for seed in seeds]
    per_group = _mean_over_seeds(list(by_seed.values()))
    wanted = sorted({seed for seed, _ in planned} | set(seeds))
    split = "official test split" if settings.folds == 0 else f"{settings.folds} folds by {who}"
    if settings.calibration_folds is not None:
        split += f", each calibrated on {settings.calibration_folds} of the others"
    return CrossValidation(
        recipe=settings.recipe,
        protocol=split if wanted == [0] else f"{split}, seeds {_seeds_in_words(wanted)}",
        epochs=epochs,
        runs=tuple(runs),
        accuracy=over["accuracy"].mean,
        accuracy_std=over["accuracy"].std,
        macro_f1=over["macro_f1"].mean,
        group_macro_f1=over["group_macro_f1"].mean,
        pooled=by_seed[seeds[0]],
        leaky_random_split=leaky,
        settings=settings,
        planned=tuple(sorted(planned)),
        by_seed=tuple(
            SeedFigures(seed=seed, n=figures.n, **{name: getattr(figures, name) for name in _OVER_SEEDS})
            for seed, figures in by_seed.items()
        ),
        over_seeds=over,
        per_group=per_group,
        spread=spread_over_groups(per_group),
        with_past=pasts[0],
        without_gyro=_without_gyro([run for run in runs if run.seed == seeds[0]]),
        with_past_over_seeds=_past_over_seeds([past for past in pasts if past is not None]),
    )


def _over_seeds(by_seed: Sequence[Figures]) -> dict[str, OverSeeds]:
    return {
        name: over_seeds([getattr(figures, name) for figures in by_seed], best=best)
        for name, best in _OVER_SEEDS.items()
    }


def _past_over_seeds(by_seed: Sequence[PastFigures]) -> dict[str, dict[str, OverSeeds]]:
    shuffled = [past.shuffled for past in by_seed if past.shuffled is not None]
    ten_seconds = [past.ten_seconds for past in by_seed if past.ten_seconds is not None]
    found = {"in order": [past.in_order for past in by_seed], "shuffled": shuffled, "of ten seconds": ten_seconds}
    return {name: _over_seeds(figures) for name, figures in found.items() if figures}


def _past(runs: Sequence[Run]) -> PastFigures | None:
    parts = [run.with_past for run in runs if run.with_past is not None]
    return PastFigures.pooled(parts) if parts and len(parts) == len(runs) else None


def _without_gyro(runs: Sequence[Run]) -> WithoutGyro | None:
    parts = [run.without_gyro for run in runs if run.without_gyro is not None]
    return WithoutGyro.pooled(parts) if parts and len(parts) == len(runs) else None


def read_crossvalidation(path: Path) -> CrossValidation:
    """The document in a file.

    Raises:
        ConfigError: it is none of `har-models crossvalidate`.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=CrossValidation)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: not the JSON of 'har-models crossvalidate' ({error})") from error


def crossvalidations_in(bundle: ModelBundle) -> list[CrossValidation]:
    """The documents that a bundle holds, those of earlier versions included."""
    training = bundle.manifest.training
    return [msgspec.json.decode(training[key], type=CrossValidation) for key in _KEYS if key in training]


def write_crossvalidation(path: Path, document: CrossValidation) -> None:
    """Replace a file as a whole: who interrupts it has the one or the other.

    Raises:
        ConfigError: it cannot be written.
    """
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_bytes(document.json())
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error


def runs_of(path: Path, settings: Settings) -> CrossValidation:
    """A document whose runs go with the settings.

    Raises:
        ConfigError: it is none, or its runs were made otherwise; the message says what differs.
    """
    document = read_crossvalidation(path)
    if document.settings is None or any(run.figures is None for run in document.runs):
        raise ConfigError(
            f"{path}: figures without their details, of an earlier version or a bundle; expected a new file"
        )
    for name in Settings.__struct_fields__:
        found, expected = getattr(document.settings, name), getattr(settings, name)
        if found != expected:
            raise ConfigError(f"{path}: runs of {name} {found}; expected {expected}, or another file")
    return document


def _mean_over_seeds(figures: Sequence[Figures]) -> dict[str, GroupFigures]:
    names = sorted({group for one in figures for group in one.per_group})
    own = {name: [one.per_group[name] for one in figures if name in one.per_group] for name in names}
    return {
        name: GroupFigures(
            n=values[0].n,
            accuracy=float(np.mean([value.accuracy for value in values])),
            macro_f1=float(np.mean([value.macro_f1 for value in values])),
        )
        for name, values in own.items()
    }


def _seeds_in_words(seeds: Sequence[int]) -> str:
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))
