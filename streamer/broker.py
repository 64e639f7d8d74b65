"""An MQTT broker inside the process (amqtt), so that har-stream can be tried where no broker runs.

It speaks MQTT 3.1.1 only, by TCP or over WebSockets on the same port, without TLS, and keeps nothing on disk: made for
loopback, and for a phone at home. It delivers several thousand messages a second; a fleet wants Mosquitto.

Whoever connects has to say who it is, soon and in few bytes, before amqtt sees anything of the connection: amqtt lets a
client that it then refuses end the session of another one of the same name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker

from streamer import websocket
from streamer.errors import ConfigError
from streamer.mqtt.connect_packet import Account, remaining_length

logger = logging.getLogger(__name__)

_LISTENER: Final = "default"
#: How long peers have to take what is still to be sent when the broker stops.
_FAREWELL_S: Final = 1.0
#: Protocol name and level of an MQTT 5 CONNECT. amqtt takes it for 3.1.1, and where that reading wants more bytes than
#: the packet has, it waits for them for ever instead of refusing.
_MQTT_5: Final = b"\x00\x04MQTT\x05"
#: CONNACK with reason code 132, unsupported protocol version, and no properties.
_REFUSE_MQTT_5: Final = b"\x20\x03\x00\x84\x00"
_CONNECT: Final = 0x10
#: CONNACK with return code 5, not authorized.
_REFUSE: Final = b"\x20\x02\x00\x05"
_LONGEST_HEADER: Final = 5
#: A CONNECT holds a few names; without a bound it might announce 256 MB.
_LONGEST_CONNECT: Final = 65_536
#: Connections that have not said who they are: how many, and for how long.
_MOST_STRANGERS: Final = 100
_CONNECT_S: Final = 10.0
#: Who guesses passwords is answered so late.
_REFUSAL_S: Final = 1.0
_TELL_EVERY_S: Final = 10.0
_CONFIG: Final = {
    # The socket is ours (see below), amqtt only handles what is connected to it.
    "listeners": {_LISTENER: {"type": "external"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


@asynccontextmanager
async def embedded_broker(
    host: str = "127.0.0.1", port: int = 1883, *, account: Account | None = None
) -> AsyncIterator[int]:
    """Runs a broker in the current event loop for as long as the context lasts.

    Sockets are opened and closed here rather than by amqtt, which tells nobody the port it was given for 0 and leaves
    connections that never said CONNECT behind when it stops.

    Args:
        host: address to listen on.
        port: TCP port; 0 for any free one.
        account: the only one that is let in; None lets everybody in.

    Yields:
        The port that clients connect to.

    Raises:
        ConfigError: the address is in use or not to be had.
    """
    # amqtt logs each connection, each packet and each peer that hangs up early.
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    broker = Broker(_CONFIG)
    connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
    door = _Door(account)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if guest := await door.admit(reader, writer):
                await broker.external_connected(*guest, _LISTENER)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        connections[task] = writer
        task.add_done_callback(forget)

    def forget(task: asyncio.Task[None]) -> None:
        del connections[task]
        if not task.cancelled() and (error := task.exception()):
            logger.debug("connection ended by %r", error)

    try:
        server = await asyncio.start_server(accept, host, port)
    except OSError as error:
        raise ConfigError(
            f"embedded broker: cannot listen on {host}:{port} ({error.strerror or error}); expected a free port"
        ) from None
    try:
        await broker.start()
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        # A peer that does not read would hold up its own farewell, and with it the shutdown, for ever.
        abort = asyncio.get_running_loop().call_later(_FAREWELL_S, _abort, connections.values())
        await broker.shutdown()
        abort.cancel()
        for task in connections:
            task.cancel()
        _abort(connections.values())
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()


class _Door:
    """Finds out who connects, and turns away who may not be served.

    State: how many have not said who they are yet, and those turned away since the log last told of them.
    """

    def __init__(self, account: Account | None) -> None:
        self._account = account
        self._strangers = 0
        self._refused = 0
        self._told_s = -_TELL_EVERY_S

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Guest | None:
        """The connection, from its CONNECT packet on, of whom amqtt may serve.

        None for others, who were answered as far as they can be.
        """
        if self._strangers >= _MOST_STRANGERS:
            return None
        self._strangers += 1
        try:
            async with asyncio.timeout(_CONNECT_S):
                source, sink = await self._opened(reader, writer)
                packet = await _read_connect(source)
            if packet[remaining_length(packet)[1] :].startswith(_MQTT_5):
                sink.write(_REFUSE_MQTT_5)
            elif self._account is None or self._account.admits(packet):
                source.resume(packet)
                return source, sink
            else:
                self._tell_of(writer)
                await asyncio.sleep(_REFUSAL_S)
                sink.write(_REFUSE)
            await sink.close()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError):
            pass  # whoever it is speaks no MQTT, or nothing at all
        finally:
            self._strangers -= 1
        return None

    async def _opened(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Guest:
        opening = await reader.readexactly(1)
        if opening == websocket.OPENING:
            return await websocket.accept(opening, reader, writer, from_anywhere=self._account is not None)
        source = _Reader(reader)
        source.resume(opening)
        return source, StreamWriterAdapter(writer)

    def _tell_of(self, writer: asyncio.StreamWriter) -> None:
        self._refused += 1
        now_s = asyncio.get_running_loop().time()
        if now_s - self._told_s >= _TELL_EVERY_S:
            logger.warning(
                "embedded broker: refused %d connections without the right user name and password, the last from %s",
                self._refused,
                (writer.get_extra_info("peername") or ["an unknown address"])[0],
            )
            self._refused, self._told_s = 0, now_s


class _Reader(StreamReaderAdapter):  # type: ignore[misc] # amqtt publishes no types
    """A connection by TCP, of which something may have been read already."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._opening = b""

    async def read(self, n: int) -> bytes:
        """Exactly n bytes."""
        taken, self._opening = self._opening[:n], self._opening[n:]
        return taken if len(taken) == n else taken + await super().read(n - len(taken))

    def resume(self, opening: bytes) -> None:
        """Begins again with what was read already."""
        self._opening = opening


#: A connection as amqtt takes it.
_Guest: TypeAlias = tuple[_Reader | websocket.WebSocketReader, StreamWriterAdapter]


async def _read_connect(source: _Reader | websocket.WebSocketReader) -> bytes:
    """A whole CONNECT packet.

    Raises:
        ValueError: what comes is none, or too long for one.
    """
    packet = await source.read(2)
    # The remaining length takes one to four bytes, the last without the high bit.
    while packet[-1] & 0x80 and len(packet) < _LONGEST_HEADER:
        packet += await source.read(1)
    length, _ = remaining_length(packet)
    if packet[0] != _CONNECT or length > _LONGEST_CONNECT:
        raise ValueError("no CONNECT packet")
    return packet + await source.read(length)


def _abort(writers: Iterable[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.transport.abort()
