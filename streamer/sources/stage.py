"""The stage that keeps, for each watch, what is known of its sender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.errors import ConfigError, PayloadError, RejectReason
from streamer.imu import ImuBatch
from streamer.preprocessing.slots import Slots, SlotState
from streamer.sources.acceleration import UNITS, Acceleration, Readings, Taken, in_si, read_total, read_with_gravity
from streamer.sources.rest import NO_GRAVITY
from streamer.sources.tables import Table, dated
from streamer.wire.readings import MAX_T_NS
from streamer.wire.senders.streams import SCALE, SENSORS, SensorId, Sent, Stream, Unit

Int64 = NDArray[np.int64]

#: A sensor that stays away for so long gives way to a lesser one.
_YIELD_NS: Final = 30_000_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of a watch's sender.

    Attributes:
        format: the program, har-stream for its own formats.
        sensor: the acceleration in use, as the program calls it; None for none.
        gyroscope: likewise.
        unit: of acceleration as sent, None while it is not known.
        sign: of acceleration as sent, None while it is not known.
        gravity: whether it is in the acceleration, was added from readings of its own, or is not there; None while that
            is not known.
        problem: why acceleration was last refused, None where it was not.
    """

    format: str
    sensor: str | None = None
    gyroscope: str | None = None
    unit: Unit | None = None
    sign: Literal["Android", "Apple"] | None = None
    gravity: Literal["included", "added", "missing"] | None = None
    problem: RejectReason | None = None


#: Of watches that send har-stream's own formats, which are so by definition.
OWN: Final = Source("har-stream", "acc", "gyro", "m/s²", "Android", "included")


class _Rate(msgspec.Struct, array_like=True):
    """The gyroscope in use, and the newest of its times."""

    sensor: SensorId
    last_ns: int


class _Sender(msgspec.Struct, array_like=True):
    """What is known of one watch's sender.

    Attributes:
        format: the program.
        acc: the acceleration in use.
        gyro: the gyroscope in use.
        start_ns: when its clock was 0.
        table: columns that come in several messages.
    """

    format: str
    acc: Acceleration | None = None
    gyro: _Rate | None = None
    start_ns: int | None = None
    table: Table = msgspec.field(default_factory=Table)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Sender).decode


class Sources(Slots):
    """Settles what other programs' readings mean, for many watches.

    State: for each watch that sends another program's format what is known of its sender; the others cost nothing.
    """

    def __init__(self) -> None:
        self._senders: dict[int, _Sender] = {}

    def __contains__(self, slot: int) -> bool:
        return slot in self._senders

    def __len__(self) -> int:
        return len(self._senders)

    def grow(self, capacity: int) -> None:
        """There is room already."""

    def reset(self, slot: int) -> None:
        """Forget a slot's sender."""
        self._senders.pop(slot, None)

    def export_rows(self, rows: Int64) -> SlotState:
        """A copy of some slots' senders: which of the rows have one, how long each is, and all laid end to end."""
        found = (
            [(row, slot) for row, slot in enumerate(rows.tolist()) if slot in self._senders] if self._senders else []
        )
        documents = [_encode(self._senders[slot]) for _, slot in found]
        return {
            "row": np.array([row for row, _ in found], np.int64),
            "length": np.array([len(document) for document in documents], np.int64),
            "document": np.frombuffer(b"".join(documents), np.uint8),
        }

    def import_rows(self, rows: Int64, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Put what `export_rows` gave into as many slots.

        Raises:
            ConfigError: it is damaged.
        """
        for slot in rows.tolist():
            self.reset(slot)
        documents, end = state["document"].tobytes(), 0
        try:
            for row, length in zip(state["row"].tolist(), state["length"].tolist(), strict=True):
                self._senders[int(rows[row])] = _read(documents[end : end + length])
                end += length
        except (msgspec.DecodeError, IndexError, ValueError) as error:
            raise ConfigError(f"state of a sender: {error!s:.200}; expected one of this release") from error

    def source_of(self, slot: int) -> Source:
        """What is known of a slot's sender."""
        sender = self._senders.get(slot)
        if sender is None:
            return OWN
        gyroscope = None if sender.gyro is None else SENSORS[sender.gyro.sensor].name
        acc = sender.acc
        if acc is None:
            return Source(sender.format, None, gyroscope)
        sensor = SENSORS[acc.sensor]
        gravity: Literal["included", "added", "missing"] | None = None
        if acc.unit == NO_GRAVITY or acc.problem == RejectReason.GRAVITY:
            gravity = "missing"
        elif acc.unit:
            gravity = "added" if sensor.kind == "linear" else "included"
        sign: Literal["Android", "Apple"] | None = None if not acc.sign else "Android" if acc.sign > 0 else "Apple"
        return Source(sender.format, sensor.name, gyroscope, UNITS.get(acc.unit), sign, gravity, acc.problem)

    def take(self, slot: int, sent: Sent, latest_ns: int = MAX_T_NS) -> Taken:
        """The readings in a message, and those that it lets go.

        Args:
            slot: whose it is.
            sent: the message.
            latest_ns: what lies behind this is too far ahead.

        Raises:
            PayloadError: none of it can be used.
        """
        before = self._senders.get(slot)
        sender = before if before is not None and before.format == sent.format else _Sender(sent.format)
        streams, start_ns = dated(sender.table.join(sent), sender.start_ns)
        for stream in streams:
            if len(stream) and int(stream.t_ns.max()) > latest_ns:
                beyond_s = (int(stream.t_ns.max()) - latest_ns) / 1e9
                raise PayloadError(
                    RejectReason.FUTURE,
                    f"device {sent.device_id}: a reading lies {beyond_s:.0f} s beyond what is taken of the future",
                )
        taken = Taken(anew=before is not None and before is not sender)
        sender.start_ns = start_ns
        self._senders[slot] = sender
        acc = _accelerate(sender, streams, sent, taken)
        gyro = _turn(sender, streams, taken)
        taken.batches = _batches(sent, acc, gyro)
        return taken


def _read(document: bytes) -> _Sender:
    """A sender as it was written.

    Raises:
        DecodeError: it isn't one.
        ValueError: its readings are not whole.
    """
    sender = _decode(document)
    waiting = [] if sender.acc is None else [sender.acc.held, sender.acc.linear, sender.acc.gravity]
    if not all(w.is_whole for w in waiting) or any(len(column) % 8 for column in sender.table.columns.values()):
        raise ValueError("readings that are not whole")
    return sender


def _choose(streams: Sequence[Stream], used: Acceleration | _Rate | None) -> Stream | None:
    """The best of some streams, unless a better one is in use and has not been away for long."""
    best = min(streams, key=lambda stream: SENSORS[stream.sensor].rank, default=None)
    if best is None or used is None or best.sensor == used.sensor:
        return best
    lesser = SENSORS[best.sensor].rank >= SENSORS[used.sensor].rank
    return None if lesser and abs(int(best.t_ns[-1]) - used.last_ns) <= _YIELD_NS else best


def _later(used: Acceleration | _Rate, stream: Stream, taken: Taken) -> None:
    newest_ns = int(stream.t_ns.max())
    taken.later |= newest_ns > used.last_ns
    # The last one, not the newest: a clock may be set back.
    used.last_ns = int(stream.t_ns[-1])


def _accelerate(sender: _Sender, streams: Sequence[Stream], sent: Sent, taken: Taken) -> Readings | None:
    """Acceleration in SI that a message brings, or lets go; what is wrong with it goes to `taken`."""
    full = [stream for stream in streams if len(stream)]
    chosen = _choose([stream for stream in full if SENSORS[stream.sensor].kind in {"total", "linear"}], sender.acc)
    acc = sender.acc
    if chosen is not None:
        if acc is None or acc.sensor != chosen.sensor:
            taken.anew |= acc is not None and acc.flows
            acc = sender.acc = Acceleration(chosen.sensor, int(chosen.t_ns[0]) - 1)
        _later(acc, chosen, taken)
    if acc is None:
        return None
    named = f"{sent.format} of {sent.device_id}"
    try:
        if SENSORS[acc.sensor].kind == "linear":
            gravity = next((stream for stream in full if SENSORS[stream.sensor].kind == "gravity"), None)
            readings = read_with_gravity(acc, chosen, gravity, taken, named)
        elif chosen is None:
            return None
        else:
            readings = read_total(acc, chosen, taken)
        found = in_si(acc, *readings, named) if len(readings[0]) else None
    except PayloadError as error:
        taken.error, found = error, None
    if taken.error is not None:
        acc.problem = taken.error.reason
    elif found is not None:
        acc.problem = None
    return found


def _turn(sender: _Sender, streams: Sequence[Stream], taken: Taken) -> Readings | None:
    """Angular rate in SI that a message brings, of the body whose acceleration is used."""
    body = None if sender.acc is None else SENSORS[sender.acc.sensor].wrist
    if sender.gyro is not None and body is not None and SENSORS[sender.gyro.sensor].wrist != body:
        sender.gyro = None
    fit = [
        stream
        for stream in streams
        if len(stream) and SENSORS[stream.sensor].kind == "rate" and body in {None, SENSORS[stream.sensor].wrist}
    ]
    chosen = _choose(fit, sender.gyro)
    if chosen is None or chosen.unit is None:
        return None
    if sender.gyro is None or sender.gyro.sensor != chosen.sensor:
        sender.gyro = _Rate(chosen.sensor, int(chosen.t_ns[0]) - 1)
    _later(sender.gyro, chosen, taken)
    return chosen.t_ns, chosen.values * SCALE[chosen.unit]


def _batches(sent: Sent, acc: Readings | None, gyro: Readings | None) -> list[ImuBatch]:
    """Both sensors in one where their times are the same."""
    if acc is not None and gyro is not None and np.array_equal(acc[0], gyro[0]):
        return [ImuBatch(sent.device_id, acc[0], acc[1], gyro[1])]
    found = [] if acc is None else [ImuBatch(sent.device_id, *acc, None)]
    return found if gyro is None else [*found, ImuBatch(sent.device_id, gyro[0], None, gyro[1])]
