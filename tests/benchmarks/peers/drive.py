"""Sends a load at its pace and looks at what a program makes of it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

import aiomqtt

from streamer.wire import topics
from tests.benchmarks.peers.load import Load
from tests.servers import Mosquitto

_PROBE: Final = "probe-"
_PROBES: Final = 60
#: Nearer than this a message goes out now: a timer for each of thousands would make the load's steps coarser.
_NEAR_S: Final = 0.002
_NO_DELAY: Final = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program published.

    Attributes:
        missing: needed windows that did not come; doubled, unexpected: events too many.
        agreeing: share of the windows with the label that the offline recognizer's model gives.
        behind_s: from the end of the load to the last needed window, or to the end of patience.
    """

    windows: int
    missing: int
    doubled: int
    unexpected: int
    agreeing: float
    behind_s: float


class Windows:
    """The windows that come, held against those that should.

    State: how often each came, which are still awaited, and whether a probe was answered.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._arrived: Counter[tuple[str, int]] = Counter()
        self._awaited = set(load.needed)
        self._unexpected = self._agreeing = 0
        self.answered = asyncio.Event()
        self.complete = asyncio.Event()

    async def receive(self, client: aiomqtt.Client) -> None:
        """Take events until cancelled."""
        async for message in client.messages:
            event = json.loads(bytes(message.payload))
            if event["device"].startswith(_PROBE):
                self.answered.set()
                continue
            window = self._load.window_of(event["device"], event["window_start_ns"])
            if window is None:
                self._unexpected += 1
                continue
            self._arrived[window] += 1
            # har-stream's events tell the smoothed activity; the model's own is in their probabilities.
            told = event.get("probabilities")
            self._agreeing += self._load.labels[window] == (max(told, key=told.get) if told else event["activity"])
            self._awaited.discard(window)
            if not self._awaited:
                self.complete.set()

    def outcome(self, *, behind_s: float) -> Outcome:
        """The account."""
        windows = self._arrived.total()
        return Outcome(
            windows=windows,
            missing=len(self._awaited),
            doubled=windows - len(self._arrived),
            unexpected=self._unexpected,
            agreeing=self._agreeing / windows if windows else 0.0,
            behind_s=behind_s,
        )


async def drive(
    broker: Mosquitto, load: Load, *, marks: Mapping[float, Callable[[], None]], patience_s: float
) -> Outcome:
    """Wait until the program answers, send the load at its pace, collect what the program publishes.

    Args:
        broker: where.
        load: what.
        marks: called when their time, seconds from the beginning of the load, has come.
        patience_s: how long to wait for windows after the end.

    Raises:
        TimeoutError: the program does not answer at all.
    """
    windows = Windows(load)
    behind_s = 0.0
    async with (
        aiomqtt.Client(broker.host, broker.port, socket_options=_NO_DELAY) as sender,
        aiomqtt.Client(broker.host, broker.port) as listener,
    ):
        await listener.subscribe(topics.output("+", "window"), qos=0)
        async with asyncio.TaskGroup() as tasks:
            receiver = tasks.create_task(windows.receive(listener))
            if await _answers(sender, load, windows.answered):
                end_s = await _send(sender, load, marks)
                await _happens(windows.complete, within_s=patience_s)
                behind_s = time.monotonic() - end_s
                # What comes twice or too much has a moment to come.
                await asyncio.sleep(1.0)
            receiver.cancel()
    if not windows.answered.is_set():
        raise TimeoutError(f"no window of any of {_PROBES} probes came back within {_PROBES} s")
    return windows.outcome(behind_s=behind_s)


async def _answers(sender: aiomqtt.Client, load: Load, answered: asyncio.Event) -> bool:
    """Send one watch's first windows under a new name every second, until one of its windows comes back."""
    for attempt in count(1):
        for payload in load.probe:
            await sender.publish(topics.imu(f"{_PROBE}{attempt}"), payload, qos=0)
        if await _happens(answered, within_s=1.0):
            return True
        if attempt == _PROBES:
            break
    return False


async def _send(sender: aiomqtt.Client, load: Load, marks: Mapping[float, Callable[[], None]]) -> float:
    """Publish each message when it is due; the load's end on the monotonic clock."""
    begin_s = time.monotonic()
    pending = sorted(marks.items())
    for message in load.messages:
        while pending and pending[0][0] <= message.due_s:
            due_s, call = pending.pop(0)
            await _sleep_until(begin_s + due_s)
            call()
        await _sleep_until(begin_s + message.due_s)
        await sender.publish(message.topic, message.payload, qos=0)
    await _sleep_until(begin_s + load.seconds)
    return begin_s + load.seconds


async def _happens(event: asyncio.Event, *, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _sleep_until(when_s: float) -> None:
    wait_s = when_s - time.monotonic()
    if wait_s > _NEAR_S:
        await asyncio.sleep(wait_s)
