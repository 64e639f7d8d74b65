"""Values between readings: a cubic through the four nearest."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.preprocessing.lanes import Lanes, spread

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
#: An interval longer than this many feed periods is a hole. One and a half: half way to one missing reading.
HOLE_PERIODS: Final = 1.5
#: From the reading before a time to the four nearest.
_FOUR: Final = np.array([[-1], [0], [1], [2]])


def along(
    lanes: Lanes, lane: Int64, n: Int64, t_ns: Int64, *, run_end: Int64, feed_hz: Float64
) -> tuple[Float64, Int64]:
    """Values of some lanes at n times each, and the holes that these fell into.

    Args:
        lanes: the readings.
        lane: (rows,) which of them.
        n: (rows,) how many times of each.
        t_ns: (sum(n),) int64 ns, lane after lane.
        run_end: (lanes,) end of each lane's readings that may be used.
        feed_hz: (rows,) float64, the feeds' rates.

    Returns:
        (sum(n), k) float64 values and (sum(n),) int64 lengths of holes in ns, 0 for none.
    """
    feed_period_ns = 1e9 / feed_hz
    values, interval_ns = interpolate(
        lanes.times,
        lanes.values,
        lanes.last_at_or_before(spread(lane, n), t_ns),
        t_ns,
        first=spread(lanes.start[lane], n),
        last=spread(run_end[lane] - 1, n),
        min_step_ns=spread(feed_period_ns / 4, n),
    )
    return values, np.where(interval_ns > spread(HOLE_PERIODS * feed_period_ns, n), interval_ns, 0)


def interpolate(
    times: Int64, values: Float64, at: Int64, t_ns: Int64, *, first: Int64, last: Int64, min_step_ns: Float64
) -> tuple[Float64, Int64]:
    """Values at `t_ns`, and the length of the interval between readings that each fell into.

    A time on a reading takes the reading's value unchanged. In between: the cubic Hermite through the two readings
    around it, with each end's slope that of the parabola through the reading and its two neighbours (on even spacing
    the Catmull-Rom spline, whose gain at half a sample is 0.95 at a fifth of the rate, where a line's is 0.81).

    Args:
        times: (n,) int64 ns, ascending between first and last.
        values: (n, k) float64.
        at: (m,) index of the last reading at or before each wanted time.
        t_ns: (m,) int64 ns, wanted times.
        first: (m,) or (1,) index of the first reading that may be used.
        last: (m,) or (1,) index of the last reading that may be used.
        min_step_ns: (m,) or (1,) float64, shorter steps between neighbours count as this long, so that two readings at
            almost the same time cannot make a slope of their noise.

    Returns:
        (m, k) float64 values and (m,) int64 interval lengths in ns, 0 on a reading.

    Source: Catmull and Rom (1974), "A class of local interpolating splines", in the non-uniform, parabolic form.
    """
    is_between = (times[at] != t_ns) & (at < last)
    if not is_between.all():
        interval_ns = np.zeros(len(at), np.int64)
        result = values.take(at, axis=0)
        if is_between.any():
            first, last = (x if len(x) == 1 else x[is_between] for x in (first, last))
            shortest = min_step_ns if len(min_step_ns) == 1 else min_step_ns[is_between]
            result[is_between], interval_ns[is_between] = _between(
                times, values, at[is_between], t_ns[is_between], first=first, last=last, shortest=shortest
            )
        return result, interval_ns
    return _between(times, values, at, t_ns, first=first, last=last, shortest=min_step_ns)


def _between(
    times: Int64, values: Float64, left: Int64, t_ns: Int64, *, first: Int64, last: Int64, shortest: Float64
) -> tuple[Float64, Int64]:
    # The four nearest readings, and the steps and rises between them, each in one array: calls cost more than numbers.
    near = left + _FOUR
    has_outer = np.array([left > first, left + 1 < last])
    inside = bool(has_outer.all())
    if not inside:
        near[::3] = np.where(has_outer, near[::3], near[1:3])
    near_ns = times[near]
    steps_ns = near_ns[1:] - near_ns[:-1]
    step, outer = steps_ns[1].astype(np.float64), steps_ns[::2].astype(np.float64)

    # The cubic is linear in the readings. With u from 0 to 1 between the inner two, the slopes at their ends weigh in
    # with `at_left` and `at_right`, and each slope is a weighted mean of the rises on its two sides.
    u = (t_ns - near_ns[1]).astype(np.float64) / step
    rest, square = 1.0 - u, u**2
    at_left, at_right = step * u * rest**2, -step * square * rest
    both = outer + step
    by_outer, by_inner = step / (both * np.maximum(outer, shortest)), outer / (both * step)
    if not inside:
        # An end without a neighbour has the slope of the inner rise.
        by_outer, by_inner = np.where(has_outer, by_outer, 0.0), np.where(has_outer, by_inner, 1.0 / step)
    inner = square * (3.0 - 2.0 * u) + at_left * by_inner[0] + at_right * by_inner[1]

    x = values.take(near, axis=0)
    rises = x[1:] - x[:-1]
    value = x[1] + rises[1] * inner[:, None]
    value += rises[0] * (at_left * by_outer[0])[:, None]
    value += rises[2] * (at_right * by_outer[1])[:, None]
    return value, steps_ns[1]
