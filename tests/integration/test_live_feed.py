"""The live page over real sockets: whom it is served to, its stream of frames, and that nobody suffers for a viewer."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

import streamer.live
from streamer import clock
from streamer.bundle import ModelBundle
from streamer.config import Settings
from streamer.http import http_server
from streamer.live.feed import FRAME_S, MOST_VIEWERS
from streamer.live.site import absent_page
from streamer.runner import why_no_page
from tests.bundles import make_bundle
from tests.live import LiveService
from tests.motion import still

PAGE_FILES: Final = sorted((Path(streamer.live.__file__).parent / "page").iterdir())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "posture")


@pytest.fixture
async def service(bundle: ModelBundle) -> AsyncIterator[LiveService]:
    live = LiveService(bundle)
    live.process([still("sitting", 3)])
    async with AsyncExitStack() as stack:
        await live.serve(stack)
        yield live


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def next_event(response: aiohttp.ClientResponse) -> tuple[str, dict[str, Any]]:
    """The next event of a stream."""
    name = ""
    while True:
        line = (await response.content.readuntil()).decode().rstrip("\n")
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            return name, json.loads(line.removeprefix("data: "))


async def test_the_page_and_all_that_it_loads_are_served_with_a_strict_policy(
    service: LiveService, http: aiohttp.ClientSession
) -> None:
    async with http.get(service.url()) as response:
        text = await response.text()
        policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy
    # Nothing inline, nothing from elsewhere: what the policy would refuse is not there to begin with.
    assert "style=" not in text
    assert "<style" not in text
    assert "onclick" not in text
    assert text.count("<script") == text.count('<script type="module" src="live/') == 1
    for file in PAGE_FILES:
        async with http.get(service.url(f"live/{file.name}")) as response:
            assert (response.status, await response.read()) == (200, file.read_bytes())
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            etag = response.headers["ETag"]
        async with http.get(service.url(f"live/{file.name}"), headers={"If-None-Match": etag}) as response:
            assert response.status == 304
        assert "innerHTML" not in file.read_text()
    for name in ("", "nothing.js", "../board.py", "%2e%2e/board.py", "..%2fboard.py"):
        async with http.get(service.url(f"live/{name}")) as response:
            assert response.status == 404


@pytest.mark.parametrize("path", ["", "live/app.js", "live/feed"])
async def test_a_page_of_another_name_or_site_gets_nothing(
    service: LiveService, http: aiohttp.ClientSession, path: str
) -> None:
    # As a browser asks whom a rebound name led here.
    async with http.get(service.url(path), headers={"Host": f"evil.example:{service.port}"}) as response:
        assert response.status == 421
        assert "wrist" not in await response.text()
    for site, mode in (("cross-site", "no-cors"), ("same-site", "cors"), ("cross-site", "navigate")):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
        async with http.get(service.url(path), headers=headers) as response:
            # Somebody else's link may lead to the page, and to nothing else.
            assert response.status == (200 if mode == "navigate" and not path else 403)
    headers = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    async with http.get(service.url(path), headers=headers) as response:
        assert response.status == 200


async def test_a_stream_says_hello_and_then_what_is_new(service: LiveService, http: aiohttp.ClientSession) -> None:
    async with http.get(service.url("live/feed?watch=wrist")) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        name, hello = await next_event(response)
        assert (name, hello["model"], hello["labels"]) == (
            "hello",
            "posture",
            ["standing", "sitting", "lying", "unknown"],
        )
        name, frame = await next_event(response)
        assert (name, frame["page"], frame["watch"]["row"]["activity"]) == ("frame", ["wrist"], 1)
        service.process([still("sitting", 1, start_s=3)])
        while "acc" not in frame:
            _, frame = await next_event(response)
        assert len(frame["acc"]["wrist"][0][2]) == 4 * 20


@pytest.mark.parametrize(
    "query", ["order=best", "count=61", "count=-1", "first=x", "q=" + 65 * "a", "colour=red", "watch=" + 65 * "a"]
)
async def test_a_query_that_makes_no_sense_is_refused(
    service: LiveService, http: aiohttp.ClientSession, query: str
) -> None:
    async with http.get(service.url(f"live/feed?{query}")) as response:
        assert response.status == 400
        assert (await response.text()).count("\n") == 1


async def test_viewers_are_bounded_and_scrapers_get_through(service: LiveService) -> None:
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(aiohttp.ClientSession()) for _ in range(MOST_VIEWERS)]
        for session in sessions:
            response = await stack.enter_async_context(session.get(service.url("live/feed")))
            assert (await next_event(response))[0] == "hello"
        scraper = await stack.enter_async_context(aiohttp.ClientSession())
        async with scraper.get(service.url("live/feed")) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "5")
        for path in ("metrics", "healthz", "readyz"):
            async with scraper.get(service.url(path)) as response:
                assert response.status == 200
        assert service.page is not None
        assert service.page.viewers == MOST_VIEWERS
        # Who leaves makes room.
        await sessions[0].close()
        async with asyncio.timeout(10):
            while service.page.viewers == MOST_VIEWERS:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(FRAME_S / 4)
        async with scraper.get(service.url("live/feed")) as response:
            assert response.status == 200


async def test_a_slow_viewer_gets_fewer_frames_and_nothing_piles_up(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.live.feed.FRAME_S", 0.005)
    service = LiveService(bundle)
    names = [f"watch-{i}" for i in range(60)]
    service.process([still("sitting", 1, device=name) for name in names])
    async with AsyncExitStack() as stack:
        await service.serve(stack)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        fast = await stack.enter_async_context(http.get(service.url("live/feed")))
        slow = stack.enter_context(closing(await slow_viewer(service.port)))
        await next_event(fast)
        sent = 0
        for i in range(1, 41):
            service.process([still("sitting", 1, start_s=i, device=name) for name in names])
            frame: dict[str, Any] = {}
            while "acc" not in frame:
                _, frame = await next_event(fast)
            sent += len(json.dumps(frame))
        # What was sent to the slow one until it began to read: some first frames, what the sockets' buffers hold.
        reading_ms = clock.now_ns() // 1_000_000
        waited = b""
        while f'"now":{reading_ms}'.encode() > max(re.findall(rb'"now":[0-9]+', waited), default=b""):
            waited += await asyncio.get_running_loop().sock_recv(slow, 100_000)
        assert sent > 1_000_000
        assert len(waited) < sent / 2
        assert service.page is not None
        assert service.page.viewers == 2


async def test_a_viewer_who_takes_nothing_is_let_go(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.live.feed.FRAME_S", 0.005)
    monkeypatch.setattr("streamer.live.feed._STUCK_S", 0.5)
    service = LiveService(bundle)
    names = [f"watch-{i}" for i in range(60)]
    async with AsyncExitStack() as stack:
        await service.serve(stack)
        assert service.page is not None
        # The viewer's own end of the connection stays open.
        sockets, seen, second = open_sockets() + 1, False, 0
        stack.enter_context(closing(await slow_viewer(service.port)))
        async with asyncio.timeout(20):
            # More than a frame's buffer at once, so that the stream waits in the middle of one.
            while service.page.viewers or not seen or open_sockets() > sockets:
                seen |= bool(service.page.viewers)
                service.process([still("sitting", 10, start_s=second, device=name) for name in names])
                second += 10
                await asyncio.sleep(0.01)


def open_sockets() -> int:
    """How many this process has."""
    targets = (str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink())
    return sum(target.startswith("socket:") for target in targets)


async def slow_viewer(port: int) -> socket.socket:
    """A viewer's connection of which little fits into the buffers."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.setblocking(False)  # noqa: FBT003 - the socket's own signature
    loop = asyncio.get_running_loop()
    await loop.sock_connect(viewer, ("127.0.0.1", port))
    await loop.sock_sendall(viewer, f"GET /live/feed HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
    return viewer


async def test_a_stream_outlives_other_connections(bundle: ModelBundle, http: aiohttp.ClientSession) -> None:
    service = LiveService(bundle)
    async with AsyncExitStack() as stack:
        await service.serve(stack, connection_s=0.4)
        began_s = time.monotonic()
        async with http.get(service.url("live/feed")) as response:
            while time.monotonic() < began_s + 1:
                await next_event(response)


async def test_a_stream_ends_at_its_age_and_with_the_service_and_leaves_nothing(
    bundle: ModelBundle, http: aiohttp.ClientSession
) -> None:
    before = asyncio.all_tasks()
    service = LiveService(bundle, stream_s=0.3)
    async with AsyncExitStack() as stack:
        await service.serve(stack)
        async with http.get(service.url("live/feed")) as response:
            began = time.monotonic()
            await response.content.read()
            assert 0.3 <= time.monotonic() - began < 2
        service = LiveService(bundle)
        inner = AsyncExitStack()
        await service.serve(inner)
        response = await http.get(service.url("live/feed"))
        assert (await next_event(response))[0] == "hello"
        began = time.monotonic()
        await inner.aclose()
        assert time.monotonic() - began < 1
        response.close()
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


async def test_where_there_is_no_page_it_says_why(http: aiohttp.ClientSession) -> None:
    why = why_no_page(Settings(http_host="0.0.0.0"))  # noqa: S104 - that it isn't served there is the point
    async with http_server(CollectorRegistry(), lambda: None, port=0, routes=[absent_page(why)]) as port:
        for path in ("", "live/feed", "live/app.js"):
            async with http.get(f"http://127.0.0.1:{port}/{path}") as response:
                assert response.status == 404
                assert ("live_page on" in await response.text()) == (not path)
