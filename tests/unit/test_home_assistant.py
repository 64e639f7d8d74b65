"""What Home Assistant is told of a watch: ids, documents, and how much of it at a time."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.announcer import Announcer
from streamer.bundle import ModelBundle, load_bundle, shipped_bundles
from streamer.config import Settings
from streamer.home_assistant import birth_topics, config_topic, discovery, object_id
from streamer.metrics import Metrics
from streamer.mqtt.connection import Outgoing
from streamer.recognizer import Recognizer
from streamer.session import Session
from streamer.vitals import Vitals
from streamer.watches import Limits
from streamer.wire import topics
from streamer.wire.health import Health, decode_health, encode_health, health_of, seen_ns, silenced
from streamer.wire.payload import Message, encode_cbor
from tests.bundles import START_NS, make_bundle
from tests.home_assistant import render, sensors
from tests.motion import SECOND, still

NAMES: Final = st.from_regex(topics.DEVICE_NAME, fullmatch=True)
WALKING: Final = Vitals(
    is_alive=True, heard_ns=START_NS, activity="walking", confidence=0.93754, rate_hz=49.98731, completeness=0.96
)


def document(device: str, bundle: ModelBundle) -> Outgoing:
    return discovery(
        device,
        prefix="homeassistant",
        client_id="har-stream",
        model=bundle.manifest.name,
        activities=bundle.labels,
        version="0.1.0",
    )


def test_another_prefix_leaves_the_birth_message_where_it_is_by_default() -> None:
    assert birth_topics("homeassistant") == ("homeassistant/status",)
    assert birth_topics("home/hub") == ("home/hub/status", "homeassistant/status")


@given(NAMES, NAMES)
def test_an_id_has_only_letters_that_it_may_have_and_no_two_watches_share_one(one: str, other: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", object_id(one))
    assert (object_id(one) == object_id(other)) == (one == other)


@pytest.mark.parametrize("pair", [("a.b", "a_2eb"), ("a:b", "a_b"), ("a@b", "a-b"), ("a_3ab", "a:b")])
def test_names_that_look_like_others_escaped_keep_apart(pair: tuple[str, str]) -> None:
    assert len({config_topic("homeassistant", name) for name in pair}) == 2


def templates(device: str) -> list[str]:
    outgoing = discovery(device, prefix="p", client_id="c", model="m", activities=("walking",), version="0")
    document = json.loads(outgoing.payload)
    parts = [document, *document["cmps"].values()]
    return [part["val_tpl"] for part in (*parts[1:], *(entry for part in parts for entry in part.get("avty", ())))]


@given(NAMES)
def test_no_name_of_a_watch_gets_into_a_template(name: str) -> None:
    assert templates(name) == templates("wrist")
    assert len(templates(name)) == 8


@pytest.mark.parametrize("model", sorted(shipped_bundles()))
def test_discovery_is_what_home_assistant_takes(model: str) -> None:
    bundle = load_bundle(shipped_bundles()[model])
    outgoing = document("nurse@ward.3", bundle)
    assert outgoing.retain
    found = sensors(outgoing.topic, outgoing.payload)
    own = object_id("nurse@ward.3")
    assert found.keys() == {f"{own}_{key}" for key in ("activity", "confidence", "rate", "completeness", "last_seen")}
    assert found[f"{own}_activity"]["options"] == [*bundle.labels, "unknown"]
    diagnostic = {key for key, sensor in found.items() if sensor.get("entity_category") == "diagnostic"}
    assert diagnostic == {f"{own}_{key}" for key in ("rate", "completeness", "last_seen")}


@pytest.mark.parametrize(
    ("vitals", "expected"),
    [
        (WALKING, ["walking", "93.8", "49.99", "96.0", "2023-11-14T22:13:20Z"]),
        # What renders to None is unknown to Home Assistant.
        (
            Vitals(
                is_alive=True, heard_ns=START_NS, activity="unknown", confidence=None, rate_hz=None, completeness=None
            ),
            ["unknown", "None", "None", "None", "2023-11-14T22:13:20Z"],
        ),
    ],
)
def test_templates_show_what_the_health_document_says(vitals: Vitals, expected: list[str]) -> None:
    bundle = load_bundle(shipped_bundles()["uci-har-cnn"])
    outgoing = document("wrist", bundle)
    payload = encode_health(health_of("wrist", "har-stream", vitals))
    found = sensors(outgoing.topic, outgoing.payload).values()
    assert {sensor["state_topic"] for sensor in found} == {"har/v1/wrist/health"}
    assert [render(sensor["value_template"], payload) for sensor in found] == expected


@pytest.mark.parametrize(
    ("status", "available"), [("online", "online"), ("stopped", "offline"), ("offline", "offline"), ("", "offline")]
)
def test_the_services_status_is_its_sensors_availability(status: str, available: str) -> None:
    outgoing = document("wrist", load_bundle(shipped_bundles()["uci-har-cnn"]))
    for sensor in sensors(outgoing.topic, outgoing.payload).values():
        (template,) = {e["value_template"] for e in sensor["availability"] if e["topic"] == topics.status("har-stream")}
        assert render(template, status.encode()) == available


def test_a_silent_watch_does_nothing_that_is_known() -> None:
    health = health_of("wrist", "har-stream", WALKING)
    assert decode_health(encode_health(health)) == health
    assert seen_ns(health) == START_NS
    silent = silenced(health)
    assert (silent.alive, silent.activity, silent.confidence, silent.last_seen) == (
        False,
        "unknown",
        None,
        health.last_seen,
    )
    assert silent == health_of(
        "wrist",
        "har-stream",
        Vitals(is_alive=False, heard_ns=START_NS, activity="walking", confidence=1, rate_hz=1, completeness=1),
    )


class Told(Session):
    """A session that keeps what is published in it, and brings what a broker would hold."""

    def __init__(self, announcer: Announcer, held: Sequence[Message] = ()) -> None:
        self.batches: list[list[Outgoing]] = []
        self._announcer = announcer
        self._held = held

    async def publish(self, batch: Sequence[Outgoing]) -> int:
        self.batches.append(list(batch))
        return 0

    async def listen(self, filters: object) -> None:
        if filters == [topics.HEALTH_FILTER]:
            for message in self._held:
                self._announcer.take(message)

    async def ignore(self, filters: object) -> None:
        pass

    async def ping(self) -> None:
        pass


@pytest.fixture(scope="module")
def posture(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return make_bundle(tmp_path_factory.mktemp("posture"))


def announcer(bundle: ModelBundle, watches: int) -> Announcer:
    recognizer = Recognizer(bundle, limits=Limits(max_watches=5000))
    for number in range(watches):
        batch = still("lying", 1.0, device=f"watch-{number}")
        recognizer.process([Message(topics.imu(batch.device_id), encode_cbor(batch))], START_NS + 2 * SECOND)
    metrics = Metrics(activities=[], model="test", model_digest=bundle.digest)
    return Announcer(Settings(home_assistant=True), recognizer, metrics, version="0.1.0")


async def told_within(session: Told, announcer: Announcer, *, seconds: float) -> list[Outgoing]:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(announcer.run(session), seconds)
    return [outgoing for batch in session.batches for outgoing in batch]


async def test_a_fleet_is_told_of_little_by_little(posture: ModelBundle) -> None:
    told = announcer(posture, 300)
    session = Told(told)
    documents = await told_within(session, told, seconds=0.35)
    # 200 documents a second at most: batches of 20, a tenth of a second between them.
    assert [len(batch) for batch in session.batches] == [20] * len(session.batches)
    assert 1 <= len(session.batches) <= 4
    assert len({outgoing.topic for outgoing in documents}) == len(documents)


def held(device: str, **changes: object) -> Message:
    document = {
        **{f: getattr(health_of(device, "har-stream", WALKING), f) for f in Health.__struct_fields__},
        **changes,
    }
    return Message(topics.output(device, "health"), encode_health(Health(**document)))


async def test_of_what_an_earlier_process_left_only_its_own_is_taken(posture: ModelBundle) -> None:
    told = announcer(posture, 1)
    session = Told(
        told,
        [
            # Followed still; last seen in 2023, so forgotten at once; seen just now; another service's; and rubbish.
            held("watch-0"),
            held("long-ago"),
            held("just-now", last_seen="2100-01-01T00:00:00Z"),
            held("elsewhere", client="other"),
            Message(topics.output("misfiled", "health"), held("named-otherwise").payload),
            Message(topics.output("rubbish", "health"), b"\xff{"),
            Message(topics.output("timeless", "health"), held("timeless", last_seen="when?").payload),
            Message(topics.output("zoneless", "health"), held("zoneless", last_seen="2023-11-14T22:13:20").payload),
            Message(topics.output("newer", "health"), held("newer", schema=2).payload),
            Message(topics.output("cleared", "health"), b""),
        ],
    )
    documents = await told_within(session, told, seconds=1.5)
    by_topic = {outgoing.topic: outgoing.payload for outgoing in documents}
    assert by_topic.keys() == {
        *(topics.output(name, "health") for name in ("watch-0", "just-now", "long-ago")),
        *(config_topic("homeassistant", name) for name in ("watch-0", "long-ago")),
    }
    assert decode_health(by_topic[topics.output("watch-0", "health")]).alive
    assert not decode_health(by_topic[topics.output("just-now", "health")]).alive
    # Its sensors go before what they read.
    emptied = [outgoing.topic for outgoing in documents if not outgoing.payload]
    assert emptied == [config_topic("homeassistant", "long-ago"), topics.output("long-ago", "health")]
