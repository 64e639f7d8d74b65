"""What is fitted on people whom a network did not see: its temperature, and how its windows become bouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.fitting.chain import fit_chain, fit_chained
from models.fitting.epoch import Epoch
from models.fitting.smoothing import DEFAULT, courses_of, fit_smoothing, spliced
from models.fitting.training import fit_temperature, logits, make_network, predict, training_windows
from models.nets.networks import Network
from models.recipes import Recipe
from models.windows.data import LabelledWindows, Sitting, group_folds, labelled_windows
from streamer.activities import groups_of
from streamer.bundle import Smoothing

#: Folds by group of which the first is held out to calibrate on, or each in turn for a chain.
CALIBRATION_FOLDS: Final = 5
#: Phases of the hop at which a chain meets each recording.
_CHAIN_PHASES: Final = 4


#: Networks and their histories, by the groups that they learned from.
Made = dict[frozenset[str], tuple[Network, list[Epoch]]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is fitted on groups that the network did not see.

    Attributes:
        temperature: divides the logits.
        smoothing: of probabilities over time.
        groups: who was held out.
        history: of the network fitted without them.
    """

    temperature: float
    smoothing: Smoothing
    groups: tuple[str, ...]
    history: tuple[Epoch, ...]


def calibrate(
    recipe: Recipe,
    sittings: Sequence[Sitting],
    *,
    seed: int,
    folds: Sequence[frozenset[str]] = (),
    windows: LabelledWindows | None = None,
    made: Made | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Calibration:
    """Fit on four fifths of the groups; temperature and smoothing on the last fifth, where the recipe wants them.

    For a chain each fifth is held out in turn, and what is fitted is fitted on what is said of all of them.

    Args:
        recipe: what to fit.
        sittings: recordings to learn from.
        seed: of weights, order, augmentation and of who is held out.
        folds: the groups in parts, each of which is held out in turn; none to deal them into fifths.
        windows: training windows of the sittings; None to make them.
        made: networks of this recipe and seed that are not made again; takes those that are made.
        on_epoch: takes the epochs of each fit.
    """
    made = {} if made is None else made
    groups = [sitting.group for sitting in sittings]
    folds = folds or group_folds(groups, min(CALIBRATION_FOLDS, len(set(groups))), seed=seed)
    fits = [
        _held_out_fit(recipe, sittings, held, seed=seed, windows=windows, made=made, on_epoch=on_epoch)
        for held in (folds if recipe.chained else folds[:1])
    ]
    everybody = tuple(sorted(group for one in fits for group in one.held))
    history = tuple(fits[0].history)
    if not recipe.calibrated:
        return Calibration(1.0, DEFAULT, everybody, history)
    told = np.concatenate([logits(one.network, one.truth.samples) for one in fits])
    temperature = fit_temperature(told, np.concatenate([one.truth.targets for one in fits]))
    natural = recipe.dataset == "hapt"
    courses = [
        course
        for one in fits
        for course in courses_of(
            # HAPT's people went from one activity to the next; the others' recordings are joined as if they had.
            one.sittings if natural else spliced(one.sittings, seed=seed),
            recipe.spec,
            recipe.labels,
            predictor(one.network, temperature),
            recipe.passages,
            most_phases=_CHAIN_PHASES if recipe.chained else 1,
        )
    ]
    told_groups = tuple(groups_of(recipe.labels, {}).values())
    if not recipe.chained:
        return Calibration(temperature, fit_smoothing(courses, len(recipe.labels), told_groups), everybody, history)
    hop_s = None if natural else recipe.spec.hop_len / recipe.spec.rate_hz
    chain = fit_chain(courses, recipe.labels, kin=recipe.kin, hop_s=hop_s)
    return Calibration(temperature, fit_chained(courses, len(recipe.labels), chain, told_groups), everybody, history)


@dataclass(frozen=True, slots=True, eq=False)
class _HeldOut:
    """A network, and who it did not see: their recordings, and windows whose probabilities are to be right."""

    network: Network
    history: list[Epoch]
    held: frozenset[str]
    sittings: list[Sitting]
    truth: LabelledWindows


def _held_out_fit(
    recipe: Recipe,
    sittings: Sequence[Sitting],
    held: frozenset[str],
    *,
    seed: int,
    windows: LabelledWindows | None,
    made: Made,
    on_epoch: Callable[[Epoch], None],
) -> _HeldOut:
    kept = [sitting for sitting in sittings if sitting.group not in held]
    held_out = [sitting for sitting in sittings if sitting.group in held]
    plain = labelled_windows(held_out, recipe.spec, recipe.labels)
    learned_from = frozenset(sitting.group for sitting in kept)
    if learned_from not in made:
        train = training_windows(recipe, kept, seed=seed) if windows is None else windows.of_groups(learned_from)
        made[learned_from] = make_network(recipe, kept, train, plain, seed=seed, on_epoch=on_epoch)
    network, history = made[learned_from]
    truth = plain
    if recipe.passages:
        truth = labelled_windows(held_out, recipe.spec, recipe.labels, passages=recipe.passages)
    return _HeldOut(network, history, held, held_out, truth)


def predictor(network: Network, temperature: float) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Probabilities of windows, by torch."""
    return lambda windows: predict(network, windows, temperature)
