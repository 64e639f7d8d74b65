"""Payloads of readings: which format a message is in, and the one door through which bytes become readings.

har-stream's own formats are tried first and cost nothing more for the others' being there. They are SI by definition;
what another program sent is a `Sent`, whose units `streamer.sources` settles.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from streamer.errors import PayloadError, RejectReason
from streamer.imu import ImuBatch
from streamer.wire import topics
from streamer.wire.cbor_imu import decode_cbor, encode_cbor
from streamer.wire.json_imu import decode_json, encode_json
from streamer.wire.message import Message
from streamer.wire.readings import MAX_READINGS
from streamer.wire.senders import recognise
from streamer.wire.senders.streams import Sent

__all__ = ["CONTENT_TYPES", "MAX_BYTES", "Message", "Sent", "decode", "device_in", "encode_cbor", "encode_json", "read"]

#: Bytes that one message may have. The longest legal one, 10,000 readings of both sensors, takes 480 kB as float64
#: and 1.2 MB as JSON of all digits, which has to be cut in two.
MAX_BYTES: Final = 1_000_000


#: MQTT 5 content type of each format.
CONTENT_TYPES: Final = {"json": "application/json", "cbor": "application/cbor"}


#: Refusals of a message that may be another program's.
_NOT_OURS: Final = frozenset({RejectReason.TOPIC, RejectReason.FORMAT, RejectReason.SCHEMA})


def read(message: Message) -> ImuBatch | Sent:
    """The readings in a message, of whatever format.

    Raises:
        PayloadError: the message is unusable, for whatever reason; nothing else is ever raised for a message.
    """
    try:
        return decode(topics.device_of(message.topic), message.payload, message.content_type)
    except PayloadError as error:
        if error.reason in _NOT_OURS:
            sent = _read_sent(message)
            if sent is not None:
                return sent
        raise


@np.errstate(all="ignore")
def _read_sent(message: Message) -> Sent | None:
    if len(message.payload) > MAX_BYTES:
        return None
    return recognise.read(message)


def device_in(message: Message) -> str | None:
    """The device that a message of a topic without one names, None where it names none.

    Raises:
        PayloadError: it can't be read.
    """
    return recognise.device_in(message)


@np.errstate(all="ignore")  # NaN and infinity are looked for, not stumbled over
def decode(
    device_id: str,
    payload: bytes,
    content_type: str | None = None,
    *,
    max_bytes: int = MAX_BYTES,
    max_readings: int = MAX_READINGS,
) -> ImuBatch:
    """The readings in a message: contiguous arrays that share no writable memory with anything.

    The format follows from the content type, if there is one, else from the first byte: a brace opens JSON, a map
    (major type 5) is CBOR.

    Args:
        device_id: whom the topic names.
        payload: the message.
        content_type: of MQTT 5; parameters after a semicolon are ignored.
        max_bytes: largest payload.
        max_readings: most readings in it.

    Raises:
        PayloadError: the message is unusable, for whatever reason; nothing else is ever raised for a payload.
    """
    if len(payload) > max_bytes:
        raise PayloadError(RejectReason.OVERSIZE, f"payload of {len(payload)} bytes: expected at most {max_bytes}")
    if content_type:
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type == "application/json":
            return decode_json(device_id, payload, max_readings=max_readings)
        if media_type == "application/cbor":
            return decode_cbor(device_id, payload, max_readings=max_readings)
        raise PayloadError(
            RejectReason.FORMAT, f"content type {media_type!r:.100}: expected application/json or application/cbor"
        )
    first = payload[0] if payload else 0
    if first >> 5 == 5:
        return decode_cbor(device_id, payload, max_readings=max_readings)
    if payload.lstrip(b" \t\r\n")[:1] == b"{":
        return decode_json(device_id, payload, max_readings=max_readings)
    raise PayloadError(RejectReason.FORMAT, f"first byte 0x{first:02x}: expected a JSON object or a CBOR map")
