"""Events as CloudEvents, by both clients in both versions of MQTT, read by the CloudEvents SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from itertools import count
from typing import Any, Final, Literal

import aiomqtt
import jsonschema
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from streamer.bundle import ModelBundle
from streamer.cloudevents import TYPES, as_cloud_events
from streamer.config import Settings
from streamer.mqtt.connection import Connect, Link, Outgoing
from streamer.outbox import Outbox
from streamer.recognizer import Recognizer
from streamer.session import Session
from streamer.wire import topics
from streamer.wire.payload import Message, encode_cbor
from tests.bundles import START_NS, make_bundle
from tests.motion import SECOND, still
from tests.servers import Mosquitto

#: CloudEvents 1.0.2, spec.md, "Context Attributes" and "Type System", and formats/json-format.md, "Envelope".
_ATTRIBUTES: Final = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "format": "uri-reference", "minLength": 1},
        "type": {"type": "string", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"},
        "datacontenttype": {"const": "application/json"},
        "data": {"type": "object"},
    },
    # Names are lower-case letters and digits; all values but `data` are text here.
    "propertyNames": {"pattern": "^[a-z0-9]+$"},
    "additionalProperties": {"type": "string"},
}
Client = Literal["gmqtt", "aiomqtt"]
_TRACEPARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVERY: Final = pytest.mark.parametrize(
    ("client", "mqtt_5"), [(client, mqtt_5) for client in ("gmqtt", "aiomqtt") for mqtt_5 in (True, False)]
)


@pytest.fixture(scope="module")
def posture(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return make_bundle(tmp_path_factory.mktemp("posture"))


def publications(bundle: ModelBundle) -> list[Outgoing]:
    """What a watch brings about that lies down, sits up, and is gone; every kind of event."""
    recognizer, outbox = Recognizer(bundle, every_window=True), Outbox(limit=100)
    sent = [still("lying", 2), still("sitting", 2, start_s=2)]
    messages = [Message(topics.imu(batch.device_id), encode_cbor(batch)) for batch in sent]
    outbox.post_events(0, recognizer.process(messages, START_NS + 4 * SECOND).events)
    outbox.post_events(0, recognizer.finish("shutdown").events)
    return outbox.first(1000)


@asynccontextmanager
async def session(broker: Mosquitto, settings: Settings, *, mqtt_5: bool) -> AsyncIterator[Session]:
    """As the service has it, in the version of MQTT that is asked for."""
    link = Link(
        host=broker.host,
        port=broker.port,
        client_id=settings.client_id,
        username=None,
        password=None,
        tls=None,
        keepalive_s=30,
        timeout_s=10,
        will=None,
        persistent=False,
        numbers=count(1),
    )
    connect: Connect = import_module(f"streamer.mqtt.by_{settings.mqtt_client}").connect
    async with connect(link, mqtt_5, lambda _arrival: None) as connection:
        yield Session(connection, settings, set(), mqtt_5=mqtt_5)


async def published(
    broker: Mosquitto, batch: Sequence[Outgoing], settings: Settings, *, mqtt_5: bool
) -> list[aiomqtt.Message]:
    """What a reader with MQTT 5 gets of a batch."""
    async with aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as reader:
        await reader.subscribe("#", qos=1)
        async with session(broker, settings, mqtt_5=mqtt_5) as writer:
            assert await writer.publish(batch) == 0
        found: list[aiomqtt.Message] = []
        async with asyncio.timeout(10):
            async for message in reader.messages:
                found.append(message)
                if len(found) == len(batch):
                    return found
    raise AssertionError


@EVERY
async def test_every_event_is_a_cloud_event(
    mosquitto: Mosquitto, posture: ModelBundle, client: Client, *, mqtt_5: bool
) -> None:
    plain = publications(posture)
    events = [outgoing for outgoing in plain if outgoing.payload]
    assert {json.loads(outgoing.payload)["type"] for outgoing in events} == set(TYPES)
    settings = Settings(event_format="cloudevents", mqtt_client=client, client_id="ward-3")
    # As an event is that carries on a trace.
    batch = [replace(o, user_properties=(("traceparent", _TRACEPARENT),)) if o.payload else o for o in plain]
    got = await published(mosquitto, batch, settings, mqtt_5=mqtt_5)
    assert [str(message.topic) for message in got] == [outgoing.topic for outgoing in plain]
    for message, outgoing in zip(got, plain, strict=True):
        assert isinstance(message.payload, bytes)
        if not outgoing.payload:
            # What takes a retained state back must stay empty.
            assert message.payload == b""
            continue
        attributes = as_binary(message) if mqtt_5 else as_structured(message)
        data = attributes.pop("data")
        document = json.loads(outgoing.payload)
        assert data == document
        assert attributes == {
            "specversion": "1.0",
            "id": document["id"],
            "source": "/har/service/ward-3",
            "type": TYPES[document["type"]],
            "subject": "wrist",
            "time": attributes["time"],
            "datacontenttype": "application/json",
            "traceparent": _TRACEPARENT,
        }
        microseconds = round(datetime.fromisoformat(attributes["time"]).timestamp() * 1e6)
        assert microseconds == document["decided_ns"] // 1000


def as_binary(message: aiomqtt.Message) -> dict[str, Any]:
    """Attributes and data of a message in binary mode: attributes are user properties, each of them once."""
    properties: list[tuple[str, str]] = message.properties.UserProperty  # type: ignore[union-attr]
    content_type: str = message.properties.ContentType  # type: ignore[union-attr]
    assert len(dict(properties)) == len(properties)
    attributes: dict[str, Any] = {**dict(properties), "datacontenttype": content_type}
    assert isinstance(message.payload, bytes)
    attributes["data"] = json.loads(message.payload)
    jsonschema.validate(attributes, _ATTRIBUTES)
    read = CloudEvent(
        {
            key: datetime.fromisoformat(value) if key == "time" else value
            for key, value in attributes.items()
            if key != "data"
        },
        attributes["data"],
    )
    assert read.get_id() == attributes["id"]
    return attributes


def as_structured(message: aiomqtt.Message) -> dict[str, Any]:
    """Attributes and data of a message in structured mode; MQTT 3.1.1 says nothing of it but the payload."""
    assert not hasattr(message.properties, "UserProperty")
    assert not hasattr(message.properties, "ContentType")
    assert isinstance(message.payload, bytes)
    attributes: dict[str, Any] = json.loads(message.payload)
    jsonschema.validate(attributes, _ATTRIBUTES)
    assert "data" in attributes
    read = JSONFormat().read(None, message.payload)
    assert (read.get_id(), read.get_source()) == (attributes["id"], attributes["source"])
    return attributes


@EVERY
async def test_plain_events_stay_plain(
    mosquitto: Mosquitto, posture: ModelBundle, client: Client, *, mqtt_5: bool
) -> None:
    plain = publications(posture)
    got = await published(mosquitto, plain, Settings(mqtt_client=client), mqtt_5=mqtt_5)
    assert [message.payload for message in got] == [outgoing.payload for outgoing in plain]
    assert not any(hasattr(message.properties, "UserProperty") for message in got)


@pytest.mark.parametrize("mqtt_5", [True, False])
def test_only_events_are_cloud_events_and_repeats_are_the_same(posture: ModelBundle, *, mqtt_5: bool) -> None:
    dress = as_cloud_events("har-stream", mqtt_5=mqtt_5)
    others = [
        Outgoing(topics.status("har-stream"), b"online", retain=True),
        Outgoing(topics.synced("har-stream"), b"token"),
        Outgoing(topics.output("wrist", "health"), b"{}", retain=True),
        Outgoing("homeassistant/device/har_wrist/config", b"{}", retain=True),
    ]
    assert [dress(outgoing) for outgoing in others] == others
    first, *_ = publications(posture)
    assert dress(first) == dress(replace(first))
