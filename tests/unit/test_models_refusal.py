"""Refusal by distance: known windows pass, far ones don't, and the graph says what torch says."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sklearn.metrics import roc_auc_score

from models.data import LabelledWindows
from models.export import _Graph
from models.open_set import auroc, without_label
from models.refusal import Refusal, calibrated, fit_gaussian, fit_prototypes, refusal_nodes

Float32 = NDArray[np.float32]
FEATURES, CLASSES = 24, 4


def features(n: int, *, seed: int, far: float = 0.0) -> tuple[Float32, NDArray[np.int64]]:
    """Four classes with one elongated spread; `far` moves all of them aside."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, CLASSES, n)
    means = 3.0 * np.eye(CLASSES, FEATURES)
    spread = np.geomspace(0.05, 1.0, FEATURES)
    x = means[targets] + spread * rng.standard_normal((n, FEATURES))
    x[:, -1] += far
    return x.astype(np.float32), targets


def fitted(kind: str) -> Refusal:
    x, targets = features(2000, seed=0)
    refusals = {
        "gaussian": lambda: fit_gaussian(x, targets),
        "gaussian of rank 8": lambda: fit_gaussian(x, targets, rank=8),
        "gaussian of unit features": lambda: fit_gaussian(x, targets, unit=True),
        "prototypes": lambda: fit_prototypes(x, targets, rank=8),
    }
    return calibrated(refusals[kind](), features(2000, seed=1)[0])


KINDS: Final = ("gaussian", "gaussian of rank 8", "gaussian of unit features", "prototypes")


def session(refusal: Refusal) -> ort.InferenceSession:
    graph = _Graph()
    factor = refusal_nodes(graph, "features", refusal)
    made = helper.make_graph(
        graph.nodes,
        "refusal",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info(factor, TensorProto.FLOAT, ["batch", 1])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", KINDS)
def test_one_known_window_in_a_hundred_is_refused_and_the_others_are_hardly_touched(kind: str) -> None:
    factors = fitted(kind).factors(features(20_000, seed=2)[0])
    assert (factors < 0.5).mean() == pytest.approx(0.01, abs=0.006)
    assert np.median(factors) > 0.99
    assert factors.min() >= 0
    assert factors.max() <= 1


@pytest.mark.parametrize("kind", ["gaussian", "prototypes"])
def test_what_is_far_from_all_that_was_learned_is_refused(kind: str) -> None:
    refusal = fitted(kind)
    assert refusal.factors(features(500, seed=3, far=12.0)[0]).max() < 0.05
    # Between two classes is far from both.
    between = np.zeros((1, FEATURES), np.float32)
    between[0, :2] = 1.5
    assert fitted("gaussian").factors(between)[0] < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_says_what_torch_says_and_the_same_bits_for_any_batch(kind: str) -> None:
    refusal = fitted(kind)
    x = np.concatenate([features(150, seed=4)[0], features(150, seed=5, far=2.0)[0]])
    run = session(refusal).run
    whole = run(None, {"features": x})[0]
    assert whole.shape == (300, 1)
    np.testing.assert_allclose(whole[:, 0], refusal.factors(x), atol=2e-5)
    for size in (1, 2, 3, 7, 32, 100):
        parts = [run(None, {"features": x[i : i + size]})[0] for i in range(0, 300, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole, err_msg=f"batches of {size}")


def test_a_larger_share_lowers_the_threshold() -> None:
    refusal, known = fitted("gaussian"), features(2000, seed=1)[0]
    stricter = calibrated(refusal, known, share=0.1)
    assert stricter.threshold < refusal.threshold
    assert (stricter.factors(known) < 0.5).mean() == pytest.approx(0.1, abs=0.01)
    assert replace(stricter, threshold=refusal.threshold).threshold == refusal.threshold


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
