"""Figures of merit from probabilities and true labels. numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.data import LabelledWindows


class LabelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One activity: of what was called it, of what was it, their harmonic mean, and how many windows were it."""

    precision: float
    recall: float
    f1: float
    support: int


class GroupFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One subject (or block): its windows, accuracy, and macro-F1 over the activities that it did."""

    n: int
    accuracy: float
    macro_f1: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How well probabilities meet labels.

    Attributes:
        n: windows.
        accuracy: share whose most probable activity is the true one.
        macro_f1: mean F1 over the activities that occur.
        group_macro_f1: mean over groups of each group's macro-F1.
        log_loss: mean negative log probability of the true activity, nats.
        ece: expected calibration error over 15 bins of confidence (Guo et al., 2017).
        labels: order of `confusion`.
        per_class: by activity.
        per_group: by subject or block.
        confusion: rows are the truth, columns the answer.
    """

    n: int
    accuracy: float
    macro_f1: float
    group_macro_f1: float
    log_loss: float
    ece: float
    labels: tuple[str, ...]
    per_class: dict[str, LabelFigures]
    per_group: dict[str, GroupFigures]
    confusion: tuple[tuple[int, ...], ...]


def score(probabilities: NDArray[np.float32], truth: LabelledWindows, labels: Sequence[str]) -> Figures:
    """Figures of (n, labels) probabilities against n labelled windows.

    Raises:
        ValueError: nothing to score, or shapes differ.
    """
    targets, n = truth.targets, len(truth)
    if not n or probabilities.shape != (n, len(labels)):
        raise ValueError(f"probabilities are {probabilities.shape}; expected ({n}, {len(labels)}), n > 0")
    answers = probabilities.argmax(axis=1)
    confusion = confusion_of(targets, answers, len(labels))
    precision, recall, f1 = _rates(confusion)
    groups = {}
    for group in np.unique(truth.groups).tolist():
        rows = truth.groups == group
        own = confusion_of(targets[rows], answers[rows], len(labels))
        groups[str(group)] = GroupFigures(
            n=int(rows.sum()), accuracy=float(np.trace(own) / own.sum()), macro_f1=macro_f1(own)
        )
    given = probabilities[np.arange(n), targets].astype(np.float64)
    return Figures(
        n=n,
        accuracy=float(np.trace(confusion) / n),
        macro_f1=macro_f1(confusion),
        group_macro_f1=float(np.mean([group.macro_f1 for group in groups.values()])),
        log_loss=float(-np.log(np.maximum(given, 1e-12)).mean()),
        ece=calibration_error(probabilities, targets),
        labels=tuple(labels),
        per_class={
            label: LabelFigures(
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1=float(f1[i]),
                support=int(confusion[i].sum()),
            )
            for i, label in enumerate(labels)
        },
        per_group=groups,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def confusion_of(targets: NDArray[np.int64], answers: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    """(labels, labels) int64 counts: rows are the truth, columns the answer."""
    return np.bincount(targets * labels + answers, minlength=labels * labels).reshape(labels, labels)


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Mean F1 over the activities that occur in the truth."""
    occurs = confusion.sum(axis=1) > 0
    return float(_rates(confusion)[2][occurs].mean())


def calibration_error(probabilities: NDArray[np.float32], targets: NDArray[np.int64], bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over equal bins of confidence, weighted by their windows."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    distance = np.bincount(place, right - confidence, bins)
    return float(np.abs(distance).sum() / len(targets))


def _rates(confusion: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and F1 per label, 0 where there is nothing to divide by."""
    hit = np.diag(confusion).astype(np.float64)
    called, true = confusion.sum(axis=0), confusion.sum(axis=1)
    return hit / np.maximum(called, 1), hit / np.maximum(true, 1), 2.0 * hit / np.maximum(called + true, 1)
