"""The one queue of the service: messages as they arrived, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from streamer.wire.payload import Message


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message, when it came (ns since the UTC epoch) and how (MQTT quality of service)."""

    message: Message
    arrived_ns: int
    qos: int


class Ingress:
    """Messages waiting to be processed.

    Past its bound the oldest message makes room, of QoS 0 first: the newest readings are worth more than the oldest,
    and what a QoS 1 sender was promised is dropped last.

    State: the waiting messages, and how many were dropped so far.

    >>> ingress = Ingress(limit_bytes=10)
    >>> for text in (b"first", b"second", b"3rd"):
    ...     ingress.put(Arrival(Message("har/v1/wrist/imu", text), 0, qos=0))
    >>> [arrival.message.payload for arrival in ingress.take(5)], ingress.dropped
    ([b'second', b'3rd'], 1)
    """

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._waiting: deque[Arrival] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self.waiting_bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, arrival: Arrival) -> None:
        """Add a message; never blocks, never refuses it."""
        self._waiting.append(arrival)
        self.waiting_bytes += len(arrival.message.payload)
        while self.waiting_bytes > self._limit_bytes and len(self._waiting) > 1:
            self._drop_one()
        self._filled.set()
        self._emptied.clear()

    async def wait(self) -> None:
        """Return once a message is waiting."""
        await self._filled.wait()

    async def emptied(self) -> None:
        """Return once no message is waiting."""
        await self._emptied.wait()

    def take(self, most: int, *, most_bytes: int = 1_000_000) -> list[Arrival]:
        """The oldest messages, at least one where there is one, up to a number and a size."""
        taken: list[Arrival] = []
        taken_bytes = 0
        while self._waiting and len(taken) < most and (not taken or taken_bytes < most_bytes):
            arrival = self._waiting.popleft()
            taken_bytes += len(arrival.message.payload)
            taken.append(arrival)
        self.waiting_bytes -= taken_bytes
        if not self._waiting:
            self._filled.clear()
            self._emptied.set()
        return taken

    def _drop_one(self) -> None:
        # The oldest of QoS 0 stands in front in any feed of one QoS; a mixed feed is searched a little way.
        for i in range(min(len(self._waiting) - 1, 100)):
            if self._waiting[i].qos == 0:
                self.waiting_bytes -= len(self._waiting[i].message.payload)
                del self._waiting[i]
                break
        else:
            self.waiting_bytes -= len(self._waiting.popleft().message.payload)
        self.dropped += 1
