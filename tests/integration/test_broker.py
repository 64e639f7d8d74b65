"""The embedded broker, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time

import aiomqtt
import pytest

from streamer.broker import embedded_broker
from streamer.errors import ConfigError

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
