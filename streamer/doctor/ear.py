"""What is heard at the broker while the doctor listens, within bounds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from paho.mqtt.client import topic_matches_sub

from streamer.doctor.probe import Heard, Probe
from streamer.wire import topics

_MOST_MESSAGES: Final = 20_000
_MOST_BYTES: Final = 32_000_000
_MOST_TOPICS: Final = 500
#: Of what is said on other topics; enough to tell which they are.
_MOST_NEARBY: Final = 5_000
_SAMPLE_BYTES: Final = 65_536
_TURN_S: Final = 0.05
#: A device of a doctor's: this one's, or of another who is at work at the same time.
_DOCTORS: Final = re.compile(r"doctor-[0-9a-f]{8}")

VERSION_TOPIC: Final = "$SYS/broker/version"
#: Mosquitto's counts of what it dropped from full queues, since it was started.
DROPPED_TOPIC: Final = "$SYS/broker/publish/messages/dropped"


@dataclass(slots=True)
class Ear:
    """Sorts what comes on the doctor's main connection.

    State: the messages of watches, in their order of arrival; those that the doctor sent itself, by their topic; what
    services said of themselves, and the broker.

    Attributes:
        filters: the service's topics.
        token: part of the topics and client ids that are the doctor's own.
        full: there was more than is kept; the rest was not looked at.
    """

    filters: Sequence[str]
    token: str
    readings: list[Heard] = field(default_factory=list)
    own: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, list[str]] = field(default_factory=dict)
    broker_says: dict[str, str] = field(default_factory=dict)
    full: bool = False
    _bytes: int = 0

    def receive(self, heard: Heard) -> None:
        """Take a message."""
        if self.token in heard.topic:
            self.own[heard.topic] = heard.arrived_ns
        elif heard.topic.startswith("$SYS/"):
            self.broker_says[heard.topic] = heard.payload[:100].decode("utf-8", "replace")
        elif topic_matches_sub(topics.STATUS_FILTER, heard.topic):
            said = self.statuses.setdefault(heard.topic.split("/")[2], [])
            said.append(heard.payload[:20].decode("utf-8", "replace"))
        elif _DOCTORS.search(heard.topic):
            pass
        elif any(topic_matches_sub(one, heard.topic) for one in self.filters) and not topics.is_sync(heard.topic):
            self._keep(heard)

    def _keep(self, heard: Heard) -> None:
        self._bytes += len(heard.payload)
        self.full = self.full or len(self.readings) >= _MOST_MESSAGES or self._bytes > _MOST_BYTES
        if not self.full:
            self.readings.append(heard)


@dataclass(slots=True)
class Nearby:
    """What is sent on topics that the service does not ask for.

    State: messages by topic, and one message of each.
    """

    ear: Ear
    count: Counter[str] = field(default_factory=Counter)
    samples: dict[str, Heard] = field(default_factory=dict)

    def receive(self, heard: Heard) -> None:
        """Take a message of any topic."""
        topic = heard.topic
        if topic.startswith(("$", "har/")) or self.ear.token in topic:
            return
        if any(topic_matches_sub(one, topic) for one in self.ear.filters):
            return
        if topic not in self.samples:
            if len(self.samples) >= _MOST_TOPICS or len(heard.payload) > _SAMPLE_BYTES:
                return
            self.samples[topic] = heard
        self.count[topic] += 1

    @property
    def enough(self) -> bool:
        """Whether more would only cost the broker."""
        return self.count.total() >= _MOST_NEARBY


def listen(main: Probe, beside: Probe | None, nearby: Nearby, seconds: float, tell: Callable[[float], None]) -> None:
    """Hear what comes on both connections for a time.

    Args:
        main: its messages go to the ear.
        beside: its messages go to `nearby`; closed once there were enough of them.
        nearby: see there.
        seconds: how long.
        tell: takes the seconds that are left, now and then.

    Raises:
        ProbeError: the main connection ended.
    """
    left_s = seconds
    while left_s > 0 and not nearby.ear.full:
        tell(left_s)
        turn_s = min(_TURN_S, left_s)
        main.listen(turn_s)
        left_s -= turn_s
        if beside is not None and beside.ended is None:
            if nearby.enough:
                beside.close()
            else:
                beside.wait(lambda: False, 0.001)
