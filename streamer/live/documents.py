"""What the page is told: one document when a stream begins, then frames. Times are ms since the UTC epoch."""

from __future__ import annotations

import msgspec

from streamer.live.facts import Fact
from streamer.live.reasons import Why
from streamer.live.traces import Piece


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What stays as it is for as long as the service runs.

    Attributes:
        version: of the page's own files: a page of another version loads itself anew.
        model, digest: the bundle.
        labels: its activities, the groups of them that it tells, then unknown; all else speaks of them by number.
        groups: for each of these groups the numbers of its activities.
        sensors: those that the model needs.
        enter, leave: thresholds of a bout.
        group_enter: threshold of a group's bout; None where none is told.
        window_ms, hop_ms: of the model's windows.
        history_ms: how far the timeline of bouts goes back.
        worker, workers, port: which of how many processes this is, each with its watches, and the first one's port.
    """

    version: str
    model: str
    digest: str
    labels: list[str]
    groups: dict[str, tuple[int, ...]]
    sensors: list[str]
    enter: float
    leave: float
    group_enter: float | None
    window_ms: int
    hop_ms: int
    history_ms: int
    worker: int
    workers: int
    port: int


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """All watches in figures.

    Attributes:
        watches: followed.
        silent: of these not heard of for so long that they aren't waited for.
        waiting: names with too few readings so far.
        counts: watches by activity: for each of `Hello.labels`, then outside any bout.
        matching: watches that the query asks for.
        first: how many of these stand on earlier pages.
        unready: why nothing is recognized, None when all is well.
    """

    watches: int
    silent: int
    waiting: int
    counts: list[int]
    matching: int
    first: int
    unready: str | None


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One watch.

    Attributes:
        name: its name.
        activity: its number, -1 outside any bout.
        confidence: smoothed probability of the activity, 0 to 1; of the first label for unknown.
        onset: since when.
        heard: when it was last heard of, by the service's clock.
        newest: its newest reading, by its own clock; None for none.
        rate: readings per second; None while that isn't known.
        completeness: of the latest window; None before the first.
        silent: it isn't waited for any more.
        why: the weightiest reason for not being recognised or not for sure.
        doubt: labels between which it stands.
        gap: ms of the longest hole since the activity's onset, 0 for none.
    """

    name: str
    activity: int
    confidence: float
    onset: int
    heard: int
    newest: int | None = None
    rate: float | None = None
    completeness: float | None = None
    silent: bool = False
    why: str = ""
    doubt: list[int] = []  # msgspec copies it
    gap: int = 0


class Detail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One watch in detail.

    Attributes:
        row: the watch; None for a name that isn't followed.
        smoothed: probability by label.
        reasons: why it isn't recognised or not for sure.
        facts: what else is known of it: what, how much, and what that means.
        windows: those not told of before: end, probability by label in two hundredths, before smoothing.
        bouts: number of the label, onset, end, confidence, reason of the end; None where told before.
    """

    row: Row | None
    smoothed: list[float] = []  # msgspec copies it
    reasons: list[Why] = []
    facts: list[Fact] = []
    windows: list[tuple[int, list[int]]] = []
    bouts: list[tuple[int, int, int, float, str]] | None = None


class Frame(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is new since the frame before.

    Attributes:
        now: the service's clock.
        fleet: about once a second.
        page: names of the watches on the viewer's page in their order, where that has changed.
        rows: those that have changed.
        bouts: by watch, where they have changed: number of the label, onset, end.
        acc, gyro: by watch, what its traces have gained.
        watch: the one in detail.
    """

    now: int
    fleet: Fleet | None = None
    page: list[str] | None = None
    rows: list[Row] = []  # msgspec copies it
    bouts: dict[str, list[tuple[int, int, int]]] = {}
    acc: dict[str, list[Piece]] = {}
    gyro: dict[str, list[Piece]] = {}
    watch: Detail | None = None
