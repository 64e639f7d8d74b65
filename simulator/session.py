"""A sender's connection to a broker: publishes, reconnects, and knows how far the service has come.

Sync: the sender publishes a marker on `topics.sync(token)` behind its messages; a service answers with the token on
its `synced` topic once everything before it was processed. That is what paces a replay at full speed, and what tells
when it is over: brokers drop messages silently when a subscriber falls behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from streamer.errors import ConfigError, HarError
from streamer.mqtt.tls import diagnose
from streamer.wire import topics

_log = logging.getLogger(__name__)
# The client says in the log what it raises as well.
_client_log = logging.getLogger(f"{__name__}.client")
_client_log.setLevel(logging.CRITICAL)

#: A broker that speaks only MQTT 3.1.1 refuses version 5 with one of these: the code of 3.1.1, or that of 5.
_WRONG_VERSION: Final = (1, 132)
#: How long a lost broker is tried again before the sender gives up.
RECONNECT_S: Final = 60.0
#: How long a service may take for the next answer.
ANSWER_S: Final = 60.0
_HELLO_S: Final = 2.0
_RETRY_S: Final = 0.2


#: Holds the password where no file does; an option would show in the process list.
PASSWORD_VARIABLE: Final = "SIMULATOR_PASSWORD"  # noqa: S105 # its name, not it


class BrokerError(HarError):
    """The broker or the service behind it does not answer."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where to publish, and as whom."""

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    qos: Literal[0, 1] = 1
    tls: ssl.SSLContext | None = None

    @property
    def place(self) -> str:
        """Host and port, for people."""
        return f"{self.host}:{self.port}"


def read_password(file: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The password in a file or in SIMULATOR_PASSWORD, None without either.

    Raises:
        ConfigError: the file cannot be read.
    """
    if file is None:
        return environment.get(PASSWORD_VARIABLE)
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"--password-file {file}: cannot be read ({error.strerror})") from error


class Session:
    """An open connection; made by `open_session`.

    State: the services that said they are online, and the sync markers that they have not answered yet.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._id = f"simulator-{uuid.uuid4().hex[:12]}"
        self._version = aiomqtt.ProtocolVersion.V5
        self._client: aiomqtt.Client | None = None
        self._attempt: asyncio.Timeout | None = None
        self._changed = asyncio.Condition()
        self._marks = 0
        self._services: set[str] = set()
        self._unanswered: dict[str, set[str]] = {}
        self._greeted = asyncio.Event()

    @property
    def services(self) -> frozenset[str]:
        """Client ids of the services that are online."""
        return frozenset(self._services)

    async def publish(self, topic: str, payload: bytes, *, content_type: str | None = None) -> None:
        """Hand a message to the broker; with QoS 1 return when it is acknowledged. Tried again while reconnecting.

        Raises:
            BrokerError: no broker for RECONNECT_S.
        """
        try:
            async with asyncio.timeout(RECONNECT_S):
                while True:
                    client = await self._connected()
                    properties = None
                    if content_type and self._version is aiomqtt.ProtocolVersion.V5:
                        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho's is
                        properties.ContentType = content_type
                    try:
                        async with asyncio.timeout(None) as attempt:
                            self._attempt = attempt
                            await client.publish(topic, payload, self._broker.qos, properties=properties)
                    except (aiomqtt.MqttError, TimeoutError) as error:
                        _log.info("publishing to %s again: %s", topic, error)
                        await asyncio.sleep(_RETRY_S)
                    else:
                        break
                    finally:
                        self._attempt = None
        except TimeoutError:
            raise BrokerError(f"broker {self._broker.place} took nothing for {RECONNECT_S} s") from None
        # Python 3.11's wait_for, which the client uses, swallows a cancellation that meets an acknowledgement.
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError
        # With QoS 0 nothing above waits, and what arrives has to be read as well.
        await asyncio.sleep(0)

    async def mark(self) -> None:
        """Ask the services for an answer once everything published before is processed; nothing without services."""
        if self._services:
            self._marks += 1
            token = f"{self._id}-{self._marks}"
            self._unanswered[token] = set(self._services)
            await self.publish(topics.sync(token), b"")

    async def wait_answers(self, *, outstanding: int = 0) -> None:
        """Return when at most `outstanding` markers are unanswered.

        Raises:
            BrokerError: no answer for ANSWER_S.
        """
        while (waiting := len(self._unanswered)) > outstanding:
            try:
                async with asyncio.timeout(ANSWER_S), self._changed:
                    await self._changed.wait_for(lambda: len(self._unanswered) < waiting)
            except TimeoutError:
                late = ", ".join(sorted(set().union(*self._unanswered.values())))
                raise BrokerError(
                    f"service {late} has not answered for {ANSWER_S:.0f} s; what was sent may not be processed"
                ) from None

    async def _connected(self) -> aiomqtt.Client:
        async with self._changed:
            while self._client is None:
                await self._changed.wait()
            return self._client

    async def _greet(self) -> None:
        """Return when connected and the retained states of all services are known."""
        await self._connected()
        # The broker sends retained messages before it echoes what came after the subscription. One that lets
        # simulators publish readings only never echoes.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HELLO_S):
                await self.publish(topics.synced(self._id), b"hello")
                await self._greeted.wait()

    async def _keep(self) -> None:
        """Connect, listen, reconnect, until cancelled.

        Raises:
            BrokerError: the first connection fails, or the broker stays away for RECONNECT_S.
        """
        loop = asyncio.get_running_loop()
        give_up_s, ever = loop.time(), False
        while True:
            try:
                async with aiomqtt.Client(
                    self._broker.host,
                    self._broker.port,
                    username=self._broker.username,
                    password=self._broker.password,
                    identifier=self._id,
                    tls_context=self._broker.tls,
                    protocol=self._version,
                    logger=_client_log,
                    # Readings go out when they are due, not when the message before is acknowledged.
                    socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
                ) as client:
                    ever = True
                    await self._listen(client)
            except aiomqtt.MqttError as error:
                if self._client is not None:
                    self._client, give_up_s = None, loop.time() + RECONNECT_S
                    if self._attempt is not None and self._attempt.when() is None:
                        # The client would wait ten seconds for an acknowledgement that cannot come.
                        self._attempt.reschedule(loop.time())
                if self._version is aiomqtt.ProtocolVersion.V5 and _refused_version(error):
                    self._version = aiomqtt.ProtocolVersion.V311
                    continue
                if not ever or loop.time() > give_up_s:
                    raise await self._unusable(error) from error
                _log.warning("connection lost (%s), trying again", error)
                await asyncio.sleep(_RETRY_S)

    async def _unusable(self, error: aiomqtt.MqttError) -> BrokerError:
        place = self._broker.place
        if isinstance(error, aiomqtt.MqttCodeError):
            return BrokerError(f"MQTT broker at {place} refuses the connection: {error}")
        reason = await diagnose(self._broker.host, self._broker.port, self._broker.tls)
        if reason is not None:
            return BrokerError(f"MQTT broker at {place}: {reason}")
        return BrokerError(
            f"no MQTT broker at {place} ({error}); start one, or `har-stream --broker embedded`, or name another with "
            "--broker and --port"
        )

    async def _listen(self, client: aiomqtt.Client) -> None:
        await client.subscribe([(topics.STATUS_FILTER, 1), (topics.SYNCED_FILTER, 1)])
        async with self._changed:
            self._client = client
            self._changed.notify_all()
        await self._repeat_marks(client)
        async for message in client.messages:
            payload = bytes(message.payload) if isinstance(message.payload, bytes | bytearray) else b""
            match str(message.topic).split("/"):
                case ["har", "service", service, "status"]:
                    came = payload == b"online" and service not in self._services
                    await self._set_online(service, online=payload == b"online")
                    if came:
                        await self._repeat_marks(client)
                case ["har", "service", service, "synced"]:
                    await self._answered(service, payload.decode("ascii", "replace"))
                case _:
                    # The embedded broker hands out retained messages that were not asked for.
                    pass

    async def _repeat_marks(self, client: aiomqtt.Client) -> None:
        """Markers may have been lost with a connection; a second answer to one does no harm."""
        for token in list(self._unanswered):
            await client.publish(topics.sync(token), b"", self._broker.qos)

    async def _set_online(self, service: str, *, online: bool) -> None:
        async with self._changed:
            if online:
                self._services.add(service)
            else:
                self._services.discard(service)
                for waiting in self._unanswered.values():
                    waiting.discard(service)
                self._forget_answered()

    async def _answered(self, service: str, token: str) -> None:
        if service == self._id:
            self._greeted.set()
        elif token in self._unanswered:
            async with self._changed:
                self._unanswered[token].discard(service)
                self._forget_answered()

    def _forget_answered(self) -> None:
        self._unanswered = {token: waiting for token, waiting in self._unanswered.items() if waiting}
        self._changed.notify_all()


@asynccontextmanager
async def open_session(broker: Broker) -> AsyncIterator[Session]:
    """A connected session that knows which services are online; MQTT 5, or 3.1.1 where the broker speaks only that.

    Raises:
        BrokerError: there is no broker, it refuses, or it goes away for good.
    """
    session = Session(broker)
    try:
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(session._keep())  # noqa: SLF001 (its own constructor function)
            await session._greet()  # noqa: SLF001 (likewise)
            yield session
            keeper.cancel()
    except BaseExceptionGroup as group:
        # One thing went wrong; the group is the task group's business.
        raise group.exceptions[0] from None


def _refused_version(error: aiomqtt.MqttError) -> bool:
    if not isinstance(error, aiomqtt.MqttCodeError):
        return False
    code = error.rc.value if isinstance(error.rc, ReasonCode) else error.rc
    return code in _WRONG_VERSION
