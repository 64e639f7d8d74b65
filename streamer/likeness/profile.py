"""What a model's training recordings were like, in a few numbers that travel inside its bundle."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from streamer.errors import ConfigError

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

#: Parts of each edge of the cube onto which directions are projected: cells of about 20 degrees.
_PARTS: Final = 4
#: Directions are told apart by so many cells.
CELLS: Final = 6 * _PARTS * _PARTS
#: What the shares of all cells add up to, but for rounding.
WHOLE: Final = 10_000
Shares = tuple[Annotated[int, Meta(ge=0, le=WHOLE)], ...]


class Spread(msgspec.Struct, frozen=True, array_like=True):
    """A quantity over stretches of training recordings: its 1 %, 50 % and 99 % quantiles."""

    low: float
    median: float
    high: float


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stretches of the training recordings were like, before any filter.

    Attributes:
        summary: whose and how long, for people.
        rate_hz: readings per second.
        gravity: m/s², length of a second's mean acceleration, the median of a stretch.
        motion: m/s², root mean square of acceleration about each second's mean.
        acc_extreme: m/s², the largest |value| of any axis.
        turning: rad/s, root mean square of the angular rate; None without a gyroscope.
        gyro_extreme: rad/s, likewise.
        agreement: correlation of gravity's turning with what the gyroscope says of it, see `turning`.
        still, moving: of each cell how much of the time at rest, and in motion, gravity's direction was in it, in
            ten-thousandths; empty where the model was trained to bear any orientation, or there was no such time.
        reach_deg: how far from the directions of training the model was trained to bear others.
    """

    summary: str
    rate_hz: Spread
    gravity: Spread
    motion: Spread
    acc_extreme: float
    turning: Spread | None = None
    gyro_extreme: float | None = None
    agreement: Spread | None = None
    still: Shares = ()
    moving: Shares = ()
    reach_deg: Annotated[float, Meta(gt=0, le=180)] = 30.0

    def __post_init__(self) -> None:
        for name, shares in (("still", self.still), ("moving", self.moving)):
            if len(shares) not in {0, CELLS}:
                raise ConfigError(f"profile.{name} has {len(shares)} cells; expected none, or {CELLS}")


def cell_of(directions: Float64) -> Int64:
    """(n,) int64: the cell of each direction.

    Args:
        directions: (n, 3) float64, of any length but 0.

    >>> cell_of(np.array([[0.1, 0.2, 9.8], [0.1, 0.2, -9.8]])).tolist()
    [42, 90]
    """
    size = np.abs(directions)
    axis = size.argmax(axis=1)
    rows = np.arange(len(directions))
    side = 3 * (directions[rows, axis] < 0) + axis
    # The other two axes, as they follow one another.
    across = directions[rows[:, None], (axis[:, None] + [1, 2]) % 3] / size[rows, axis][:, None]
    part = np.clip(((across + 1) * (_PARTS / 2)).astype(np.int64), 0, _PARTS - 1)
    cells: Int64 = (side * _PARTS + part[:, 0]) * _PARTS + part[:, 1]
    return cells


def _centers() -> Float64:
    """(CELLS, 3) float64: a unit vector to the middle of each cell."""
    found = np.empty((CELLS, 3))
    middle = (np.arange(_PARTS) + 0.5) * (2 / _PARTS) - 1
    for cell in range(CELLS):
        side, rest = divmod(cell, _PARTS * _PARTS)
        axis, sign = side % 3, -1.0 if side >= 3 else 1.0
        found[cell, axis] = sign
        found[cell, (axis + 1) % 3], found[cell, (axis + 2) % 3] = middle[rest // _PARTS], middle[rest % _PARTS]
    units: Float64 = found / np.linalg.norm(found, axis=1)[:, None]
    return units


CENTERS: Final[Float64] = _centers()


def near(shares: Shares, reach_deg: float) -> Float64:
    """(CELLS,) float64: how much of the time gravity was within reach of each cell, 0 to 1."""
    reach = np.cos(np.radians(reach_deg)) <= CENTERS @ CENTERS.T
    found: Float64 = reach @ (np.asarray(shares, np.float64) / WHOLE)
    return found
