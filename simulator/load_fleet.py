"""Who sends what and when, for a fleet too large to make up as it goes: packets laid out once, then only stamped.

Every watch sends a batch each period. The fleet's messages lie evenly over the period, and watches join over the first
seconds, so that neither their messages nor their windows fall due together:

    watch 0   x---------x---------x---------x            one message per period
    watch 1      x---------x---------x---------x
    watch 2                     x---------x---------x    joins two periods later
    slot      0  1  2   3  4  5  6  7  8  9 ...          slot n belongs to watch n mod devices

Watches that are a multiple of `KINDS` apart send the same motion, each at its own times: what the service makes of one
holds for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulator.load_packets import publish_header
from simulator.synthetic import synthetic_watches
from streamer.imu import ImuBatch
from streamer.wire import topics
from streamer.wire.payload import encode_cbor, encode_json

Format = Literal["cbor", "json", "single"]

NANOSECONDS: Final = 1_000_000_000
#: Watches join within this long: two hops of the shipped watch model and four of the others, so that every instant of
#: a hop has as many windows falling due.
JOIN_S: Final = 5.1
#: Different watches, seconds of motion of each, which then begins anew, and places in it where watches begin.
_WATCHES: Final = 8
_MOTION_S: Final = 120
_BEGINNINGS: Final = 8
#: Kinds of watches: those of one kind send the same.
KINDS: Final = _WATCHES * _BEGINNINGS
#: Counters start here, so that they keep their width in JSON and in CBOR.
FIRST_SEQ: Final = 1_000_000
#: Stand where times and counters go, in the width of those.
_T_NS: Final = 1_234_567_890_123_456_789
_SEQ: Final = 7_654_321
_GOLDEN_RATIO: Final = 0.6180339887498949


class Template:
    r"""A packet of any watch, with places for the topic, the packet identifier, the time and the counter.

    >>> template = Template(b'{"t_ns": 1234567890123456789, "seq": 7654321}', binary=False, topic_bytes=3, qos=0)
    >>> bytes(template.stamped(b"a/b", b"", 1_700_000_000_000_000_000, 1_000_001)).decode()
    '02\x00\x03a/b{"t_ns": 1700000000000000000, "seq": 1000001}'
    """

    __slots__ = ("_binary", "_identifier", "_packet", "_payload", "_seq", "_t_ns", "_topic")

    def __init__(self, payload: bytes, *, binary: bool, topic_bytes: int, qos: int) -> None:
        header = publish_header(topic_bytes, len(payload), qos)
        self._binary = binary
        self._topic = slice(len(header), len(header) + topic_bytes)
        self._identifier = slice(self._topic.stop, self._topic.stop + (2 if qos else 0))
        self._payload = self._identifier.stop
        self._packet = bytearray(header + bytes(self._payload - len(header)) + payload)
        self._t_ns = self._place(_T_NS, 8)
        self._seq = self._place(_SEQ, 4)

    def stamped(self, topic: bytes, identifier: bytes, t_ns: int, seq: int) -> bytearray:
        """The packet as this watch sends it at this time; the same memory each time, to be copied at once."""
        packet = self._packet
        packet[self._topic] = topic
        packet[self._identifier] = identifier
        if self._binary:
            packet[self._t_ns] = t_ns.to_bytes(8, "big")
            packet[self._seq] = seq.to_bytes(4, "big")
        else:
            packet[self._t_ns] = b"%d" % t_ns
            packet[self._seq] = b"%d" % seq
        return packet

    def payload(self, t_ns: int, seq: int) -> bytes:
        """The payload alone."""
        topic, identifier = bytes(self._packet[self._topic]), bytes(self._packet[self._identifier])
        return bytes(self.stamped(topic, identifier, t_ns, seq)[self._payload :])

    def _place(self, number: int, width: int) -> slice:
        written = number.to_bytes(width, "big") if self._binary else b"%d" % number
        # Both stand before the values, among whose bytes anything may come up.
        first = self._packet.index(written)
        return slice(first, first + len(written))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A fleet's schedule; times are ns since the load begins.

    Attributes:
        devices: how many watches.
        rate_hz: readings per second of each, a divisor of 10^9.
        batch: readings per message.
        name: what their names begin with.
    """

    devices: int
    rate_hz: int
    batch: int
    name: str

    @property
    def reading_ns(self) -> int:
        """Time between a watch's readings."""
        return NANOSECONDS // self.rate_hz

    @property
    def period_ns(self) -> int:
        """Time between a watch's messages."""
        return self.batch * self.reading_ns

    @property
    def messages_per_s(self) -> float:
        """Of the whole fleet, once all have joined."""
        return self.devices * NANOSECONDS / self.period_ns

    @property
    def joining_rounds(self) -> int:
        """Periods within which the watches join."""
        return max(1, round(JOIN_S * NANOSECONDS / self.period_ns))

    def joins(self) -> NDArray[np.int64]:
        """(devices,) int64: the round of each watch's first message."""
        return (np.arange(self.devices) * _GOLDEN_RATIO % 1 * self.joining_rounds).astype(np.int64)

    @property
    def span_ns(self) -> int:
        """From the first to the last reading of a message."""
        return (self.batch - 1) * self.reading_ns

    def joined_ns(self) -> NDArray[np.int64]:
        """(devices,) int64: when each watch's first message is due."""
        return np.array([self.due_ns(int(r) * self.devices + i) for i, r in enumerate(self.joins())], np.int64)

    def due_ns(self, slot: int) -> int:
        """When a slot's message is due: with its last reading."""
        round_, device = divmod(slot, self.devices)
        return round_ * self.period_ns + device * self.period_ns // self.devices

    def slots_until(self, end_ns: int) -> int:
        """How many slots are due before a time."""
        whole, rest_ns = divmod(end_ns, self.period_ns)
        return whole * self.devices - (-rest_ns * self.devices // self.period_ns)

    def sent(self, slots: int) -> NDArray[np.int64]:
        """(devices,) int64: messages of each watch within the first slots."""
        rounds = (slots - np.arange(self.devices) + self.devices - 1) // self.devices
        messages: NDArray[np.int64] = np.maximum(rounds - self.joins(), 0)
        return messages

    def device(self, index: int) -> str:
        """A watch's name; all have the same length."""
        return f"{self.name}-{index:06d}"

    def index(self, device: str) -> int | None:
        """The watch of that name, None when it is none of these."""
        prefix, _, number = device.rpartition("-")
        if prefix != self.name or not number.isdecimal():
            return None
        return int(number) if int(number) < self.devices else None


class Motion:
    """What the watches send: a ring of packets for each kind of watch.

    State: the packets, which are stamped in place.
    """

    def __init__(self, fleet: Fleet, payload_format: Format, *, qos: int, seed: int = 0) -> None:
        """Make the motion up and lay the packets out; a second or two."""
        encode = _ENCODERS[payload_format]
        topic_bytes = len(topics.imu(fleet.device(0)))
        messages = max(1, _MOTION_S * fleet.rate_hz // fleet.batch)
        rings = []
        for watch in synthetic_watches(min(_WATCHES, fleet.devices), seed=seed, rate_hz=fleet.rate_hz):
            payloads = [encode(batch) for batch in islice(watch.messages(fleet.batch), messages)]
            rings.append(
                [Template(p, binary=payload_format == "cbor", topic_bytes=topic_bytes, qos=qos) for p in payloads]
            )
        self.kinds: list[tuple[list[Template], int]] = [
            (rings[kind % len(rings)], kind // _WATCHES * messages // _BEGINNINGS) for kind in range(KINDS)
        ]

    def template(self, kind: int, number: int) -> Template:
        """The packet of a kind's message, counted from its first."""
        ring, beginning = self.kinds[kind]
        return ring[(beginning + number) % len(ring)]


def _cbor(batch: ImuBatch) -> bytes:
    return encode_cbor(_with_marks(batch), dtype=np.float32)


def _json(batch: ImuBatch) -> bytes:
    marked = _with_marks(batch)
    return encode_json(
        ImuBatch(
            marked.device_id,
            marked.t_ns,
            None if marked.acc is None else marked.acc.round(3),
            None if marked.gyro is None else marked.gyro.round(3),
            marked.rate_hz,
            marked.seq,
        )
    )


def _single(batch: ImuBatch) -> bytes:
    document: dict[str, float | int] = {"t_ns": _T_NS, "seq": _SEQ}
    for sensor, values in (("acc", batch.acc), ("gyro", batch.gyro)):
        if values is not None:
            document |= zip((f"{sensor}_x", f"{sensor}_y", f"{sensor}_z"), values[0].round(3).tolist(), strict=True)
    return msgspec.json.encode(document)


def _with_marks(batch: ImuBatch) -> ImuBatch:
    return ImuBatch(batch.device_id, batch.t_ns - batch.t_ns[0] + _T_NS, batch.acc, batch.gyro, batch.rate_hz, _SEQ)


#: float32 in CBOR and three decimals in JSON: what a sensor of 16 bits can say.
_ENCODERS: Final[dict[Format, Callable[[ImuBatch], bytes]]] = {"cbor": _cbor, "json": _json, "single": _single}
