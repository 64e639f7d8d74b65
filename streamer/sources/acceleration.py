"""One acceleration of another program's: readings as sent, until unit, sign and gravity are known, then in SI.

Where gravity has readings of its own it is interpolated to those of the acceleration without, which wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from streamer.errors import PayloadError, RejectReason
from streamer.imu import ImuBatch
from streamer.sources.rest import MS2, NO_GRAVITY, Evidence, G
from streamer.wire.readings import MAX_MAGNITUDE
from streamer.wire.senders.streams import SCALE, SENSORS, SensorId, Stream, Unit, unit_of

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
#: Times (n,) and values (n, 3).
Readings = tuple[Int64, Float64]

#: Readings of unknown unit or sign that are kept, by their times and in number.
HOLD_NS: Final = 5_000_000_000
MOST_HELD: Final = 4096
#: How long readings without gravity wait for gravity's.
_GRAVITY_WAIT_NS: Final = 2_000_000_000
#: Gravity is known this far from a reading of it.
_GRAVITY_REACH_NS: Final = 500_000_000

UNITS: Final[dict[int, Unit]] = {MS2: "m/s²", G: "g"}
_NUMBERS: Final = {unit: number for number, unit in UNITS.items()}


@dataclass(slots=True)
class Taken:
    """What came of a message.

    Attributes:
        batches: readings, at most one of each sensor.
        anew: the watch's earlier readings and these do not go together.
        later: whether any of its readings is later than those of the messages before.
        error: why acceleration was refused, None where none was.
    """

    batches: list[ImuBatch] = field(default_factory=list)
    anew: bool = False
    later: bool = False
    error: PayloadError | None = None


class _Waiting(msgspec.Struct, array_like=True):
    """Readings that wait, as bytes: that is a copy of them, and can be written."""

    t_ns: bytes = b""
    values: bytes = b""

    def read(self) -> Readings:
        return np.frombuffer(self.t_ns, np.int64), np.frombuffer(self.values, np.float64).reshape(-1, 3)

    def with_(self, t_ns: Int64, values: Float64) -> Readings:
        """Those that wait, and more behind them."""
        before_ns, before = self.read()
        return (np.concatenate([before_ns, t_ns]), np.concatenate([before, values])) if self.t_ns else (t_ns, values)

    def put(self, t_ns: Int64, values: Float64) -> None:
        self.t_ns, self.values = t_ns.tobytes(), values.tobytes()

    @property
    def is_whole(self) -> bool:
        """Whether there are three values for each time."""
        return len(self.t_ns) % 8 == 0 and len(self.values) == 3 * len(self.t_ns)

    def clear(self) -> None:
        self.t_ns = self.values = b""


class Acceleration(msgspec.Struct, array_like=True):
    """What is known of the acceleration in use.

    Attributes:
        sensor: which it is.
        last_ns: newest of its times.
        unit: MS2, G, NO_GRAVITY or 0 while it is not known.
        sign: 1, -1, or 0 while it is not known.
        doubtful: whether what has come lately does not go together with the unit.
        flows: whether readings of it were let through.
        problem: why its latest readings were refused.
        evidence: for unit and gravity.
        held: readings of unknown unit or sign.
        linear, gravity: readings that wait for gravity, and those of gravity.
    """

    sensor: SensorId
    last_ns: int
    unit: Annotated[int, Meta(ge=0, le=NO_GRAVITY)] = 0
    sign: Annotated[int, Meta(ge=-1, le=1)] = 0
    doubtful: bool = False
    flows: bool = False
    problem: RejectReason | None = None
    evidence: Evidence = msgspec.field(default_factory=Evidence)
    held: _Waiting = msgspec.field(default_factory=_Waiting)
    linear: _Waiting = msgspec.field(default_factory=_Waiting)
    gravity: _Waiting = msgspec.field(default_factory=_Waiting)


def read_total(acc: Acceleration, stream: Stream, taken: Taken) -> Readings:
    """Acceleration as it came; what it and its message say of unit, sign and gravity is noted."""
    sensor = SENSORS[acc.sensor]
    acc.evidence.hear(sensor, stream.t_ns, stream.values)
    told = _NUMBERS[stream.unit] if sensor.unit is None and stream.unit is not None else 0
    unit = told or acc.evidence.settled(sensor)
    if not unit and not acc.unit and sensor.unit is not None and sensor.sure:
        unit = _NUMBERS[sensor.unit]
    sign = stream.sign or 0
    if acc.sensor == SensorId.UNCALIBRATED and unit in UNITS:
        # One switch of the app's changes both.
        sign = -1 if unit == G else 1
    _note(acc, unit, sign, taken)
    acc.doubtful = not told and acc.evidence.is_doubtful(acc.unit)
    return stream.t_ns, stream.values


def read_with_gravity(
    acc: Acceleration, linear: Stream | None, gravity: Stream | None, taken: Taken, sender: str
) -> Readings:
    """Acceleration and gravity added, as far as gravity is known by now.

    Args:
        acc: what is known of the acceleration.
        linear: readings of it in this message.
        gravity: readings of gravity in this message.
        taken: what comes of the message; what is wrong goes there.
        sender: program and watch, for people.
    """
    if gravity is not None:
        _keep_gravity(acc, gravity)
        unit = unit_of(gravity.values)
        _note(acc, _NUMBERS[unit] if unit else 0, gravity.sign or 0, taken)
    t_ns, values = acc.linear.read() if linear is None else acc.linear.with_(linear.t_ns, linear.values)
    if not len(t_ns):
        return t_ns, values
    known_ns, known = acc.gravity.read()
    ready = t_ns <= (int(known_ns[-1]) if len(known_ns) else -1)
    waiting = np.flatnonzero(~ready & (np.abs(t_ns - t_ns[-1]) <= _GRAVITY_WAIT_NS))[-MOST_HELD:]
    near = np.flatnonzero(ready)
    total = np.empty((0, 3))
    if len(near):
        after = np.searchsorted(known_ns, t_ns[near])
        distance = np.minimum(known_ns[after] - t_ns[near], t_ns[near] - known_ns[np.maximum(after - 1, 0)])
        near = near[np.abs(distance) <= _GRAVITY_REACH_NS]
        # Counted from the first: a double has no room for the ns of today's times.
        at, grid = (times - known_ns[0] for times in (t_ns[near], known_ns))
        total = values[near] + np.stack([np.interp(at, grid, known[:, axis]) for axis in range(3)], axis=1)
    lost = len(t_ns) - len(near) - len(waiting)
    t_near = t_ns[near]
    acc.linear.put(t_ns[waiting], values[waiting])
    if lost:
        taken.error = PayloadError(
            RejectReason.GRAVITY,
            f"{sender}: {lost} readings of acceleration without gravity, and none of gravity within "
            f"{_GRAVITY_REACH_NS / 1e9:g} s; expected Gravity switched on too, or acceleration that has it in",
        )
    return t_near, total


def _keep_gravity(acc: Acceleration, gravity: Stream) -> None:
    """Put readings of gravity behind those kept, in order of time, each time once."""
    before_ns, _ = acc.gravity.read()
    # A clock that was set back makes those before worthless.
    back = len(before_ns) and int(gravity.t_ns[-1]) < int(before_ns[-1]) - _GRAVITY_WAIT_NS
    t_ns, values = (gravity.t_ns, gravity.values) if back else acc.gravity.with_(gravity.t_ns, gravity.values)
    t_ns, first = np.unique(t_ns, return_index=True)
    kept = slice(max(int(np.searchsorted(t_ns, t_ns[-1] - 2 * _GRAVITY_WAIT_NS)), len(t_ns) - MOST_HELD), None)
    acc.gravity.put(t_ns[kept], values[first][kept])


def _note(acc: Acceleration, unit: int, sign: int, taken: Taken) -> None:
    """Keep what was told of unit and sign, 0 for nothing; told otherwise than before, the watch begins anew."""
    if (unit and acc.unit and unit != acc.unit) or (sign and acc.sign and sign != acc.sign):
        taken.anew |= acc.flows
        acc.flows = False
    acc.unit, acc.sign = unit or acc.unit, sign or acc.sign


def in_si(acc: Acceleration, t_ns: Int64, values: Float64, sender: str) -> Readings | None:
    """Acceleration in m/s² with chips' sign, with what was held before it; None where it is held itself.

    Raises:
        PayloadError: it has no gravity in it, what it is has not been known for too long, or it is too large.
    """
    named = f"{sender}: {SENSORS[acc.sensor].name}"
    if acc.unit == NO_GRAVITY and not acc.doubtful:
        acc.held.clear()
        raise PayloadError(
            RejectReason.GRAVITY,
            f"{named} has no gravity in it; expected acceleration with gravity, or gravity too",
        )
    t_ns, values = acc.held.with_(t_ns, values)
    if not acc.unit or not acc.sign or acc.doubtful:
        kept = np.flatnonzero(np.abs(t_ns - t_ns[-1]) <= HOLD_NS)[-MOST_HELD:]
        acc.held.put(t_ns[kept], values[kept])
        if len(kept) == len(t_ns):
            return None
        raise _unknown(acc, named)
    acc.held.clear()
    values = values * (SCALE[UNITS[acc.unit]] * acc.sign)
    if np.abs(values).max() > MAX_MAGNITUDE:
        raise PayloadError(RejectReason.VALUE_RANGE, f"{named}: expected magnitudes up to {MAX_MAGNITUDE:.0f} m/s²")
    acc.flows = True
    return t_ns, values


def _unknown(acc: Acceleration, named: str) -> PayloadError:
    if not acc.unit or acc.doubtful:
        return PayloadError(
            RejectReason.UNITS, f"{named}: m/s² or g? expected the watch to lie still for two seconds, which shows it"
        )
    advice = "the attitude beside it, as a quaternion"
    if acc.sensor == SensorId.ACCELEROMETER:
        advice = "Orientation switched on in the app, or Total Acceleration or Uncalibrated Values"
    return PayloadError(RejectReason.SIGN, f"{named}: iOS or Android? their signs differ; expected {advice}")
