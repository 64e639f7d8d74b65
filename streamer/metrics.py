"""Every Prometheus instrument of the service.

Names are har_<noun>_<unit>[_total]; label values come from the closed sets below, and a device is never one of them.
Each labelled series exists from the start, at zero: a rate over it is right from its first increment, and the hot path
looks no label up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, TypeVar, cast, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamer.activities import UNKNOWN
from streamer.errors import RejectReason
from streamer.likeness.finding import KINDS, Kind
from streamer.results import Counts
from streamer.wire.events import EventType, Reason

_V = TypeVar("_V")

Stage = Literal["decode", "align", "filter", "window", "classify", "track", "publish"]
DropReason = Literal[
    "overload",  # the queue was full
    "shutdown",  # the service stopped before their turn
]
DocumentKind = Literal[
    "discovery",  # what makes a watch known
    "health",  # how it is
    "removal",  # what makes it unknown again
    "ignored",  # found at the broker, and none that any har-stream writes
]
PushStatus = Literal[
    202,  # queued
    400,  # unusable
    401,  # no token, or a wrong one
    404,  # pushes are switched off, or no such path
    413,  # too large
    429,  # too many of a device
    503,  # no room, or stopping
]
EvictionReason = Literal[
    "age",  # nothing was heard of it for too long
    "capacity",  # others needed its place
]

#: Seconds. A call handles about 10 ms of work; a stage of it may take from 10 us.
_STAGE_BUCKETS: Final = (1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
#: Seconds. Half of the events take some 3 ms; the aim is 100 ms for 99 of 100. A row of the heat map each.
_LATENCY_BUCKETS: Final = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1),
    *(0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
#: Seconds. From a watch that sends at once to one that was out of reach for a day.
_LAG_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)
_SIZE_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def _counters(registry: CollectorRegistry, name: str, text: str, label: str, values: Iterable[_V]) -> dict[_V, Counter]:
    """A counter for each value of a label."""
    counter = Counter(name, text, [label], registry=registry)
    return {value: counter.labels(value) for value in values}


class Metrics:
    """The instruments of one service, over a registry of its own.

    >>> metrics = Metrics(activities=["walking"], model="demo", model_digest="0123456789abcdef")
    >>> metrics.readings.inc(50)
    >>> metrics.rejects[RejectReason.JSON].inc()
    >>> metrics.events["start", "walking"].inc()
    >>> metrics.registry.get_sample_value("har_readings_total")
    50.0
    >>> metrics.registry.get_sample_value("har_rejects_total", {"reason": "json"})
    1.0

    Attributes:
        registry: what /metrics shows; the process's own figures included.
        looked_up: what is looked up at each scrape.
        rejects, dropped_messages, stage_seconds, events, evictions: one instrument per label value, by that value.
    """

    def __init__(self, *, activities: Iterable[str], model: str, model_digest: str) -> None:
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)

        self.messages = Counter("har_messages", "Messages received", registry=registry)
        self.pushes: dict[int, Counter] = _counters(
            registry, "har_pushes", "Messages pushed over HTTP, by answer", "status", get_args(PushStatus)
        )
        self.message_bytes = Counter("har_message_bytes", "Payload bytes received", registry=registry)
        self.readings = Counter("har_readings", "Readings in accepted messages", registry=registry)
        self.rejects = _counters(registry, "har_rejects", "Messages refused, by reason", "reason", RejectReason)

        self.queue_messages = Gauge("har_queue_messages", "Messages waiting", registry=registry)
        self.queue_bytes = Gauge("har_queue_bytes", "Payload bytes waiting", registry=registry)
        self.queue_limit_bytes = Gauge("har_queue_limit_bytes", "Payload bytes that may wait", registry=registry)
        self.dropped_messages: dict[DropReason, Counter] = _counters(
            registry, "har_dropped_messages", "Messages dropped unread, by reason", "reason", get_args(DropReason)
        )

        self.late_readings = Counter("har_late_readings", "Readings too late for their place", registry=registry)
        self.duplicate_readings = Counter("har_duplicate_readings", "Readings for a taken place", registry=registry)
        self.clock_jumps = Counter("har_clock_jumps", "Watches whose clock went back", registry=registry)
        self.interpolated_samples = Counter(
            "har_interpolated_samples", "Grid samples interpolated across a hole", registry=registry
        )
        self.missing_messages = Counter(
            "har_missing_messages", "Messages that the senders' counters say never arrived", registry=registry
        )
        self.unfit: dict[Reason, Counter] = _counters(
            registry,
            "har_unfit_windows",
            "Windows of watches that the model can't take, by reason",
            "reason",
            ("sensor_missing", "feed_rate"),
        )
        self.unlike_training: dict[Kind, Counter] = _counters(
            registry,
            "har_unlike_training",
            "Watches whose readings are unlike the training data, by what was found",
            "finding",
            KINDS,
        )
        self.gaps = Counter("har_gaps", "Holes too long to bridge", registry=registry)

        self.windows = Counter("har_windows", "Windows classified", registry=registry)
        self.partial_windows = Counter(
            "har_partial_windows", "Windows classified that lack an optional sensor", registry=registry
        )
        self.call_messages = Histogram(
            "har_call_messages", "Messages handled by one call", buckets=_SIZE_BUCKETS, registry=registry
        )
        self.run_windows = Histogram(
            "har_run_windows", "Windows classified by one model run", buckets=_SIZE_BUCKETS, registry=registry
        )
        stage = Histogram(
            "har_stage_seconds", "Time per call, by stage", ["stage"], buckets=_STAGE_BUCKETS, registry=registry
        )
        self.stage_seconds: dict[Stage, Histogram] = {name: stage.labels(name) for name in get_args(Stage)}
        self.end_to_end_seconds = Histogram(
            "har_end_to_end_seconds",
            "Arrival of a message to publication of the event it led to",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.lag_seconds = Histogram(
            "har_lag_seconds",
            "End of the window that began an activity, by the watch's clock, to its being recognized",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )

        events = Counter(
            "har_events", "Events published, by type and activity", ["type", "activity"], registry=registry
        )
        self.events: dict[tuple[EventType, str], Counter] = {
            (kind, activity): events.labels(kind, activity)
            for kind in get_args(EventType)
            for activity in (*activities, UNKNOWN)
        }
        self.refused_events = Counter("har_refused_events", "Events that the broker refused", registry=registry)
        self.outbox_events = Gauge("har_outbox_events", "Publications waiting for the broker", registry=registry)
        self.devices = Gauge("har_devices", "Watches followed", registry=registry)
        self.devices_limit = Gauge("har_devices_limit", "Watches that may be followed", registry=registry)
        self.looked_up = LookedUp((*activities, UNKNOWN), registry)
        self.evictions: dict[EvictionReason, Counter] = _counters(
            registry, "har_evictions", "Watches forgotten, by reason", "reason", get_args(EvictionReason)
        )

        self.broker_dropped_messages = Gauge(
            "har_broker_dropped_messages",
            "Messages the broker says it dropped, all clients together",
            registry=registry,
        )
        self.unacknowledged_messages = Gauge(
            "har_unacknowledged_messages", "Messages worked off but not acknowledged yet", registry=registry
        )
        self.left_messages = Counter(
            "har_left_messages",
            "Messages left with the broker for want of room, to be fetched again",
            registry=registry,
        )
        self.lost_sessions = Counter(
            "har_lost_sessions", "Connections at which the broker no longer had the session", registry=registry
        )
        self.dead_letters = Counter("har_dead_letters", "Refused messages kept in a file", registry=registry)
        self.state_failing = Gauge("har_state_failing", "1 while the state can't be written, else 0", registry=registry)
        self.journal_bytes = Gauge("har_journal_bytes", "Payload bytes behind the last snapshot", registry=registry)
        self.journal_seconds = Histogram(
            "har_journal_seconds", "Time to bring records to the disk", buckets=_STAGE_BUCKETS, registry=registry
        )
        self.snapshot_seconds = Histogram(
            "har_snapshot_seconds", "Time to take and write a snapshot", buckets=_LATENCY_BUCKETS, registry=registry
        )
        self.home_assistant_documents: dict[str, Counter] = _counters(
            registry,
            "har_home_assistant_documents",
            "Documents for Home Assistant, by kind",
            "kind",
            get_args(DocumentKind),
        )
        self.connected = Gauge("har_connected", "1 while subscribed at the broker, else 0", registry=registry)
        self.reconnects = Counter("har_reconnects", "Connections after the first", registry=registry)
        Info("har_model", "The model in use", registry=registry).info({"name": model, "digest": model_digest})

    def count(self, counts: Counts) -> None:
        """Add what happened in one call of the recognizer."""
        self.readings.inc(counts.readings)
        for reason, n in counts.rejects.items():
            self.rejects[reason].inc(n)
        self.late_readings.inc(counts.late)
        self.clock_jumps.inc(counts.clock_jumps)
        self.duplicate_readings.inc(counts.duplicate)
        self.interpolated_samples.inc(counts.bridged)
        self.gaps.inc(counts.gaps)
        self.missing_messages.inc(counts.missing_messages)
        for unfit, n in counts.unfit.items():
            self.unfit[unfit].inc(n)
        for cause, n in counts.evicted.items():
            self.evictions[cast("EvictionReason", cause)].inc(n)
        self.windows.inc(counts.windows)
        self.partial_windows.inc(counts.partial)
        if counts.windows:
            self.run_windows.observe(counts.windows)


class LookedUp(Collector):
    """What costs nothing until somebody asks: looked up at each scrape, in the thread that answers it.

    Attributes:
        watches_by_activity: how many watches are in a bout of each activity; set by who knows.
    """

    def __init__(self, activities: Iterable[str], registry: CollectorRegistry) -> None:
        self._activities = tuple(activities)
        self.watches_by_activity: Callable[[], Mapping[str, int]] = dict
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The event loop's own processor time, for it is the loop that answers, and the watches by activity."""
        yield CounterMetricFamily(
            "har_loop_cpu_seconds", "Processor time of the thread that does the work", value=time.thread_time()
        )
        watches = GaugeMetricFamily("har_active_devices", "Watches by their current activity", labels=["activity"])
        now = self.watches_by_activity()
        for activity in self._activities:
            watches.add_metric([activity], now.get(activity, 0))
        yield watches


class StageClock:
    """Times the recognizer's stages: each mark ends the stage that it names. A recovery's calls start no clock."""

    def __init__(self, metrics: Metrics) -> None:
        self._stages = metrics.stage_seconds
        self._since: float | None = None

    def start(self) -> None:
        """A call begins."""
        self._since = time.perf_counter()

    def mark(self, stage: str) -> None:
        """The stage is through."""
        if self._since is not None:
            now = time.perf_counter()
            self._stages[cast("Stage", stage)].observe(now - self._since)
            self._since = now
