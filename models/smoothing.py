"""Fitting how probabilities over time become bouts, on people the model has not seen.

A naive filter over overlapping windows can cost accuracy, so it is fitted with the tracker that serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.data import Sitting, restrict
from streamer.bundle import Smoothing
from streamer.imu import ImuBatch
from streamer.preprocessing.pipeline import windows_of
from streamer.preprocessing.spec import PreprocessingSpec
from streamer.recording import ActivitySpan, Recording
from streamer.tracking import NONE, ActivityTracker

WEIGHTS: Final = (0.25, 0.35, 0.5, 0.7, 1.0)
ENTERS: Final = (0.3, 0.4, 0.5, 0.6, 0.7)
#: Share of `enter` at which a bout is left.
LEAVES: Final = (0.5, 0.75)
DWELLS: Final = (1, 2, 3)
#: What time told wrongly costs, where time told rightly gains 1 and unknown nothing.
WRONG_COST: Final = 0.5
#: Used while nothing was fitted.
DEFAULT: Final = Smoothing(weight=0.5, enter=0.5, leave=0.3, dwell=2)

#: Length of the stretches that labelled blocks are cut into to make a day of changing activities, s.
PIECE_S: Final = (20.0, 90.0)


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """One stream's windows in time order.

    Attributes:
        probabilities: (m, labels) float32.
        start_ns: (m,) int64.
        truth: (m,) int64, label at the end of each window, -1 where nothing is labelled.
        bouts: true bouts.
    """

    probabilities: NDArray[np.float32]
    start_ns: NDArray[np.int64]
    truth: NDArray[np.int64]
    bouts: int


def fit_smoothing(courses: Sequence[Course], labels: int) -> Smoothing:
    """The smoothing of the grid above with the highest `gain`; the first one where several are equal."""
    best, best_gain = DEFAULT, -np.inf
    for weight, enter, share, dwell in product(WEIGHTS, ENTERS, LEAVES, DWELLS):
        smoothing = Smoothing(weight=weight, enter=enter, leave=round(enter * share, 3), dwell=dwell)
        found = gain(courses, smoothing, labels)
        if found > best_gain:
            best, best_gain = smoothing, found
    return best


def gain(courses: Sequence[Course], smoothing: Smoothing, labels: int) -> float:
    """Share of time told rightly, less half the share told wrongly, less a hop for each bout that nobody lived.

    `unknown` counts for nothing. At a whole share a model of 18 activities does best to call a third of the time
    unknown; at none it does best to guess always. Half is a judgement.
    """
    right = wrong = excess = windows = 0
    for course, answers in zip(courses, track(courses, smoothing, labels), strict=True):
        labelled = course.truth >= 0
        told = labelled & (answers >= 0) & (answers != labels)
        right += int((told & (answers == course.truth)).sum())
        wrong += int((told & (answers != course.truth)).sum())
        changed = (np.diff(answers) != 0) & (answers[1:] != labels) & (answers[1:] != NONE)
        excess += max(int(changed.sum()) + 1 - course.bouts, 0)
        windows += int(labelled.sum())
    return (right - WRONG_COST * wrong - excess) / max(windows, 1)


def track(courses: Sequence[Course], smoothing: Smoothing, labels: int) -> list[NDArray[np.int64]]:
    """(m,) int64 activity after each window of each course: a label, `labels` for unknown, NONE before the first."""
    tracker = ActivityTracker(labels, smoothing, capacity=len(courses))
    answers = [np.full(len(course.truth), NONE) for course in courses]
    for step in range(max((len(course.truth) for course in courses), default=0)):
        slots = np.array([i for i, course in enumerate(courses) if step < len(course.truth)])
        probabilities = np.stack([courses[i].probabilities[step] for i in slots])
        starts = np.array([courses[i].start_ns[step] for i in slots])
        tracked = tracker.update(slots, probabilities, starts)
        for i, activity in zip(slots.tolist(), tracked.activity.tolist(), strict=True):
            answers[i][step] = activity
    return answers


def courses_of(
    sittings: Iterable[Sitting],
    spec: PreprocessingSpec,
    labels: Sequence[str],
    predict: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> list[Course]:
    """What a model says over each recording, with the truth beside it; windows across two activities included."""
    courses = []
    for sitting in sittings:
        recording = sitting.recording
        windows = windows_of(recording.streams, spec)
        last_ns = windows.start_ns + (spec.window_len - 1) * spec.period_ns
        truth = np.full(len(windows), -1)
        for span in recording.spans:
            if span.activity in labels:
                truth[(last_ns >= span.start_ns) & (last_ns < span.end_ns)] = labels.index(span.activity)
        if len(windows):
            bouts = int((np.diff(truth[truth >= 0]) != 0).sum()) + 1
            courses.append(Course(predict(windows.samples), windows.start_ns, truth, bouts))
    return courses


def spliced(sittings: Iterable[Sitting], *, seed: int) -> list[Sitting]:
    """Each recording's labelled stretches cut into pieces, shuffled and put back to back without pauses.

    For data sets that were recorded one activity at a time and hold no change from one to another.
    """
    rng = np.random.default_rng(seed)
    return [Sitting(sitting.group, _splice(sitting.recording, rng)) for sitting in sittings]


def _splice(recording: Recording, rng: np.random.Generator) -> Recording:
    cuts: list[tuple[str, int, int]] = []
    for span in recording.spans:
        start = span.start_ns
        while start < span.end_ns:
            end = min(start + int(rng.uniform(*PIECE_S) * 1e9), span.end_ns)
            cuts.append((span.activity, start, end))
            start = end
    cursor = recording.spans[0].start_ns
    spans: list[ActivitySpan] = []
    parts: list[list[ImuBatch]] = [[] for _ in recording.streams]
    for i in rng.permutation(len(cuts)).tolist():
        activity, start, end = cuts[i]
        for part, stream in zip(parts, restrict(recording, start, end).streams, strict=True):
            part.append(replace(stream, t_ns=stream.t_ns + (cursor - start)))
        spans.append(ActivitySpan(activity, cursor, cursor + end - start))
        cursor += end - start
    streams = tuple(_concatenated(part) for part in parts)
    return replace(recording, streams=streams, spans=tuple(spans))


def _concatenated(parts: Sequence[ImuBatch]) -> ImuBatch:
    acc = [part.acc for part in parts if part.acc is not None]
    gyro = [part.gyro for part in parts if part.gyro is not None]
    return ImuBatch(
        parts[0].device_id,
        np.concatenate([part.t_ns for part in parts]),
        np.concatenate(acc) if acc else None,
        np.concatenate(gyro) if gyro else None,
        parts[0].rate_hz,
    )
