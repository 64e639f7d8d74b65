"""Data sets as labelled windows, made by the streaming code (`windows_of_each`) and by nothing else.

A *group* is what must not be on both sides of a split: a person, or a stretch of time where there is one person only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulator.datasets import fitbit, hapt, uci_har, wisdm
from simulator.datasets.location import data_root
from streamer.errors import ConfigError
from streamer.imu import ImuBatch
from streamer.preprocessing.pipeline import Windows, windows_of_each
from streamer.preprocessing.spec import PreprocessingSpec
from streamer.recording import ActivitySpan, Recording

DatasetName = Literal["hapt", "fitbit", "wisdm-watch"]
DATASETS: Final[tuple[DatasetName, ...]] = get_args(DatasetName)

#: Recordings whose windows are cut at once; more would only hold more memory.
_TOGETHER: Final = 64
#: Contiguous blocks that each activity of the one-person Fitbit data is cut into.
FITBIT_BLOCKS: Final = 5
#: Left out between neighbouring blocks: one second, half of it on each side.
GUARD_NS: Final = 1_000_000_000
#: How long before its end a window's state is taken; 25 samples of UCI HAR's 128.
STATE_MARGIN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Sitting:
    """A recording and the group that it belongs to."""

    group: str
    recording: Recording


@dataclass(frozen=True, slots=True, eq=False)
class LabelledWindows:
    """Windows that lie inside one labelled stretch each.

    Attributes:
        samples: (n, window_len, channels) float32, in the spec's units.
        targets: (n,) int64, index into the recipe's labels.
        groups: (n,) str, what must not be split.
        start_ns: (n,) int64, ns, start of each window.
    """

    samples: NDArray[np.float32]
    targets: NDArray[np.int64]
    groups: NDArray[np.str_]
    start_ns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> LabelledWindows:
        """The chosen rows."""
        return LabelledWindows(self.samples[rows], self.targets[rows], self.groups[rows], self.start_ns[rows])

    def of_groups(self, groups: Iterable[str]) -> LabelledWindows:
        """The windows of the named groups, in their order here."""
        return self[np.isin(self.groups, sorted(groups))]


def recordings_of(dataset: DatasetName) -> list[Recording]:
    """The recordings of a data set below HAR_DATA_DIR.

    Raises:
        RecordingError: the data set is missing or not in its published form.
    """
    root = data_root()
    if dataset == "fitbit":
        return fitbit.read_recordings(root)
    return hapt.read_recordings(root) if dataset == "hapt" else wisdm.read_recordings(root)


def sittings_of(dataset: DatasetName) -> list[Sitting]:
    """The recordings of a data set with their groups: subjects, or blocks of time where there is one subject.

    Raises:
        RecordingError: the data set is missing or not in its published form.
    """
    recordings = recordings_of(dataset)
    if dataset == "fitbit":
        return [block for recording in recordings for block in time_blocks(recording, FITBIT_BLOCKS)]
    return [Sitting(recording.subject or recording.device_id, recording) for recording in recordings]


def official_windows(split: uci_har.Split, labels: Sequence[str]) -> LabelledWindows:
    """The published, already filtered windows of UCI HAR: the one bypass of the streaming code.

    Raises:
        RecordingError: the data set is missing or not in its published form.
        ConfigError: `labels` lacks an activity of the data set.
    """
    official = uci_har.read_windows(data_root(), split)
    missing = sorted(set(uci_har.LABELS) - set(labels))
    if missing:
        raise ConfigError(f"labels lack {', '.join(missing)}; expected all of UCI HAR's: {', '.join(uci_har.LABELS)}")
    targets = np.array([labels.index(str(label)) for label in official.labels], np.int64)
    return LabelledWindows(
        official.signals, targets, official.subjects.astype(np.str_), np.zeros(len(targets), np.int64)
    )


def labelled_windows(
    sittings: Iterable[Sitting],
    spec: PreprocessingSpec,
    labels: Sequence[str],
    *,
    hop_len: int | None = None,
    passages: Sequence[str] = (),
) -> LabelledWindows:
    """The windows of each sitting that lie wholly inside a stretch labelled with one of `labels`.

    With passages all windows whose state (`window_states`) is a label or a passage.

    Args:
        sittings: recordings with their groups.
        spec: what a window is.
        labels: activities by target; stretches with other labels give no windows.
        hop_len: samples between windows where it is to differ from the spec's.
        passages: movements between activities, whose targets are behind those of the labels.
    """
    if hop_len is not None:
        spec = msgspec.structs.replace(spec, hop_len=hop_len)
    samples, targets, groups, starts = [], [], [], []
    for sitting, windows in windows_of_sittings(sittings, spec):
        spans = sitting.recording.spans
        if passages:
            found = window_states(windows.start_ns, spec, spans, (*labels, *passages))
        else:
            found = window_targets(windows.start_ns, spec, spans, labels)
        labelled = found >= 0
        samples.append(windows.samples[labelled])
        targets.append(found[labelled])
        starts.append(windows.start_ns[labelled])
        groups.append(np.full(int(labelled.sum()), sitting.group))
    if not samples:
        samples, targets, starts = [np.empty((0, spec.window_len, len(spec.channels)), np.float32)], [], []
        targets, starts, groups = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.str_)]
    return LabelledWindows(
        np.concatenate(samples), np.concatenate(targets), np.concatenate(groups), np.concatenate(starts)
    )


def windows_of_sittings(sittings: Iterable[Sitting], spec: PreprocessingSpec) -> Iterator[tuple[Sitting, Windows]]:
    """Each sitting and all its windows, by `windows_of_each`."""
    sittings = list(sittings)
    for first in range(0, len(sittings), _TOGETHER):
        together = sittings[first : first + _TOGETHER]
        # A separate gyroscope stream that no channel needs would only cost time.
        streams = [
            [stream for stream in sitting.recording.streams if spec.uses_gyro or stream.acc is not None]
            for sitting in together
        ]
        yield from zip(together, windows_of_each(streams, spec), strict=True)


def window_targets(
    start_ns: NDArray[np.int64], spec: PreprocessingSpec, spans: Sequence[ActivitySpan], labels: Sequence[str]
) -> NDArray[np.int64]:
    """(n,) int64: index of the label that holds from a window's first to its last sample, -1 where none does."""
    targets = np.full(len(start_ns), -1, np.int64)
    last_ns = start_ns + (spec.window_len - 1) * spec.period_ns
    for span in spans:
        if span.activity in labels:
            targets[(start_ns >= span.start_ns) & (last_ns < span.end_ns)] = labels.index(span.activity)
    return targets


def window_states(
    start_ns: NDArray[np.int64], spec: PreprocessingSpec, spans: Sequence[ActivitySpan], states: Sequence[str]
) -> NDArray[np.int64]:
    """(n,) int64: index of the state at STATE_MARGIN_S before a window's end, -1 where none of them is labelled.

    What a window is of that may hold a movement from one activity to another: near its end, so that it is known soon,
    and far enough from it to have been seen.
    """
    return states_at(start_ns + spec.window_ns - round(STATE_MARGIN_S * 1e9), spans, states)


def states_at(t_ns: NDArray[np.int64], spans: Sequence[ActivitySpan], states: Sequence[str]) -> NDArray[np.int64]:
    """(n,) int64: index of the state that is labelled at each time, -1 where none of them is."""
    found = np.full(len(t_ns), -1, np.int64)
    for span in spans:
        if span.activity in states:
            found[(t_ns >= span.start_ns) & (t_ns < span.end_ns)] = states.index(span.activity)
    return found


def restrict(recording: Recording, start_ns: int, end_ns: int) -> Recording:
    """The part of a recording from start_ns up to, not including, end_ns; labelled stretches are cut to it."""
    streams = []
    for stream in recording.streams:
        first, end = np.searchsorted(stream.t_ns, [start_ns, end_ns]).tolist()
        streams.append(stream[first:end])
    spans = (
        ActivitySpan(span.activity, max(span.start_ns, start_ns), min(span.end_ns, end_ns))
        for span in recording.spans
        if span.start_ns < end_ns and span.end_ns > start_ns
    )
    return replace(recording, streams=tuple(streams), spans=tuple(spans), arrivals=())


def time_blocks(recording: Recording, blocks: int, *, guard_ns: int = GUARD_NS) -> list[Sitting]:
    """Each labelled stretch of a recording cut into `blocks` equal parts with a guard between; group "block k".

        |---- block 0 ----|guard|---- block 1 ----|guard|---- block 2 ----|

    Filters start afresh in each part, so nothing of one block reaches another.
    """
    sittings = []
    for span in recording.spans:
        length = span.end_ns - span.start_ns
        for block in range(blocks):
            start = span.start_ns + block * length // blocks + (guard_ns // 2 if block else 0)
            end = span.start_ns + (block + 1) * length // blocks - (guard_ns // 2 if block + 1 < blocks else 0)
            sittings.append(Sitting(f"block {block}", restrict(recording, start, end)))
    return sittings


def group_folds(groups: Iterable[str], folds: int, *, seed: int) -> list[frozenset[str]]:
    """The groups dealt into `folds` disjoint sets of nearly equal size, in an order drawn from `seed`.

    Raises:
        ConfigError: fewer groups than folds.
    """
    distinct = sorted(set(groups))
    if not 2 <= folds <= len(distinct):
        raise ConfigError(f"folds is {folds}; expected 2 to {len(distinct)}, the number of groups")
    order = np.random.default_rng(seed).permutation(len(distinct))
    return [frozenset(distinct[i] for i in part) for part in np.array_split(order, folds)]


def joined(parts: Sequence[LabelledWindows]) -> LabelledWindows:
    """All windows of several sets."""
    return LabelledWindows(
        np.concatenate([part.samples for part in parts]),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.groups for part in parts]),
        np.concatenate([part.start_ns for part in parts]),
    )


def stream_slice(stream: ImuBatch, kept: NDArray[np.bool_]) -> ImuBatch:
    """The readings where `kept` is true."""
    return ImuBatch(
        stream.device_id,
        stream.t_ns[kept],
        None if stream.acc is None else stream.acc[kept],
        None if stream.gyro is None else stream.gyro[kept],
        stream.rate_hz,
        stream.seq,
    )
