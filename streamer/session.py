"""Sessions at the MQTT broker: who the service is there, and what it asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Final, Never

from streamer.cloudevents import as_cloud_events
from streamer.config import Settings
from streamer.ingress import Arrival
from streamer.mqtt.connection import REFUSED, Connection, Link, Outgoing, RefusedError
from streamer.mqtt.line import Line
from streamer.mqtt.tls import client_context
from streamer.wire import topics

logger = logging.getLogger(__name__)

#: Also bounds how long a broken line goes unnoticed: twice this.
_KEEPALIVE_S: Final = 10
_TIMEOUT_S: Final = 10.0
#: Mosquitto's own count of what it dropped from full queues, over all its clients.
_DROPPED_TOPIC: Final = "$SYS/broker/publish/messages/dropped"


class Session:
    """A connected, subscribed session."""

    def __init__(self, connection: Connection, settings: Settings, refused: set[str], *, mqtt_5: bool) -> None:
        """Nothing is asked for yet.

        Args:
            connection: the client library's.
            settings: topics and quality of service.
            refused: filters that the broker is known to refuse; added to.
            mqtt_5: the connection speaks it.
        """
        self._connection = connection
        self._dress: Callable[[Outgoing], Outgoing] | None = None
        if settings.event_format == "cloudevents":
            self._dress = as_cloud_events(settings.client_id, mqtt_5=mqtt_5)
        self._qos = settings.qos
        self._filters = (*settings.topic, topics.SYNC_FILTER)
        #: Nobody has asked for them: other programs' topics, which an access list may know nothing of.
        self._optional = topics.DEFAULT_FILTERS[1:] if settings.topic == topics.DEFAULT_FILTERS else ()
        self._refused = refused
        self._status_topic = topics.status(settings.client_id)
        self._more_topics = (
            f", {topics.HEALTH_FILTER}, {settings.home_assistant_prefix}/device/+/config"
            if settings.home_assistant
            else ""
        )
        self._was_refused = False
        #: The client takes one batch at a time.
        self._publishing = asyncio.Lock()

    async def publish(self, batch: Sequence[Outgoing]) -> int:
        """Publish all, and wait for the broker's answers; how many of them it refused.

        Publishing those again would meet the same answer. A session's first one is logged.

        Raises:
            SessionError: the session was lost; some of the batch may have been published.
        """
        if self._dress is not None:
            batch = [self._dress(outgoing) for outgoing in batch]
        async with self._publishing:
            refusals = await self._connection.publish(batch)
        if refusals and not self._was_refused:
            self._was_refused = True
            logger.error(
                "the broker refuses what har-stream publishes (reason code %d); expected the right to write "
                "har/v1/+/activity, har/v1/+/event, har/v1/+/window%s and %s. Refused events are lost and counted",
                refusals[0],
                self._more_topics,
                self._status_topic,
            )
        return len(refusals)

    async def announce(self, status: str) -> None:
        """Publish the service's status, retained.

        Raises:
            SessionError: the session was lost.
        """
        await self.publish([Outgoing(self._status_topic, status.encode(), retain=True)])

    async def subscribe(self) -> None:
        """Ask for readings.

        Raises:
            RefusedError: the broker refuses a filter that was asked for.
            SessionError: the session was lost.
        """
        for topic in self._filters:
            code = await self._connection.subscribe(topic, self._qos)
            if code >= REFUSED and topic not in self._optional:
                raise RefusedError(f"the broker refuses the subscription to {topic} (reason code {code})")
            if code >= REFUSED and topic not in self._refused:
                self._refused.add(topic)
                logger.info("the broker refuses the subscription to %s (reason code %d): going on without", topic, code)
        # Refused or unknown here means only that this count can't be watched.
        await self._connection.subscribe(_DROPPED_TOPIC, 0)

    async def listen(self, filters: Iterable[str]) -> None:
        """Ask for more than readings, at QoS 0: as far as it comes, and nothing while nobody is connected.

        Raises:
            SessionError: the session was lost.
        """
        for topic in filters:
            code = await self._connection.subscribe(topic, 0)
            if code >= REFUSED:
                logger.error("the broker refuses the subscription to %s (reason code %d)", topic, code)

    async def ignore(self, filters: Iterable[str]) -> None:
        """Ask for no more of that.

        Raises:
            SessionError: the session was lost.
        """
        await self._connection.unsubscribe(list(filters))

    async def unsubscribe(self) -> None:
        """Ask for no more readings.

        Raises:
            SessionError: the session was lost.
        """
        await self._connection.unsubscribe(self._filters)

    @property
    def resumed(self) -> bool:
        """Whether the broker still had the session, with what came meanwhile."""
        return self._connection.resumed

    async def ping(self) -> None:
        """Have the broker answer: what it sent before has arrived when this returns.

        Raises:
            SessionError: it does not.
        """
        await self._connection.ping()

    def acknowledge_through(self, number: int) -> None:
        """Acknowledge messages of this session up to an arrival number; nothing where each is as it comes."""
        self._connection.acknowledge_through(number)

    async def lost(self) -> Never:
        """Wait until the session is lost.

        Raises:
            SessionError: it was.
        """
        await self._connection.lost()


class Broker:
    """Opens sessions at one broker."""

    def __init__(
        self,
        settings: Settings,
        host: str,
        port: int,
        *,
        mqtt_5: bool,
        persistent: bool,
        receive: Callable[[Arrival], None],
        dropped: Callable[[int], None],
        is_foreign: Callable[[str], bool] | None = None,
    ) -> None:
        """Read password and certificates.

        Args:
            settings: credentials, topics, quality of service.
            host: host name or address.
            port: TCP port.
            mqtt_5: try MQTT 5 first.
            persistent: have the broker keep messages until they are acknowledged.
            receive: takes each message as it comes.
            dropped: takes the broker's own count of dropped messages, where it has one.
            is_foreign: see `Link`.

        Raises:
            ConfigError: a file can't be read.
        """
        self._settings = settings
        link = Link(
            host=host,
            port=port,
            client_id=settings.client_id,
            username=settings.username,
            password=settings.password(),
            tls=client_context(settings.tls_ca, settings.tls_cert, settings.tls_key) if settings.uses_tls else None,
            keepalive_s=_KEEPALIVE_S,
            timeout_s=_TIMEOUT_S,
            will=Outgoing(topics.status(settings.client_id), b"offline", retain=True),
            persistent=persistent,
            numbers=count(1),
            is_foreign=is_foreign,
            traced=settings.tracing,
        )
        self._line = Line(link, client=settings.mqtt_client, mqtt_5=mqtt_5, receive=self._take)
        self._refused: set[str] = set()
        self._receive = receive
        self._dropped = dropped

    @property
    def speaks_mqtt_5(self) -> bool:
        """Whether it does, as far as is known: what it said at the last connection."""
        return self._line.speaks_mqtt_5

    @property
    def address(self) -> str:
        """Host and port, for people."""
        return self._line.address

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A connected session, subscribed and announced.

        Raises:
            SessionError: it cannot be had, or was lost inside the context.
        """
        async with self._line.connection() as connection:
            session = Session(connection, self._settings, self._refused, mqtt_5=self._line.speaks_mqtt_5)
            await session.subscribe()
            await session.announce("online")
            yield session

    def _take(self, arrival: Arrival) -> None:
        if arrival.message.topic == _DROPPED_TOPIC:
            with suppress(ValueError):
                self._dropped(int(arrival.message.payload))
        else:
            self._receive(arrival)
