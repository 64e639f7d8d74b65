"""The service: messages from the broker, through the recognizer, events back to the broker.

    Broker session ─▶ Ingress ─▶ worker: journal, Recognizer.process ─▶ Outbox ─▶ Broker session
                                                                                     │
           acknowledge, once the journal is on the disk and the events are out ◀─────┘

One worker, one call in flight. Sessions come and go with the broker; worker, queue, watches and outbox stay. When a
message is acknowledged is decided in delivery.py.

Past 400 lines, since how a session begins and ends, the worker and the publisher share one life, and read as one story.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

from streamer import clock
from streamer.announcer import Announcer
from streamer.config import Settings
from streamer.delivery import AtMostOnce, Delivery
from streamer.durability.exactly_once import ExactlyOnce
from streamer.durability.store import StateStore
from streamer.errors import HarError
from streamer.ingest import Ingest
from streamer.ingress import Arrival, Ingress
from streamer.likeness.fleet import FleetLikeness
from streamer.live.board import Board
from streamer.metrics import Metrics, StageClock
from streamer.mqtt.connection import Outgoing, RefusedError, SessionError
from streamer.notices import Notices
from streamer.outbox import Outbox
from streamer.reception import Reception, Refusals
from streamer.recognizer import Recognizer
from streamer.results import Result
from streamer.session import Broker, Session
from streamer.tasks import first_of, heed_cancellation
from streamer.wire import topics
from streamer.wire.events import ActivityEvent

if TYPE_CHECKING:
    # An extra that need not be installed.
    from streamer.tracing import CallTrace, Tracing

logger = logging.getLogger(__name__)

#: One call's share, about 10 ms of work whether messages are batches or single readings, so that the loop breathes.
_MOST_MESSAGES: Final = 1000
_MOST_BYTES: Final = 200_000
#: How much longer than one worker would each of several gathers, times their number: they share the calls that one
#: would make, and make half as many, for what each spends on messages of the others.
_GATHER_LONGER: Final = 2
_TICK_S: Final = 1.0
#: Payload bytes for which one message may wait: what a message takes in memory besides its payload.
_MESSAGE_BYTES: Final = 256
#: Publications that wait for the broker; past it nothing more is worked off.
_OUTBOX_LIMIT: Final = 10_000
#: Publications under way at once.
_PUBLISH_AHEAD: Final = 100
_FIRST_BACKOFF_S: Final = 0.25
_LONGEST_BACKOFF_S: Final = 15.0
_FAREWELL_S: Final = 5.0


class BrokerError(HarError):
    """The broker can't be used, and the settings say to give up."""


class _LeftBehindError(SessionError):
    """Messages were left with the broker, which brings them again in another session."""


class Service:
    """Runs a recognizer against a broker until told to stop.

    State: the ingress queue, the outbox of what is not yet published, and the session, while there is one.
    """

    def __init__(
        self,
        settings: Settings,
        recognizer: Recognizer,
        metrics: Metrics,
        clock: StageClock,
        *,
        show: Callable[[ActivityEvent], None],
        board: Board | None = None,
        likeness: FleetLikeness | None = None,
        store: StateStore | None = None,
        announcer: Announcer | None = None,
        tracing: Tracing | None = None,
        embedded: bool = False,
        worker: int = 0,
    ) -> None:
        """Set up; nothing runs yet.

        Args:
            settings: where and how much.
            recognizer: the core.
            metrics: what to count with.
            clock: whose `mark` the recognizer calls.
            show: takes each event as it is decided.
            board: keeps what the live page shows; None where there is none.
            likeness: judges whether watches are like those of the training data; None for one of its own.
            store: keeps what outlives the process; None to keep nothing.
            announcer: tells Home Assistant of the watches; None to tell nobody.
            tracing: makes traces of calls; None for none.
            embedded: the broker is the one inside this process.
            worker: which of `settings.workers` processes this one is.
        """
        self._settings = settings
        self._embedded = embedded
        self._recognizer = recognizer
        self._metrics = metrics
        self._clock = clock
        self._show = show
        self._announcer = announcer
        self._tracing = tracing
        self._board = board
        manifest = recognizer.bundle.manifest
        self._notices = Notices(
            FleetLikeness(manifest, recognizer.watches.slot_of) if likeness is None else likeness,
            manifest.name,
            lambda kind: metrics.unlike_training[kind].inc(),
        )
        self._ingress = Ingress(
            limit_bytes=settings.queue_bytes,
            limit_messages=settings.queue_bytes // _MESSAGE_BYTES,
            keep_qos_1=store is not None,
        )
        self._outbox = Outbox(limit=_OUTBOX_LIMIT)
        self._delivery: Delivery = (
            AtMostOnce(recognizer)
            if store is None
            else ExactlyOnce(recognizer, store, self._outbox, metrics, workers=settings.workers)
        )
        self._refusals = Refusals(self._delivery)
        self._reception = Reception(
            self._ingress, self._delivery, metrics, self._refusals, worker=worker, workers=settings.workers
        )
        self._turn = asyncio.Lock()
        self._session: Session | None = None
        self._sessions = 0
        #: When the broker was last heard of, and time without hearing of it that no call has been told yet.
        self._listened_ns: int | None = None
        self._deaf_ns = 0
        self._unready: str | None = "not connected yet"
        self._drops_counted = 0
        self._broker_dropped: int | None = None
        metrics.queue_messages.set_function(self._ingress.__len__)
        metrics.queue_bytes.set_function(lambda: self._ingress.waiting_bytes)
        metrics.outbox_events.set_function(self._outbox.__len__)
        metrics.devices.set_function(recognizer.watches.__len__)
        metrics.looked_up.watches_by_activity = recognizer.activities
        metrics.queue_limit_bytes.set(settings.queue_bytes)
        metrics.devices_limit.set(settings.max_watches)

    def unready(self) -> str | None:
        """Why messages are not being recognized, None when they are."""
        return self._unready

    def ingest(self, token: str | None) -> Ingest:
        """What answers pushes of readings over HTTP, by whoever knows the token; nobody's where that is None."""
        return Ingest(
            token,
            push=self._reception.push,
            refuse=lambda message, error: self._reception.refuse(message, error, clock.now_ns()),
            count=lambda status: self._metrics.pushes[status].inc(),
            now_s=time.monotonic,
        )

    async def run(self, stop: asyncio.Event, *, host: str, port: int) -> None:
        """Serve until `stop` is set; then work off what has arrived, and end every bout or keep it for the next start.

        Args:
            stop: set by a signal handler or a timer.
            host: the broker's name or address.
            port: the broker's port.

        Raises:
            ConfigError: certificates, the password or the state can't be read.
            BrokerError: the broker turns the service down at the start, or can't be used and `exit_on_failure` is set.
        """
        broker = Broker(
            self._settings,
            host,
            port,
            # The embedded broker speaks MQTT 3.1.1 only.
            mqtt_5=not self._embedded,
            persistent=self._delivery.keeps,
            receive=self._receive if self._announcer is None else self._sort,
            dropped=self._note_broker_drops,
            is_foreign=self._is_foreign if self._settings.workers > 1 else None,
        )
        self._listened_ns = await self._delivery.recover()
        await first_of(self._work(), self._keep_time(), self._hold_sessions(broker, stop), self._delivery.run())

    # --- session ----------------------------------------------------------------------------------------------------

    async def _hold_sessions(self, broker: Broker, stop: asyncio.Event) -> None:
        """Keep one session up until told to stop, with jittered, growing pauses between attempts."""
        pause_s = _FIRST_BACKOFF_S
        while not stop.is_set():
            try:
                async with broker.session() as session:
                    pause_s = _FIRST_BACKOFF_S
                    self._begin(broker, session)
                    announcing = () if self._announcer is None else (self._announcer.run(session),)
                    await first_of(
                        stop.wait(), self._publish(session), self._watch_for_left(), session.lost(), *announcing
                    )
                    await self._say_farewell(session)
            except _LeftBehindError as error:
                logger.info("%s", error)
            except SessionError as error:
                self._fail(broker, error)
                with suppress(TimeoutError):
                    # Jitter: a broker's restart must not meet all its clients at one instant.
                    await asyncio.wait_for(stop.wait(), pause_s * random.uniform(0.5, 1.0))  # noqa: S311
                pause_s = min(2 * pause_s, _LONGEST_BACKOFF_S)
            finally:
                self._session = None
                self._delivery.disconnected([arrival.message for arrival in self._ingress if arrival.qos])
                self._reception.reopen()
        self._unready = "stopped"
        self._metrics.connected.set(0)
        if not self._delivery.keeps:
            # Nothing is left to end, unless there was no session to say farewell in.
            self._hand_on(self._recognizer.finish("shutdown"), 0)
        await self._delivery.close(None if self._listened_ns is None else self._listened_ns - self._deaf_ns)

    def _begin(self, broker: Broker, session: Session) -> None:
        self._sessions += 1
        if self._sessions > 1:
            self._metrics.reconnects.inc()
        now_ns = clock.now_ns()
        if self._listened_ns is not None:
            # A watch that nobody could hear wasn't silent.
            self._deaf_ns += now_ns - self._listened_ns
        self._listened_ns = now_ns
        self._delivery.connected(session, mqtt_5=broker.speaks_mqtt_5)
        self._session = session
        self._metrics.connected.set(1)
        self._unready = None
        logger.info("subscribed to %s at %s", ", ".join(self._settings.topic), broker.address)

    def _fail(self, broker: Broker, error: SessionError) -> None:
        self._metrics.connected.set(0)
        self._unready = f"no session at {broker.address}: {error}"
        # A service that never had a session and is turned down would try in vain, and nobody would notice.
        if self._settings.exit_on_failure or (not self._sessions and isinstance(error, RefusedError)):
            raise BrokerError(f"MQTT broker at {broker.address}: {error}") from error
        if self._sessions:
            logger.warning("MQTT broker at %s: %s; trying again", broker.address, error)
        else:
            logger.warning(
                "MQTT broker at %s: %s; trying again. Without a broker, --broker embedded brings one and --demo shows "
                "har-stream at work",
                broker.address,
                error,
            )

    async def _publish(self, session: Session) -> NoReturn:
        """Publish the outbox in order; what a lost session may have left unpublished stays in it."""
        while True:
            await self._outbox.filled()
            await self._publish_some(session)
            heed_cancellation()

    async def _publish_some(self, session: Session) -> None:
        batch = self._outbox.first(_PUBLISH_AHEAD)
        began_s = time.perf_counter()
        self._metrics.refused_events.inc(await session.publish(batch))
        self._metrics.stage_seconds["publish"].observe(time.perf_counter() - began_s)
        self._outbox.confirm(len(batch))
        self._listened_ns = now_ns = clock.now_ns()
        for outgoing in batch:
            if outgoing.caused_ns is not None:
                self._metrics.end_to_end_seconds.observe((now_ns - outgoing.caused_ns) / 1e9)
        if self._tracing is not None:
            self._tracing.published(batch)
        self._delivery.settle()

    async def _watch_for_left(self) -> NoReturn:
        """End the session once there is room for what was left with the broker.

        Not before all that was taken is acknowledged: the next session would bring that again, ahead of what was left,
        and so might the one after it, for ever.

        Raises:
            SessionError: so that another session is begun.
        """
        await self._reception.leaving()
        await self._ingress.emptied()
        await self._delivery.settled()
        raise _LeftBehindError(f"{self._reception.left} messages were left with the broker; fetching them again")

    async def _say_farewell(self, session: Session) -> None:
        """Take nothing more, work off what has come, and leave: for good, where nothing is kept, so that bouts end."""
        self._unready = "stopping"
        self._reception.close()
        try:
            async with asyncio.timeout(_FAREWELL_S):
                if self._announcer is not None:
                    await self._announcer.leave(session)
                if not self._delivery.keeps:
                    await session.unsubscribe()
                await self._ingress.emptied()
                if not self._delivery.keeps:
                    self._hand_on(self._recognizer.finish("shutdown"), 0)
                while len(self._outbox):
                    await self._publish_some(session)
                await self._delivery.flush()
                await session.announce("stopped")
        except TimeoutError:
            if not self._delivery.keeps:
                self._metrics.dropped_messages["shutdown"].inc(len(self._ingress))
            logger.warning(
                "stopped with %d messages not worked off and %d events not published%s",
                len(self._ingress),
                len(self._outbox),
                "; the next start goes on with them" if self._delivery.keeps else "",
            )

    # --- ingress ----------------------------------------------------------------------------------------------------

    def _receive(self, arrival: Arrival) -> None:
        self._listened_ns = arrival.arrived_ns
        self._reception.take(arrival)

    def _is_foreign(self, topic: str) -> bool:
        return (self._announcer is None or not self._announcer.is_birth(topic)) and self._reception.is_foreign(topic)

    def _sort(self, arrival: Arrival) -> None:
        # What the announcer asks for comes at QoS 0. What overlaps with the readings' own filters is owed an answer.
        if self._announcer is None or not self._announcer.take(arrival.message) or arrival.qos:
            self._receive(arrival)

    def _note_broker_drops(self, dropped: int) -> None:
        """Tell of messages that the broker itself dropped, where it counts them."""
        before, self._broker_dropped = self._broker_dropped, dropped
        self._metrics.broker_dropped_messages.set(dropped)
        if dropped > (before or 0):
            logger.warning(
                "the broker has dropped %d messages from full queues; raise its limits (in Mosquitto: "
                "max_queued_messages, max_queued_bytes, max_inflight_messages)",
                dropped - (before or 0),
            )

    # --- worker -----------------------------------------------------------------------------------------------------

    async def _work(self) -> NoReturn:
        """Take what waits, process it in one call, hand on what came of it."""
        # A call costs some 0.5 ms however little it does, so under load messages are gathered; one that comes after a
        # pause is processed at once.
        workers = self._settings.workers
        pace_s = self._settings.gather * (1 if workers == 1 else _GATHER_LONGER * workers)
        called_s = time.monotonic()
        while True:
            await self._ingress.wait()
            await self._outbox.room()
            await self._delivery.room()
            # Also lets the session receive and publish between calls, however much is waiting.
            await asyncio.sleep(max(called_s + pace_s - time.monotonic(), 0))
            called_s = time.monotonic()
            async with self._turn:
                self._process(self._ingress.take(_MOST_MESSAGES, most_bytes=_MOST_BYTES))

    async def _keep_time(self) -> NoReturn:
        """Have the recognizer know of time in which nothing was heard of a watch, once the broker says so too."""
        watches = self._recognizer.watches
        while True:
            await asyncio.sleep(_TICK_S)
            self._notices.take((), time.monotonic_ns())
            now_ns = clock.now_ns()
            # What was left with the broker may be of a watch that seems silent.
            if self._session is None or self._reception.left or not watches.is_due(now_ns - self._deaf_ns):
                continue
            with suppress(SessionError):
                # The line may be cut, or messages be on their way: those come before the broker's answer.
                await self._session.ping()
                self._listened_ns = now_ns
                await self._ingress.emptied()
                async with self._turn:
                    if not self._reception.left and watches.is_due(now_ns - self._deaf_ns):
                        trace = None if self._tracing is None else self._tracing.call([])
                        self._clock.start()
                        result, record = await self._delivery.run_tick(now_ns, self._take_deaf_ns())
                        self._hand_on(result, record, trace=trace)

    def _process(self, arrivals: Sequence[Arrival]) -> None:
        messages = [a.message for a in arrivals if not (a.is_done or topics.is_sync(a.message.topic))]
        record = 0
        if messages:
            self._metrics.messages.inc(len(messages))
            self._metrics.message_bytes.inc(sum(len(m.payload) for m in messages))
            self._metrics.call_messages.observe(len(messages))
            trace = None
            if self._tracing is not None:
                trace = self._tracing.call([a for a in arrivals if not (a.is_done or topics.is_sync(a.message.topic))])
            self._clock.start()
            result, record = self._delivery.run_call(clock.now_ns(), self._take_deaf_ns(), messages)
            self._hand_on(result, record, caused_ns=arrivals[0].arrived_ns, trace=trace)
        for arrival in arrivals:
            if topics.is_sync(arrival.message.topic) and not arrival.is_done:
                token = topics.token_of(arrival.message.topic)
                self._outbox.post(record, Outgoing(topics.synced(self._settings.client_id), token.encode()))
        wanting = [a for a in arrivals if a.qos]
        self._delivery.worked_off(wanting[-1].number if wanting else None, [a.message for a in wanting])

    def _take_deaf_ns(self) -> int:
        deaf_ns, self._deaf_ns = self._deaf_ns, 0
        return deaf_ns

    def _hand_on(
        self, result: Result, record: int, *, caused_ns: int | None = None, trace: CallTrace | None = None
    ) -> None:
        """Post, show and count what came of a call."""
        for event in result.events:
            self._metrics.events[event.type, event.activity].inc()
            if event.type == "start":
                self._metrics.lag_seconds.observe(max(clock.now_ns() - event.decided_ns, 0) / 1e9)
            self._show(event)
        carry = None if trace is None else trace.carry
        self._outbox.post_events(record, result.events, caused_ns=caused_ns, carry=carry)
        if self._announcer is not None:
            self._announcer.note(result.events)
        if self._board is not None:
            self._board.take(result)
        self._notices.take(result.batches, time.monotonic_ns())
        self._metrics.count(result.counts)
        self._metrics.dropped_messages["overload"].inc(self._ingress.dropped - self._drops_counted)
        self._drops_counted = self._ingress.dropped
        if result.refused:
            self._refusals.note(result.refused, clock.now_ns())
        if trace is not None:
            trace.end(result)
