"""The connection to the MQTT broker: one session at a time, and the only module that knows the client library.

aiomqtt is the maintained name of asyncio-mqtt. Its own queue is bypassed: it wants a task per message and, when
bounded, drops the newest message.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Never, cast

import aiomqtt

from streamer.config import Settings
from streamer.errors import ConfigError, HarError
from streamer.ingress import Arrival
from streamer.recognizer import Message
from streamer.wire import topics

logger = logging.getLogger(__name__)

_KEEPALIVE_S: Final = 30
#: MQTT 5 reason code and MQTT 3.1.1 return code: the broker does not speak this version.
_UNSUPPORTED_VERSION: Final = frozenset({132, 1})
#: Reason codes from here on say no.
_REFUSED: Final = 128
#: Mosquitto's own count of what it dropped from full queues, over all its clients.
_DROPPED_TOPIC: Final = "$SYS/broker/publish/messages/dropped"


class SessionError(HarError):
    """The session cannot be had or was lost; another may be tried."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One publication.

    Attributes:
        topic, payload, retain: as in MQTT.
        caused_ns: when the message that led to it arrived, None where nothing did.
    """

    topic: str
    payload: bytes
    retain: bool = False
    caused_ns: int | None = None


class Session:
    """A connected, subscribed session."""

    def __init__(self, client: aiomqtt.Client, settings: Settings) -> None:
        self._client = client
        self._qos = settings.qos
        self._filters = settings.topic
        self._status_topic = topics.status(settings.client_id)

    async def publish(self, batch: Iterable[Outgoing]) -> None:
        """Publish all, and wait for the broker's acknowledgements where the QoS has them.

        Raises:
            SessionError: the session was lost; some of the batch may have been published.
        """
        with _explained():
            await asyncio.gather(
                *(self._client.publish(o.topic, o.payload, qos=self._qos, retain=o.retain) for o in batch)
            )

    async def announce(self, status: str) -> None:
        """Publish the service's status, retained."""
        with _explained():
            await self._client.publish(self._status_topic, status, qos=1, retain=True)

    async def subscribe(self) -> None:
        """Ask for readings.

        Raises:
            SessionError: the broker refuses a filter.
        """
        with _explained():
            for topic in (*self._filters, topics.SYNC_FILTER):
                for code in await self._client.subscribe(topic, qos=self._qos):
                    if (code if isinstance(code, int) else code.value) >= _REFUSED:
                        raise SessionError(f"the broker refuses the subscription to {topic} ({code})")
            # Refused or unknown here means only that this count can't be watched.
            await self._client.subscribe(_DROPPED_TOPIC, qos=0)

    async def unsubscribe(self) -> None:
        """Ask for no more readings."""
        with _explained():
            await self._client.unsubscribe([*self._filters, topics.SYNC_FILTER])

    async def lost(self) -> Never:
        """Wait until the session is lost.

        Raises:
            SessionError: it was.
        """
        with _explained():
            async for _ in self._client.messages:
                pass
        raise SessionError("the connection was closed")


class Broker:
    """Opens sessions at one broker.

    State: the protocol version it turned out to speak.
    """

    def __init__(
        self,
        settings: Settings,
        host: str,
        port: int,
        *,
        mqtt_5: bool,
        receive: Callable[[Arrival], None],
        dropped: Callable[[int], None],
    ) -> None:
        """Read password and certificates.

        Args:
            settings: credentials, topics, quality of service.
            host: host name or address.
            port: TCP port.
            mqtt_5: try MQTT 5 first.
            receive: takes each message as it comes.
            dropped: takes the broker's own count of dropped messages, where it has one.

        Raises:
            ConfigError: a file can't be read.
        """
        self._settings = settings
        self._host = host
        self._port = port
        self._password = settings.password()
        self._tls = _tls_context(settings)
        self._receive = receive
        self._dropped = dropped
        self._version = aiomqtt.ProtocolVersion.V5 if mqtt_5 else aiomqtt.ProtocolVersion.V311

    @property
    def address(self) -> str:
        """Host and port, for people."""
        return f"{self._host}:{self._port}"

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A connected session, subscribed and announced.

        Raises:
            SessionError: it cannot be had, or was lost inside the context.
        """
        client = self._client()
        try:
            await client.__aenter__()
        except aiomqtt.MqttError as error:
            if self._version is aiomqtt.ProtocolVersion.V5 and _code(error) in _UNSUPPORTED_VERSION:
                logger.info("broker at %s does not speak MQTT 5; using 3.1.1", self.address)
                self._version = aiomqtt.ProtocolVersion.V311
                async with self.session() as session:
                    yield session
                return
            raise SessionError(str(error)) from error
        except OSError as error:
            raise SessionError(str(error)) from error
        try:
            session = Session(client, self._settings)
            await session.subscribe()
            await session.announce("online")
            yield session
        finally:
            # What a lost connection has to say at its end has been said already.
            with suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)

    def _client(self) -> aiomqtt.Client:
        settings = self._settings
        client = aiomqtt.Client(
            self._host,
            self._port,
            username=settings.username,
            password=self._password,
            identifier=settings.client_id,
            protocol=self._version,
            clean_session=True if self._version is aiomqtt.ProtocolVersion.V311 else None,
            keepalive=_KEEPALIVE_S,
            tls_context=self._tls,
            # Nagle's algorithm would hold an event back until the broker acknowledges the one before: 40 ms.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            will=aiomqtt.Will(topics.status(settings.client_id), b"offline", qos=1, retain=True),
            # A factory serves where the client expects a class: it is only called.
            queue_type=cast("type[asyncio.Queue[aiomqtt.Message]]", lambda maxsize=0: _Forward(self._take)),  # noqa: ARG005
        )
        # Publications are gathered by the hundred; that is no sign of trouble.
        client.pending_calls_threshold = 10_000
        return client

    def _take(self, message: aiomqtt.Message) -> None:
        topic, payload = message.topic.value, message.payload
        if topic == _DROPPED_TOPIC:
            with suppress(ValueError):
                self._dropped(int(payload))
            return
        content_type = getattr(message.properties, "ContentType", None)
        arrival = Message(topic, payload, content_type)
        self._receive(Arrival(arrival, time.time_ns(), message.qos))


class _Forward(asyncio.Queue[aiomqtt.Message]):
    """In the client's place for a queue: hands each message on at once."""

    def __init__(self, take: Callable[[aiomqtt.Message], None]) -> None:
        super().__init__()
        self._hand_on = take

    def put_nowait(self, item: aiomqtt.Message) -> None:
        self._hand_on(item)


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


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    if not settings.uses_tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        if settings.tls_cert is not None:
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(f for f in (settings.tls_ca, settings.tls_cert, settings.tls_key) if f)
        raise ConfigError(f"TLS files {files}: cannot be used ({error})") from error
    return context
