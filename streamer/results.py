"""What one call of the recognizer gives back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.errors import PayloadError, RejectReason
from streamer.imu import ImuBatch
from streamer.wire.events import ActivityEvent, Reason
from streamer.wire.payload import Message


@dataclass(slots=True)
class Counts:
    """What happened in one call, besides the events.

    Attributes:
        messages, readings: accepted.
        rejects: refused messages by reason.
        late, duplicate: readings dropped by their time.
        clock_jumps: watches whose clock went back.
        bridged: grid samples interpolated across a hole.
        gaps: segments that ended at a hole too long to bridge.
        missing_messages: jumps of the senders' message counters.
        windows: classified.
        partial: of these, those that lack an optional sensor, in part at least.
        unfit: windows and watches that the model can't take, by reason.
        evicted: watches forgotten, by reason ("age", "capacity").
        reject_examples: one explanation for each reason in `rejects`.
    """

    messages: int = 0
    readings: int = 0
    rejects: Counter[RejectReason] = field(default_factory=Counter)
    late: int = 0
    duplicate: int = 0
    clock_jumps: int = 0
    bridged: int = 0
    gaps: int = 0
    missing_messages: int = 0
    windows: int = 0
    partial: int = 0
    unfit: Counter[Reason] = field(default_factory=Counter)
    evicted: Counter[str] = field(default_factory=Counter)
    reject_examples: dict[RejectReason, str] = field(default_factory=dict)

    def reject(self, error: PayloadError) -> None:
        """Count a refused message."""
        self.rejects[error.reason] += 1
        self.reject_examples.setdefault(error.reason, str(error))


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Windows that the model was asked about.

    Attributes:
        devices: whose they are, in time order for each watch.
        end_ns: (m,) int64, ends of the windows, ns since the UTC epoch.
        probabilities: (m, labels) float32, before smoothing.
    """

    devices: list[str]
    end_ns: NDArray[np.int64]
    probabilities: NDArray[np.float32]


@dataclass(slots=True)
class Result:
    """What became of a call's messages.

    Attributes:
        events: in the order of their decision for each watch.
        counts: what happened besides.
        refused: messages that can't be used, and why.
        batches: the readings of the others that watches are followed by, in SI units.
        windows: those that the model was asked about.
    """

    events: list[ActivityEvent] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    refused: list[tuple[Message, PayloadError]] = field(default_factory=list)
    batches: list[ImuBatch] = field(default_factory=list, compare=False)
    windows: list[Scored] = field(default_factory=list, compare=False)

    def refuse(self, message: Message, error: PayloadError) -> None:
        """Count a refused message, and name it."""
        self.counts.reject(error)
        self.refused.append((message, error))
