"""Streams of watches that nobody wears, or whose sensor is broken: what no model should name an activity in.

    table          at rest in any orientation: the sensor's noise, offset and drift, now and then a knock
    vibration      on a machine: broadband noise of any strength, slope and direction about gravity
    motor          beside a motor: a tone that wanders a little, its harmonics, and some broadband noise
    zeros          nothing but zeros, as some drivers send while the sensor sleeps
    frozen         one reading over and over
    dead_axis      a real recording of which one axis of the accelerometer is stuck at zero or at some value

`TRAINING_KINDS` are these, for models that are taught what is no activity. Kept for evaluation alone, so that refusal
is also measured on what no model was taught (`HELD_OUT_KINDS`):

    table_moved    put down anew every while, each time in another orientation
    car            in a car's cup holder: manoeuvres, the body's bounce, wheel hop, the engine
    full_scale     a real recording of which one axis is stuck at the end of its range

Evaluation draws from seeds of its own, too (`EVALUATION_SEED` on). No value comes from a data set but those of the
real recordings with a dead axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.windows.data import Sitting, windows_of_sittings
from models.windows.sensors import log_uniform, sensed, slow_noise
from simulator.datasets.timeline import EPOCH_NS, NANOSECONDS
from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.preprocessing.spec import PreprocessingSpec
from streamer.recording import Recording

Float64 = NDArray[np.float64]
Generated = Literal["table", "vibration", "motor", "zeros", "frozen", "table_moved", "car"]
Broken = Literal["dead_axis", "full_scale"]
Kind = Generated | Broken

TRAINING_KINDS: Final[tuple[Kind, ...]] = ("table", "vibration", "motor", "zeros", "frozen", "dead_axis")
HELD_OUT_KINDS: Final[tuple[Kind, ...]] = ("table_moved", "car", "full_scale")
#: Training takes seeds below it.
EVALUATION_SEED: Final = 1_000_000
#: Rates of watches.
_RATES_HZ: Final = (20.0, 25.0, 50.0, 100.0)
#: Ends of accelerometers' ranges, g.
_RANGES_G: Final = (2.0, 4.0, 8.0, 16.0)


def unworn(kind: Generated, rng: np.random.Generator, *, rate_hz: float, seconds: float) -> Recording:
    """A recording of one watch that nobody wears; both sensors, on a perfect clock, the rate not declared.

    Args:
        kind: what is generated.
        rng: draws everything: orientation, sensor, strength, spectrum.
        rate_hz: readings per second.
        seconds: length.
    """
    n = round(seconds * rate_hz)
    t_ns = EPOCH_NS + np.rint(np.arange(n) * (NANOSECONDS / rate_hz)).astype(np.int64)
    acc, gyro = _MOTIONS[kind](n, rate_hz, rng)
    return Recording(kind, None, (ImuBatch(kind, t_ns, acc, gyro),))


def broken(kind: Broken, recording: Recording, rng: np.random.Generator) -> Recording:
    """A recording of which one axis of the accelerometer has been stuck from its beginning on; without labels.

    A dead axis is stuck at zero or at one of its own values; one at full scale at the end of a common range.
    """
    axis = int(rng.integers(3))
    if kind == "full_scale":
        value = float(rng.choice([-1.0, 1.0]) * rng.choice(_RANGES_G)) * STANDARD_GRAVITY
    else:
        own = [stream.acc for stream in recording.streams if stream.acc is not None]
        value = 0.0 if rng.uniform() < 0.5 else float(own[0][int(rng.integers(len(own[0]))), axis])
    streams = []
    for stream in recording.streams:
        if stream.acc is not None:
            acc = stream.acc.copy()
            acc[:, axis] = value
            stream = replace(stream, acc=acc)  # noqa: PLW2901
        streams.append(stream)
    return replace(recording, device_id=kind, streams=tuple(streams), spans=(), arrivals=())


def streams_of(
    kind: Kind,
    sittings: Sequence[Sitting],
    *,
    seed: int,
    count: int,
    seconds: float,
    rates_hz: Sequence[float] = _RATES_HZ,
) -> Iterator[Recording]:
    """Recordings of one kind.

    Args:
        kind: which.
        sittings: real recordings, of which those with a dead axis are made; one after the other.
        seed: below `EVALUATION_SEED` for training.
        count: recordings.
        seconds: length of generated ones.
        rates_hz: rates to draw generated ones from.
    """
    for number in range(count):
        rng = np.random.default_rng([seed, number, *kind.encode()])
        if kind == "dead_axis" or kind == "full_scale":  # noqa: PLR1714 (mypy narrows only so)
            if not sittings:
                return
            yield broken(kind, sittings[number * len(sittings) // count].recording, rng)
        else:
            yield unworn(kind, rng, rate_hz=float(rng.choice(rates_hz)), seconds=seconds)


def unworn_windows(
    spec: PreprocessingSpec,
    sittings: Sequence[Sitting] = (),
    *,
    seed: int,
    count: int = 20,
    seconds: float = 60.0,
    kinds: Sequence[Kind] = TRAINING_KINDS,
    min_rate_hz: float = 0.0,
) -> NDArray[np.float32]:
    """Windows to learn from as none of the activities: (n, window_len, channels) float32, by the streaming code.

    Args:
        spec: what a window is.
        sittings: real recordings of training subjects, for dead axes; without any there are none.
        seed: below `EVALUATION_SEED`.
        count: recordings of each kind.
        seconds: length of generated ones.
        kinds: of which.
        min_rate_hz: slowest feed that the model is meant to take.

    Raises:
        ValueError: `seed` is one of evaluation's.
    """
    if not 0 <= seed < EVALUATION_SEED:
        raise ValueError(f"seed is {seed}; expected 0 to {EVALUATION_SEED - 1}: those above are for evaluation")
    rates_hz = [rate for rate in _RATES_HZ if rate >= min_rate_hz]
    parts = [np.empty((0, spec.window_len, len(spec.channels)), np.float32)]
    for kind in kinds:
        told = streams_of(kind, sittings, seed=seed, count=count, seconds=seconds, rates_hz=rates_hz)
        sittings_told = (Sitting(kind, recording) for recording in told)
        parts += [windows.samples for _, windows in windows_of_sittings(sittings_told, spec)]
    return np.concatenate(parts)


def _table(n: int, rate_hz: float, rng: np.random.Generator) -> tuple[Float64, Float64]:
    acc, gyro = np.tile(STANDARD_GRAVITY * _direction(rng), (n, 1)), np.zeros((n, 3))
    for _ in range(rng.poisson(n / rate_hz / rng.uniform(30.0, 120.0))):
        _knock(acc, gyro, int(rng.integers(n)), rate_hz, rng)
    return sensed(acc, gyro, rate_hz, rng)


def _table_moved(n: int, rate_hz: float, rng: np.random.Generator) -> tuple[Float64, Float64]:
    acc, gyro = np.empty((n, 3)), np.zeros((n, 3))
    first = 0
    while first < n:
        end = first + round(rng.uniform(20.0, 60.0) * rate_hz)
        acc[first:end] = STANDARD_GRAVITY * _direction(rng)
        _knock(acc, gyro, first, rate_hz, rng)
        first = end
    return sensed(acc, gyro, rate_hz, rng)


def _vibration(n: int, rate_hz: float, rng: np.random.Generator) -> tuple[Float64, Float64]:
    # White, or falling with the frequency.
    slope = rng.uniform(0.0, 1.5)
    low_hz = rng.uniform(0.0, 5.0)
    high_hz = rng.uniform(max(10.0, 2 * low_hz), 50.0)
    strength = log_uniform(rng, 0.05, 8.0)
    acc = STANDARD_GRAVITY * _direction(rng) + strength * _noise(n, rate_hz, (low_hz, high_hz), slope, rng)
    gyro = strength * log_uniform(rng, 0.005, 0.1) * _noise(n, rate_hz, (low_hz, high_hz), slope, rng)
    return sensed(acc, gyro, rate_hz, rng)


def _motor(n: int, rate_hz: float, rng: np.random.Generator) -> tuple[Float64, Float64]:
    tone_hz = rng.uniform(4.0, 0.45 * rate_hz)
    strength = log_uniform(rng, 0.1, 5.0)
    phase = 2 * np.pi * np.cumsum(tone_hz * (1 + 0.01 * slow_noise(n, rate_hz, 5.0, rng)[:, 0])) / rate_hz
    acc, gyro = np.tile(STANDARD_GRAVITY * _direction(rng), (n, 1)), np.zeros((n, 3))
    for order in range(1, 1 + int(rng.integers(1, 5))):
        if order * tone_hz < 0.5 * rate_hz:
            wave = np.sin(order * phase[:, None] + rng.uniform(0.0, 2 * np.pi, 3)) / order
            acc += strength * wave * rng.uniform(0.0, 1.0, 3)
            gyro += 0.03 * strength * wave * rng.uniform(0.0, 1.0, 3)
    acc += 0.1 * strength * _noise(n, rate_hz, (0.5, 50.0), 0.5, rng)
    return sensed(acc, gyro, rate_hz, rng)


def _car(n: int, rate_hz: float, rng: np.random.Generator) -> tuple[Float64, Float64]:
    basis = _basis(rng)
    manoeuvres = rng.uniform(0.3, 1.5) * _noise(n, rate_hz, (0.02, 0.4), 1.0, rng) * np.array([1.0, 1.0, 0.1])
    bounce = rng.uniform(0.2, 0.8) * _noise(n, rate_hz, (0.8, 2.5), 0.0, rng) * np.array([0.3, 0.3, 1.0])
    hop = rng.uniform(0.1, 0.6) * _noise(n, rate_hz, (8.0, 15.0), 0.0, rng)
    engine_hz = rng.uniform(0.6, 0.9) * min(25.0, rate_hz / 2)
    wave = np.sin(2 * np.pi * engine_hz * np.arange(n)[:, None] / rate_hz + rng.uniform(0.0, 6.0, 3))
    upright = manoeuvres + bounce + hop + rng.uniform(0.02, 0.2) * wave + np.array([0.0, 0.0, STANDARD_GRAVITY])
    gyro = rng.uniform(0.02, 0.1) * _noise(n, rate_hz, (0.05, 1.5), 1.0, rng)
    return sensed(upright @ basis, gyro, rate_hz, rng)


def _zeros(n: int, _rate_hz: float, _rng: np.random.Generator) -> tuple[Float64, Float64]:
    return np.zeros((n, 3)), np.zeros((n, 3))


def _frozen(n: int, _rate_hz: float, rng: np.random.Generator) -> tuple[Float64, Float64]:
    # Whatever the last reading was: of rest, or in the midst of a movement.
    acc = STANDARD_GRAVITY * _direction(rng) * log_uniform(rng, 0.7, 1.5)
    gyro = rng.standard_normal(3) * log_uniform(rng, 0.001, 3.0)
    return np.tile(acc, (n, 1)), np.tile(gyro, (n, 1))


_MOTIONS: Final[dict[Generated, Callable[[int, float, np.random.Generator], tuple[Float64, Float64]]]] = {
    "table": _table,
    "vibration": _vibration,
    "motor": _motor,
    "zeros": _zeros,
    "frozen": _frozen,
    "table_moved": _table_moved,
    "car": _car,
}


def _knock(acc: Float64, gyro: Float64, at: int, rate_hz: float, rng: np.random.Generator) -> None:
    """A damped ringing from row `at` on, added in place."""
    length = min(round(rate_hz), len(acc) - at)
    t_s = np.arange(length)[:, None] / rate_hz
    ringing_hz = rng.uniform(0.2, 0.45) * rate_hz
    wave = np.exp(-t_s / rng.uniform(0.03, 0.15)) * np.sin(2 * np.pi * ringing_hz * t_s + rng.uniform(0.0, 6.0, 3))
    strength = log_uniform(rng, 0.3, 15.0)
    acc[at : at + length] += strength * wave * _direction(rng)
    gyro[at : at + length] += 0.05 * strength * wave * _direction(rng)


def _noise(n: int, rate_hz: float, band_hz: tuple[float, float], slope: float, rng: np.random.Generator) -> Float64:
    """(n, 3) noise of unit power, its amplitude falling as frequency^-slope inside a band, in any direction."""
    frequency_hz = np.fft.rfftfreq(n, 1 / rate_hz)
    inside = (frequency_hz >= band_hz[0]) & (frequency_hz <= band_hz[1]) & (frequency_hz > 0)
    weight = np.where(inside, np.maximum(frequency_hz, 0.1) ** -slope, 0.0)
    values = np.fft.irfft(np.fft.rfft(rng.standard_normal((n, 3)), axis=0) * weight[:, None], n, axis=0)
    gains = np.array([1.0, *rng.uniform(0.1, 1.0, 2)])
    values = values * gains @ _basis(rng)
    power = math.sqrt(float((values**2).sum(axis=1).mean()))
    result: Float64 = values / power if power else values
    return result


def _direction(rng: np.random.Generator) -> Float64:
    """(3,) a uniformly random unit vector."""
    vector = rng.standard_normal(3)
    result: Float64 = vector / np.linalg.norm(vector)
    return result


def _basis(rng: np.random.Generator) -> Float64:
    """(3, 3) a random orthonormal basis."""
    basis: Float64 = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    return basis
