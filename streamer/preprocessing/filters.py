"""The causal filter chain, with state for many watches.

    samples ─ anti-alias, decimate ─ median of 3 ─ noise low-pass ─┬─ total acceleration
              (faster feeds only)                                  ├─ gravity low-pass ─ gravity, body = total - gravity
                                                                   └─ angular rate - its drift low-pass

One call of a filter costs as much for one sample as for fifty (its overhead, not the arithmetic), so slots with
equal counts of samples are filtered together. For the same reason the loop behind SciPy's `sosfilt` is called without
what surrounds it: checking and arranging the arguments takes ten times as long as filtering a second of one watch.

Samples without the optional gyroscope pass the accelerometer's filters only, and its channels are 0, exactly. Its
filters begin anew with each first sample of it; the median gives its last one away, which has no next one.
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


#: Ways of an optional gyroscope through the filters: beside the accelerometer; not there; its first samples; and, while
#: the first of them is still in the median, behind the accelerometer's.
_TOGETHER, _ALONE, _JOINING, _BEHIND = range(4)
#: Axes of a sample.
_ALL: Final = slice(None)
_ACC: Final = slice(0, 3)
_GYRO: Final = slice(3, 6)


@dataclass(frozen=True, slots=True, eq=False)
class _Feed:
    """What samples that are filtered together have in common.

    Attributes:
        slots: (m,) int64.
        factor: fine grid points per grid point.
        phase: fine index of the first sample within its grid point.
        opened: whether these are a segment's first samples.
        fresh: whether the segment's first sample has not left the median.
    """

    slots: Int64
    factor: int
    phase: int
    opened: bool
    fresh: bool


@dataclass(frozen=True, slots=True, eq=False)
class FilteredSamples:
    """Model channels for slots that have equal counts.

    Attributes:
        slots: (m,) int64.
        opened: (m,) bool, True where these are a segment's first samples.
        channels: (m, n, channels) float64, in the spec's order and unit.
        hole_ns: (m, n) int64.
        partial: how many of the n samples, the first ones, lack the optional sensor.
    """

    slots: Int64
    opened: NDArray[np.bool_]
    channels: Float64
    hole_ns: Int64
    partial: int


class FilterBank(Slots):
    """Gravity separation and noise filters for many watches.

    State: per slot the low-pass sections and the median's last two samples. A segment's first samples reset it, and the
    first ones of an optional gyroscope reset what is of the gyroscope.
    """

    ARRAYS = (
        "noise",
        "gravity",
        "drift",
        "anti_alias",
        "recent",
        "recent_hole_ns",
        "fresh",
        "gyro_is_in",
        "gyro_fresh",
    )

    def __init__(self, spec: PreprocessingSpec, *, capacity: int) -> None:
        self._spec = spec
        self._is_optional = bool(spec.optional_sensors)
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
        #: Of an optional gyroscope: whether the latest sample was made of it, and whether its first one is still in
        #: the median.
        self.gyro_is_in = np.zeros(capacity, np.bool_)
        self.gyro_fresh = np.ones(capacity, np.bool_)

    def reset(self, slot: int) -> None:
        """Forget a slot's state; its next segment starts anew in any case."""
        for name in self.ARRAYS:
            getattr(self, name)[slot] = 0
        self.fresh[slot] = self.gyro_fresh[slot] = True

    def push(self, chunk: GridChunk) -> Iterator[FilteredSamples]:
        """Filter a chunk; slots come back in groups of equal counts."""
        if chunk.opened.any():
            self.fresh[chunk.slots[chunk.opened]] = True
            self.gyro_fresh[chunk.slots[chunk.opened]] = True
        fresh = self.fresh[chunk.slots]
        phase = chunk.first % chunk.factor
        # What must be equal for slots to be filtered together, as one number.
        kind = (((chunk.counts * MAX_FACTOR + phase) * MAX_FACTOR + chunk.factor - 1) * 2 + chunk.opened) * 2 + fresh
        way = self._way(chunk, fresh) if self._is_optional else None
        if way is not None:
            kind = kind * 4 + way
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
            feed = _Feed(
                chunk.slots[group],
                factor=int(chunk.factor[one]),
                phase=int(phase[one]),
                opened=bool(chunk.opened[one]),
                fresh=bool(fresh[one]),
            )
            hole_ns = self._hole_ns(feed, hole_ns.reshape(shape))
            if way is None or way[one] == _TOGETHER:
                x, partial = self._thinned(feed, x, _ALL, opened=feed.opened), 0
                parts = self._parts(feed, x) if x.shape[2] else []
                if way is not None:
                    self.gyro_fresh[feed.slots] = feed.fresh and not parts
            else:
                parts, partial = self._parts_apart(feed, x, int(way[one]))
            if parts:
                self.fresh[feed.slots] = False
                channels = np.concatenate(parts, axis=1)[:, self._order].transpose(0, 2, 1)
                yield FilteredSamples(feed.slots, fresh[group], channels, hole_ns, partial)

    def _way(self, chunk: GridChunk, fresh: NDArray[np.bool_]) -> Int64:
        """(m,) int64, how each slot's samples pass the filters, of the ways below; notes which have a gyroscope."""
        was_in = self.gyro_is_in[chunk.slots] & ~chunk.opened
        self.gyro_is_in[chunk.slots] = ~chunk.partial
        gyro_fresh = self.gyro_fresh[chunk.slots]
        joined = np.where(was_in, np.where(gyro_fresh == fresh, _TOGETHER, _BEHIND), _JOINING)
        way: Int64 = np.where(chunk.partial, _ALONE, np.where(chunk.opened, _TOGETHER, joined))
        return way

    def _thinned(self, feed: _Feed, x: Float64, axes: slice, *, opened: bool) -> Float64:
        """What comes out of anti-aliasing and the median, on the grid."""
        if feed.factor > 1:
            x = self._decimate(feed, x, axes, opened=opened)
        return self._median(feed.slots, x, axes, opened=opened) if self._spec.median_len == 3 else x

    def _decimate(self, feed: _Feed, x: Float64, axes: slice, *, opened: bool) -> Float64:
        """Anti-alias on the fine grid, then every factor-th sample."""
        anti_alias = LowPass(order=ANTI_ALIAS_ORDER, cutoff_hz=ANTI_ALIAS_CUTOFF * self._spec.rate_hz)
        rate_hz, state = self._spec.rate_hz * feed.factor, self.anti_alias[:, axes]
        # Always primed: the fine grid exists only here, no published chain says otherwise.
        x = _low_pass(anti_alias, rate_hz, x, state, feed.slots, fresh=opened, primed=True)
        return x[:, :, -feed.phase % feed.factor :: feed.factor]

    def _median(self, slots: Int64, x: Float64, axes: slice, *, opened: bool) -> Float64:
        """Centred median of three: each sample comes out when the next one is known."""
        recent = self.recent[:, axes]
        if opened:
            edge = x[:, :, :1] if self._spec.initial_state == "primed" else np.zeros_like(x[:, :, :1])
            known = np.concatenate([edge, x], axis=2)
        else:
            known = np.concatenate([recent[slots], x], axis=2)
        if x.shape[2]:
            recent[slots] = known[:, :, -2:]
        a, b, c = known[:, :, :-2], known[:, :, 1:-1], known[:, :, 2:]
        median: Float64 = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
        return median

    def _hole_ns(self, feed: _Feed, hole_ns: Int64) -> Int64:
        """The holes of the samples that come out of anti-aliasing and the median."""
        if feed.factor > 1:
            hole_ns = hole_ns[:, -feed.phase % feed.factor :: feed.factor]
        if self._spec.median_len == 1:
            return hole_ns
        known = hole_ns
        if not feed.opened:
            known = np.concatenate([self.recent_hole_ns[feed.slots][:, None], hole_ns], axis=1)
        if hole_ns.shape[1]:
            self.recent_hole_ns[feed.slots] = known[:, -1]
        left: Int64 = known[:, :-1]
        return left

    def _parts(self, feed: _Feed, x: Float64) -> list[Float64]:
        """CHANNELS, in threes, of samples with all sensors."""
        x = self._less_noise(feed, x, _ALL, fresh=feed.fresh)
        parts = self._acc_parts(feed, x[:, :3])
        if self._spec.uses_gyro:
            parts.append(self._less_drift(feed, x[:, 3:], fresh=feed.fresh))
        return parts

    def _parts_apart(self, feed: _Feed, x: Float64, way: int) -> tuple[list[Float64], int]:
        """CHANNELS, in threes, of samples that lack the gyroscope, or whose gyroscope begins anew; how many lack it."""
        acc = self._thinned(feed, x[:, :3], _ACC, opened=feed.opened)
        gyro, n = np.zeros(acc.shape), 0
        self.gyro_fresh[feed.slots] = True
        if way != _ALONE:
            begun = self._thinned(feed, x[:, 3:], _GYRO, opened=way == _JOINING)
            n = begun.shape[2]
            if n:
                begun = self._less_noise(feed, begun, _GYRO, fresh=True)
                gyro[:, :, -n:] = self._less_drift(feed, begun, fresh=True)
                self.gyro_fresh[feed.slots] = False
        if not acc.shape[2]:
            return [], 0
        acc = self._less_noise(feed, acc, _ACC, fresh=feed.fresh)
        return [*self._acc_parts(feed, acc), gyro], acc.shape[2] - n

    def _less_noise(self, feed: _Feed, x: Float64, axes: slice, *, fresh: bool) -> Float64:
        spec, primed = self._spec, self._spec.initial_state == "primed"
        if spec.noise is None:
            return x
        return _low_pass(spec.noise, spec.rate_hz, x, self.noise[:, axes], feed.slots, fresh=fresh, primed=primed)

    def _acc_parts(self, feed: _Feed, total: Float64) -> list[Float64]:
        spec, primed = self._spec, self._spec.initial_state == "primed"
        gravity = _low_pass(
            spec.gravity, spec.rate_hz, total, self.gravity, feed.slots, fresh=feed.fresh, primed=primed
        )
        return [total - gravity, gravity, total]

    def _less_drift(self, feed: _Feed, gyro: Float64, *, fresh: bool) -> Float64:
        spec = self._spec
        if spec.gyro_drift is None:
            return gyro
        # Never primed: a turn that happens to be under way says nothing about the sensor's drift.
        return gyro - _low_pass(spec.gyro_drift, spec.rate_hz, gyro, self.drift, feed.slots, fresh=fresh, primed=False)


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
    """Second-order sections and their settled state for a unit input: SciPy's, their numbers rounded rightly.

    SciPy computes in float64 and is off in the last digit, which changed one digit of a published UCI HAR file on one
    machine and not on another. So poles and gain come from the closed form, in extended precision.
    """
    order, sos = low_pass.order, butter(low_pass.order, low_pass.cutoff_hz, fs=rate_hz, output="sos")
    # Of the analog prototype at the cutoff: one real pole if the order is odd, and pairs, s² + 2 sin(angle) s + 1.
    half_turn = 4 * np.arctan(np.longdouble(1))
    cutoff = np.tan(half_turn * np.longdouble(low_pass.cutoff_hz) / np.longdouble(rate_hz))
    poles, gain = [], np.longdouble(1)
    if order % 2:
        poles.append(((cutoff - 1) / (cutoff + 1), np.longdouble(0)))
        gain *= cutoff / (cutoff + 1)
    for pair in range(order // 2):
        damping = 2 * np.sin(half_turn * (2 * pair + 1) / (2 * order)) * cutoff
        whole = 1 + damping + cutoff**2
        poles.append((2 * (cutoff**2 - 1) / whole, (1 - damping + cutoff**2) / whole))
        gain *= cutoff**2 / whole
    for section in sos:
        section[4:] = min(poles, key=lambda pole: float(np.abs(section[4:] - np.array(pole)).sum()))
    sos[0, :3] = gain * np.rint(sos[0, :3] / sos[0, 0])
    return sos, sosfilt_zi(sos)


def _no_state(low_pass: LowPass | None, capacity: int, axes: int) -> Float64:
    sections = 0 if low_pass is None else (low_pass.order + 1) // 2
    return np.zeros((capacity, axes, sections, 2))
