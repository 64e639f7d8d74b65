"""Overlapping windows cut from filtered samples, for many watches.

samples   0 . . . . . . . . . . . . . . . . . . .
window 0  [- - - - - - - -)                          window_len = 8, hop_len = 4
window 1          [- - - - - - - -)
window 2                  [- - - - - - - -)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.preprocessing.filters import FilteredSamples
from streamer.preprocessing.slots import Slots
from streamer.preprocessing.spec import PreprocessingSpec

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class DueWindows:
    """Windows that came due, in time order for each slot.

    Attributes:
        slots: (m,) int64, whose they are.
        end: (m,) int64, samples of the segment up to the window's end.
        samples: (m, window_len, channels) float32.
        completeness: (m,) float64, share of samples outside holes.
        gap_ns: (m,) int64, longest hole inside, 0 for none.
        partial: (m,) float64, share of samples that lack the optional sensor.
    """

    slots: Int64
    end: Int64
    samples: NDArray[np.float32]
    completeness: NDArray[np.float64]
    gap_ns: Int64
    partial: NDArray[np.float64]


class WindowBuffer(Slots):
    """The latest window_len samples of each slot, in rings.

    State: the rings and the number of samples since the segment began. A segment's first samples reset it.
    """

    ARRAYS = ("ring", "hole_ns", "partial", "count")

    def __init__(self, spec: PreprocessingSpec, *, capacity: int) -> None:
        self._window_len, self._hop_len = spec.window_len, spec.hop_len
        self._is_optional = bool(spec.optional_sensors)
        self.ring = np.zeros((capacity, spec.window_len, len(spec.channels)), np.float32)
        self.hole_ns = np.zeros((capacity, spec.window_len), np.int64)
        self.partial = np.zeros((capacity, spec.window_len if spec.optional_sensors else 0), np.bool_)
        self.count = np.zeros(capacity, np.int64)

    def reset(self, slot: int) -> None:
        """Forget a slot's samples; its next segment starts anew in any case."""
        self.count[slot] = self.hole_ns[slot] = self.partial[slot] = self.ring[slot] = 0

    def push(self, filtered: FilteredSamples) -> list[DueWindows]:
        """Store samples; return the windows they completed."""
        if filtered.opened.any():
            self.count[filtered.slots[filtered.opened]] = 0
        due: list[DueWindows] = []
        # At most one window per slot can come due within a hop.
        for first in range(0, filtered.channels.shape[1], self._hop_len):
            piece = slice(first, first + self._hop_len)
            windows = self._push_piece(
                filtered.slots, filtered.channels[:, piece], filtered.hole_ns[:, piece], filtered.partial - first
            )
            if windows is not None:
                due.append(windows)
        return due

    def _push_piece(self, slots: Int64, channels: Float64, hole_ns: Int64, partial: int) -> DueWindows | None:
        before = self.count[slots]
        n = channels.shape[1]
        self.count[slots] = before + n
        # The first window end after `before`.
        full = np.maximum(before + 1, self._window_len)
        end = full + (self._window_len - full) % self._hop_len
        is_due = end <= before + n
        if not is_due.any():
            self._write(slots, before, channels, hole_ns, partial)
            return None
        # Samples behind a window's end would overwrite its first ones: write up to it, cut, write the rest.
        rows = np.flatnonzero(is_due)
        for count in np.unique(end[rows] - before[rows]).tolist():
            same = rows[end[rows] - before[rows] == count]
            self._write(slots[same], before[same], channels[same, :count], hole_ns[same, :count], partial)
        index = (end[rows][:, None] + np.arange(self._window_len)) % self._window_len
        samples = self.ring[slots[rows][:, None], index]
        holes = self.hole_ns[slots[rows]]
        lacking = self.partial[slots[rows]].mean(axis=1) if self._is_optional else np.zeros(len(rows))
        for count in np.unique(end[rows] - before[rows]).tolist():
            same = rows[end[rows] - before[rows] == count]
            self._write(
                slots[same], before[same] + count, channels[same, count:], hole_ns[same, count:], partial - count
            )
        rest = np.flatnonzero(~is_due)
        self._write(slots[rest], before[rest], channels[rest], hole_ns[rest], partial)
        return DueWindows(slots[rows], end[rows], samples, (holes == 0).mean(axis=1), holes.max(axis=1), lacking)

    def _write(self, slots: Int64, first: Int64, channels: Float64, hole_ns: Int64, partial: int) -> None:
        """Put samples into the rings; the first `partial` of them lack the optional sensor."""
        index = (first[:, None] + np.arange(channels.shape[1])) % self._window_len
        self.ring[slots[:, None], index] = channels
        self.hole_ns[slots[:, None], index] = hole_ns
        if self._is_optional:
            self.partial[slots[:, None], index] = np.arange(channels.shape[1]) < partial
