"""docs/asyncapi.yaml says what the code does: its channels, limits and fields, and every example runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml

from streamer.cloudevents import ENVELOPE_TYPE, as_cloud_events
from streamer.errors import PayloadError
from streamer.home_assistant import birth_topics, config_topic, discovery, object_id
from streamer.mqtt.connection import Outgoing
from streamer.wire import json_imu, readings, topics
from streamer.wire.events import SCHEMA, ActivityEvent, EventType, Reason, encode_event
from streamer.wire.health import Health, decode_health, encode_health
from streamer.wire.payload import MAX_BYTES, Message, Sent, decode, read

DOCUMENT: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
)
CHANNELS: dict[str, Any] = DOCUMENT["channels"]
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
EVENT_FIELDS: dict[str, Any] = SCHEMAS["ActivityEvent"]["properties"]


def examples(*names: str) -> list[Any]:
    return [
        pytest.param(example["payload"], id=f"{name}-{example.get('name', '')}")
        for name in names
        for example in MESSAGES[name]["examples"]
    ]


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_channels_are_the_topics() -> None:
    assert {name: channel["address"] for name, channel in CHANNELS.items()} == {
        "imu": topics.imu("{device}"),
        "part": topics.part("{device}", "{part}"),
        "sensorLogger": topics.SENSOR_LOGGER,
        "activity": topics.output("{device}", "activity"),
        "event": topics.output("{device}", "event"),
        "window": topics.output("{device}", "window"),
        "health": topics.output("{device}", "health"),
        "discovery": config_topic("{prefix}", "{id}").replace(object_id("{id}"), "{id}"),
        "birth": birth_topics("{prefix}")[0],
        "status": topics.status("{client}"),
        "sync": topics.sync("{token}"),
        "synced": topics.synced("{client}"),
    }


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        node: Any = DOCUMENT
        for key in reference.removeprefix("#/").split("/"):
            node = node[key]
        assert node, reference


def test_every_message_has_an_example() -> None:
    assert [name for name, message in MESSAGES.items() if not message.get("examples")] == []


@pytest.mark.parametrize("example", examples("readingsJson"))
def test_json_example_is_read(example: dict[str, Any]) -> None:
    got = decode("watch-7", json.dumps(example).encode(), MESSAGES["readingsJson"]["contentType"])
    assert got.seq == example.get("seq")
    assert got.rate_hz == example.get("rate_hz")
    assert int(got.t_ns[0]) == 1_700_000_000_000_000_000
    for sensor, values in (("acc", got.acc), ("gyro", got.gyro)):
        if values is None:
            assert f"{sensor}_x" not in example
        else:
            columns = [example[f"{sensor}_{axis}"] for axis in "xyz"]
            assert values.T.tolist() == [column if isinstance(column, list) else [column] for column in columns]


@pytest.mark.parametrize(
    ("example", "want"),
    list(
        zip(
            [example["payload"] for example in MESSAGES["readingsCbor"]["examples"]],
            [
                {
                    "rate_hz": 50.0,
                    "seq": 7,
                    "times": [0, 20_000_000],
                    "acc": [0.5, -1.25, 9.75],
                    "gyro": [0.125, 0, -0.25],
                },
                {"rate_hz": None, "seq": None, "times": [0, 20_000_000], "acc": [0.5, -1.25, 9.75], "gyro": None},
                {"rate_hz": None, "seq": None, "times": [0], "acc": None, "gyro": [0.125, 0, -0.25]},
            ],
            strict=True,
        )
    ),
)
def test_cbor_example_is_read(example: str, want: dict[str, Any]) -> None:
    got = decode("watch-7", bytes.fromhex(example), MESSAGES["readingsCbor"]["contentType"])
    assert {
        "rate_hz": got.rate_hz,
        "seq": got.seq,
        "times": (got.t_ns - 1_700_000_000_000_000_000).tolist(),
        "acc": None if got.acc is None else got.acc[0].tolist(),
        "gyro": None if got.gyro is None else got.gyro[0].tolist(),
    } == want


@pytest.mark.parametrize("example", examples("sensorLogger", "phyphox", "sensorLog", "senml"))
def test_example_of_another_program_is_read(example: object) -> None:
    got = read(Message(topics.imu("watch-7"), json.dumps(example).encode()))
    assert isinstance(got, Sent)
    assert got.device_id == "watch-7"
    since_1970_ns = [int(stream.t_ns[0]) + (got.start_ns or 0) for stream in got.streams]
    assert all(abs(t_ns - 1_700_000_000_000_000_000) < 10**9 for t_ns in since_1970_ns)


def test_examples_of_programs_that_use_several_topics_are_read() -> None:
    column, notification = (MESSAGES[name]["examples"][0]["payload"] for name in ("phyphoxColumn", "movesense"))
    got = read(Message(topics.part("watch-7", "acc_x"), column.encode()))
    assert isinstance(got, Sent)
    assert got.column is not None
    assert got.column[1].tolist() == [0.1, 0.2, 0.1]
    got = read(Message(topics.part("watch-7", "Meas/Acc/52"), bytes.fromhex(notification)))
    assert isinstance(got, Sent)
    assert got.streams[0].t_ns.tolist() == [605_000_000]
    assert got.streams[0].values.tolist() == [[0.5, -1.25, 9.75]]


@pytest.mark.parametrize("example", examples("state", "start", "end", "window"))
def test_event_example_is_what_is_published(example: dict[str, Any]) -> None:
    event = msgspec.json.decode(json.dumps(example).encode(), type=ActivityEvent, strict=True)
    assert json.loads(encode_event(event)) == example
    assert event.schema == SCHEMA


def test_event_examples_stand_on_their_channels() -> None:
    for channel, kinds in {"activity": {"state"}, "event": {"start", "end"}, "window": {"window"}}.items():
        documents = [
            example["payload"]
            for message in CHANNELS[channel]["messages"]
            if message != "cloudEvent"
            for example in MESSAGES[message]["examples"]
        ]
        assert {document["type"] for document in documents if document} == kinds


def test_cloud_event_example_is_what_is_published() -> None:
    (example,) = MESSAGES["cloudEvent"]["examples"]
    (start,) = MESSAGES["start"]["examples"]
    plain = Outgoing(topics.output("watch-7", "event"), json.dumps(start["payload"]).encode())
    dressed = as_cloud_events("har-stream", mqtt_5=False)(plain)
    assert json.loads(dressed.payload) == example["payload"]
    assert MESSAGES["cloudEvent"]["contentType"] == ENVELOPE_TYPE


@pytest.mark.parametrize("example", examples("health"))
def test_health_example_is_what_is_published(example: dict[str, Any]) -> None:
    assert json.loads(encode_health(decode_health(json.dumps(example).encode()))) == example
    assert SCHEMAS["Health"]["properties"].keys() == {field.name for field in msgspec.structs.fields(Health)}
    assert SCHEMAS["Health"]["properties"]["schema"]["const"] == example["schema"]


def test_discovery_example_is_what_is_published() -> None:
    (example,) = (example["payload"] for example in MESSAGES["discovery"]["examples"])
    activities = example["cmps"]["activity"]["ops"][:-1]
    outgoing = discovery(
        "watch-7",
        prefix="homeassistant",
        client_id="har-stream",
        model="uci-har-lstm",
        activities=activities,
        version="0.1.0",
    )
    document = json.loads(outgoing.payload)
    assert len(document["cmps"]) == 5
    assert document | {"cmps": {"activity": document["cmps"]["activity"]}} == example


def test_event_schema_is_the_struct() -> None:
    fields = msgspec.structs.fields(ActivityEvent)
    assert set(SCHEMAS["ActivityEvent"]["required"]) == {field.name for field in fields if field.required}
    assert EVENT_FIELDS.keys() == {field.name for field in fields}
    assert EVENT_FIELDS["schema"]["const"] == SCHEMA
    assert EVENT_FIELDS["type"]["enum"] == list(get_args(EventType))
    assert EVENT_FIELDS["reason"]["enum"] == list(get_args(Reason))


def test_readings_schema_is_the_decoders() -> None:
    fields = {field.name for field in msgspec.structs.fields(json_imu._Document)}  # the decoder's own list of keys
    assert SCHEMAS["ReadingsJson"]["properties"].keys() == fields
    cddl = MESSAGES["readingsCbor"]["payload"]["schema"]
    for key in ("t_ns", "t0_ns", "rate_hz", "acc", "gyro", "seq", "device"):
        assert f"{key}: " in cddl


def test_limits_are_the_decoders() -> None:
    assert SCHEMAS["Time"]["maximum"] == readings.MAX_T_NS - 1
    for column in SCHEMAS["Column"]["oneOf"][0], SCHEMAS["Column"]["oneOf"][1]["items"]:
        assert (column["minimum"], column["maximum"]) == (-readings.MAX_MAGNITUDE, readings.MAX_MAGNITUDE)
    assert SCHEMAS["Column"]["oneOf"][1]["maxItems"] == readings.MAX_READINGS
    properties = SCHEMAS["ReadingsJson"]["properties"]
    assert properties["t_ns"]["oneOf"][1]["maxItems"] == readings.MAX_READINGS
    rate = properties["rate_hz"]
    assert (rate["minimum"], rate["maximum"]) == (readings.MIN_RATE_HZ, readings.MAX_RATE_HZ)
    for limit in (MAX_BYTES, readings.MAX_READINGS):
        assert f"{limit:,}" in SCHEMAS["ReadingsJson"]["description"]


def test_device_names_are_described_as_they_are_checked() -> None:
    assert "1 to 64 of `A-Z a-z 0-9 . _ : @ -`" in DOCUMENT["info"]["description"]
    assert topics.device_of(topics.imu("aZ09._:@-")) == "aZ09._:@-"
    with pytest.raises(PayloadError):
        topics.device_of(topics.imu("a" * 65))
