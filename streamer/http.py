"""What other programs ask the service over HTTP: its metrics, whether it lives, whether it is ready.

GET /metrics   Prometheus text or OpenMetrics, as the client prefers
GET /healthz   200 while the event loop turns
GET /readyz    200 {"ready": true} when messages are being recognized, else 503 {"ready": false, "reason": "..."}
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streamer.errors import ConfigError

#: Requests still running when the service stops; none of ours takes long.
_SHUTDOWN_S: Final = 1.0


@asynccontextmanager
async def http_server(
    registry: CollectorRegistry,
    unready: Callable[[], str | None],
    *,
    host: str = "127.0.0.1",
    port: int = 9464,
) -> AsyncIterator[int]:
    """Serves /metrics, /healthz and /readyz in the current event loop for as long as the context lasts.

    Args:
        registry: what /metrics shows.
        unready: why the service is not ready, None when it is.
        host: address to listen on.
        port: TCP port; 0 for any free one.

    Yields:
        The port that clients connect to.

    Raises:
        ConfigError: the address is in use or not to be had.
    """

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

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigError(
                f"HTTP: cannot listen on {host}:{port} ({error.strerror or error}); expected a free port, or 0 for any"
            ) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
