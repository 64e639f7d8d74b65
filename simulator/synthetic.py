"""Synthetic motion of a watch at the wrist: postures, cadences with harmonics, and coloured noise, by activity.

A profile says how six channels (acc x y z in m/s², gyro x y z in rad/s) move during an activity:

* `mean`: posture, that is gravity in the sensor's frame, and the gyroscope's offset;
* `cadence_hz`, `cadence_spread`, `harmonics`: a rhythm whose frequency wanders slowly, its complex amplitudes per
  harmonic and channel relative to the phase of the rhythm; no rhythm when the cadence is None;
* `noise`: per frequency band a factor L of the channels' covariance L L^T in that band.

The profiles are statistics of WISDM subjects, fitted by models/windows/fit_profiles.py; none of their readings are
kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulator.datasets.timeline import EPOCH_NS, NANOSECONDS
from streamer.errors import ConfigError, nearest
from streamer.imu import ImuBatch, joined
from streamer.recording import ActivitySpan, Arrived, Recording

#: Neighbouring activities are blended over this long.
_BLEND_S: Final = 1.0
#: The cadence wanders with this time constant.
_WANDER_S: Final = 4.0
#: First readings of a fleet lie within this long: about the hop of the shipped watch model.
_STAGGER_NS: Final = 3 * NANOSECONDS
#: A bout lasts this long.
_BOUT_S: Final = (40.0, 80.0)


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a wrist moves during an activity; see the module.

    Attributes:
        mean: 6 values.
        cadence_hz: fundamental frequency, None for no rhythm.
        cadence_spread: standard deviation of the cadence relative to it.
        harmonics: per harmonic 6 pairs (real, imaginary).
        noise: per band of `Profiles.band_edges_hz` 21 values, the lower triangle of L by rows.
    """

    mean: tuple[float, ...]
    cadence_hz: float | None
    cadence_spread: float
    harmonics: tuple[tuple[tuple[float, float], ...], ...]
    noise: tuple[tuple[float, ...], ...]


class Profiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """profiles.json.

    Attributes:
        source: where the statistics come from.
        band_edges_hz: edges of the noise bands.
        playlist: activities that synthetic watches do unless told otherwise: those the default model recognises.
        activities: by activity one profile per modelled person.
    """

    source: str
    band_edges_hz: tuple[float, ...]
    playlist: tuple[str, ...]
    activities: dict[str, tuple[Profile, ...]]


@cache
def shipped_profiles() -> Profiles:
    """The profiles that came with this installation."""
    return msgspec.json.decode((resources.files("simulator") / "profiles.json").read_bytes(), type=Profiles)


def motion(
    profile: Profile, band_edges_hz: Sequence[float], *, samples: int, rate_hz: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(samples, 6) float64: acceleration in m/s² and angular rate in rad/s on a regular grid.

    Frequencies above half the rate are left out, as behind an ideal anti-aliasing filter.
    """
    values = np.tile(np.array(profile.mean), (samples, 1))
    values += _coloured_noise(profile.noise, band_edges_hz, samples, rate_hz, rng)
    if profile.cadence_hz is not None:
        wander = _wander(samples, rate_hz, rng)
        frequency_hz = profile.cadence_hz * (1 + profile.cadence_spread * wander)
        phase = 2 * np.pi * (np.cumsum(frequency_hz) / rate_hz + rng.random())
        for order, pairs in enumerate(profile.harmonics, start=1):
            if order * profile.cadence_hz < 0.5 * rate_hz:
                amplitudes = np.array(pairs) @ np.array([1, 1j])
                values += np.real(np.exp(1j * order * phase)[:, None] * amplitudes)
    return values


@dataclass(frozen=True, slots=True)
class SyntheticWatch:
    """A watch whose wearer does one activity after the other, without end.

    Attributes:
        device_id: the watch's name.
        seed: the same seed gives the same motion at the same rate.
        rate_hz: a divisor of 10^9.
        playlist: activities to choose from, in random order without repeats within a round.
        start_ns: time of the first reading.
        profiles: how each activity moves.
    """

    device_id: str
    seed: int
    rate_hz: float
    playlist: tuple[str, ...]
    start_ns: int
    profiles: Profiles

    @property
    def end_ns(self) -> None:
        """None: it never stops."""
        return None

    @property
    def arrivals(self) -> tuple[Arrived, ...]:
        """None: it is no capture."""
        return ()

    def messages(self, readings: int) -> Iterator[ImuBatch]:
        """Messages of exactly `readings`, endlessly."""
        rest: ImuBatch | None = None
        for batch, _ in self.bouts():
            if rest is not None:
                batch = joined([rest, batch])  # noqa: PLW2901 (the rest of one bout opens the next message)
            whole = len(batch) // readings * readings
            for first in range(0, whole, readings):
                yield batch[first : first + readings]
            rest = batch[whole:]

    def recording(self, duration_s: float) -> Recording:
        """The first `duration_s` seconds with their labels."""
        period_ns = round(NANOSECONDS / self.rate_hz)
        end_ns = self.start_ns + round(duration_s * self.rate_hz) * period_ns
        pieces: list[ImuBatch] = []
        spans: list[ActivitySpan] = []
        for batch, span in self.bouts():
            pieces.append(batch)
            spans.append(ActivitySpan(span.activity, span.start_ns, min(span.end_ns, end_ns)))
            if span.end_ns >= end_ns:
                break
        whole = joined(pieces)
        return Recording(self.device_id, None, (whole[: round(duration_s * self.rate_hz)],), tuple(spans), self.rate_hz)

    def bouts(self) -> Iterator[tuple[ImuBatch, ActivitySpan]]:
        """One bout after the other: its readings and its label."""
        rng = np.random.default_rng(self.seed)
        period_ns = round(NANOSECONDS / self.rate_hz)
        blend = round(_BLEND_S * self.rate_hz)
        fade_in = 0.5 - 0.5 * np.cos(np.pi * (np.arange(blend) + 0.5) / blend)[:, None]
        tail: NDArray[np.float64] | None = None
        t_ns = self.start_ns
        while True:
            for activity in rng.permutation(list(self.playlist)).tolist():
                choices = self.profiles.activities[activity]
                profile = choices[int(rng.integers(len(choices)))]
                samples = round(rng.uniform(*_BOUT_S) * self.rate_hz)
                values = motion(
                    profile, self.profiles.band_edges_hz, samples=samples + blend, rate_hz=self.rate_hz, rng=rng
                )
                if tail is not None:
                    values[:blend] = fade_in * values[:blend] + (1 - fade_in) * tail
                values, tail = values[:samples], values[samples:]
                times = t_ns + np.arange(samples, dtype=np.int64) * period_ns
                batch = ImuBatch(
                    self.device_id,
                    times,
                    np.ascontiguousarray(values[:, :3]),
                    np.ascontiguousarray(values[:, 3:]),
                    rate_hz=self.rate_hz,
                )
                span = ActivitySpan(activity, t_ns, t_ns + samples * period_ns)
                t_ns = span.end_ns
                yield batch, span


def synthetic_watches(
    devices: int, *, seed: int = 0, rate_hz: int = 50, playlist: Sequence[str] | None = None
) -> list[SyntheticWatch]:
    """Watches that start within three seconds, each at its own instant, so that their windows fall due apart.

    Args:
        devices: how many.
        seed: of the first watch; each has its own.
        rate_hz: readings per second.
        playlist: activities; None for those the default model recognises.

    Raises:
        ConfigError: a rate that does not divide 10^9, or an activity without a profile.
    """
    from simulator.gestures import gestures  # noqa: PLC0415 - made of profiles

    profiles = shipped_profiles()
    profiles = msgspec.structs.replace(profiles, activities=profiles.activities | gestures())
    chosen = tuple(playlist or profiles.playlist)
    for activity in chosen:
        if activity not in profiles.activities:
            raise ConfigError(
                f"activity {activity!r} has no profile; expected any of {', '.join(profiles.activities)}"
                f"{nearest(activity, profiles.activities)}"
            )
    if not (1 <= rate_hz <= 1000 and NANOSECONDS % rate_hz == 0):
        raise ConfigError(f"rate {rate_hz} Hz: expected a divisor of 10^9 from 1 to 1000")
    starts = np.random.default_rng(seed).integers(0, _STAGGER_NS, devices).tolist()
    return [
        SyntheticWatch(f"synthetic-{index + 1:03d}", seed + index, float(rate_hz), chosen, EPOCH_NS + start, profiles)
        for index, start in enumerate(starts)
    ]


def _coloured_noise(
    noise: Sequence[Sequence[float]],
    band_edges_hz: Sequence[float],
    samples: int,
    rate_hz: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """(samples, 6): white noise whose bands are coloured by their covariance."""
    spectrum = np.fft.rfft(rng.standard_normal((samples, 6)), axis=0)
    frequency_hz = np.fft.rfftfreq(samples, 1 / rate_hz)
    coloured = np.zeros_like(spectrum)
    for band, triangle in enumerate(noise):
        low_hz, high_hz = band_edges_hz[band], band_edges_hz[band + 1]
        inside = (frequency_hz >= low_hz) & (frequency_hz < min(high_hz, rate_hz / 2)) & (frequency_hz > 0)
        if inside.any():
            factor = np.zeros((6, 6))
            factor[np.tril_indices(6)] = triangle
            # The band holds its share of the white noise's variance; above half the rate it is cut off.
            share = (high_hz - low_hz) / (rate_hz / 2)
            coloured[inside] = spectrum[inside] @ factor.T / math.sqrt(share)
    return np.fft.irfft(coloured, samples, axis=0)


def _wander(samples: int, rate_hz: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(samples,) a slow random walk around 0 of about unit variance."""
    knots = rng.standard_normal(math.ceil(samples / rate_hz / _WANDER_S) + 2)
    return np.interp(np.arange(samples) / rate_hz / _WANDER_S, np.arange(len(knots)), knots)
