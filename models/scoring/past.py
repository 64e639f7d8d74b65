"""Windows with their past: what a chain makes of a window by the windows of its recording before it.

    windows       0   1   2   3   4   5   6        of one recording and one phase of the hop, in time order
    scored            #           #   #            each by the windows up to it, and by no later one
    blocks        [a     ][b         ][c   ]       cut between activities on the feet, and within standing

A recording follows a script that a chain might have learned from others who followed it, too. So there is a control:
the same windows with the blocks of each recording in random order. Blocks begin and end on the feet, so that any may
follow any; what holds a body together, such as lying behind stand_to_lie, stays within its block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from models.fitting.chain import forward, on_the_feet
from models.scoring.evaluation import Figures, pooled, score
from models.windows.data import LabelledWindows, Sitting, joined, window_targets, windows_of_sittings
from streamer.chain import Chain
from streamer.errors import ConfigError
from streamer.imu import ImuBatch
from streamer.preprocessing.pipeline import Windows, windows_of
from streamer.preprocessing.spec import UCI_HAR, PreprocessingSpec
from streamer.recording import ActivitySpan

Int64 = NDArray[np.int64]
Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: What official windows are recognised by: angular rates at some samples, which no unit was changed of, rad/s.
_SAMPLES: Final = (0, 40, 80, 127)
_RATES: Final = slice(3, 6)
#: The published text is rounded to seven digits; another window is further off than this.
_TOLERANCE: Final = 1e-4
#: Samples from one window to the next where all are cut from what a few hold.
_STEP: Final = 8
#: Data that others decide by on the wrist, ns.
_BRIEF_NS: Final = 10_000_000_000
#: Of the random order.
_SEED: Final = 0


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """Windows of one recording at one phase of the hop, in their order, without a gap.

    Attributes:
        probabilities: (m, outputs) float32.
        rows: (m,) int64, which of the windows scored each is, -1 for none.
        blocks: (m,) int64, which block each lies in.
    """

    probabilities: NDArray[np.float32]
    rows: Int64
    blocks: Int64


class PastFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of windows that are answered by the windows before them, too.

    Attributes:
        in_order: as recorded.
        shuffled: with the blocks of each recording in random order; None where they were recorded one activity at a
            time, and have been put in random order as it is.
        ten_seconds: of the windows that end ten seconds of one activity at least, each by the windows of these ten
            seconds alone; None where recordings go from one activity to the next.
    """

    in_order: Figures
    shuffled: Figures | None = None
    ten_seconds: Figures | None = None

    @staticmethod
    def pooled(parts: Sequence[PastFigures]) -> PastFigures:
        """Of several sets of windows together, as `evaluation.pooled`."""
        shuffled = [part.shuffled for part in parts if part.shuffled is not None]
        ten_seconds = [part.ten_seconds for part in parts if part.ten_seconds is not None]
        return PastFigures(
            in_order=pooled([part.in_order for part in parts]),
            shuffled=pooled(shuffled) if len(shuffled) == len(parts) else None,
            ten_seconds=pooled(ten_seconds) if len(ten_seconds) == len(parts) else None,
        )


class WithoutGyro(msgspec.Struct, frozen=True, kw_only=True):
    """The same windows as a watch without a gyroscope has them, alone and with their past."""

    alone: Figures
    with_past: PastFigures | None = None

    @staticmethod
    def pooled(parts: Sequence[WithoutGyro]) -> WithoutGyro:
        """Of several sets of windows together, as `evaluation.pooled`."""
        pasts = [part.with_past for part in parts if part.with_past is not None]
        return WithoutGyro(
            alone=pooled([part.alone for part in parts]),
            with_past=PastFigures.pooled(pasts) if len(pasts) == len(parts) else None,
        )


def ways(
    alone: Figures, past: PastFigures | None, without_gyro: WithoutGyro | None = None
) -> list[tuple[str, Figures]]:
    """Each way in which the same windows were answered, in words: alone, and whatever else there is."""
    found: list[tuple[str, Figures | None]] = [("windows alone", alone)]
    if past is not None:
        found += [
            ("with their past", past.in_order),
            ("with their past, blocks in random order", past.shuffled),
            ("of ten seconds alone", past.ten_seconds),
        ]
    if without_gyro is not None:
        lacking = ways(without_gyro.alone, without_gyro.with_past)
        found += [(f"no gyroscope, {name}", figures) for name, figures in lacking]
    return [(name, figures) for name, figures in found if figures is not None]


def lacking_gyro(predict: Predict, spec: PreprocessingSpec) -> Predict | None:
    """What is said of windows without their angular rates; None where a feed cannot lack them."""
    if "gyro" not in spec.optional_sensors:
        return None
    gyro = [channel.startswith("gyro") for channel in spec.channels]
    return lambda windows: predict(np.where(gyro, np.float32(0), windows))


def past_figures(
    pasts: Sequence[Past], truth: LabelledWindows, labels: Sequence[str], chain: Chain, *, shuffled: bool = True
) -> PastFigures:
    """Figures of the scored windows, each by its filtered probabilities of the labels."""
    return PastFigures(
        in_order=score(with_past(pasts, chain, len(truth)), truth, labels),
        shuffled=score(with_past(pasts, chain, len(truth), seed=_SEED), truth, labels) if shuffled else None,
    )


def with_past(pasts: Sequence[Past], chain: Chain, n: int, *, seed: int | None = None) -> NDArray[np.float32]:
    """(n, labels and passages) float32, filtered, of the n windows that are scored.

    Args:
        pasts: each of the n windows once.
        chain: what to filter by.
        n: how many are scored.
        seed: of the order of the blocks; None for that of the recordings.
    """
    rng = None if seed is None else np.random.default_rng(seed)
    orders = [np.arange(len(past.rows)) if rng is None else _shuffled(past.blocks, rng) for past in pasts]
    found = np.full((n, chain.states - 1), np.nan, np.float32)
    filtered = forward([past.probabilities[order] for past, order in zip(pasts, orders, strict=True)], chain)
    for past, order, own in zip(pasts, orders, filtered, strict=True):
        rows = past.rows[order]
        found[rows[rows >= 0]] = own[rows >= 0, :-1]
    if np.isnan(found).any():
        raise ValueError("some of the windows are in no recording; expected each in one")
    return found


def own_pasts(
    sittings: Iterable[Sitting], spec: PreprocessingSpec, labels: Sequence[str], predict: Predict
) -> tuple[list[Past], LabelledWindows]:
    """All windows of recordings, and of these the labelled ones, to be scored, as `labelled_windows` gives them."""
    pasts: list[Past] = []
    parts: list[LabelledWindows] = []
    first = 0
    for sitting, windows in windows_of_sittings(sittings, spec):
        spans = sitting.recording.spans
        targets = window_targets(windows.start_ns, spec, spans, labels)
        labelled = targets >= 0
        rows = np.where(labelled, first + np.cumsum(labelled) - 1, -1)
        first += int(labelled.sum())
        if len(windows):
            pasts += _whole(windows, predict(windows.samples), rows, spec, spans)
        parts.append(_labelled(sitting, windows, targets, np.flatnonzero(labelled)))
    return pasts, joined(parts)


def ten_second_pasts(
    sittings: Iterable[Sitting], spec: PreprocessingSpec, labels: Sequence[str], predict: Predict
) -> tuple[list[Past], LabelledWindows]:
    """Windows that end ten seconds of one activity at least, to be scored, each with those of these ten seconds alone.

    Others score windows of ten seconds; these see as much and no more.
    """
    count = 1 + int(_BRIEF_NS - spec.window_ns) // (spec.hop_len * spec.period_ns)
    pasts: list[Past] = []
    parts: list[LabelledWindows] = []
    scored = 0
    for sitting, windows in windows_of_sittings(sittings, spec):
        if len(windows) < count:
            continue
        targets = window_targets(windows.start_ns, spec, sitting.recording.spans, labels)
        same = sliding_window_view(targets, count)
        spent_ns = windows.start_ns[count - 1 :] - windows.start_ns[: len(windows) - count + 1]
        is_one = (same == same[:, :1]).all(axis=1) & (spent_ns == (count - 1) * spec.hop_len * spec.period_ns)
        last = np.flatnonzero(is_one & (same[:, 0] >= 0)) + count - 1
        probabilities = predict(windows.samples)
        numbers, blocks = np.full(count, -1), np.zeros(count, np.int64)
        for row in last.tolist():
            numbers = numbers.copy()
            numbers[-1] = scored
            pasts.append(Past(probabilities[row - count + 1 : row + 1], numbers, blocks))
            scored += 1
        parts.append(_labelled(sitting, windows, targets, last))
    return pasts, joined(parts)


def _labelled(sitting: Sitting, windows: Windows, targets: Int64, rows: Int64) -> LabelledWindows:
    groups = np.full(len(rows), sitting.group)
    return LabelledWindows(windows.samples[rows], targets[rows], groups, windows.start_ns[rows])


def official_pasts(
    sittings: Iterable[Sitting], truth: LabelledWindows, predict: Predict, *, hop_len: int = UCI_HAR.hop_len
) -> list[Past]:
    """Windows of HAPT's recordings on the phases of the published windows, which are found there by their values.

    Args:
        sittings: HAPT's; those of the people of `truth` are needed.
        truth: published windows, to be scored.
        predict: probabilities of windows.
        hop_len: samples from each window to the one before it.

    Raises:
        ConfigError: a published window is in none of the recordings.
    """
    own = predict(truth.samples)
    pasts: list[Past] = []
    people = np.unique(truth.groups).tolist()
    by_person = {person: [s for s in sittings if s.group == person] for person in people}
    for person, met in by_person.items():
        dense = [dense_windows(sitting.recording.streams) for sitting in met]
        rows = np.flatnonzero(truth.groups == person)
        recording, start = _located(truth.samples[rows], [samples for samples, _ in dense], person)
        for number, (sitting, (samples, start_ns)) in enumerate(zip(met, dense, strict=True)):
            here = recording == number
            for phase in np.unique(start[here] % hop_len).tolist():
                mine = here & (start % hop_len == phase)
                chosen = np.arange(phase, start[mine].max() + 1, hop_len)
                numbers = np.full(len(chosen), -1)
                numbers[start[mine] // hop_len] = rows[mine]
                probabilities = predict(samples[chosen])
                # What is scored is the published window itself, to its last digit.
                probabilities[numbers >= 0] = own[numbers[numbers >= 0]]
                centres = start_ns[chosen] + UCI_HAR.window_ns // 2
                pasts.append(Past(probabilities, numbers, blocks_at(centres, sitting.recording.spans)))
    return pasts


def dense_windows(streams: Sequence[ImuBatch]) -> tuple[NDArray[np.float32], Int64]:
    """Windows of UCI HAR's chain from every sample of a recording on but for its last few, and their starts, ns.

    Windows are cut from one filtered series, so that a few of them hold it all: nobody waits for the streaming code to
    cut each one.

    Raises:
        ValueError: there is a gap.
    """
    few = windows_of(streams, msgspec.structs.replace(UCI_HAR, hop_len=_STEP))
    if (np.diff(few.start_ns) != _STEP * UCI_HAR.period_ns).any():
        raise ValueError("a recording of HAPT has a gap; expected none")
    series = np.concatenate([*few.samples[:-1, :_STEP], few.samples[-1]])
    samples = sliding_window_view(series, UCI_HAR.window_len, axis=0).transpose(0, 2, 1)
    return samples, few.start_ns[0] + np.arange(len(samples)) * UCI_HAR.period_ns


def blocks_at(t_ns: Int64, spans: Sequence[ActivitySpan]) -> Int64:
    """(n,) number of the block that each time lies in."""
    return np.searchsorted(np.array(list(_cuts(spans)), np.int64), t_ns, side="right").astype(np.int64)


def _cuts(spans: Sequence[ActivitySpan]) -> Iterator[int]:
    """Times between one activity on the feet and another, and in the middle of standing between two passages."""
    feet = set(on_the_feet([span.activity for span in spans]))
    upright = [number in feet for number in range(len(spans))]
    for i, (one, other) in enumerate(pairwise(spans)):
        before = i > 0 and not upright[i - 1]
        if one.activity == "standing" and before and not upright[i + 1]:
            yield (one.start_ns + one.end_ns) // 2
        elif upright[i + 1] and (upright[i] or (other.activity != "standing" and one.activity.endswith("_to_stand"))):
            yield (one.end_ns + other.start_ns) // 2


def _shuffled(blocks: Int64, rng: np.random.Generator) -> Int64:
    present = np.unique(blocks)
    return np.concatenate([np.flatnonzero(blocks == block) for block in rng.permutation(present)])


def _whole(
    windows: Windows,
    probabilities: NDArray[np.float32],
    rows: Int64,
    spec: PreprocessingSpec,
    spans: Sequence[ActivitySpan],
) -> Iterator[Past]:
    """The windows in stretches without a gap: behind one a live filter starts afresh."""
    blocks = blocks_at(windows.start_ns + spec.window_ns // 2, spans)
    gaps = np.flatnonzero(np.diff(windows.start_ns) != spec.hop_len * spec.period_ns) + 1
    for own in np.split(np.arange(len(rows)), gaps):
        yield Past(probabilities[own], rows[own], blocks[own])


def _located(wanted: NDArray[np.float32], dense: Sequence[NDArray[np.float32]], person: str) -> tuple[Int64, Int64]:
    """(k,) recording and (k,) first sample of published windows."""
    if not dense:
        raise ConfigError(f"data set hapt has no recording of subject {person}; expected those of all of uci-har")
    trees = [cKDTree(_values(samples)) for samples in dense]
    found = [tree.query(_values(wanted)) for tree in trees]
    distances = np.stack([distance for distance, _ in found])
    recording = distances.argmin(axis=0)
    if distances.min(axis=0).max() > _TOLERANCE:
        raise ConfigError(
            f"published windows of subject {person} are in none of hapt's recordings; expected all of them"
        )
    starts = np.stack([start for _, start in found])
    return recording, starts[recording, np.arange(len(wanted))].astype(np.int64)


def _values(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return samples[:, _SAMPLES, _RATES].reshape(len(samples), -1)
