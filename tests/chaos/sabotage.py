"""What a service may get wrong, to show that the harness would tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from streamer.durability.exactly_once import ExactlyOnce
from streamer.imu import ImuBatch
from streamer.ingress import Arrival
from streamer.preprocessing import intake
from streamer.preprocessing.lanes import Lanes
from streamer.preprocessing.timelines import NEVER
from streamer.service import Service

#: Of the feed's 50 Hz.
_PERIOD_NS: Final = 20_000_000


def acknowledge_early() -> None:
    """Messages are acknowledged as they come, before anything of them is on the disk."""
    receive = Service._receive

    def receive_and_acknowledge(self: Service, arrival: Arrival) -> None:
        receive(self, arrival)
        if self._session is not None:
            self._session.acknowledge_through(arrival.number)

    Service._receive = receive_and_acknowledge  # type: ignore[method-assign]


def skip_duplicate_check() -> None:
    """Every message brings further readings, whether it came before and whatever its times say."""
    push = intake.Intake.push

    def push_behind(self: intake.Intake, slots: Sequence[int], batches: Sequence[ImuBatch]) -> Lanes:
        newest_ns = self.timelines.newest_ns[np.asarray(slots, np.int64)].max(axis=1).tolist()
        return push(self, slots, [_behind(batch, ns) for batch, ns in zip(batches, newest_ns, strict=True)])

    ExactlyOnce.is_repeat = lambda self, message: False  # type: ignore[method-assign]  # noqa: ARG005
    intake.Intake.push = push_behind  # type: ignore[method-assign]


def _behind(batch: ImuBatch, newest_ns: int) -> ImuBatch:
    """The readings, those that do not ascend each a period behind the one before."""
    before_ns = newest_ns if newest_ns != NEVER else int(batch.t_ns[0]) - _PERIOD_NS
    steps = np.diff(batch.t_ns, prepend=before_ns)
    steps[steps <= 0] = _PERIOD_NS
    return replace(batch, t_ns=before_ns + np.cumsum(steps))


SABOTAGES: Final[dict[str, Callable[[], None]]] = {
    "acknowledge-early": acknowledge_early,
    "skip-duplicate-check": skip_duplicate_check,
}
