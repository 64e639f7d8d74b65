"""Groups of activities on real recordings: the default model, made to tell many of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from simulator.datasets import fitbit, wisdm
from streamer.bundle import ModelBundle, Smoothing, load_bundle, save_bundle
from streamer.recognizer import Recognizer
from streamer.recording import Recording
from streamer.wire.events import ActivityEvent, encode_event
from tests.home_assistant import Hub
from tests.programs import HarStream, simulator
from tests.servers import Mosquitto, wait_until


def hesitant(folder: Path, *, enter: float, group_enter: float | None) -> ModelBundle:
    """The default model, which has to be as sure as that of an activity to tell it, and so of a group."""
    shipped = load_bundle("wisdm-watch-cnn")
    smoothing = Smoothing(weight=0.5, enter=enter, leave=enter, dwell=1, group_enter=group_enter, group_leave=0.5)
    manifest = msgspec.structs.replace(shipped.manifest, smoothing=smoothing, name="hesitant")
    return save_bundle(folder, manifest, shipped.model, shipped.golden)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return hesitant(tmp_path_factory.mktemp("groups") / "hesitant", enter=0.9, group_enter=0.8)


def recognized(bundle: ModelBundle, recording: Recording, *, at_once: int = 1) -> list[ActivityEvent]:
    recognizer = Recognizer(bundle, every_window=True)
    messages = list(recording.messages(20))
    calls = [messages[first : first + at_once] for first in range(0, len(messages), at_once)]
    events = [event for call in calls for event in recognizer.recognize(call, 0).events]
    return [*events, *recognizer.finish("end_of_recording").events]


def test_events_with_groups_are_the_same_however_messages_are_grouped(bundle: ModelBundle, data_dir: Path) -> None:
    (recording,) = wisdm.read_recordings(data_dir, subjects={"1628"})
    events = recognized(bundle, recording)
    told = {event.activity for event in events if event.type == "start"}
    assert {"still", "eating", "moving", "sitting"} <= told
    for event in events:
        if event.activity in bundle.groups:
            assert event.groups[-1] == event.activity
            assert event.type in {"start", "end", "state"}
            assert event.reason in {None, "changed", "gap", "end_of_recording"}
        assert event.groups[:1] in {("moving",), ("still",), ()}
    again = recognized(bundle, recording, at_once=97)
    assert [encode_event(event) for event in again] == [encode_event(event) for event in events]


def test_groups_only_take_the_place_of_unknown(bundle: ModelBundle, data_dir: Path, tmp_path: Path) -> None:
    (recording,) = fitbit.read_recordings(data_dir)
    plain = hesitant(tmp_path / "plain", enter=0.9, group_enter=None)
    without, with_groups = ([e for e in recognized(b, recording) if e.type == "start"] for b in (plain, bundle))
    told = [
        [(e.activity, e.onset_ns) for e in starts if e.activity in bundle.labels] for starts in (without, with_groups)
    ]
    assert told[0] == told[1]
    assert {e.activity for e in without} - set(bundle.labels) == {"unknown"}
    unknown = [sum(e.activity == "unknown" for e in starts) for starts in (without, with_groups)]
    assert unknown[0] > 2 * unknown[1]
    assert {"still", "moving"} <= {e.activity for e in with_groups}


@pytest.fixture
def hub(mosquitto: Mosquitto) -> Iterator[Hub]:
    hub = Hub(mosquitto.host, mosquitto.port)
    yield hub
    hub.close()


@pytest.mark.usefixtures("data_dir")
def test_a_group_is_told_on_every_surface(mosquitto: Mosquitto, hub: Hub, tmp_path: Path) -> None:
    # Sure of no activity ever.
    bundle = hesitant(tmp_path / "hesitant", enter=1.0, group_enter=0.7)
    heard: dict[str, list[bytes]] = {}
    listener = Client(CallbackAPIVersion.VERSION2)
    listener.on_message = lambda _client, _data, message: heard.setdefault(message.topic, []).append(
        bytes(message.payload)
    )
    listener.connect(mosquitto.host, mosquitto.port)
    listener.subscribe("har/v1/#")
    listener.loop_start()
    address = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
    service = HarStream(tmp_path, *address, "--model", str(tmp_path / "hesitant"), "--home-assistant")
    try:
        service.wait_ready()
        # To the middle of the second activity: sitting.
        simulator("fitbit", *address, "--speed", "max", "--duration", "100", "--format", "cbor")
        wait_until(lambda: service.metric("har_active_devices", activity="still") == 1, "still")
        assert service.metric("har_events_total", activity="still", type="start") >= 1
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
