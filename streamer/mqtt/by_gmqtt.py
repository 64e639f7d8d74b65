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
import msgspec
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
    traceparent_in,
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
#: Of this many messages in a row that are another's, one is handed on, so that they are acknowledged with it.
_FOREIGN_AT_A_TIME: Final = 100
#: What is remembered of topics and properties; past it all is forgotten, for invented ones must not fill the memory.
_MOST_TOPICS: Final = 100_000
_MOST_PROPERTIES: Final = 256
_LONGEST_PROPERTIES: Final = 64


class _Client(gmqtt.Client):  # type: ignore[misc]  # the library has no types
    """The library's client, except for the messages that come.

    The library makes a dictionary for each, and acknowledges by itself, or when an asynchronous handler returns: a task
    for each message, and with MQTT 5 only. Its one function for PUBLISH packets is overridden instead.

    State: message ids not yet acknowledged, by arrival number; what is known of topics and properties.
    """

    def __init__(
        self, link: Link, receive: Callable[[Arrival], None], fail: Callable[[Exception], None], **options: object
    ) -> None:
        super().__init__(link.client_id, **options)
        self._receive = receive
        self._fail = fail
        self._numbers = link.numbers
        self._is_foreign = link.is_foreign
        self.unacknowledged: deque[tuple[int, int]] | None = deque() if link.persistent else None
        self.speaks_mqtt_5 = True
        self._number = 0
        self._foreign_in_a_row = 0
        self._foreign_topics: dict[bytes, bool] = {}
        self._content_types: dict[bytes, str | None] = {}
        #: Reason codes of publications that the broker refused.
        self.refusals: list[int] = []
        handler = self._package_handler
        # The library reads no reason code, and takes a refusal for an acknowledgement.
        self._answered = handler._handle_puback_packet  # noqa: SLF001 # no other way to hear of it
        handler._handle_puback_packet = self._on_puback  # noqa: SLF001 # likewise
        handler._handle_publish_packet = self._on_publish  # noqa: SLF001 # see above

    def _on_publish(self, header: int, packet: bytes) -> None:
        try:
            self._take(header, packet)
        except Exception as error:  # noqa: BLE001 # the library would log it and go on; a fault of ours ends the service
            self._fail(error)

    def _take(self, header: int, packet: bytes) -> None:
        """Hand on a message; MQTT 5, 3.3: the first byte of its packet, and what follows the length."""
        qos = header >> 1 & 3
        end = 2 + (packet[0] << 8 | packet[1])
        topic = packet[2:end]
        message_id = 0
        if qos:
            message_id = packet[end] << 8 | packet[end + 1]
            end += 2
        if self._is_foreign is not None and self._is_of_another(topic):
            self._foreign_in_a_row += 1
            if self._foreign_in_a_row < _FOREIGN_AT_A_TIME:
                self._owe(qos, message_id)
                return
        self._foreign_in_a_row = 0
        content_type = None
        if self.speaks_mqtt_5:
            if packet[end]:
                content_type, end = self._content_type(packet, end)
            else:
                end += 1
        self._number = next(self._numbers)
        self._owe(qos, message_id)
        message = Message(topic.decode("utf-8", "replace"), packet[end:], content_type)
        self._receive(Arrival(message, now_ns(), qos, self._number, bool(header & 8)))

    def _is_of_another(self, topic: bytes) -> bool:
        known = self._foreign_topics.get(topic)
        if known is None and self._is_foreign is not None:
            if len(self._foreign_topics) >= _MOST_TOPICS:
                self._foreign_topics.clear()
            known = self._foreign_topics[topic] = self._is_foreign(topic.decode("utf-8", "replace"))
        return bool(known)

    def _content_type(self, packet: bytes, start: int) -> tuple[str | None, int]:
        """The content type, and where the payload begins; properties, with their length before them, begin at `start`.

        Raises:
            SessionError: they can't be read.
        """
        end = start + 1 + packet[start]
        properties = packet[start:end]
        if properties in self._content_types:
            return self._content_types[properties], end
        parsed, payload = self._package_handler._parse_properties(packet[start:])  # noqa: SLF001 # a table of MQTT's
        if parsed is None:
            raise SessionError("the broker sent a message with properties that MQTT 5 doesn't have")
        content_type: str | None = parsed.get("content_type", [None])[0]
        if len(properties) <= _LONGEST_PROPERTIES:
            if len(self._content_types) >= _MOST_PROPERTIES:
                self._content_types.clear()
            self._content_types[properties] = content_type
        return content_type, len(packet) - len(payload)

    def _owe(self, qos: int, message_id: int) -> None:
        """Acknowledge a message with the last one that was handed on, or at once where nobody will ask for it."""
        if not qos:
            return
        if self.unacknowledged is None:
            self._connection.send_package(_PUBACK.pack(MQTTCommands.PUBACK, 2, message_id))
        else:
            self.unacknowledged.append((self._number, message_id))

    def _on_puback(self, cmd: int, packet: bytes) -> None:
        # Behind the message id; MQTT 3.1.1 has none, and MQTT 5 may leave a success out.
        if len(packet) > _PACKET_ID and packet[_PACKET_ID] >= REFUSED:
            self.refusals.append(packet[_PACKET_ID])
        self._answered(cmd, packet)

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


class _TracedClient(_Client):
    """Also says of each message what its sender says of its place in a trace.

    State: that, of the message at hand.
    """

    def __init__(self, link: Link, receive: Callable[[Arrival], None], *arguments: Any, **options: Any) -> None:  # noqa: ANN401 # as above
        super().__init__(link, lambda arrival: receive(self._traced(arrival)), *arguments, **options)
        self._traceparent: str | None = None

    def _take(self, header: int, packet: bytes) -> None:
        self._traceparent = None
        super()._take(header, packet)

    def _content_type(self, packet: bytes, start: int) -> tuple[str | None, int]:
        content_type, end = super()._content_type(packet, start)
        parsed, _ = self._package_handler._parse_properties(packet[start:end])  # noqa: SLF001 # as above
        self._traceparent = traceparent_in(parsed.get("user_property", ()))
        return content_type, end

    def _traced(self, arrival: Arrival) -> Arrival:
        return msgspec.structs.replace(arrival, traceparent=self._traceparent)


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
        will = gmqtt.Message(link.will.topic, link.will.payload, qos=1, retain=True) if link.will else None
        session: dict[str, Any] = {"clean_session": not link.persistent}
        if link.persistent:
            session |= {"session_expiry_interval": _SESSION_EXPIRY_S, "receive_maximum": _RECEIVE_MAXIMUM}
        client = (_TracedClient if link.traced else _Client)(
            link, self._hand_on, self._end, will_message=will, persistent_storage=self._unpublished, **session
        )
        client.set_config(_NEVER_RECONNECT)
        client.on_connect = self._on_connect
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
        self._client.speaks_mqtt_5 = mqtt_5
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
        if not self._unpublished.is_empty:
            # What a publisher left under way that was told to stop: it takes message ids, of which there are few.
            await self._before_the_end(self._unpublished.wait_empty())
        # gmqtt has no more message ids than the broker takes at a time, and raises instead of waiting for one.
        for first in range(0, len(batch), self._at_a_time):
            for outgoing in batch[first : first + self._at_a_time]:
                properties = _properties(outgoing) if outgoing.content_type or outgoing.user_properties else {}
                self._client.publish(outgoing.topic, outgoing.payload, qos=1, retain=outgoing.retain, **properties)
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

    def _hand_on(self, arrival: Arrival) -> None:
        # What comes after the end comes again on the next connection, and there in its place.
        if not self._ended.done():
            self._receive(arrival)

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


def _properties(outgoing: Outgoing) -> dict[str, Any]:
    """As the library names them; it leaves them out with MQTT 3.1.1."""
    properties: dict[str, Any] = {"user_property": list(outgoing.user_properties)} if outgoing.user_properties else {}
    if outgoing.content_type is not None:
        properties["content_type"] = outgoing.content_type
    return properties
