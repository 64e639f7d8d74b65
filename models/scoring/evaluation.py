"""Figures of merit from probabilities and true labels. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.windows.data import LabelledWindows

#: Bins of confidence for the calibration error.
BINS: Final = 15


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


class ConfidenceBin(msgspec.Struct, frozen=True, kw_only=True):
    """Windows of like confidence: how many, their mean confidence, and the share of them that is right."""

    n: int
    confidence: float
    accuracy: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How well probabilities meet labels.

    Attributes:
        n: windows.
        accuracy: share whose most probable activity is the true one.
        macro_f1: mean F1 over the activities that occur.
        group_macro_f1: mean over groups of each group's macro-F1.
        log_loss: mean negative log probability of the true activity, nats.
        ece: expected calibration error over 15 bins of confidence (Guo et al., On calibration of modern neural
            networks, ICML 2017).
        labels: order of `confusion`.
        per_class: by activity.
        per_group: by subject or block.
        confusion: rows are the truth, columns the answer.
        reliability: the bins of confidence, from 0 to 1; empty in documents of earlier versions.
        refused: share of windows of which the model says rather "none of these" than any activity. Their most probable
            activity counts as the answer all the same.
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
    reliability: tuple[ConfidenceBin, ...] = ()
    refused: float = 0.0


def score(probabilities: NDArray[np.float32], truth: LabelledWindows, labels: Sequence[str]) -> Figures:
    """Figures of (n, labels) probabilities against n labelled windows.

    Columns behind those of the labels are a model's passages: no answer, and no refusal either.

    Raises:
        ValueError: nothing to score, or shapes differ.
    """
    targets, n = truth.targets, len(truth)
    if not n or len(probabilities) != n or probabilities.shape[1] < len(labels):
        raise ValueError(f"probabilities are {probabilities.shape}; expected ({n}, {len(labels)} or more), n > 0")
    rest = 1.0 - probabilities.sum(axis=1, dtype=np.float64)
    probabilities = probabilities[:, : len(labels)]
    answers = probabilities.argmax(axis=1)
    confusion = confusion_of(targets, answers, len(labels))
    groups = {}
    for group in np.unique(truth.groups).tolist():
        rows = truth.groups == group
        own = confusion_of(targets[rows], answers[rows], len(labels))
        groups[str(group)] = GroupFigures(
            n=int(rows.sum()), accuracy=float(np.trace(own) / own.sum()), macro_f1=macro_f1(own)
        )
    given = probabilities[np.arange(n), targets].astype(np.float64)
    return _figures(
        confusion,
        labels,
        groups,
        reliability(probabilities, targets),
        log_loss=float(-np.log(np.maximum(given, 1e-12)).mean()),
        refused=float((rest > probabilities.max(axis=1)).mean()),
    )


def pooled(parts: Sequence[Figures]) -> Figures:
    """The figures of several sets of windows together, as if they had been scored at once.

    Raises:
        ValueError: a group is in two of them, their labels differ, or bins of confidence are missing.
    """
    labels, n = parts[0].labels, [part.n for part in parts]
    groups: dict[str, GroupFigures] = {}
    for part in parts:
        if part.labels != labels or len(part.reliability) != BINS or not groups.keys().isdisjoint(part.per_group):
            raise ValueError("figures of other labels, of the same groups, or without bins; expected disjoint groups")
        groups |= part.per_group
    bins = []
    for same in zip(*(part.reliability for part in parts), strict=True):
        of = sum(one.n for one in same)
        confidence, accuracy = (sum(one.n * getattr(one, name) for one in same) for name in ("confidence", "accuracy"))
        bins.append(ConfidenceBin(n=of, confidence=confidence / max(of, 1), accuracy=accuracy / max(of, 1)))
    return _figures(
        np.sum([np.array(part.confusion) for part in parts], axis=0),
        labels,
        groups,
        tuple(bins),
        log_loss=float(np.average([part.log_loss for part in parts], weights=n)),
        refused=float(np.average([part.refused for part in parts], weights=n)),
    )


def _figures(
    confusion: NDArray[np.int64],
    labels: Sequence[str],
    groups: dict[str, GroupFigures],
    bins: tuple[ConfidenceBin, ...],
    *,
    log_loss: float,
    refused: float,
) -> Figures:
    n = int(confusion.sum())
    precision, recall, f1 = _rates(confusion)
    return Figures(
        n=n,
        accuracy=float(np.trace(confusion) / n),
        macro_f1=macro_f1(confusion),
        group_macro_f1=float(np.mean([group.macro_f1 for group in groups.values()])),
        log_loss=log_loss,
        ece=expected_calibration_error(bins),
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
        reliability=bins,
        refused=refused,
    )


def confusion_of(targets: NDArray[np.int64], answers: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    """(labels, labels) int64 counts: rows are the truth, columns the answer."""
    return np.bincount(targets * labels + answers, minlength=labels * labels).reshape(labels, labels)


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Mean F1 over the activities that occur in the truth."""
    occurs = confusion.sum(axis=1) > 0
    return float(_rates(confusion)[2][occurs].mean())


def reliability(
    probabilities: NDArray[np.float32], targets: NDArray[np.int64], bins: int = BINS
) -> tuple[ConfidenceBin, ...]:
    """Windows by equal bins of the most probable activity's probability, each open below and closed above."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    n = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, values, bins) / np.maximum(n, 1) for values in (confidence, right))
    return tuple(
        ConfidenceBin(n=of, confidence=sure, accuracy=share)
        for of, sure, share in zip(n.tolist(), *(values.tolist() for values in sums), strict=True)
    )


def calibration_error(probabilities: NDArray[np.float32], targets: NDArray[np.int64], bins: int = BINS) -> float:
    """Mean distance between confidence and accuracy over equal bins of confidence, weighted by their windows."""
    return expected_calibration_error(reliability(probabilities, targets, bins))


def expected_calibration_error(bins: Sequence[ConfidenceBin]) -> float:
    """The same of bins."""
    n = sum(one.n for one in bins)
    return sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / max(n, 1)


def _rates(confusion: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and F1 per label, 0 where there is nothing to divide by."""
    hit = np.diag(confusion).astype(np.float64)
    called, true = confusion.sum(axis=0), confusion.sum(axis=1)
    return hit / np.maximum(called, 1), hit / np.maximum(true, 1), 2.0 * hit / np.maximum(called + true, 1)
