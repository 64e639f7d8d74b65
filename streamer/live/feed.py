"""The live page over HTTP: its files, and for each viewer a stream of frames (server-sent events).

GET /              the page
GET /live/<file>   its files
GET /live/feed     frames for a query (`survey.Query`), five a second

A frame is made only when the one before it has left: a slow viewer gets fewer of them and nothing piles up. Viewers
are bounded in number, their streams in age; the page's EventSource opens another by itself.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from streamer import clock
from streamer.errors import one_line
from streamer.http import LET_LIVE
from streamer.live.board import HISTORY_NS, Board
from streamer.live.documents import Hello
from streamer.live.site import HEADERS, Names, read_assets, version_of
from streamer.live.survey import Query
from streamer.live.viewer import Viewer

#: Of the connections that HTTP has in all: scrapers and probes keep the others.
MOST_VIEWERS: Final = 20
FRAME_S: Final = 0.2
#: After this a stream ends, and the page opens another.
_STREAM_S: Final = 600.0
#: A viewer who takes nothing for so long is gone.
_STUCK_S: Final = 15.0
#: What waits in the kernel for a slow viewer: little, for it is old when it comes.
_SEND_BYTES: Final = 65_536
#: The browser tries again after this many ms.
_RETRY_MS: Final = 1000

_encode: Final = msgspec.json.Encoder().encode


class LivePage:
    """The page's routes.

    State: how many viewers there are, and whether the service is stopping.
    """

    def __init__(
        self,
        board: Board,
        names: Names,
        unready: Callable[[], str | None],
        *,
        worker: int = 0,
        workers: int = 1,
        port: int = 0,
        stream_s: float = _STREAM_S,
    ) -> None:
        """Read the page's files; nothing is served yet.

        Args:
            board: what to show.
            names: by which the page may be asked for.
            unready: why nothing is recognized, None when all is well.
            worker: which of `workers` processes this one is.
            workers: how many there are.
            port: of the first one's page; 0 where each took a free one.
            stream_s: how long a stream lasts.
        """
        self._board = board
        self._names = names
        self._unready = unready
        self._stream_s = stream_s
        self._assets = read_assets()
        self._viewers = 0
        self._closing = asyncio.Event()
        manifest = board.manifest
        self._hello = Hello(
            version=version_of(self._assets),
            model=manifest.name,
            digest=board.digest,
            labels=list(board.labels),
            groups=board.groups,
            sensors=list(manifest.preprocessing.sensors),
            enter=manifest.smoothing.enter,
            leave=manifest.smoothing.leave,
            group_enter=manifest.smoothing.group_enter if board.groups else None,
            window_ms=manifest.preprocessing.window_ns // 1_000_000,
            hop_ms=manifest.preprocessing.hop_len * manifest.preprocessing.period_ns // 1_000_000,
            history_ms=HISTORY_NS // 1_000_000,
            worker=worker,
            workers=workers,
            port=port,
        )

    @property
    def viewers(self) -> int:
        """How many look on."""
        return self._viewers

    def routes(self) -> list[web.RouteDef]:
        """What the service's HTTP has to serve."""
        return [
            web.get("/", self._admitted(self._index, is_page=True)),
            web.get("/live/feed", self._admitted(self._feed), allow_head=False),
            web.get("/live/{name}", self._admitted(self._asset)),
        ]

    def close(self) -> None:
        """End all streams."""
        self._closing.set()

    def _admitted(
        self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], *, is_page: bool = False
    ) -> Handler:
        """A handler for those alone who ask by a name of this service's, and not from another site's page."""

        async def handle(request: web.Request) -> web.StreamResponse:
            host = request.headers.get("Host", "")
            if not self._names.admit(host):
                return _refusal(
                    HTTPStatus.MISDIRECTED_REQUEST,
                    f"host {one_line(host, 80)!r} is not this service's; expected an address, localhost, this "
                    "machine's name or what live_host says",
                )
            site, mode = request.headers.get("Sec-Fetch-Site"), request.headers.get("Sec-Fetch-Mode")
            # Another site's link may lead to the page; its scripts, images and frames may not ask for anything.
            if site not in {None, "none", "same-origin"} and not (is_page and mode == "navigate"):
                return _refusal(HTTPStatus.FORBIDDEN, "asked for by another site's page")
            return await handler(request)

        return handle

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return self._assets["index.html"].response(request)

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        asset = self._assets.get(request.match_info["name"])
        if asset is None:
            return _refusal(HTTPStatus.NOT_FOUND, "no such file")
        return asset.response(request)

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        try:
            query = msgspec.convert(dict(request.query), Query, strict=False)
        except msgspec.ValidationError as error:
            return _refusal(HTTPStatus.BAD_REQUEST, f"query: {one_line(error)}")
        if self._viewers >= MOST_VIEWERS or self._closing.is_set():
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._viewers} viewers already")
        request.app[LET_LIVE](request, self._stream_s + _STUCK_S)
        response = web.StreamResponse(
            headers={
                **HEADERS,
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                # nginx would hold frames back until many have come.
                "X-Accel-Buffering": "no",
            }
        )
        response.force_close()
        async with self._place():
            with suppress(ConnectionError):
                await response.prepare(request)
                _keep_little(request)
                await response.write(f"retry: {_RETRY_MS}\n".encode() + _event("hello", _encode(self._hello)))
                await self._send_frames(request, response, Viewer(self._board, query))
            if request.transport is not None and request.transport.get_write_buffer_size():
                # Who takes nothing would have the end of the stream wait for ever.
                request.transport.abort()
        return response

    async def _send_frames(self, request: web.Request, response: web.StreamResponse, viewer: Viewer) -> None:
        loop = asyncio.get_running_loop()
        began_s = taken_s = loop.time()
        while loop.time() < began_s + self._stream_s and not self._closing.is_set():
            transport = request.transport
            if transport is None or transport.is_closing() or loop.time() > taken_s + _STUCK_S:
                return
            if not transport.get_write_buffer_size():
                taken_s = loop.time()
                try:
                    async with asyncio.timeout(_STUCK_S):
                        await response.write(_event("frame", _encode(viewer.frame(clock.now_ns(), self._unready()))))
                except TimeoutError:
                    return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), FRAME_S)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        self._viewers += 1
        try:
            yield
        finally:
            self._viewers -= 1


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def _keep_little(request: web.Request) -> None:
    """Let no more than a frame or so wait for a slow viewer: by the time it comes it is old."""
    held = None if request.transport is None else request.transport.get_extra_info("socket")
    if held is not None:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)


def _refusal(status: HTTPStatus, text: str) -> web.Response:
    response = web.Response(status=status, text=f"{text}\n", headers=HEADERS)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "5"
    response.force_close()
    return response
