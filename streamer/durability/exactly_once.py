"""Exactly once: what a message did is in the journal, and its events are out, before it is acknowledged.

docs/exactly-once.md has the whole of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Final

from streamer import clock
from streamer.durability.journal import Call
from streamer.durability.snapshot import SCHEMA, Header, Unpublished
from streamer.durability.store import StateStore
from streamer.errors import PayloadError
from streamer.metrics import Metrics
from streamer.mqtt.connection import Outgoing
from streamer.outbox import Outbox, cleared
from streamer.recognizer import Recognizer
from streamer.results import Result
from streamer.session import Session
from streamer.wire import topics
from streamer.wire.events import encode_event
from streamer.wire.payload import Message

logger = logging.getLogger(__name__)

#: Calls of a recovery between which the event loop may answer.
_REPLAY_AT_A_TIME: Final = 20


class ExactlyOnce:
    """See `Delivery`: what a message did is in the journal, and its events are out, before it is acknowledged.

    State: which messages are still owed an acknowledgement, which may come again, and the session, while there is one.
    """

    keeps = True

    def __init__(
        self, recognizer: Recognizer, store: StateStore, outbox: Outbox, metrics: Metrics, *, workers: int
    ) -> None:
        self._recognizer = recognizer
        self._store = store
        self._outbox = outbox
        self._metrics = metrics
        self._workers = workers
        self._session: Session | None = None
        self._resumable = False
        #: Journal record, arrival number and messages of what may be acknowledged once the record is done with.
        self._owed: deque[tuple[int, int, Sequence[Message]]] = deque()
        #: Digests of messages in the state, or in the queue, that the broker may bring again.
        self._repeats: Counter[int] = Counter()
        self._acknowledged = 0
        self._securing = False
        self._nothing_owed = asyncio.Event()
        self._nothing_owed.set()
        metrics.unacknowledged_messages.set_function(
            lambda: self._owed[-1][1] - self._acknowledged if self._owed else 0
        )

    async def recover(self) -> int | None:
        """See `Delivery`."""
        recovered = self._store.recover(self._recognizer)
        header = recovered.header
        if header is None or recovered.of_other:
            if header is not None:
                for left in (*header.outbox, *header.farewell):
                    self._outbox.post(0, Outgoing(left.topic, left.payload, left.retain))
                for device, _ in (*header.liveness.alive, *header.liveness.silent):
                    self._outbox.post(0, cleared(device))
            self._take_snapshot(clock.now_ns())
            return None
        self._resumable = True
        for left in header.outbox:
            self._outbox.post(left.record, Outgoing(left.topic, left.payload, left.retain))
        self._repeats.update(header.unacknowledged)
        listened_ns, repeated = header.now_ns, 0
        for record, call in self._store.replay(header):
            self._outbox.forget_before(call.published)
            self._outbox.post_events(record, self._run(call).events)
            self._repeats.update(map(_digest, call.messages))
            listened_ns, repeated = call.now_ns, repeated + 1
            if repeated % _REPLAY_AT_A_TIME == 0:
                await asyncio.sleep(0)
        logger.info(
            "went on with %d watches: %d calls repeated, %d publications to do",
            len(self._recognizer.watches),
            repeated,
            len(self._outbox),
        )
        return listened_ns

    async def run(self) -> None:
        """See `Delivery`."""
        await self._store.run(self._after_writing)

    def connected(self, session: Session, *, mqtt_5: bool) -> None:
        """See `Delivery`."""
        self._session = session
        # A broker that isn't told how many messages may be unacknowledged waits for each few of them.
        self._store.gather_briefly(not mqtt_5)
        if self._resumable and not session.resumed:
            self._metrics.lost_sessions.inc()
            logger.warning("the broker no longer has the session: what came since the last one is lost")
        self._resumable = True

    def disconnected(self, waiting: Iterable[Message]) -> None:
        """See `Delivery`."""
        self._session = None
        # What an earlier session has not brought again yet may still come: the larger number of each counts.
        self._repeats |= Counter([*self._unacknowledged(), *map(_digest, waiting)])

    def is_repeat(self, message: Message) -> bool:
        """See `Delivery`."""
        if self._repeats:
            digest = _digest(message)
            if self._repeats[digest] > 0:
                self._repeats[digest] -= 1
                return True
        return False

    def end_repeats(self) -> None:
        """See `Delivery`."""
        if self._repeats:
            self._repeats.clear()

    async def room(self) -> None:
        """See `Delivery`."""
        await self._store.room()

    def run_call(self, now_ns: int, deaf_ns: int, messages: list[Message]) -> tuple[Result, int]:
        """See `Delivery`."""
        call, record = self._note(now_ns, deaf_ns, messages)
        return self._run(call), record

    async def run_tick(self, now_ns: int, deaf_ns: int) -> tuple[Result, int]:
        """See `Delivery`."""
        call, record = self._note(now_ns, deaf_ns, [])
        self._securing = True
        try:
            await self._store.sync()
            return self._run(call), record
        finally:
            self._securing = False

    def worked_off(self, number: int | None, messages: Sequence[Message]) -> None:
        """See `Delivery`."""
        if number is not None:
            self._owed.append((self._store.next - 1, number, messages))
            self._nothing_owed.clear()
        self.settle()
        if self._store.snapshot_due:
            self._take_snapshot(clock.now_ns())

    def _after_writing(self) -> None:
        self.settle()
        # Where the disk is full no call may come any more to ask for what makes room. A tick that is being secured has
        # its record but not its effect yet.
        if self._store.failing and self._store.snapshot_due and not self._securing:
            self._take_snapshot(clock.now_ns())

    def settle(self) -> None:
        """See `Delivery`."""
        done = min(self._outbox.published_before(self._store.next), self._store.durable)
        number = None
        while self._owed and self._owed[0][0] < done:
            number = self._owed.popleft()[1]
        if number is not None:
            self._acknowledged = number
            if self._session is not None:
                self._session.acknowledge_through(number)
        if not self._owed:
            self._nothing_owed.set()

    async def settled(self) -> None:
        """See `Delivery`."""
        await self._nothing_owed.wait()

    def keep_letters(self, refused: Sequence[tuple[Message, PayloadError]], now_ns: int) -> None:
        """See `Delivery`."""
        self._metrics.dead_letters.inc(self._store.letters.add(refused, now_ns))

    async def flush(self) -> None:
        """See `Delivery`."""
        await self._store.sync()
        self.settle()

    async def close(self, listened_ns: int | None) -> None:
        """See `Delivery`."""
        self._take_snapshot(listened_ns or clock.now_ns(), last=True)
        await self._store.sync()

    def _unacknowledged(self) -> Iterator[int]:
        return (_digest(message) for _, _, messages in self._owed for message in messages)

    def _note(self, now_ns: int, deaf_ns: int, messages: list[Message]) -> tuple[Call, int]:
        call = Call(now_ns, deaf_ns, self._outbox.published_before(self._store.next), messages)
        return call, self._store.append(call)

    def _run(self, call: Call) -> Result:
        began_s = time.perf_counter()
        if call.deaf_ns:
            self._recognizer.excuse(call.deaf_ns)
        result = self._recognizer.process(call.messages, call.now_ns)
        self._store.worked(time.perf_counter() - began_s)
        return result

    def _take_snapshot(self, listened_ns: int, *, last: bool = False) -> None:
        """Have the state written as it is.

        Args:
            listened_ns: when the broker was last heard of.
            last: the process ends, so that another bundle's may find what would end every bout.
        """
        farewell = self._recognizer.closing("shutdown") if last else []
        self._store.take_snapshot(
            self._recognizer,
            Header(
                schema=SCHEMA,
                model_digest=self._recognizer.bundle.digest,
                workers=self._workers,
                record=self._store.next,
                now_ns=listened_ns,
                liveness=self._recognizer.watches.export_liveness(),
                outbox=[
                    Unpublished(posted.record, posted.outgoing.topic, posted.outgoing.payload, posted.outgoing.retain)
                    for posted in self._outbox
                ],
                unacknowledged=[*self._unacknowledged(), *self._repeats.elements()],
                farewell=[
                    Unpublished(0, topics.output(event.device, "event"), encode_event(event), retain=False)
                    for event in farewell
                ],
            ),
        )


def _digest(message: Message) -> int:
    """What two messages share only if they are the same."""
    digest = blake2b(message.topic.encode(), digest_size=8)
    # No topic holds a zero byte, so that what follows it is the payload.
    digest.update(b"\0")
    digest.update(message.payload)
    return int.from_bytes(digest.digest(), "little")
