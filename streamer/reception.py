"""What is done with a message as it comes: queued, left with the broker, or only acknowledged in its turn."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec

from streamer import clock
from streamer.delivery import Delivery
from streamer.errors import PayloadError, RejectReason
from streamer.ingress import Arrival, Ingress
from streamer.metrics import Metrics
from streamer.wire import topics
from streamer.wire.payload import MAX_BYTES, Message, device_in
from streamer.workers import is_own, worker_of

logger = logging.getLogger(__name__)

_REFUSAL_LOG_S: Final = 10.0


class Refusals:
    """Keeps messages that are refused, and logs some of them.

    State: how many were refused since the last line in the log.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._logged_s = float("-inf")
        self._unlogged = 0

    def note(self, refused: Sequence[tuple[Message, PayloadError]], now_ns: int) -> None:
        """Note messages that were refused and counted; an example is logged, not more often than every 10 s."""
        self._delivery.keep_letters(refused, now_ns)
        self._unlogged += len(refused)
        now_s = time.monotonic()
        if now_s - self._logged_s >= _REFUSAL_LOG_S:
            logger.warning("%d messages refused, such as: %s", self._unlogged, refused[0][1])
            self._logged_s, self._unlogged = now_s, 0


class Reception:
    """Decides about each message before it is queued.

    State: how many messages were left with the broker since the session began.
    """

    def __init__(
        self, ingress: Ingress, delivery: Delivery, metrics: Metrics, refusals: Refusals, *, worker: int, workers: int
    ) -> None:
        self._ingress = ingress
        self._delivery = delivery
        self._metrics = metrics
        self._refusals = refusals
        self._worker = worker
        self._workers = workers
        self._closed = False
        self._leaving = asyncio.Event()
        self.left = 0

    def take(self, arrival: Arrival) -> None:
        """Queue a message, unless it came before, is another worker's, or its size alone refuses it."""
        # Behind a message that was left with the broker none may be acknowledged, so none is taken.
        if arrival.qos and (self.left or (self._closed and self._delivery.keeps)):
            self._leave()
            return
        if arrival.qos and not arrival.again:
            self._delivery.end_repeats()
        if arrival.again and self._delivery.is_repeat(arrival.message):
            arrival = msgspec.structs.replace(arrival, is_done=True)
        elif len(arrival.message.payload) > MAX_BYTES:
            # Ten messages of 10 MB would push good ones out of the queue.
            self._refuse_size(arrival)
            arrival = _done(arrival)
        elif self._workers > 1 and (self.is_foreign(arrival.message.topic) or self._is_of_another(arrival.message)):
            arrival = _done(arrival)
        if (self._delivery.keeps or not arrival.is_done) and not self._ingress.put(arrival):
            self._leave()

    def push(self, message: Message) -> bool:
        """Queue a message that came over HTTP, if there is room: its sender can try again, so it displaces nothing."""
        if self._closed or not self._ingress.has_room(len(message.payload)):
            return False
        return self._ingress.put(Arrival(message, clock.now_ns(), qos=0))

    def reopen(self) -> None:
        """A session has ended; the next one brings first what was left."""
        self.left = 0
        self._leaving.clear()

    def close(self) -> None:
        """Leave all that comes from now on with a broker that keeps it."""
        self._closed = True

    async def leaving(self) -> None:
        """Return once something was left with the broker."""
        await self._leaving.wait()

    def _leave(self) -> None:
        self.left += 1
        self._leaving.set()
        self._metrics.left_messages.inc()

    def is_foreign(self, topic: str) -> bool:
        """Whether a topic's messages are another worker's."""
        return (
            not topic.startswith("$")  # the broker's own
            and not topics.is_sync(topic)
            and not is_own(topic, worker=self._worker, workers=self._workers)
        )

    def _is_of_another(self, message: Message) -> bool:
        """Whether the device that a payload names, as the topic names none, is another worker's."""
        if topics.device_level(message.topic) is not None:
            return False
        device = None
        with suppress(PayloadError):
            device = device_in(message)
        # What names nobody is refused once.
        return self._worker != (0 if device is None else worker_of(device, self._workers))

    def _refuse_size(self, arrival: Arrival) -> None:
        message, size = arrival.message, len(arrival.message.payload)
        error = PayloadError(RejectReason.OVERSIZE, f"{message.topic:.100}: {size} bytes; expected at most {MAX_BYTES}")
        self.refuse(message, error, arrival.arrived_ns)

    def refuse(self, message: Message, error: PayloadError, arrived_ns: int) -> None:
        """Count and keep a message that is not to be queued."""
        self._metrics.messages.inc()
        self._metrics.message_bytes.inc(len(message.payload))
        self._metrics.rejects[error.reason].inc()
        self._refusals.note([(message, error)], arrived_ns)


def _done(arrival: Arrival) -> Arrival:
    """An arrival of which nobody needs the payload any more."""
    return msgspec.structs.replace(arrival, message=Message(arrival.message.topic, b""), is_done=True)
