"""Cross-validation: nobody is on both sides, and what is run in pieces is what is run at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from scipy import stats

from models.bundling import add_crossvalidation
from models.fitting import training
from models.fitting.training import fit
from models.recipes import RECIPES, Recipe, Schedule
from models.reports.sections import crossvalidated
from models.scoring import held_out
from models.scoring.crossvalidation import (
    CrossValidation,
    crossvalidations_in,
    read_crossvalidation,
    runs_of,
    write_crossvalidation,
)
from models.scoring.evaluation import pooled, score
from models.scoring.held_out import Plan, crossvalidate, plan, recipe_digest
from models.scoring.spread import over_seeds, spread_over_groups
from models.windows.data import LabelledWindows, Sitting, labelled_windows
from streamer.bundle import load_bundle, shipped_bundles
from streamer.errors import ConfigError
from tests.unit.test_models_training import TINY, person

BRIEF: Recipe = dataclasses.replace(
    TINY, folds=2, schedule=Schedule(epochs=1, windows_per_epoch=200, batch_size=32, learning_rate=5e-3)
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def people() -> list[Sitting]:
    return [person(seed) for seed in range(4)]


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[frozenset[str]]:
    """Whom each fit learns from, in the order of the fits."""
    found: list[frozenset[str]] = []

    def spied(recipe: Recipe, train: LabelledWindows, *rest: object, **options: object) -> object:
        found.append(frozenset(train.groups.tolist()))
        return fit(recipe, train, *rest, **options)  # type: ignore[arg-type] # handed on as they are

    # A temperature's fits are made there, the others by what makes a bundle's network.
    monkeypatch.setattr(held_out, "fit", spied)
    monkeypatch.setattr(training, "fit", spied)
    return found


@pytest.fixture(scope="module")
def whole(people: list[Sitting]) -> CrossValidation:
    return crossvalidate(BRIEF, plan(BRIEF, seeds=(0, 1)), sittings=people)


def test_nobody_is_scored_calibrated_on_and_learned_from_at_once(
    people: list[Sitting], learned: list[frozenset[str]]
) -> None:
    found = crossvalidate(BRIEF, plan(BRIEF), sittings=people)
    everybody = {sitting.group for sitting in people}
    assert sorted(name for run in found.runs for name in run.groups) == sorted(everybody)
    for run, first, second in zip(found.runs, learned[::2], learned[1::2], strict=True):
        assert second == everybody - set(run.groups)
        assert first == second - set(run.calibrated_on)
        assert set(run.calibrated_on) < second
        assert run.temperature is not None


def test_a_network_that_saw_neither_of_two_folds_calibrates_a_chain_for_both(
    people: list[Sitting], learned: list[frozenset[str]]
) -> None:
    recipe = dataclasses.replace(BRIEF, folds=4, chained=True)
    found = crossvalidate(recipe, plan(recipe), sittings=people)
    everybody = frozenset(sitting.group for sitting in people)
    without_two = {everybody - {one, other} for one, other in combinations(sorted(everybody), 2)}
    assert sorted(map(sorted, learned)) == sorted(
        [*map(sorted, without_two), *(sorted(everybody - {one}) for one in everybody)]
    )
    for run in found.runs:
        assert set(run.calibrated_on) == everybody - set(run.groups)
    # Ten seconds are three windows: nothing less is scored, and other people's figures are pooled.
    assert found.with_past is not None
    assert found.with_past.ten_seconds is not None
    assert found.with_past.ten_seconds.n == found.pooled.n - 2 * 3 * len(people)
    assert found.with_past.ten_seconds.per_group.keys() == everybody


def test_a_chain_may_be_fitted_on_two_of_the_other_folds_in_five_fits_less(
    people: list[Sitting], learned: list[frozenset[str]]
) -> None:
    five = [*people, person(4)]
    recipe = dataclasses.replace(BRIEF, folds=5, chained=True)
    found = crossvalidate(recipe, plan(recipe, calibration_folds=2), sittings=five)
    everybody = frozenset(sitting.group for sitting in five)
    assert len(learned) == len(set(learned)) == 10
    for run in found.runs:
        assert len(run.calibrated_on) == 2
        assert not set(run.calibrated_on) & set(run.groups)
        for one in run.calibrated_on:
            assert everybody - {one, *run.groups} in learned
    assert found.protocol == "5 folds by subjects, each calibrated on 2 of the others"
    with pytest.raises(ConfigError, match="--calibration-folds is 4; expected 2 to 3, and"):
        plan(recipe, calibration_folds=4)
    with pytest.raises(ConfigError, match="and a recipe that fits a chain"):
        plan(BRIEF, calibration_folds=2)


def test_figures_over_seeds_folds_and_people_are_those_of_the_runs(whole: CrossValidation) -> None:
    assert [(run.seed, run.fold) for run in whole.runs] == [(s, f) for s in (0, 1) for f in range(2)]
    assert (whole.missing, whole.protocol) == ([], "2 folds by subjects, seeds 0 to 1")
    assert [own.n for own in whole.by_seed] == [sum(r.n for r in whole.runs if r.seed == s) for s in (0, 1)]
    assert whole.accuracy == pytest.approx(np.mean([own.accuracy for own in whole.by_seed]))
    assert whole.over_seeds["accuracy"].worst == min(own.accuracy for own in whole.by_seed)
    assert whole.over_seeds["log_loss"].worst == max(own.log_loss for own in whole.by_seed)
    assert whole.worst_run.accuracy == min(run.accuracy for run in whole.runs)
    assert whole.per_group.keys() == {str(number) for number in range(4)}
    assert whole.spread["macro_f1"].worst == min(own.macro_f1 for own in whole.per_group.values())
    assert "worst of seeds" in whole.text()
    assert "INCOMPLETE" not in whole.text()


def test_pieces_put_together_are_the_whole_and_nothing_is_run_twice(
    whole: CrossValidation, people: list[Sitting], tmp_path: Path
) -> None:
    path = tmp_path / "figures.json"

    def run(wanted: Plan, earlier: list[CrossValidation]) -> tuple[CrossValidation, list[str]]:
        said: list[str] = []
        found = crossvalidate(
            BRIEF,
            wanted,
            sittings=people,
            earlier=earlier,
            say=said.append,
            on_run=lambda document: write_crossvalidation(path, document),
        )
        return found, [line for line in said if line.startswith("seed ")]

    first, _ = run(plan(BRIEF, seeds=(0, 1), only_folds=(1,)), [])
    assert [(run.seed, run.fold) for run in first.runs] == [(0, 1), (1, 1)]
    assert len(first.missing) == 2
    assert "INCOMPLETE: not run yet: seed 0 fold 0, seed 1 fold 0" in first.text()
    assert read_crossvalidation(path) == first
    wanted = plan(BRIEF, seeds=(0, 1))
    other, _ = run(plan(BRIEF, seeds=(1,)), [])
    found, said = run(wanted, [other, runs_of(path, wanted.settings), first])
    assert [line.partition(",")[0] for line in said] == ["seed 0 fold 0"]
    assert msgspec.to_builtins(found) == msgspec.to_builtins(whole)


def test_runs_of_another_recipe_or_protocol_are_refused(whole: CrossValidation, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_crossvalidation(path, whole)
    longer = dataclasses.replace(BRIEF, schedule=dataclasses.replace(BRIEF.schedule, epochs=2))
    with pytest.raises(ConfigError, match="runs of recipe_digest"):
        runs_of(path, plan(longer).settings)
    with pytest.raises(ConfigError, match="runs of calibrated True; expected False"):
        runs_of(path, plan(BRIEF, calibrated=False).settings)
    write_crossvalidation(path, whole.without_details())
    with pytest.raises(ConfigError, match="without their details"):
        runs_of(path, plan(BRIEF).settings)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="not the JSON of"):
        runs_of(path, plan(BRIEF).settings)
    assert recipe_digest(dataclasses.replace(BRIEF, summary="said otherwise")) == recipe_digest(BRIEF)


def test_what_does_not_go_together_is_refused() -> None:
    official = RECIPES["uci-har-cnn"]
    with pytest.raises(ConfigError, match="no official test split"):
        plan(BRIEF, folds=0)
    with pytest.raises(ConfigError, match="over all subjects as it is"):
        plan(BRIEF, all_subjects=True)
    with pytest.raises(ConfigError, match="expected 2 folds or more"):
        plan(official, folds=0, all_subjects=True)
    with pytest.raises(ConfigError, match="fold is 3; expected 0 to 1"):
        plan(BRIEF, only_folds=(3,))
    assert plan(official).runs == [(0, 0)]
    assert plan(official, all_subjects=True).settings.folds == 5
    assert plan(RECIPES["fitbit-cnn"]).settings.calibrated is False


def test_folds_over_all_subjects_are_scored_on_the_official_windows_of_whom_they_hold_out(
    people: list[Sitting], monkeypatch: pytest.MonkeyPatch
) -> None:
    def official_windows(split: str, labels: Sequence[str]) -> LabelledWindows:
        own = people[:3] if split == "train" else people[3:]
        return labelled_windows(own, BRIEF.spec, labels, hop_len=10)

    monkeypatch.setattr(held_out, "official_windows", official_windows)
    official = dataclasses.replace(BRIEF, official_split=True)
    wanted = plan(official, folds=2, all_subjects=True, calibrated=False)
    found = crossvalidate(official, wanted, sittings=people)
    assert sorted(name for run in found.runs for name in run.groups) == sorted(sitting.group for sitting in people)
    assert found.pooled.n == sum(len(official_windows(split, BRIEF.labels)) for split in ("train", "test"))
    assert found.protocol == "2 folds by subjects, all of both official parts"
    assert [run.temperature for run in found.runs] == [None, None]
    once = crossvalidate(official, plan(official, calibrated=False), sittings=people[:3])
    assert (once.protocol, once.runs[0].groups) == ("official test split", (people[3].group,))


def test_documents_in_shipped_bundles_are_read(tmp_path: Path) -> None:
    held = {name: crossvalidations_in(load_bundle(folder)) for name, folder in shipped_bundles().items()}
    assert all(held.values())
    for documents in held.values():
        for document in documents:
            assert document.text()
            assert document.missing == []
            assert crossvalidated(document).startswith("### Fitted models")
    incomplete = msgspec.structs.replace(held["fitbit-cnn"][0], planned=((0, 0), (9, 9)))
    path = tmp_path / "figures.json"
    write_crossvalidation(path, incomplete)
    with pytest.raises(ConfigError, match="runs are missing"):
        add_crossvalidation(RECIPES["fitbit-cnn"], shipped_bundles()["fitbit-cnn"], [path])


def test_pooled_figures_are_those_of_all_windows_scored_at_once() -> None:
    rng = np.random.default_rng(0)
    n, labels = 400, ("a", "b", "c")
    truth = LabelledWindows(
        np.zeros((n, 1, 1), np.float32), rng.integers(0, 3, n), np.repeat(["x", "y", "z", "w"], 100), np.zeros(n, int)
    )
    probabilities = (rng.dirichlet([1, 1, 1], n) * rng.uniform(0.3, 1.0, (n, 1))).astype(np.float32)
    parts = [
        score(probabilities[rows], truth[rows], labels)
        for rows in (np.arange(0, 200), np.arange(200, 300), np.arange(300, 400))
    ]
    together, once = pooled(parts), score(probabilities, truth, labels)
    assert (together.confusion, together.per_group) == (once.confusion, once.per_group)
    for name in ("accuracy", "macro_f1", "group_macro_f1", "log_loss", "ece", "refused"):
        assert getattr(together, name) == pytest.approx(getattr(once, name)), name
    assert once.refused > 0
    with pytest.raises(ValueError, match="disjoint groups"):
        pooled([parts[0], parts[0]])


def test_spreads_name_the_worst() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat([f"p{i:02}" for i in range(11)], 10)
    answers = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 110)]
    figures = score(
        answers,
        LabelledWindows(np.zeros((110, 1, 1), np.float32), np.arange(110) % 2, groups, np.zeros(110, int)),
        "ab",
    )
    accuracies = sorted((own.accuracy, name) for name, own in figures.per_group.items())
    own = spread_over_groups(figures.per_group)["accuracy"]
    assert (own.worst, own.median, own.p10) == pytest.approx((accuracies[0][0], accuracies[5][0], accuracies[1][0]))
    assert figures.per_group[own.worst_group].accuracy == own.worst
    values = [own.accuracy for own in figures.per_group.values()]
    assert own.interval == pytest.approx(stats.t.interval(0.95, 10, np.mean(values), stats.sem(values)))
    assert spread_over_groups({"alone": figures.per_group["p00"]})["accuracy"].interval is None
    assert over_seeds([0.5, 0.7], best="high").worst == 0.5
    assert over_seeds([0.5, 0.7], best="low").worst == 0.7
