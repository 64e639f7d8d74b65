"""A flood of invented device names: what it costs in memory, and whether real watches go on through it."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Final

from streamer.recognizer import Recognizer
from streamer.watches import Limits
from streamer.wire import topics
from streamer.wire.events import encode_event
from streamer.wire.payload import Message, encode_cbor
from tests.bundles import START_NS, make_bundle
from tests.fuzz.engine import rss_bytes
from tests.motion import SECOND, joined, noise, still

#: Names between two messages of the real watch.
_BETWEEN: Final = 500


def invented_names(names: int, *, seed: int = 0, readings: int = 1) -> dict[str, float]:
    """Send a message under each of many names, among a real watch's; figures of it.

    Args:
        names: how many.
        seed: of the names.
        readings: in each message; from `PROBATION_READINGS` on, each name gets a slot.

    Returns:
        memory after a fifth of the names and at the end, slots in use, time per name, and whether the real watch's
        events are those that it has alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder))
    limits = Limits(max_watches=1000, probation_pool=1000)
    recognizer, alone = Recognizer(bundle, limits=limits), Recognizer(bundle, limits=limits)
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    payload = encode_cbor(noise(readings))
    expected: list[bytes] = []
    found: list[bytes] = []
    sent, first_bytes = 0, 0
    begun = time.monotonic()
    rounds = max(names // _BETWEEN, 1)
    for number in range(rounds):
        real = _real_message(number)
        flood = [Message(topics.imu(f"{rng.getrandbits(64):x}"), payload) for _ in range(_BETWEEN)]
        now_ns = START_NS + number * SECOND
        found += [encode_event(e) for e in recognizer.process([*flood, real], now_ns).events if e.device == "real"]
        expected += [encode_event(e) for e in alone.process([real], now_ns).events]
        sent += len(flood)
        if number == rounds // 5:
            first_bytes = rss_bytes()
    took_s = time.monotonic() - begun
    return {
        "names": sent,
        "seconds": took_s,
        "microseconds_per_name": 1e6 * took_s / sent,
        "rss_after_a_fifth": first_bytes,
        "rss_at_the_end": rss_bytes(),
        "growth_bytes": rss_bytes() - first_bytes,
        "slots_in_use": len(recognizer.watches),
        "real_watch_events": len(expected),
        "real_watch_events_differ": sum(a != b for a, b in zip(expected, found, strict=False))
        + abs(len(expected) - len(found)),
    }


def _real_message(number: int) -> Message:
    """A second of a watch that turns over every ten."""
    posture = ("lying", "sitting")[number // 10 % 2]
    batch = joined(still(posture, 1.0, start_s=number, device="real"))
    return Message(topics.imu("real"), encode_cbor(batch))
