"""What a recording's rows say together: its nominal rate, and its labelled stretches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.recording import ActivitySpan

#: Longer without a reading, and a label is not taken to have held on.
_HOLE_NS: Final = 1_000_000_000


def nominal_rate_hz(t_ns: NDArray[np.int64]) -> float | None:
    """From the median interval of ascending times, the whole number of Hz where that is within 1 %."""
    interval_ns = float(np.median(np.diff(t_ns))) if len(t_ns) > 1 else 0.0
    if interval_ns <= 0:
        return None
    rate_hz = 1e9 / interval_ns
    return float(round(rate_hz)) if abs(rate_hz - round(rate_hz)) <= 0.01 * rate_hz else rate_hz


def labelled_spans(
    t_ns: NDArray[np.int64], label: NDArray[np.int32], names: Sequence[str], rate_hz: float | None
) -> tuple[ActivitySpan, ...]:
    """Runs of one label without a hole; each ends one interval after its last reading, at the latest with the next.

    Args:
        t_ns: (n,) int64, ascending.
        label: (n,) int32, which of `names` each reading has.
        names: labels, empty for none.
        rate_hz: nominal rate, None when unknown.
    """
    interval_ns = round(1e9 / rate_hz) if rate_hz else 1
    bounds = np.flatnonzero((np.diff(label) != 0) | (np.diff(t_ns) > _HOLE_NS)) + 1
    spans = []
    for first, end in pairwise([0, *bounds.tolist(), len(label)]):
        name = names[label[first]]
        if name:
            end_ns = int(t_ns[end - 1]) + interval_ns
            if end < len(t_ns):
                end_ns = min(end_ns, int(t_ns[end]))
            spans.append(ActivitySpan(name, int(t_ns[first]), end_ns))
    return tuple(spans)
