"""Replays through real brokers: nothing lost, nothing altered, in order, and only over when the service says so."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import numpy as np
import pytest

from simulator.datasets import hapt, wisdm
from simulator.replay import Format, Pacer, Progress, replay
from simulator.session import Broker, BrokerError, open_session
from simulator.synthetic import synthetic_watches
from simulator.watches import Watch, fleet, in_time_order
from streamer.broker import embedded_broker
from streamer.imu import ImuBatch
from streamer.recording import Recording
from streamer.wire import topics
from streamer.wire.payload import decode
from tests.servers import Mosquitto, free_port


@dataclass
class StubService:
    """What a service shows to a sender: its state, and answers to sync markers, after some work per message."""

    received: list[ImuBatch] = field(default_factory=list)
    content_types: set[str | None] = field(default_factory=set)
    work_s: float = 0.0
    blocking: bool = False

    @asynccontextmanager
    async def online(self, broker: Mosquitto, name: str = "stub") -> AsyncIterator[StubService]:
        async with aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.subscribe([(topics.IMU_FILTER, 1), (topics.SYNC_FILTER, 1)])
            await client.publish(topics.status(name), b"online", qos=1, retain=True)
            task = asyncio.create_task(self._serve(client, name))
            try:
                yield self
            finally:
                task.cancel()
                await asyncio.wait({task})
                await client.publish(topics.status(name), b"stopped", qos=1, retain=True)

    async def _serve(self, client: aiomqtt.Client, name: str) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            device, kind = str(message.topic).split("/")[-2:]
            if kind == "sync":
                await client.publish(topics.synced(name), device.encode(), qos=1)
                continue
            content_type = getattr(message.properties, "ContentType", None)
            self.content_types.add(content_type)
            self.received.append(decode(device, message.payload, content_type))
            if self.blocking:
                time.sleep(self.work_s)  # noqa: ASYNC251 (reads no faster than it works, on purpose)
            else:
                await asyncio.sleep(self.work_s)

    def readings_of(self, device_id: str) -> tuple[list[ImuBatch], list[ImuBatch]]:
        """Messages with accelerometer and with gyroscope."""
        own = [batch for batch in self.received if batch.device_id == device_id]
        return [batch for batch in own if batch.acc is not None], [batch for batch in own if batch.gyro is not None]


def assert_received(service: StubService, recording: Recording) -> None:
    acc, gyro = service.readings_of(recording.device_id)
    for sensor, batches in (("acc", acc), ("gyro", gyro)):
        (stream,) = (stream for stream in recording.streams if getattr(stream, sensor) is not None)
        np.testing.assert_array_equal(np.concatenate([batch.t_ns for batch in batches]), stream.t_ns)
        np.testing.assert_array_equal(
            np.concatenate([getattr(batch, sensor) for batch in batches]), getattr(stream, sensor)
        )
    own = [batch for batch in service.received if batch.device_id == recording.device_id]
    assert [batch.seq for batch in own] == list(range(len(own)))


async def replay_to(
    port: int,
    watches: Sequence[Watch],
    *,
    speed: float | None = None,
    qos: int = 1,
    batch: int | None = None,
    payload_format: Format = "json",
    duration_s: float | None = None,
) -> Progress:
    progress = Progress(devices=len(watches))
    copies = fleet(watches, devices=None, start_ns=None)
    async with open_session(Broker("127.0.0.1", port, qos=1 if qos else 0)) as session:
        await replay(
            session,
            in_time_order(copies, batch),
            Pacer(speed),
            progress,
            start_ns=min(copy.start_ns for copy in copies),
            duration_s=duration_s,
            payload_format=payload_format,
        )
    return progress


@pytest.mark.parametrize(("payload_format", "qos"), [("json", 1), ("cbor", 1), ("cbor", 0)])
async def test_recordings_arrive_bit_for_bit_and_in_order(
    mosquitto: Mosquitto, data_dir: Path, payload_format: Format, qos: int
) -> None:
    recordings = hapt.read_recordings(data_dir, subjects={"2", "4"})
    async with StubService().online(mosquitto) as service:
        progress = await replay_to(mosquitto.port, recordings, qos=qos, payload_format=payload_format)
        # The replay is over only when all is processed: nothing is waited for here.
        assert len(service.received) == progress.messages
    assert progress.processed is True
    assert service.content_types == {f"application/{payload_format}"}
    for recording in recordings:
        assert_received(service, recording)


async def test_sensors_with_times_of_their_own_arrive_bit_for_bit(mosquitto: Mosquitto, data_dir: Path) -> None:
    recordings = wisdm.read_recordings(data_dir, subjects={"1610"})
    async with StubService().online(mosquitto) as service:
        await replay_to(mosquitto.port, recordings, payload_format="cbor")
    assert_received(service, recordings[0])


async def test_a_slow_service_behind_a_stock_broker_loses_nothing(
    start_mosquitto: Callable[..., Mosquitto], data_dir: Path
) -> None:
    # Mosquitto's own limits: 20 messages under way, 1000 queued per subscriber, what comes beyond is dropped without a
    # word. The subscriber blocks its loop, so that it reads no faster than it works; the sender is another process.
    stock = start_mosquitto("max_queued_messages 1000", "max_inflight_messages 20")
    async with StubService(work_s=0.001, blocking=True).online(stock) as service:
        process = await asyncio.create_subprocess_exec(
            *command(stock.port, "hapt", "--subject", "2", "--speed", "max", "--batch", "10"),
            env={**os.environ, "HAR_DATA_DIR": str(data_dir)},
            stdout=asyncio.subprocess.PIPE,
        )
        stdout, _ = await process.communicate()
    summary = json.loads(stdout)
    assert summary["messages"] > 3000
    assert summary["processed"] is True
    assert len(service.received) == summary["messages"]


async def test_two_services_are_both_waited_for(mosquitto: Mosquitto) -> None:
    slow, quick = StubService(work_s=0.01), StubService()
    async with slow.online(mosquitto, "slow"), quick.online(mosquitto, "quick"):
        progress = await replay_to(mosquitto.port, synthetic_watches(2), duration_s=20.0)
        assert len(slow.received) == len(quick.received) == progress.messages


async def test_the_embedded_broker_is_spoken_to_in_its_older_version() -> None:
    async with embedded_broker("127.0.0.1", free_port()) as port:
        progress = await replay_to(port, synthetic_watches(2), duration_s=5.0)
    assert progress.messages > 0
    assert progress.interrupted is False


async def test_a_restarted_broker_is_found_again_and_what_failed_is_sent_again(mosquitto: Mosquitto) -> None:
    async def restart_soon() -> None:
        await asyncio.sleep(1.0)
        await asyncio.to_thread(mosquitto.kill)
        await asyncio.to_thread(mosquitto.start)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(restart_soon())
        replayed = tasks.create_task(replay_to(mosquitto.port, synthetic_watches(1), speed=2.0, duration_s=8.0))
    progress = replayed.result()
    # Half a second's readings per message, over eight seconds in four.
    assert progress.messages == 16
    assert progress.interrupted is False
    assert progress.seconds < 7


async def test_a_broker_that_refuses_says_why(start_mosquitto: Callable[..., Mosquitto]) -> None:
    closed = start_mosquitto("per_listener_settings false", "allow_anonymous false")
    with pytest.raises(
        BrokerError, match=f"MQTT broker at 127.0.0.1:{closed.port} refuses the connection: .*[Nn]ot auth"
    ):
        await replay_to(closed.port, synthetic_watches(1), duration_s=1.0)


async def test_a_service_that_never_answers_is_named(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.session.ANSWER_S", 0.2)
    async with aiomqtt.Client(mosquitto.host, mosquitto.port) as client:
        await client.publish(topics.status("mute"), b"online", qos=1, retain=True)
        with pytest.raises(BrokerError, match="service mute has not answered"):
            await replay_to(mosquitto.port, synthetic_watches(1), duration_s=2.0)


async def test_real_time_is_kept(mosquitto: Mosquitto) -> None:
    progress = await replay_to(mosquitto.port, synthetic_watches(20), speed=1.0, duration_s=8.0)
    # The last message ends less than half a second before the end.
    assert 7.5 <= progress.seconds < 8.5
    assert progress.late == 0


def command(port: int, *arguments: str) -> list[str]:
    run = [sys.executable, "-c", "from simulator.cli import main; main()"]
    return [*run, "replay", *arguments, "--broker", "127.0.0.1", "--port", str(port), "--summary", "json"]


def test_the_summary_is_json_with_what_was_sent(mosquitto: Mosquitto, data_dir: Path) -> None:
    arguments = ("hapt", "--subject", "2", "--speed", "max", "--devices", "3", "--batch", "100", "--duration", "100")
    environment = {**os.environ, "HAR_DATA_DIR": str(data_dir)}
    done = subprocess.run(
        command(mosquitto.port, *arguments), env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    summary = json.loads(done.stdout)
    assert summary["source"] == "hapt"
    assert summary["devices"] == 3
    # The copy starts later and has sent less when the time is over.
    assert 2 * 5000 <= summary["readings"] <= 3 * 5000
    assert summary["messages"] == summary["readings"] / 100
    assert summary["late_share"] == 0
    assert summary["processed"] is None
    assert summary["achieved_hz"] > 50
    assert "no har-stream service is online" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_replay_with_its_summary(mosquitto: Mosquitto, number: signal.Signals) -> None:
    async with aiomqtt.Client(mosquitto.host, mosquitto.port) as client:
        await client.subscribe(topics.IMU_FILTER)
        process = await asyncio.create_subprocess_exec(
            *command(mosquitto.port, "synthetic", "--start", "now", "--preroll", "5"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(3):
            await anext(aiter(client.messages))
        process.send_signal(number)
        stdout, stderr = await asyncio.wait_for(process.communicate(), timeout=20)
    summary = json.loads(stdout)
    assert process.returncode == 130
    assert summary["interrupted"] is True
    assert summary["messages"] > 0
    assert stderr == b""
