"""A fleet whose watches live for a while each, under a new name each time, with some rubbish among their messages.

    place 0   |---- soak-0-0 ----|     |-- soak-0-1 --|  |------- soak-0-2 ...
    place 1       |-- soak-1-0 --|  |------- soak-1-1 -------|  ...

All of it follows from a seed, so that nothing need be remembered: who lived, what was sent and what must come of it
are made again when they are wanted.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Final

import numpy as np

from simulator.faults import garbage
from streamer.bundle import find_bundle, load_bundle
from streamer.imu import ImuBatch
from streamer.recognizer import Recognizer
from streamer.recording import Recording
from streamer.wire.events import ActivityEvent
from streamer.wire.payload import Message
from tests.chaos.feed import COUNTED, MODEL, SECOND, START_NS, as_message, cut, recordings

#: Seconds that a watch's place stays empty.
_PAUSE_S: Final = (0.0, 10.0)
_BATCH_READINGS: Final = 50
#: Lives that one recognizer is given at a time when the oracle is asked.
_AT_A_TIME: Final = 50


@dataclass(frozen=True, slots=True)
class Churn:
    """The fleet's schedule.

    Attributes:
        watches: places.
        seconds: nothing is sent later than this.
        poison: share of messages that are followed by rubbish on the same topic.
        life_s: seconds that a watch lives, at least and at most.
        seed: of everything.
    """

    watches: int
    seconds: float
    poison: float = 0.01
    life_s: tuple[float, float] = (30.0, 150.0)
    seed: int = 0

    def messages(self) -> Iterator[tuple[float, Message]]:
        """What is sent, and when, in seconds; rubbish included."""
        for due_s, _place, message in heapq.merge(*(self._place(place) for place in range(self.watches))):
            yield due_s, message

    def rubbish(self) -> int:
        """How many messages are rubbish."""
        return sum(not sent for place in range(self.watches) for _, _, sent in self._sent(place))

    def oracle(self) -> dict[str, ActivityEvent]:
        """The events that must come, by id: each watch alone, until it fell silent."""
        lives: Iterator[list[Message]] = (life for place in range(self.watches) for life in self._lives_sent(place))
        events: dict[str, ActivityEvent] = {}
        bundle = load_bundle(find_bundle(MODEL))
        while group := list(islice(lives, _AT_A_TIME)):
            recognizer = Recognizer(bundle, every_window=True)
            for life in group:
                result = recognizer.process(life, now_ns=START_NS)
                events |= {event.id: event for event in result.events if event.type in COUNTED}
            events |= {event.id: event for event in recognizer.finish("silence").events if event.type in COUNTED}
        return events

    def _place(self, place: int) -> Iterator[tuple[float, int, Message]]:
        for due_s, message, _ in self._sent(place):
            yield due_s, place, message

    def _lives_sent(self, place: int) -> Iterator[list[Message]]:
        life: list[Message] = []
        for _, message, good in self._sent(place):
            if good:
                if life and life[-1].topic != message.topic:
                    yield life
                    life = []
                life.append(message)
        if life:
            yield life

    def _sent(self, place: int) -> Iterator[tuple[float, Message, bool]]:
        """When, what, and whether it is good."""
        rng = np.random.default_rng([self.seed, place])
        for batch in self._batches(place):
            due_s = (int(batch.t_ns[-1]) - START_NS) / SECOND
            if due_s > self.seconds:
                return
            message = as_message(batch)
            yield due_s, message, True
            if rng.random() < self.poison:
                yield due_s, Message(message.topic, garbage(batch, rng)), False

    def _batches(self, place: int) -> Iterator[ImuBatch]:
        rng = random.Random(f"{self.seed}/{place}")  # noqa: S311 # reproducible on purpose
        pool = recordings(8, seconds=self.life_s[1])
        begin_s = rng.uniform(*_PAUSE_S)
        for number in count():
            recording, length_s = rng.choice(pool), rng.uniform(*self.life_s)
            longest_s = (recording.end_ns - recording.start_ns) / SECOND
            life = cut(
                recording,
                f"soak-{place}-{number}",
                skip_s=rng.uniform(0.0, max(longest_s - length_s, 0.0)),
                seconds=length_s,
                start_ns=START_NS + round(begin_s * SECOND),
            )
            yield from _numbered(life)
            begin_s += length_s + rng.uniform(*_PAUSE_S)


def _numbered(life: Recording) -> Iterator[ImuBatch]:
    for seq, batch in enumerate(life.messages(_BATCH_READINGS)):
        yield replace(batch, seq=seq)
