"""`simulator record`: what watches send, live, into a file."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NoReturn

import aiomqtt

from simulator.captures import CaptureError, CaptureFile
from simulator.session import Broker, BrokerError
from streamer.errors import PayloadError, RejectReason
from streamer.imu import ImuBatch
from streamer.ingress import Arrival
from streamer.mqtt.connection import REFUSED, Connection, Link, RefusedError, SessionError
from streamer.mqtt.line import Line
from streamer.recording import Arrived
from streamer.sources import Sources
from streamer.watches import Limits
from streamer.wire.payload import Sent, read

_log = logging.getLogger(__name__)

_KEEPALIVE_S: Final = 10
_TIMEOUT_S: Final = 10.0
_RETRY_S: Final = 1.0
#: Between one time that everything is on the disk and the next.
_SYNC_S: Final = 1.0
#: Between one look at how it goes and the next, and the time over which a rate is told.
_LOOK_S: Final = 0.25
_RATE_S: Final = 5.0


@dataclass(slots=True)
class Captured:
    """What was recorded so far.

    Attributes:
        readings: by device.
        messages: in the file.
        refused: messages that no service would take, by reason.
        example: what was wrong with one of them.
        others: messages of devices that were not asked for.
        seconds: since the recording began.
        connections: to the broker; each after the first stands for a gap.
        size: bytes of the file.
        recent_hz: readings per second, over the last seconds and all devices.
    """

    readings: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    refused: Counter[RejectReason] = field(default_factory=Counter)
    example: str = ""
    others: int = 0
    seconds: float = 0.0
    connections: int = 0
    size: int = 0
    recent_hz: float = 0.0

    def summary(self) -> dict[str, object]:
        """What `--summary json` prints."""
        return {
            "devices": dict(self.readings),
            "messages": self.messages,
            "readings": self.readings.total(),
            "seconds": round(self.seconds, 3),
            "refused": {str(reason): number for reason, number in self.refused.items()},
            "gaps": max(self.connections - 1, 0),
        }


class Recorder:
    """Takes messages as they come and writes them down.

    Attributes:
        filters: the topics that are asked for.
        captured: what was recorded so far.
        failed: ends with the error when the file cannot be written any more.
    """

    def __init__(
        self,
        file: CaptureFile,
        captured: Captured,
        *,
        filters: Sequence[str],
        devices: Sequence[str] = (),
        label: str | None = None,
    ) -> None:
        """Begin with nothing; to be called in a running loop.

        Args:
            file: takes the messages.
            captured: is kept up to date.
            filters: the topics that are asked for; a broker may send others, too.
            devices: whose readings to keep, all when empty.
            label: what the wearers do.
        """
        self.captured = captured
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._file = file
        self.filters = filters
        self._devices = frozenset(devices)
        self._label = label
        self._limits = Limits()
        # What is known of the senders that speak other formats than har-stream's, and their numbers there.
        self._sources = Sources()
        self._slots: dict[str, int] = {}

    def take(self, arrival: Arrival) -> None:
        """Write a message down, or count why not."""
        message = arrival.message
        if self.failed.done() or not any(aiomqtt.Topic(message.topic).matches(own) for own in self.filters):
            return
        try:
            sent = read(message)
            if self._devices and sent.device_id not in self._devices:
                self.captured.others += 1
                return
            batches = self._in_si(sent, arrival.arrived_ns + self._limits.max_future_ns)
        except PayloadError as error:
            self._refuse(error)
            return
        try:
            for b in batches:
                own = Arrived(b.device_id, b.t_ns, b.acc, b.gyro, b.rate_hz, b.seq, arrival.arrived_ns)
                self._file.add(own, self._label)
                self.captured.readings[b.device_id] += len(b)
                self.captured.messages += 1
        except CaptureError as error:
            self.failed.set_exception(error)
        self.captured.size = self._file.size

    def _in_si(self, sent: ImuBatch | Sent, latest_ns: int) -> Sequence[ImuBatch]:
        """The readings that a service would make of a message.

        Raises:
            PayloadError: it would make none.
        """
        if isinstance(sent, ImuBatch):
            if int(sent.t_ns.max()) > latest_ns:
                raise PayloadError(
                    RejectReason.FUTURE, f"device {sent.device_id}: a reading lies more than a day ahead of the clock"
                )
            return [sent]
        slot = self._slots.setdefault(sent.device_id, len(self._slots))
        if slot >= self._limits.max_watches:
            del self._slots[sent.device_id]
            raise PayloadError(RejectReason.CAPACITY, f"device {sent.device_id}: {slot} watches are recorded already")
        taken = self._sources.take(slot, sent, latest_ns)
        if taken.error is not None:
            self._refuse(taken.error)
        return taken.batches

    def _refuse(self, error: PayloadError) -> None:
        self.captured.refused[error.reason] += 1
        self.captured.example = self.captured.example or str(error)


async def record(
    broker: Broker,
    recorder: Recorder,
    file: CaptureFile,
    stop: asyncio.Event,
    *,
    on_start: Callable[[], None] = lambda: None,
    on_progress: Callable[[Captured], None] = lambda _: None,
) -> None:
    """Write down what comes until told to stop; a lost broker is found again, which leaves a gap in the recording.

    Args:
        broker: where, as whom, and with which quality of service.
        recorder: takes the messages.
        file: where it writes; is put on the disk every second.
        stop: ends it.
        on_start: called once the broker has confirmed the first subscription.
        on_progress: called every quarter of a second.

    Raises:
        BrokerError: there is no broker at the start, or it refuses.
        CaptureError: the file cannot be written any more.
    """
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    async def look_after() -> None:
        captured = recorder.captured
        seen: deque[tuple[float, int]] = deque([(began_s, 0)], maxlen=round(_RATE_S / _LOOK_S))
        synced_s = began_s
        while True:
            await asyncio.sleep(_LOOK_S)
            now_s, readings = loop.time(), captured.readings.total()
            captured.seconds = now_s - began_s
            if not seen[-1][1]:
                # The rate is of what comes, not of the wait for it.
                seen.clear()
            elif now_s > seen[0][0]:
                captured.recent_hz = (readings - seen[0][1]) / (now_s - seen[0][0])
            seen.append((now_s, readings))
            if now_s - synced_s >= _SYNC_S:
                synced_s = now_s
                # The disk may take its time; messages do not wait for it.
                await asyncio.to_thread(file.sync)
            on_progress(captured)

    async def fail() -> None:
        await recorder.failed

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in (_listen(broker, recorder, on_start), look_after(), fail())]
            await stop.wait()
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as errors:
        # One thing went wrong; the group is the task group's business.
        raise errors.exceptions[0] from None
    finally:
        recorder.captured.seconds = loop.time() - began_s


async def _listen(broker: Broker, recorder: Recorder, on_start: Callable[[], None]) -> NoReturn:
    link = Link(
        host=broker.host,
        port=broker.port,
        client_id=f"simulator-record-{uuid.uuid4().hex[:12]}",
        username=broker.username,
        password=broker.password,
        tls=broker.tls,
        keepalive_s=_KEEPALIVE_S,
        timeout_s=_TIMEOUT_S,
        will=None,
        persistent=False,
        numbers=count(1),
    )
    line = Line(link, client="gmqtt", mqtt_5=True, receive=recorder.take)
    captured = recorder.captured
    while True:
        try:
            async with line.connection() as connection:
                await _subscribe(connection, recorder.filters, broker.qos)
                captured.connections += 1
                if captured.connections == 1:
                    on_start()
                await connection.lost()
        except SessionError as error:
            if not captured.connections or isinstance(error, RefusedError):
                raise _unusable(broker, error) from error
            _log.warning("connection lost (%s), trying again", error)
            await asyncio.sleep(_RETRY_S * random.uniform(0.5, 1.0))  # noqa: S311 # no secret


async def _subscribe(connection: Connection, filters: Sequence[str], qos: int) -> None:
    for own in filters:
        code = await connection.subscribe(own, qos)
        if code >= REFUSED:
            raise RefusedError(f"the broker refuses the subscription to {own} (reason code {code})")


def _unusable(broker: Broker, error: SessionError) -> BrokerError:
    if isinstance(error, RefusedError):
        return BrokerError(f"MQTT broker at {broker.place}: {error}")
    return BrokerError(
        f"no MQTT broker at {broker.place} ({error}); start one, or `har-stream --broker embedded`, or name another "
        "with --broker and --port"
    )
