"""An MQTT 5 client that does what a watch or a reader of events should: keep what is not acknowledged, and come back.

Small on purpose, and not one of the libraries under test: publications of QoS 1 stay until their PUBACK and are sent
again in their order after each reconnect; received messages are acknowledged once they were handed over; the session
outlives the connection. Nothing blocks: `step` does what can be done now.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from simulator.load_packets import PUBACK, PUBLISH, packets
from tests.servers import HOST

_CONNECT: Final = 0x10
_CONNACK: Final = 2
_SUBSCRIBE: Final = 0x82
_SUBACK: Final = 9
_DUP: Final = 0x08
#: PUBLISH with QoS 1.
_QOS_1: Final = 0x32
_CLEAN_START: Final = 0x02
_SESSION_EXPIRY_S: Final = 3600
_CONTENT_TYPE: Final = 3
#: Unacknowledged at once: Mosquitto's stock Receive Maximum.
_IN_FLIGHT: Final = 20
_RETRY_S: Final = 0.05
_CONNACK_WITHIN_S: Final = 2.0
_RECEIVE_BYTES: Final = 1 << 18


class Peer:
    """A client of a broker on loopback that may come and go.

    State: the connection, if any; publications not yet sent or not yet acknowledged.
    """

    def __init__(
        self,
        port: int,
        client_id: str,
        *,
        take: Callable[[str, bytes], None] | None = None,
        filters: Sequence[str] = (),
    ) -> None:
        """Nothing is connected yet.

        Args:
            port: the broker's.
            client_id: fixed, as the session is kept.
            take: takes topic and payload of each message received.
            filters: what to subscribe to, QoS 1.
        """
        self._port = port
        self._client_id = client_id
        self._take = take
        self._filters = filters
        self._socket: socket.socket | None = None
        self._arrived = bytearray()
        self._unsent = bytearray()
        self._next_try_s = 0.0
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._in_flight: dict[int, tuple[bytes, bytes]] = {}
        self._identifier = 0
        self._connected = False
        self.subscribed = not filters

    @property
    def unacknowledged(self) -> int:
        """Publications that the broker has not confirmed."""
        return len(self._waiting) + len(self._in_flight)

    @property
    def connected(self) -> bool:
        """Whether a session stands."""
        return self._connected

    def fileno(self) -> int:
        """For select; -1 without a connection."""
        return -1 if self._socket is None else self._socket.fileno()

    def publish(self, topic: str, payload: bytes, content_type: str | None = None) -> None:
        """Publish with QoS 1, as soon as may be."""
        properties = b""
        if content_type:
            properties = bytes([_CONTENT_TYPE]) + _text(content_type)
        self._waiting.append((_text(topic), _length(len(properties)) + properties + payload))

    def step(self) -> None:
        """Connect, receive and send what can be without waiting."""
        if self._socket is None and time.monotonic() >= self._next_try_s:
            self._connect()
        if self._socket is None:
            return
        try:
            self._receive()
            if self._connected:
                while self._waiting and len(self._in_flight) < _IN_FLIGHT:
                    self._send_next()
            self._send()
            if not self._connected and time.monotonic() > self._next_try_s + _CONNACK_WITHIN_S:
                self.drop()
        except OSError:
            self.drop()

    def drop(self) -> None:
        """Lose the connection, as a watch that walks out of reach."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._connected = False
        self._arrived.clear()
        self._unsent.clear()
        self._next_try_s = time.monotonic() + _RETRY_S

    def _connect(self) -> None:
        try:
            self._socket = socket.create_connection((HOST, self._port), timeout=1)
        except OSError:
            self._next_try_s = time.monotonic() + _RETRY_S
            return
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(0)
        self._next_try_s = time.monotonic()
        expiry = b"\x11" + _SESSION_EXPIRY_S.to_bytes(4, "big")
        body = _text("MQTT") + b"\x05\x00" + bytes(2) + _length(len(expiry)) + expiry + _text(self._client_id)
        self._unsent += bytes([_CONNECT]) + _length(len(body)) + body

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("closed by the broker")
        self._arrived += data
        for first, body in packets(self._arrived):
            kind = first >> 4
            if kind == PUBACK:
                self._in_flight.pop(int.from_bytes(body[:2], "big"), None)
            elif kind == PUBLISH:
                self._receive_publish(first, body)
            elif kind == _SUBACK:
                self.subscribed = True
            elif kind == _CONNACK:
                self._resume(body)

    def _resume(self, body: bytes) -> None:
        if body[1]:
            raise ConnectionError(f"refused with reason code {body[1]}")
        self._connected = True
        if self._filters:
            requests = b"".join(_text(f) + b"\x01" for f in self._filters)
            self._packet(_SUBSCRIBE, b"\xff\xff" + b"\x00" + requests)
        for identifier, (topic, rest) in self._in_flight.items():
            self._packet(_QOS_1 | _DUP, topic + identifier.to_bytes(2, "big") + rest)

    def _receive_publish(self, first: int, body: bytes) -> None:
        end = 2 + int.from_bytes(body[:2], "big")
        topic = body[2:end].decode()
        identifier = body[end : end + 2] if first & 0x06 else b""
        at = end + len(identifier)
        # Properties of events are shorter than 128 bytes.
        payload = body[at + 1 + body[at] :]
        if self._take is not None:
            self._take(topic, payload)
        if identifier:
            self._packet(PUBACK << 4, identifier)

    def _send_next(self) -> None:
        topic, rest = self._waiting.popleft()
        self._identifier = self._identifier % 60_000 + 1
        self._in_flight[self._identifier] = topic, rest
        self._packet(_QOS_1, topic + self._identifier.to_bytes(2, "big") + rest)

    def _send(self) -> None:
        assert self._socket is not None
        if self._unsent:
            with suppress(BlockingIOError):
                del self._unsent[: self._socket.send(self._unsent)]

    def _packet(self, first: int, body: bytes) -> None:
        self._unsent += bytes([first]) + _length(len(body)) + body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _length(number: int) -> bytes:
    """MQTT's variable byte integer."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
