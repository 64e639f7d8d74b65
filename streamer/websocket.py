"""MQTT over WebSockets, for apps that know nothing else: bytes in and out of a connection that opened as HTTP.

Binary frames carry the bytes of MQTT, however packets lie in them: split over several, or several in one.

Source: RFC 6455; MQTT 3.1.1, section 6.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

from amqtt.adapters import ReaderAdapter, StreamWriterAdapter
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from streamer.addresses import is_loopback

#: The first byte of HTTP's GET, with which no MQTT connection begins: a CONNECT packet's is 0x10.
OPENING: Final = b"G"
_SUBPROTOCOLS: Final = (Subprotocol("mqtt"), Subprotocol("mqttv3.1"))
#: Messages, all fragments together, of those who have not said who they are: a CONNECT packet's bound and its header.
_LONGEST_FROM_STRANGERS: Final = 65_536 + 5
#: Of others: the longest payload that is read (docs/limits.md), with the longest topic.
_LONGEST: Final = 1_100_000
_AT_ONCE: Final = 65_536


async def accept(
    opening: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_anywhere: bool
) -> tuple[WebSocketReader, WebSocketWriter]:
    """Answers the request with which a WebSocket opens, whatever its path.

    Args:
        opening: what was read of it already.
        reader: the connection, and the bound of the request's length.
        writer: the connection's other direction.
        from_anywhere: whether web pages of other sites than this machine's own may connect. Browsers let every page do
            that, to loopback too; who asks for no password has to look where they come from.

    Raises:
        ValueError: it is no such request, or none that can be met, and was answered so.
        asyncio.IncompleteReadError: it ends early.
    """
    protocol = ServerProtocol(subprotocols=_SUBPROTOCOLS, max_size=_LONGEST_FROM_STRANGERS)
    try:
        head = opening + await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise ValueError("the request is too long") from None
    protocol.receive_data(head)
    for request in protocol.events_received():
        if isinstance(request, Request):
            welcome = from_anywhere or all(_is_own(origin) for origin in request.headers.get_all("Origin"))
            protocol.send_response(
                protocol.accept(request) if welcome else protocol.reject(403, "Not for pages of other sites.\n")
            )
    _send(protocol, writer)
    if protocol.state is not State.OPEN:
        raise ValueError("no WebSocket")
    return WebSocketReader(protocol, reader, writer), WebSocketWriter(protocol, writer)


class WebSocketReader(ReaderAdapter):  # type: ignore[misc] # amqtt publishes no types
    """What binary frames carry, as a stream of bytes. Pings and closes are answered while somebody reads.

    State: bytes received and not taken yet; less than a message of the longest kind and what is asked for together.
    """

    def __init__(self, protocol: ServerProtocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._protocol = protocol
        self._reader = reader
        self._writer = writer
        self._received = bytearray()

    async def read(self, n: int) -> bytes:
        """Exactly n bytes.

        Raises:
            asyncio.IncompleteReadError: the peer closed before, or sent what may not be sent.
        """
        while len(self._received) < n:
            if self._protocol.state is not State.OPEN:
                raise asyncio.IncompleteReadError(bytes(self._received), n)
            await self._receive()
        taken = bytes(self._received[:n])
        del self._received[:n]
        return taken

    def resume(self, connect: bytes) -> None:
        """Begins again with the CONNECT packet of somebody who is let in, and may send longer messages from now on."""
        self._received[:0] = connect
        self._protocol.max_size = _LONGEST

    def feed_eof(self) -> None:
        """Lets nothing more come."""
        self._reader.feed_eof()

    async def _receive(self) -> None:
        if data := await self._reader.read(_AT_ONCE):
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for frame in self._protocol.events_received():
            if not isinstance(frame, Frame):
                continue
            if frame.opcode is Opcode.TEXT:
                self._protocol.fail(CloseCode.UNSUPPORTED_DATA, "MQTT comes in binary frames")
                break
            if frame.opcode in {Opcode.BINARY, Opcode.CONT}:
                self._received += frame.data
        _send(self._protocol, self._writer)
        # Or else who sends pings and takes no answers would fill the memory with them.
        await self._writer.drain()


class WebSocketWriter(StreamWriterAdapter):  # type: ignore[misc] # likewise
    """A binary frame for each packet."""

    def __init__(self, protocol: ServerProtocol, writer: asyncio.StreamWriter) -> None:
        super().__init__(writer)
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        """Sends a packet, unless the peer has said that it is leaving."""
        if self._protocol.state is State.OPEN and not self.is_closed:
            self._protocol.send_binary(data)
            _send(self._protocol, self._writer)

    async def close(self) -> None:
        """Says that this is the end, and ends it without waiting for an answer."""
        if self._protocol.state is State.OPEN and not self.is_closed:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            _send(self._protocol, self._writer)
        await super().close()


def _is_own(origin: str) -> bool:
    return is_loopback(urlsplit(origin).hostname or "")


def _send(protocol: ServerProtocol, writer: asyncio.StreamWriter) -> None:
    writer.write(b"".join(protocol.data_to_send()))
