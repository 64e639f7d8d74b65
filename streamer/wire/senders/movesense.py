"""Movesense: notifications of the GATT SensorData Protocol (GSP), as a gateway receives them over Bluetooth.

    02 63  5d 02 00 00  <x y z of each acceleration, float32>  <x y z of each angular rate, float32>
    DATA, reference of the subscription, uint32: ms since the sensor was started; all little endian

What follows the time is the resource's that the gateway subscribed to, which a notification does not name: the gateway
publishes it under the resource's own path,

    har/v1/<device>/imu/Meas/IMU6/52      with Acc, Gyro, IMU6, IMU6m or IMU9 and the rate

or states it in the content type, `application/x-movesense-gsp; resource="/Meas/IMU6/52"`. Several vectors in a row are
evenly spaced at the rate, the first at the time stated; how many follows from the length. ArrayAcc is in m/s², gravity
included, ArrayGyro in degrees per second. Times are counted from 1970, for the sensor knows no date.

A notification that is too long for Bluetooth's packet comes as DATA and DATA_PART2; the gateway lays the second behind
the first, without its two bytes.

Sources: movesense.com/docs/esw/gatt_sensordata_protocol (responses, little endian), the API's acc.yaml, gyro.yaml and
imu.yaml in movesense-device-lib (units, order of arrays, time of the first measurement).
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from streamer.errors import PayloadError, RejectReason
from streamer.wire.message import Message
from streamer.wire.readings import MAX_RATE_HZ, period_ns
from streamer.wire.senders.streams import SensorId, Sent, Stream, stream

FORMAT: Final = "Movesense"
CONTENT_TYPE: Final = "application/x-movesense-gsp"
_RESOURCE: Final = re.compile(r"/?Meas/(Acc|Gyro|IMU6|IMU6m|IMU9)/(\d{1,5})")
_STATED: Final = re.compile(r'resource="?([^";]+)"?', re.IGNORECASE)
#: Arrays of each resource, in order; None for one that is not read.
_ARRAYS: Final[dict[str, tuple[SensorId | None, ...]]] = {
    "Acc": (SensorId.MOVESENSE,),
    "Gyro": (SensorId.MOVESENSE_GYRO,),
    "IMU6": (SensorId.MOVESENSE, SensorId.MOVESENSE_GYRO),
    "IMU6m": (SensorId.MOVESENSE, None),
    "IMU9": (SensorId.MOVESENSE, SensorId.MOVESENSE_GYRO, None),
}
_DATA: Final = 2
_HEAD: Final = 6


def resource_of(topic_tail: str, content_type: str | None) -> str | None:
    """The resource that a topic's end or a content type names, None where neither does."""
    stated = _STATED.search(content_type) if content_type and content_type.lower().startswith(CONTENT_TYPE) else None
    resource = stated[1] if stated else topic_tail
    return resource if _RESOURCE.fullmatch(resource) else None


def decode_movesense(device_id: str, message: Message, resource: str) -> Sent:
    """The streams in a notification.

    Args:
        device_id: the watch.
        message: its payload is the notification.
        resource: what the gateway subscribed to, by `resource_of`.

    Raises:
        PayloadError: it isn't one of data, or its length does not suit the resource.
    """
    named = _RESOURCE.fullmatch(resource)
    if named is None:
        raise PayloadError(RejectReason.FORMAT, f"resource {resource!r:.60}: expected such as Meas/IMU6/52")
    arrays, rate_hz = _ARRAYS[named[1]], int(named[2])
    if not 1 <= rate_hz <= MAX_RATE_HZ:
        raise PayloadError(RejectReason.VALUE_RANGE, f"{resource}: expected a rate of 1 to {MAX_RATE_HZ:.0f} Hz")
    payload = message.payload
    if not payload or payload[0] != _DATA:
        code = payload[0] if payload else 0
        raise PayloadError(
            RejectReason.FORMAT,
            f"GSP response {code} from {device_id}: expected DATA (2), with DATA_PART2 laid behind it",
        )
    n, rest = divmod(len(payload) - _HEAD, 12 * len(arrays))
    if rest or n < 1:
        raise PayloadError(
            RejectReason.SHAPE,
            f"GSP notification of {len(payload)} bytes: expected {_HEAD} and {12 * len(arrays)} for each vector",
        )
    first_ns = int(np.frombuffer(payload, "<u4", 1, 2)[0]) * 1_000_000
    t_ns = first_ns + np.arange(n, dtype=np.int64) * period_ns(rate_hz)
    values = np.frombuffer(payload, "<f4", 3 * n * len(arrays), _HEAD).reshape(len(arrays), n, 3)
    streams: list[Stream] = []
    for sensor, array in zip(arrays, values, strict=True):
        if sensor is not None:
            streams.append(stream(sensor, streams[0].t_ns if streams else t_ns, array))
    return Sent(message, device_id, FORMAT, tuple(streams))
