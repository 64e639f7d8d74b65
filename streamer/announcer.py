"""Tells Home Assistant of the watches: what there is, how it is, and what is no more.

    watches as they are ──look, once a second──▶ gone, changed, new ──200 documents a second at most──▶ broker
    events of a call ──────────────────────────▶ changed

Nothing here is part of exactly once: a document says how a watch is, not what happened, and is made when its turn has
come. Whatever gets lost with a session or a process is made up for by the next session, which tells everything again
and looks at what the broker still holds, for watches that were forgotten meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import Final, NoReturn

import msgspec

from streamer import clock
from streamer.config import Settings
from streamer.errors import PayloadError
from streamer.home_assistant import ONLINE, birth_topics, discovery, removal
from streamer.metrics import Metrics
from streamer.mqtt.connection import Outgoing
from streamer.recognizer import Recognizer
from streamer.session import Session
from streamer.tasks import heed_cancellation
from streamer.wire import topics
from streamer.wire.events import ActivityEvent
from streamer.wire.health import Health, decode_health, encode_health, health_of, seen_ns, silenced
from streamer.wire.payload import Message

logger = logging.getLogger(__name__)

#: Watches told of at a time, and how often: a fleet's worth of documents must not hold up its events.
_AT_A_TIME: Final = 20
_EVERY_S: Final = 0.1
_LOOK_S: Final = 1.0
#: After this a watch that goes on as it was is told of again, for the time when it was last seen; at most so many a
#: second, and none while others have changed.
_REFRESH_S: Final = 30.0
_REFRESHES: Final = 100
_NANOSECONDS: Final = 1_000_000_000


class Announcer:
    """Keeps the retained documents for Home Assistant as the watches are.

    State: which watches were told of in this session, and as alive or silent; which are to be told of; and those that
    an earlier process told of and this one doesn't follow.
    """

    def __init__(self, settings: Settings, recognizer: Recognizer, metrics: Metrics, *, version: str) -> None:
        """Nothing is told yet.

        Args:
            settings: the prefix, the client id, and how long watches are remembered.
            recognizer: which watches there are, and how they are.
            metrics: what to count with.
            version: of this program, for people.
        """
        self._settings = settings
        self._recognizer = recognizer
        self._metrics = metrics
        self._version = version
        self._births = birth_topics(settings.home_assistant_prefix)
        self._evict_after_ns = round(settings.evict_after * _NANOSECONDS)
        self._told: dict[str, bool] = {}
        # Ordered sets: the first are told of first.
        self._gone: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        self._new: dict[str, None] = {}
        #: When each watch that is alive was last told of, the longest ago first.
        self._fresh: OrderedDict[str, float] = OrderedDict()
        self._left: dict[str, tuple[int, Health]] = {}
        self._takes_left = False

    # --- what comes in ----------------------------------------------------------------------------------------------

    def take(self, message: Message) -> bool:
        """Note a message that this asked the broker for; False for one that it did not."""
        if self.is_birth(message.topic):
            if message.payload == ONLINE:
                logger.info("Home Assistant has started; it is told of %d watches", len(self._told))
                self._tell_all()
            return True
        if topics.is_health(message.topic):
            if self._takes_left and message.payload:
                self._take_left(message)
            return True
        return False

    def is_birth(self, topic: str) -> bool:
        """Whether Home Assistant says on a topic that it has started: to every worker."""
        return topic in self._births

    def note(self, events: Iterable[ActivityEvent]) -> None:
        """Note what a call decided."""
        for event in events:
            if event.type == "state" and event.device in self._told:
                self._changed[event.device] = None

    # --- what goes out ----------------------------------------------------------------------------------------------

    async def run(self, session: Session) -> NoReturn:
        """Tell of all watches, and of each that changes, for as long as the session lasts.

        Raises:
            SessionError: it was lost.
        """
        self._look()
        self._tell_all()
        await self._find_left(session)
        looked_s = time.monotonic()
        while True:
            if time.monotonic() - looked_s >= _LOOK_S:
                looked_s = time.monotonic()
                self._look()
                self._refresh(looked_s)
            await self._tell_some(session)
            await asyncio.sleep(_EVERY_S)
            heed_cancellation()

    async def leave(self, session: Session) -> None:
        """Ask for no more: a session outlives the process, and the next one may not want this.

        Raises:
            SessionError: the session was lost.
        """
        await session.ignore(self._births)

    async def _find_left(self, session: Session) -> None:
        """Look at the documents that the broker holds, for watches that this process knows nothing of."""
        await session.listen(self._births)
        self._takes_left = True
        try:
            await session.listen([topics.HEALTH_FILTER])
            # Retained messages come before the answer to what is asked afterwards.
            await session.ping()
            await session.ignore([topics.HEALTH_FILTER])
        finally:
            self._takes_left = False
        # They are silent, whatever the process said of them that was last.
        self._changed |= dict.fromkeys(device for device, (_, health) in self._left.items() if health.alive)

    async def _tell_some(self, session: Session) -> None:
        gone = list(islice(self._gone, _AT_A_TIME))
        batch = [part for device in gone for part in removal(device, prefix=self._settings.home_assistant_prefix)]
        counts = {"removal": len(gone), "health": 0, "discovery": 0}
        for queue, kinds in ((self._changed, ("health",)), (self._new, ("health", "discovery"))):
            while queue and len(batch) < _AT_A_TIME:
                device = next(iter(queue))
                del queue[device]
                health = self._health(device)
                if health is not None:
                    batch.append(Outgoing(topics.output(device, "health"), encode_health(health), retain=True))
                    if "discovery" in kinds:
                        batch.append(self._discovery(device))
                    for kind in kinds:
                        counts[kind] += 1
        if not batch:
            return
        self._metrics.refused_events.inc(await session.publish(batch))
        for device in gone:
            del self._gone[device]
        for kind, count in counts.items():
            self._metrics.home_assistant_documents[kind].inc(count)

    def _tell_all(self) -> None:
        self._new = dict.fromkeys((*self._told, *self._left))

    def _look(self) -> None:
        """Compare the watches as they are with what was told."""
        now = self._recognizer.watches.alive_by_name()
        if now != self._told:
            for device in self._told.keys() - now.keys():
                self._forget(device)
            for device, _ in sorted(now.items() - self._told.items()):
                (self._changed if device in self._told else self._new)[device] = None
                self._gone.pop(device, None)
                self._left.pop(device, None)
            self._told = now
        now_ns = clock.now_ns()
        for device in [d for d, (seen, _) in self._left.items() if seen + self._evict_after_ns <= now_ns]:
            del self._left[device]
            self._forget(device)

    def _forget(self, device: str) -> None:
        self._gone[device] = None
        self._new.pop(device, None)
        self._changed.pop(device, None)
        self._fresh.pop(device, None)

    def _refresh(self, now_s: float) -> None:
        if not (self._changed or self._new):
            for device in [d for d, at_s in islice(self._fresh.items(), _REFRESHES) if at_s + _REFRESH_S <= now_s]:
                self._changed[device] = None

    # --- documents --------------------------------------------------------------------------------------------------

    def _health(self, device: str) -> Health | None:
        vitals = self._recognizer.vitals(device)
        if vitals is None:
            return silenced(self._left[device][1]) if device in self._left else None
        self._fresh.pop(device, None)
        if vitals.is_alive:
            self._fresh[device] = time.monotonic()
        return health_of(device, self._settings.client_id, vitals)

    def _discovery(self, device: str) -> Outgoing:
        bundle = self._recognizer.bundle
        return discovery(
            device,
            prefix=self._settings.home_assistant_prefix,
            client_id=self._settings.client_id,
            model=bundle.manifest.name,
            activities=(*bundle.labels, *bundle.groups),
            version=self._version,
        )

    def _take_left(self, message: Message) -> None:
        """Note a document that the broker still holds of a watch that this process does not follow."""
        try:
            health = decode_health(message.payload)
            seen = seen_ns(health)
            device = topics.device_of(message.topic)
        except (ValueError, OverflowError, msgspec.DecodeError, PayloadError) as error:
            self._metrics.home_assistant_documents["ignored"].inc()
            logger.debug("%.100s: %s", message.topic, error)
            return
        own = (health.device, health.client) == (device, self._settings.client_id)
        if own and device not in self._told and len(self._left) < self._settings.max_watches:
            self._left[device] = (seen, health)
