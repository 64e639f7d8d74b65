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
from tests.programs import HarStream
from tests.servers import HOST, Mosquitto, free_port

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


async def publish(client: aiomqtt.Client, messages: Sequence[Message], token: str) -> None:
    """Publish all, and wait until they are worked off."""
    await client.subscribe(topics.SYNCED_FILTER, qos=1)
    for message in messages:
        await client.publish(message.topic, message.payload)
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


def shares(service: HarStream, device: str) -> dict[int, list[float]]:
    """Probabilities of each window, by its start."""
    return {e.window_start_ns: list((e.probabilities or {}).values()) for e in of(service, device, "window")}
