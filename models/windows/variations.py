"""What devices, straps and networks do to a recording, as functions from a recording to a recording.

They come before the streaming code, which is what has to cope with them. All are seeded by the generator that they are
given and take labels along where they move time.

    recording ─ vary ─ recording ─ streaming code ─ windows ─ model
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.signal import butter, resample_poly, sosfilt, sosfilt_zi

from models.windows.data import stream_slice
from simulator.faults import jitter
from streamer.imu import ImuBatch, joined
from streamer.recording import ActivitySpan, Recording

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Vary = Callable[[Recording, np.random.Generator], Recording]

#: A sensor's own low-pass, -3 dB as a share of its rate.
#: Source: Bosch BMI160 data sheet, 2.4.1.1: 20.25 Hz at 50 Hz in normal mode.
SENSOR_CUTOFF: Final = 0.405
SENSOR_ORDER: Final = 4
#: Readings further apart than this many periods are not one stretch: nothing is made up between them.
_BROKEN_AFTER: Final = 4
#: Rate of the grid on which a sensor's low-pass runs, as a multiple of the faster of both rates.
_FINE: Final = 4
#: A rate nearer to the recording's is the same.
_SAME_RATE: Final = 0.99
#: Lengths of the holes that lost messages leave, s: those of senders that send once to ten times a second.
BURST_S: Final = (0.1, 1.0)


def turned(recording: Recording, rng: np.random.Generator, *, max_deg: float) -> Recording:
    """Worn turned: both sensors by one rotation about a uniformly random axis, its angle uniform up to max_deg."""
    axis = rng.standard_normal(3)
    axis /= np.linalg.norm(axis)
    angle = math.radians(max_deg) * rng.uniform(-1.0, 1.0)
    cross = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    # Rodrigues' rotation formula.
    return _rotated(recording, np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * (cross @ cross))


def turned_anyhow(recording: Recording, rng: np.random.Generator) -> Recording:
    """Worn in any orientation: both sensors by one rotation, uniform over all of them.

    Source: Shoemake, Uniform random rotations, 1992: a uniformly random unit quaternion.
    """
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return _rotated(recording, rotation)


def at_rate(recording: Recording, rng: np.random.Generator, *, rate_hz: float) -> Recording:
    """As a sensor of another rate would have told it: through its low-pass, then sampled at a phase of its own.

    A sensor faster than the recording adds readings, not content. The rate is not declared.
    """
    period_ns = 1e9 / rate_hz
    streams = []
    for stream in recording.streams:
        first_ns = int(stream.t_ns[0]) + round(rng.uniform(0.0, period_ns))
        parts = [_resampled(part, rate_hz, first_ns) for part in _stretches(stream)]
        told = [part for part in parts if len(part)]
        if told:
            streams.append(joined(told))
    return replace(recording, streams=tuple(streams), rate_hz=None, arrivals=())


def readings_lost(recording: Recording, rng: np.random.Generator, *, share: float) -> Recording:
    """Each reading is lost with the given probability, of both sensors where they share their times."""
    return _kept(recording, [rng.uniform(size=len(stream)) >= share for stream in recording.streams])


def bursts_lost(recording: Recording, rng: np.random.Generator, *, share: float) -> Recording:
    """Holes of BURST_S each, of both sensors, that take the given share of the time."""
    start_ns, end_ns = recording.start_ns, recording.end_ns
    mean_ns = 1e9 * sum(BURST_S) / 2
    count = max(1, round((end_ns - start_ns) * share / mean_ns))
    lengths = rng.uniform(*BURST_S, count) * 1e9
    # Gaps between holes are those of as many points dropped at random into what is left.
    left_ns = max((end_ns - start_ns) - lengths.sum(), 0.0)
    begins = start_ns + np.sort(rng.uniform(0.0, left_ns, count)) + np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    kept = []
    for stream in recording.streams:
        which = np.searchsorted(begins, stream.t_ns, side="right") - 1
        kept.append((which < 0) | (stream.t_ns >= begins[which] + lengths[which]))
    return _kept(recording, kept)


def clock_off(recording: Recording, *, error: float) -> Recording:
    """The watch counts (1 + error) of the time that passes; the motion is what it was, and so are the values."""
    origin = recording.start_ns

    def moved(t_ns: Int64) -> Int64:
        result: Int64 = origin + np.rint((t_ns - origin) * (1.0 + error)).astype(np.int64)
        return result

    streams = tuple(replace(stream, t_ns=moved(stream.t_ns), rate_hz=None) for stream in recording.streams)
    spans = []
    for span in recording.spans:
        start_ns, end_ns = moved(np.array([span.start_ns, span.end_ns])).tolist()
        spans.append(ActivitySpan(span.activity, start_ns, end_ns))
    return replace(recording, streams=streams, spans=tuple(spans), rate_hz=None, arrivals=())


def without_gyro(recording: Recording) -> Recording:
    """The accelerometer alone."""
    streams = tuple(replace(stream, gyro=None) for stream in recording.streams if stream.acc is not None)
    return replace(recording, streams=streams, arrivals=())


def gyro_stops(recording: Recording) -> Recording:
    """The gyroscope is switched off half way; the accelerometer goes on."""
    half_ns = (recording.start_ns + recording.end_ns) // 2
    streams = []
    for stream in recording.streams:
        if stream.acc is not None:
            streams.append(replace(stream, gyro=None))
        if stream.gyro is not None:
            streams.append(replace(stream_slice(stream, stream.t_ns < half_ns), acc=None))
    return replace(recording, streams=tuple(streams), arrivals=())


def jittered(recording: Recording, rng: np.random.Generator, *, sigma_s: float) -> Recording:
    """Each reading's time is off by a normal error; their order stays."""
    return replace(recording, streams=tuple(jitter(recording.streams, rng, sigma_s=sigma_s)), rate_hz=None, arrivals=())


@dataclass(frozen=True, slots=True)
class Variation:
    """One way in which recordings are varied.

    Attributes:
        name: for JSON and tables.
        what: in words.
        vary: a recording and a generator to a recording.
        draws: how often it is drawn anew; 1 where nothing is random.
        wanted_points: percentage points of macro-F1 and accuracy that may be lost, None where nothing was asked.
        rate_hz: of the readings, None for that of the recording.
        lacks: the sensor that is missing for some or all of the time.
    """

    name: str
    what: str
    vary: Vary
    draws: int
    wanted_points: float | None = None
    rate_hz: float | None = None
    lacks: Literal["gyro"] | None = None


#: Rates of common sensors and apps from 10 to 50 Hz, and one above.
RATES_HZ: Final = (10.0, 12.5, 16.0, 20.0, 25.0, 33.0, 40.0, 50.0, 100.0)
#: How far times are off in `jitter`.
JITTER_S: Final = 0.005
_DRAWS: Final = 3


def _at(rate_hz: float) -> Variation:
    wanted = 1.5 if rate_hz <= 50 else None
    return Variation(
        f"rate_{rate_hz:g}",
        f"fed at {rate_hz:g} Hz",
        lambda recording, rng: at_rate(recording, rng, rate_hz=rate_hz),
        _DRAWS,
        wanted,
        rate_hz,
    )


VARIATIONS: Final[tuple[Variation, ...]] = (
    Variation(
        "turned_30",
        "worn turned by up to 30 degrees",
        lambda r, rng: turned(r, rng, max_deg=30.0),
        5,
        wanted_points=2.0,
    ),
    Variation("turned_anyhow", "worn in any orientation", turned_anyhow, _DRAWS),
    *(_at(rate_hz) for rate_hz in RATES_HZ),
    Variation(
        "readings_lost", "10 % of readings lost, one by one", lambda r, rng: readings_lost(r, rng, share=0.1), 3, 1.0
    ),
    Variation(
        "bursts_lost",
        "10 % of the time lost, in holes of up to 1 s",
        lambda r, rng: bursts_lost(r, rng, share=0.1),
        3,
        1.0,
    ),
    Variation("clock_fast", "clock 5 % fast", lambda r, _: clock_off(r, error=0.05), 1, 0.5),
    Variation("clock_slow", "clock 5 % slow", lambda r, _: clock_off(r, error=-0.05), 1, 0.5),
    Variation("jitter", "times off by 5 ms", lambda r, rng: jittered(r, rng, sigma_s=JITTER_S), _DRAWS),
    Variation("no_gyro", "no gyroscope", lambda r, _: without_gyro(r), 1, lacks="gyro"),
    Variation("gyro_stops", "gyroscope off half way", lambda r, _: gyro_stops(r), 1, lacks="gyro"),
)


def _rotated(recording: Recording, rotation: Float64) -> Recording:
    streams = tuple(
        replace(
            stream,
            acc=None if stream.acc is None else stream.acc @ rotation.T,
            gyro=None if stream.gyro is None else stream.gyro @ rotation.T,
        )
        for stream in recording.streams
    )
    return replace(recording, streams=streams, arrivals=())


def _kept(recording: Recording, kept: list[NDArray[np.bool_]]) -> Recording:
    streams = tuple(stream_slice(stream, rows) for stream, rows in zip(recording.streams, kept, strict=True))
    return replace(recording, streams=tuple(stream for stream in streams if len(stream)), arrivals=())


def _stretches(stream: ImuBatch) -> list[ImuBatch]:
    """The stream where it is broken off: readings that follow one another."""
    steps = np.diff(stream.t_ns)
    if not len(steps):
        return [stream]
    cuts = np.flatnonzero(steps > _BROKEN_AFTER * np.median(steps)) + 1
    bounds = [0, *cuts.tolist(), len(stream)]
    return [stream[first:end] for first, end in pairwise(bounds)]


def _resampled(part: ImuBatch, rate_hz: float, first_ns: int) -> ImuBatch:
    """One stretch at times first_ns + k / rate_hz that lie inside it."""
    t_s = (part.t_ns - part.t_ns[0]) / 1e9
    period_s = 1.0 / rate_hz
    offset_s = (first_ns - int(part.t_ns[0])) / 1e9
    first = math.ceil(-offset_s / period_s)
    last = math.floor((t_s[-1] - offset_s) / period_s)
    # Of fewer readings nobody knows their rate.
    n = last - first + 1 if len(part) >= 8 else 0
    at_s: Float64 = offset_s + period_s * np.arange(first, first + max(n, 0), dtype=np.float64)
    own_hz = 1.0 / float(np.median(np.diff(t_s))) if len(part) >= 8 else rate_hz
    return ImuBatch(
        part.device_id,
        int(part.t_ns[0]) + np.rint(at_s * 1e9).astype(np.int64),
        None if part.acc is None else _through_sensor(t_s, part.acc, own_hz, rate_hz, at_s),
        None if part.gyro is None else _through_sensor(t_s, part.gyro, own_hz, rate_hz, at_s),
    )


def _through_sensor(t_s: Float64, values: Float64, own_hz: float, rate_hz: float, at_s: Float64) -> Float64:
    """Values (n, 3) at t_s as a sensor of rate_hz tells them at at_s."""
    if not len(at_s):
        return np.empty((0, 3))
    # On an even grid of the recording's own rate first; where it is even already, this changes nothing.
    even = CubicSpline(t_s, values)(np.arange(t_s[0], t_s[-1] + 0.5 / own_hz, 1.0 / own_hz))
    factor = max(1, math.ceil(_FINE * max(rate_hz, own_hz) / own_hz))
    # From and to the ends' values, not from zero.
    fine = resample_poly(even, factor, 1, axis=0, padtype="line")
    if rate_hz < _SAME_RATE * own_hz:
        sos = butter(SENSOR_ORDER, SENSOR_CUTOFF * rate_hz, fs=own_hz * factor, output="sos")
        fine = sosfilt(sos, fine, axis=0, zi=sosfilt_zi(sos)[:, :, None] * fine[0])[0]
    result: Float64 = CubicSpline(t_s[0] + np.arange(len(fine)) / (own_hz * factor), fine)(at_s)
    return result
