"""The service: messages from the broker, through the recognizer, events back to the broker.

    Broker session ─▶ Ingress ─▶ worker: Recognizer.process ─▶ outbox ─▶ Broker session

One worker, one call in flight. Sessions come and go with the broker; worker, queue, watches and outbox stay.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final, NoReturn, cast

from streamer.config import Settings
from streamer.errors import HarError, RejectReason
from streamer.ingress import Arrival, Ingress
from streamer.metrics import EvictionReason, Metrics, Stage
from streamer.mqtt.connection import Outgoing, RefusedError, SessionError
from streamer.recognizer import Recognizer
from streamer.results import Result
from streamer.session import Broker, Session
from streamer.wire import topics
from streamer.wire.events import ActivityEvent, encode_event
from streamer.wire.payload import MAX_BYTES
from streamer.workers import is_own

logger = logging.getLogger(__name__)

#: One call's share, about 10 ms of work whether messages are batches or single readings, so that the loop breathes.
_MOST_MESSAGES: Final = 1000
_MOST_BYTES: Final = 200_000
#: Least time from one call to the next. A call costs some 0.5 ms however little it does, so under load messages are
#: gathered meanwhile; a message that comes after a pause is processed at once.
_PACE_S: Final = 0.005
_TICK_S: Final = 1.0
#: Publications that wait for a broker, at most; the oldest go first.
_OUTBOX_LIMIT: Final = 100_000
#: Publications under way at once.
_PUBLISH_AHEAD: Final = 100
_FIRST_BACKOFF_S: Final = 0.25
_LONGEST_BACKOFF_S: Final = 15.0
_FAREWELL_S: Final = 5.0
_REJECT_LOG_S: Final = 10.0


class BrokerError(HarError):
    """The broker can't be used, and the settings say to give up."""


class StageClock:
    """Times the recognizer's stages: each mark ends the stage that it names."""

    def __init__(self, metrics: Metrics) -> None:
        self._stages = metrics.stage_seconds
        self._since = 0.0

    def start(self) -> None:
        """A call begins."""
        self._since = time.perf_counter()

    def mark(self, stage: str) -> None:
        """The stage is through."""
        now = time.perf_counter()
        self._stages[cast("Stage", stage)].observe(now - self._since)
        self._since = now


class Service:
    """Runs a recognizer against a broker until told to stop.

    State: the ingress queue, the outbox of what is not yet published, and whether a session stands.
    """

    def __init__(
        self,
        settings: Settings,
        recognizer: Recognizer,
        metrics: Metrics,
        clock: StageClock,
        *,
        show: Callable[[ActivityEvent], None],
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
            embedded: the broker is the one inside this process.
            worker: which of `settings.workers` processes this one is.
        """
        self._settings = settings
        self._embedded = embedded
        self._worker = worker
        self._recognizer = recognizer
        self._metrics = metrics
        self._clock = clock
        self._show = show
        self._ingress = Ingress(limit_bytes=settings.queue_bytes)
        self._outbox: deque[Outgoing] = deque()
        self._outbox_filled = asyncio.Event()
        self._unready: str | None = "not connected yet"
        self._sessions = 0
        self._drops_counted = 0
        self._broker_dropped: int | None = None
        self._reject_logged_s = float("-inf")
        self._rejects_unlogged = 0
        metrics.queue_messages.set_function(self._ingress.__len__)
        metrics.queue_bytes.set_function(lambda: self._ingress.waiting_bytes)
        metrics.devices.set_function(recognizer.watches.__len__)

    def unready(self) -> str | None:
        """Why messages are not being recognized, None when they are."""
        return self._unready

    async def run(self, stop: asyncio.Event, *, port: int) -> None:
        """Serve until `stop` is set; then work off what has arrived, end every bout and say so.

        Args:
            stop: set by a signal handler or a timer.
            port: the broker's port.

        Raises:
            ConfigError: certificates or the password can't be read.
            BrokerError: the broker turns the service down at the start, or can't be used and `exit_on_failure` is set.
        """
        broker = Broker(
            self._settings,
            "127.0.0.1" if self._embedded else self._settings.broker,
            port,
            # The embedded broker speaks MQTT 3.1.1 only.
            mqtt_5=not self._embedded,
            receive=self._receive,
            dropped=self._note_broker_drops,
        )
        await _first_of(self._work(), self._hold_sessions(broker, stop))

    # --- session ----------------------------------------------------------------------------------------------------

    async def _hold_sessions(self, broker: Broker, stop: asyncio.Event) -> None:
        """Keep one session up until told to stop, with jittered, growing pauses between attempts."""
        pause_s = _FIRST_BACKOFF_S
        while not stop.is_set():
            try:
                async with broker.session() as session:
                    pause_s = _FIRST_BACKOFF_S
                    self._begin(broker)
                    await _first_of(stop.wait(), self._publish(session), session.lost())
                    await self._say_farewell(session)
            except SessionError as error:
                self._fail(broker, error)
                with suppress(TimeoutError):
                    # Jitter: a broker's restart must not meet all its clients at one instant.
                    await asyncio.wait_for(stop.wait(), pause_s * random.uniform(0.5, 1.0))  # noqa: S311
                pause_s = min(2 * pause_s, _LONGEST_BACKOFF_S)
        self._unready = "stopped"
        self._metrics.connected.set(0)
        # Nothing is left to end, unless there was no session to say farewell in.
        self._hand_on(self._recognizer.finish("shutdown"), caused_ns=None)

    def _begin(self, broker: Broker) -> None:
        self._sessions += 1
        if self._sessions > 1:
            self._metrics.reconnects.inc()
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
            await self._outbox_filled.wait()
            await self._publish_some(session)
            # Python 3.11's wait_for, on which the client builds, swallows a cancellation that meets an
            # acknowledgement; without this the service would then wait for its own publisher for ever.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError

    async def _publish_some(self, session: Session) -> None:
        batch = list(islice(self._outbox, _PUBLISH_AHEAD))
        self._clock.start()
        await session.publish(batch)
        self._clock.mark("publish")
        now_ns = time.time_ns()
        for outgoing in batch:
            self._outbox.popleft()
            if outgoing.caused_ns is not None:
                self._metrics.end_to_end_seconds.observe((now_ns - outgoing.caused_ns) / 1e9)
        if not self._outbox:
            self._outbox_filled.clear()

    async def _say_farewell(self, session: Session) -> None:
        """Ask for nothing more, work off what has come, end every bout, and leave."""
        self._unready = "stopping"
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await session.unsubscribe()
                await self._ingress.emptied()
                self._hand_on(self._recognizer.finish("shutdown"), caused_ns=None)
                while self._outbox:
                    await self._publish_some(session)
                await session.announce("stopped")
        except TimeoutError:
            self._metrics.dropped_messages["shutdown"].inc(len(self._ingress))
            logger.warning(
                "stopped with %d messages not worked off and %d events not published",
                len(self._ingress),
                len(self._outbox),
            )

    def _receive(self, arrival: Arrival) -> None:
        """Queue a message, unless it is another worker's, or its size alone refuses it.

        Ten messages of 10 MB would push good ones out of the queue.
        """
        topic, size = arrival.message.topic, len(arrival.message.payload)
        if (
            self._settings.workers > 1
            and not topic.endswith("/sync")
            and not is_own(topic, worker=self._worker, workers=self._settings.workers)
        ):
            return
        if size > MAX_BYTES:
            self._metrics.messages.inc()
            self._metrics.message_bytes.inc(size)
            self._metrics.rejects[RejectReason.OVERSIZE].inc()
            self._log_rejects(1, f"{topic:.100}: {size} bytes; expected at most {MAX_BYTES}")
        else:
            self._ingress.put(arrival)

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
        """Take what waits, process it in one call, hand on what came of it; tick when nothing comes."""
        # Several workers share the calls of one, or they would cost so much more.
        pace_s = _PACE_S * self._settings.workers
        ticked_s = called_s = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(_TICK_S):
                    await self._ingress.wait()
            except TimeoutError:
                pass
            else:
                # Also lets the session receive and publish between calls, however much is waiting.
                await asyncio.sleep(max(called_s + pace_s - time.monotonic(), 0))
                called_s = time.monotonic()
                self._process(self._ingress.take(_MOST_MESSAGES, most_bytes=_MOST_BYTES))
            if not len(self._ingress) and time.monotonic() - ticked_s >= _TICK_S:
                ticked_s = time.monotonic()
                self._clock.start()
                self._hand_on(self._recognizer.process([], time.time_ns()), caused_ns=None)

    def _process(self, arrivals: Sequence[Arrival]) -> None:
        messages = [a.message for a in arrivals if not a.message.topic.endswith("/sync")]
        if messages:
            self._metrics.messages.inc(len(messages))
            self._metrics.message_bytes.inc(sum(len(m.payload) for m in messages))
            self._metrics.call_messages.observe(len(messages))
            self._clock.start()
            result = self._recognizer.process(messages, time.time_ns())
            self._hand_on(result, caused_ns=arrivals[0].arrived_ns)
        for arrival in arrivals:
            # Behind the events of everything that came before the question.
            if arrival.message.topic.endswith("/sync"):
                token = arrival.message.topic.split("/")[-2]
                self._post(Outgoing(topics.synced(self._settings.client_id), token.encode()))

    def _hand_on(self, result: Result, *, caused_ns: int | None) -> None:
        self._count(result)
        for event in result.events:
            self._metrics.events[event.type, event.activity].inc()
            kind = {"state": "activity", "window": "window"}.get(event.type, "event")
            self._post(
                Outgoing(topics.output(event.device, kind), encode_event(event), event.type == "state", caused_ns)
            )
            if event.type == "end" and event.reason in {"silence", "evicted", "shutdown"}:
                # Nobody walks for ever: an empty retained message takes the last state back.
                self._post(Outgoing(topics.output(event.device, "activity"), b"", retain=True))
            self._show(event)

    def _post(self, outgoing: Outgoing) -> None:
        if len(self._outbox) >= _OUTBOX_LIMIT:
            self._outbox.popleft()
            self._metrics.dropped_events.inc()
        self._outbox.append(outgoing)
        self._outbox_filled.set()

    def _count(self, result: Result) -> None:
        counts, metrics = result.counts, self._metrics
        metrics.readings.inc(counts.readings)
        for reason, n in counts.rejects.items():
            metrics.rejects[reason].inc(n)
        metrics.late_readings.inc(counts.late)
        metrics.duplicate_readings.inc(counts.duplicate)
        metrics.interpolated_samples.inc(counts.bridged)
        metrics.gaps.inc(counts.gaps)
        metrics.missing_messages.inc(counts.missing_messages)
        for unfit, n in counts.unfit.items():
            metrics.unfit[unfit].inc(n)
        for cause, n in counts.evicted.items():
            metrics.evictions[cast("EvictionReason", cause)].inc(n)
        metrics.windows.inc(counts.windows)
        if counts.windows:
            metrics.run_windows.observe(counts.windows)
        metrics.dropped_messages["overload"].inc(self._ingress.dropped - self._drops_counted)
        self._drops_counted = self._ingress.dropped
        if counts.reject_examples:
            self._log_rejects(counts.rejects.total(), next(iter(counts.reject_examples.values())))

    def _log_rejects(self, n: int, example: str) -> None:
        """Log refused messages, not more often than every _REJECT_LOG_S."""
        self._rejects_unlogged += n
        now_s = time.monotonic()
        if now_s - self._reject_logged_s >= _REJECT_LOG_S:
            logger.warning("%d messages refused, such as: %s", self._rejects_unlogged, example)
            self._reject_logged_s, self._rejects_unlogged = now_s, 0


async def _first_of(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run all until one ends, cancel the others, and raise what it raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
