"""Fitting a recipe without some groups and scoring it on them: the runs of a cross-validation.

    groups   [ held out: scored once ][ training                                                ]
    first    [                       ][ temperature ][ fit                                      ]   as a bundle is
    second   [ scored                ][ fit                                                     ]   calibrated and made

The first fit serves only to learn the temperature on training groups that it does not see, as `har-models train` does;
what is scored is the second, with that temperature. Nothing of what is held out decides anything.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np

from models.bundling import make_bundle
from models.fitting.calibration import CALIBRATION_FOLDS, Calibration, Made, calibrate, predictor
from models.fitting.epoch import Epoch
from models.fitting.smoothing import spliced
from models.fitting.training import (
    fit,
    fit_temperature,
    logits,
    make_network,
    predict,
    training_sittings,
    training_windows,
)
from models.nets.networks import Network
from models.nets.worn import COST_OF_DOUBT
from models.recipes import Recipe
from models.scoring.crossvalidation import CrossValidation, Run, Settings, put_together
from models.scoring.evaluation import score
from models.scoring.past import (
    PastFigures,
    Predict,
    WithoutGyro,
    lacking_gyro,
    official_pasts,
    own_pasts,
    past_figures,
    ten_second_pasts,
    with_past,
)
from models.scoring.streaming import StreamingAssessment, stream, streaming_figures
from models.windows.data import (
    LabelledWindows,
    Sitting,
    group_folds,
    joined,
    labelled_windows,
    official_windows,
    recordings_of,
    sittings_of,
)
from streamer.chain import Chain
from streamer.errors import ConfigError

#: Share of windows in the published random split of the Fitbit data that are for training.
LEAKY_SHARE = 0.7
#: Of the networks by which a chain and its temperature are fitted.
_CALIBRATION_SEED: Final = 0

Say = Callable[[str], None]
OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        settings: of every run.
        seeds: of weights, order, augmentation, and of how groups are dealt into folds.
        only_folds: of each seed; None for all.
    """

    settings: Settings
    seeds: tuple[int, ...]
    only_folds: tuple[int, ...] | None = None

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Seeds and folds that belong to the whole."""
        return [(seed, fold) for seed in self.seeds for fold in range(max(self.settings.folds, 1))]

    @property
    def chosen(self) -> list[tuple[int, int]]:
        """Of these, what to run now."""
        return [one for one in self.runs if self.only_folds is None or one[1] in self.only_folds]


def plan(
    recipe: Recipe,
    *,
    folds: int | None = None,
    seeds: Sequence[int] = (0,),
    only_folds: Sequence[int] | None = None,
    all_subjects: bool = False,
    calibrated: bool = True,
    calibration_folds: int | None = None,
) -> Plan:
    """What to run of a recipe.

    Args:
        recipe: what to score.
        folds: by group of the training part; 0 fits on the whole training part and reads the official test split.
            None: 0 where there is an official split, else the recipe's number; 5 for all subjects of an official split.
        seeds: repeats.
        only_folds: of each seed; None for all.
        all_subjects: deal the subjects of an official split's two parts into folds together, and score on its windows.
        calibrated: fit the temperature, where the recipe wants one.
        calibration_folds: of the other folds, on how many a recipe's temperature and chain are fitted; None for all.

    Raises:
        ConfigError: what is asked for does not go together.
    """
    if all_subjects and not recipe.official_split:
        raise ConfigError(f"recipe {recipe.name} has no official test split; its folds go over all subjects as it is")
    if folds is None:
        folds = 5 if all_subjects else 0 if recipe.official_split else recipe.folds
    if folds == 0 and (all_subjects or not recipe.official_split):
        why = "all subjects are to be dealt" if all_subjects else "has no official test split"
        raise ConfigError(f"recipe {recipe.name}: {why}; expected 2 folds or more")
    beyond = [fold for fold in only_folds or () if not 0 <= fold < max(folds, 1)]
    if beyond:
        raise ConfigError(f"fold is {beyond[0]}; expected 0 to {max(folds, 1) - 1}")
    fits_chain = recipe.chained and calibrated
    if calibration_folds is not None and not (fits_chain and 1 < calibration_folds < folds - 1):
        expected = f"2 to {folds - 2}, and a recipe that fits a chain"
        raise ConfigError(f"recipe {recipe.name}: --calibration-folds is {calibration_folds}; expected {expected}")
    settings = Settings(
        recipe=recipe.name,
        recipe_digest=recipe_digest(recipe),
        folds=folds,
        official_split=recipe.official_split,
        all_subjects=all_subjects,
        calibrated=calibrated and recipe.calibrated,
        calibration_folds=calibration_folds,
    )
    return Plan(settings, tuple(sorted(set(seeds))), None if not only_folds else tuple(sorted(set(only_folds))))


def recipe_digest(recipe: Recipe) -> str:
    """8 hex digits of what decides a fit; words and what is scored afterwards are not of it."""
    decides = replace(recipe, summary="", limits=(), evaluate_on=(), stream_on=(), folds=0, version="")
    text = repr(decides)
    if recipe.passages or recipe.chained or recipe.unworn_s:
        text += repr((recipe.passages, recipe.chained, recipe.kin, recipe.unworn_s))
    if recipe.cost_of_doubt != COST_OF_DOUBT:
        text += repr(recipe.cost_of_doubt)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def crossvalidate(
    recipe: Recipe,
    wanted: Plan,
    *,
    sittings: Sequence[Sitting] | None = None,
    earlier: Iterable[CrossValidation] = (),
    say: Say = lambda _: None,
    on_epoch: OnEpoch = lambda _: None,
    on_run: Callable[[CrossValidation], None] = lambda _: None,
) -> CrossValidation:
    """Fit and score a recipe for every fold and seed that is wanted and not there yet.

    Args:
        recipe: what to score.
        wanted: what to run.
        sittings: recordings to deal into folds; None for the recipe's own.
        earlier: documents of the same settings, whose runs are not repeated.
        say: takes lines of progress.
        on_epoch: takes the epochs of each fit.
        on_run: takes the document after every run.

    Raises:
        ConfigError: more folds than groups, or nothing is run.
        RecordingError: the data set is missing or not in its published form.
    """
    earlier = list(earlier)
    done = {(run.seed, run.fold): run for document in earlier for run in document.runs}
    planned = {*wanted.runs, *done, *(one for document in earlier for one in document.planned)}
    leaky = next((one.leaky_random_split for one in earlier if one.leaky_random_split is not None), None)

    def document() -> CrossValidation:
        return put_together(
            wanted.settings,
            done.values(),
            planned,
            who=_who(recipe, wanted),
            epochs=recipe.schedule.epochs,
            leaky=leaky,
        )

    todo = [one for one in wanted.chosen if one not in done]
    if todo:
        bench = _Bench(recipe, wanted.settings, sittings, say)
        began = time.monotonic()
        for number, (seed, fold) in enumerate(todo):
            say(f"seed {seed} fold {fold}, run {number + 1} of {len(todo)}{_left(began, number, len(todo))}")
            done[seed, fold] = bench.run(seed, fold, on_epoch)
            on_run(document())
    elif wanted.chosen:
        say(f"{recipe.name}: all {len(wanted.chosen)} runs are there already")
    if recipe.dataset == "fitbit" and leaky is None and wanted.only_folds is None:
        leaky = _leaky(recipe, say, on_epoch)
        on_run(document())
    return document()


class _Bench:
    """Makes the windows of a recipe's recordings, those of one seed at a time, and runs fits on them."""

    def __init__(self, recipe: Recipe, settings: Settings, sittings: Sequence[Sitting] | None, say: Say) -> None:
        self._recipe, self._settings, self._say = recipe, settings, say
        if sittings is None:
            sittings = sittings_of(recipe.dataset) if settings.all_subjects else training_sittings(recipe)
        self._sittings = sittings
        say(f"{recipe.name}: {len(self._sittings)} recordings; making windows")
        self._plain = labelled_windows(self._sittings, recipe.spec, recipe.labels)
        self._scored = self._plain
        if settings.all_subjects:
            parts = [official_windows(split, recipe.labels) for split in ("train", "test")]
            self._scored = joined(parts)
        self._pool: tuple[int, LabelledWindows] | None = None
        self._calibrations: dict[frozenset[str], Calibration] = {}
        self._calibrating: Made = {}

    def run(self, seed: int, fold: int, on_epoch: OnEpoch) -> Run:
        """One fold of one seed."""
        recipe, folds = self._recipe, self._settings.folds
        everybody = {sitting.group for sitting in self._sittings}
        dealt = group_folds(self._plain.groups.tolist(), folds, seed=seed) if folds else []
        held = dealt[fold] if folds else frozenset[str]()
        temperature, calibrated_on, chain, calibration = 1.0, frozenset[str](), None, None
        if self._settings.calibrated and recipe.chained:
            others = [dealt[other] for other in _others(fold, folds, self._settings.calibration_folds)]
            calibration = self._calibration(frozenset(everybody - held), others, on_epoch)
            temperature, calibrated_on = calibration.temperature, frozenset(calibration.groups)
            chain = calibration.smoothing.chain
        elif self._settings.calibrated:
            temperature, calibrated_on = self._temperature(
                self._pool_of(seed).of_groups(everybody - held), seed, on_epoch
            )
        # Behind the calibration, which may have made room for its own.
        train = self._pool_of(seed).of_groups(everybody - held)
        # What is not for development, the official test subjects, is read once, after the last epoch.
        watched = bool(held) and not self._settings.all_subjects
        scored = self._scored.of_groups(held) if held else official_windows("test", recipe.labels)
        self._say(f"  {len(train)} training windows, {len(scored)} held out")
        kept = [sitting for sitting in self._sittings if sitting.group not in held]
        network, _ = make_network(recipe, kept, train, scored if watched else None, seed=seed, on_epoch=on_epoch)
        figures = score(predict(network, scored.samples, temperature), scored, recipe.labels)
        plain = score(predict(network, scored.samples), scored, recipe.labels)
        calibrated = self._settings.calibrated
        told = predictor(network, temperature)
        lacking = lacking_gyro(told, recipe.spec)
        return Run(
            seed=seed,
            fold=fold,
            groups=tuple(figures.per_group),
            n=figures.n,
            accuracy=figures.accuracy,
            macro_f1=figures.macro_f1,
            group_macro_f1=figures.group_macro_f1,
            log_loss=figures.log_loss,
            ece=figures.ece,
            temperature=temperature if calibrated else None,
            calibrated_on=tuple(sorted(calibrated_on)),
            uncalibrated_log_loss=plain.log_loss if calibrated else None,
            uncalibrated_ece=plain.ece if calibrated else None,
            figures=figures,
            with_past=None if chain is None else self._past(told, scored, chain),
            without_gyro=None
            if lacking is None
            else WithoutGyro(
                alone=score(lacking(scored.samples), scored, recipe.labels),
                with_past=None if chain is None else self._past(lacking, scored, chain),
            ),
            streamed=None if calibration is None else self._streamed(network, calibration, set(figures.per_group)),
        )

    def _calibration(self, groups: frozenset[str], others: Sequence[frozenset[str]], on_epoch: OnEpoch) -> Calibration:
        """Fitted as a bundle's is: on all training groups, each by a network that sees the others only.

        By networks of one seed, whatever the run's: a chain and a temperature are of the recipe and its people, and
        five fits for each of five seeds would cost hours. Where groups are dealt into folds, each of the other folds is
        held out in turn, so that a network that has seen neither of two folds calibrates for both.
        """
        if groups not in self._calibrations:
            sittings = [sitting for sitting in self._sittings if sitting.group in groups]
            self._say("  fitting without each part of the training groups, for the temperature and the chain")
            found = calibrate(
                self._recipe,
                sittings,
                seed=_CALIBRATION_SEED,
                folds=others if len(others) > 1 else (),
                windows=self._pool_of(_CALIBRATION_SEED).of_groups(groups),
                made=self._calibrating,
                on_epoch=on_epoch,
            )
            self._calibrations[groups] = found
        return self._calibrations[groups]

    def _streamed(self, network: Network, calibration: Calibration, people: Collection[str]) -> StreamingAssessment:
        """Of recordings of these people; of those of one activity at a time, joined in random order."""
        met = self._of(people)
        if self._recipe.dataset != "hapt":
            met = spliced(met, seed=0)
        with TemporaryDirectory() as folder:
            bundle = make_bundle(self._recipe, network, calibration, Path(folder) / "held-out", seed=_CALIBRATION_SEED)
        streamed = [stream(bundle, sitting.recording) for sitting in met]
        found = streaming_figures(bundle, self._recipe.dataset, streamed)
        return msgspec.structs.replace(
            found, seen_in_training=False, protocol=f"{len(met)} recordings of who was held out, through the recognizer"
        )

    def _of(self, people: Collection[str]) -> list[Sitting]:
        # Official test subjects are in no fold.
        sittings = self._sittings if self._settings.folds else sittings_of(self._recipe.dataset)
        return [sitting for sitting in sittings if sitting.group in people]

    def _past(self, predict: Predict, scored: LabelledWindows, chain: Chain) -> PastFigures:
        """Of what is scored; of data sets of one activity at a time, of their recordings joined in random order."""
        recipe, met = self._recipe, self._of(set(scored.groups.tolist()))
        if self._settings.all_subjects or not self._settings.folds:
            pasts = official_pasts(met, scored, predict, hop_len=recipe.spec.hop_len)
            return past_figures(pasts, scored, recipe.labels, chain)
        of = (recipe.spec, recipe.labels, predict)
        if recipe.dataset == "hapt":
            return past_figures(*own_pasts(met, *of), recipe.labels, chain)
        # Of one activity at a time: put in random order as if somebody had gone from one to the next.
        found = past_figures(*own_pasts(spliced(met, seed=0), *of), recipe.labels, chain, shuffled=False)
        pasts, truth = ten_second_pasts(met, *of)
        of_ten = score(with_past(pasts, chain, len(truth)), truth, recipe.labels)
        return msgspec.structs.replace(found, ten_seconds=of_ten)

    def _pool_of(self, seed: int) -> LabelledWindows:
        if self._pool is None or self._pool[0] != seed:
            # The last seed's windows first make room.
            self._pool = None
            self._pool = (seed, training_windows(self._recipe, self._sittings, seed=seed))
        return self._pool[1]

    def _temperature(self, train: LabelledWindows, seed: int, on_epoch: OnEpoch) -> tuple[float, frozenset[str]]:
        """Fitted as a bundle's is: on a fifth of the training groups, by a network that sees the others only."""
        groups = set(train.groups.tolist())
        if len(groups) < 2:
            raise ConfigError("one training group only; expected two or more to fit a temperature, or --no-calibrate")
        held = group_folds(groups, min(CALIBRATION_FOLDS, len(groups)), seed=seed)[0]
        own = self._plain.of_groups(held)
        self._say(f"  fitting without {len(held)} training groups, for the temperature")
        network, _ = fit(self._recipe, train.of_groups(groups - held), own, seed=seed, on_epoch=on_epoch)
        return fit_temperature(logits(network, own.samples), own.targets), held


def _others(fold: int, folds: int, most: int | None) -> list[int]:
    """The other folds, at most so many: the nearest on a ring, so that one network without two folds serves both."""
    others = [other for other in range(folds) if other != fold]
    return sorted(sorted(others, key=lambda other: min((other - fold) % folds, (fold - other) % folds))[:most])


def _who(recipe: Recipe, wanted: Plan) -> str:
    if recipe.dataset == "fitbit":
        return "blocks of time"
    if wanted.settings.all_subjects:
        return "subjects, all of both official parts"
    return "training subjects" if recipe.official_split else "subjects"


def _left(began: float, done: int, of: int) -> str:
    if not done:
        return ""
    left_s = (time.monotonic() - began) / done * (of - done)
    return f", about {left_s / 60:.0f} min left for all" if left_s >= 120 else f", about {left_s:.0f} s left for all"


def _leaky(recipe: Recipe, say: Say, on_epoch: OnEpoch) -> dict[str, float]:
    """The published random protocol: windows of the whole recordings, dealt at random."""
    sittings = [Sitting("1", recording) for recording in recordings_of(recipe.dataset)]
    windows = labelled_windows(sittings, recipe.spec, recipe.labels, hop_len=recipe.spec.hop_len // 4)
    order = np.random.default_rng(0).permutation(len(windows))
    cut = int(LEAKY_SHARE * len(windows))
    train, test = windows[order[:cut]], windows[order[cut:]]
    say(f"random split, which leaks: {len(train)} training windows, {len(test)} test windows")
    # As many steps as the recipe takes otherwise.
    epochs = round(recipe.schedule.epochs * recipe.schedule.windows_per_epoch / cut)
    recipe = replace(recipe, schedule=replace(recipe.schedule, epochs=epochs))
    network, _ = fit(recipe, train, seed=0, on_epoch=on_epoch)
    figures = score(predict(network, test.samples), test, recipe.labels)
    return {"accuracy": figures.accuracy, "macro_f1": figures.macro_f1}
