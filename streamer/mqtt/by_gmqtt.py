"""Connections by gmqtt: a fifth of aiomqtt's cost per message, measured by tests/benchmarks/clients.py.

Its own reconnecting is turned off, as the service has its own; it never gives up waiting for an answer by itself, so
every wait here is bounded or raced against the connection's end.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Never

import gmqtt
from gmqtt.mqtt.constants import MQTTCommands, MQTTv50, MQTTv311
from gmqtt.storage import PersistentStorage

from streamer.clock import now_ns
from streamer.ingress import Arrival
from streamer.mqtt.connection import (
    REFUSALS,
    REFUSED,
    Link,
    Outgoing,
    RefusedError,
    SessionError,
    UnsupportedVersionError,
)
from streamer.wire.payload import Message

_UNSUPPORTED_VERSION: Final = frozenset({132, 1})
#: Publications under way at once, where the broker takes that many.
_MOST_AT_A_TIME: Final = 100
#: -1 means for ever and 0 still allows one; fewer failures than none there cannot be.
_NEVER_RECONNECT: Final = {"reconnect_retries": -2}
#: Messages that may be unacknowledged. Mosquitto reuses message ids unchecked past 65,535 of them, and before 2.0.13
#: may send twice this.
_RECEIVE_MAXIMUM: Final = 20_000
_SESSION_EXPIRY_S: Final = 86_400
#: A filter that nobody subscribes to; the broker answers all the same.
_PING_FILTER: Final = "har/v1/-/-"
_PUBACK: Final = struct.Struct("!BBH")
_PACKET_ID: Final = 2


class _Client(gmqtt.Client):  # type: ignore[misc]  # the library has no types
    """The library's client, except that acknowledgements wait until they are asked for.

    The library acknowledges by itself, or when an asynchronous handler returns: a task for each message, and with
    MQTT 5 only. Its one function for the answers to a message is overridden instead.

    State: message ids not yet acknowledged, by arrival number.
    """

    unacknowledged: deque[tuple[int, int]] | None = None
    arrived_id = 0

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        #: Reason codes of publications that the broker refused.
        self.refusals: list[int] = []
        # The library reads no reason code, and takes a refusal for an acknowledgement.
        self._answered = self._package_handler._handle_puback_packet  # noqa: SLF001 # no other way to hear of it
        self._package_handler._handle_puback_packet = self._on_puback  # noqa: SLF001 # likewise

    def _on_puback(self, cmd: int, packet: bytes) -> None:
        # Behind the message id; MQTT 3.1.1 has none, and MQTT 5 may leave a success out.
        if len(packet) > _PACKET_ID and packet[_PACKET_ID] >= REFUSED:
            self.refusals.append(packet[_PACKET_ID])
        self._answered(cmd, packet)

    def _send_command_with_mid(self, cmd: int, mid: int, dup: bool, reason_code: int = 0) -> None:  # noqa: FBT001 # the library's
        if cmd == MQTTCommands.PUBACK and self.unacknowledged is not None:
            # Called just before the message is handed on.
            self.arrived_id = mid
        else:
            super()._send_command_with_mid(cmd, mid, dup, reason_code=reason_code)

    def acknowledge_through(self, number: int) -> None:
        """Acknowledge what arrived up to a number, in one packet to the network."""
        packets: list[bytes] = []
        while self.unacknowledged and self.unacknowledged[0][0] <= number:
            packets.append(_PUBACK.pack(MQTTCommands.PUBACK, 2, self.unacknowledged.popleft()[1]))
        if packets and self.is_connected:
            self._connection.send_package(b"".join(packets))

    @property
    def refusal(self) -> gmqtt.MQTTConnectError | None:
        """What the broker answered to CONNECT where it said no; it hangs up at once, and that may be heard of first."""
        return self._package_handler._error  # noqa: SLF001 # no other way to hear of it

    @property
    def publications_at_a_time(self) -> int:
        """The message ids that there are: as many as the broker takes publications, less one."""
        return int(self._package_handler.id_generator._max) - 1  # noqa: SLF001 # no other way to hear of it


@asynccontextmanager
async def connect(link: Link, mqtt_5: bool, receive: Callable[[Arrival], None]) -> AsyncIterator[GmqttConnection]:  # noqa: FBT001 # a `Connect`
    """A connection for as long as the context lasts.

    Raises:
        SessionError: it cannot be had.
        UnsupportedVersionError: not in this version of MQTT.
    """
    connection = GmqttConnection(link, receive)
    await connection.open(mqtt_5=mqtt_5)
    try:
        yield connection
    finally:
        await connection.close()


class GmqttConnection:
    """See `Connection`.

    State: subscriptions waiting for their answer, publications waiting for theirs, and why the connection ended.
    """

    def __init__(self, link: Link, receive: Callable[[Arrival], None]) -> None:
        self._link = link
        self._receive = receive
        self._unpublished = PersistentStorage()
        self.resumed = False
        self._at_a_time = _MOST_AT_A_TIME
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._ended: asyncio.Future[Never] = asyncio.get_running_loop().create_future()
        will = gmqtt.Message(link.will.topic, link.will.payload, qos=1, retain=True)
        session: dict[str, Any] = {"clean_session": not link.persistent}
        if link.persistent:
            session |= {"session_expiry_interval": _SESSION_EXPIRY_S, "receive_maximum": _RECEIVE_MAXIMUM}
        client = _Client(link.client_id, will_message=will, persistent_storage=self._unpublished, **session)
        if link.persistent:
            client.unacknowledged = deque()
        client.set_config(_NEVER_RECONNECT)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_answer
        client.on_unsubscribe = self._on_answer
        if link.username is not None:
            client.set_auth_credentials(link.username, link.password)
        self._client = client

    async def open(self, *, mqtt_5: bool) -> None:
        """Connect.

        Raises:
            SessionError: it fails, or takes too long.
            UnsupportedVersionError: not in this version of MQTT.
        """
        link = self._link
        opening = self._client.connect(
            link.host,
            link.port,
            ssl=link.tls or False,
            keepalive=link.keepalive_s,
            version=MQTTv50 if mqtt_5 else MQTTv311,
        )
        try:
            await self._before_the_end(opening)
        except OSError as error:
            raise SessionError(str(error)) from error
        except (gmqtt.MQTTConnectError, SessionError) as error:
            refusal, hung_up = self._client.refusal, self._ended.done()
            await self.close()
            if refusal is not None:
                text = str(refusal)
                code = int(text.split()[1])
                if code in _UNSUPPORTED_VERSION:
                    raise UnsupportedVersionError(text) from error
                raise (RefusedError if code in REFUSALS else SessionError)(text) from error
            if mqtt_5 and hung_up:
                # Old brokers hang up on a version that they have never heard of; so do brokers that are stopping.
                raise UnsupportedVersionError(str(error)) from error
            raise

    async def close(self) -> None:
        """Say goodbye, as far as anybody listens."""
        if not self._ended.done():
            self._ended.set_exception(SessionError("the connection was closed"))
        # Whether or not somebody waits for the end, it has been said.
        self._ended.exception()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._link.timeout_s):
                await self._client.disconnect()

    async def subscribe(self, topic: str, qos: int) -> int:
        """See `Connection`."""
        return await self._answer_to(self._client.subscribe(topic, qos=qos))

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        """See `Connection`."""
        for topic in topics:
            await self._answer_to(self._client.unsubscribe(topic))

    async def publish(self, batch: Sequence[Outgoing]) -> list[int]:
        """See `Connection`."""
        if not self._client.is_connected:
            raise SessionError("the connection was closed")
        # gmqtt has no more message ids than the broker takes at a time, and raises instead of waiting for one.
        for first in range(0, len(batch), self._at_a_time):
            for outgoing in batch[first : first + self._at_a_time]:
                self._client.publish(outgoing.topic, outgoing.payload, qos=1, retain=outgoing.retain)
            await self._before_the_end(self._unpublished.wait_empty())
        refusals, self._client.refusals = self._client.refusals, []
        return refusals

    async def ping(self) -> None:
        """See `Connection`."""
        await self.unsubscribe([_PING_FILTER])

    def acknowledge_through(self, number: int) -> None:
        """See `Connection`."""
        self._client.acknowledge_through(number)

    async def lost(self) -> Never:
        """See `Connection`."""
        await asyncio.shield(self._ended)
        raise SessionError("the connection was closed")

    async def _answer_to(self, message_id: int) -> int:
        future = self._answers.setdefault(message_id, asyncio.get_running_loop().create_future())
        try:
            await self._before_the_end(asyncio.wait_for(asyncio.shield(future), self._link.timeout_s))
        finally:
            self._answers.pop(message_id, None)
        return future.result()

    async def _before_the_end(self, waiting: Coroutine[Any, Any, Any]) -> None:
        """Wait for something, unless the connection ends first or nothing comes in time."""
        task = asyncio.ensure_future(waiting)
        try:
            await asyncio.wait({task, self._ended}, timeout=self._link.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            elif self._ended.done():
                self._ended.result()
            else:
                raise SessionError(f"no answer within {self._link.timeout_s:g} s")
        except TimeoutError as error:
            raise SessionError(f"no answer within {self._link.timeout_s:g} s") from error
        finally:
            task.cancel()

    def _on_connect(
        self, _client: gmqtt.Client, session_present: int, _result: int, _properties: Mapping[str, Any]
    ) -> None:
        self.resumed = bool(session_present)
        # One id is left for a subscription.
        self._at_a_time = max(1, min(_MOST_AT_A_TIME, self._client.publications_at_a_time - 1))

    def _on_message(
        self, client: _Client, topic: str | bytes, payload: bytes, qos: int, properties: Mapping[str, Any]
    ) -> int:
        if self._ended.done():
            # It comes again on the next connection, and there in its place.
            return 0
        name = topic if isinstance(topic, str) else topic.decode("utf-8", "replace")
        content_type = properties.get("content_type")
        number = next(self._link.numbers)
        if qos and client.unacknowledged is not None:
            client.unacknowledged.append((number, client.arrived_id))
        try:
            message = Message(name, payload, content_type[0] if content_type else None)
            self._receive(Arrival(message, now_ns(), qos, number, bool(properties["dup"])))
        except Exception as error:  # noqa: BLE001 # the library would log it and go on; a fault of ours ends the service
            self._end(error)
        return 0

    def _on_answer(self, _client: gmqtt.Client, message_id: int, codes: Sequence[int], *_properties: object) -> None:
        future = self._answers.setdefault(message_id, asyncio.get_running_loop().create_future())
        if not future.done():
            future.set_result(codes[0] if codes else 0)

    def _on_disconnect(self, _client: gmqtt.Client, packet: object, *_: object) -> None:
        # MQTT 5 brokers say why, in the packet's first byte; a broken connection brings none.
        reason = f" (reason code {packet[0]})" if isinstance(packet, bytes) and packet else ""
        self._end(SessionError(f"the connection was closed{reason}"))

    def _end(self, error: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()
