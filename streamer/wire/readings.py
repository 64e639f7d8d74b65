"""What every payload format has in common: the rules that turn its fields into an `ImuBatch`.

A message holds `acc`, `gyro` or both, (n, 3) each, and one of

* `t_ns`: the time of every reading, with an optional declared `rate_hz`;
* `t0_ns` and `rate_hz`: reading i was taken at t0_ns + i * period, period = `period_ns(rate_hz)`.

The period is a whole number of nanoseconds, so a feed of 50 Hz lies exactly on a grid of 20 ms and a batch cut in two
keeps the very same times. For a rate that does not divide 10^9 it is off by at most half a nanosecond per reading, 5 us
at the end of the longest message; who needs better sends `t_ns`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.errors import PayloadError, RejectReason
from streamer.imu import ImuBatch

#: Readings that one message may hold: 50 s at 200 Hz.
MAX_READINGS: Final = 10_000
#: Levels of arrays and maps that a message may nest, tags included: readings take two, keys unknown here the rest.
MAX_DEPTH: Final = 16
#: Largest |acceleration| (m/s²) and |angular rate| (rad/s). Wrist-worn parts end at 32 g = 314 m/s² and 4000 deg/s =
#: 70 rad/s; far beyond stands for a wrong unit or a corrupt message.
MAX_MAGNITUDE: Final = 10_000.0
#: Times lie in [0, 2^62) ns since 1970, that is before 2116. A watch that lost its clock and counts from 1970 is legal;
#: what lies in the future is judged by the recognizer, which knows the time.
MAX_T_NS: Final = 2**62
#: Declared rates, Hz.
MIN_RATE_HZ: Final = 0.01
MAX_RATE_HZ: Final = 10_000.0


def period_ns(rate_hz: float) -> int:
    """Time between readings: the double quotient 1e9 / rate_hz, rounded half to even to whole nanoseconds."""
    return round(1e9 / rate_hz)


def times_from_rate(t0_ns: int, rate_hz: float, n: int) -> NDArray[np.int64]:
    """(n,) int64: t0_ns + i * period_ns(rate_hz)."""
    return _offsets(n, rate_hz) + t0_ns


@lru_cache(maxsize=64)
def _offsets(n: int, rate_hz: float) -> NDArray[np.int64]:
    offsets = np.arange(n, dtype=np.int64) * period_ns(rate_hz)
    offsets.flags.writeable = False
    return offsets


def batch(
    device_id: str,
    *,
    device: object,
    seq: object,
    rate_hz: object,
    t0_ns: object,
    t_ns: NDArray[np.int64] | None,
    acc: NDArray[np.float64] | None,
    gyro: NDArray[np.float64] | None,
    max_readings: int = MAX_READINGS,
) -> ImuBatch:
    """The batch that the fields of one message state, None for a field that it lacks.

    Scalars may be of any type, as they came from outside. Arrays are contiguous; their values are not checked yet.
    Floating-point warnings must be off (`np.errstate`), for NaN and infinity are compared here.

    Raises:
        PayloadError: the message contradicts itself, its topic or the limits of this module.
    """
    if device is not None and device != device_id:
        raise PayloadError(
            RejectReason.DEVICE_MISMATCH, f"device: the payload's differs from {device_id!r} in the topic"
        )
    if seq is not None and not (type(seq) is int and 0 <= seq < 2**63):
        raise PayloadError(RejectReason.SCHEMA, "seq: expected a counter from 0 to 2^63 - 1")
    rate = _rate(rate_hz)
    n = _count(acc, gyro)
    if n > max_readings:
        raise PayloadError(RejectReason.OVERSIZE, f"{n} readings: expected at most {max_readings}")
    times = _times(n, t_ns=t_ns, t0_ns=t0_ns, rate_hz=rate)
    for name, values in (("acc", acc), ("gyro", gyro)):
        if values is not None:
            _check_magnitude(name, values.ravel())
    return ImuBatch(device_id, times, acc, gyro, rate, seq)


def _count(acc: NDArray[np.float64] | None, gyro: NDArray[np.float64] | None) -> int:
    if acc is None and gyro is None:
        raise PayloadError(RejectReason.SCHEMA, "neither acc nor gyro: expected one of them at least")
    if acc is not None and gyro is not None and len(acc) != len(gyro):
        raise PayloadError(RejectReason.SHAPE, f"acc: {len(acc)}, gyro: {len(gyro)} readings, expected equal numbers")
    n = len(acc) if acc is not None else len(gyro) if gyro is not None else 0
    if n == 0:
        raise PayloadError(RejectReason.SHAPE, "no readings: expected one at least")
    return n


def _times(n: int, *, t_ns: NDArray[np.int64] | None, t0_ns: object, rate_hz: float | None) -> NDArray[np.int64]:
    if t_ns is not None:
        if t0_ns is not None:
            raise PayloadError(RejectReason.SCHEMA, "both t_ns and t0_ns: expected one of them")
        if len(t_ns) != n:
            raise PayloadError(RejectReason.SHAPE, f"t_ns: {len(t_ns)} times for {n} readings, expected equal numbers")
        # Seen as unsigned, a negative time is a huge one: one pass tests both ends.
        if t_ns.view(np.uint64).max() >= MAX_T_NS:
            raise PayloadError(RejectReason.TIME_RANGE, "t_ns: expected 0 <= t_ns < 2^62 throughout")
        return t_ns
    if t0_ns is None or rate_hz is None:
        raise PayloadError(RejectReason.SCHEMA, "no times: expected t_ns, or t0_ns with rate_hz")
    if type(t0_ns) is not int:
        raise PayloadError(RejectReason.SCHEMA, "t0_ns: expected an integer")
    if not 0 <= t0_ns < MAX_T_NS - (n - 1) * period_ns(rate_hz):
        raise PayloadError(RejectReason.TIME_RANGE, "t0_ns: expected 0 <= t_ns < 2^62 for every reading")
    return times_from_rate(t0_ns, rate_hz, n)


def _rate(rate_hz: object) -> float | None:
    if rate_hz is None:
        return None
    if type(rate_hz) is not float and type(rate_hz) is not int:
        raise PayloadError(RejectReason.SCHEMA, "rate_hz: expected a number")
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise PayloadError(RejectReason.VALUE_RANGE, f"rate_hz: expected {MIN_RATE_HZ} to {MAX_RATE_HZ:.0f}")
    return float(rate_hz)


def _check_magnitude(name: str, values: NDArray[np.float64]) -> None:
    # A sum of squares is at least the largest square and is NaN where a value is: one fast pass clears good messages.
    if values.dot(values) <= MAX_MAGNITUDE**2:
        return
    if not np.isfinite(values).all():
        raise PayloadError(RejectReason.NON_FINITE, f"{name}: NaN or infinity, expected finite values")
    if np.abs(values).max() > MAX_MAGNITUDE:
        raise PayloadError(RejectReason.VALUE_RANGE, f"{name}: expected magnitudes up to {MAX_MAGNITUDE:.0f}")


def evenly_spaced(batch: ImuBatch) -> bool:
    """Whether t0_ns and the declared rate say the batch's times exactly."""
    if batch.rate_hz is None or not MIN_RATE_HZ <= batch.rate_hz <= MAX_RATE_HZ or len(batch) == 0:
        return False
    return np.array_equal(batch.t_ns, times_from_rate(int(batch.t_ns[0]), batch.rate_hz, len(batch)))
