"""Watches as devices of Home Assistant: the real service, a real Mosquitto, and tests/home_assistant.py for the hub."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from streamer.imu import ImuBatch
from streamer.wire import topics
from streamer.wire.payload import encode_cbor
from tests.bundles import make_bundle
from tests.home_assistant import Hub
from tests.motion import still
from tests.programs import HarStream, simulator
from tests.servers import HOST, Mosquitto, wait_until

#: With every sort of letter that an id there may not have; of the first of two workers, whereas home/hub/status is of
#: the second, by the level of it that would name a device.
WATCH: Final = "nurse@ward.3:left_a"
FAR_S: Final = ("--silence", "1000", "--evict-after", "2000")

Start = Callable[..., HarStream]


@pytest.fixture
def start(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Start]:
    """Starts services that tell Home Assistant; all end with the test."""
    started: list[HarStream] = []

    def start(*arguments: str, state: Path | None = None, workers: int = 1) -> HarStream:
        address = ("--broker", mosquitto.host, "--port", str(mosquitto.port), "--home-assistant")
        name = f"service{len(started)}"
        service = HarStream(tmp_path, *address, *arguments, name=name, state=state, workers=workers)
        started.append(service)
        service.wait_ready()
        return service

    yield start
    for service in started:
        service.kill()


@pytest.fixture
def connect_hub(mosquitto: Mosquitto) -> Iterator[Callable[..., Hub]]:
    """Connects hubs; none of them may have to refuse anything."""
    hubs: list[Hub] = []

    def connect(prefix: str = "homeassistant") -> Hub:
        hubs.append(Hub(mosquitto.host, mosquitto.port, prefix=prefix))
        return hubs[-1]

    yield connect
    for hub in hubs:
        hub.close()
        assert hub.refused == []


def send(mosquitto: Mosquitto, *batches: ImuBatch) -> None:
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect(mosquitto.host, mosquitto.port)
    client.loop_start()
    for batch in batches:
        client.publish(topics.imu(batch.device_id), encode_cbor(batch), qos=1).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()


def retained(mosquitto: Mosquitto) -> set[str]:
    command = ["mosquitto_sub", "-h", HOST, "-p", str(mosquitto.port), "-t", "#", "-F", "%t", "--retained-only"]
    done = subprocess.run([*command, "-W", "1"], capture_output=True, text=True, check=False)
    return set(done.stdout.split())


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(item in rest for item in part)


@pytest.mark.usefixtures("data_dir")
def test_sensors_follow_a_replay_through_silence_until_the_watch_is_forgotten(
    mosquitto: Mosquitto, start: Start, connect_hub: Callable[..., Hub]
) -> None:
    hub = connect_hub()
    service = start("--model", "uci-har-cnn", "--silence", "2", "--evict-after", "5")
    address = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
    began = datetime.now(UTC)
    simulator("hapt", "--subject", "2", *address, "--speed", "max", "--format", "cbor")
    wait_until(lambda: len(hub.history) == 10 and not hub.devices, "seen, and forgotten", within_s=30)
    for device in ("hapt-exp03", "hapt-exp04"):
        past = {
            key: hub.history[device, key] for key in ("activity", "confidence", "rate", "completeness", "last_seen")
        }
        # The hub is told of the latest state only, ten times a second: some in between are passed over.
        states = [event.activity for event in service.events if event.device == device and event.type == "state"]
        told = [activity for activity in past["activity"] if activity != "unavailable"]
        assert is_subsequence(told, ["unknown", *states])
        assert told[-1] == states[-1]
        # Nobody walks for ever: an empty message, which the hub passes over, takes the activity back.
        assert [shown[-1] for key, shown in past.items() if key != "last_seen"] == ["unavailable"] * 4
        assert all(0 <= float(shown) <= 100 for shown in past["confidence"] if shown not in {"unavailable", "unknown"})
        assert "50.0" in past["rate"]
        assert "100.0" in past["completeness"]
        seen = datetime.fromisoformat(past["last_seen"][-1])
        assert timedelta(seconds=-1) < seen - began < timedelta(seconds=60)
    assert service.metric("har_evictions_total", reason="age") == 2
    assert service.metric("har_home_assistant_documents_total", kind="removal") == 2
    assert retained(mosquitto) == {topics.status("har-stream")}


@pytest.mark.parametrize(
    ("options", "prefix", "keeps"),
    [
        (("--home-assistant-prefix", "home/hub"), "home/hub", True),
        (("--mqtt-client", "aiomqtt"), "homeassistant", False),
    ],
    ids=["two workers, another prefix", "no state"],
)
def test_a_watch_stays_known_over_restarts_of_either_side(
    mosquitto: Mosquitto,
    start: Start,
    connect_hub: Callable[..., Hub],
    tmp_path: Path,
    *,
    options: tuple[str, ...],
    prefix: str,
    keeps: bool,
) -> None:
    make_bundle(tmp_path / "posture")
    options = ("--model", str(tmp_path / "posture"), *options, *FAR_S)
    keeping: dict[str, Any] = {"state": tmp_path / "state", "workers": 2} if keeps else {}
    hub = connect_hub(prefix=prefix)
    service = start(*options, **keeping)
    send(mosquitto, still("lying", 3, device=WATCH))
    wait_until(lambda: hub.shown(WATCH).get("activity") == "lying", "lying")

    # Another Home Assistant, or the same one anew: told again, besides what is retained.
    hub.restarted()
    wait_until(lambda: len(hub.told_again) == 1, "told again")
    late = connect_hub(prefix=prefix)
    wait_until(lambda: late.shown(WATCH).get("activity") == "lying", "a late hub")

    assert service.stop(signal.SIGTERM) == 0
    wait_until(lambda: set(hub.shown(WATCH).values()) == {"unavailable"}, "stopped")
    hub.told_again.clear()
    service = start(*options, **keeping)
    if keeps:
        # It goes on where it stopped.
        wait_until(lambda: hub.shown(WATCH)["activity"] == "lying" and bool(hub.told_again), "available again")
    else:
        wait_until(lambda: hub.shown(WATCH)["last_seen"] != "unavailable", "available again")
        # Nothing was heard of it by this process.
        wait_until(lambda: hub.shown(WATCH)["activity"] == "unavailable", "silent")
    send(mosquitto, still("sitting", 3, start_s=3, device=WATCH))
    wait_until(lambda: hub.shown(WATCH)["activity"] == "sitting", "sitting")

    service.kill()
    wait_until(lambda: set(hub.shown(WATCH).values()) == {"unavailable"}, "offline, by its last will")
    assert hub.devices

    # Once more, and the watch doesn't come back: whether or not this process ever knew it, it is removed.
    service = start(*options[:-4], "--silence", "0.5", "--evict-after", "1", **keeping)
    wait_until(lambda: not hub.devices, "removed", within_s=20)
    if keeps:
        assert {topic.rpartition("/")[2] for topic in retained(mosquitto)} == {"status"}
    assert service.stop() == 0
