"""A line to one broker: connections one after the other, in the version of MQTT that it speaks."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Literal, cast

from streamer.ingress import Arrival
from streamer.mqtt.connection import (
    Connect,
    Connection,
    Link,
    RefusedError,
    SessionError,
    UnsupportedVersionError,
)
from streamer.mqtt.tls import diagnose

logger = logging.getLogger(__name__)


class Line:
    """Opens connections.

    State: the protocol version that the broker turned out to speak, and whether it was ever reached.
    """

    def __init__(
        self, link: Link, *, client: Literal["gmqtt", "aiomqtt"], mqtt_5: bool, receive: Callable[[Arrival], None]
    ) -> None:
        """Nothing is opened yet.

        Args:
            link: where, as whom and how.
            client: the library.
            mqtt_5: try MQTT 5 first.
            receive: takes each message as it comes.
        """
        self._link = link
        self._mqtt_5 = mqtt_5
        self._spoke_mqtt_5 = False
        self._reached = False
        self._receive = receive
        # Only the client that is used is imported.
        self._connect = cast("Connect", import_module(f"streamer.mqtt.by_{client}").connect)

    @property
    def speaks_mqtt_5(self) -> bool:
        """Whether the broker does, as far as is known: what it said at the last connection."""
        return self._mqtt_5

    @property
    def address(self) -> str:
        """Host and port, for people."""
        return f"{self._link.host}:{self._link.port}"

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """An open connection for as long as the context lasts.

        Raises:
            RefusedError: the broker, or whoever answers there, says no; the message says why.
            SessionError: it cannot be had, or was lost inside the context.
        """
        try:
            opening, connection = await self._open()
        except RefusedError:
            raise
        except SessionError as error:
            # A port that once spoke plain text still does, and looking into it would only take time.
            if self._link.tls is not None or not self._reached:
                reason = await diagnose(self._link.host, self._link.port, self._link.tls)
                if reason is not None:
                    raise RefusedError(reason) from error
            raise
        self._reached = True
        try:
            yield connection
        finally:
            await opening.__aexit__(None, None, None)

    async def _open(self) -> tuple[AbstractAsyncContextManager[Connection], Connection]:
        opening = self._connect(self._link, self._mqtt_5, self._receive)
        try:
            connection = await opening.__aenter__()
        except UnsupportedVersionError as error:
            # A broker that spoke it once is on its way down, or up.
            if not self._mqtt_5 or self._spoke_mqtt_5:
                raise
            logger.info("broker at %s does not speak MQTT 5 (%s); trying 3.1.1", self.address, error)
            opening = self._connect(self._link, False, self._receive)  # noqa: FBT003 # a `Connect`
            connection = await opening.__aenter__()
            self._mqtt_5 = False
        self._spoke_mqtt_5 = self._mqtt_5
        return opening, connection
