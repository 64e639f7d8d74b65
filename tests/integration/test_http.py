"""/metrics, /healthz and /readyz over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from streamer.errors import ConfigError
from streamer.http import MOST_CONNECTIONS, http_server
from streamer.metrics import Metrics


@dataclass
class Service:
    """What the endpoints look at."""

    port: int = 0
    reason: str | None = "not subscribed yet"
    metrics: Metrics = field(
        default_factory=lambda: Metrics(activities=["walking"], model="demo", model_digest="0123456789abcdef")
    )

    def unready(self) -> str | None:
        return self.reason

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    state = Service()
    async with http_server(state.metrics.registry, state.unready, port=0) as state.port:
        yield state


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_metrics_are_prometheus_text(service: Service, http: aiohttp.ClientSession) -> None:
    service.metrics.readings.inc(50)
    async with http.get(service.url("/metrics")) as response:
        text = await response.text()
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {sample.name: sample.value for family in parse_text(text) for sample in family.samples}
    assert samples["har_readings_total"] == 50
    assert samples["process_resident_memory_bytes"] > 0


async def test_metrics_are_openmetrics_for_whom_prefers_it(service: Service, http: aiohttp.ClientSession) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    async with http.get(service.url("/metrics"), headers=accept) as response:
        text = await response.text()
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = parse_openmetrics(text)  # type: ignore[no-untyped-call] # the parser is not annotated
    assert "har_stage_seconds" in {family.name for family in families}


async def test_alive_while_not_ready(service: Service, http: aiohttp.ClientSession) -> None:
    async with http.get(service.url("/healthz")) as response:
        assert (response.status, await response.json()) == (200, {"alive": True})


async def test_ready_follows_the_service_down_and_up(service: Service, http: aiohttp.ClientSession) -> None:
    async def ready() -> tuple[int, object]:
        async with http.get(service.url("/readyz")) as response:
            return response.status, await response.json()

    assert await ready() == (503, {"ready": False, "reason": "not subscribed yet"})
    service.reason = None
    assert await ready() == (200, {"ready": True})
    service.reason = "disconnected"
    assert await ready() == (503, {"ready": False, "reason": "disconnected"})


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PURGE"])
async def test_no_method_that_could_change_something_is_served(service: Service, method: str, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    target = f"127.0.0.1:{service.port}" if method == "CONNECT" else path
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
    status = int((await reader.readline()).split()[1])
    assert status in {400, 404, 405}
    writer.close()
    await writer.wait_closed()


async def test_any_other_path_is_refused(service: Service, http: aiohttp.ClientSession) -> None:
    for path in ("/", "/metrics/", "/metrics/../etc/passwd", "/debug", "/-/reload", "/-/quit"):
        async with http.get(service.url(path)) as response:
            assert response.status == 404, path


async def test_headers_too_large_are_refused_before_they_are_read(service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Much: " + b"a" * 1_000_000)
    assert b" 400 " in await reader.readline()
    writer.close()
    with contextlib.suppress(ConnectionError):  # what it did not read resets the connection
        await writer.wait_closed()


async def test_connections_that_say_nothing_take_no_place_from_others(http: aiohttp.ClientSession) -> None:
    state = Service()
    async with http_server(state.metrics.registry, state.unready, port=0, connection_s=0.5) as state.port:
        slow = [await asyncio.open_connection("127.0.0.1", state.port) for _ in range(MOST_CONNECTIONS)]
        for _, writer in slow[::2]:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: ")
        # One too many is turned away at once instead of taking a descriptor.
        with pytest.raises(aiohttp.ClientError):
            await http.get(state.url("/healthz"))
        # The others are, when their time is over.
        for reader, writer in slow:
            await reader.read()
            writer.close()
            await writer.wait_closed()
        async with http.get(state.url("/healthz")) as response:
            assert response.status == 200


async def test_head_answers_without_a_body(service: Service, http: aiohttp.ClientSession) -> None:
    async with http.head(service.url("/healthz")) as response:
        assert response.status == 200


async def test_garbage_does_not_disturb_others(service: Service, http: aiohttp.ClientSession) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(b"\x00\xff" * 1000 + b"\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    await writer.wait_closed()
    async with http.get(service.url("/healthz")) as response:
        assert response.status == 200


async def test_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"HTTP: cannot listen on 127\.0\.0\.1:{port}") as caught:
            async with http_server(CollectorRegistry(), lambda: None, port=port):
                pass
    assert "\n" not in str(caught.value)


async def test_shutdown_is_prompt_with_connections_open_and_leaves_nothing() -> None:
    before = asyncio.all_tasks()
    async with http_server(CollectorRegistry(), lambda: None, port=0) as port:
        silent = await asyncio.open_connection("127.0.0.1", port)
        kept_alive = await asyncio.open_connection("127.0.0.1", port)
        kept_alive[1].write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await kept_alive[0].readuntil(b"}")
        assert json.loads(answer.rpartition(b"\r\n")[2]) == {"ready": True}
        start = time.monotonic()
    assert time.monotonic() - start < 3
    for _, writer in (silent, kept_alive):
        writer.close()
        await writer.wait_closed()
    assert asyncio.all_tasks() == before
    # The port is free at once.
    async with http_server(CollectorRegistry(), lambda: None, port=port) as again:
        assert again == port
    gc.collect()  # an unclosed transport warns here, and warnings are errors
