"""The one queue of the service: messages as they arrived, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

import msgspec

from streamer.wire.payload import Message


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A message, when it came (ns since the UTC epoch) and how.

    Attributes:
        message: as it came, or without its payload where nobody needs that.
        arrived_ns: by the service's clock.
        qos: MQTT quality of service.
        number: counts arrivals over all connections, so that it says up to where to acknowledge.
        again: the broker says that it may have brought it before.
        is_done: there is nothing to do but acknowledge it.
        traceparent: the sender's, where traces are made; outlives neither queue nor process.
    """

    message: Message
    arrived_ns: int
    qos: int
    number: int = 0
    again: bool = False
    is_done: bool = False
    traceparent: str | None = None

    @property
    def size(self) -> int:
        """Payload bytes."""
        return len(self.message.payload)


class Ingress:
    """Messages waiting to be processed.

    Past its bound the oldest message makes room, of QoS 0 first: the newest readings are worth more than the oldest.
    What came with QoS 1 is dropped last, or, where the broker would bring it again, refused.

    State: the waiting messages, and how many were dropped so far.

    >>> ingress = Ingress(limit_bytes=10)
    >>> for text in (b"first", b"second", b"3rd"):
    ...     _ = ingress.put(Arrival(Message("har/v1/wrist/imu", text), 0, qos=0))
    >>> [arrival.message.payload for arrival in ingress.take(5)], ingress.dropped
    ([b'second', b'3rd'], 1)
    """

    def __init__(self, *, limit_bytes: int, limit_messages: int = 1_000_000, keep_qos_1: bool = False) -> None:
        """Nothing waits yet.

        Args:
            limit_bytes: payload bytes that may wait.
            limit_messages: messages that may wait, as each takes room besides its payload.
            keep_qos_1: the broker brings again what is refused, so refuse messages of QoS 1 rather than drop them.
        """
        self._limit_bytes = limit_bytes
        self._limit_messages = limit_messages
        self._keep_qos_1 = keep_qos_1
        self._waiting: deque[Arrival] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self.waiting_bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Arrival]:
        return iter(self._waiting)

    def has_room(self, size: int) -> bool:
        """Whether a message of so many bytes would push none out."""
        return self.waiting_bytes + size <= self._limit_bytes and len(self._waiting) < self._limit_messages

    def put(self, arrival: Arrival) -> bool:
        """Add a message; never blocks. False: it is left with the broker, for want of room."""
        while self._waiting and not self.has_room(arrival.size):
            if not self._drop_one():
                if arrival.qos:
                    return False
                self.dropped += 1
                return True
        self._waiting.append(arrival)
        self.waiting_bytes += arrival.size
        self._filled.set()
        self._emptied.clear()
        return True

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
            taken_bytes += arrival.size
            taken.append(arrival)
        self.waiting_bytes -= taken_bytes
        if not self._waiting:
            self._filled.clear()
            self._emptied.set()
        return taken

    def _drop_one(self) -> bool:
        # The oldest of QoS 0 stands in front in any feed of one QoS; a mixed feed is searched a little way.
        for i in range(min(len(self._waiting), 100)):
            if self._waiting[i].qos == 0:
                self.waiting_bytes -= self._waiting[i].size
                del self._waiting[i]
                break
        else:
            if self._keep_qos_1:
                return False
            self.waiting_bytes -= self._waiting.popleft().size
        self.dropped += 1
        return True
