"""Watches to replay: recordings and synthetic motion under names and times of their own."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from streamer.errors import ConfigError
from streamer.imu import ImuBatch
from streamer.recording import Arrived
from streamer.wire import topics

#: Copies of a recording start apart by this much at most, so that their windows do not fall due together.
_STAGGER_NS: Final = 5_000_000_000
_GOLDEN_RATIO: Final = 0.6180339887498949


class Watch(Protocol):
    """What can be replayed: a `Recording`, or a `SyntheticWatch` that never ends."""

    @property
    def device_id(self) -> str:
        """The watch's name."""
        ...

    @property
    def rate_hz(self) -> float | None:
        """Nominal rate, None when unknown."""
        ...

    @property
    def start_ns(self) -> int:
        """Time of the first reading."""
        ...

    @property
    def end_ns(self) -> int | None:
        """Time of the last reading, None for a watch that never stops."""
        ...

    @property
    def arrivals(self) -> Sequence[Arrived]:
        """Its messages as they came, empty where nobody knows."""
        ...

    def messages(self, readings: int) -> Iterator[ImuBatch]:
        """The readings in messages of at most `readings`, by the time of their last reading."""
        ...


@dataclass(frozen=True, slots=True)
class Copy:
    """A watch under another name, its times moved by whole periods of its nominal rate.

    Attributes:
        watch: the original.
        device_id: the name to send under.
        shift_ns: added to every time.
    """

    watch: Watch
    device_id: str
    shift_ns: int

    @property
    def rate_hz(self) -> float | None:
        """The original's nominal rate."""
        return self.watch.rate_hz

    @property
    def start_ns(self) -> int:
        """Time of the first reading as sent."""
        return self.watch.start_ns + self.shift_ns

    @property
    def end_ns(self) -> int | None:
        """Time of the last reading as sent, None without end."""
        return None if self.watch.end_ns is None else self.watch.end_ns + self.shift_ns

    @property
    def first_due_ns(self) -> int:
        """Recorded time from which messages come due."""
        arrivals = self.watch.arrivals
        return self.shift_ns + arrivals[0].arrived_ns if arrivals else self.start_ns

    @property
    def last_due_ns(self) -> int | None:
        """When the last message comes due, None without end."""
        arrivals = self.watch.arrivals
        return self.shift_ns + arrivals[-1].arrived_ns if arrivals else self.end_ns

    @property
    def arrivals(self) -> Sequence[Arrived]:
        """The original's messages as they came, with their new name and times, and numbers as they were."""
        return [
            replace(
                message,
                device_id=self.device_id,
                t_ns=message.t_ns + self.shift_ns,
                arrived_ns=message.arrived_ns + self.shift_ns,
            )
            for message in self.watch.arrivals
        ]

    def messages(self, readings: int) -> Iterator[ImuBatch]:
        """The original's readings in messages with their new name, times and numbers from 0."""
        for seq, batch in enumerate(self.watch.messages(readings)):
            yield replace(batch, device_id=self.device_id, t_ns=batch.t_ns + self.shift_ns, seq=seq)


def fleet(
    watches: Sequence[Watch], *, devices: int | None, start_ns: int | None, name: str | None = None
) -> list[Copy]:
    """As many watches as asked for, the originals first, then copies `NAME-2`, `NAME-3`, ... that start later.

    Args:
        watches: the originals, at least one.
        devices: how many in all; None for the originals.
        start_ns: where the earliest reading is moved to, by whole periods; None to leave times as recorded.
        name: what the first one is called in place of its own name, the others `NAME-2`, `NAME-3`, ...

    Raises:
        ConfigError: no watch may be called so.
    """
    if name is not None and not topics.DEVICE_NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r:.100}: expected 1 to 64 of A-Z a-z 0-9 . _ : @ -, a letter or digit first")
    earliest_ns = min(watch.start_ns for watch in watches)
    move_ns = 0 if start_ns is None else start_ns - earliest_ns
    copies = []
    for index in range(len(watches) if devices is None else devices):
        round_number, which = divmod(index, len(watches))
        watch = watches[which]
        own = watch.device_id if not round_number else f"{watch.device_id}-{round_number + 1}"
        if name is not None:
            own = name if not index else f"{name}-{index + 1}"
        later_ns = int(index * _GOLDEN_RATIO % 1 * _STAGGER_NS) if round_number else 0
        copies.append(Copy(watch, own, _whole_periods(move_ns + later_ns, watch.rate_hz)))
    return copies


def in_time_order(watches: Sequence[Watch], readings: int | None, *, batch_s: float = 0.5) -> Iterator[ImuBatch]:
    """The messages of all watches in the order in which they come due.

    Args:
        watches: who sends.
        readings: per message; None for a capture's own messages, else batch_s seconds' worth at each watch's nominal
            rate.
        batch_s: see there.
    """
    streams: list[Iterable[ImuBatch]] = []
    for watch in watches:
        captured = () if readings is not None else watch.arrivals
        streams.append(captured or watch.messages(readings or max(1, round((watch.rate_hz or 20.0) * batch_s))))
    return heapq.merge(*streams, key=due_ns)


def due_ns(batch: ImuBatch) -> int:
    """When a message is sent, in recorded time: when it came, or with its last reading."""
    return batch.arrived_ns if isinstance(batch, Arrived) else int(batch.t_ns[-1])


def _whole_periods(shift_ns: int, rate_hz: float | None) -> int:
    period_ns = round(1e9 / rate_hz) if rate_hz else 1
    return shift_ns // period_ns * period_ns
