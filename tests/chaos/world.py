"""One broker, one service, its watches and a reader of events, in a folder of their own, and what came of them."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from streamer.wire.events import ActivityEvent
from streamer.wire.payload import Message
from tests.chaos.cable import Cable
from tests.chaos.disk import Disk
from tests.chaos.feed import COUNTED
from tests.chaos.peer import Peer
from tests.chaos.program import SABOTAGE_VARIABLE, WORK_VARIABLE, Control
from tests.programs import HarStream
from tests.servers import HOST, MOSQUITTO_CONF, Mosquitto, find_program

_MARK: Final = "chaos/mark"
_TURN_S: Final = 0.001
#: A service that brings no new event for this long after its start may be past the last one.
_UP_WITHIN_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What differs from the oracle, after repeats were set aside by their id.

    Attributes:
        lost: events that never came.
        wrong: events that came and differ from the oracle's of the same id, or that it does not have.
        disordered: events that came behind a later one of their watch.
        problems: what else went wrong, in words.
    """

    lost: tuple[ActivityEvent, ...]
    wrong: tuple[ActivityEvent, ...]
    disordered: tuple[ActivityEvent, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not (self.lost or self.wrong or self.disordered or self.problems)

    def __str__(self) -> str:
        if self.ok:
            return "exact"
        text = f"{len(self.lost)} lost, {len(self.wrong)} wrong, {len(self.disordered)} out of order"
        return "; ".join([text, *self.problems])


@dataclass(slots=True)
class Collected:
    """Events as the reader got them: first occurrences by id in their order, repeats counted, unequal repeats kept."""

    first: dict[str, ActivityEvent] = field(default_factory=dict)
    unequal: list[ActivityEvent] = field(default_factory=list)
    repeats: int = 0

    def add(self, event: ActivityEvent) -> bool:
        """Note an event; whether it is new."""
        known = self.first.setdefault(event.id, event)
        if known is event:
            return True
        self.repeats += 1
        if known != event:
            self.unequal.append(event)
        return False

    def compare(self, oracle: Mapping[str, ActivityEvent], problems: tuple[str, ...] = ()) -> Verdict:
        """The verdict over all that came."""
        rank = {event_id: i for i, event_id in enumerate(oracle)}
        newest: dict[str, int] = {}
        disordered = []
        for event in self.first.values():
            if event.id in rank:
                if rank[event.id] < newest.get(event.device, -1):
                    disordered.append(event)
                newest[event.device] = max(newest.get(event.device, -1), rank[event.id])
        return Verdict(
            lost=tuple(event for event_id, event in oracle.items() if event_id not in self.first),
            wrong=(*(event for event in self.first.values() if oracle.get(event.id) != event), *self.unequal),
            disordered=tuple(disordered),
            problems=problems,
        )


class World:
    """See the module. `step` must be called over and over, as everybody but the two programs lives in it.

    State: the processes, what is still to be sent, the events that came, and times of recovery.
    """

    def __init__(
        self,
        folder: Path,
        messages: Iterable[tuple[float, Message]],
        *arguments: str,
        speed: float,
        longest_stop_s: float = 30.0,
        least_work_s: float | None = None,
        sabotage: str | None = None,
        broker_conf: str = MOSQUITTO_CONF,
        disk_bytes: int = 64 << 20,
    ) -> None:
        """Nothing runs yet.

        Args:
            folder: for all files; made here.
            messages: what the watches send, and when, in recorded seconds since they began.
            arguments: of the service.
            speed: recorded seconds per second.
            longest_stop_s: longest SIGSTOP.
            least_work_s: work after which the service takes a snapshot; None for its own.
            sabotage: what is wrong with the service, see tests.chaos.sabotage.
            broker_conf: mosquitto.conf, see tests.servers.
            disk_bytes: size of the disk for the state.

        Raises:
            RuntimeError: there is no Mosquitto.
        """
        program = find_program("mosquitto")
        if program is None:
            raise RuntimeError("mosquitto is not installed: apt-get install mosquitto")
        folder.mkdir(parents=True)
        self.folder: Final = folder
        self.collected: Final = Collected()
        self.problems: Final[list[str]] = []
        self.recoveries_s: Final[dict[str, list[float]]] = defaultdict(list)
        self.broker: Final = Mosquitto(program, folder, template=broker_conf)
        self.control: Final = Control(folder / "control")
        self.disk: Final = Disk(folder / "state", size=disk_bytes)
        self.down = False
        self.died_writing = 0
        self.first_start_s = 0.0
        self.longest_stop_s: Final = longest_stop_s
        self._speed = speed
        self._environment = dict(os.environ)
        if sabotage is not None:
            self._environment[SABOTAGE_VARIABLE] = sabotage
        if least_work_s is not None:
            self._environment[WORK_VARIABLE] = str(least_work_s)
        self._services: list[HarStream] = []
        self._names = 0
        self._arguments = arguments
        self._messages = iter(messages)
        self._next = next(self._messages, None)
        self._playing_since_s: float | None = None
        self._recovering: tuple[str, float] | None = None
        self._link_whole = True
        self._up_by_s = 0.0
        self._marked = False
        self.awaited: set[str] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Broker, service, watches and reader are there; all have ended afterwards."""
        self.broker.start()
        self.cable = Cable(self.broker.port)
        self.watches = Peer(self.broker.port, "watches")
        filters = ["har/v1/+/event", "har/v1/+/window", _MARK]
        self.reader = Peer(self.broker.port, "reader", take=self._take, filters=filters)
        try:
            self.require(lambda: self.reader.subscribed, "the reader's subscription")
            began_s = time.monotonic()
            self.start_service()
            self.service.wait_ready()
            self.first_start_s = time.monotonic() - began_s
            yield
        finally:
            for service in self._services:
                service.kill()
            self.watches.drop()
            self.reader.drop()
            self.cable.close()
            self.broker.stop()
            self.disk.close()

    @property
    def service(self) -> HarStream:
        """The service started last."""
        return self._services[-1]

    def start_service(self, *, after: str | None = None) -> HarStream:
        """Run a service; `after` names what the last one died of, so that its recovery is timed."""
        self._recovering = (after, time.monotonic()) if after and self._link_whole else None
        self._up_by_s = time.monotonic() + _UP_WITHIN_S
        service = self.another_service()
        self._services.append(service)
        self.down = False
        return service

    def another_service(self) -> HarStream:
        """A service like the others, with the same state folder; whoever starts it ends it."""
        self._names += 1
        return HarStream(
            self.folder,
            f"--broker={HOST}",
            f"--port={self.cable.port}",
            "--publish=windows",
            *self._arguments,
            name=f"service{self._names}",
            output="none",
            state=self.disk.folder,
            program=[sys.executable, "-m", "tests.chaos.program", str(self.control.path)],
            environment=self._environment,
        )

    @property
    def recovering(self) -> bool:
        """Whether a service has just been started and nothing new has come of it yet."""
        return self.service.process.poll() is None and time.monotonic() < self._up_by_s

    def disturb_link(self) -> None:
        """Note that the line to the broker is not whole: a recovery can't be timed."""
        self._recovering = None
        self._link_whole = False

    def mend_link(self) -> None:
        """Note that the line is whole again."""
        self._recovering = None
        self._link_whole = True

    def play(self) -> None:
        """Let the watches begin."""
        self._playing_since_s = time.monotonic()

    @property
    def played(self) -> bool:
        """Whether all was sent and the broker has confirmed it."""
        return self._next is None and not self.watches.unacknowledged

    @property
    def elapsed_s(self) -> float:
        """Since the watches began."""
        return 0.0 if self._playing_since_s is None else time.monotonic() - self._playing_since_s

    def step(self) -> None:
        """A turn: watches send what is due, the reader reads."""
        elapsed_s = self.elapsed_s * self._speed
        while self._next is not None and self._playing_since_s is not None and self._next[0] <= elapsed_s:
            message = self._next[1]
            self.watches.publish(message.topic, message.payload, message.content_type)
            self._next = next(self._messages, None)
        self.watches.step()
        self.reader.step()
        if not self.down and self._services and self.service.process.poll() is not None:
            self.down = True
            self.problems.append(f"the service ended by itself with status {self.service.process.returncode}")
        time.sleep(_TURN_S)

    def until(self, condition: Callable[[], bool], *, within_s: float) -> bool:
        """Step until the condition holds; whether it did in time."""
        deadline_s = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline_s:
                return False
            self.step()
        return True

    def require(self, condition: Callable[[], bool], what: str, *, within_s: float = 20.0) -> None:
        """Step until the condition holds.

        Raises:
            TimeoutError: it did not in time.
        """
        if not self.until(condition, within_s=within_s):
            raise TimeoutError(f"{what}: not within {within_s} s")

    def expect(self, ids: AbstractSet[str]) -> None:
        """Set what is `awaited`: those of the events that have not come yet."""
        self.awaited = set(ids - self.collected.first.keys())

    def conclude(self, oracle: Mapping[str, ActivityEvent], *, within_s: float = 25.0) -> Verdict:
        """Wait for what is missing, stop the service, read what is left, and compare."""
        if not self.until(lambda: self.played, within_s=within_s):
            self.problems.append(f"{self.watches.unacknowledged} messages that the broker did not confirm")
        self.expect(oracle.keys())
        self.until(lambda: not self.awaited, within_s=within_s)
        if not self.down:
            self.down = True
            with suppress(ProcessLookupError):
                self.service.process.terminate()
            if not self.until(lambda: self.service.process.poll() is not None, within_s=15):
                self.problems.append("the service does not end after SIGTERM")
        # What the service has published stands in the reader's queue before this.
        self.watches.publish(_MARK, b"")
        if not self.until(lambda: self._marked, within_s=10):
            self.problems.append("the reader does not hear from the broker any more")
        for service in self._services:
            if "Traceback" in service.log:
                self.problems.append(f"traceback in the log: {service.log.rstrip().splitlines()[-1]:.200}")
        return self.collected.compare(oracle, tuple(self.problems))

    def _take(self, topic: str, payload: bytes) -> None:
        if topic == _MARK:
            self._marked = True
            return
        event = msgspec.json.decode(payload, type=ActivityEvent)
        self.awaited.discard(event.id)
        if event.type not in COUNTED or not self.collected.add(event):
            return
        self._up_by_s = 0.0
        if self._recovering is not None:
            cause, since_s = self._recovering
            self.recoveries_s[cause].append(time.monotonic() - since_s)
            self._recovering = None
