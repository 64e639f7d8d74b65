"""Readings to windows: take in, align, filter and window in one step, live or over a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.imu import ImuBatch
from streamer.preprocessing.align import Aligner, GridChunk
from streamer.preprocessing.filters import FilterBank
from streamer.preprocessing.intake import Intake
from streamer.preprocessing.slots import Slots
from streamer.preprocessing.spec import PreprocessingSpec
from streamer.preprocessing.timelines import NEVER
from streamer.preprocessing.windows import DueWindows, WindowBuffer

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows in time order for each slot.

    Attributes:
        slots: (m,) int64, whose they are.
        samples: (m, window_len, channels) float32.
        start_ns: (m,) int64, ns since the UTC epoch; a window covers [start_ns, start_ns + spec.window_ns).
        completeness: (m,) float64, share of the window's time free of holes in the readings that it is made of.
        gap_ns: (m,) int64, longest hole inside, 0 for none.
        partial: (m,) float64, share of samples that lack the optional sensor, whose channels are 0 there.
    """

    slots: Int64
    samples: NDArray[np.float32]
    start_ns: Int64
    completeness: NDArray[np.float64]
    gap_ns: Int64
    partial: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, rows: Int64 | NDArray[np.bool_]) -> Windows:
        """The windows of some rows."""
        return Windows(
            self.slots[rows],
            self.samples[rows],
            self.start_ns[rows],
            self.completeness[rows],
            self.gap_ns[rows],
            self.partial[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What one stretch of readings brought: windows, then the segments that ended after them.

    Attributes:
        windows: windows that came due.
        closed: (q,) int64, slots whose segment ended.
        gap_ns: (q,) int64, the hole that ended it, 0 when a sensor stayed away.
    """

    windows: Windows
    closed: Int64
    gap_ns: Int64


class Preprocessor:
    """Windows from readings for many watches; each watch lives in a slot.

    State: that of its four stages, per slot.
    """

    def __init__(
        self,
        spec: PreprocessingSpec,
        *,
        capacity: int = 1,
        lateness_ns: int = 0,
        mark: Callable[[str], None] | None = None,
    ) -> None:
        self.spec = spec
        self._mark = mark or (lambda _stage: None)
        self.intake = Intake(spec, capacity=capacity, lateness_ns=lateness_ns)
        self.aligner = Aligner(spec, self.intake, capacity=capacity)
        self.filters = FilterBank(spec, capacity=capacity)
        self.buffer = WindowBuffer(spec, capacity=capacity)

    @property
    def stages(self) -> dict[str, Slots]:
        """The stages that hold a watch's state, by name."""
        return {
            "timeline": self.intake.timelines,
            "intake": self.intake,
            "align": self.aligner,
            "filter": self.filters,
            "window": self.buffer,
        }

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` slots."""
        for stage in self.stages.values():
            stage.grow(capacity)

    def reset(self, slot: int) -> None:
        """Forget a slot's readings and what was made of them."""
        for stage in self.stages.values():
            stage.reset(slot)

    def has_readings(self, slot: int) -> bool:
        """Whether a slot has had any."""
        return bool(self.intake.timelines.newest_ns[slot].max() != NEVER)

    def push(self, slots: Sequence[int], batches: Sequence[ImuBatch]) -> Iterator[Step]:
        """Work off one batch for each of distinct slots."""
        yield from self._steps(self.aligner.advance(slots, self.intake.push(slots, batches)))
        while turned := self.intake.take_turned():
            slots = list(turned)
            # What came before the clock went back is told to its end.
            yield from self.flush(slots)
            steps_ns = {slot: self.intake.turn_back(slot, at_ns) for slot, (_, at_ns) in turned.items()}
            yield from self._steps(self.aligner.close(slot, step_ns) for slot, step_ns in steps_ns.items())
            lanes = self.intake.push(slots, [left for left, _ in turned.values()])
            yield from self._steps(self.aligner.advance(slots, lanes))

    def flush(self, slots: Sequence[int]) -> Iterator[Step]:
        """Work off what lateness still held back."""
        return self._steps(self.aligner.advance(slots, self.intake.flush(slots), is_flush=True))

    def _steps(self, chunks: Iterable[GridChunk]) -> Iterator[Step]:
        for chunk in chunks:
            self._mark("align")
            due: list[DueWindows] = []
            for filtered in self.filters.push(chunk):
                self._mark("filter")
                due += self.buffer.push(filtered)
                self._mark("window")
            # A window's time hangs on its segment's anchor, so it is told before the aligner moves on to the next.
            windows = [
                Windows(
                    w.slots,
                    w.samples,
                    self.aligner.anchor_ns[w.slots] + (w.end - self.spec.window_len) * self.spec.period_ns,
                    w.completeness,
                    w.gap_ns,
                    w.partial,
                )
                for w in due
            ]
            yield Step(join_windows(windows, self.spec), chunk.closed, chunk.gap_ns)


def join_windows(parts: Sequence[Windows], spec: PreprocessingSpec) -> Windows:
    """All windows in one value, in the order given."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none = np.empty(0, np.int64)
        samples = np.empty((0, spec.window_len, len(spec.channels)), np.float32)
        return Windows(none, samples, none, np.empty(0), none, np.empty(0))
    return Windows(
        np.concatenate([p.slots for p in parts]),
        np.concatenate([p.samples for p in parts]),
        np.concatenate([p.start_ns for p in parts]),
        np.concatenate([p.completeness for p in parts]),
        np.concatenate([p.gap_ns for p in parts]),
        np.concatenate([p.partial for p in parts]),
    )


#: Readings per piece when a recording is run: enough windows for the model to run well.
_PIECE_READINGS: Final = 16_384
#: Time per piece when a recording is run: separate sensors' streams must stay within the aligner's skew bound.
_PIECE_NS: Final = 2_000_000_000


def pieces(streams: Sequence[ImuBatch]) -> Iterator[ImuBatch]:
    """A recording's streams cut by time into pieces that a live watch could have sent, in time order."""
    if len(streams) == 1:
        yield from (streams[0][i : i + _PIECE_READINGS] for i in range(0, len(streams[0]), _PIECE_READINGS))
        return
    cut: list[tuple[int, ImuBatch]] = []
    for stream in streams:
        bucket = stream.t_ns // _PIECE_NS
        bounds = [0, *(np.flatnonzero(np.diff(bucket)) + 1).tolist(), len(stream)]
        cut += [(int(bucket[a]), stream[a:b]) for a, b in pairwise(bounds) if b > a]
    # The accelerometer last: nobody waits for what is there.
    yield from (piece for _, piece in sorted(cut, key=lambda entry: (entry[0], entry[1].acc is not None)))


def windows_of(streams: Sequence[ImuBatch], spec: PreprocessingSpec) -> Windows:
    """Windows of one recording: the streaming code run over it.

    Args:
        streams: readings with ascending times; one stream, or one per sensor.
        spec: what a window is. For denser windows, replace its hop_len.

    Returns:
        Windows in time order; slots are all 0.
    """
    return windows_of_each([streams], spec)[0]


def windows_of_each(recordings: Sequence[Sequence[ImuBatch]], spec: PreprocessingSpec) -> list[Windows]:
    """`windows_of` each recording, bit for bit, as of so many watches at once: sooner than one after the other.

    Args:
        recordings: streams of each.
        spec: what a window is.

    Returns:
        For each recording its windows in time order; slots are all 0.
    """
    if not recordings:
        return []
    preprocessor = Preprocessor(spec, capacity=len(recordings))
    cut = [list(pieces(streams)) for streams in recordings]
    parts: list[Windows] = []
    for turn in range(max(map(len, cut), default=0)):
        slots = [slot for slot, own in enumerate(cut) if turn < len(own)]
        parts += [step.windows for step in preprocessor.push(slots, [cut[slot][turn] for slot in slots])]
    parts += [step.windows for step in preprocessor.flush(range(len(recordings)))]
    windows = join_windows([part for part in parts if len(part)], spec)
    owned = [windows[windows.slots == slot] for slot in range(len(recordings))]
    return [replace(own, slots=np.zeros(len(own), np.int64)) for own in owned]


def denser(spec: PreprocessingSpec, hop_len: int) -> PreprocessingSpec:
    """The same spec with another hop, for training windows."""
    return msgspec.structs.replace(spec, hop_len=hop_len)
