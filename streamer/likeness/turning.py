"""Whether accelerometer and gyroscope turn together: gravity, seen from a watch that turns, turns the other way.

A direction u that stands still in the room changes in a frame that turns at angular rate w as du/dt = -w x u.
Averages over a second hold gravity and little else of acceleration where their length is that of gravity, so there

    a(t + h) - a(t)   is near   - integral of w x a dt

with a slope of 1 for rad/s and of pi / 180 for degrees per second; where axes of one sensor are exchanged or negated
the two do not go together, and do for the gyroscope's axes as they ought to be. Both are linear in the angular rate, so
the integrals for its three axes in each of the three places give those of all 48 ways to exchange and negate.
Negating all axes of the accelerometer, as iOS does, cannot be seen this way.

Source: kinematics of a rotating frame; for instance Titterton and Weston, Strapdown Inertial Navigation Technology.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.likeness.finding import Finding
from streamer.likeness.stretch import Stretch

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

#: Full scale of the gyroscopes in watches and phones, 2000 degrees per second, in rad/s: nothing is faster.
FASTEST_RAD_S: Final = 2000 * np.pi / 180
_GRID_NS: Final = 50_000_000
#: Readings farther apart than this are not interpolated between.
_BRIDGE_NS: Final = 250_000_000
#: Grid points that are averaged, and over which changes are compared: a second each. In less, steps and claps that
#: swing the arm in time look like turns.
_MEAN: Final = 20
#: Averages whose length is off by more than this share hold more than gravity.
_OFF: Final = 0.05
#: Changes without which nothing is said, and their root mean square as a share of gravity.
_LEAST: Final = 40
#: Grid points that are looked at.
_MOST: Final = 2000
_LEAST_TURNING: Final = 0.1
#: Correlations that show that two go together, and that they don't.
_TOGETHER: Final = 0.8
_APART: Final = 0.2
#: Median of the training data from which on a model learned from sensors that go together.
_TRAINED: Final = 0.5
#: Slopes of a gyroscope in rad/s, and in degrees per second.
_RIGHT: Final = (0.4, 2.5)
_DEGREES: Final = (0.4 * np.pi / 180, 2.5 * np.pi / 180)
#: While acceleration spreads less than this in a second, as a share of its mean, nobody turns faster than that, rad/s.
_STILL: Final = 0.03
_STILL_RAD_S: Final = 0.6
_LEAST_STILL: Final = 3
_LEAST_A_SECOND: Final = 5
_LONGEST_NS: Final = 60_000_000_000

_AXES: Final = "xyz"
#: All ways to exchange and negate axes: for each place which axis comes there, and its sign.
_WAYS: Final = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
_AS_SENT: Final = _WAYS.index(((0, 1, 2), (1, 1, 1)))
#: (48, 9): of which of the nine, place after place and axis after axis, each way is made.
_MADE_OF: Final = np.array([(np.eye(3)[list(order)] * np.array(signs)[:, None]).ravel() for order, signs in _WAYS])
_NOTHING: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Agreement:
    """How gravity's turning goes with the gyroscope.

    Attributes:
        correlation: of the changes of acceleration with those that the gyroscope tells; 1 for perfect.
        slope: of the former over the latter; 1 for rad/s.
        best: the way of exchanging and negating the gyroscope's axes that fits best.
        best_correlation: with that.
        turning: root mean square of the changes, as a share of gravity.
    """

    correlation: float
    slope: float
    best: tuple[tuple[int, ...], tuple[int, ...]]
    best_correlation: float
    turning: float


def agreement_of(stretch: Stretch) -> Agreement | None:
    """How the sensors go together; None where a sensor is missing, or too little turns."""
    if stretch.acc is None or stretch.gyro is None:
        return None
    acc_ns, acc = stretch.acc.in_order()
    gyro_ns, gyro = stretch.gyro.in_order()
    # Times may lie anywhere.
    first_ns = max(int(acc_ns[0]), int(gyro_ns[0]))
    grid_ns = np.arange(first_ns, min(int(acc_ns[-1]), int(gyro_ns[-1]), first_ns + _MOST * _GRID_NS), _GRID_NS)
    if len(grid_ns) < 3 * _MEAN:
        return None
    known = _known(acc_ns, grid_ns) & _known(gyro_ns, grid_ns)
    a, w = _mean(_on(acc_ns, acc, grid_ns)), _mean(_on(gyro_ns, gyro, grid_ns))
    length = np.linalg.norm(a, axis=1)
    gravity = float(np.median(length))
    is_gravity = np.abs(length - gravity) < _OFF * gravity
    whole = _all(known, 2 * _MEAN)[: len(a) - _MEAN] & _all(is_gravity, _MEAN + 1)
    changes = (a[_MEAN:] - a[:-_MEAN])[whole]
    if len(changes) < _LEAST:
        return None
    turning = float(np.sqrt((changes**2).sum(axis=1).mean())) / gravity
    if turning < _LEAST_TURNING:
        return None
    told = _told(a, w, whole).reshape(9, -1)
    # Of the nine: how each goes with the changes, and with each other; and so of all that are made of them.
    common = _MADE_OF @ (told @ changes.ravel())
    own = np.einsum("wi,ij,wj->w", _MADE_OF, told @ told.T, _MADE_OF)
    correlations = common / np.sqrt(np.maximum(own, _NOTHING) * float((changes**2).sum()))
    best = int(correlations.argmax())
    return Agreement(
        correlation=float(correlations[_AS_SENT]),
        slope=float(common[_AS_SENT] / max(float(own[_AS_SENT]), _NOTHING)),
        best=_WAYS[best],
        best_correlation=float(correlations[best]),
        turning=turning,
    )


def _told(a: Float64, w: Float64, whole: NDArray[np.bool_]) -> Float64:
    """(3, 3, n, 3): changes that the gyroscope's axis i would tell, were it the one in place p."""
    told = np.empty((3, 3, int(whole.sum()), 3))
    for place in range(3):
        unit = np.zeros(3)
        unit[place] = 1.0
        across = np.cross(unit, a)
        for axis in range(3):
            rate = -w[:, axis, None] * across
            steps = (rate[1:] + rate[:-1]) * (0.5e-9 * _GRID_NS)
            total = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])
            told[place, axis] = (total[_MEAN:] - total[:-_MEAN])[whole]
    return told


def _all(holds: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """Whether something holds at each of n points in a row, by the first of them."""
    total = np.concatenate([[0], np.cumsum(holds)])
    found: NDArray[np.bool_] = total[n:] - total[:-n] == n
    return found


def _known(t_ns: Int64, grid_ns: Int64) -> NDArray[np.bool_]:
    """Whether readings lie near on both sides of grid points."""
    after = np.clip(np.searchsorted(t_ns, grid_ns, side="left"), 1, len(t_ns) - 1)
    return t_ns[after] - t_ns[after - 1] <= _BRIDGE_NS


def _on(t_ns: Int64, values: Float64, grid_ns: Int64) -> Float64:
    at, known = (grid_ns - t_ns[0]).astype(np.float64), (t_ns - t_ns[0]).astype(np.float64)
    return np.stack([np.interp(at, known, values[:, axis]) for axis in range(3)], axis=1)


def _mean(values: Float64) -> Float64:
    total = np.concatenate([np.zeros((1, 3)), np.cumsum(values, axis=0)])
    means: Float64 = (total[_MEAN:] - total[:-_MEAN]) / _MEAN
    return means


def judge_turning(stretch: Stretch, *, trained: float | None) -> list[Finding]:
    """What is wrong with the gyroscope's unit and axes.

    Args:
        stretch: of a watch.
        trained: the correlation of the training data's sensors; None where nobody knows it.
    """
    if stretch.gyro is None or not len(stretch.gyro):
        return []
    agreement, still_rad_s = agreement_of(stretch), still_turning(stretch)
    fastest = float(np.abs(stretch.gyro.values).max())
    # A model that learned from sensors that do not go together wants no others.
    fits = (trained is None or trained > _TRAINED) and agreement is not None and agreement.best_correlation > _TOGETHER
    slope = agreement.slope if agreement is not None and agreement.correlation > _TOGETHER else None
    in_degrees = (slope is not None and _DEGREES[0] < slope < _DEGREES[1]) or fastest > FASTEST_RAD_S
    if slope is None and still_rad_s is not None and still_rad_s > _STILL_RAD_S:
        in_degrees = True
    if in_degrees:
        seen = f"a turn of {fastest:.3g} rad/s, faster than any gyroscope measures"
        if slope is not None and agreement is not None:
            seen = f"gravity turns {slope:.3g} times as fast as the gyroscope says"
        elif fastest <= FASTEST_RAD_S:
            seen = f"a turn of {still_rad_s:.3g} rad/s while the accelerometer stands still"
        return [
            Finding(
                kind="gyroscope_in_degrees",
                seen=f"{seen}: angular rates seem to be in degrees per second",
                expected="they are in rad/s",
                advice="multiply by 0.0174533 in the sender or switch the app to rad/s",
                figures={"fastest_rad_s": fastest, **({} if slope is None else {"slope": slope})},
            )
        ]
    if agreement is not None and fits and agreement.correlation < _APART:
        order, signs = agreement.best
        mended = ", ".join(f"{'-' if sign < 0 else ''}{_AXES[axis]}" for axis, sign in zip(order, signs, strict=True))
        return [
            Finding(
                kind="axes_disagree",
                seen=f"gravity does not turn as the gyroscope says (correlation {agreement.correlation:.2f}), but does "
                f"with its axes as ({mended}) ({agreement.best_correlation:.2f})",
                expected="both sensors have the same axes, right-handed",
                advice="exchange or negate the axes of the sensor that has them wrong",
                figures={"correlation": agreement.correlation, "best_correlation": agreement.best_correlation},
            )
        ]
    return []


def still_turning(stretch: Stretch) -> float | None:
    """Median |angular rate| in the seconds in which the accelerometer stands still, rad/s; None for too few of them."""
    if stretch.acc is None or stretch.gyro is None:
        return None
    acc_ns, acc = stretch.acc.in_order()
    gyro_ns, gyro = stretch.gyro.in_order()
    rates: list[float] = []
    first_ns = int(acc_ns[0])
    edges = np.arange(first_ns, min(int(acc_ns[-1]) + 1, first_ns + _LONGEST_NS), 1_000_000_000)
    in_acc, in_gyro = np.searchsorted(acc_ns, edges), np.searchsorted(gyro_ns, edges)
    for second in range(len(edges) - 1):
        own = acc[in_acc[second] : in_acc[second + 1]]
        turns = gyro[in_gyro[second] : in_gyro[second + 1]]
        if len(own) < _LEAST_A_SECOND or len(turns) < _LEAST_A_SECOND:
            continue
        spread = float(np.sqrt(own.var(axis=0).sum()))
        if 0 < spread < _STILL * float(np.linalg.norm(own.mean(axis=0))):
            rates.append(float(np.median(np.linalg.norm(turns, axis=1))))
    return float(np.median(rates)) if len(rates) >= _LEAST_STILL else None
