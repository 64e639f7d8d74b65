"""Refusal by distance: known windows pass, far ones don't, and the graph says what torch says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from models.fitting.training import logits, predict, softmax
from models.nets.export import to_onnx
from models.nets.golden import golden_vectors
from models.nets.networks import CnnConfig, Network, build
from models.nets.refusal import (
    Refusal,
    Refuse,
    calibrated,
    features_of,
    fit_refusal,
    fit_region,
    posture,
    served_windows,
)
from models.nets.refusal_graph import with_refusal
from models.nets.worn import Worn
from models.scoring.open_set import auroc, without_label
from models.windows.data import LabelledWindows, Sitting
from streamer.bundle import save_bundle
from streamer.classifier import Classifier
from streamer.imu import ImuBatch
from streamer.recording import ActivitySpan, Recording
from tests.bundles import POSTURE_SPEC, POSTURES, make_bundle, mean_softmax_onnx
from tests.unit.test_models_export import session

Float32 = NDArray[np.float32]
#: The window of the posture bundle: a second of 20 Hz, three axes of acceleration.
WINDOW_LEN: Final = 20
CHANNELS: Final = ("total_acc_x", "total_acc_y", "total_acc_z")


def windows(
    n: int, *, seed: int, down: Callable[[NDArray[np.int64]], NDArray[np.float64]] | None = None
) -> LabelledWindows:
    """Three activities, told by which axis gravity lies on, each with a swing of its own strength."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, n)
    directions = np.eye(3)[targets] if down is None else down(targets)
    swing = np.sin(2 * np.pi * np.arange(WINDOW_LEN) / WINDOW_LEN + rng.uniform(0, 6, (n, 1)))
    strength = np.array([0.1, 0.5, 2.0])[targets] * rng.uniform(0.8, 1.2, n)
    samples = 9.8 * (directions + 0.05 * rng.standard_normal((n, 3)))[:, None] + (strength[:, None] * swing)[..., None]
    samples += 0.05 * rng.standard_normal(samples.shape)
    return LabelledWindows(samples.astype(np.float32), targets, np.full(n, "a"), np.arange(n))


@pytest.fixture(scope="module")
def network() -> Network:
    """Random features are enough: what matters is where windows lie among them."""
    torch.manual_seed(1)
    built = build(CnnConfig(widths=(8, 12)), channels=3, outputs=3)
    built.scale.fill_(5.0)
    with torch.no_grad():
        for seed in range(5):
            built(torch.from_numpy(windows(64, seed=seed).samples))
    return built.eval()


@pytest.fixture(scope="module")
def refusal(network: Network) -> Refusal:
    return fit_refusal(network, windows(2000, seed=10), windows(2000, seed=11), CHANNELS)


def factors(refusal: Refusal, network: Network, samples: Float32) -> Float32:
    return refusal.factors(features_of(network, samples), samples)


def test_one_known_window_in_a_hundred_is_refused_and_the_others_are_hardly_touched(
    network: Network, refusal: Refusal
) -> None:
    found = factors(refusal, network, windows(10_000, seed=12).samples)
    assert (found < 0.5).mean() == pytest.approx(0.01, abs=0.006)
    assert np.median(found) > 0.98
    assert found.min() >= 0
    assert found.max() <= 1


def test_what_is_far_from_all_that_was_learned_is_refused(network: Network, refusal: Refusal) -> None:
    upside_down = windows(300, seed=13, down=lambda targets: -np.eye(3)[targets])
    between = windows(300, seed=14, down=lambda targets: np.full((len(targets), 3), 3**-0.5))
    shaken = windows(300, seed=15).samples.copy()
    shaken += (20.0 * np.random.default_rng(0).standard_normal(shaken.shape)).astype(np.float32)
    for name, samples in {"upside down": upside_down.samples, "between": between.samples, "shaken": shaken}.items():
        assert (factors(refusal, network, samples) < 0.5).mean() > 0.95, name
    zeros = np.zeros((1, WINDOW_LEN, 3), np.float32)
    assert factors(refusal, network, zeros)[0] < 0.01


def test_an_activity_whose_people_are_alike_is_not_judged_by_one_whose_people_differ() -> None:
    """Both are as wide among those learned from; other people do one of them five times as widely."""
    rng = np.random.default_rng(0)

    def made(n: int, spread: float) -> tuple[Float32, NDArray[np.int64]]:
        targets = rng.integers(0, 2, n)
        x = np.where(targets == 0, 100.0, 0.0)[:, None]
        x = x + np.where(targets == 0, spread, 1.0)[:, None] * rng.normal(size=(n, 2))
        return x.astype(np.float32), targets

    region = calibrated(fit_region(*made(2000, 1.0), clusters=1), *made(2000, 5.0))
    differing, alike = (region.distances(np.full((1, 2), at, np.float32))[0] for at in (108.0, 8.0))
    assert differing < region.threshold < 2 * region.threshold < alike


def test_a_larger_share_lowers_the_threshold() -> None:
    x, targets = posture(windows(2000, seed=16).samples, (0, 1, 2), (0, 1, 2)), windows(2000, seed=16).targets
    region = fit_region(x, targets)
    strict, lenient = (calibrated(region, x, targets, share=share) for share in (0.1, 0.01))
    assert strict.threshold < lenient.threshold
    assert (strict.factors(x) < 0.5).mean() == pytest.approx(0.1, abs=0.01)


def test_the_graph_says_what_torch_says_and_the_same_bits_for_any_batch(network: Network, refusal: Refusal) -> None:
    far = windows(150, seed=18, down=lambda targets: np.eye(3)[targets] * 0.9 + 0.1).samples
    samples = np.concatenate([windows(150, seed=17).samples, far])
    with torch.no_grad():
        x = torch.from_numpy(samples)
        by_torch = Refuse(refusal)(network.features(x), x).numpy()
    by_numpy = factors(refusal, network, samples)
    np.testing.assert_allclose(by_torch, by_numpy, atol=1e-3)
    run = session(with_refusal(to_onnx(network, window_len=WINDOW_LEN), refusal)).run
    whole = run(None, {"windows": samples})[0]
    # Steep factors magnify the last bits of what they are made of.
    np.testing.assert_allclose(whole, softmax(logits(network, samples)) * by_numpy[:, None], atol=1e-3)
    assert by_numpy.min() < 0.1
    assert by_numpy.max() > 0.9
    for size in (1, 2, 3, 7, 32, 100):
        parts = [run(None, {"windows": samples[i : i + size]})[0] for i in range(0, 300, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole, err_msg=f"batches of {size}")


def test_refusal_takes_from_a_model_that_asks_for_a_wearer_as_from_any(refusal: Refusal) -> None:
    torch.manual_seed(2)
    net = build(CnnConfig(widths=(8, 12)), channels=3, outputs=3).eval()
    net.worn = Worn(((0, 1, 2),), (0, 1, 2), window_len=WINDOW_LEN, smooth_len=4, block_len=8)
    samples = windows(50, seed=17).samples
    found = session(with_refusal(to_onnx(net, window_len=WINDOW_LEN), refusal)).run(None, {"windows": samples})[0]
    np.testing.assert_allclose(found, predict(net, samples) * factors(refusal, net, samples)[:, None], atol=1e-3)


def test_a_bundle_with_refusal_has_golden_vectors_and_is_served(
    network: Network, refusal: Refusal, tmp_path: Path
) -> None:
    manifest = make_bundle(tmp_path / "plain").manifest
    model = with_refusal(to_onnx(network, window_len=WINDOW_LEN), refusal)
    golden = golden_vectors(
        manifest,
        model,
        lambda x: softmax(logits(network, x)) * factors(refusal, network, x)[:, None],
        seed=0,
    )
    bundle = save_bundle(tmp_path / "refusing", manifest, model, golden)
    known = windows(100, seed=19).samples
    sums = Classifier(bundle).predict(known).sum(axis=1)
    assert bundle.labels == POSTURES
    assert np.median(sums) > 0.98
    # The golden vectors are of made-up motion, and of nothing that this was taught.
    assert golden.probabilities.sum(axis=1).max() < 0.5


def test_a_model_that_ends_otherwise_is_refused(refusal: Refusal) -> None:
    with pytest.raises(ValueError, match="expected a Gemm and a Softmax"):
        with_refusal(mean_softmax_onnx(POSTURE_SPEC, 3), refusal)


def test_windows_across_a_change_are_known_by_what_fills_most_of_them() -> None:
    """One window covers a second, every half second; between walking and sitting lies what nobody labelled.

    time s     0   1   2   3   4   5   6
    spans      [walking).....[sitting  )    walking up to 1.7, sitting from 3.2
    windows    [...)                        walking
                 [...)                      walking
                   [...)                    walking, of which 0.7 s are
                     [...) [...)            0.2 s or none: not known
                             [...)          sitting, from 3.0 on, of which 0.8 s are
    """
    t_ns = np.arange(120) * 50_000_000
    stream = ImuBatch("w", t_ns, np.tile([0.0, 0.0, 9.8], (120, 1)), None, rate_hz=20.0)
    second = 1_000_000_000
    spans = (ActivitySpan("walking", 0, int(1.7 * second)), ActivitySpan("sitting", int(3.2 * second), 6 * second))
    found = served_windows([Sitting("1", Recording("w", "1", (stream,), spans))], POSTURE_SPEC, ("walking", "sitting"))
    assert (found.start_ns / second).tolist() == [0.0, 0.5, 1.0, 3.0, 3.5, 4.0, 4.5, 5.0]
    assert found.targets.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


def test_auroc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    # Rounded, so that there are ties.
    known, unknown = np.round(rng.normal(size=300), 1), np.round(rng.normal(0.8, 1.0, 200), 1)
    expected = roc_auc_score(np.repeat([0, 1], [300, 200]), np.concatenate([known, unknown]))
    assert auroc(known, unknown) == pytest.approx(expected, abs=1e-12)


def test_leaving_a_label_out_renumbers_the_others() -> None:
    targets = np.array([0, 1, 2, 3, 1])
    windows = LabelledWindows(np.zeros((5, 2, 3), np.float32), targets, np.array(["a"] * 5), np.arange(5))
    rest = without_label(windows, 1)
    assert rest.targets.tolist() == [0, 1, 2]
    assert rest.start_ns.tolist() == [0, 2, 3]
