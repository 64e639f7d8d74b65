"""The load that every program gets: the same messages at the same pace, and the windows that must come of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from simulator.synthetic import synthetic_watches
from simulator.watches import fleet, in_time_order
from streamer.bundle import load_bundle
from streamer.imu import ImuBatch
from streamer.recognizer import Recognizer
from streamer.watches import Limits
from streamer.wire import topics
from streamer.wire.events import ActivityEvent
from streamer.wire.payload import Message, encode_cbor, encode_json

Format = Literal["json", "cbor"]

RATE_HZ: Final = 50
#: Motion generated; a larger fleet wears copies of it at times of their own.
_ORIGINALS: Final = 50
_PROBE_S: Final = 8
#: How near a window's start must be to where it belongs: some programs keep times as float64 seconds since 1970.
_START_TOLERANCE_NS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Sent:
    """One message: when it is due, seconds from the beginning; its topic, its payload and its number of readings."""

    due_s: float
    topic: str
    payload: bytes
    readings: int


@dataclass(frozen=True, slots=True)
class Load:
    """Messages, and what a program that does its work makes of them.

    Attributes:
        messages: in the order of sending.
        seconds: from the beginning to the end.
        probe: one watch's payloads, enough for its first windows.
        labels: activity of each window by (device, number), as the offline recognizer's model gives it, unsmoothed.
        needed: windows that any program can decide from these messages, even one that waits for late readings.
        first_ns: start of each device's first window.
        hop_ns: from one window's start to the next one's.
    """

    messages: list[Sent]
    seconds: float
    probe: list[bytes]
    labels: dict[tuple[str, int], str]
    needed: frozenset[tuple[str, int]]
    first_ns: dict[str, int]
    hop_ns: int

    def watch_seconds(self, after_s: float) -> float:
        """Seconds of motion that messages due after this time carry, over all watches."""
        return sum(message.readings for message in self.messages if message.due_s >= after_s) / RATE_HZ

    def window_of(self, device: str, start_ns: int) -> tuple[str, int] | None:
        """Which window starts there, None when none does."""
        if device not in self.first_ns:
            return None
        number = round((start_ns - self.first_ns[device]) / self.hop_ns)
        if abs(start_ns - self.first_ns[device] - number * self.hop_ns) > _START_TOLERANCE_NS:
            return None
        window = (device, number)
        return window if window in self.labels else None


def make_load(bundle: Path, *, watches: int, seconds: float, batch: int, payload: Format) -> Load:
    """Synthetic watches at 50 Hz that have no gyroscope: what is compared to har-stream reads none.

    Args:
        bundle: folder of the model.
        watches: how many.
        seconds: for how long.
        batch: readings per message.
        payload: "json" in columns with three decimals, or "cbor" with float32.
    """
    start_ns = time.time_ns()
    encode = _encode_json if payload == "json" else _encode_cbor
    originals = synthetic_watches(min(watches, _ORIGINALS), seed=1, rate_hz=RATE_HZ)
    copies = fleet(originals, devices=watches, start_ns=start_ns)
    sent: list[Sent] = []
    for message in in_time_order(copies, batch):
        due_s = (int(message.t_ns[-1]) - start_ns) / 1e9
        if due_s > seconds:
            break
        sent.append(Sent(due_s, topics.imu(message.device_id), encode(message), len(message)))
    recognizer = Recognizer(load_bundle(bundle), limits=Limits(max_watches=watches), every_window=True)
    starts: dict[str, list[int]] = {}
    labels: dict[tuple[str, int], str] = {}

    def note(events: list[ActivityEvent]) -> None:
        for event in events:
            if event.type == "window" and event.probabilities is not None:
                numbers = starts.setdefault(event.device, [])
                labels[event.device, len(numbers)] = max(event.probabilities, key=event.probabilities.__getitem__)
                numbers.append(event.window_start_ns)

    for first in range(0, len(sent), watches):
        group = [Message(message.topic, message.payload) for message in sent[first : first + watches]]
        note(recognizer.process(group, start_ns).events)
    needed = frozenset(labels)
    note(recognizer.finish("end_of_recording").events)
    spec = recognizer.bundle.spec
    probe = [message.payload for message in sent if message.topic == sent[0].topic and message.due_s < _PROBE_S]
    return Load(
        sent, seconds, probe, labels, needed, {d: s[0] for d, s in starts.items()}, spec.hop_len * spec.period_ns
    )


def _encode_json(batch: ImuBatch) -> bytes:
    return encode_json(replace(batch, acc=_rounded(batch.acc), gyro=None))


def _encode_cbor(batch: ImuBatch) -> bytes:
    return encode_cbor(replace(batch, gyro=None), dtype=np.float32)


def _rounded(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Three decimals, as senders write them."""
    return None if values is None else values.round(3)
