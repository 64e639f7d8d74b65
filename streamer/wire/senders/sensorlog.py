"""SensorLog (Bernd Thomas) for iPhone and Apple Watch: JSON objects, or lists of them, numbers as text.

    {"loggingTime": "2021-10-21 20:43:47.013 -0400", "deviceID": "my_iOS_device",
     "accelerometerTimestamp_sinceReboot": "178223.651375", "accelerometerAccelerationX": "0.002167", ...,
     "gyroTimestamp_sinceReboot": "178223.738465", "gyroRotationX": "-0.011401", ...,
     "motionTimestamp_sinceReboot": "178223.266936", "motionUserAccelerationX": ..., "motionGravityX": ...,
     "motionRotationRateX": ...}

Accelerations are in g with Apple's sign, angular rates in rad/s: the header of its log files says so, whose columns are
`accelerometerAccelerationX(G)`, `gyroRotationX(rad/s)` and so on; names with and without the unit are read. Raw
acceleration has gravity in it; of `motion`, user acceleration and gravity are added.

Each sensor has a time of its own, in seconds since the device was started; `loggingTime` says when a row was written.
The difference of the two is when the device was started, but for a jitter of a second or so, which is why a watch keeps
the first one (`streamer.sources`). Rows without such times have that of their writing.

Sources: sensorlog.berndthomas.net with its example logs, whose header is also in many publications' scripts; no
document of the JSON form is known, so that form is after published examples: a row of version 5 as above, one of
December 2025 with `loggingTime` as 2025-12-29T13:13:06.981-06:00.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from streamer.errors import PayloadError, RejectReason
from streamer.wire.message import Message
from streamer.wire.readings import MAX_READINGS
from streamer.wire.senders.streams import SensorId, Sent, Stream, seconds, stream

FORMAT: Final = "SensorLog"
_FORM: Final = "application/x-www-form-urlencoded"

#: Time, and the columns of x; those of y and z are called alike. Several are added.
_SENSORS: Final = {
    SensorId.SENSORLOG: ("accelerometerTimestamp_sinceReboot", ("accelerometerAcceleration",)),
    SensorId.SENSORLOG_MOTION: ("motionTimestamp_sinceReboot", ("motionUserAcceleration", "motionGravity")),
    SensorId.SENSORLOG_GYRO: ("gyroTimestamp_sinceReboot", ("gyroRotation",)),
    SensorId.SENSORLOG_RATE: ("motionTimestamp_sinceReboot", ("motionRotationRate",)),
}
_KEYS: Final = tuple(f"{prefix}X".encode() for _, prefixes in _SENSORS.values() for prefix in prefixes)
_UNIT: Final = re.compile(r"\([^)]*\)$")
_ZONE: Final = re.compile(r"\s*([+-]\d\d):?(\d\d)$")

_Row = dict[str, str | int | float | bool | None]


class _Named(msgspec.Struct):
    deviceID: str | None = None  # noqa: N815 - the sender's name


_rows = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[dict[str, msgspec.Raw]])
_value = msgspec.json.Decoder(str | int | float | bool | None)
_named = msgspec.json.Decoder(_Named | list[_Named])


def is_sensorlog(payload: bytes) -> bool:
    """Whether a payload has columns of SensorLog's."""
    return any(key in payload for key in _KEYS)


def device_in(payload: bytes) -> str | None:
    """The device that a message names, None where it names none.

    Raises:
        PayloadError: it isn't JSON.
    """
    try:
        named = _named.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadError(RejectReason.JSON, f"SensorLog: {error!s:.200}") from None
    first = named if isinstance(named, _Named) else named[0] if named else None
    return None if first is None else first.deviceID


def decode_sensorlog(device_id: str, message: Message) -> Sent:
    """The streams in rows of SensorLog.

    Raises:
        PayloadError: a row is not as documented.
    """
    rows = _read(message)
    start_ns: int | None = None
    for row in rows:
        start_ns = _start_ns(row)
        if start_ns is not None:
            break
    uses_start = any(isinstance(row.get(time), str | int | float) for row in rows for time, _ in _SENSORS.values())
    streams = tuple(
        one
        for sensor, (time, prefixes) in _SENSORS.items()
        if (one := _stream(rows, sensor, time if uses_start else None, prefixes)) is not None
    )
    if not streams:
        raise PayloadError(
            RejectReason.SENSORS,
            f"SensorLog of {device_id} sends no motion; expected Accelerometer and Gyroscope, or Motion, switched on",
        )
    return Sent(message, device_id, FORMAT, streams, start_ns=(start_ns or 0) if uses_start else None)


def _read(message: Message) -> list[_Row]:
    try:
        if (message.content_type or "").partition(";")[0].strip().lower() == _FORM:
            text = message.payload.decode()
            return [{_UNIT.sub("", key): value for key, value in parse_qsl(text, max_num_fields=1000)}]
        document = _rows.decode(message.payload)
        objects = document if isinstance(document, list) else [document]
        if len(objects) > MAX_READINGS:
            raise PayloadError(RejectReason.OVERSIZE, f"SensorLog: {len(objects)} rows; expected {MAX_READINGS}")
        wanted = {"loggingTime"} | {time for time, _ in _SENSORS.values()}
        wanted |= {f"{prefix}{axis}" for _, prefixes in _SENSORS.values() for prefix in prefixes for axis in "XYZ"}
        return [
            {plain: _value.decode(raw) for key, raw in row.items() if (plain := _UNIT.sub("", key)) in wanted}
            for row in objects
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise PayloadError(RejectReason.SCHEMA, f"SensorLog: {error!s:.200}") from None


def _stream(rows: Sequence[_Row], sensor: SensorId, time: str | None, prefixes: Sequence[str]) -> Stream | None:
    t_ns: list[int] = []
    values: list[tuple[float, ...]] = []
    for row in rows:
        parts = [[_number(row, f"{prefix}{axis}") for axis in "XYZ"] for prefix in prefixes]
        if any(number is None for part in parts for number in part):
            continue
        at = _written_ns(row) if time is None else _seconds(row, time)
        if at is None:
            continue
        t_ns.append(at)
        values.append(tuple(sum(number or 0.0 for number in axis) for axis in zip(*parts, strict=True)))
    return stream(sensor, t_ns, values) if t_ns else None


def _number(row: Mapping[str, object], name: str) -> float | None:
    value = row.get(name)
    if value is None or value in ("", "null") or isinstance(value, bool):
        return None
    try:
        return float(value)  # type: ignore[arg-type] # text or a number
    except ValueError:
        raise PayloadError(RejectReason.SCHEMA, f"SensorLog: {name} is {value!r:.40}; expected a number") from None


def _seconds(row: Mapping[str, object], name: str) -> int | None:
    at_s = _number(row, name)
    return None if at_s is None else seconds(name, at_s)


def _written_ns(row: Mapping[str, object]) -> int | None:
    """When a row was written, by its text with the offset from UTC."""
    text = row.get("loggingTime")
    if not isinstance(text, str) or not text:
        return None
    try:
        written = datetime.fromisoformat(_ZONE.sub(r"\1:\2", text.strip()))
    except ValueError:
        raise PayloadError(RejectReason.SCHEMA, f"SensorLog: loggingTime is {text!r:.40}; expected a date") from None
    if written.tzinfo is None:
        raise PayloadError(
            RejectReason.SCHEMA, f"SensorLog: loggingTime is {text!r:.40}; expected one with an offset from UTC"
        )
    since = written - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _start_ns(row: Mapping[str, object]) -> int | None:
    """When the device was started, by one row."""
    written_ns = _written_ns(row)
    since = [at for time in {time for time, _ in _SENSORS.values()} if (at := _seconds(row, time)) is not None]
    return None if written_ns is None or not since else written_ns - max(since)
