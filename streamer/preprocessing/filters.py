"""The causal filter chain, with state for many watches.

    samples ─ anti-alias, decimate ─ median of 3 ─ noise low-pass ─┬─ total acceleration
              (faster feeds only)                                  ├─ gravity low-pass ─ gravity, body = total - gravity
                                                                   └─ angular rate - its drift low-pass

One call of a filter costs as much for one sample as for fifty (its overhead, not the arithmetic), so slots with
equal counts of samples are filtered together. For the same reason the loop behind SciPy's `sosfilt` is called without
what surrounds it: checking and arranging the arguments takes ten times as long as filtering a second of one watch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt, sosfilt_zi

from streamer.imu import STANDARD_GRAVITY
from streamer.preprocessing.align import MAX_FACTOR, GridChunk
from streamer.preprocessing.slots import Slots
from streamer.preprocessing.spec import CHANNELS, LowPass, PreprocessingSpec

try:
    from scipy.signal._sosfilt import _sosfilt
except ImportError:  # not a promised place: another release of SciPy may have it elsewhere
    _sosfilt = None  # type: ignore[assignment]  # told apart where it is called

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: Anti-aliasing for feeds faster than the grid: -3 dB at 0.4 of the grid's rate, about -21 dB at 0.6 of it, from
#: where it would fold back onto 0.4. Both sides of a trade between ringing and leakage; models see either rarely.
ANTI_ALIAS_ORDER: Final = 6
ANTI_ALIAS_CUTOFF: Final = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class FilteredSamples:
    """Model channels for slots that have equal counts.

    Attributes:
        slots: (m,) int64.
        opened: (m,) bool, True where these are a segment's first samples.
        channels: (m, n, channels) float64, in the spec's order and unit.
        hole_ns: (m, n) int64.
    """

    slots: Int64
    opened: NDArray[np.bool_]
    channels: Float64
    hole_ns: Int64


class FilterBank(Slots):
    """Gravity separation and noise filters for many watches.

    State: per slot the low-pass sections and the median's last two samples. A segment's first samples reset it.
    """

    ARRAYS = ("noise", "gravity", "drift", "anti_alias", "recent", "recent_hole_ns", "fresh")

    def __init__(self, spec: PreprocessingSpec, *, capacity: int) -> None:
        self._spec = spec
        self._axes = 3 * len(spec.sensors)
        self._scale = np.ones(self._axes)
        if spec.acc_unit == "g":
            self._scale[:3] = 1.0 / STANDARD_GRAVITY
        names = CHANNELS if spec.uses_gyro else CHANNELS[:9]
        self._order = [names.index(channel) for channel in spec.channels]
        # (slots, axes, sections, 2) for each low-pass.
        self.noise = _no_state(spec.noise, capacity, self._axes)
        self.gravity = _no_state(spec.gravity, capacity, 3)
        self.drift = _no_state(spec.gyro_drift if spec.uses_gyro else None, capacity, 3)
        self.anti_alias = np.zeros((capacity, self._axes, ANTI_ALIAS_ORDER // 2, 2))
        # (slots, axes, 2): the two samples before the next, for the median.
        self.recent = np.zeros((capacity, self._axes, 2))
        self.recent_hole_ns = np.zeros(capacity, np.int64)
        #: True until a segment's first sample has left the median.
        self.fresh = np.ones(capacity, np.bool_)

    def reset(self, slot: int) -> None:
        """Forget a slot's state; its next segment starts anew in any case."""
        for name in self.ARRAYS:
            getattr(self, name)[slot] = 0
        self.fresh[slot] = True

    def push(self, chunk: GridChunk) -> Iterator[FilteredSamples]:
        """Filter a chunk; slots come back in groups of equal counts."""
        if chunk.opened.any():
            self.fresh[chunk.slots[chunk.opened]] = True
        fresh = self.fresh[chunk.slots]
        phase = chunk.first % chunk.factor
        # What must be equal for slots to be filtered together, as one number.
        kind = (((chunk.counts * MAX_FACTOR + phase) * MAX_FACTOR + chunk.factor - 1) * 2 + chunk.opened) * 2 + fresh
        for group in _groups(kind):
            one = int(group[0])
            shape = (len(group), int(chunk.counts[one]))
            if len(group) == len(kind):
                samples, hole_ns = chunk.samples, chunk.hole_ns
            else:
                start = (chunk.counts.cumsum() - chunk.counts)[group]
                index = (start[:, None] + np.arange(shape[1])).ravel()
                samples, hole_ns = chunk.samples[index], chunk.hole_ns[index]
            x = samples.reshape(*shape, self._axes).transpose(0, 2, 1) * self._scale[:, None]
            slots, hole_ns, opened = chunk.slots[group], hole_ns.reshape(shape), bool(chunk.opened[one])
            if chunk.factor[one] > 1:
                x, hole_ns = self._decimate(slots, x, hole_ns, int(chunk.factor[one]), int(phase[one]), opened=opened)
            if self._spec.median_len == 3:
                x, hole_ns = self._median(slots, x, hole_ns, opened=opened)
            if x.shape[2]:
                self.fresh[slots] = False
                channels = self._channels(slots, x, fresh=bool(fresh[one]))
                yield FilteredSamples(slots, fresh[group], channels, hole_ns)

    def _decimate(
        self, slots: Int64, x: Float64, hole_ns: Int64, factor: int, phase: int, *, opened: bool
    ) -> tuple[Float64, Int64]:
        """Anti-alias on the fine grid, then every factor-th sample; phase is the first sample's fine index."""
        anti_alias = LowPass(order=ANTI_ALIAS_ORDER, cutoff_hz=ANTI_ALIAS_CUTOFF * self._spec.rate_hz)
        # Always primed: the fine grid exists only here, no published chain says otherwise.
        x = _low_pass(anti_alias, self._spec.rate_hz * factor, x, self.anti_alias, slots, fresh=opened, primed=True)
        return x[:, :, -phase % factor :: factor], hole_ns[:, -phase % factor :: factor]

    def _median(self, slots: Int64, x: Float64, hole_ns: Int64, *, opened: bool) -> tuple[Float64, Int64]:
        """Centred median of three: each sample comes out when the next one is known."""
        if opened:
            edge = x[:, :, :1] if self._spec.initial_state == "primed" else np.zeros_like(x[:, :, :1])
            known, known_hole_ns = np.concatenate([edge, x], axis=2), hole_ns
        else:
            known = np.concatenate([self.recent[slots], x], axis=2)
            known_hole_ns = np.concatenate([self.recent_hole_ns[slots][:, None], hole_ns], axis=1)
        if x.shape[2]:
            self.recent[slots] = known[:, :, -2:]
            self.recent_hole_ns[slots] = known_hole_ns[:, -1]
        a, b, c = known[:, :, :-2], known[:, :, 1:-1], known[:, :, 2:]
        return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c)), known_hole_ns[:, :-1]

    def _channels(self, slots: Int64, x: Float64, *, fresh: bool) -> Float64:
        spec, rate_hz, primed = self._spec, self._spec.rate_hz, self._spec.initial_state == "primed"
        if spec.noise is not None:
            x = _low_pass(spec.noise, rate_hz, x, self.noise, slots, fresh=fresh, primed=primed)
        total = x[:, :3]
        gravity = _low_pass(spec.gravity, rate_hz, total, self.gravity, slots, fresh=fresh, primed=primed)
        parts = [total - gravity, gravity, total]
        if spec.uses_gyro:
            gyro = x[:, 3:]
            if spec.gyro_drift is not None:
                # Never primed: a turn that happens to be under way says nothing about the sensor's drift.
                gyro = gyro - _low_pass(spec.gyro_drift, rate_hz, gyro, self.drift, slots, fresh=fresh, primed=False)
            parts.append(gyro)
        return np.concatenate(parts, axis=1)[:, self._order].transpose(0, 2, 1)


def _low_pass(
    low_pass: LowPass, rate_hz: float, x: Float64, state: Float64, slots: Int64, *, fresh: bool, primed: bool
) -> Float64:
    """One causal low-pass over (m, axes, n), reading and writing the slots' state."""
    sos, settled = _design(low_pass, rate_hz)
    if not fresh:
        z = state[slots]
    elif primed:
        z = settled * x[:, :, :1, None]
    else:
        z = np.zeros((*x.shape[:2], len(sos), 2))
    y, state[slots] = run_sections(sos, x, z)
    return y


def run_sections(sos: Float64, x: Float64, z: Float64) -> tuple[Float64, Float64]:
    """A cascade of second-order sections over signals (m, axes, n); z: (m, axes, sections, 2), its state before.

    Returns:
        The filtered signals and the state after them.
    """
    if _sosfilt is None:
        y, zf = sosfilt(sos, x, axis=-1, zi=np.moveaxis(z, 2, 0))
        return y, np.moveaxis(zf, 0, 2)
    # Works in place, on rows: on copies of both.
    y, z = np.array(x, np.float64, order="C"), np.array(z, np.float64, order="C")
    _sosfilt(sos, y.reshape(-1, y.shape[2]), z.reshape(-1, *z.shape[2:]))
    return y, z


def _groups(kind: Int64) -> list[NDArray[np.intp]]:
    """Row numbers of equal kinds, together."""
    if not len(kind):
        return []
    if (kind == kind[0]).all():
        return [np.arange(len(kind))]
    order = np.argsort(kind, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(kind[order])) + 1)


@cache
def _design(low_pass: LowPass, rate_hz: float) -> tuple[Float64, Float64]:
    """Second-order sections and their settled state for a unit input."""
    sos = butter(low_pass.order, low_pass.cutoff_hz, fs=rate_hz, output="sos")
    return sos, sosfilt_zi(sos)


def _no_state(low_pass: LowPass | None, capacity: int, axes: int) -> Float64:
    sections = 0 if low_pass is None else (low_pass.order + 1) // 2
    return np.zeros((capacity, axes, sections, 2))
