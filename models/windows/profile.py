"""What a model's training recordings were like, for its bundle: see `streamer.likeness`.

The recordings are looked at as live readings are, in stretches of twenty seconds before any filter, so that the same
numbers mean the same on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.windows.data import Sitting
from streamer.errors import ConfigError
from streamer.likeness.feed import feed_of
from streamer.likeness.judge import figures_of
from streamer.likeness.orientation import directions_of
from streamer.likeness.profile import CELLS, WHOLE, Profile, Shares, Spread
from streamer.likeness.scale import seconds_of
from streamer.likeness.stretch import stretches_of
from streamer.likeness.turning import agreement_of

#: Seconds at rest, or in motion, without which nothing is known of directions there.
_LEAST_S: Final = 60
#: Readings of a message, where a recording holds none.
_MESSAGE: Final = 16
#: Directions of gravity within this of those of training are familiar, though the model was not trained to bear more.
LEAST_REACH_DEG: Final = 30.0
#: A model that was trained to bear turns like this bears any orientation.
_ANY_DEG: Final = 90.0


def profile_of(
    sittings: Iterable[Sitting], *, least_hz: float, max_gap_ns: int, reach_deg: float = LEAST_REACH_DEG
) -> Profile:
    """What recordings were like.

    Args:
        sittings: the training recordings, whole.
        least_hz: slowest feed that the model takes.
        max_gap_ns: longest hole that is bridged.
        reach_deg: how far from their orientation the model was trained to bear others; 90 and more stands for any.

    Raises:
        ConfigError: there is nothing in them.
    """
    found: dict[str, list[float]] = {}
    agreements: list[float] = []
    directions = np.zeros((2, CELLS), np.int64)
    groups: set[str] = set()
    hours = 0.0
    for sitting in sittings:
        groups.add(sitting.group)
        recording = sitting.recording
        for stretch in stretches_of(recording.arrivals or recording.messages(_MESSAGE)):
            track = stretch.acc or stretch.gyro
            if track is None or stretch.acc is None:
                continue
            seconds = seconds_of(*stretch.acc.in_order())
            feed = feed_of(track, least_hz=least_hz, max_gap_ns=max_gap_ns)
            for name, value in figures_of(stretch, feed, seconds).items():
                found.setdefault(name, []).append(value)
            directions += directions_of(seconds)
            hours += stretch.length_ns / 3.6e12
            agreement = agreement_of(stretch)
            if agreement is not None:
                agreements.append(agreement.correlation)
    if "gravity_ms2" not in found or not directions.sum():
        raise ConfigError("profile: no readings of an accelerometer; expected recordings that a model learned from")
    gyro = found.get("gyro_extreme_rad_s")
    still, moving = ((), ()) if reach_deg >= _ANY_DEG else (_shares(own) for own in directions)
    return Profile(
        summary=f"{len(groups)} {'group' if len(groups) == 1 else 'groups'}, {hours:.1f} h",
        rate_hz=_spread(found["rate_hz"]),
        gravity=_spread(found["gravity_ms2"]),
        motion=_spread(found["motion_ms2"]),
        acc_extreme=_short(max(found["acc_extreme_ms2"])),
        turning=_spread(found["turning_rad_s"]) if gyro else None,
        gyro_extreme=_short(max(gyro)) if gyro else None,
        agreement=_spread(agreements) if agreements else None,
        still=still,
        moving=moving,
        reach_deg=max(reach_deg, LEAST_REACH_DEG),
    )


def _shares(seconds: NDArray[np.int64]) -> Shares:
    total = int(seconds.sum())
    return tuple(np.rint(seconds / total * WHOLE).astype(int).tolist()) if total >= _LEAST_S else ()


def _spread(values: Sequence[float]) -> Spread:
    low, median, high = np.quantile(values, (0.01, 0.5, 0.99)).tolist()
    return Spread(_short(low), _short(median), _short(high))


def _short(value: float) -> float:
    return float(f"{value:.4g}")
