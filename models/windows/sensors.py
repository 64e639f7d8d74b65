"""What an accelerometer and a gyroscope of a phone or watch make of true values: noise, offset, drift, steps.

Source: data sheets of Bosch BMI160 (180 µg/√Hz, ±40 mg, 0.007 °/s/√Hz, ±3 °/s, 16 bits) and ST LSM6DSO (1.8 to 5.5 mg
RMS in its low-power modes), with room on both sides.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.recording import Recording

Float64 = NDArray[np.float64]

#: m/s² and rad/s per step of common ranges and resolutions.
_ACC_STEPS: Final = (0.0006, 0.0024, 0.0096, 0.0383)
_GYRO_STEPS: Final = (0.00013, 0.00107)


def sensed(acc: Float64, gyro: Float64, rate_hz: float, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """What a sensor makes of the true values (n, 3): offset, slow drift, white noise, steps, the end of its range."""
    n = len(acc)
    noise, gyro_noise = log_uniform(rng, 0.005, 0.06), log_uniform(rng, 0.0003, 0.005)
    step, gyro_step = float(rng.choice(_ACC_STEPS)), float(rng.choice(_GYRO_STEPS))
    offset, gyro_offset = rng.uniform(-0.4, 0.4, 3), rng.uniform(0.0, 1.0) * rng.uniform(-0.05, 0.05, 3)
    drift_s = rng.uniform(60.0, 300.0)
    acc = acc + offset + 0.02 * slow_noise(n, rate_hz, drift_s, rng) + noise * rng.standard_normal((n, 3))
    gyro = gyro + gyro_offset + 0.002 * slow_noise(n, rate_hz, drift_s, rng) + gyro_noise * rng.standard_normal((n, 3))
    limit = 8.0 * STANDARD_GRAVITY
    return step * np.rint(np.clip(acc, -limit, limit) / step), gyro_step * np.rint(gyro / gyro_step)


def other_sensor(recording: Recording, rng: np.random.Generator) -> Recording:
    """As another sensor would have read it: what the recording's own added stays in it."""
    streams = []
    for stream in recording.streams:
        if len(stream) < 2:
            streams.append(stream)
            continue
        rate_hz = 1e9 / float(np.median(np.diff(stream.t_ns)))
        still = np.zeros((len(stream), 3))
        acc, gyro = sensed(
            still if stream.acc is None else stream.acc, still if stream.gyro is None else stream.gyro, rate_hz, rng
        )
        streams.append(
            ImuBatch(
                stream.device_id,
                stream.t_ns,
                None if stream.acc is None else acc,
                None if stream.gyro is None else gyro,
                stream.rate_hz,
            )
        )
    return replace(recording, streams=tuple(streams), arrivals=())


def slow_noise(n: int, rate_hz: float, time_s: float, rng: np.random.Generator) -> Float64:
    """(n, 3) of about unit size that changes over `time_s`."""
    knots = rng.standard_normal((math.ceil(n / rate_hz / time_s) + 2, 3))
    at = np.arange(n) / rate_hz / time_s
    return np.stack([np.interp(at, np.arange(len(knots)), knots[:, axis]) for axis in range(3)], axis=1)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between low and high whose logarithm is uniform."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))
