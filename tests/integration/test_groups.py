"""Groups of activities on real recordings: the default model, made to tell them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from simulator.datasets import fitbit, wisdm
from streamer.bundle import ModelBundle, load_bundle, save_bundle
from streamer.recognizer import Recognizer
from streamer.recording import Recording
from streamer.wire.events import ActivityEvent, encode_event
from tests.home_assistant import Hub
from tests.programs import HarStream, simulator
from tests.servers import Mosquitto, wait_until


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """The default model, with groups."""
    shipped = load_bundle("wisdm-watch-cnn")
    smoothing = msgspec.structs.replace(shipped.manifest.smoothing, group_enter=0.8, group_leave=0.5)
    manifest = msgspec.structs.replace(shipped.manifest, smoothing=smoothing, name="with-groups")
    return save_bundle(tmp_path_factory.mktemp("b") / "with-groups", manifest, shipped.model, shipped.golden)


def recognized(bundle: ModelBundle, recording: Recording, *, at_once: int = 1) -> list[ActivityEvent]:
    recognizer = Recognizer(bundle, every_window=True)
    messages = list(recording.messages(20))
    calls = [messages[first : first + at_once] for first in range(0, len(messages), at_once)]
    events = [event for call in calls for event in recognizer.recognize(call, 0).events]
    return [*events, *recognizer.finish("end_of_recording").events]


def test_events_with_groups_are_the_same_however_messages_are_grouped(bundle: ModelBundle, data_dir: Path) -> None:
    (recording,) = wisdm.read_recordings(data_dir, subjects={"1628"})
    events = recognized(bundle, recording)
    # The person whom the model finds hardest: much is told by group.
    told = {event.activity for event in events if event.type == "start"}
    assert {"still", "eating", "moving"} <= told
    for event in events:
        if event.activity in bundle.groups:
            assert event.groups[-1] == event.activity
            assert event.type in {"start", "end", "state"}
            assert event.reason in {None, "changed", "gap", "end_of_recording"}
        assert event.groups[:1] in {("moving",), ("still",), ()}
    again = recognized(bundle, recording, at_once=97)
    assert [encode_event(event) for event in again] == [encode_event(event) for event in events]


def test_groups_only_take_the_place_of_unknown(bundle: ModelBundle, data_dir: Path) -> None:
    (recording,) = fitbit.read_recordings(data_dir)
    with_groups = [e for e in recognized(bundle, recording) if e.type == "start"]
    without = [e for e in recognized(load_bundle("wisdm-watch-cnn"), recording) if e.type == "start"]
    activities = {(e.activity, e.onset_ns) for e in without if e.activity != "unknown"}
    assert {
        (e.activity, e.onset_ns) for e in with_groups if e.activity not in {*bundle.groups, "unknown"}
    } == activities
    unknown = [sum(e.activity == "unknown" for e in starts) for starts in (without, with_groups)]
    assert unknown[0] > 2 * unknown[1]


@pytest.fixture
def hub(mosquitto: Mosquitto) -> Iterator[Hub]:
    hub = Hub(mosquitto.host, mosquitto.port)
    yield hub
    hub.close()


@pytest.mark.usefixtures("data_dir")
def test_a_group_is_told_on_every_surface(bundle: ModelBundle, mosquitto: Mosquitto, hub: Hub, tmp_path: Path) -> None:
    save_bundle(tmp_path / "with-groups", bundle.manifest, bundle.model, bundle.golden)
    heard: dict[str, list[bytes]] = {}
    listener = Client(CallbackAPIVersion.VERSION2)
    listener.on_message = lambda _client, _data, message: heard.setdefault(message.topic, []).append(
        bytes(message.payload)
    )
    listener.connect(mosquitto.host, mosquitto.port)
    listener.subscribe("har/v1/#")
    listener.loop_start()
    address = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
    service = HarStream(tmp_path, *address, "--model", str(tmp_path / "with-groups"), "--home-assistant")
    try:
        service.wait_ready()
        # To the middle of the second activity: sitting, the first window of which could be several things at rest.
        simulator("fitbit", *address, "--speed", "max", "--duration", "75", "--format", "cbor")
        wait_until(lambda: service.metric("har_active_devices", activity="still") == 1, "still")
        assert service.metric("har_events_total", activity="still", type="start") == 2
        assert service.metric("har_active_devices", activity="unknown") == 0
        last = json.loads(heard["har/v1/fitbit/activity"][-1])
        assert (last["activity"], last["groups"], last["type"]) == ("still", ["still"], "state")
        # Home Assistant passes over what is none of a sensor's options.
        wait_until(lambda: hub.shown("fitbit").get("activity") == "still", "still in Home Assistant")
        assert json.loads(heard["har/v1/fitbit/health"][-1])["groups"] == ["still"]
        options = [
            sensor.config["options"]
            for own in hub.devices.values()
            for key, sensor in own.items()
            if key.endswith("activity")
        ]
        assert options == [list(bundle.activities)]
        assert hub.refused == []
        assert service.stop() == 0
    finally:
        service.kill()
        listener.disconnect()
        listener.loop_stop()
