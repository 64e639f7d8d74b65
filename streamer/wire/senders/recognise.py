"""Whose message it is: by content type, by the topic's end, or by what is in it."""

from __future__ import annotations

from typing import Final

from streamer.wire import topics
from streamer.wire.json_imu import refuse_depth
from streamer.wire.message import Message
from streamer.wire.senders.movesense import decode_movesense, resource_of
from streamer.wire.senders.phyphox import decode_column, decode_phyphox
from streamer.wire.senders.senml import decode_senml_cbor, decode_senml_json
from streamer.wire.senders.sensor_logger import decode_sensor_logger, is_sensor_logger
from streamer.wire.senders.sensor_logger import device_in as device_in_sensor_logger
from streamer.wire.senders.sensorlog import decode_sensorlog, is_sensorlog
from streamer.wire.senders.sensorlog import device_in as device_in_sensorlog
from streamer.wire.senders.streams import Sent

_SPACE: Final = b" \t\r\n"
#: Content types that say what a payload is; application/json and none at all leave it to the payload.
_SENML_JSON: Final = frozenset({"application/senml+json", "application/sensml+json"})
_SENML_CBOR: Final = frozenset({"application/senml+cbor", "application/sensml+cbor"})
_FORM: Final = "application/x-www-form-urlencoded"


def read(message: Message) -> Sent | None:
    """The streams in another program's message, None where it is nobody's that is known here.

    Raises:
        PayloadError: it is somebody's, and unusable.
    """
    tail = topics.below_imu(message.topic)
    resource = resource_of(tail, message.content_type)
    if resource is not None:
        return decode_movesense(topics.device_of(message.topic), message, resource)
    media_type = (message.content_type or "").partition(";")[0].strip().lower()
    first = message.payload.lstrip(_SPACE)[:1]
    if media_type in _SENML_CBOR or (not media_type and first and first[0] >> 5 == 4):
        return decode_senml_cbor(_device(message), message)
    if first in {b"{", b"["}:
        refuse_depth(message.payload)
        return _read_json(message, media_type, is_list=first == b"[")
    if media_type == _FORM:
        return decode_sensorlog(topics.device_of(message.topic), message)
    return decode_column(topics.device_of(message.topic), message, tail) if tail and "/" not in tail else None


def device_in(message: Message) -> str | None:
    """The device that a message of a shared topic names, None where it names none.

    Raises:
        PayloadError: it can't be read.
    """
    if message.payload.lstrip(_SPACE)[:1] in {b"{", b"["}:
        refuse_depth(message.payload)
        if is_sensor_logger(message.payload):
            return device_in_sensor_logger(message.payload)
        if is_sensorlog(message.payload):
            return device_in_sensorlog(message.payload)
    sent = read(message)
    return None if sent is None else sent.device_id


def _read_json(message: Message, media_type: str, *, is_list: bool) -> Sent | None:
    payload = message.payload
    if media_type in _SENML_JSON:
        return decode_senml_json(_device(message), message)
    if not is_list and is_sensor_logger(payload):
        return decode_sensor_logger(_device(message) or topics.named(device_in_sensor_logger(payload)), message)
    if is_sensorlog(payload):
        return decode_sensorlog(_device(message) or topics.named(device_in_sensorlog(payload)), message)
    if is_list:
        return decode_senml_json(_device(message), message)
    return decode_phyphox(topics.device_of(message.topic), message)


def _device(message: Message) -> str | None:
    """The device that the topic names, None where it names none, so that the payload has to."""
    return None if topics.device_level(message.topic) is None else topics.device_of(message.topic)
