"""Which events must come of a fleet's messages, and which message brings each about.

The recognizer itself says so: given the first messages of each kind of watch, then the second ones, and so on, what
comes of the n-th call was decided by the n-th message. Nothing a recognizer does depends on where on the time line a
watch lives or on who else sends, so what holds for one watch of a kind holds for all, moved by their times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from simulator.load_fleet import FIRST_SEQ, KINDS, Fleet, Motion
from streamer.bundle import ModelBundle
from streamer.recognizer import Recognizer
from streamer.watches import Limits
from streamer.wire import topics
from streamer.wire.payload import Message

#: What the service publishes of a watch: changes of activity, or every window.
Published = Literal["changes", "windows"]
#: Event types that count, and the topic's last level they come on.
TYPES: Final[dict[Published, tuple[str, ...]]] = {"changes": ("start", "end"), "windows": ("window",)}
TOPIC_KINDS: Final[dict[Published, str]] = {"changes": "event", "windows": "window"}

_ANY_TIME_NS: Final = 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Expected:
    """The events of one kind of watch.

    Attributes:
        closing: (events,) int64 ascending, the number of the message that brings each event about.
        which: number of the event by its type and its decision time, ns since the watch's first reading.
    """

    closing: NDArray[np.int64]
    which: dict[tuple[str, int], int]


def expectation(
    fleet: Fleet, motion: Motion, bundle: ModelBundle, *, rounds: int, published: Published, lateness_ns: int
) -> list[Expected]:
    """The events of each kind of watch, by kind.

    Args:
        fleet: the schedule.
        motion: what is sent.
        bundle: the service's model.
        rounds: messages that a watch sends, at most.
        published: what the service is told to publish.
        lateness_ns: the service's; it decides which message lets a window go.
    """
    # When windows end is a matter of times alone, and those are alike for all kinds.
    kinds = 1 if published == "windows" else min(KINDS, fleet.devices)
    recognizer = Recognizer(bundle, limits=Limits(lateness_ns=lateness_ns), every_window=published == "windows")
    names = [f"kind-{kind}" for kind in range(kinds)]
    closing: dict[str, list[int]] = {name: [] for name in names}
    which: dict[str, dict[tuple[str, int], int]] = {name: {} for name in names}
    for number in range(rounds):
        t_ns = _ANY_TIME_NS + number * fleet.period_ns
        messages = [
            Message(topics.imu(name), motion.template(kind, number).payload(t_ns, FIRST_SEQ + number))
            for kind, name in enumerate(names)
        ]
        for event in recognizer.process(messages, now_ns=t_ns).events:
            if event.type in TYPES[published]:
                which[event.device][event.type, event.decided_ns - _ANY_TIME_NS] = len(closing[event.device])
                closing[event.device].append(number)
    of_kind = [Expected(np.array(closing[name], np.int64), which[name]) for name in names]
    return [of_kind[kind % kinds] for kind in range(KINDS)]
