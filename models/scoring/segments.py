"""Told bouts against true ones over a continuous recording, in frames of equal length.

    truth    A A A A . . . B B B B B B . . B B B        . counts neither way: unlabelled, a transition, an activity that
    told     A A A C C C B B B A B B B B B B B B          the bundle does not know

Frames that count neither way are left out of every overlap, union and length, and besides:

* Two true bouts of one activity with nothing but such frames between stay two, and what is told through both is cut
  there: to tell the pause or not is right either way.
* A told bout of which more than half lies in such frames is no bout here unless it meets a true one of its activity, as
  detections in an image's ignored regions are no errors (Dollár et al., Pedestrian detection: an evaluation of the
  state of the art, IEEE TPAMI 34(4), 2012). Its counted frames are still wrong ones.

Sources: matching by overlap and the edit score: Lea et al., Temporal convolutional networks for action segmentation and
detection, CVPR 2017. Insertion, deletion, fragmentation, merge, overfill, underfill: Ward, Lukowicz, Gellersen,
Performance metrics for activity recognition, ACM TIST 2(1), 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

#: Truth of a frame that counts neither way.
IGNORED: Final = -1
#: Intersection over union from which a told bout is a true one; the last is that of the headline.
OVERLAPS: Final = (0.1, 0.25, 0.5)


class LostTime(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of labelled time that are not told rightly, by what they are of the true bout and of the told one.

    Attributes:
        deletion: of true bouts that are not told at all.
        underfill: before the first or after the last telling of a true bout.
        fragmentation: between two tellings of one true bout.
        insertion: of told bouts that meet no true one.
        overfill: of told bouts, before or behind the true ones that they meet.
        merge: between two true bouts that are told as one.
    """

    deletion: float
    underfill: float
    fragmentation: float
    insertion: float
    overfill: float
    merge: float


class SegmentFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How well told bouts meet true ones, over some recordings.

    Attributes:
        true_bouts: labelled stretches of activities that the bundle knows.
        told_bouts: bouts of one of the bundle's activities, the rules above applied.
        bout_f1: 2 x matched / (true + told); matched one to one, of the same activity, by an intersection over union of
            at least a half.
        bout_f1_by_overlap: the same at other overlaps, too.
        inserted: told bouts that meet no true bout of their activity.
        insertions_per_h: the same per hour of labelled time.
        deleted: true bouts that no told bout of their activity meets.
        fragmented: true bouts that are told in more than one piece.
        fragmentation: their share.
        merges: told bouts that meet more than one true bout of their activity.
        edit_score: mean over recordings of 1 - edit distance / the longer one's length, of the two sequences of
            activities.
        lost_time: by kind.
    """

    true_bouts: int
    told_bouts: int
    bout_f1: float
    bout_f1_by_overlap: dict[str, float]
    inserted: int
    insertions_per_h: float
    deleted: int
    fragmented: int
    fragmentation: float
    merges: int
    edit_score: float
    lost_time: LostTime


@dataclass(frozen=True, slots=True)
class Segment:
    """One activity from frame `first` up to, not including, frame `end`."""

    activity: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One recording's counts; `matched` by overlap, `lost` frames by the names of LostTime."""

    frames: int
    true: int
    told: int
    matched: tuple[int, ...]
    inserted: int
    deleted: int
    fragmented: int
    merges: int
    edit_score: float
    lost: dict[str, int]


def compare(truth: Int64, stretches: Int64, answers: Int64, labels: int) -> Comparison:
    """One recording's told bouts against its true ones.

    Args:
        truth: (n,) label of each frame, IGNORED where it counts neither way.
        stretches: (n,) number of the labelled stretch that each frame is of, IGNORED likewise.
        answers: (n,) label told for each frame; `labels` or more for anything that is none: unknown, a group.
        labels: how many there are.
    """
    true = true_segments(truth, stretches)
    runs = _runs(answers, true, labels)
    counted = np.concatenate([[0], np.cumsum(truth != IGNORED)])
    told = [run for run in runs if _is_a_bout(run, truth, counted)]
    common = _common(told, true)
    lengths = np.array([counted[one.end] - counted[one.first] for one in told], np.float64)
    union = lengths[:, None] + np.array([one.end - one.first for one in true], np.float64) - common
    overlap = np.divide(common, union, out=np.zeros_like(union), where=union > 0)
    met = common > 0
    return Comparison(
        frames=int(counted[-1]),
        true=len(true),
        told=len(told),
        matched=tuple(_matched(overlap, least) for least in OVERLAPS),
        inserted=int((met.sum(axis=1) == 0).sum()),
        deleted=int((met.sum(axis=0) == 0).sum()),
        fragmented=int((met.sum(axis=0) > 1).sum()),
        merges=int((met.sum(axis=1) > 1).sum()),
        edit_score=edit_score([one.activity for one in told], [one.activity for one in true]),
        lost=_lost(truth, answers, true, runs, told),
    )


def segment_figures(comparisons: Sequence[Comparison], *, frame_s: float) -> SegmentFigures:
    """The figures of some recordings together.

    Args:
        comparisons: those with labelled time count.
        frame_s: length of a frame.

    Raises:
        ValueError: no recording has labelled time.
    """
    own = [one for one in comparisons if one.frames]
    if not own:
        raise ValueError("no labelled frames; expected some")
    frames, true, told = (sum(getattr(one, name) for one in own) for name in ("frames", "true", "told"))
    inserted, fragmented = sum(one.inserted for one in own), sum(one.fragmented for one in own)
    f1 = {f"{least:g}": 2 * sum(one.matched[i] for one in own) / (true + told) for i, least in enumerate(OVERLAPS)}
    return SegmentFigures(
        true_bouts=true,
        told_bouts=told,
        bout_f1=f1[f"{OVERLAPS[-1]:g}"],
        bout_f1_by_overlap=f1,
        inserted=inserted,
        insertions_per_h=inserted / (frames * frame_s / 3600),
        deleted=sum(one.deleted for one in own),
        fragmented=fragmented,
        fragmentation=fragmented / true,
        merges=sum(one.merges for one in own),
        edit_score=float(np.mean([one.edit_score for one in own])),
        lost_time=LostTime(
            **{name: sum(one.lost[name] for one in own) / frames for name in LostTime.__struct_fields__}
        ),
    )


def true_segments(truth: Int64, stretches: Int64) -> list[Segment]:
    """The labelled stretches."""
    return [Segment(int(truth[first]), first, end) for first, end in _bounds(stretches) if stretches[first] != IGNORED]


def edit_score(told: Sequence[int], true: Sequence[int]) -> float:
    """1 - Levenshtein distance of two sequences / length of the longer one; 1 for two empty ones.

    >>> edit_score([0, 1, 0], [0, 0])
    0.6666666666666667
    """
    if not told and not true:
        return 1.0
    distance = list(range(len(true) + 1))
    for i, one in enumerate(told, start=1):
        before, distance[0] = distance[0], i
        for j, other in enumerate(true, start=1):
            before, distance[j] = distance[j], min(distance[j] + 1, distance[j - 1] + 1, before + (one != other))
    return 1.0 - distance[-1] / max(len(told), len(true))


def _bounds(values: Int64, cuts: Sequence[int] = ()) -> list[tuple[int, int]]:
    """Where values stay equal, half open; cut at `cuts`, too."""
    if not len(values):
        return []
    changes = (np.flatnonzero(np.diff(values)) + 1).tolist()
    return list(pairwise(sorted({0, *changes, *cuts, len(values)})))


def _runs(answers: Int64, true: Sequence[Segment], labels: int) -> list[Segment]:
    """What is told, cut between two true bouts of the same activity."""
    again = [
        after.first for before, after in pairwise(true) if before.activity == after.activity == answers[after.first]
    ]
    return [
        Segment(int(answers[first]), first, end) for first, end in _bounds(answers, again) if answers[first] < labels
    ]


def _is_a_bout(run: Segment, truth: Int64, counted: Int64) -> bool:
    own = int(counted[run.end] - counted[run.first])
    return own > 0 and (2 * own >= run.end - run.first or bool((truth[run.first : run.end] == run.activity).any()))


def _common(told: Sequence[Segment], true: Sequence[Segment]) -> NDArray[np.float64]:
    """(told, true) frames that two bouts of the same activity share."""
    a, b = (
        np.array([(one.activity, one.first, one.end) for one in some], np.float64).reshape(-1, 3)
        for some in (told, true)
    )
    shared = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 1], b[None, :, 1])
    return np.where(a[:, None, 0] == b[None, :, 0], np.maximum(shared, 0.0), 0.0)


def _matched(overlap: NDArray[np.float64], least: float) -> int:
    """How many pairs are matched, the best first; from a half on no bout has two partners to choose from."""
    left, found = overlap.copy(), 0
    while left.size and left.max() >= least:
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        left[row, :] = left[:, column] = -1.0
        found += 1
    return found


def _lost(
    truth: Int64, answers: Int64, true: Sequence[Segment], runs: Sequence[Segment], told: Sequence[Segment]
) -> dict[str, int]:
    """Wrong frames by kind: each is of one kind for the true bout, and of one for the told bout if there is one."""
    lost = dict.fromkeys(LostTime.__struct_fields__, 0)
    for one in true:
        outside, between = _split(answers[one.first : one.end] == one.activity)
        lost["fragmentation"] += between
        lost["underfill" if outside < one.end - one.first else "deletion"] += outside
    bouts = set(told)
    for run in runs:
        counted = truth[run.first : run.end]
        counted = counted[counted != IGNORED]
        outside, between = _split(counted == run.activity)
        lost["merge"] += between
        # What is left over of a bout of time that counts neither way is no insertion.
        lost["insertion" if run in bouts and outside == len(counted) else "overfill"] += outside
    return lost


def _split(right: NDArray[np.bool_]) -> tuple[int, int]:
    """Wrong frames before the first or after the last right one, and between them."""
    places = np.flatnonzero(right)
    if not len(places):
        return len(right), 0
    within = int(places[-1] - places[0]) + 1
    return len(right) - within, within - len(places)
