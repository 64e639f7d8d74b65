"""Tells of live watches whose readings are unlike the training data: each finding of a watch once, counted and logged.

Ten thousand watches with one fault are one fault of a sender: a line in the log names one of them and says how many
more there are, and there are at most LINES of them in a minute.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from streamer.imu import ImuBatch
from streamer.likeness.finding import Finding, Kind
from streamer.likeness.fleet import FleetLikeness

logger = logging.getLogger(__name__)

#: In the log, in a minute.
LINES: Final = 6
_MINUTE_NS: Final = 60_000_000_000


@dataclass(slots=True)
class _Untold:
    """A kind of finding that is to be logged: the latest example, and how many watches have it."""

    device_id: str
    finding: Finding
    watches: int


class Notices:
    """Counts and logs what a fleet's likeness finds.

    State: what is still to be logged, by kind, and when the latest lines were.
    """

    def __init__(self, likeness: FleetLikeness, model: str, count: Callable[[Kind], None]) -> None:
        """Nothing is told yet.

        Args:
            likeness: what judges.
            model: its name.
            count: takes the kind of each finding of each watch.
        """
        self._likeness = likeness
        self._model = model
        self._count = count
        self._untold: dict[Kind, _Untold] = {}
        self._lines_ns: deque[int] = deque(maxlen=LINES)

    def take(self, batches: Sequence[ImuBatch], now_ns: int) -> None:
        """Take a call's readings, or none now and then.

        Args:
            batches: in the order of arrival.
            now_ns: of a clock that goes on evenly.
        """
        for device_id, finding in self._likeness.take(batches, now_ns):
            self._count(finding.kind)
            before = self._untold.get(finding.kind)
            self._untold[finding.kind] = _Untold(device_id, finding, 1 if before is None else before.watches + 1)
        while self._untold and not (len(self._lines_ns) == LINES and self._lines_ns[0] + _MINUTE_NS > now_ns):
            self._lines_ns.append(now_ns)
            self._log(max(self._untold.values(), key=lambda one: one.watches))

    def _log(self, one: _Untold) -> None:
        del self._untold[one.finding.kind]
        others = f"; and so are {one.watches - 1} more" if one.watches > 1 else ""
        logger.warning(
            "watch %s is unlike the training data of %s (%s): %s%s",
            one.device_id,
            self._model,
            one.finding.kind,
            one.finding.sentence,
            others,
        )
