"""OpenTelemetry traces of what becomes of messages: a span for each call, its stages, and each event that comes of it.

    process har/v1/{device}/imu          links: the spans of the senders whose messages are in the call
    ├── decode, align, filter, window, classify, track
    └── publish har/v1/{device}/event    links: the span of the sender whose message led to it
                                         ends when the broker has the event, which carries its `traceparent` on

A call works off messages of many senders, so that it is a trace of its own, linked with theirs. Where spans are sent,
and how many of them, OpenTelemetry's own environment variables say (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER).

Source: W3C Trace Context and its MQTT 5 binding, https://w3c.github.io/trace-context-mqtt/ (user property
`traceparent`); OpenTelemetry semantic conventions for messaging spans (batches: links, not parents).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from streamer import clock
from streamer.ingress import Arrival
from streamer.metrics import Metrics, StageClock
from streamer.mqtt.connection import TRACEPARENT, Outgoing
from streamer.outbox import topic_of
from streamer.results import Result
from streamer.wire import topics
from streamer.wire.events import ActivityEvent

logger = logging.getLogger(__name__)

#: Senders that one span is linked with; the SDK's own default keeps as many.
_MOST_LINKS: Final = 128
_PROCESS: Final = f"process {topics.imu('{device}')}"
_FAREWELL_S: Final = 3.0

_propagator = TraceContextTextMapPropagator()


class _Exporter(SpanExporter):
    """Hands spans on, and says in a line when nobody takes them, and when somebody does again.

    State: spans lost since somebody last took some.
    """

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._lost = 0
        # Says the same at each of several attempts a batch.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter`."""
        result = self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                logger.warning("traces: somebody takes them again; %d spans were lost", self._lost)
            self._lost = 0
        else:
            if not self._lost:
                logger.warning("traces: nobody takes them at %s; they are lost until somebody does", _endpoint())
            self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        """See `SpanExporter`."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See `SpanExporter`."""
        return self._inner.force_flush(timeout_millis)


class TracedStageClock(StageClock):
    """Times the stages as ever, and keeps the times of the current call.

    State: in `current` the stages of the current call, with begin and end in ns since the UTC epoch.
    """

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(metrics)
        self.current: list[tuple[str, int, int]] = []
        self._since_ns: int | None = None

    def start(self) -> None:
        """A call begins."""
        self.current = []
        self._since_ns = clock.now_ns()
        super().start()

    def mark(self, stage: str) -> None:
        """The stage is through."""
        super().mark(stage)
        if self._since_ns is not None:
            now_ns = clock.now_ns()
            self.current.append((stage, self._since_ns, now_ns))
            self._since_ns = now_ns


class Tracing:
    """Makes the spans.

    State: spans of events that the broker does not have yet, by their `traceparent`.

    Attributes:
        stages: what the recognizer's stages are to be timed with.
    """

    def __init__(self, metrics: Metrics, *, client_id: str, version: str) -> None:
        """Begin to export.

        Args:
            metrics: see `StageClock`.
            client_id: of the service.
            version: of this program.
        """
        self.stages = TracedStageClock(metrics)
        self._client_id = client_id
        self._provider = TracerProvider(resource=_resource(client_id, version), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter(OTLPSpanExporter())))
        self._tracer = self._provider.get_tracer("har-stream", version)
        self._under_way: dict[str, Span] = {}

    def call(self, arrivals: Sequence[Arrival]) -> CallTrace:
        """The trace of a call that begins now.

        Args:
            arrivals: what it works off; none for a tick.
        """
        senders = _Senders(arrivals)
        now_ns = clock.now_ns()
        attributes: dict[str, AttributeValue] = {
            **self._messaging("process", "process"),
            "messaging.destination.template": topics.imu("{device}"),
            "messaging.batch.message_count": len(arrivals),
        }
        if arrivals:
            attributes["har.queued_s"] = (now_ns - arrivals[0].arrived_ns) / 1e9
        span = self._tracer.start_span(
            _PROCESS if arrivals else "tick",
            # Nobody's child: whose would it be?
            Context(),
            kind=SpanKind.CONSUMER if arrivals else SpanKind.INTERNAL,
            attributes=attributes,
            links=senders.links,
            start_time=now_ns,
        )
        return CallTrace(self, span, senders)

    def publication(self, call: Span, event: ActivityEvent, sender: SpanContext | None) -> str:
        """The `traceparent` of an event that came of a call; its span ends when the broker has it."""
        topic = topic_of(event)
        span = self._tracer.start_span(
            f"publish {topics.output('{device}', topic.rpartition('/')[2])}",
            set_span_in_context(call, Context()),
            kind=SpanKind.PRODUCER,
            attributes={
                **self._messaging("publish", "send"),
                "messaging.destination.name": topic,
                "messaging.message.id": event.id,
                "har.type": event.type,
                "har.activity": event.activity,
            },
            links=None if sender is None else [Link(sender)],
            start_time=clock.now_ns(),
        )
        context = span.get_span_context()
        traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        if span.is_recording():
            self._under_way[traceparent] = span
        return traceparent

    def stage(self, call: Span, name: str, began_ns: int, ended_ns: int) -> None:
        """A stage of a call, which is through."""
        self._tracer.start_span(name, set_span_in_context(call, Context()), start_time=began_ns).end(ended_ns)

    def published(self, batch: Iterable[Outgoing]) -> None:
        """The broker has these."""
        now_ns = clock.now_ns()
        for outgoing in batch:
            for name, value in outgoing.user_properties:
                if name == TRACEPARENT and (span := self._under_way.pop(value, None)) is not None:
                    span.end(now_ns)

    def close(self) -> None:
        """Send what has not been sent, as far as somebody takes it in time."""
        for span in self._under_way.values():
            span.set_status(StatusCode.ERROR, "stopped before the broker had it")
            span.end(clock.now_ns())
        self._under_way.clear()
        # The exporter tries again for longer than anybody waits for a service to stop.
        farewell = threading.Thread(target=self._provider.shutdown, daemon=True)
        farewell.start()
        farewell.join(_FAREWELL_S)

    def _messaging(self, name: str, kind: str) -> dict[str, AttributeValue]:
        return {
            "messaging.system": "mqtt",
            "messaging.operation.name": name,
            "messaging.operation.type": kind,
            "messaging.client.id": self._client_id,
        }


class CallTrace:
    """The trace of one call."""

    def __init__(self, tracing: Tracing, span: Span, senders: _Senders) -> None:
        self._tracing = tracing
        self._span = span
        self._senders = senders

    def carry(self, event: ActivityEvent) -> tuple[tuple[str, str], ...]:
        """User properties that an event carries on."""
        sender = self._senders.by_device.get(event.device)
        return ((TRACEPARENT, self._tracing.publication(self._span, event, sender)),)

    def end(self, result: Result) -> None:
        """The call is through, and what came of it posted."""
        if self._span.is_recording():
            for stage, began_ns, ended_ns in self._tracing.stages.current:
                self._tracing.stage(self._span, stage, began_ns, ended_ns)
            self._span.set_attributes({"har.windows": result.counts.windows, "har.events": len(result.events)})
        self._span.end(clock.now_ns())


class _Senders:
    """The contexts that messages came with.

    Attributes:
        links: one for each, as far as a span takes them.
        by_device: the last one's of each device that a topic names.
    """

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self.links: list[Link] = []
        self.by_device: dict[str, SpanContext] = {}
        read: dict[str, SpanContext] = {}
        for arrival in arrivals:
            text, topic = arrival.traceparent, arrival.message.topic
            if text is None or (text not in read and len(read) == _MOST_LINKS):
                continue
            if text not in read:
                read[text] = _context(text)
                if read[text].is_valid:
                    self.links.append(Link(read[text], {"messaging.destination.name": topic}))
            device = topics.device_level(topic)
            if device is not None and read[text].is_valid:
                self.by_device[device] = read[text]


def _resource(client_id: str, version: str) -> Resource:
    """Who sends the spans; the environment's word on the name comes first."""
    own: dict[str, AttributeValue] = {"service.version": version, "service.instance.id": client_id}
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create(own if named else {**own, "service.name": "har-stream"})


def _endpoint() -> str:
    """Where the exporter sends spans; it has its own word for it, and keeps that to itself."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), "http://localhost:4318")


def _context(traceparent: str) -> SpanContext:
    """The context in a sender's `traceparent`; an invalid one where that is none."""
    return get_current_span(_propagator.extract({TRACEPARENT: traceparent}, Context())).get_span_context()
