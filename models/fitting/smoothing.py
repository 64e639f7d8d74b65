"""Fitting how probabilities over time become bouts, on people the model has not seen.

A naive filter over overlapping windows can cost accuracy, so it is fitted with the tracker that serves. Whether groups
of activities are told where no activity is sure, and from where on, is fitted together with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.windows.data import Sitting, restrict, states_at, window_states, windows_of_sittings
from streamer.bundle import Smoothing
from streamer.imu import ImuBatch, joined
from streamer.preprocessing.spec import PreprocessingSpec
from streamer.recording import ActivitySpan, Recording
from streamer.tracking import NONE, ActivityTracker

WEIGHTS: Final = (0.25, 0.35, 0.5, 0.7, 1.0)
ENTERS: Final = (0.3, 0.4, 0.5, 0.6, 0.7)
#: Share of `enter` at which a bout is left, and of `group_enter` for a group's.
LEAVES: Final = (0.5, 0.75)
DWELLS: Final = (1, 2, 3)
GROUP_ENTERS: Final = (0.6, 0.7, 0.8, 0.9)
#: A group that is less probable than everything else together is not told on.
LEAST_GROUP_LEAVE: Final = 0.5
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
        probabilities: (m, labels and passages); what a row lacks of 1 is none of these.
        start_ns: (m,) int64.
        truth: (m,) int64, label at the end of each window, -1 where nothing is labelled.
        bouts: true bouts.
        states: (m,) int64, label or passage at `data.STATE_MARGIN_S` before the end of each window, -1 where neither is
            labelled; None where nobody asks.
    """

    probabilities: NDArray[np.floating]
    start_ns: NDArray[np.int64]
    truth: NDArray[np.int64]
    bouts: int
    states: NDArray[np.int64] | None = None


def fit_smoothing(
    courses: Sequence[Course],
    labels: int,
    groups: Sequence[Collection[int]] = (),
    *,
    weights: Sequence[float] = WEIGHTS,
) -> Smoothing:
    """The smoothing of the grids above with the highest `gain`; the first one where several are equal.

    The thresholds are chosen a second time with groups told, for the weight and the dwell that are best without.

    Args:
        courses: of people whom the model has not seen.
        labels: how many activities there are.
        groups: places of the labels of each group that can be told; none of them is told where that is not better.
        weights: of the newest window; of courses that a chain has filtered, 1 alone.
    """

    def found(smoothing: Smoothing) -> float:
        return gain(courses, smoothing, labels, groups)

    plain = max(
        (
            Smoothing(weight=weight, enter=enter, leave=round(enter * share, 3), dwell=dwell)
            for weight, enter, share, dwell in product(weights, ENTERS, LEAVES, DWELLS)
        ),
        key=found,
    )
    grouped = (
        Smoothing(
            weight=plain.weight,
            enter=enter,
            leave=round(enter * share, 3),
            dwell=plain.dwell,
            group_enter=group_enter,
            group_leave=max(round(group_enter * share, 3), LEAST_GROUP_LEAVE),
        )
        for enter, share, group_enter in product(ENTERS, LEAVES, GROUP_ENTERS)
        if groups
    )
    return max((plain, *grouped), key=found)


def gain(courses: Sequence[Course], smoothing: Smoothing, labels: int, groups: Sequence[Collection[int]] = ()) -> float:
    """Mean worth of what is told of each window, less a hop for each bout that nobody lived; see `worth`.

    A group is no such bout, as little as unknown: it is what a model says while it is not sure.
    """
    values = worth(labels, groups)
    total, windows = 0.0, 0
    for course, answers in zip(courses, track(courses, smoothing, labels, groups), strict=True):
        labelled = course.truth >= 0
        changed = (np.diff(answers) != 0) & (answers[1:] < labels) & (answers[1:] != NONE)
        excess = max(int(changed.sum()) + 1 - course.bouts, 0)
        total += float(values[course.truth[labelled], answers[labelled]].sum()) - excess
        windows += int(labelled.sum())
    return total / max(windows, 1)


def worth(labels: int, groups: Sequence[Collection[int]]) -> NDArray[np.float64]:
    """(labels, labels + groups + 2): what it is worth to tell, in place of a label, a label, a group, unknown, NONE.

    The label itself is worth 1, unknown nothing, and a group that it is in the share of a label's information that the
    group gives: 1 - log n / log labels for one of n labels, all taken for equally probable. Another label or group is
    wrong and costs half: at a whole share a model of 18 activities does best to call a third of the time unknown; at
    none it does best to guess always. Half is a judgement.
    """
    found = np.full((labels, labels + len(groups) + 2), -WRONG_COST)
    np.fill_diagonal(found, 1.0)
    for place, group in enumerate(groups, start=labels):
        found[list(group), place] = 1.0 - np.log(len(group)) / np.log(labels)
    found[:, -2:] = 0.0
    return found


def track(
    courses: Sequence[Course], smoothing: Smoothing, labels: int, groups: Sequence[Collection[int]] = ()
) -> list[NDArray[np.int64]]:
    """(m,) int64 activity after each window of each course, numbered as in `Tracked`."""
    passages = courses[0].probabilities.shape[1] - labels if courses else 0
    tracker = ActivityTracker(labels, smoothing, capacity=len(courses), groups=groups, passages=passages)
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
    passages: Sequence[str] = (),
    *,
    most_phases: int = 1,
) -> list[Course]:
    """What a model says over each recording, with the truth beside it; windows across two activities included.

    Args:
        sittings: the recordings.
        spec: what a window is.
        labels: activities by number.
        predict: probabilities of windows.
        passages: numbered behind them.
        most_phases: windows between two that follow one another are a course of their own, up to so many of each
            recording: the same change of activity, met at other moments.
    """
    phases = next(n for n in range(most_phases, 0, -1) if spec.hop_len % n == 0)
    dense = msgspec.structs.replace(spec, hop_len=spec.hop_len // phases)
    courses = []
    for sitting, windows in windows_of_sittings(sittings, dense):
        recording = sitting.recording
        last_ns = windows.start_ns + (spec.window_len - 1) * spec.period_ns
        truth = states_at(last_ns, recording.spans, labels)
        states = window_states(windows.start_ns, spec, recording.spans, (*labels, *passages))
        if not len(windows):
            continue
        probabilities = predict(windows.samples)
        # Behind a gap the phases begin anew.
        begins = np.flatnonzero(np.diff(windows.start_ns, prepend=-1) != dense.hop_len * spec.period_ns)
        number = np.arange(len(windows)) - np.repeat(begins, np.diff(np.append(begins, len(windows))))
        for phase in range(phases):
            own = np.flatnonzero(number % phases == phase)
            if len(own):
                bouts = int((np.diff(truth[own][truth[own] >= 0]) != 0).sum()) + 1
                courses.append(Course(probabilities[own], windows.start_ns[own], truth[own], bouts, states[own]))
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
    streams = tuple(joined(part) for part in parts)
    return replace(recording, streams=streams, spans=tuple(spans))
