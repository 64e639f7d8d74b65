"""A phone's stream through a real broker: what a real recording is recognised as, whoever sends it."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import aiomqtt
import numpy as np
import pytest

from simulator.datasets import hapt
from streamer.imu import ImuBatch
from streamer.recording import Recording
from streamer.wire import topics
from streamer.wire.events import ActivityEvent
from streamer.wire.payload import Message, encode_cbor
from tests import phones
from tests.motion import still
from tests.programs import HarStream, samples
from tests.servers import HOST, Mosquitto, free_port, wait_until

SECOND = 1_000_000_000
TOKEN = "vhqG4QnYzS1cFZkLr0aW"  # noqa: S105 # of this test alone


def as_phones_measure(recording: Recording) -> list[ImuBatch]:
    """A recording's sensors apart: the gyroscope is read 7 ms later."""
    (stream,) = recording.streams
    assert stream.acc is not None
    assert stream.gyro is not None
    later = stream.t_ns[:-1] + 7_000_000
    start_ns = int(stream.t_ns[0])
    gyro = [np.interp(later - start_ns, stream.t_ns - start_ns, column) for column in stream.gyro.T]
    return [ImuBatch("phone", stream.t_ns, stream.acc, None), ImuBatch("phone", later, None, np.stack(gyro, axis=1))]


def logged(streams: Sequence[ImuBatch], *every_ns: int, topic: str) -> list[Message]:
    """As Sensor Logger on an iPhone sends it: each sensor by itself, acceleration in g and Apple's sign."""
    sent: list[tuple[int, Message]] = []
    for stream, period_ns in zip(streams, every_ns, strict=True):
        readings = phones.logged(stream, phones.uncalibrated_of_ios)
        messages = phones.sensor_logger(readings, topic=topic, every_ns=period_ns)
        sent += [(number * period_ns, message) for number, message in enumerate(messages)]
    return [message for _, message in sorted(sent, key=lambda entry: entry[0])]


async def publish(client: aiomqtt.Client, messages: Sequence[Message], token: str, *, qos: int = 0) -> None:
    """Publish all, and wait until they are worked off."""
    await client.subscribe(topics.SYNCED_FILTER, qos=1)
    for message in messages:
        await client.publish(message.topic, message.payload, qos=qos)
    await client.publish(topics.sync(token), qos=1)
    async with asyncio.timeout(60):
        async for answer in client.messages:
            if answer.payload == token.encode():
                return


def push(url: str, message: Message) -> int:
    request = urllib.request.Request(  # noqa: S310 # http on loopback
        url, message.payload, {"Authorization": TOKEN, "Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        status: int = answer.status
    return status


def of(service: HarStream, device: str, kind: str) -> list[ActivityEvent]:
    return [event for event in service.events if event.device == device and event.type == kind]


async def test_a_phones_stream_is_recognised_as_the_same_motion_in_si(
    start_mosquitto: Callable[..., Mosquitto], tmp_path: Path, data_dir: Path
) -> None:
    recording = hapt.read_recordings(data_dir, subjects={"2"})[0]
    streams = as_phones_measure(recording)
    websockets = free_port()
    broker = start_mosquitto(f"listener {websockets} {HOST}", "protocol websockets")
    address = ("--broker", HOST, "--port", str(broker.port))
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    options = ("--model", "uci-har-cnn", "--publish", "windows", "--ingest-token-file", str(token))
    service = HarStream(tmp_path, *address, *options)
    try:
        service.wait_ready()
        si = [piece for stream in streams for piece in phones.pieces(stream, 25)]
        si.sort(key=lambda piece: int(piece.t_ns[-1]))
        async with aiomqtt.Client(HOST, broker.port) as client:
            await publish(client, [Message(topics.imu("si"), encode_cbor(piece)) for piece in si], "si")
        # Messages of a half and of three tenths of a second, on the app's own topic, over WebSockets as the app speaks.
        messages = logged(streams, SECOND // 2, 3 * SECOND // 10, topic=topics.SENSOR_LOGGER)
        async with aiomqtt.Client(HOST, websockets, transport="websockets") as client:
            await publish(client, messages, "phone")
        # The first two minutes again, pushed over HTTP.
        first = [stream[:6000] for stream in streams]
        pushed = [push(f"{service.url}/ingest/pushed", m) for m in logged(first, 7 * SECOND, 7 * SECOND, topic="")]
        assert pushed == [202] * 36
        async with aiomqtt.Client(HOST, broker.port) as client:
            await publish(client, [], "pushed")
        assert service.metric("har_rejects_total") == 0
        assert service.stop() == 0
    finally:
        service.kill()

    expected, found, over_http = (shares(service, device) for device in ("si", "phone", "pushed"))
    assert found.keys() == expected.keys()
    assert len(found) > 200
    for start_ns, probabilities in found.items():
        assert probabilities == pytest.approx(expected[start_ns], abs=1e-4)
    assert len(over_http) > 80
    assert over_http.items() <= found.items()
    bouts = [
        [(event.activity, event.onset_ns, event.decided_ns) for event in of(service, device, "start")]
        for device in ("si", "phone")
    ]
    assert bouts[0] == bouts[1]
    assert {activity for activity, _, _ in bouts[0]} > {"walking", "sitting", "lying"}


async def test_what_is_known_of_a_sender_outlives_a_sigkill(
    mosquitto: Mosquitto, tmp_path: Path, data_dir: Path
) -> None:
    recording = hapt.read_recordings(data_dir, subjects={"2"})[0]
    streams = [stream[:6000] for stream in as_phones_measure(recording)]
    messages = logged(streams, SECOND // 2, 3 * SECOND // 10, topic=topics.SENSOR_LOGGER)
    # Killed where acceleration is held for its unit, and again where the watch is being followed.
    parts = [messages[:2], messages[2:300], messages[300:]]
    address = ("--broker", mosquitto.host, "--port", str(mosquitto.port), "--model", "uci-har-cnn")

    async def recognised(name: str, lives: Sequence[Sequence[Message]]) -> list[ActivityEvent]:
        events: dict[str, ActivityEvent] = {}
        options = (*address, "--publish", "windows", "--client-id", name)
        for number, part in enumerate(lives):
            service = HarStream(tmp_path, *options, name=f"{name}-{number}", state=tmp_path / "state")
            try:
                service.wait_ready()
                async with aiomqtt.Client(mosquitto.host, mosquitto.port) as client:
                    await publish(client, part, f"{name}-{number}", qos=1)
            finally:
                service.kill()
            events |= {event.id: event for event in service.events}
        return list(events.values())

    whole = await recognised("whole", [messages])
    assert len(whole) > 80
    assert await recognised("killed", parts) == whole


async def test_workers_share_the_devices_of_a_topic_that_names_none(mosquitto: Mosquitto, tmp_path: Path) -> None:
    address = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
    service = HarStream(tmp_path, *address, workers=2)
    try:
        service.wait_ready()
        messages = [
            message
            for device in map("phone-{}".format, range(6))
            for message in phones.sensor_logger(
                phones.logged(still("lying", 12.0, rate_hz=50.0), phones.uncalibrated_of_ios), device=device
            )
        ]
        nobody = Message(topics.SENSOR_LOGGER, b'{"payload": []}')
        async with aiomqtt.Client(mosquitto.host, mosquitto.port) as client:
            await publish(client, [*messages, nobody], "done", qos=1)
        wait_until(lambda: service.metric("har_messages_total") == len(messages) + 1, "all messages, each once")
        wait_until(lambda: service.metric("har_rejects_total", reason="topic") == 1, "the one that names nobody")
        assert service.metric("har_rejects_total") == 1
        assert service.metric("har_devices") == 6
        devices = [[s.value for s in samples(url) if s.name == "har_devices"] for url in service.urls]
        assert all(count > [0] for count in devices)
        assert service.stop() == 0
    finally:
        service.kill()


def shares(service: HarStream, device: str) -> dict[int, list[float]]:
    """Probabilities of each window, by its start."""
    return {e.window_start_ns: list((e.probabilities or {}).values()) for e in of(service, device, "window")}
