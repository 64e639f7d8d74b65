"""The shipped bundles are small, whole, and do what their cards say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from models.bundling import TRIED_FILE, what_was_tried
from models.recipes import RECIPES
from models.reports.card import PROTOCOL_HEADING, TERMS
from models.reports.sections import assessed, crossvalidated, streamed
from models.scoring.assessment import evaluate_bundle
from models.scoring.crossvalidation import crossvalidations_in
from models.scoring.false_activity import evaluate_unworn
from models.scoring.robustness import evaluate_variations
from models.scoring.streaming import evaluate_streaming
from models.windows.variations import VARIATIONS
from simulator.datasets import hapt
from streamer.bundle import ModelBundle, load_bundle, shipped_bundles
from streamer.classifier import GOLDEN_TOLERANCE, Classifier
from streamer.config import DEFAULT_MODEL
from streamer.imu import ImuBatch
from streamer.preprocessing.pipeline import windows_of

BUNDLES = shipped_bundles()
MEGABYTE = 1_000_000


@pytest.fixture(params=BUNDLES, scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    return BUNDLES[request.param]


@pytest.fixture(scope="module")
def bundle(folder: Path) -> ModelBundle:
    return load_bundle(folder)


def test_every_recipe_has_its_bundle_and_the_default_is_among_them() -> None:
    assert set(BUNDLES) == set(RECIPES)
    assert DEFAULT_MODEL in BUNDLES


def test_bundle_is_smaller_than_a_megabyte(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.iterdir()) < MEGABYTE


def test_bundle_is_of_the_recipe_of_its_name(bundle: ModelBundle, folder: Path) -> None:
    recipe = RECIPES[folder.name]
    assert bundle.manifest.name == folder.name
    assert bundle.spec == recipe.spec
    assert bundle.labels == recipe.labels


def test_golden_windows_and_probabilities_are_reproduced(bundle: ModelBundle) -> None:
    golden = bundle.golden
    found = windows_of([ImuBatch("w", golden.t_ns, golden.acc, golden.gyro)], bundle.spec).samples
    # Other releases of SciPy may round the filters' last bit differently.
    np.testing.assert_allclose(found, golden.windows, rtol=0, atol=1e-6)
    np.testing.assert_allclose(Classifier(bundle).predict(found), golden.probabilities, atol=GOLDEN_TOLERANCE)


def test_probabilities_do_not_depend_on_the_batch_bit_for_bit(bundle: ModelBundle) -> None:
    classifier = Classifier(bundle)
    windows = np.repeat(bundle.golden.windows, 6, axis=0)
    whole = classifier.predict(windows)
    for size in (1, 3, 16):
        parts = [classifier.predict(windows[i : i + size]) for i in range(0, len(windows), size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole, err_msg=f"batches of {size}")


def test_default_takes_any_watch() -> None:
    bundle = load_bundle(BUNDLES[DEFAULT_MODEL])
    assert set(bundle.spec.sensors) - set(bundle.spec.optional_sensors) == {"acc"}
    assert bundle.manifest.min_feed_rate_hz <= 10
    assert bundle.spec.window_ns <= 5_120_000_000


def test_card_repeats_the_terms_of_the_data(bundle: ModelBundle, folder: Path) -> None:
    assert TERMS[RECIPES[bundle.manifest.name].dataset] in (folder / "CARD.md").read_text(encoding="utf-8")
    assert bundle.digest in (folder / "CARD.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read_once(data_dir: Path) -> Iterator[None]:
    """The recordings of HAPT are read for the first evaluation that needs them, and kept."""
    assert data_dir
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hapt, "read_recordings", cache(hapt.read_recordings))
        yield


def section_of(card: str, heading: str) -> list[str]:
    """The rows of a section's tables."""
    assert heading in card
    section = re.split(r"^##", card.split(heading)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return [line for line in section.splitlines() if line.startswith("|")]


@pytest.mark.usefixtures("read_once")
@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("uci-har-cnn", "uci-har"),
        ("uci-har-cnn", "hapt"),
        ("uci-har-convlstm", "uci-har"),
        ("uci-har-lstm", "uci-har"),
        ("fitbit-cnn", "fitbit"),
        ("wisdm-watch-cnn", "fitbit"),
    ],
)
def test_evaluation_gives_the_cards_figures(name: str, dataset: str) -> None:
    card = (BUNDLES[name] / "CARD.md").read_text(encoding="utf-8")
    result = evaluate_bundle(load_bundle(BUNDLES[name]), dataset)
    found, stated = assessed(result), section_of(card, f"### This bundle on {dataset}:")
    assert len(stated) > 2
    assert [row for row in stated if row not in found.splitlines()] == []
    if PROTOCOL_HEADING in card:
        assert found in card
    figures = result.figures
    assert len(figures.confusion) == len(figures.labels) == len(figures.per_class)
    assert sum(map(sum, figures.confusion)) == sum(own.n for own in figures.reliability) == figures.n


@pytest.mark.usefixtures("read_once")
@pytest.mark.parametrize(
    ("name", "dataset"),
    [("uci-har-cnn", "hapt"), ("uci-har-convlstm", "hapt"), ("uci-har-lstm", "hapt"), ("wisdm-watch-cnn", "fitbit")],
)
def test_streaming_gives_the_cards_figures(name: str, dataset: str) -> None:
    card = (BUNDLES[name] / "CARD.md").read_text(encoding="utf-8")
    result = evaluate_streaming(load_bundle(BUNDLES[name]), dataset)
    stated = section_of(card, f"### This bundle, streaming, on {dataset}:")
    if PROTOCOL_HEADING in card:
        assert streamed(result) in card
    else:
        # A card from before there were figures of bouts.
        shares = (result.hindsight_accuracy, result.live_accuracy, result.live_unknown)
        counts = (result.bouts, result.segments.true_bouts, f"{result.decision_delay_s:.2f}")
        assert (
            stated[2] == f"| {' | '.join(map(str, (round(result.seconds), *(f'{s:.4f}' for s in shares), *counts)))} |"
        )
    assert result.segments.true_bouts == result.live_segments.true_bouts > 0


@pytest.mark.usefixtures("read_once")
def test_varied_and_unworn_recordings_give_the_cards_figures() -> None:
    """Some of them: a variation's draws do not hang on the others, and all take minutes."""
    card = (BUNDLES["uci-har-cnn"] / "CARD.md").read_text(encoding="utf-8")
    bundle = load_bundle(BUNDLES["uci-har-cnn"])
    chosen = [one for one in VARIATIONS if one.name in {"rate_10", "clock_fast", "no_gyro"}]
    stated = section_of(card, "### Varied recordings of hapt")
    found = evaluate_variations(bundle, "hapt", variations=chosen).markdown().splitlines()[-len(chosen) - 1 :]
    assert [row for row in found if row not in stated] == []
    unworn = evaluate_unworn(bundle, "hapt", kinds=("table", "car")).markdown().splitlines()[-3:]
    assert [row for row in unworn if row not in section_of(card, "### Watches that nobody wears")] == []


def test_card_states_the_cross_validations_that_the_bundle_holds(bundle: ModelBundle, folder: Path) -> None:
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    for document in crossvalidations_in(bundle):
        section = crossvalidated(document)
        assert section.splitlines()[0] in card
        if PROTOCOL_HEADING in card:
            assert section in card
        for run in document.runs:
            assert f"| {run.seed} | {run.fold} | {run.n} | {run.accuracy:.4f} | {run.macro_f1:.4f} |" in card


def test_card_tells_what_was_tried_where_somebody_kept_it(folder: Path) -> None:
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    tried = what_was_tried(RECIPES[folder.name])
    assert (tried is not None) == (folder / TRIED_FILE).exists() == ("## What was tried" in card)
    assert tried is None or tried in card
