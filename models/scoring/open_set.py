"""How well `unknown` tells an activity that a model was never taught: each one is left out of training in turn.

    training people    walking sitting lying ...      without the one left out
    held-out people    known windows | windows of the activity left out    told apart by how unsure the model is

The score is 1 - the largest probability: that is what serving goes by (a bout starts when the largest smoothed
probability reaches `enter`). Beside it stand scores that a model may be given: the same with refusal by distance inside
the graph, and the distance alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.fitting.epoch import Epoch
from models.fitting.training import fit, logits, predict, training_sittings, training_windows
from models.nets.networks import Network
from models.nets.refusal import features_of, fit_refusal
from models.recipes import Recipe
from models.windows.data import LabelledWindows, group_folds, labelled_windows
from streamer.errors import ConfigError

Float32 = NDArray[np.float32]
#: Scores of windows by a fitted network, larger for what looks less known.
Scores = Callable[[Network, LabelledWindows, LabelledWindows, Float32, Sequence[str]], Mapping[str, Float32]]

SERVED: Final = "served"
_FOLDS: Final = 5


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """One activity that was left out, by one seed.

    Attributes:
        activity, seed: what and when.
        known, unknown: held-out windows of the activities that were taught, and of the one that was not.
        auroc: of the score that serving goes by: how often a window of the activity left out is less sure than one of
            another, ties counting half.
        scores: AUROC of each score that was compared.
        taken_for: the activity that its windows were most often taken for.
    """

    activity: str
    seed: int
    known: int
    unknown: int
    auroc: float
    scores: dict[str, float]
    taken_for: str


class OpenSet(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a recipe over all activities left out.

    Attributes:
        recipe, protocol, epochs: what was fitted, and how.
        activities: one per activity and seed.
        auroc: mean over activities and seeds.
        worst: the activity with the lowest mean over seeds.
        scores: mean AUROC of each score.
    """

    recipe: str
    protocol: str
    epochs: int
    activities: tuple[LeftOut, ...]
    auroc: float
    worst: str
    scores: dict[str, float]

    def json(self) -> bytes:
        """One JSON document."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    def rows(self) -> list[tuple[str, ...]]:
        """The table's cells by activity: windows, AUROC of each score, what it was taken for."""
        rows = [
            (
                one.activity,
                str(one.seed),
                str(one.unknown),
                *(f"{one.scores[name]:.3f}" for name in self.scores),
                one.taken_for,
            )
            for one in self.activities
        ]
        return [*rows, ("mean", "", "", *(f"{value:.3f}" for value in self.scores.values()), "")]

    def head(self) -> tuple[str, ...]:
        """The table's head."""
        return ("left out", "seed", "windows", *self.scores, "taken for")

    def text(self) -> str:
        """A table for people."""
        table = [self.head(), *self.rows()]
        widths = [max(len(row[column]) for row in table) + 2 for column in range(len(table[0]))]
        lines = [f"{self.recipe}: {self.protocol}, {self.epochs} epochs; AUROC of telling the activity left out"]
        lines += [
            "".join(f"{cell:<{width}s}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join(lines)

    def markdown(self) -> str:
        """A section of a model card."""
        lines = [
            f"### Activities never taught: {self.protocol}",
            "",
            (
                f"`har-models leave-out {self.recipe}`: AUROC of telling windows of the "
                "activity left out from the others'; `served` is 1 - the largest probability."
            ),
            "",
            f"| {' | '.join(self.head())} |",
            "|" + "---|" * len(self.head()),
            *(f"| {' | '.join(row)} |" for row in self.rows()),
        ]
        return "\n".join(lines)


def served_scores(
    network: Network,
    train: LabelledWindows,
    held_out: LabelledWindows,
    samples: Float32,
    channels: Sequence[str],
) -> dict[str, Float32]:
    """1 - the largest probability as recipes' bundles are served, the same with refusal by distance, and that alone.

    Args:
        network: fitted on `train`.
        train: windows of known activities.
        held_out: likewise, of people that the network did not see; refusal is calibrated on them.
        samples: windows to score.
        channels: of the windows.
    """
    refusal = fit_refusal(network, train, held_out, channels)
    largest = predict(network, samples).max(axis=1)
    features = features_of(network, samples)
    return {
        SERVED: 1.0 - largest,
        "with refusal": 1.0 - largest * refusal.factors(features, samples),
        "distance": refusal.distances(features, samples),
    }


def leave_out_activities(
    recipe: Recipe,
    *,
    seeds: int = 1,
    folds: int = _FOLDS,
    scores: Scores = served_scores,
    say: Callable[[str], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> OpenSet:
    """Fit a recipe without each of its activities and see how well `unknown` tells them.

    Of the training groups dealt into `folds`, the first is scored, the second calibrates refusal, the others train.

    Args:
        recipe: what to fit.
        seeds: repeats, each with groups dealt anew.
        folds: 3 or more.
        scores: scores of windows; `SERVED` among them.
        say: takes lines of progress.
        on_epoch: takes the epochs of each fit.

    Raises:
        ConfigError: too few or too many folds, or fewer than three activities.
        RecordingError: the data set is missing or not in its published form.
    """
    if folds < 3 or len(recipe.labels) < 3:
        raise ConfigError(
            f"{folds} folds and {len(recipe.labels)} activities; expected 3 of each at least, to leave one out"
        )
    # It is windows alone that are asked, of one activity each.
    recipe = replace(recipe, passages=(), chained=False)
    sittings = training_sittings(recipe)
    say(f"{recipe.name}: {len(sittings)} recordings; making windows")
    plain = labelled_windows(sittings, recipe.spec, recipe.labels)
    found: list[LeftOut] = []
    for seed in range(seeds):
        pool = training_windows(recipe, sittings, seed=seed)
        test, calibration, *_ = group_folds(plain.groups, folds, seed=seed)
        train = pool.of_groups(set(pool.groups.tolist()) - test - calibration)
        for target, activity in enumerate(recipe.labels):
            held_out = plain.of_groups(test)
            if not (held_out.targets == target).any():
                say(f"seed {seed}: nobody held out does {activity}")
                continue
            taught = without_label(train, target)
            say(f"seed {seed}: without {activity}, {len(taught)} training windows")
            labels = tuple(label for label in recipe.labels if label != activity)
            network, _ = fit(replace(recipe, labels=labels), taught, seed=seed, on_epoch=on_epoch)
            others = without_label(plain.of_groups(calibration), target)
            by_name = scores(network, taught, others, held_out.samples, recipe.spec.channels)
            is_left_out = held_out.targets == target
            rates = {name: auroc(values[~is_left_out], values[is_left_out]) for name, values in by_name.items()}
            answers = logits(network, held_out.samples[is_left_out]).argmax(axis=1)
            found.append(
                LeftOut(
                    activity=activity,
                    seed=seed,
                    known=int((~is_left_out).sum()),
                    unknown=int(is_left_out.sum()),
                    auroc=rates[SERVED],
                    scores=rates,
                    taken_for=labels[int(np.bincount(answers).argmax())],
                )
            )
    by_activity = {one.activity: [o.auroc for o in found if o.activity == one.activity] for one in found}
    return OpenSet(
        recipe=recipe.name,
        protocol=f"each activity left out, scored on a {_part(folds)} of the training groups"
        + (f", seeds 0 to {seeds - 1}" if seeds > 1 else ""),
        epochs=recipe.schedule.epochs,
        activities=tuple(found),
        auroc=float(np.mean([one.auroc for one in found])),
        worst=min(by_activity, key=lambda activity: float(np.mean(by_activity[activity]))),
        scores={name: float(np.mean([one.scores[name] for one in found])) for name in found[0].scores},
    )


def without_label(windows: LabelledWindows, target: int) -> LabelledWindows:
    """The windows of the other labels, their targets counted as if the label had never been."""
    rest = windows[windows.targets != target]
    return LabelledWindows(rest.samples, rest.targets - (rest.targets > target), rest.groups, rest.start_ns)


def auroc(known: NDArray[np.floating], unknown: NDArray[np.floating]) -> float:
    """Probability that an unknown one scores higher than a known one, ties counting half.

    Source: Hanley and McNeil, The meaning and use of the area under a ROC curve, 1982.

    >>> auroc(np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.9]))
    0.75
    """
    ordered = np.sort(known)
    below = np.searchsorted(ordered, unknown, side="left")
    up_to = np.searchsorted(ordered, unknown, side="right")
    return float((below + up_to).mean() / (2 * len(ordered)))


def _part(folds: int) -> str:
    return {3: "third", 4: "quarter", 5: "fifth", 6: "sixth"}.get(folds, f"{folds}th part")
