"""Connections by aiomqtt, the maintained name of asyncio-mqtt.

Its own queue is bypassed: it wants a task per message and, when bounded, drops the newest message.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Never, cast

import aiomqtt
import msgspec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

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
from streamer.tasks import first_of
from streamer.wire.payload import Message

#: MQTT 5 reason code and MQTT 3.1.1 return code: the broker does not speak this version.
_UNSUPPORTED_VERSION: Final = frozenset({132, 1})
#: A filter that nobody subscribes to; the broker answers all the same.
_PING_FILTER: Final = "har/v1/-/-"
#: Between two looks at whether the connection is still there, s.
_LOOK_S: Final = 1.0
#: Packets that are read then, at most.
_LOOKS: Final = 100


@asynccontextmanager
async def connect(link: Link, mqtt_5: bool, receive: Callable[[Arrival], None]) -> AsyncIterator[AiomqttConnection]:  # noqa: FBT001 # a `Connect`
    """A connection for as long as the context lasts.

    Raises:
        SessionError: it cannot be had.
        UnsupportedVersionError: not in this version of MQTT.
    """
    version = aiomqtt.ProtocolVersion.V5 if mqtt_5 else aiomqtt.ProtocolVersion.V311
    client = aiomqtt.Client(
        link.host,
        link.port,
        username=link.username,
        password=link.password,
        identifier=link.client_id,
        protocol=version,
        clean_session=None if mqtt_5 else True,
        keepalive=link.keepalive_s,
        timeout=link.timeout_s,
        tls_context=link.tls,
        # Nagle's algorithm would hold an event back until the broker acknowledges the one before: 40 ms.
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        will=aiomqtt.Will(link.will.topic, link.will.payload, qos=1, retain=True) if link.will else None,
        # A factory serves where the client expects a class: it is only called.
        queue_type=cast("type[asyncio.Queue[aiomqtt.Message]]", lambda maxsize: _Forward(receive, link, maxsize)),
    )
    # Publications are gathered by the hundred; that is no sign of trouble.
    client.pending_calls_threshold = 10_000
    try:
        await client.__aenter__()
    except aiomqtt.MqttError as error:
        code = _code(error)
        if code in _UNSUPPORTED_VERSION:
            raise UnsupportedVersionError(str(error)) from error
        if code in REFUSALS:
            raise RefusedError(str(error)) from error
        raise SessionError(str(error)) from error
    except OSError as error:
        raise SessionError(str(error)) from error
    try:
        yield AiomqttConnection(client, mqtt_5=mqtt_5)
    finally:
        # What a lost connection has to say at its end has been said already.
        with suppress(aiomqtt.MqttError):
            await client.__aexit__(None, None, None)


class AiomqttConnection:
    """See `Connection`. The library acknowledges each message as it comes, so no session outlasts its connection."""

    resumed = False

    def __init__(self, client: aiomqtt.Client, *, mqtt_5: bool) -> None:
        self._client = client
        self._mqtt_5 = mqtt_5
        self._refusals: list[int] = []
        # The library takes a refusal for an acknowledgement; paho, which it wraps, knows better.
        self._paho = paho = client._client  # noqa: SLF001 # no other way to hear of it
        self._answered = paho.on_publish
        paho.on_publish = self._on_publish

    def _on_publish(self, paho: Any, userdata: Any, mid: int, code: ReasonCode, properties: Properties) -> None:  # noqa: ANN401 # paho's
        if code.value >= REFUSED:
            self._refusals.append(code.value)
        self._answered(paho, userdata, mid, code, properties)  # type: ignore[misc,call-arg] # aiomqtt's, which is set

    async def subscribe(self, topic: str, qos: int) -> int:
        """See `Connection`."""
        with _explained():
            (code,) = await self._client.subscribe(topic, qos=qos)
        return code if isinstance(code, int) else code.value

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        """See `Connection`."""
        with _explained():
            await self._client.unsubscribe(list(topics))

    async def publish(self, batch: Sequence[Outgoing]) -> list[int]:
        """See `Connection`."""
        with _explained():
            await asyncio.gather(
                *(
                    self._client.publish(o.topic, o.payload, qos=1, retain=o.retain, properties=self._properties(o))
                    for o in batch
                )
            )
        refusals, self._refusals = self._refusals, []
        return refusals

    def _properties(self, outgoing: Outgoing) -> Properties | None:
        if not self._mqtt_5 or not (outgoing.content_type or outgoing.user_properties):
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # the library's
        if outgoing.content_type is not None:
            properties.ContentType = outgoing.content_type
        if outgoing.user_properties:
            properties.UserProperty = list(outgoing.user_properties)
        return properties

    async def ping(self) -> None:
        """See `Connection`."""
        await self.unsubscribe([_PING_FILTER])

    def acknowledge_through(self, number: int) -> None:
        """See `Connection`."""

    async def lost(self) -> Never:
        """See `Connection`."""
        with _explained():
            await first_of(self._end(), self._look())
        raise SessionError("the connection was closed")

    async def _end(self) -> None:
        async for _ in self._client.messages:
            pass

    async def _look(self) -> Never:
        """Read once a second without being told to.

        Else 1 of 18 brokers that were killed while events were being published went unnoticed for twenty seconds.
        """
        while True:
            await asyncio.sleep(_LOOK_S)
            # Each reads a packet at most, and the end comes behind what is still unread.
            try:
                for _ in range(_LOOKS):
                    self._paho.loop_read()
            except OSError as error:
                raise SessionError(str(error)) from error


class _Forward(asyncio.Queue[aiomqtt.Message]):
    """In the client's place for a queue: hands each message on at once."""

    def __init__(self, receive: Callable[[Arrival], None], link: Link, maxsize: int) -> None:
        super().__init__(maxsize)
        self._receive = receive
        self._numbers = link.numbers
        self._traced = link.traced

    def put_nowait(self, item: aiomqtt.Message) -> None:
        content_type = getattr(item.properties, "ContentType", None)
        message = Message(item.topic.value, item.payload, content_type)
        arrival = Arrival(message, now_ns(), item.qos, next(self._numbers))
        if self._traced:
            traceparent = traceparent_in(getattr(item.properties, "UserProperty", ()))
            arrival = msgspec.structs.replace(arrival, traceparent=traceparent)
        self._receive(arrival)


class _explained:  # noqa: N801 - reads as the statement it stands for
    """Turns the client's exceptions into SessionError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, aiomqtt.MqttError):
            raise SessionError(str(error)) from error


def _code(error: aiomqtt.MqttError) -> int | None:
    code = getattr(error, "rc", None)
    value = getattr(code, "value", code)
    return int(value) if isinstance(value, int) else None
