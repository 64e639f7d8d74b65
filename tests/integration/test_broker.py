"""The embedded broker, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiomqtt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.typing import Subprotocol

from streamer import broker
from streamer.addresses import is_loopback, own_addresses
from streamer.broker import embedded_broker
from streamer.errors import ConfigError
from streamer.mqtt.connect_packet import Account
from tests.servers import free_port, wait_until

V311 = aiomqtt.ProtocolVersion.V311


def client(port: int, **options: object) -> aiomqtt.Client:
    return aiomqtt.Client("127.0.0.1", port, protocol=V311, **options)  # type: ignore[arg-type] # options vary by test


async def received(subscriber: aiomqtt.Client, n: int) -> list[bytes]:
    payloads: list[bytes] = []
    async with asyncio.timeout(10):
        async for message in subscriber.messages:
            assert isinstance(message.payload, bytes)
            payloads.append(message.payload)
            if len(payloads) == n:
                break
    return payloads


@pytest.mark.parametrize("qos", [0, 1])
async def test_messages_arrive_complete_and_in_order(qos: int) -> None:
    sent = [b"%d" % i for i in range(200)] + [bytes(1_000_000)]
    async with embedded_broker(port=0) as port, client(port) as subscriber, client(port) as publisher:
        await subscriber.subscribe("har/v1/+/imu", qos=qos)
        for payload in sent:
            await publisher.publish("har/v1/w1/imu", payload, qos=qos)
        assert await received(subscriber, len(sent)) == sent


async def test_retained_state_reaches_a_later_subscriber() -> None:
    async with embedded_broker(port=0) as port:
        async with client(port) as publisher:
            await publisher.publish("har/v1/w1/activity", b"walking", qos=1, retain=True)
        async with client(port) as subscriber:
            await subscriber.subscribe("har/v1/+/activity")
            assert await received(subscriber, 1) == [b"walking"]


async def test_last_will_is_published_when_a_client_vanishes() -> None:
    will = aiomqtt.Will("har/service/s1/status", b"offline", qos=1, retain=True)
    async with embedded_broker(port=0) as port, client(port) as subscriber:
        await subscriber.subscribe("har/service/+/status")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # CONNECT by hand, for a client library would not hang up without saying DISCONNECT.
        body = b"\x00\x04MQTT\x04\x26\x00\x3c\x00\x02s1" + _string(will.topic.encode()) + _string(b"offline")
        writer.write(b"\x10" + bytes([len(body)]) + body)
        assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
        writer.close()
        await writer.wait_closed()
        assert await received(subscriber, 1) == [b"offline"]


def _string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


async def test_mqtt_5_is_refused_cleanly() -> None:
    async with embedded_broker(port=0) as port:
        with pytest.raises(aiomqtt.MqttError, match="version"):
            async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5):
                pass
        async with client(port) as still_served:
            await still_served.publish("a", b"1", qos=1)


async def test_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"embedded broker: cannot listen on 127\.0\.0\.1:{port}") as caught:
            async with embedded_broker(port=port):
                pass
    assert "\n" not in str(caught.value)


async def test_port_is_free_again_afterwards() -> None:
    async with embedded_broker(port=0) as port, client(port) as publisher:
        await publisher.publish("a", b"1", qos=1)
    async with embedded_broker(port=port) as again:
        assert again == port


async def test_shutdown_is_prompt_and_quiet_whatever_clients_do(caplog: pytest.LogCaptureFixture) -> None:
    before = asyncio.all_tasks()
    peers = []
    with caplog.at_level(logging.INFO):
        async with embedded_broker(port=0) as port:
            silent = await asyncio.open_connection("127.0.0.1", port)
            garbage = await asyncio.open_connection("127.0.0.1", port)
            garbage[1].write(b"GET / HTTP/1.1\r\n\r\n")
            # A subscriber that stops reading while more is sent to it than sockets buffer.
            deaf = await asyncio.open_connection("127.0.0.1", port, limit=1)
            deaf[1].write(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04deaf")
            deaf[1].write(b"\x82\x06\x00\x01\x00\x01#\x00")
            await deaf[0].readexactly(4 + 5)
            async with client(port) as publisher:
                for _ in range(20):
                    await publisher.publish("a", bytes(1_000_000), qos=1)
            peers = [silent[1], garbage[1], deaf[1]]
            start = time.monotonic()
        # One second is what the deaf peer is given.
        assert time.monotonic() - start < 5
        for writer in peers:
            writer.close()
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert [record.getMessage() for record in caplog.records if record.name.startswith("amqtt")] == []
    gc.collect()  # an unclosed transport warns here, and warnings are errors


async def test_an_error_inside_the_context_passes_through() -> None:
    with pytest.raises(ValueError, match="inside"):
        async with embedded_broker(port=0):
            raise ValueError("inside")


async def test_mqtt_5_client_with_a_last_will_is_refused_at_once() -> None:
    will = aiomqtt.Will("har/service/second/status", b"offline", qos=1, retain=True)
    options = {"identifier": "second", "will": will, "timeout": 5}
    async with embedded_broker(port=0) as port:
        with pytest.raises(aiomqtt.MqttCodeError, match="Unsupported protocol version"):
            async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, **options):  # type: ignore[arg-type] # options vary
                pass


# Beyond loopback ----------------------------------------------------------------------------------------------------

#: All of 127.0.0.0/8 is loopback on Linux: another address than the usual one, and still nobody else's.
ELSEWHERE = "127.0.0.2"
ME = Account("me", "correct horse")


async def connects(port: int, account: Account | None = None, **options: str) -> bool:
    """Whether a client is let in, and can do something there."""
    who = {} if account is None else {"username": account.username, "password": account.password or None}
    try:
        async with aiomqtt.Client(ELSEWHERE, port, protocol=V311, **who, **options) as guest:  # type: ignore[arg-type] # options vary
            await guest.publish("har/v1/w1/imu", b"1", qos=1)
    except aiomqtt.MqttCodeError as error:
        return "Not authorized" not in str(error)
    return True


async def test_only_who_gives_name_and_password_is_let_in(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broker, "_REFUSAL_S", 0.01)
    async with embedded_broker(ELSEWHERE, 0, account=ME) as port:
        assert not await connects(port)
        assert not await connects(port, Account("me", ""))
        assert not await connects(port, Account("me", "wrong horse"))
        assert not await connects(port, Account("you", "correct horse"))
        assert await connects(port, ME)
    assert "refused 1 connections" in caplog.text
    assert "horse" not in caplog.text


async def test_addresses_of_ipv6_are_listened_on() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        # Nothing that could be installed.
        pytest.skip("this machine has no IPv6")
    async with embedded_broker("::1", 0, account=ME) as port:
        options = {"username": ME.username, "password": ME.password}
        async with aiomqtt.Client("::1", port, protocol=V311, **options) as guest:  # type: ignore[arg-type] # options vary
            await guest.publish("har/v1/w1/imu", b"1", qos=1)


async def test_a_stranger_cannot_end_the_session_of_a_client_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_REFUSAL_S", 0.01)
    known = {"username": ME.username, "password": ME.password, "identifier": "har-stream"}
    async with (
        embedded_broker(ELSEWHERE, 0, account=ME) as port,
        aiomqtt.Client(ELSEWHERE, port, protocol=V311, **known) as service,  # type: ignore[arg-type] # options vary
    ):
        await service.subscribe("har/v1/+/imu")
        assert not await connects(port, identifier="har-stream")
        assert await connects(port, ME)
        assert await received(service, 1) == [b"1"]


async def test_strangers_take_no_places_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_CONNECT_S", 0.5)
    monkeypatch.setattr(broker, "_MOST_STRANGERS", 3)
    async with embedded_broker(ELSEWHERE, 0, account=ME) as port:
        silent = [await asyncio.open_connection(ELSEWHERE, port) for _ in range(3)]
        turned_away, one_too_many = await asyncio.open_connection(ELSEWHERE, port)
        assert await turned_away.read() == b""
        assert [await reader.read() for reader, _ in silent] == [b"", b"", b""]
        # This one announces 256 MB.
        endless, writer = await asyncio.open_connection(ELSEWHERE, port)
        writer.write(b"\x10\xff\xff\xff\x7f")
        assert await endless.read() == b""
        assert await connects(port, ME)
        for opened in (one_too_many, writer, *(writer for _, writer in silent)):
            opened.close()


def test_a_phone_is_told_where_to_connect(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{ME.password}\n")
    port = free_port()
    # As if everybody in the network could connect, though nobody can.
    program = "from streamer import runner, cli; runner.is_loopback = lambda _: False; cli.main()"
    command = [sys.executable, "-c", program, "--broker", "embedded", "--broker-listen", f"{ELSEWHERE}:{port}"]
    command += ["--http-port", "0", "--username", "me", "--password-file", str(secret)]
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(command, stderr=log)
    try:
        wait_until(lambda: "subscribed" in (tmp_path / "log").read_text(), "subscription", within_s=20)
        assert asyncio.run(connects(port, ME))
    finally:
        running.terminate()
        assert running.wait(timeout=20) == 0
    told = (tmp_path / "log").read_text()
    assert f"embedded broker listens on {ELSEWHERE}:{port}" in told
    assert f"enter host {ELSEWHERE}, port {port}, no TLS, user name me and its password" in told
    assert "horse" not in told


def test_addresses_that_a_phone_is_told_are_not_this_machines_alone() -> None:
    told = own_addresses("0.0.0.0")  # noqa: S104 # nothing is bound
    assert not [address for address in told if is_loopback(address) or not ipaddress.IPv4Address(address)]
    assert len(told) == len(set(told))
    assert own_addresses("192.0.2.7") == ["192.0.2.7"]


# Over WebSockets ----------------------------------------------------------------------------------------------------

#: CONNECT of a client "w1" without an account, and the answer that it is let in.
CONNECT, LET_IN = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02w1", b"\x20\x02\x00\x00"


def frames(port: int, subprotocol: str = "mqtt", path: str = "mqtt", origin: str | None = None) -> connect:
    """A WebSocket of which a test makes the frames."""
    headers = {} if origin is None else {"Origin": origin}
    return connect(
        f"ws://127.0.0.1:{port}/{path}",
        subprotocols=[Subprotocol(subprotocol)],
        additional_headers=headers,
        proxy=None,
    )


async def closed_with(websocket: ClientConnection) -> int | None:
    await asyncio.wait_for(websocket.wait_closed(), 5)
    return websocket.close_code


@pytest.mark.parametrize(("from_", "to"), [("websockets", "tcp"), ("tcp", "websockets"), ("websockets", "websockets")])
async def test_websockets_and_tcp_share_a_port_and_hear_each_other(from_: str, to: str) -> None:
    sent = [b"%d" % i for i in range(200)] + [bytes(1_000_000)]
    async with (
        embedded_broker(port=0) as port,
        client(port, transport=to) as subscriber,
        client(port, transport=from_) as publisher,
    ):
        await subscriber.subscribe("har/v1/+/imu", qos=1)
        for payload in sent:
            await publisher.publish("har/v1/w1/imu", payload, qos=1)
        assert await received(subscriber, len(sent)) == sent


async def test_over_websockets_too_only_who_gives_name_and_password_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_REFUSAL_S", 0.01)
    async with embedded_broker(ELSEWHERE, 0, account=ME) as port:
        assert not await connects(port, transport="websockets")
        assert not await connects(port, Account("me", "wrong horse"), transport="websockets")
        assert await connects(port, ME, transport="websockets")
        with pytest.raises(aiomqtt.MqttCodeError, match="Unsupported protocol version"):
            async with aiomqtt.Client(
                ELSEWHERE, port, protocol=aiomqtt.ProtocolVersion.V5, transport="websockets", timeout=5
            ):
                pass


@pytest.mark.parametrize(("subprotocol", "path"), [("mqtt", ""), ("mqttv3.1", "any/path?and=more")])
async def test_packets_lie_in_frames_as_they_like(subprotocol: str, path: str) -> None:
    publish = b"\x30\x04\x00\x01a1"
    async with (
        embedded_broker(port=0) as port,
        client(port) as subscriber,
        frames(port, subprotocol, path) as websocket,
    ):
        await subscriber.subscribe("a")
        assert websocket.subprotocol == subprotocol
        for i in range(len(CONNECT)):
            await websocket.send(CONNECT[i : i + 1])
        assert await websocket.recv() == LET_IN
        await (await websocket.ping())
        # Several packets in one frame, one over two frames, and one over two fragments of a message.
        await websocket.send(publish * 3 + publish[:4])
        await websocket.send(publish[4:])
        await websocket.send([publish[:1], publish[1:]])
        assert await received(subscriber, 5) == [b"1"] * 5


async def test_what_is_no_mqtt_over_websockets_is_turned_away_and_others_are_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broker, "_CONNECT_S", 0.5)
    with caplog.at_level(logging.INFO):
        async with embedded_broker(port=0) as port:
            with pytest.raises(InvalidStatus, match="400"):
                await frames(port, "soap")
            half_open, half = await asyncio.open_connection("127.0.0.1", port)
            half.write(b"GET /mqtt HTTP/1.1\r\nHost: here\r\n")
            endless, flood = await asyncio.open_connection("127.0.0.1", port)
            flood.write(b"GET /mqtt HTTP/1.1\r\n" + b"X: 1\r\n" * 40_000)
            async with frames(port) as silent, frames(port) as garbage, frames(port) as text, frames(port) as long:
                raw = garbage.transport
                raw.write(b"\xff" * 1000)
                assert await closed_with(garbage) == 1002
                await text.send(CONNECT.decode("latin-1"))
                assert await closed_with(text) == 1003
                await long.send(bytes(100_000))
                assert await closed_with(long) == 1009
                assert await closed_with(silent) == 1006
            assert await half_open.read() == b""
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await endless.readexactly(1)
            async with frames(port) as known:
                await known.send(CONNECT)
                assert await known.recv() == LET_IN
                with contextlib.suppress(ConnectionClosed):
                    await known.send(bytes(1_200_000))
                assert await closed_with(known) == 1009
            async with client(port, transport="websockets") as still_served:
                await still_served.publish("a", b"1", qos=1)
            for writer in (half, flood):
                writer.close()
    assert [record.getMessage() for record in caplog.records if record.name.startswith(("amqtt", "websockets"))] == []


@pytest.mark.parametrize("how", ["close", "end of file"])
async def test_a_last_will_is_published_when_a_websocket_ends_without_a_disconnect(how: str) -> None:
    body = b"\x00\x04MQTT\x04\x06\x00\x3c" + _string(b"s1") + _string(b"status") + _string(b"offline")
    async with embedded_broker(port=0) as port, client(port) as subscriber:
        await subscriber.subscribe("status")
        async with frames(port) as websocket:
            await websocket.send(b"\x10" + bytes([len(body)]) + body)
            assert await websocket.recv() == LET_IN
            if how == "end of file":
                websocket.transport.write_eof()
                assert await received(subscriber, 1) == [b"offline"]
                return
        assert websocket.close_code == 1000
        assert await received(subscriber, 1) == [b"offline"]


async def test_pages_of_other_sites_may_not_connect_where_no_password_is_asked_for() -> None:
    async with embedded_broker(port=0) as port:
        for origin in ("https://elsewhere.example", f"http://127.0.0.1.example:{port}", "null", "http://[broken"):
            with pytest.raises((InvalidStatus, InvalidMessage)):
                await frames(port, origin=origin)
        async with frames(port, origin="http://localhost:9464"), frames(port, origin="http://[::1]:9464"):
            pass
    async with embedded_broker(port=0, account=ME) as port, frames(port, origin="https://elsewhere.example"):
        pass


async def test_shutdown_is_prompt_whatever_websockets_do() -> None:
    before = asyncio.all_tasks()
    async with embedded_broker(port=0) as port:
        silent = await frames(port)
        deaf = await asyncio.open_connection("127.0.0.1", port, limit=1)
        deaf[1].write(b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
        deaf[1].write(b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        for packet in (CONNECT, b"\x82\x06\x00\x01\x00\x01#\x00"):
            # A mask of zeros leaves the bytes as they are.
            deaf[1].write(b"\x82" + bytes([0x80 | len(packet)]) + bytes(4) + packet)
        while await deaf[0].readexactly(1) != b"\x90":
            pass
        async with client(port, transport="websockets") as publisher:
            for _ in range(20):
                await publisher.publish("a", bytes(1_000_000), qos=1)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert await closed_with(silent) in {1000, 1006}
    deaf[1].close()
    await silent.wait_closed()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    gc.collect()
