"""The shipped Mosquitto configuration does its work: nothing is lost, and everybody has the rights they need.

What it keeps out is told by test_security.py.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import aiomqtt

from tests.deployed import Deployed

BIN: Final = Path(sys.executable).parent


async def received(client: aiomqtt.Client, count: int) -> list[tuple[str, bytes]]:
    """The next messages: topic and payload."""
    messages: list[tuple[str, bytes]] = []
    async with asyncio.timeout(20):
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            messages.append((str(message.topic), message.payload))
            if len(messages) == count:
                break
    return messages


async def test_what_was_recognised_reaches_its_watch_and_readers_and_no_other_watch(deployed: Deployed) -> None:
    async with (
        deployed.client("har-stream") as service,
        deployed.client("watch-1") as watch,
        deployed.client("watch-2") as other,
        deployed.client("reader") as reader,
    ):
        for client in (watch, other, reader):
            await client.subscribe("har/v1/+/activity", qos=1)
        await service.publish("har/v1/watch-1/activity", b"walking", qos=1, retain=True)
        await service.publish("har/v1/watch-2/activity", b"sitting", qos=1, retain=True)
        assert await received(watch, 1) == [("har/v1/watch-1/activity", b"walking")]
        assert await received(other, 1) == [("har/v1/watch-2/activity", b"sitting")]
        assert sorted(await received(reader, 2)) == [
            ("har/v1/watch-1/activity", b"walking"),
            ("har/v1/watch-2/activity", b"sitting"),
        ]


async def test_five_thousand_readings_wait_for_a_service_that_is_away(deployed: Deployed) -> None:
    # A stock Mosquitto keeps the first 1000 of them.
    async with deployed.client("har-stream", keep_session=True) as service:
        await service.subscribe("har/v1/+/imu", qos=1)
    async with deployed.client("watch-1") as watch:
        for number in range(5000):
            await watch.publish("har/v1/watch-1/imu", b"%d" % number, qos=1)
    async with deployed.client("har-stream", keep_session=True) as service:
        assert [payload for _, payload in await received(service, 5000)] == [b"%d" % n for n in range(5000)]


async def test_service_and_simulator_have_all_the_rights_they_use(deployed: Deployed) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(program: str, *arguments: str, account: str) -> subprocess.Popen[bytes]:
        with (deployed.folder / f"{account}.log").open("wb") as log:
            command = [str(BIN / program), *arguments, *deployed.login(account)]
            started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    async with deployed.client("reader") as reader, deployed.client("home-assistant") as hub:
        await reader.subscribe("har/v1/+/event")
        await reader.subscribe("har/service/+/status")
        await hub.subscribe("homeassistant/device/+/config")
        options = [
            "--http-port",
            "0",
            "--output",
            "none",
            "--state",
            str(deployed.folder / "state"),
            "--home-assistant",
        ]
        service = start("har-stream", *options, account="har-stream")
        try:
            assert await received(reader, 1) == [("har/service/har-stream/status", b"online")]
            # Returns 0 only when the service has answered that everything is processed.
            motion = ["replay", "synthetic", "--speed", "max", "--duration", "60"]
            replay = start("simulator", *motion, account="simulator")
            assert await asyncio.to_thread(replay.wait, 60) == 0, (deployed.folder / "simulator.log").read_text()
            assert [topic for topic, _ in await received(reader, 1)] == ["har/v1/synthetic-001/event"]
            known = ("homeassistant/device/har_synthetic-001/config", "har/v1/synthetic-001/health")
            ((topic, config),) = await received(hub, 1)
            assert topic == known[0]
            # Told again, as it asks for that; and what its sensors read.
            await hub.publish("homeassistant/status", b"online", qos=1)
            assert await received(hub, 1) == [(topic, config)]
            await hub.subscribe(known[1])
            assert [topic for topic, _ in await received(hub, 1)] == [known[1]]
            service.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(service.wait, 30) == 0
            while (last := await received(reader, 1))[0][0] != "har/service/har-stream/status":
                pass
            assert last[0][1] == b"stopped"
        finally:
            for process in started:
                if process.poll() is None:
                    process.kill()
                process.wait()
    assert " WARNING " not in (deployed.folder / "har-stream.log").read_text()
