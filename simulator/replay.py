"""Paced replay of watches over MQTT."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from simulator.session import Session
from simulator.watches import due_ns
from streamer.imu import ImuBatch
from streamer.recording import Arrived
from streamer.wire import topics
from streamer.wire.payload import CONTENT_TYPES, MAX_BYTES, encode_cbor, encode_json

_log = logging.getLogger(__name__)

Format = Literal["json", "cbor"]

#: Sent this long after it was due, a message counts as late.
LATE_S: Final = 0.1
#: At full speed a sync marker follows this many messages, and two may be unanswered: well below the 1000 messages
#: that a stock Mosquitto queues for a subscriber before it drops them.
MARK_EVERY: Final = 200
MARKS_OUTSTANDING: Final = 2


@dataclass(slots=True)
class Progress:
    """How far a replay has come.

    Attributes:
        devices: watches that take part.
        readings, messages: sent so far; accelerometer and gyroscope in messages of their own count each.
        late: messages sent more than LATE_S after they were due.
        recorded_s: recorded time covered.
        seconds: wall time since the start.
        lag_s, max_lag_s: of the last message, and the largest.
        processed: a service has confirmed that it processed everything; None when there was none to ask.
        interrupted: ended before its end.
        prerolled: readings of the pre-roll, which are sent at once.
        waited_s: wall time, summed over the watches, before each one's first reading was due.
    """

    devices: int
    readings: int = 0
    messages: int = 0
    late: int = 0
    recorded_s: float = 0.0
    seconds: float = 0.0
    lag_s: float = 0.0
    max_lag_s: float = 0.0
    processed: bool | None = None
    interrupted: bool = True
    prerolled: int = 0
    waited_s: float = 0.0

    @property
    def achieved_hz(self) -> float:
        """Readings per second and watch, from each watch's first reading on, without the pre-roll."""
        sending_s = self.devices * self.seconds - self.waited_s
        return (self.readings - self.prerolled) / sending_s if sending_s > 0 else 0.0

    def summary(self) -> dict[str, float | int | bool | None]:
        """What `--summary json` prints."""
        return {
            "devices": self.devices,
            "readings": self.readings,
            "messages": self.messages,
            "seconds": round(self.seconds, 3),
            "achieved_hz": round(self.achieved_hz, 3),
            "late_share": round(self.late / self.messages, 6) if self.messages else 0.0,
            "max_lag_s": round(self.max_lag_s, 4),
            "recorded_s": round(self.recorded_s, 3),
            "processed": self.processed,
            "interrupted": self.interrupted,
        }


@dataclass(slots=True)
class Pacer:
    """Waits until recorded time comes due on the wall.

    Due times follow from the start alone, so lateness neither adds up nor hides: a message that waited behind a slow
    one is counted as late as it really was.

    State: the wall time of the start, set by the first call.

    Attributes:
        speed: recorded seconds per second; None for as fast as possible.
        preroll_s: recorded time that is already over at the start.
    """

    speed: float | None
    preroll_s: float = 0.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _start_s: float | None = field(default=None, init=False)

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return 0.0 if self._start_s is None else self.clock() - self._start_s

    def start(self) -> None:
        """Let time run from now."""
        self._start_s = self.clock()

    def due_s(self, recorded_s: float) -> float:
        """When that much recorded time is over, seconds after the start; 0 at full speed."""
        return 0.0 if self.speed is None else (recorded_s - self.preroll_s) / self.speed

    def lag_s(self, recorded_s: float) -> float:
        """How long ago that was; negative when it is still to come, 0 at full speed."""
        return 0.0 if self.speed is None else self.seconds - self.due_s(recorded_s)

    async def until(self, recorded_s: float) -> None:
        """Return when that much recorded time is over, at once when it is already."""
        early_s = -self.lag_s(recorded_s)
        if early_s > 0:
            await self.sleep(early_s)


async def replay(
    session: Session,
    batches: Iterable[ImuBatch],
    pacer: Pacer,
    progress: Progress,
    *,
    start_ns: int,
    duration_s: float | None = None,
    payload_format: Format = "json",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Publish messages when their last reading comes due, and return when all services have processed them.

    Args:
        session: the connection.
        batches: messages in the order in which they come due.
        pacer: decides when.
        progress: kept up to date.
        start_ns: recorded time of the start.
        duration_s: recorded time after which to stop; None for the end.
        payload_format: numbers travel in full precision in both.
        on_progress: called after every message.

    Raises:
        BrokerError: the broker stays away, or a service does not answer.
    """
    if pacer.speed is None and not session.services:
        _log.warning("no har-stream service is online: paced by the broker alone, which may drop what piles up")
    pacer.start()
    seen: set[str] = set()
    try:
        for batch in batches:
            recorded_s = (due_ns(batch) - start_ns) / 1e9
            if duration_s is not None and recorded_s >= duration_s:
                break
            if batch.device_id not in seen:
                seen.add(batch.device_id)
                began_ns = batch.arrived_ns if isinstance(batch, Arrived) else int(batch.t_ns[0])
                progress.waited_s += max(0.0, pacer.due_s((began_ns - start_ns) / 1e9))
            await pacer.until(recorded_s)
            topic = topics.imu(batch.device_id)
            payload, content_type = _encoded(batch, payload_format)
            await session.publish(topic, payload, content_type=content_type)
            progress.readings += len(batch)
            progress.messages += 1
            progress.recorded_s = max(progress.recorded_s, recorded_s)
            progress.lag_s = max(0.0, pacer.lag_s(recorded_s))
            # The pre-roll is overdue by intention.
            if recorded_s < pacer.preroll_s:
                progress.prerolled += len(batch)
            else:
                progress.late += progress.lag_s > LATE_S
                progress.max_lag_s = max(progress.max_lag_s, progress.lag_s)
            if pacer.speed is None and progress.messages % MARK_EVERY == 0:
                await _mark(session)
            progress.seconds = pacer.seconds
            on_progress(progress)
        progress.processed = False if session.services else None
        await _mark(session)
        await session.wait_answers()
        progress.processed = True if session.services else None
        progress.interrupted = False
    finally:
        progress.seconds = pacer.seconds


def _encoded(batch: ImuBatch, payload_format: Format) -> tuple[bytes, str]:
    """Payload and content type: CBOR also where a capture's message would be too large as JSON."""
    payload = encode_json(batch) if payload_format == "json" else b""
    if payload and len(payload) <= MAX_BYTES:
        return payload, CONTENT_TYPES["json"]
    return encode_cbor(batch), CONTENT_TYPES["cbor"]


async def _mark(session: Session) -> None:
    await session.wait_answers(outstanding=MARKS_OUTSTANDING - 1)
    await session.mark()
