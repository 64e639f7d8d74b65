"""Recordings: what one watch measured, with the labels that somebody gave it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streamer.imu import ImuBatch


@dataclass(frozen=True, slots=True)
class ActivitySpan:
    """One activity from start_ns up to, not including, end_ns (UTC epoch, ns)."""

    activity: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Recording:
    """What one watch measured over one sitting.

    Attributes:
        device_id: the watch.
        subject: the person, None when unknown.
        streams: one entry when both sensors share their times, else one per sensor; times ascend.
        spans: labelled stretches in time order, empty when nothing is labelled.
        rate_hz: nominal rate, None when unknown.
    """

    device_id: str
    subject: str | None
    streams: tuple[ImuBatch, ...]
    spans: tuple[ActivitySpan, ...] = ()
    rate_hz: float | None = None

    def messages(self, readings: int) -> Iterator[ImuBatch]:
        """The readings in messages of at most `readings`, in the order of their last reading's time."""
        pieces = [stream[i : i + readings] for stream in self.streams for i in range(0, len(stream), readings)]
        pieces.sort(key=lambda piece: int(piece.t_ns[-1]))
        yield from pieces
