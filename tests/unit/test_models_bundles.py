"""The shipped bundles are small, whole, and do what their cards say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from models.assessment import evaluate_bundle
from models.card import TERMS
from models.recipes import RECIPES
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
    assert bundle.spec.sensors == ("acc",)
    assert bundle.manifest.min_feed_rate_hz <= 10
    assert bundle.spec.window_ns <= 5_120_000_000


def test_card_repeats_the_terms_of_the_data(bundle: ModelBundle, folder: Path) -> None:
    assert TERMS[RECIPES[bundle.manifest.name].dataset] in (folder / "CARD.md").read_text(encoding="utf-8")
    assert bundle.digest in (folder / "CARD.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("uci-har-cnn", "uci-har"), ("uci-har-lstm", "uci-har"), ("fitbit-cnn", "fitbit"), ("wisdm-watch-cnn", "fitbit")],
)
def test_evaluation_gives_the_cards_figures(name: str, dataset: str, data_dir: Path) -> None:
    assert data_dir
    card = (BUNDLES[name] / "CARD.md").read_text(encoding="utf-8")
    section = card.split(f"### This bundle on {dataset}:")[1].split("###")[0]
    row = re.search(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \|", section, re.MULTILINE)
    assert row is not None
    figures = evaluate_bundle(load_bundle(BUNDLES[name]), dataset).figures
    assert (str(figures.n), f"{figures.accuracy:.4f}", f"{figures.macro_f1:.4f}") == row.groups()
    assert len(figures.confusion) == len(figures.labels) == len(figures.per_class)
    assert sum(map(sum, figures.confusion)) == figures.n
