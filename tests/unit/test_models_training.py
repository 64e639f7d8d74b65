"""A small recipe learns in seconds, the same way each time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.bundling import make_bundle
from models.fitting.calibration import Calibration
from models.fitting.smoothing import DEFAULT
from models.fitting.training import fit, fit_temperature, logits, softmax, training_windows
from models.nets.networks import CnnConfig
from models.recipes import RECIPES, Pass, Recipe, Schedule
from models.scoring.evaluation import score
from models.windows.augment import WindowVariety
from models.windows.data import LabelledWindows, Sitting, labelled_windows
from streamer.bundle import load_bundle
from streamer.classifier import Classifier
from streamer.imu import ImuBatch
from streamer.preprocessing.pipeline import windows_of
from streamer.recording import ActivitySpan, Recording

TINY: Recipe = dataclasses.replace(
    RECIPES["wisdm-watch-cnn"],
    name="tiny",
    labels=("walking", "running", "sitting"),
    spec=msgspec.structs.replace(
        RECIPES["wisdm-watch-cnn"].spec,
        channels=("body_acc_x", "body_acc_y", "body_acc_z", "gravity_x", "gravity_y", "gravity_z"),
        optional_sensors=(),
    ),
    network=CnnConfig(widths=(8, 16)),
    passes=(Pass(hop_len=25),),
    schedule=Schedule(epochs=6, windows_per_epoch=400, batch_size=32),
    variety=WindowVariety(rotation_deg=20.0, scale=0.05),
    chained=False,
    unworn_s=0.0,
)
#: Steps per second and swing in m/s²; nobody's.
MOTION = {"walking": (1.8, 3.0), "running": (2.8, 9.0), "sitting": (0.2, 0.1)}


def person(seed: int) -> Sitting:
    """Two minutes of each activity, made up."""
    rng = np.random.default_rng(seed)
    n, period_ns = 2400, 50_000_000
    parts, spans = [], []
    for i, (activity, (cadence_hz, swing)) in enumerate(MOTION.items()):
        phase = 2 * np.pi * cadence_hz * rng.uniform(0.9, 1.1) * np.arange(n) / 20 + rng.uniform(0, 6)
        wave = np.stack([np.sin(phase), np.cos(phase), np.sin(2 * phase)], axis=1)
        parts.append(swing * wave + [0.0, 2.0, 9.6] + 0.3 * rng.normal(size=(n, 3)))
        spans.append(ActivitySpan(activity, i * n * period_ns, (i + 1) * n * period_ns))
    stream = ImuBatch("w", np.arange(3 * n) * period_ns, np.concatenate(parts), None, rate_hz=20.0)
    return Sitting(str(seed), Recording("w", str(seed), (stream,), tuple(spans), 20.0))


@pytest.fixture(scope="module")
def train() -> LabelledWindows:
    return training_windows(TINY, [person(seed) for seed in range(4)], seed=0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_tiny_recipe_recognises_a_person_it_never_saw(train: LabelledWindows) -> None:
    unseen = labelled_windows([person(99)], TINY.spec, TINY.labels)
    network, history = fit(TINY, train, unseen, seed=0)
    figures = score(softmax(logits(network, unseen.samples)), unseen, TINY.labels)
    assert figures.accuracy > 0.9
    assert history[-1].loss < history[0].loss
    assert history[-1].accuracy == pytest.approx(figures.accuracy)


def test_same_seed_gives_the_same_network(train: LabelledWindows) -> None:
    recipe = dataclasses.replace(TINY, schedule=Schedule(epochs=1, windows_per_epoch=128, batch_size=32))
    first, second, other = (logits(fit(recipe, train, seed=seed)[0], train.samples[:20]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_fitted_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(4000, 3)).astype(np.float32) * 2
    targets = np.array([rng.choice(3, p=p / p.sum()) for p in softmax(honest).astype(np.float64)])
    assert fit_temperature(honest * 2.5, targets) == pytest.approx(2.5, rel=0.1)


def test_bundle_of_a_fitted_network_verifies_and_reproduces_its_golden_vectors(
    train: LabelledWindows, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(TINY, schedule=Schedule(epochs=1, windows_per_epoch=128, batch_size=32))
    network, history = fit(recipe, train, seed=0)
    made = make_bundle(recipe, network, Calibration(1.3, DEFAULT, ("3",), tuple(history)), tmp_path, seed=0)
    read = load_bundle(tmp_path)
    assert read.digest == made.digest
    golden = read.golden
    windows = windows_of([ImuBatch("w", golden.t_ns, golden.acc, golden.gyro)], read.spec).samples
    np.testing.assert_array_equal(windows, golden.windows)
    np.testing.assert_array_equal(Classifier(read).predict(windows), golden.probabilities)
