"""Events for people and for pipes, on standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from streamer.wire.events import ActivityEvent, encode_event


def printer(output: Literal["text", "lines", "json", "none"]) -> Callable[[ActivityEvent], None]:
    """What prints events in the chosen form; each line is flushed, so that pipes see it at once."""
    if output == "json":
        return _print_json
    if output in {"text", "lines"}:
        return _print_text
    return lambda _event: None


def _print_json(event: ActivityEvent) -> None:
    sys.stdout.buffer.write(encode_event(event) + b"\n")
    sys.stdout.buffer.flush()


def _print_text(event: ActivityEvent) -> None:
    if event.type != "state":
        print(describe(event), flush=True)


def describe(event: ActivityEvent) -> str:
    """One line: when it was decided, whose, what, how sure, since when.

    >>> from streamer.wire.events import SCHEMA
    >>> describe(ActivityEvent(
    ...     schema=SCHEMA, id="0" * 16, bout_id="1" * 16, type="start", device="wrist", activity="walking",
    ...     confidence=0.91, onset_ns=0, decided_ns=5_120_000_000, window_start_ns=0, window_end_ns=5_120_000_000,
    ...     completeness=1.0, gap_ns=0, model="demo", model_digest="2" * 16))
    '1970-01-01 00:00:05  wrist             walking                 0.91  since 00:00:00'
    """
    decided = datetime.fromtimestamp(event.decided_ns // 1_000_000_000, UTC)
    onset = datetime.fromtimestamp(event.onset_ns // 1_000_000_000, UTC)
    what = event.activity if event.type == "start" else f"{event.activity} {event.type}"
    parts = [f"{decided:%Y-%m-%d %H:%M:%S}", f"{event.device:16}", f"{what:22}", f"{event.confidence:.2f}"]
    if event.type != "window":
        parts.append(f"since {onset:%H:%M:%S}")
    if event.reason is not None:
        parts.append(f"({event.reason.replace('_', ' ')})")
    if event.gap_ns:
        parts.append(f"hole of {event.gap_ns / 1e9:.2f} s")
    if event.completeness < 1:
        parts.append(f"{event.completeness:.0%} complete")
    return "  ".join(parts)
