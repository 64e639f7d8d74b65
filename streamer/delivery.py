"""What becomes of a message once it has come: acknowledged at once, or when what it did would survive a SIGKILL.

AtMostOnce     keeps nothing; the client acknowledges each message as it comes
ExactlyOnce    journal, snapshots and held-back acknowledgements: durability/exactly_once.py
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from streamer.errors import PayloadError
from streamer.recognizer import Recognizer
from streamer.results import Result
from streamer.session import Session
from streamer.wire.payload import Message


class Delivery(Protocol):
    """Decides when messages are acknowledged.

    Attributes:
        keeps: the state outlives the process, and the broker keeps messages until they are acknowledged.
    """

    keeps: bool

    async def recover(self) -> int | None:
        """Go on where an earlier process stopped; when that last heard of the broker, None where there was none.

        Raises:
            ConfigError: its state can't be read.
        """
        ...

    async def run(self) -> None:
        """Do what there is to do besides the calls below, for ever."""
        ...

    def connected(self, session: Session, *, mqtt_5: bool) -> None:
        """A session has begun."""
        ...

    def disconnected(self, waiting: Iterable[Message]) -> None:
        """It has ended.

        Args:
            waiting: messages of QoS 1 that it brought and that are still to be worked off.
        """
        ...

    def is_repeat(self, message: Message) -> bool:
        """Whether a message that the broker may have brought before was, and is or will be worked off.

        Its readings' times would tell as well, but for a watch whose clock was set back in between.
        """
        ...

    def end_repeats(self) -> None:
        """The broker has begun to bring messages for the first time: those that it brings again are through."""
        ...

    async def room(self) -> None:
        """Return once another call may be run."""
        ...

    def run_call(self, now_ns: int, deaf_ns: int, messages: list[Message]) -> tuple[Result, int]:
        """What comes of a call of the recognizer, and the record to post that under.

        Args:
            now_ns: see `Recognizer.process`.
            deaf_ns: see `Recognizer.excuse`.
            messages: see `Recognizer.process`.
        """
        ...

    async def run_tick(self, now_ns: int, deaf_ns: int) -> tuple[Result, int]:
        """Like `run_call` without messages: a tick doesn't come again, so it is secured before its events are out."""
        ...

    def worked_off(self, number: int | None, messages: Sequence[Message]) -> None:
        """All messages up to an arrival number have been worked off, and what came of them posted.

        Args:
            number: None where none of them wants an acknowledgement.
            messages: those since the last call of this that do.
        """
        ...

    def settle(self) -> None:
        """Acknowledge what is done with; to be called when publications were confirmed."""
        ...

    async def settled(self) -> None:
        """Return once nothing is owed an acknowledgement."""
        ...

    def keep_letters(self, refused: Sequence[tuple[Message, PayloadError]], now_ns: int) -> None:
        """Keep messages that were refused."""
        ...

    async def flush(self) -> None:
        """Secure and acknowledge what can be."""
        ...

    async def close(self, listened_ns: int | None) -> None:
        """The process ends: keep what is needed to go on.

        Args:
            listened_ns: when the broker was last heard of, less what no call has been told yet of earlier deafness.
        """
        ...


class AtMostOnce:
    """See `Delivery`: nothing is kept."""

    keeps = False

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer

    async def recover(self) -> int | None:
        """See `Delivery`."""
        return None

    async def run(self) -> None:
        """See `Delivery`."""
        await asyncio.Event().wait()

    def connected(self, session: Session, *, mqtt_5: bool) -> None:
        """See `Delivery`."""

    def disconnected(self, waiting: Iterable[Message]) -> None:
        """See `Delivery`."""

    def is_repeat(self, message: Message) -> bool:  # noqa: ARG002 # a `Delivery`
        """See `Delivery`."""
        return False

    def end_repeats(self) -> None:
        """See `Delivery`."""

    async def room(self) -> None:
        """See `Delivery`."""

    def run_call(self, now_ns: int, deaf_ns: int, messages: list[Message]) -> tuple[Result, int]:
        """See `Delivery`."""
        if deaf_ns:
            self._recognizer.excuse(deaf_ns)
        return self._recognizer.process(messages, now_ns), 0

    async def run_tick(self, now_ns: int, deaf_ns: int) -> tuple[Result, int]:
        """See `Delivery`."""
        return self.run_call(now_ns, deaf_ns, [])

    def worked_off(self, number: int | None, messages: Sequence[Message]) -> None:
        """See `Delivery`."""

    def settle(self) -> None:
        """See `Delivery`."""

    async def settled(self) -> None:
        """See `Delivery`."""

    def keep_letters(self, refused: Sequence[tuple[Message, PayloadError]], now_ns: int) -> None:
        """See `Delivery`."""

    async def flush(self) -> None:
        """See `Delivery`."""

    async def close(self, listened_ns: int | None) -> None:
        """See `Delivery`."""
