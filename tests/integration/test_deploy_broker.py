"""The shipped mosquitto.conf, ACL and accounts in a real Mosquitto."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiomqtt
import pytest

from tests.conftest import missing
from tests.servers import Mosquitto, find_program

BIN: Final = Path(sys.executable).parent
SHIPPED: Final = Path(__file__).resolve().parents[2] / "deploy" / "mosquitto"


@dataclass(frozen=True, slots=True)
class Deployed:
    """A broker of the shipped configuration, a folder for files, and the passwords of the broker's accounts."""

    broker: Mosquitto
    folder: Path
    passwords: dict[str, str]

    def client(self, name: str, *, keep_session: bool = False) -> aiomqtt.Client:
        """An MQTT 3.1.1 client that logs in under a name; a kept session queues while it is away."""
        return aiomqtt.Client(
            self.broker.host,
            self.broker.port,
            username=name,
            password=self.passwords.get(name),
            identifier=f"{name}-test",
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=not keep_session,
        )


@pytest.fixture
def deployed(start_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> Deployed:
    passwd_tool = find_program("mosquitto_passwd")
    if passwd_tool is None:
        missing("mosquitto_passwd is not installed: apt-get install mosquitto")
    environment = os.environ | {
        "ACCOUNTS_FILE": str(tmp_path / "passwd"),
        "SECRET_FILE": str(tmp_path / "secret"),
        "BROKER_UID": str(os.getuid()),
        "SERVICE_UID": str(os.getuid()),
        "PATH": f"{passwd_tool.parent}{os.pathsep}{os.environ['PATH']}",
    }

    def accounts(*arguments: str) -> str:
        script = ["/bin/sh", str(SHIPPED / "accounts.sh"), *arguments]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert accounts() == "created the account har-stream"
    assert accounts() == "accounts exist"
    passwords = {name: accounts(name) for name in ("watch-1", "watch-2", "reader", "simulator")}
    passwords["har-stream"] = (tmp_path / "secret").read_text().strip()

    template = (SHIPPED / "mosquitto.conf").read_text()
    for shipped, here in [
        ("listener 1883", "listener {port} {host}"),
        ("/mosquitto/accounts/passwd", str(tmp_path / "passwd")),
        ("/mosquitto/config/acl", str(SHIPPED / "acl")),
        ("/mosquitto/data/", "{folder}/"),
    ]:
        assert shipped in template
        template = template.replace(shipped, here)
    return Deployed(start_mosquitto(template=template), tmp_path, passwords)


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


@pytest.mark.parametrize("name", ["nobody", "watch-1"])
async def test_a_client_without_the_right_password_is_refused(deployed: Deployed, name: str) -> None:
    wrong = Deployed(deployed.broker, deployed.folder, {name: "guess"})
    with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
        async with wrong.client(name):
            pass


async def test_a_watch_publishes_under_its_own_name_only(deployed: Deployed) -> None:
    async with deployed.client("har-stream") as service, deployed.client("watch-1") as watch:
        await service.subscribe("har/v1/+/imu", qos=1)
        await watch.publish("har/v1/watch-2/imu", b"forged", qos=1)
        await watch.publish("har/v1/watch-1/imu", b"mine", qos=1)
        assert await received(service, 1) == [("har/v1/watch-1/imu", b"mine")]


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
        secret = deployed.folder / f"{account}.password"
        secret.write_text(deployed.passwords[account] + "\n")
        address = ["--broker", deployed.broker.host, "--port", str(deployed.broker.port)]
        login = ["--username", account, "--password-file", str(secret)]
        with (deployed.folder / f"{account}.log").open("wb") as log:
            command = [str(BIN / program), *arguments, *address, *login]
            started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    async with deployed.client("reader") as reader:
        await reader.subscribe("har/v1/+/event")
        await reader.subscribe("har/service/+/status")
        service = start("har-stream", "--http-port", "0", "--output", "none", account="har-stream")
        try:
            assert await received(reader, 1) == [("har/service/har-stream/status", b"online")]
            # Returns 0 only when the service has answered that everything is processed.
            motion = ["replay", "synthetic", "--speed", "max", "--duration", "60"]
            replay = start("simulator", *motion, account="simulator")
            assert await asyncio.to_thread(replay.wait, 60) == 0, (deployed.folder / "simulator.log").read_text()
            assert [topic for topic, _ in await received(reader, 1)] == ["har/v1/synthetic-001/event"]
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
