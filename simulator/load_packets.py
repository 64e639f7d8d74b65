"""The few packets of MQTT 3.1.1 that the load generator writes and reads itself; bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

#: Packet types, upper half of a packet's first byte (MQTT 3.1.1, 2.2.1).
PUBLISH: Final = 3
PUBACK: Final = 4


def publish_header(topic_bytes: int, payload_bytes: int, qos: int) -> bytes:
    """What stands before the topic in a PUBLISH packet; behind it come, for QoS 1, two bytes of packet identifier.

    >>> (publish_header(3, 4, 0) + b"a/b" + b"text").hex(" ")
    '30 09 00 03 61 2f 62 74 65 78 74'
    """
    remaining = 2 + topic_bytes + (2 if qos else 0) + payload_bytes
    header = bytearray([PUBLISH << 4 | qos << 1])
    # Seven bits to a byte, the lowest first; the eighth says that more follow (MQTT 3.1.1, 2.2.3).
    while remaining > 127:
        header.append(remaining & 127 | 128)
        remaining >>= 7
    header.append(remaining)
    return bytes(header) + topic_bytes.to_bytes(2, "big")


def packets(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    r"""Take the whole packets off a buffer's front: first byte, and what follows the length.

    >>> buffer = bytearray(bytes.fromhex("30 09 00 03 61 2f 62 74 65 78 74") + bytes.fromhex("40 02 00"))
    >>> list(packets(buffer)), buffer.hex()
    ([(48, b'\x00\x03a/btext')], '400200')
    """
    data, begin, size = bytes(buffer), 0, len(buffer)
    try:
        while size - begin >= 2:
            length, shift, at = 0, 0, begin + 1
            while at < size:
                byte = data[at]
                length |= (byte & 127) << shift
                shift += 7
                at += 1
                if byte < 128:
                    break
            else:
                break
            if at + length > size:
                break
            first = data[begin]
            begin = at + length
            yield first, data[at:begin]
    finally:
        del buffer[:begin]


def published(body: bytes) -> bytes:
    """The payload of a PUBLISH packet of QoS 0."""
    return body[2 + int.from_bytes(body[:2], "big") :]
