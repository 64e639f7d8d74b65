"""The service's clock: UTC as it was at the start, moved on by a clock that nobody sets.

A clock that is set forward would end every bout for silence, one that is set back would hear of no silence at all.
"""

from __future__ import annotations

import time

_EPOCH_NS = time.time_ns() - time.monotonic_ns()


def now_ns() -> int:
    """Nanoseconds since the UTC epoch; never goes back while the process lives."""
    return _EPOCH_NS + time.monotonic_ns()
