"""A client's first packet, CONNECT, as far as it must be understood before anything else looks at the connection.

Source: MQTT 3.1.1, section 3.1, and MQTT 5, section 3.1.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

_CONNECT: Final = 0x10
#: Levels that have the layout below: 3 is MQTT 3.1, 4 is 3.1.1.
_LEVELS: Final = (3, 4)
_WILL, _PASSWORD, _USERNAME = 0x04, 0x40, 0x80


@dataclass(frozen=True, slots=True)
class Account:
    """Who is let in."""

    username: str
    password: str

    def admits(self, packet: bytes) -> bool:
        r"""Whether a whole CONNECT packet carries this name and password; a packet that is none does not.

        >>> packet = b"\x10\x14\x00\x04MQTT\x04\xc2\x00\x0a\x00\x00\x00\x02me\x00\x02pw"
        >>> Account("me", "pw").admits(packet), Account("me", "other").admits(packet)
        (True, False)
        """
        try:
            username, password = credentials_of(packet)
        except ValueError:
            return False
        # Both are compared, and in constant time: how long it takes tells nothing of either.
        right = (
            hmac.compare_digest(username or b"", self.username.encode()),
            hmac.compare_digest(password or b"", self.password.encode()),
        )
        return all(right)


def credentials_of(packet: bytes) -> tuple[bytes | None, bytes | None]:
    """User name and password in a whole CONNECT packet of MQTT 3.1 or 3.1.1, None where it has none.

    Raises:
        ValueError: it is no such packet.
    """
    length, begin = remaining_length(packet)
    if packet[0] != _CONNECT or len(packet) != begin + length:
        raise ValueError("no CONNECT packet")
    _, rest = _string(packet[begin:])
    # Protocol level, flags, and two bytes of keep-alive.
    if len(rest) < 4 or rest[0] not in _LEVELS:
        raise ValueError("no CONNECT packet of MQTT 3.1 or 3.1.1")
    flags, rest = rest[1], rest[4:]
    _, rest = _string(rest)  # client identifier
    if flags & _WILL:
        _, rest = _string(rest)
        _, rest = _string(rest)
    username = password = None
    if flags & _USERNAME:
        username, rest = _string(rest)
    if flags & _PASSWORD:
        password, rest = _string(rest)
    return username, password


def remaining_length(packet: bytes) -> tuple[int, int]:
    """Length that a packet's header announces, and where what it counts begins.

    Raises:
        ValueError: the header is not whole.
    """
    length = 0
    for number, byte in enumerate(packet[1:5]):
        length |= (byte & 0x7F) << 7 * number
        if not byte & 0x80:
            return length, number + 2
    raise ValueError("no header of an MQTT packet")


def _string(data: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(data[:2], "big")
    if len(data) < end:
        raise ValueError("a field reaches beyond its packet")
    return data[2:end], data[end:]
