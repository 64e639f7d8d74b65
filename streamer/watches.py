"""Which watches are followed, in which slot, and since when one was last heard of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.imu import ImuBatch
from streamer.wire.message import Message
from streamer.wire.senders.streams import SensorId, Sent, Sign, Stream, Unit

#: Readings after which a new name gets a slot; until then it waits in a pool where invented names push each other out.
PROBATION_READINGS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what watches may cost and how long they are waited for.

    Attributes:
        max_watches: watches followed at once; one that is silent makes room for the next, one that is alive does not.
        probation_pool: names on probation at once; the one longest unheard of makes room for the next.
        lateness_ns: how far readings may arrive out of order.
        silence_ns: time without a message after which a watch's activity ends.
        evict_after_ns: time without a message after which a watch is forgotten.
        max_future_ns: how far ahead of the clock readings may be.
    """

    max_watches: int = 20_000
    probation_pool: int = 4096
    lateness_ns: int = 100_000_000
    silence_ns: int = 30_000_000_000
    evict_after_ns: int = 3_600_000_000_000
    max_future_ns: int = 86_400_000_000_000


class HeldBatch(msgspec.Struct, frozen=True, array_like=True, tag="own"):
    """An `ImuBatch` on probation as a value that can be written: its arrays as the bytes they are."""

    device: str
    t_ns: bytes
    acc: bytes | None
    gyro: bytes | None
    rate_hz: float | None
    seq: int | None


class _HeldStream(msgspec.Struct, frozen=True, array_like=True):
    """A `Stream` likewise."""

    sensor: SensorId
    t_ns: bytes
    values: bytes
    unit: Unit | None
    sign: Sign | None


class HeldSent(msgspec.Struct, frozen=True, array_like=True, tag="sent"):
    """A `Sent` likewise, without the message that it came as."""

    device: str
    topic: str
    format: str
    streams: list[_HeldStream]
    column: tuple[str, bytes] | None
    start_ns: int | None
    seq: int | None


class Liveness(msgspec.Struct, frozen=True, kw_only=True):
    """When each watch was last heard of, oldest first, and what names on probation have sent.

    Attributes:
        alive, silent: watches, and when, less the time since in which nobody listened.
        probation: see `HeldBatch`.
        excused: when those really were, where that differs.
    """

    alive: list[tuple[str, int]]
    silent: list[tuple[str, int]]
    probation: list[HeldBatch | HeldSent]
    excused: list[tuple[str, int]] = []


class Watches:
    """Names to slots, by the time of their last message.

    State: the slots in use, the order in which watches were last heard of, and the names on probation with the few
    readings they sent. Times are arrival times: they decide about liveness and nothing else.
    """

    def __init__(self, limits: Limits, *, capacity: int) -> None:
        self._limits = limits
        self._slots: dict[str, int] = {}
        self._free = list(range(capacity - 1, -1, -1))
        # Oldest first: a watch moves to the end when it is heard of, and from `_alive` to `_silent` when it isn't.
        self._alive: OrderedDict[str, int] = OrderedDict()
        self._silent: OrderedDict[str, int] = OrderedDict()
        self._excused: dict[str, int] = {}
        self._probation: OrderedDict[str, list[ImuBatch | Sent]] = OrderedDict()
        self._pushed_out = 0
        self.names: list[str] = [""] * capacity

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def slots(self) -> Iterable[int]:
        """The slots in use."""
        return self._slots.values()

    def slot_of(self, device_id: str) -> int | None:
        """The watch's slot, None when it has none."""
        return self._slots.get(device_id)

    def heard(self, device_id: str, now_ns: int) -> int | None:
        """Note a message of a followed watch; its slot, or None for an unknown name."""
        slot = self._slots.get(device_id)
        if slot is not None:
            self._silent.pop(device_id, None)
            self._alive[device_id] = now_ns
            self._alive.move_to_end(device_id)
            if self._excused:
                self._excused.pop(device_id, None)
        return slot

    def last_heard(self, device_id: str) -> tuple[int, bool] | None:
        """When a message last came of a watch, and whether that is not too long ago; None for an unknown name."""
        is_alive = device_id in self._alive
        heard_ns = (self._alive if is_alive else self._silent).get(device_id)
        return None if heard_ns is None else (self._excused.get(device_id, heard_ns), is_alive)

    def alive_by_name(self) -> dict[str, bool]:
        """The watches, and whether a message came of each not too long ago."""
        return dict.fromkeys(self._silent, False) | dict.fromkeys(self._alive, True)

    @property
    def waiting(self) -> int:
        """Names with too few readings so far."""
        return len(self._probation)

    def on_probation(self, arrived: ImuBatch | Sent) -> list[ImuBatch | Sent] | None:
        """Note a message of an unknown name; all that it sent once that is enough for a slot."""
        held = self._probation.setdefault(arrived.device_id, [])
        held.append(arrived.without_payload() if isinstance(arrived, Sent) else arrived)
        self._probation.move_to_end(arrived.device_id)
        if sum(len(b) for b in held) >= PROBATION_READINGS:
            return self._probation.pop(arrived.device_id)
        if len(self._probation) > self._limits.probation_pool:
            _, pushed_out = self._probation.popitem(last=False)
            self._pushed_out += len(pushed_out)
        return None

    def take_pushed_out(self) -> int:
        """Messages of names that others pushed off probation since the last call of this."""
        pushed_out, self._pushed_out = self._pushed_out, 0
        return pushed_out

    @property
    def room_for_one(self) -> bool:
        """Whether a slot is free without evicting anyone."""
        return len(self._slots) < self._limits.max_watches

    @property
    def must_grow(self) -> bool:
        """Whether arrays must grow before the next `add`."""
        return not self._free

    def grow(self, capacity: int) -> None:
        """Add slots up to `capacity`."""
        self._free += range(capacity - 1, len(self.names) - 1, -1)
        self.names += [""] * (capacity - len(self.names))

    def longest_silent(self, now_ns: int) -> str | None:
        """The watch that makes room for another; None while all are alive.

        Were the living to make room, a flood of invented names would drive every real watch out.
        """
        if self._silent:
            return next(iter(self._silent))
        device_id, heard_ns = next(iter(self._alive.items()))
        return device_id if heard_ns + self._limits.silence_ns <= now_ns else None

    def add(self, device_id: str, now_ns: int) -> int:
        """Give a watch a slot; there must be a free one."""
        slot = self._free.pop()
        self._slots[device_id] = slot
        self.names[slot] = device_id
        self._alive[device_id] = now_ns
        return slot

    def remove(self, device_id: str) -> int:
        """Take a watch's slot back."""
        slot = self._slots.pop(device_id)
        self._alive.pop(device_id, None)
        self._silent.pop(device_id, None)
        self._excused.pop(device_id, None)
        self.names[slot] = ""
        self._free.append(slot)
        return slot

    def fall_silent(self, now_ns: int) -> list[str]:
        """The watches that have just been unheard of for too long."""
        silent: list[str] = []
        while self._alive and next(iter(self._alive.values())) + self._limits.silence_ns <= now_ns:
            device_id, heard_ns = self._alive.popitem(last=False)
            self._silent[device_id] = heard_ns
            silent.append(device_id)
        return silent

    def outdated(self, now_ns: int) -> list[str]:
        """The watches that may be forgotten."""
        aged: list[str] = []
        for device_id, heard_ns in self._silent.items():
            if heard_ns + self._limits.evict_after_ns > now_ns:
                break
            aged.append(device_id)
        return aged

    def is_due(self, now_ns: int) -> bool:
        """Whether a watch has been unheard of for too long to be waited for, or to be remembered."""
        return any(
            heard and next(iter(heard.values())) + limit_ns <= now_ns
            for heard, limit_ns in (
                (self._alive, self._limits.silence_ns),
                (self._silent, self._limits.evict_after_ns),
            )
        )

    def excuse(self, deaf_ns: int) -> None:
        """Leave a time in which nobody listened out of every watch's silence; negative where a clock was set back."""
        for heard in (self._alive, self._silent):
            for device_id, heard_ns in heard.items():
                self._excused.setdefault(device_id, heard_ns)
                heard[device_id] = heard_ns + deaf_ns

    def export_liveness(self) -> Liveness:
        """What is known besides slots."""
        return Liveness(
            alive=list(self._alive.items()),
            silent=list(self._silent.items()),
            probation=[_held(arrived) for held in self._probation.values() for arrived in held],
            excused=list(self._excused.items()),
        )

    def import_liveness(self, liveness: Liveness) -> None:
        """Put what `export_liveness` gave in place of what is known; the same watches must have slots.

        Raises:
            ValueError: it is damaged.
        """
        if self._slots.keys() != dict(liveness.alive).keys() | dict(liveness.silent).keys():
            raise ValueError("liveness of other watches than have slots")
        self._alive = OrderedDict(liveness.alive)
        self._silent = OrderedDict(liveness.silent)
        self._excused = {device: heard_ns for device, heard_ns in liveness.excused if device in self._slots}
        self._probation = OrderedDict()
        for held in liveness.probation:
            self._probation.setdefault(held.device, []).append(_arrived(held))


def _held(arrived: ImuBatch | Sent) -> HeldBatch | HeldSent:
    if isinstance(arrived, ImuBatch):
        return HeldBatch(
            arrived.device_id,
            arrived.t_ns.tobytes(),
            None if arrived.acc is None else arrived.acc.tobytes(),
            None if arrived.gyro is None else arrived.gyro.tobytes(),
            arrived.rate_hz,
            arrived.seq,
        )
    return HeldSent(
        arrived.device_id,
        arrived.message.topic,
        arrived.format,
        [_HeldStream(s.sensor, s.t_ns.tobytes(), s.values.tobytes(), s.unit, s.sign) for s in arrived.streams],
        None if arrived.column is None else (arrived.column[0], arrived.column[1].tobytes()),
        arrived.start_ns,
        arrived.seq,
    )


def _arrived(held: HeldBatch | HeldSent) -> ImuBatch | Sent:
    if isinstance(held, HeldBatch):
        return ImuBatch(
            held.device,
            np.frombuffer(held.t_ns, np.int64),
            None if held.acc is None else _vectors(held.acc),
            None if held.gyro is None else _vectors(held.gyro),
            held.rate_hz,
            held.seq,
        )
    return Sent(
        Message(held.topic, b""),
        held.device,
        held.format,
        tuple(
            Stream(s.sensor, np.frombuffer(s.t_ns, np.int64), _vectors(s.values), s.unit, s.sign) for s in held.streams
        ),
        None if held.column is None else (held.column[0], np.frombuffer(held.column[1], np.float64)),
        held.start_ns,
        held.seq,
    )


def _vectors(values: bytes) -> NDArray[np.float64]:
    return np.frombuffer(values, np.float64).reshape(-1, 3)
