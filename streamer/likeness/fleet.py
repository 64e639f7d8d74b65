"""Judges live watches now and then: each once soon after it turns up, again at once while in doubt, later seldom.

Only MOST_AT_ONCE are gathered from at a time and few are judged in one call: a fleet of any size costs the same, and
the others wait for their turn. What nothing is gathered from costs one look-up a message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from streamer.bundle import Manifest
from streamer.imu import ImuBatch
from streamer.likeness.finding import Finding
from streamer.likeness.judge import Verdict, judge
from streamer.likeness.stretch import Gathering

#: Watches whose readings are being gathered, some 60 kB of each at 50 Hz, and stretches judged in one call.
MOST_AT_ONCE: Final = 25
_MOST_JUDGED: Final = 1
#: Time until a watch is looked at again: after its first stretches, and in the long run.
_SOON_NS: Final = 120_000_000_000
_LATER_NS: Final = 900_000_000_000
_LOOKS_SOON: Final = 4
#: A watch from which too little came for so long is judged by what there is, and makes room.
_PATIENCE_NS: Final = 180_000_000_000
#: Names that are no watch's any more are forgotten before there are more of them.
_FIRST_SWEEP: Final = 1024


class _Look:
    """What is known of one watch; due_ns is when readings of it are next gathered."""

    __slots__ = ("device_id", "due_ns", "gathering", "looks", "since_ns", "verdict")

    def __init__(self, device_id: str) -> None:
        self.device_id = device_id
        self.due_ns = 0
        self.since_ns = 0
        self.looks = 0
        self.gathering: Gathering | None = None
        self.verdict = Verdict()


class FleetLikeness:
    """The findings of many watches.

    State: what holds of each watch, and the readings that are being gathered.
    """

    def __init__(self, manifest: Manifest, is_followed: Callable[[str], object]) -> None:
        """Nothing is known yet.

        Args:
            manifest: of the model.
            is_followed: whether a name still is a watch's; others are forgotten.
        """
        self._manifest = manifest
        self._is_followed = is_followed
        self._looks: dict[str, _Look] = {}
        self._gathering: deque[_Look] = deque()
        self._full: deque[_Look] = deque()
        self._sweep_at = _FIRST_SWEEP

    def __len__(self) -> int:
        return len(self._looks)

    @property
    def gathered(self) -> int:
        """Watches whose readings are kept until there are enough of them, or are judged next."""
        return len(self._gathering) + len(self._full)

    def of(self, device_id: str) -> Sequence[Finding]:
        """What holds of a watch."""
        look = self._looks.get(device_id)
        return () if look is None else tuple(look.verdict.holds.values())

    def take(self, batches: Iterable[ImuBatch], now_ns: int) -> list[tuple[str, Finding]]:
        """Take a call's readings; what was found out, each finding of a watch once.

        Args:
            batches: in SI units, in the order of arrival.
            now_ns: of any clock that goes on evenly.
        """
        looks = self._looks
        for batch in batches:
            look = looks.get(batch.device_id)
            if look is None:
                look = self._begin(batch.device_id)
            # Nearly always.
            if look.due_ns > now_ns:
                continue
            if look.gathering is None:
                if self.gathered >= MOST_AT_ONCE:
                    continue
                look.gathering, look.since_ns = Gathering(), now_ns
                self._gathering.append(look)
            if look.gathering.add(batch):
                self._fill(look)
        return self._judge(now_ns)

    def _begin(self, device_id: str) -> _Look:
        if len(self._looks) >= self._sweep_at:
            self._looks = {name: look for name, look in self._looks.items() if self._is_followed(name)}
            self._sweep_at = max(2 * len(self._looks), _FIRST_SWEEP)
        look = self._looks[device_id] = _Look(device_id)
        return look

    def _fill(self, look: _Look) -> None:
        self._gathering.remove(look)
        self._full.append(look)
        # Nothing more of it until it is judged.
        look.due_ns = _NEVER

    def _judge(self, now_ns: int) -> list[tuple[str, Finding]]:
        # The first has been gathered from for longest.
        while self._gathering and self._gathering[0].since_ns + _PATIENCE_NS <= now_ns:
            self._fill(self._gathering[0])
        told: list[tuple[str, Finding]] = []
        for _ in range(min(_MOST_JUDGED, len(self._full))):
            look = self._full.popleft()
            if look.gathering is not None:
                judgement = judge(look.gathering.stretch(), self._manifest)
                told += [(look.device_id, finding) for finding in look.verdict.take(judgement, self._manifest.profile)]
            look.gathering = None
            look.looks += 1
            if look.verdict.is_in_doubt and look.looks < _LOOKS_SOON:
                look.due_ns = now_ns
            else:
                look.due_ns = now_ns + (_SOON_NS if look.looks < _LOOKS_SOON else _LATER_NS)
        return told


_NEVER: Final = 2**63
