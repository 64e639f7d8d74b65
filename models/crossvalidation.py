"""Scoring a recipe on groups that each fitted model did not see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.data import LabelledWindows, Sitting, group_folds, joined, labelled_windows, official_windows, recordings_of
from models.epoch import Epoch
from models.evaluation import Figures, score
from models.recipes import Recipe
from models.training import fit, logits, softmax, training_sittings, training_windows
from streamer.errors import ConfigError

#: Share of windows in the published random split of the Fitbit data that are for training.
LEAKY_SHARE = 0.7


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One fitted model: its seed, the groups it was scored on, and how well it did."""

    seed: int
    fold: int
    groups: tuple[str, ...]
    n: int
    accuracy: float
    macro_f1: float
    group_macro_f1: float


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

    def json(self) -> bytes:
        """One JSON document."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    def text(self) -> str:
        """A table for people."""
        lines = [f"{self.recipe}: {self.protocol}, {self.epochs} epochs"]
        lines += [
            f"  seed {run.seed} fold {run.fold}  n {run.n}  accuracy {run.accuracy:.4f}  macro-F1 {run.macro_f1:.4f}  "
            f"per-group macro-F1 {run.group_macro_f1:.4f}"
            for run in self.runs
        ]
        lines.append(
            f"mean  accuracy {self.accuracy:.4f} (std over seeds {self.accuracy_std:.4f})  macro-F1 {self.macro_f1:.4f}"
            f"  per-group macro-F1 {self.group_macro_f1:.4f}"
        )
        if self.leaky_random_split is not None:
            leaky = ", ".join(f"{name} {value:.4f}" for name, value in self.leaky_random_split.items())
            lines.append(f"random 70/30 split of neighbouring windows, which leaks: {leaky}")
        return "\n".join(lines)


def crossvalidate(
    recipe: Recipe,
    *,
    folds: int | None = None,
    seeds: int = 1,
    say: Callable[[str], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> CrossValidation:
    """Fit and score a recipe for every fold and seed.

    Args:
        recipe: what to score.
        folds: by group of the training part; 0 fits on the whole training part and reads the official test split.
            None: 0 where there is an official split, else the recipe's number.
        seeds: repeats, with seeds 0, 1, ...
        say: takes lines of progress.
        on_epoch: takes the epochs of each fit.

    Raises:
        ConfigError: 0 folds without an official split, or more folds than groups.
        RecordingError: the data set is missing or not in its published form.
    """
    if folds is None:
        folds = 0 if recipe.official_split else recipe.folds
    if folds == 0 and not recipe.official_split:
        raise ConfigError(f"recipe {recipe.name} has no official test split; expected 2 folds or more")
    sittings = training_sittings(recipe)
    say(f"{recipe.name}: {len(sittings)} recordings; making windows")
    plain = labelled_windows(sittings, recipe.spec, recipe.labels)
    runs: list[Run] = []
    by_seed: list[Figures] = []
    for seed in range(seeds):
        pool = training_windows(recipe, sittings, seed=seed)
        parts: list[LabelledWindows] = []
        answers: list[NDArray[np.float32]] = []
        for fold, (train, held_out) in enumerate(_splits(recipe, pool, plain, folds, seed)):
            say(f"seed {seed} fold {fold}: {len(train)} training windows, {len(held_out)} held out")
            # The official test split is read once, after the last epoch.
            probabilities = _fitted(recipe, train, held_out, seed=seed, watched=folds > 0, on_epoch=on_epoch)
            figures = score(probabilities, held_out, recipe.labels)
            runs.append(
                Run(
                    seed=seed,
                    fold=fold,
                    groups=tuple(figures.per_group),
                    n=figures.n,
                    accuracy=figures.accuracy,
                    macro_f1=figures.macro_f1,
                    group_macro_f1=figures.group_macro_f1,
                )
            )
            parts.append(held_out)
            answers.append(probabilities)
        by_seed.append(score(np.concatenate(answers), joined(parts), recipe.labels))
    leaky = _leaky(recipe, say, on_epoch) if recipe.dataset == "fitbit" else None
    groups = (
        "blocks of time" if recipe.dataset == "fitbit" else "training subjects" if recipe.official_split else "subjects"
    )
    protocol = "official test split" if folds == 0 else f"{folds} folds by {groups}"
    return CrossValidation(
        recipe=recipe.name,
        protocol=protocol if seeds == 1 else f"{protocol}, seeds 0 to {seeds - 1}",
        epochs=recipe.schedule.epochs,
        runs=tuple(runs),
        accuracy=float(np.mean([f.accuracy for f in by_seed])),
        accuracy_std=float(np.std([f.accuracy for f in by_seed])),
        macro_f1=float(np.mean([f.macro_f1 for f in by_seed])),
        group_macro_f1=float(np.mean([f.group_macro_f1 for f in by_seed])),
        pooled=by_seed[0],
        leaky_random_split=leaky,
    )


def _splits(
    recipe: Recipe, pool: LabelledWindows, plain: LabelledWindows, folds: int, seed: int
) -> Iterator[tuple[LabelledWindows, LabelledWindows]]:
    """Training windows of some groups, and the others' windows as they are served."""
    if folds == 0:
        yield pool, official_windows("test", recipe.labels)
        return
    for held in group_folds(plain.groups, folds, seed=seed):
        yield pool.of_groups(set(pool.groups.tolist()) - held), plain.of_groups(held)


def _fitted(
    recipe: Recipe,
    train: LabelledWindows,
    held_out: LabelledWindows,
    *,
    seed: int,
    watched: bool,
    on_epoch: Callable[[Epoch], None],
) -> NDArray[np.float32]:
    """Probabilities of held-out windows; `watched` scores them after every epoch, too."""
    network, _ = fit(recipe, train, held_out if watched else None, seed=seed, on_epoch=on_epoch)
    return softmax(logits(network, held_out.samples))


def _leaky(recipe: Recipe, say: Callable[[str], None], on_epoch: Callable[[Epoch], None]) -> dict[str, float]:
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
    figures = score(_fitted(recipe, train, test, seed=0, watched=False, on_epoch=on_epoch), test, recipe.labels)
    return {"accuracy": figures.accuracy, "macro_f1": figures.macro_f1}
