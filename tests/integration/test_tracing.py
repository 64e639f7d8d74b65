"""Traces from a sender's `traceparent` to the event's: the real service, a Mosquitto, and a collector on loopback."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from paho.mqtt.client import Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from streamer.imu import ImuBatch
from streamer.wire import topics
from streamer.wire.payload import encode_cbor
from tests.bundles import make_bundle
from tests.motion import still
from tests.programs import HarStream
from tests.servers import HOST, Mosquitto, free_port, wait_until

#: Examples of W3C Trace Context.
SENDERS: Final = {
    "left": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "right": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
}
STAGES: Final = ["decode", "align", "filter", "window", "classify", "track"]


class Collector:
    """Takes spans by OTLP over HTTP.

    State: what came.
    """

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url: Final = f"http://{HOST}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def spans(self) -> list[Span]:
        """All of them, by their beginnings."""
        found = [
            s for r in list(self.requests) for of in r.resource_spans for scope in of.scope_spans for s in scope.spans
        ]
        return sorted(found, key=lambda span: int(span.start_time_unix_nano))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def start(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Callable[..., HarStream]]:
    """Starts a traced service, with OpenTelemetry's variables; it ends with the test."""
    started: list[HarStream] = []
    make_bundle(tmp_path / "posture")

    def start(*arguments: str, state: Path | None = None, **variables: str) -> HarStream:
        address = ("--broker", mosquitto.host, "--port", str(mosquitto.port), "--model", str(tmp_path / "posture"))
        environment = os.environ | {"OTEL_BSP_SCHEDULE_DELAY": "200"} | variables
        service = HarStream(tmp_path, *address, "--tracing", *arguments, state=state, environment=environment)
        started.append(service)
        service.wait_ready()
        return service

    yield start
    for service in started:
        service.kill()


class Watches:
    """Sends readings with a place in a trace, and keeps what comes of them with theirs."""

    def __init__(self, broker: Mosquitto) -> None:
        self.carried: dict[str, tuple[str, ...]] = {}
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self._client.on_message = lambda _client, _data, message: self._take(message)
        self._client.connect(broker.host, broker.port)
        self._client.subscribe([("har/v1/+/event", 1), ("har/v1/+/activity", 1)])
        self._client.loop_start()

    def send(self, batch: ImuBatch, traceparent: str | None) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = [("unit", "g")]
        if traceparent is not None:
            properties.UserProperty = ("traceparent", traceparent)
        done = self._client.publish(topics.imu(batch.device_id), encode_cbor(batch), qos=1, properties=properties)
        done.wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        # Without a ring of references it is closed for good at once.
        self._client.on_message = None

    def _take(self, message: MQTTMessage) -> None:
        if message.payload:
            found = dict(getattr(message.properties, "UserProperty", ()))
            key = re.search(rb'"id":"(\w+)"', message.payload)
            assert key is not None
            self.carried[key[1].decode()] = tuple(found.get(name, "") for name in ("traceparent", "type"))


@pytest.fixture
def watches(mosquitto: Mosquitto) -> Iterator[Watches]:
    watches = Watches(mosquitto)
    yield watches
    watches.close()


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def place(span: Span | Span.Link) -> str:
    return f"{span.trace_id.hex()}-{span.span_id.hex()}"


@pytest.mark.parametrize(
    ("client", "keeps", "event_format"), [("gmqtt", True, "plain"), ("aiomqtt", False, "cloudevents")]
)
def test_a_trace_leads_from_the_senders_span_to_the_event(
    start: Callable[..., HarStream],
    collector: Collector,
    watches: Watches,
    tmp_path: Path,
    *,
    client: str,
    keeps: bool,
    event_format: str,
) -> None:
    options = ("--mqtt-client", client, "--event-format", event_format)
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_RESOURCE_ATTRIBUTES": "deployment=ward"}
    service = start(*options, state=tmp_path / "state" if keeps else None, **environment)
    for device, traceparent in SENDERS.items():
        watches.send(still("lying", 3, device=device), traceparent)
    # Two that say nothing of use, and a tracestate's worth of letters: nothing comes of them but what there is without.
    watches.send(still("lying", 3, device="silent"), None)
    watches.send(still("lying", 3, device="mistaken"), "00-zz-01")
    watches.send(still("lying", 3, device="verbose"), "0" * 10_000)
    wait_until(lambda: len(watches.carried) == 10, "a start and a state of each")
    # Before those that end at the stop, which no message led to.
    carried = dict(watches.carried)
    assert service.stop() == 0
    assert "ERROR" not in service.log

    (resource,) = {
        tuple(sorted((a.key, a.value.string_value) for a in of.resource.attributes if "sdk" not in a.key))
        for request in collector.requests
        for of in request.resource_spans
    }
    assert dict(resource) == {
        "deployment": "ward",
        "service.instance.id": "har-stream",
        "service.name": "har-stream",
        "service.version": "0.1.0",
    }
    calls = [span for span in collector.spans if span.name == "process har/v1/{device}/imu"]
    assert sum(attributes(call)["messaging.batch.message_count"] for call in calls) == 5
    assert sum(attributes(call)["har.events"] for call in calls) == 10
    links = {
        attributes_of_link(link)["messaging.destination.name"]: place(link) for call in calls for link in call.links
    }
    assert links == {topics.imu(device): traceparent[3:-3] for device, traceparent in SENDERS.items()}
    for call in calls:
        assert call.parent_span_id == b""
        assert call.kind == Span.SPAN_KIND_CONSUMER
        inside = [span for span in collector.spans if span.parent_span_id == call.span_id]
        stages = [span for span in inside if span.name in STAGES]
        assert [stage.name for stage in stages] == STAGES
        assert stages[0].start_time_unix_nano >= call.start_time_unix_nano
        assert stages[-1].end_time_unix_nano <= call.end_time_unix_nano
        assert {span.trace_id for span in inside} == {call.trace_id}

    publications = [span for span in collector.spans if span.name.startswith("publish ")]
    assert {span.name for span in publications} == {
        f"publish har/v1/{{device}}/{kind}" for kind in ("event", "activity")
    }
    # Each event carries its own span on, which ended when the broker had it.
    places = {attributes(span)["messaging.message.id"]: place(span) for span in publications}
    assert places == {key: traceparent[3:-3] for key, (traceparent, _) in carried.items()}
    for span in publications:
        device = topics.device_of(attributes(span)["messaging.destination.name"])
        assert [place(link) for link in span.links] == [SENDERS[name][3:-3] for name in SENDERS if name == device]
        assert span.kind == Span.SPAN_KIND_PRODUCER
    # As an extension of CloudEvents, which MQTT 5 has among the same properties.
    assert {kind for _, kind in carried.values()} == (
        {"har.v1.bout.start", "har.v1.state"} if event_format == "cloudevents" else {""}
    )


def attributes_of_link(link: Span.Link) -> Mapping[str, str]:
    return {a.key: a.value.string_value for a in link.attributes}


def test_who_samples_nothing_still_carries_on(
    start: Callable[..., HarStream], collector: Collector, watches: Watches
) -> None:
    service = start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_SAMPLER="always_off")
    watches.send(still("lying", 3, device="left"), SENDERS["left"])
    wait_until(lambda: len(watches.carried) == 2, "a start and a state")
    # Not sampled, says the last digit but for the flag of random ids.
    assert all(int(traceparent[-1], 16) & 1 == 0 for traceparent, _ in watches.carried.values())
    assert service.stop() == 0
    assert collector.spans == []


def test_a_collector_that_is_away_holds_up_nothing(start: Callable[..., HarStream], watches: Watches) -> None:
    nowhere = f"http://{HOST}:{free_port()}"
    service = start(OTEL_EXPORTER_OTLP_ENDPOINT=nowhere, OTEL_EXPORTER_OTLP_TIMEOUT="1")
    watches.send(still("lying", 3, device="left"), SENDERS["left"])
    wait_until(lambda: len(watches.carried) == 2, "a start and a state")
    assert service.ready()
    wait_until(lambda: f"traces: nobody takes them at {nowhere}" in service.log, "a line in the log")
    watches.send(still("lying", 3, device="right"), SENDERS["right"])
    wait_until(lambda: len(watches.carried) == 4, "a start and a state")
    # HarStream.stop waits for 20 s; the exporter alone would try for longer.
    assert service.stop() == 0
    assert service.log.count("traces:") == 1
    assert [line for line in service.log.splitlines() if " INFO " not in line and "traces:" not in line] == []


def test_a_sender_of_mqtt_3_is_no_ones_link(
    start: Callable[..., HarStream], collector: Collector, watches: Watches, mosquitto: Mosquitto
) -> None:
    service = start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    old = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv311)
    old.connect(mosquitto.host, mosquitto.port)
    old.loop_start()
    batch = still("lying", 3, device="old")
    old.publish(topics.imu(batch.device_id), encode_cbor(batch), qos=1).wait_for_publish(5)
    old.disconnect()
    old.loop_stop()
    wait_until(lambda: len(watches.carried) == 2, "a start and a state")
    assert service.stop() == 0
    assert [list(span.links) for span in collector.spans if span.name.startswith("p")] == [[], [], []]


def test_untraced_nothing_of_opentelemetry_is_loaded() -> None:
    program = (
        "import sys\nimport streamer.runner, streamer.service, streamer.mqtt.by_gmqtt, streamer.mqtt.by_aiomqtt\n"
        "print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
