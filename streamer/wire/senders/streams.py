"""What other programs' messages are made of: streams of one sensor each, and what is documented about that sensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from streamer.errors import PayloadError, RejectReason
from streamer.imu import STANDARD_GRAVITY
from streamer.wire.message import Message
from streamer.wire.readings import MAX_MAGNITUDE, MAX_READINGS, MAX_T_NS

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: total: acceleration with gravity in it; linear: without; gravity: that alone; rate: angular rate.
Kind = Literal["total", "linear", "gravity", "rate"]
Unit = Literal["m/s²", "g", "rad/s", "deg/s"]
#: Of acceleration: a watch at rest, face up, reads +g on z with 1, as chips and Android have it, -g with -1, as Apple.
Sign = Literal[1, -1]

SCALE: Final[dict[Unit, float]] = {"m/s²": 1.0, "g": STANDARD_GRAVITY, "rad/s": 1.0, "deg/s": float(np.pi / 180)}


class SensorId(IntEnum):
    """The sensors of other programs; their numbers stand in the state of watches."""

    WRIST = 0
    WRIST_RATE = 1
    TOTAL_ACCELERATION = 2
    UNCALIBRATED = 3
    ACCELEROMETER = 4
    GRAVITY = 5
    GYROSCOPE = 6
    GYROSCOPE_UNCALIBRATED = 7
    SENSORLOG = 8
    SENSORLOG_MOTION = 9
    SENSORLOG_GYRO = 10
    SENSORLOG_RATE = 11
    PHYPHOX = 12
    PHYPHOX_LINEAR = 13
    PHYPHOX_GRAVITY = 14
    PHYPHOX_GYROSCOPE = 15
    MOVESENSE = 16
    MOVESENSE_GYRO = 17
    SENML = 18
    SENML_UNSTATED = 19
    SENML_LINEAR = 20
    SENML_GRAVITY = 21
    SENML_RATE = 22
    SENML_RATE_DEG = 23


@dataclass(frozen=True, slots=True)
class Sensor:
    """What is documented about one sensor of one program.

    Attributes:
        format: the program.
        name: the sensor, as the program calls it.
        kind: what it measures.
        unit: None where it has to be told from the readings.
        sign: None where it has to be told from the message.
        sure: the documentation vouches for the kind; False where whoever sets up the sender names it.
        rank: of the sensors of one program that measure the same, the one of the lowest rank is used.
        wrist: on the wrist, while the program's others are in the phone.
    """

    format: str
    name: str
    kind: Kind
    unit: Unit | None = None
    sign: Sign | None = 1
    sure: bool = True
    rank: int = 0
    wrist: bool = False


_LOGGER: Final = "Sensor Logger"
SENSORS: Final[dict[SensorId, Sensor]] = {
    SensorId.WRIST: Sensor(_LOGGER, "wrist motion", "total", None, None, wrist=True),
    SensorId.WRIST_RATE: Sensor(_LOGGER, "wrist motion", "rate", "rad/s", wrist=True),
    SensorId.TOTAL_ACCELERATION: Sensor(_LOGGER, "totalacceleration", "total", "m/s²", rank=1),
    SensorId.UNCALIBRATED: Sensor(_LOGGER, "accelerometeruncalibrated", "total", None, None, rank=2),
    SensorId.ACCELEROMETER: Sensor(_LOGGER, "accelerometer and gravity", "linear", "m/s²", None, rank=3),
    SensorId.GRAVITY: Sensor(_LOGGER, "gravity", "gravity", "m/s²", None),
    SensorId.GYROSCOPE: Sensor(_LOGGER, "gyroscope", "rate", "rad/s"),
    SensorId.GYROSCOPE_UNCALIBRATED: Sensor(_LOGGER, "gyroscopeuncalibrated", "rate", "rad/s", rank=1),
    SensorId.SENSORLOG: Sensor("SensorLog", "accelerometer", "total", "g", -1),
    SensorId.SENSORLOG_MOTION: Sensor("SensorLog", "motion", "total", "g", -1, rank=1),
    SensorId.SENSORLOG_GYRO: Sensor("SensorLog", "gyro", "rate", "rad/s"),
    SensorId.SENSORLOG_RATE: Sensor("SensorLog", "motion", "rate", "rad/s", rank=1),
    SensorId.PHYPHOX: Sensor("phyphox", "accelerometer", "total", "m/s²", sure=False),
    SensorId.PHYPHOX_LINEAR: Sensor("phyphox", "linear_acceleration and gravity", "linear", "m/s²", rank=1),
    SensorId.PHYPHOX_GRAVITY: Sensor("phyphox", "gravity", "gravity", "m/s²"),
    SensorId.PHYPHOX_GYROSCOPE: Sensor("phyphox", "gyroscope", "rate", "rad/s"),
    SensorId.MOVESENSE: Sensor("Movesense", "ArrayAcc", "total", "m/s²"),
    SensorId.MOVESENSE_GYRO: Sensor("Movesense", "ArrayGyro", "rate", "deg/s"),
    SensorId.SENML: Sensor("SenML", "acceleration", "total", "m/s²", sure=False),
    SensorId.SENML_UNSTATED: Sensor("SenML", "acceleration", "total", None, sure=False, rank=1),
    SensorId.SENML_LINEAR: Sensor("SenML", "linear acceleration and gravity", "linear", "m/s²", rank=2),
    SensorId.SENML_GRAVITY: Sensor("SenML", "gravity", "gravity", "m/s²"),
    SensorId.SENML_RATE: Sensor("SenML", "angular rate", "rate", "rad/s"),
    SensorId.SENML_RATE_DEG: Sensor("SenML", "angular rate", "rate", "deg/s"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Readings of one sensor in one message.

    Attributes:
        sensor: which.
        t_ns: (n,) int64, in the order of arrival; see `Sent.start_ns`.
        values: (n, 3) float64, in the sender's unit and sign.
        unit: what the message or the documentation says, None where neither does.
        sign: likewise.
    """

    sensor: SensorId
    t_ns: Int64
    values: Float64
    unit: Unit | None = None
    sign: Sign | None = None

    def __len__(self) -> int:
        return len(self.t_ns)

    def shifted(self, by_ns: int) -> Stream:
        """The same readings at other times."""
        return replace(self, t_ns=self.t_ns + by_ns)


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """What another program's message holds.

    Attributes:
        message: the message itself.
        device_id: the watch.
        format: the program.
        streams: none where the message holds nothing at all.
        column: a name and (n,) values, where a message is one column of a table that comes in several.
        start_ns: when the sender's clock was 0, by this message; None where times are of the UTC epoch.
        seq: the sender's message counter.
    """

    message: Message
    device_id: str
    format: str
    streams: tuple[Stream, ...] = ()
    column: tuple[str, Float64] | None = None
    start_ns: int | None = None
    seq: int | None = None

    def __len__(self) -> int:
        """Readings, which make a name known."""
        return len(self.column[1]) // 4 + 1 if self.column else sum(len(stream) for stream in self.streams)

    def without_payload(self) -> Sent:
        """The same, for waiting: a payload may hold a great deal that is not read."""
        return replace(self, message=Message(self.message.topic, b""))


def stream(
    sensor: SensorId,
    t_ns: Int64 | Sequence[int],
    values: Float64 | Sequence[Sequence[float]],
    *,
    unit: Unit | None = None,
    sign: Sign | None = None,
) -> Stream:
    """A stream whose times and values are checked.

    Raises:
        PayloadError: too many readings, times or values beyond the limits of `streamer.wire.readings`.
    """
    known = SENSORS[sensor]
    if len(t_ns) > MAX_READINGS:
        raise PayloadError(
            RejectReason.OVERSIZE, f"{known.name}: {len(t_ns)} readings, expected {MAX_READINGS} at most"
        )
    times = int_times(known.name, t_ns)
    array = np.array(values, np.float64).reshape(-1, 3)
    if not np.isfinite(array).all():
        raise PayloadError(RejectReason.NON_FINITE, f"{known.name}: NaN or infinity, expected finite values")
    if np.abs(array).max(initial=0.0) > MAX_MAGNITUDE:
        raise PayloadError(RejectReason.VALUE_RANGE, f"{known.name}: expected magnitudes up to {MAX_MAGNITUDE:.0f}")
    if len(array) != len(times):
        raise PayloadError(RejectReason.SHAPE, f"{known.name}: {len(times)} times, {len(array)} readings")
    return Stream(sensor, times, array, unit or known.unit, sign or known.sign)


def int_times(name: str, t_ns: Int64 | Sequence[int]) -> Int64:
    """Times as (n,) int64.

    Raises:
        PayloadError: one is out of range.
    """
    try:
        times = np.array(t_ns, np.int64)
    except OverflowError:
        times = np.full(1, -1, np.int64)
    if len(times) and times.view(np.uint64).max() >= MAX_T_NS:
        raise PayloadError(RejectReason.TIME_RANGE, f"{name}: expected times from 1970 to 2116")
    return times


def seconds(name: str, at_s: float) -> int:
    """Seconds as nanoseconds.

    Raises:
        PayloadError: not finite or out of range.
    """
    # NaN fails any comparison.
    if not abs(at_s) * 1e9 < MAX_T_NS:
        raise PayloadError(RejectReason.TIME_RANGE, f"{name}: expected times from 1970 to 2116")
    # Apart, for a double has no room for both.
    whole = int(at_s)
    return whole * 1_000_000_000 + round((at_s - whole) * 1e9)


def unit_of(gravity: Float64) -> Unit | None:
    """The unit of (n, 3) readings of gravity alone: what its length is; None where it is neither.

    >>> [unit_of(np.array([[0.0, y, z]])) for y, z in ((0.6, -0.8), (9.8, 0.0), (0.1, 0.0))]
    ['g', 'm/s²', None]
    """
    length = float(np.median(np.sqrt((gravity**2).sum(axis=1)))) if len(gravity) else 0.0
    if abs(length - 1.0) < 0.1:
        return "g"
    return "m/s²" if abs(length - STANDARD_GRAVITY) < 0.1 * STANDARD_GRAVITY else None


#: How columns of accelerations and rates are called where whoever sets up the sender names them: without case, and
#: without what is no letter or digit.
_NAMES: Final[dict[str, Kind]] = {
    **dict.fromkeys(
        ("acc", "accel", "accelerometer", "acceleration", "accg", "totalacc", "totalacceleration"), "total"
    ),
    **dict.fromkeys(("lin", "linacc", "linear", "linearacceleration", "linearacc", "accnog", "useracc"), "linear"),
    **dict.fromkeys(("grav", "gravity"), "gravity"),
    **dict.fromkeys(("gyr", "gyro", "gyroscope", "rot", "rotation", "rotationrate", "angularrate", "omega"), "rate"),
}
_TIMES: Final = {"t": "t", "time": "t", "timestamp": "t"}


def column_of(name: str) -> tuple[Kind | None, str] | None:
    """What a column of a sender's own naming holds: a kind and an axis, or t; None where that is not known.

    A kind of None goes with a time that is all sensors' own.

    >>> column_of("accX"), column_of("gyr_y"), column_of("acc_time"), column_of("t"), column_of("pressure")
    (('total', 'x'), ('rate', 'y'), ('total', 't'), (None, 't'), None)
    """
    plain = "".join(letter for letter in name.lower() if letter.isascii() and letter.isalnum())
    if plain in _TIMES:
        return None, "t"
    for ending in ("timestamp", "time", "t", "x", "y", "z"):
        kind = _NAMES.get(plain.removesuffix(ending)) if plain.endswith(ending) else None
        if kind is not None:
            return kind, _TIMES.get(ending, ending)
    return None
