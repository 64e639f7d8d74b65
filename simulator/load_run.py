"""The load generator at work: what is due goes out, what has come is counted, and in between the process sleeps."""

from __future__ import annotations

import select
import time
from array import array
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from simulator.load_expectation import TYPES, Expected, Published
from simulator.load_fleet import FIRST_SEQ, KINDS, Fleet, Motion
from simulator.load_mqtt import MAX_UNACKNOWLEDGED, Connection
from streamer.wire import topics

#: Waking up costs more than copying a few packets: not more often than this.
_NAP_S: Final = 0.001
#: A signal is noticed within this.
_LONGEST_SLEEP_S: Final = 0.1
#: Slots worked off in one go; between such bursts events are read.
_BURST: Final = 500
#: After the last message events are waited for until none comes for this long.
_SETTLE_S: Final = 3.0


class _Heard(msgspec.Struct):
    """What of an event is looked at."""

    type: str
    device: str
    decided_ns: int


class Tally:
    """Events against those that must come.

    State: which events of each watch came, the counts, and the latencies.
    """

    def __init__(
        self,
        fleet: Fleet,
        expected: Sequence[Expected],
        published: Published,
        epoch_ns: int,
        *,
        counted_from_ns: int = 0,
    ) -> None:
        """Nothing has come yet.

        Args:
            fleet: the schedule.
            expected: the events of each kind of watch.
            published: which events count.
            epoch_ns: ns since the UTC epoch when the load begins.
            counted_from_ns: latencies of events whose message is due from then on are kept.
        """
        self._fleet = fleet
        self._counted_from_ns = counted_from_ns
        self._of_kind = expected
        self._types = TYPES[published]
        self._joined_ns = fleet.joined_ns().tolist()
        self._first_reading_ns = epoch_ns - fleet.span_ns
        self._came = [bytearray(len(expected[i % KINDS].closing)) for i in range(fleet.devices)]
        self._decoder = msgspec.json.Decoder(_Heard)
        #: From when the deciding message was due, in the order of arrival.
        self.latencies_ms = array("f")
        #: Expected events that came, each counted once.
        self.came = 0
        self.duplicate = 0
        self.unexpected = 0

    def hear(self, payload: bytes, now_ns: int) -> None:
        """Take an event that came this long after the load began; those of other watches are none of its business."""
        event = self._decoder.decode(payload)
        device = self._fleet.index(event.device)
        if device is None or event.type not in self._types:
            return
        kind = self._of_kind[device % KINDS]
        joined_ns = self._joined_ns[device]
        number = kind.which.get((event.type, event.decided_ns - joined_ns - self._first_reading_ns))
        if number is None:
            self.unexpected += 1
        elif self._came[device][number]:
            self.duplicate += 1
        else:
            self._came[device][number] = 1
            self.came += 1
            due_ns = joined_ns + kind.closing[number] * self._fleet.period_ns
            if due_ns >= self._counted_from_ns:
                self.latencies_ms.append((now_ns - due_ns) / 1e6)

    def expected(self, slots: int) -> int:
        """Events that the messages of the first slots bring about."""
        sent = self._fleet.sent(slots)
        kinds = np.arange(self._fleet.devices) % KINDS
        return sum(int(np.searchsorted(kind.closing, sent[kinds == k]).sum()) for k, kind in enumerate(self._of_kind))


class Sender:
    """Copies what is due into the connection's buffer.

    State: the next slot, and how late each message was handed to the kernel.
    """

    def __init__(self, fleet: Fleet, motion: Motion, connection: Connection, epoch_ns: int, *, qos: int) -> None:
        self._fleet = fleet
        self._motion = motion
        self._connection = connection
        self._qos = qos
        self._topics = [topics.imu(fleet.device(i)).encode() for i in range(fleet.devices)]
        self._phases_ns = [fleet.due_ns(i) for i in range(fleet.devices)]
        self._joins = fleet.joins().tolist()
        self._first_reading_ns = epoch_ns - fleet.span_ns
        self.slot = 0
        self.lags_ms = array("f")

    @property
    def messages(self) -> int:
        """Sent so far."""
        return len(self.lags_ms)

    def fill(self, now_ns: int, end: int) -> None:
        """Copy what is due by now, up to a slot and at most a burst."""
        fleet, unsent = self._fleet, self._connection.unsent
        round_, device = divmod(self.slot, fleet.devices)
        for _ in range(min(_BURST, end - self.slot)):
            due_ns = round_ * fleet.period_ns + self._phases_ns[device]
            if due_ns > now_ns:
                break
            number = round_ - self._joins[device]
            if number >= 0:
                identifier = self._connection.next_identifier() if self._qos else b""
                unsent += self._motion.template(device % KINDS, number).stamped(
                    self._topics[device], identifier, self._first_reading_ns + due_ns, FIRST_SEQ + number
                )
                self.lags_ms.append((now_ns - due_ns) / 1e6)
            self.slot += 1
            device += 1
            if device == fleet.devices:
                round_, device = round_ + 1, 0


class Exchange:
    """Sends on schedule and listens.

    State: when the load began, and whether it is to stop.
    """

    def __init__(self, fleet: Fleet, sender: Sender, tally: Tally, connection: Connection, begin_ns: int) -> None:
        """Nothing happens yet.

        Args:
            fleet: the schedule.
            sender: fills the connection.
            tally: counts what comes over it.
            connection: subscribed to the events.
            begin_ns: monotonic time at which the load begins.
        """
        self._fleet = fleet
        self._sender = sender
        self._tally = tally
        self._connection = connection
        self._begin_ns = begin_ns
        self.stopped = False

    def stop(self) -> None:
        """Send no more; may be called by a signal handler."""
        self.stopped = True

    def begin(self) -> None:
        """Wait until the first message is due."""
        time.sleep(max(0, self._begin_ns - time.monotonic_ns()) / 1e9)

    def send_until(self, end: int) -> None:
        """Send what is due before a slot, when it is due, and return when the kernel has it all.

        Raises:
            BrokerError: the connection is lost.
        """
        sender, connection = self._sender, self._connection
        while connection.unsent or (sender.slot < end and not self.stopped):
            now_ns = self._now_ns()
            # Nothing new while the kernel has yet to take the last burst, so that lag is known when it is copied.
            blocked = bool(connection.unsent) or connection.unacknowledged > MAX_UNACKNOWLEDGED
            if not blocked and not self.stopped:
                sender.fill(now_ns, end)
            if connection.unsent:
                connection.send()
            early_s = (self._fleet.due_ns(sender.slot) - now_ns) / 1e9
            behind = early_s <= 0 and not blocked
            self._listen(0.0 if behind else min(max(early_s, _NAP_S), _LONGEST_SLEEP_S))

    def settle(self) -> None:
        """Wait for the events of what was sent, until all have come or none comes any more.

        Raises:
            BrokerError: the connection is lost.
        """
        expected = self._tally.expected(self._sender.slot)
        quiet_since, came = time.monotonic(), self._tally.came
        while self._tally.came < expected and time.monotonic() - quiet_since < _SETTLE_S:
            self._listen(_LONGEST_SLEEP_S)
            if self._tally.came > came:
                quiet_since, came = time.monotonic(), self._tally.came

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._begin_ns

    def _listen(self, at_most_s: float) -> None:
        connection = self._connection
        readable, _, _ = select.select([connection], [connection] if connection.unsent else [], [], at_most_s)
        now_ns = self._now_ns()
        if readable:
            for payload in connection.receive():
                self._tally.hear(payload, now_ns)
