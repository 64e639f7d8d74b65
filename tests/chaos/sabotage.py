"""What a service may get wrong, to show that the harness would tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.ingress import Arrival
from streamer.preprocessing import intake
from streamer.service import Service


def acknowledge_early() -> None:
    """Messages are acknowledged as they come, before anything of them is on the disk."""
    receive = Service._receive

    def receive_and_acknowledge(self: Service, arrival: Arrival) -> None:
        receive(self, arrival)
        if self._session is not None:
            self._session.acknowledge_through(arrival.number)

    Service._receive = receive_and_acknowledge  # type: ignore[method-assign]


def skip_duplicate_check() -> None:
    """Readings that come again are taken as new ones."""

    def merge(
        _self: intake.Intake, _slot: int, _sensor: int, t: NDArray[np.int64], _fresh: int
    ) -> tuple[NDArray[np.intp], intake.IntakeCounts]:
        order = np.argsort(t, kind="stable")
        # Equal times a nanosecond apart: what comes next divides by their difference.
        t[order] += np.arange(len(t)) * (np.diff(t[order], prepend=-1) == 0)
        return order, intake.IntakeCounts()

    intake.Intake._merge = merge  # type: ignore[method-assign, assignment]


SABOTAGES: Final[dict[str, Callable[[], None]]] = {
    "acknowledge-early": acknowledge_early,
    "skip-duplicate-check": skip_duplicate_check,
}
