"""What other programs ask the service over HTTP: its metrics, whether it lives, whether it is ready.

GET /metrics   Prometheus text or OpenMetrics, as the client prefers
GET /healthz   200 while the event loop turns
GET /readyz    200 {"ready": true} when messages are being recognized, else 503 {"ready": false, "reason": "..."}

None of these changes anything or is secret, so no token is asked for; POST /ingest/<device> wants one, see
`streamer.ingest`. Connections are bounded in number and in age, so that whoever opens many and says nothing takes no
descriptors from the broker's. The live page, too, adds its routes: `streamer.live.feed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streamer.errors import ConfigError
from streamer.wire.payload import MAX_BYTES

#: Requests still running when the service stops; none of ours takes long.
_SHUTDOWN_S: Final = 1.0
#: A scraper and some probes need a few; what is beyond is turned away.
MOST_CONNECTIONS: Final = 50
#: After this a connection is closed, also one that is used: a scraper opens another.
_CONNECTION_S: Final = 60.0
_ACCEPTING_ROUNDS: Final = 3

#: Lets a request's connection live for some seconds from now, whatever its age.
LET_LIVE: Final[web.AppKey[Callable[[web.Request, float], None]]] = web.AppKey("let_live")


@asynccontextmanager
async def http_server(
    registry: CollectorRegistry,
    unready: Callable[[], str | None],
    *,
    host: str = "127.0.0.1",
    port: int = 9464,
    connection_s: float = _CONNECTION_S,
    routes: Sequence[web.AbstractRouteDef] = (),
) -> AsyncIterator[int]:
    """Serves /metrics, /healthz and /readyz in the current event loop for as long as the context lasts.

    Args:
        registry: what /metrics shows.
        unready: why the service is not ready, None when it is.
        host: address to listen on.
        port: TCP port; 0 for any free one.
        connection_s: how long a connection stays open.
        routes: what else is served.

    Yields:
        The port that clients connect to.

    Raises:
        ConfigError: the address is in use or not to be had.
    """
    app = web.Application(client_max_size=MAX_BYTES)
    app.add_routes([*_probes(registry, unready), *routes])
    loop = asyncio.get_running_loop()
    ends: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    def end_in(handler: RequestHandler, seconds: float) -> None:
        before = ends.get(handler)
        if before is not None:
            before.cancel()
        ends[handler] = loop.call_later(seconds, end, handler)

    def end(handler: RequestHandler) -> None:
        del ends[handler]
        handler.force_close()

    app[LET_LIVE] = lambda request, seconds: end_in(request.protocol, seconds)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()

    def accept() -> asyncio.BaseProtocol:
        serve = runner.server
        if serve is None or len(serve.connections) >= MOST_CONNECTIONS:
            return _TurnedAway()
        handler = serve()
        # An answer is written in one go, and closing sends what is written.
        end_in(handler, connection_s)
        return handler

    try:
        try:
            server = await loop.create_server(accept, host, port)
        except OSError as error:
            raise ConfigError(
                f"HTTP: cannot listen on {host}:{port} ({error.strerror or error}); expected a free port, or 0 for any"
            ) from None
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            # A connection that was accepted just before takes these rounds of the loop to be known to aiohttp, which
            # then closes it with the others; later it would be left open.
            for _ in range(_ACCEPTING_ROUNDS):
                await asyncio.sleep(0)
    finally:
        await runner.cleanup()


def _probes(registry: CollectorRegistry, unready: Callable[[], str | None]) -> list[web.RouteDef]:
    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def readyz(_request: web.Request) -> web.Response:
        reason = unready()
        if reason is None:
            return web.json_response({"ready": True})
        return web.json_response({"ready": False, "reason": reason}, status=HTTPStatus.SERVICE_UNAVAILABLE)

    return [web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)]


class _TurnedAway(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
