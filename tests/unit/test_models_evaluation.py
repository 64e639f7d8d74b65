"""Figures agree with scikit-learn's, and smoothing is fitted to what it is for."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support

from models.fitting.smoothing import Course, fit_smoothing, gain, track, worth
from models.scoring.evaluation import calibration_error, score
from models.windows.data import LabelledWindows
from streamer.bundle import Smoothing

LABELS = ("walking", "running", "sitting")


def windows(targets: list[int], groups: list[str]) -> LabelledWindows:
    n = len(targets)
    return LabelledWindows(np.zeros((n, 4, 3), np.float32), np.array(targets), np.array(groups), np.zeros(n, np.int64))


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = windows(rng.integers(0, 3, 300).tolist(), [str(i % 4) for i in range(300)])
    probabilities = rng.dirichlet([1, 1, 1], 300).astype(np.float32)
    answers = probabilities.argmax(axis=1)
    found = score(probabilities, truth, LABELS)
    exact = probabilities.astype(np.float64)
    expected_loss = log_loss(truth.targets, exact / exact.sum(axis=1, keepdims=True))
    precision, recall, f1, support = precision_recall_fscore_support(truth.targets, answers)
    assert found.n == 300
    assert found.accuracy == pytest.approx((answers == truth.targets).mean())
    assert found.macro_f1 == pytest.approx(f1.mean())
    assert [c.precision for c in found.per_class.values()] == pytest.approx(precision.tolist())
    assert [c.recall for c in found.per_class.values()] == pytest.approx(recall.tolist())
    assert [c.support for c in found.per_class.values()] == support.tolist()
    assert found.log_loss == pytest.approx(expected_loss, rel=1e-5)
    own = truth.groups == "2"
    expected = f1_score(truth.targets[own], answers[own], average="macro")
    assert found.per_group["2"].macro_f1 == pytest.approx(expected)


def test_macro_f1_leaves_out_activities_that_do_not_occur() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], np.float32)
    assert score(probabilities, windows([0, 1], ["a", "a"]), LABELS).macro_f1 == 1.0


def test_calibration_error_of_a_model_that_is_always_sure_and_right_half_the_time_is_a_half() -> None:
    probabilities = np.tile(np.array([[1.0, 0.0]], np.float32), (10, 1))
    assert calibration_error(probabilities, np.array([0, 1] * 5)) == pytest.approx(0.5)


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(ValueError, match="n > 0"):
        score(np.empty((0, 3), np.float32), windows([], []), LABELS)


def flickering() -> Course:
    """Two long bouts; every fifth window is given to the other activity, not quite surely."""
    truth = np.repeat([0, 1], 60)
    answers = truth.copy()
    answers[::5] = 1 - answers[::5]
    probabilities = np.full((120, 2), 0.3, np.float32)
    probabilities[np.arange(120), answers] = 0.7
    return Course(probabilities, np.arange(120) * 1_000_000_000, truth, 2)


def test_fitted_smoothing_removes_flicker_that_no_smoothing_tells() -> None:
    none = Smoothing(weight=1.0, enter=0.0, leave=0.0, dwell=1)
    fitted = fit_smoothing([flickering()], 2)
    assert gain([flickering()], fitted, 2) > 0.9 > gain([flickering()], none, 2)
    changes = np.flatnonzero(np.diff(track([flickering()], fitted, 2)[0]))
    assert len(changes[changes > 2]) == 1


#: Of four activities the first two are a group, and the first three the group around it.
GROUPS = ((0, 1, 2), (0, 1))


def torn() -> list[Course]:
    """A long bout each of two activities, of which the model takes now one, now the other for likelier."""
    probabilities = np.tile(np.array([[0.5, 0.46, 0.02, 0.02], [0.46, 0.5, 0.02, 0.02]], np.float32), (30, 1))
    return [Course(probabilities, np.arange(60) * 1_000_000_000, np.full(60, label), 1) for label in (0, 1)]


def test_a_group_is_worth_less_than_the_activity_and_more_the_fewer_are_in_it() -> None:
    values = worth(4, GROUPS)
    # Columns: four activities, the wide group, the narrow one, unknown, nothing yet.
    assert values[0].tolist() == pytest.approx([1, -0.5, -0.5, -0.5, 1 - np.log(3) / np.log(4), 0.5, 0, 0])
    assert values[2].tolist() == pytest.approx([-0.5, -0.5, 1, -0.5, 1 - np.log(3) / np.log(4), -0.5, 0, 0])
    # A wrong group costs what a wrong activity does.
    assert values[3].tolist() == [-0.5, -0.5, -0.5, 1, -0.5, -0.5, 0, 0]


def test_groups_are_told_where_the_model_is_torn_and_not_where_there_are_none() -> None:
    fitted = fit_smoothing(torn(), 4, GROUPS)
    assert fitted.group_enter is not None
    assert track(torn(), fitted, 4, GROUPS)[0].tolist() == [5] * 60
    assert gain(torn(), fitted, 4, GROUPS) == pytest.approx(0.5)
    assert fit_smoothing(torn(), 4).group_enter is None
    # Between two bouts a group costs no more than unknown would, and tells more.
    wavering = Course(np.eye(4)[[0] * 9 + [2] * 9], np.arange(18) * 1_000_000_000, np.repeat([0, 2], 9), 2)
    wavering.probabilities[8:10] = (0.4, 0.0, 0.5, 0.1)
    one = Smoothing(weight=1.0, enter=0.6, leave=0.45, dwell=1)
    grouped = msgspec.structs.replace(one, group_enter=0.8)
    assert [4 in track([wavering], s, 4, GROUPS)[0] for s in (one, grouped)] == [False, True]
    assert gain([wavering], grouped, 4, GROUPS) == pytest.approx(
        gain([wavering], one, 4, GROUPS) + 2 * worth(4, GROUPS)[0, 4] / 18
    )
    # Nothing is gained by them where one activity is sure.
    assert fit_smoothing([flickering()], 2, ()).group_enter is None
