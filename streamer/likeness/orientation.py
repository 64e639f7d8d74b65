"""Whether gravity points where it did in training: axes exchanged or negated, or a watch worn otherwise."""

from __future__ import annotations

from itertools import permutations, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.imu import STANDARD_GRAVITY
from streamer.likeness.finding import Finding
from streamer.likeness.profile import CELLS, CENTERS, WHOLE, Profile, cell_of, near
from streamer.likeness.scale import Seconds

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

#: Directions that had less than this share of the training time within reach are strange, at rest and in motion: at
#: rest, as when lying, people differ more. With these no recording of HAPT or WISDM looks strange to a profile of
#: other people's, and of their single activities of a minute and more 2 in 857 do.
_STRANGE: Final = (0.005, 0.02)
#: Share of the time in strange directions, and seconds without which nothing is said.
_MOST_STRANGE: Final = 0.8
LEAST_S: Final = 60
#: Share of the time that an exchange of axes may leave strange to be worth telling.
_MENDED: Final = 0.2
#: By how much a less plain exchange must fit better, in logarithms of probability.
_PLAINER: Final = 0.01
#: A second in motion: its spread, as a share of its mean.
_MOVING: Final = 0.15
_AXES: Final = "xyz"

#: Ways to exchange and negate axes, the plainest first: by axes that come elsewhere, then by signs.
_WAYS: Final = sorted(
    ((order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)),
    key=lambda way: (sum(axis != place for place, axis in enumerate(way[0])), sum(sign < 0 for sign in way[1]) % 3),
)


def directions_of(seconds: Seconds) -> Int64:
    """(2, CELLS) int64: seconds in which gravity's direction was in each cell, at rest and in motion."""
    found = np.zeros((2, CELLS), np.int64)
    length = seconds.length
    # Of a feed in g, or any other unit, the direction is right all the same; without gravity there is none.
    has_gravity = (length > 0) & (seconds.spread < length)
    moves = seconds.spread > _MOVING * length
    for row, chosen in enumerate((has_gravity & ~moves, has_gravity & moves)):
        if chosen.any():
            found[row] = np.bincount(cell_of(seconds.mean[chosen]), minlength=CELLS)
    return found


def strangeness(directions: Int64, profile: Profile) -> tuple[float | None, float | None]:
    """Shares of the time at rest, and in motion, in which gravity pointed where it hardly ever did in training.

    None where that can't be told.

    Args:
        directions: (2, CELLS) int64, see `directions_of`.
        profile: of the training data.
    """
    still, moving = (
        float(own[~familiar].sum()) / int(own.sum()) if shares and int(own.sum()) >= LEAST_S else None
        for own, shares, familiar in zip(directions, (profile.still, profile.moving), _familiar(profile), strict=True)
    )
    return still, moving


def _familiar(profile: Profile) -> list[NDArray[np.bool_]]:
    """(CELLS,) bool: whether each direction is familiar, at rest and in motion."""
    both = zip((profile.still, profile.moving), _STRANGE, strict=True)
    return [near(shares, profile.reach_deg) >= least if shares else np.ones(CELLS, np.bool_) for shares, least in both]


def judge_orientation(directions: Int64, profile: Profile | None) -> list[Finding]:
    """Whether gravity points where it never did in training.

    Args:
        directions: (2, CELLS) int64, seconds by direction at rest and in motion, of all that is known of the watch.
        profile: of the training data; None where nobody knows it.
    """
    if profile is None:
        return []
    for row, strange in enumerate(strangeness(directions, profile)):
        if strange is not None and strange >= _MOST_STRANGE:
            return [_finding(directions[row], profile, row, strange)]
    return []


def _finding(own: Int64, profile: Profile, row: int, strange: float) -> Finding:
    shares, when = (profile.still, profile.moving)[row], ("at rest", "in motion")[row]
    advice = "wear it as the people of the training data did, or exchange or negate axes in the sender"
    mended = _mended(own, near(shares, profile.reach_deg), _familiar(profile)[row])
    if mended is not None:
        advice += f" (x, y, z as {mended} would fit)"
    return Finding(
        kind="orientation",
        seen=f"{when} gravity points along {_along(own / own.sum())}, and {strange:.0%} of the time where it hardly "
        "ever did in training",
        expected=f"there it pointed along {_along(np.asarray(shares, np.float64) / WHOLE)}",
        advice=advice,
        figures={"strange": strange, "seconds": float(own.sum())},
    )


def _along(shares: Float64) -> str:
    """The axes along which most of the time lies, for people."""
    nearest = np.abs(CENTERS).argmax(axis=1)
    signs = CENTERS[np.arange(CELLS), nearest] > 0
    sides = {
        f"{'+' if sign else '-'}{_AXES[axis]}": float(shares[(nearest == axis) & (signs == sign)].sum())
        for axis in range(3)
        for sign in (True, False)
    }
    most = sorted(sides.items(), key=lambda side: -side[1])
    return ", ".join(f"{name} ({share:.0%})" for name, share in most[:3] if share >= 0.05)


def _mended(own: Int64, within: Float64, familiar: NDArray[np.bool_]) -> str | None:
    """The exchange of axes with which gravity would point most as in training; None where none mends it.

    Args:
        own: (CELLS,) int64, seconds by direction.
        within: (CELLS,) float64, see `near`.
        familiar: (CELLS,) bool, where that is enough.
    """
    seen = np.flatnonzero(own)
    weights = own[seen] / own.sum()
    best: tuple[float, str] | None = None
    for number, (order, signs) in enumerate(_WAYS):
        cells = cell_of(CENTERS[seen][:, order] * np.array(signs, np.float64))
        # The plainer of two that fit alike.
        fit = float(weights @ np.log(within[cells] + _STRANGE[0])) - _PLAINER * number
        if float(weights[~familiar[cells]].sum()) < _MENDED and (best is None or fit > best[0]):
            names = (f"{'-' if sign < 0 else ''}{_AXES[axis]}" for axis, sign in zip(order, signs, strict=True))
            best = fit, f"({', '.join(names)})"
    return None if best is None else best[1]


def gravity_says(profile: Profile | None) -> str | None:
    """Gravity in the training data, for people."""
    if profile is None:
        return None
    low, high = profile.gravity.low, profile.gravity.high
    return (
        f"{low:.3g} to {high:.3g} m/s²"
        if high - low > 0.01 * STANDARD_GRAVITY
        else f"{profile.gravity.median:.3g} m/s²"
    )
