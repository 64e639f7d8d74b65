"""What is to be published, in order, until the broker has confirmed it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from streamer.mqtt.connection import Outgoing
from streamer.wire import topics
from streamer.wire.events import ActivityEvent, encode_event


def topic_of(event: ActivityEvent) -> str:
    """Where an event is published."""
    return topics.output(event.device, {"state": "activity", "window": "window"}.get(event.type, "event"))


def cleared(device: str) -> Outgoing:
    """What takes a watch's last state back, for nobody walks for ever: an empty retained message."""
    return Outgoing(topics.output(device, "activity"), b"", retain=True)


@dataclass(frozen=True, slots=True)
class Posted:
    """A publication and the journal's record that led to it; 0 without a journal."""

    record: int
    outgoing: Outgoing


class Outbox:
    """Publications waiting for the broker.

    State: the queue; whoever fills it waits for `room` first, so that it grows no further while no broker takes any.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Posted] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def post(self, record: int, outgoing: Outgoing) -> None:
        """Add a publication."""
        self._waiting.append(Posted(record, outgoing))
        self._filled.set()
        if len(self._waiting) >= self._limit:
            self._room.clear()

    def post_events(
        self,
        record: int,
        events: Iterable[ActivityEvent],
        *,
        caused_ns: int | None = None,
        carry: Callable[[ActivityEvent], tuple[tuple[str, str], ...]] | None = None,
    ) -> None:
        """Add what tells of events.

        Args:
            record: that led to them.
            events: in their order.
            caused_ns: see `Outgoing`.
            carry: gives the user properties of an event; None for none.
        """
        for event in events:
            outgoing = Outgoing(topic_of(event), encode_event(event), event.type == "state", caused_ns)
            if carry is not None:
                outgoing = replace(outgoing, user_properties=carry(event))
            self.post(record, outgoing)
            if event.type == "end" and event.reason in {"silence", "evicted", "shutdown"}:
                self.post(record, cleared(event.device))

    async def filled(self) -> None:
        """Return once something waits."""
        await self._filled.wait()

    async def room(self) -> None:
        """Return once fewer than the limit wait."""
        await self._room.wait()

    def first(self, most: int) -> list[Outgoing]:
        """The oldest publications, up to a number."""
        return [posted.outgoing for posted in islice(self._waiting, most)]

    def confirm(self, number: int) -> None:
        """Forget the oldest publications: the broker has them."""
        for _ in range(number):
            self._waiting.popleft()
        self._settle()

    def published_before(self, next_record: int) -> int:
        """The record before which all publications are confirmed, `next_record` where none is waiting."""
        return self._waiting[0].record if self._waiting else next_record

    def forget_before(self, record: int) -> None:
        """Forget what records before this one led to."""
        while self._waiting and self._waiting[0].record < record:
            self._waiting.popleft()
        self._settle()

    def __iter__(self) -> Iterator[Posted]:
        return iter(self._waiting)

    def _settle(self) -> None:
        if not self._waiting:
            self._filled.clear()
        if len(self._waiting) < self._limit:
            self._room.set()
