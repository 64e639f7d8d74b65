"""What is known of a watch at this moment, besides its events."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """One watch, now.

    Attributes:
        is_alive: a message came less than the allowed silence ago.
        heard_ns: when the last one came, ns since the UTC epoch.
        activity: of the current bout; unknown without one.
        groups: groups that the activity is in, the widest first.
        confidence: smoothed probability of the activity, or, while that is unknown, of the most probable one; None
            before the first window and without a bout.
        rate_hz: of the slowest sensor's readings, as the watch declares it or its first readings show; None until
            that is known, and behind a hole.
        completeness: share of the latest window's time free of holes; None before the first.
    """

    is_alive: bool
    heard_ns: int
    activity: str
    confidence: float | None
    rate_hz: float | None
    completeness: float | None
    groups: tuple[str, ...] = ()
