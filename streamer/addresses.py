"""Addresses of this machine, and whether one can be reached from others."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from typing import Final

#: Nobody's, for documentation (RFC 5737, RFC 3849): the way to them shows which address others see. Nothing is sent.
_ELSEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address on which something listens.

    >>> is_loopback("127.0.0.2"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("cottage.local")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def way_to(listening: str) -> str:
    """The address at which this machine reaches what listens on one that may stand for all of them.

    >>> way_to("0.0.0.0"), way_to("::"), way_to("192.0.2.7")
    ('127.0.0.1', '::1', '192.0.2.7')
    """
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listening, listening)  # noqa: S104 # compared, not bound


def own_addresses(listening: str) -> list[str]:
    """Addresses at which others reach what listens on one, the likeliest first; empty where none is known."""
    if listening not in {"0.0.0.0", "::"}:  # noqa: S104 # compared, not bound
        return [listening]
    found: list[str] = []
    for family, elsewhere in _ELSEWHERE if listening == "::" else _ELSEWHERE[:1]:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            found.append(str(probe.getsockname()[0]))
    with suppress(OSError):
        family = socket.AF_UNSPEC if listening == "::" else socket.AF_INET
        entries = socket.getaddrinfo(socket.gethostname(), None, family, socket.SOCK_STREAM)
        found += [str(address[0]) for *_, address in entries]
    # A link-local address wants a zone, which apps have no field for.
    return [a for a in dict.fromkeys(found) if not (is_loopback(a) or ipaddress.ip_address(a).is_link_local)]
