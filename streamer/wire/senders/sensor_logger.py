"""Sensor Logger (Kelvin Choi) for iOS, Android, Apple Watch and Wear OS: JSON over MQTT and HTTP alike.

    {"messageId": 7, "sessionId": "...", "deviceId": "...", "payload": [
        {"name": "wrist motion", "time": 1698501144401773000, "values": {"rotationRateX": ..., "gravityX": ...,
         "accelerationX": ..., "quaternionW": ...}},
        {"name": "totalacceleration", "time": ..., "values": {"x": ..., "y": ..., "z": ...}}]}

Times are ns since the UTC epoch. `accelerometer` leaves gravity out, `gravity` is the rest; `totalacceleration`, on
Android only, and `accelerometeruncalibrated` have it in. Angular rates are in rad/s throughout.

Units. All accelerations are in m/s², but for `wrist motion` and, on iOS, `accelerometeruncalibrated`: those are in g,
unless "Standardise Units & Frames" is on. `wrist motion` tells by the length of its own gravity.

Sign. iOS and Apple Watch have all axes of accelerations and gravity the other way round, unless "Standardise Units &
Frames" is on. `accelerometeruncalibrated` tells by its unit, for the switch changes both. For `wrist motion`, and
`gravity` where `orientation` comes along, the attitude tells: turned into the device's frame, up is gravity's
direction on Android and the opposite on iOS. One formula holds for both. A published row of Android's `orientation`
(w 0.8363, x 0.2137, y -0.1082, z -0.4932 at pitch -0.4828, roll 0.0336) has its up where pitch and roll say; one of
Core Motion's, whose values the app hands on (w -0.993130, x -0.004572, y -0.000681, z 0.116929 with gravity 0.002421,
-0.008922, -0.999957), has it opposite to gravity. Both are rows of the tests.

Sources: github.com/tszheichoi/awesome-sensor-logger, PUSHING.md (messages), UNITS.md (units), CROSSPLATFORM.md and
COORDINATES.md (sign); issue 20 there for the sign of uncalibrated acceleration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.errors import PayloadError, RejectReason
from streamer.wire.message import Message
from streamer.wire.readings import MAX_READINGS
from streamer.wire.senders.streams import SensorId, Sent, Sign, Stream, stream, unit_of

FORMAT: Final = "Sensor Logger"

_XYZ: Final = {
    "totalacceleration": SensorId.TOTAL_ACCELERATION,
    "accelerometeruncalibrated": SensorId.UNCALIBRATED,
    "accelerometer": SensorId.ACCELEROMETER,
    "gravity": SensorId.GRAVITY,
    "gyroscope": SensorId.GYROSCOPE,
    "gyroscopeuncalibrated": SensorId.GYROSCOPE_UNCALIBRATED,
}
_WRIST: Final = "wristmotion"
_ORIENTATION: Final = "orientation"
_WANTED: Final = {*_XYZ, _WRIST, _ORIENTATION}

#: Cosine between gravity and the attitude's up from which on they are the same line.
_SAME_LINE: Final = 0.95
#: Between a reading of gravity and one of the attitude.
_TOGETHER_NS: Final = 50_000_000

_Float64 = NDArray[np.float64]
#: Times (n,) and values (n, 3), or (n, 4) of attitudes.
_Readings = tuple[NDArray[np.int64], _Float64]


class _Reading(msgspec.Struct, gc=False):
    name: str
    time: int | float
    values: msgspec.Raw = msgspec.Raw(b"{}")


class _Message(msgspec.Struct):
    payload: list[_Reading]
    messageId: int | None = None  # noqa: N815 - the sender's name
    deviceId: str | None = None  # noqa: N815


class _Vector(msgspec.Struct, gc=False):
    x: float
    y: float
    z: float


class _Motion(msgspec.Struct, gc=False, rename="camel"):
    rotation_rate_x: float
    rotation_rate_y: float
    rotation_rate_z: float
    gravity_x: float
    gravity_y: float
    gravity_z: float
    acceleration_x: float
    acceleration_y: float
    acceleration_z: float
    quaternion_w: float | None = None
    quaternion_x: float | None = None
    quaternion_y: float | None = None
    quaternion_z: float | None = None


class _Attitude(msgspec.Struct, gc=False):
    qw: float
    qx: float
    qy: float
    qz: float


class _Named(msgspec.Struct):
    deviceId: str | None = None  # noqa: N815


_message = msgspec.json.Decoder(_Message)
_named = msgspec.json.Decoder(_Named)
_vectors = msgspec.json.Decoder(list[_Vector])
_motions = msgspec.json.Decoder(list[_Motion])
_attitudes = msgspec.json.Decoder(list[_Attitude])


def is_sensor_logger(payload: bytes) -> bool:
    """Whether a JSON object may be Sensor Logger's."""
    return b'"payload"' in payload


def device_in(payload: bytes) -> str | None:
    """The device that a message names, None where it names none.

    Raises:
        PayloadError: it isn't JSON.
    """
    try:
        return _named.decode(payload).deviceId
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong(error) from None


def decode_sensor_logger(device_id: str, message: Message) -> Sent:
    """The streams in a message of Sensor Logger.

    Raises:
        PayloadError: it is not as documented, or holds no motion.
    """
    try:
        document = _message.decode(message.payload)
        named: dict[str, list[_Reading]] = {}
        for reading in document.payload:
            name = reading.name.replace(" ", "").lower()
            if name in _WANTED:
                named.setdefault(name, []).append(reading)
        streams = _streams(named)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong(error) from None
    if document.payload and not streams:
        others = ", ".join(sorted({reading.name for reading in document.payload}))
        raise PayloadError(
            RejectReason.SENSORS,
            f"Sensor Logger of {device_id} sends {others!r:.100}; expected Wrist Motion, or Accelerometer and "
            "Gyroscope, switched on in the app",
        )
    seq = document.messageId
    return Sent(message, device_id, FORMAT, streams, seq=seq if seq is not None and 0 <= seq < 2**63 else None)


def _wrong(error: Exception) -> PayloadError:
    reason = RejectReason.SCHEMA if isinstance(error, msgspec.ValidationError) else RejectReason.JSON
    return PayloadError(reason, f"Sensor Logger: {error!s:.200}")


def _streams(named: dict[str, list[_Reading]]) -> tuple[Stream, ...]:
    if sum(map(len, named.values())) > 4 * MAX_READINGS:
        raise PayloadError(
            RejectReason.OVERSIZE, f"Sensor Logger: expected {MAX_READINGS} readings of a sensor at most"
        )
    found: list[Stream] = []
    if _WRIST in named:
        found += _wrist(named[_WRIST])
    vectors = {
        sensor: (_times(named[name]), _array(_vectors.decode(_raws(named[name]))))
        for name, sensor in _XYZ.items()
        if name in named
    }
    sign: Sign | None = None
    if SensorId.GRAVITY in vectors and _ORIENTATION in named:
        attitude = _array(_attitudes.decode(_raws(named[_ORIENTATION])))
        sign = _sign_beside(vectors[SensorId.GRAVITY], (_times(named[_ORIENTATION]), attitude))
    for sensor, (t_ns, values) in vectors.items():
        told = sign if sensor in {SensorId.GRAVITY, SensorId.ACCELEROMETER} else None
        found.append(stream(sensor, t_ns, values, sign=told))
    return tuple(found)


def _wrist(readings: Sequence[_Reading]) -> list[Stream]:
    motions = _motions.decode(_raws(readings))
    t_ns = _times(readings)
    rows = np.array(
        [
            (
                *(m.rotation_rate_x, m.rotation_rate_y, m.rotation_rate_z),
                *(m.gravity_x, m.gravity_y, m.gravity_z),
                *(m.acceleration_x, m.acceleration_y, m.acceleration_z),
            )
            for m in motions
        ],
        np.float64,
    ).reshape(-1, 9)
    gravity = rows[:, 3:6]
    attitude = np.array(
        [
            (m.quaternion_w, m.quaternion_x, m.quaternion_y, m.quaternion_z)
            for m in motions
            if None not in {m.quaternion_w, m.quaternion_x, m.quaternion_y, m.quaternion_z}
        ],
        np.float64,
    ).reshape(-1, 4)
    sign = _sign(gravity, attitude) if len(attitude) == len(rows) else None
    total = stream(SensorId.WRIST, t_ns, rows[:, 6:] + gravity, unit=unit_of(gravity), sign=sign)
    # The same array of times: both sensors of one reading.
    return [total, replace(stream(SensorId.WRIST_RATE, t_ns, rows[:, :3]), t_ns=total.t_ns)]


def _sign(gravity: _Float64, attitude: _Float64) -> Sign | None:
    """Whether (n, 3) gravity lies along the up of (n, 4) attitudes, w first, or opposite; None where neither."""
    w, x, y, z = attitude.T
    up = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1)
    lengths = np.sqrt((up**2).sum(axis=1) * (gravity**2).sum(axis=1))
    if not len(up) or not lengths.min() > 0:
        return None
    cosine = float(np.median((up * gravity).sum(axis=1) / lengths))
    if abs(cosine) < _SAME_LINE:
        return None
    return 1 if cosine > 0 else -1


def _sign_beside(gravity: _Readings, attitude: _Readings) -> Sign | None:
    """Like `_sign`, of readings with times of their own: each of gravity with the attitude nearest to it."""
    order = np.argsort(attitude[0], kind="stable")
    times = attitude[0][order]
    after = np.clip(np.searchsorted(times, gravity[0]), 1, max(len(times) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(times) - 1)
    nearest = np.where(np.abs(times[after] - gravity[0]) < np.abs(times[before] - gravity[0]), after, before)
    together = np.abs(times[nearest] - gravity[0]) <= _TOGETHER_NS
    return _sign(gravity[1][together], attitude[1][order][nearest[together]])


def _times(readings: Sequence[_Reading]) -> NDArray[np.int64]:
    try:
        return np.array([int(reading.time) for reading in readings], np.int64)
    except (OverflowError, ValueError):
        raise PayloadError(RejectReason.TIME_RANGE, "Sensor Logger: expected times in ns since 1970") from None


def _raws(readings: Sequence[_Reading]) -> bytes:
    return b"[" + b",".join(bytes(reading.values) for reading in readings) + b"]"


def _array(rows: Sequence[_Vector] | Sequence[_Attitude]) -> _Float64:
    return np.array([msgspec.structs.astuple(row) for row in rows], np.float64)
