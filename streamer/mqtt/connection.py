"""What the service asks of an MQTT client library, and nothing more."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Never, Protocol

from streamer.errors import HarError
from streamer.ingress import Arrival


class SessionError(HarError):
    """The session cannot be had or was lost; another may be tried."""


class RefusedError(SessionError):
    """The broker, or whoever answers there, says no: to the credentials, the certificate or the subscription."""


class UnsupportedVersionError(SessionError):
    """The broker does not speak the version of MQTT that was asked for."""


#: Answers to CONNECT that the client's credentials or name bring about: of MQTT 3.1.1, then reason codes of MQTT 5.
#: The broker's own state may be mended without the client, these may not.
REFUSALS: Final = frozenset({2, 4, 5, 133, 134, 135, 138, 140})
#: The user property of MQTT 5 that names a message's place in a trace, and the most letters that are taken of one: 55
#: today, more in versions to come.
TRACEPARENT: Final = "traceparent"
LONGEST_TRACEPARENT: Final = 100
#: Answers to a subscription or a publication from here on say no.
REFUSED: Final = 128


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One publication.

    Attributes:
        topic, payload, retain: as in MQTT.
        caused_ns: when the message that led to it arrived, None where nothing did.
        content_type, user_properties: of MQTT 5; left out where the session speaks 3.1.1.
    """

    topic: str
    payload: bytes
    retain: bool = False
    caused_ns: int | None = None
    content_type: str | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where and as whom to connect, and how.

    Attributes:
        will: published, retained, when the connection breaks; None for nothing.
        persistent: the broker is to keep what comes while nobody is connected, and what is not acknowledged.
        numbers: numbers for arrivals, over all connections.
        is_foreign: whether a topic's messages are another worker's; of those most needn't be handed on. None: all are.
        traced: arrivals are to say what their senders' user property `traceparent` says.
    """

    host: str
    port: int
    client_id: str
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None
    keepalive_s: int
    timeout_s: float
    will: Outgoing | None
    persistent: bool
    numbers: Iterator[int]
    is_foreign: Callable[[str], bool] | None = None
    traced: bool = False


class Connection(Protocol):
    """An open connection. Its messages go to the function that it was opened with, in their order of arrival.

    Attributes:
        resumed: the broker still had the session.
    """

    resumed: bool

    async def subscribe(self, topic: str, qos: int) -> int:
        """The broker's answer to a subscription; 128 and above say no.

        Raises:
            SessionError: the connection was lost, or there is no answer.
        """
        ...

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        """Ask for no more messages of these filters.

        Raises:
            SessionError: the connection was lost.
        """
        ...

    async def publish(self, batch: Sequence[Outgoing]) -> list[int]:
        """Publish all at QoS 1; return when the broker has answered, with the reason codes of those that it refused.

        A broker of MQTT 3.1.1 has no way to refuse one: it drops what the client may not publish without a word.

        Raises:
            SessionError: the connection was lost; some of the batch may have been published.
        """
        ...

    async def ping(self) -> None:
        """Have the broker answer: what it sent before has arrived when this returns.

        Raises:
            SessionError: it does not.
        """
        ...

    def acknowledge_through(self, number: int) -> None:
        """Acknowledge the messages of this connection up to an arrival number, in their order of arrival.

        On a connection that is not persistent each is acknowledged as it comes, and this does nothing.
        """
        ...

    async def lost(self) -> Never:
        """Wait until the connection is lost.

        Raises:
            SessionError: it was.
        """
        ...


#: Opens a connection for the duration of a context: link, whether MQTT 5 is spoken, and what takes the messages.
#: Raises SessionError when it cannot be had, of it RefusedError when the broker turns the client down, and
#: UnsupportedVersionError when another version may do.
Connect = Callable[[Link, bool, Callable[[Arrival], None]], AbstractAsyncContextManager[Connection]]


def traceparent_in(user_properties: Iterable[tuple[object, object]]) -> str | None:
    """What a message's user properties say of its place in a trace, unread; None where they don't.

    >>> traceparent_in([("unit", "g"), ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")])
    '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    """
    for name, value in user_properties:
        if name == TRACEPARENT:
            return value if isinstance(value, str) and len(value) <= LONGEST_TRACEPARENT else None
    return None
