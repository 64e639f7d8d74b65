"""An MQTT broker inside the process (amqtt), so that har-stream can be tried where no broker runs.

It speaks MQTT 3.1.1 only, keeps nothing on disk and lets everybody in: made for loopback and trying out. It delivers
several thousand messages a second; a fleet wants Mosquitto.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final, cast

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker

from streamer.errors import ConfigError

logger = logging.getLogger(__name__)

_LISTENER: Final = "default"
#: How long peers have to take what is still to be sent when the broker stops.
_FAREWELL_S: Final = 1.0
#: Protocol name and level of an MQTT 5 CONNECT. amqtt takes it for 3.1.1, and where that reading wants more bytes than
#: the packet has, it waits for them for ever instead of refusing.
_MQTT_5: Final = b"\x00\x04MQTT\x05"
#: CONNACK with reason code 132, unsupported protocol version, and no properties.
_REFUSE_MQTT_5: Final = b"\x20\x03\x00\x84\x00"
_LONGEST_HEADER: Final = 5
_CONFIG: Final = {
    # The socket is ours (see below), amqtt only handles what is connected to it.
    "listeners": {_LISTENER: {"type": "external"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


@asynccontextmanager
async def embedded_broker(host: str = "127.0.0.1", port: int = 1883) -> AsyncIterator[int]:
    """Runs a broker in the current event loop for as long as the context lasts.

    Sockets are opened and closed here rather than by amqtt, which tells nobody the port it was given for 0 and leaves
    connections that never said CONNECT behind when it stops.

    Args:
        host: address to listen on.
        port: TCP port; 0 for any free one.

    Yields:
        The port that clients connect to.

    Raises:
        ConfigError: the address is in use or not to be had.
    """
    # amqtt logs each connection, each packet and each peer that hangs up early.
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    broker = Broker(_CONFIG)
    connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            opening = await _read_opening(reader)
            if opening.endswith(_MQTT_5):
                writer.write(_REFUSE_MQTT_5)
                return
            await broker.external_connected(_ReadOn(opening, reader), StreamWriterAdapter(writer), _LISTENER)
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


class _ReadOn(StreamReaderAdapter):  # type: ignore[misc] # amqtt publishes no types
    """A connection whose opening was read already."""

    def __init__(self, opening: bytes, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._opening = opening

    async def read(self, n: int = -1) -> bytes:
        if n == -1 or not self._opening:
            return cast("bytes", await super().read(n))
        taken, self._opening = self._opening[:n], self._opening[n:]
        if len(taken) < n:
            taken += await super().read(n - len(taken))
        return taken


async def _read_opening(reader: asyncio.StreamReader) -> bytes:
    """A CONNECT packet up to its protocol level; fewer bytes of anything else."""
    try:
        opening = await reader.readexactly(2)
        # The remaining length takes one to four bytes, the last without the high bit.
        while opening[-1] & 0x80 and len(opening) < _LONGEST_HEADER:
            opening += await reader.readexactly(1)
        return opening + await reader.readexactly(len(_MQTT_5))
    except asyncio.IncompleteReadError as error:
        return error.partial


def _abort(writers: Iterable[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.transport.abort()
