"""A watch's health: what it does now and how its feed is, in one small retained document.

The activity of `har/v1/<device>/activity` is taken back by an empty message when a watch falls silent; this document
says so instead, for readers that pass empty messages over.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from streamer.activities import UNKNOWN
from streamer.vitals import Vitals

SCHEMA: Final = 1
_NANOSECONDS: Final = 1_000_000_000


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """One watch as it is now.

    Attributes:
        schema: version of this document.
        device: the watch.
        client: client id of the service that follows it.
        alive: a message came less than the allowed silence ago.
        activity: of the current bout; unknown without one, and for a watch that is silent.
        groups: groups that the activity is in, the widest first, such as still and eating; empty for none.
        confidence: of the latest window in it, 0 to 1; null without a bout.
        rate_hz: of the slowest sensor's readings; null until it is known.
        completeness: share of the latest window free of holes; null before the first.
        last_seen: when the last message came, RFC 3339, UTC, to the second.
    """

    schema: int
    device: str
    client: str
    alive: bool
    activity: str
    groups: tuple[str, ...] = ()
    confidence: float | None
    rate_hz: float | None
    completeness: float | None
    last_seen: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Health)


def encode_health(health: Health) -> bytes:
    """JSON, one line."""
    return _encoder.encode(health)


def decode_health(payload: bytes) -> Health:
    """The document in a payload.

    Raises:
        ValueError: it is none, or of another version.
    """
    health = _decoder.decode(payload)
    if health.schema != SCHEMA:
        raise ValueError(f"schema {health.schema}; expected {SCHEMA}")
    return health


def health_of(device: str, client: str, vitals: Vitals) -> Health:
    """The document on a watch, in figures that people read.

    >>> health_of("wrist", "har-stream", Vitals(
    ...     is_alive=False, heard_ns=5_120_000_000, activity="walking", confidence=0.9, rate_hz=50.0, completeness=1.0)
    ... ).activity
    'unknown'
    """
    return Health(
        schema=SCHEMA,
        device=device,
        client=client,
        alive=vitals.is_alive,
        # Nobody walks for ever: of a silent watch nothing is known but when it was last heard of.
        activity=vitals.activity if vitals.is_alive else UNKNOWN,
        groups=vitals.groups if vitals.is_alive else (),
        confidence=_rounded(vitals.confidence, 4) if vitals.is_alive else None,
        rate_hz=_rounded(vitals.rate_hz, 2) if vitals.is_alive else None,
        completeness=_rounded(vitals.completeness, 4) if vitals.is_alive else None,
        last_seen=datetime.fromtimestamp(vitals.heard_ns // _NANOSECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def silenced(health: Health) -> Health:
    """The same watch, of which nothing is heard any more."""
    return msgspec.structs.replace(
        health, alive=False, activity=UNKNOWN, groups=(), confidence=None, rate_hz=None, completeness=None
    )


def seen_ns(health: Health) -> int:
    """`last_seen` in ns since the UTC epoch.

    Raises:
        ValueError: it is no time.
    """
    seen = datetime.fromisoformat(health.last_seen)
    if seen.tzinfo is None:
        raise ValueError(f"last_seen {health.last_seen!r:.40}; expected a time with its zone")
    return round(seen.timestamp()) * _NANOSECONDS


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
