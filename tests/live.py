"""The live page over a recognizer of the test's own: in a thread with its own event loop, as a browser wants it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final, TypeVar

import uvloop
from prometheus_client import CollectorRegistry

from streamer import clock
from streamer.bundle import ModelBundle
from streamer.http import http_server
from streamer.imu import ImuBatch
from streamer.live.board import Board
from streamer.live.feed import LivePage
from streamer.live.site import Names
from streamer.recognizer import Recognizer
from streamer.results import Result
from streamer.watches import Limits
from streamer.wire import topics
from streamer.wire.payload import Message, encode_cbor

_T = TypeVar("_T")
_STOP_S: Final = 10


def message(batch: ImuBatch) -> Message:
    """A batch as its watch sends it."""
    return Message(topics.imu(batch.device_id), encode_cbor(batch))


class LiveService:
    """A recognizer, its board and the page, as the service has them, but for the broker.

    State: the recognizer's; the HTTP server, while one runs.
    """

    def __init__(self, bundle: ModelBundle, *, limits: Limits | None = None, stream_s: float = 600.0) -> None:
        self.recognizer = Recognizer(bundle, limits=limits)
        self.board = Board(self.recognizer)
        self.unready: str | None = None
        self.page: LivePage | None = None
        self.port = 0
        self._stream_s = stream_s

    def process(self, batches: Sequence[ImuBatch], now_ns: int | None = None) -> Result:
        """One call; no batches for a tick."""
        result = self.recognizer.process([message(b) for b in batches], clock.now_ns() if now_ns is None else now_ns)
        self.board.take(result)
        return result

    async def serve(
        self, stack: AsyncExitStack, *, worker: int = 0, workers: int = 1, connection_s: float = 60.0
    ) -> None:
        """Serve until the stack is closed; on the same port as before."""
        self.page = LivePage(
            self.board,
            Names("127.0.0.1", None),
            lambda: self.unready,
            worker=worker,
            workers=workers,
            port=7000 if workers > 1 else 0,
            stream_s=self._stream_s,
        )
        self.port = await stack.enter_async_context(
            http_server(
                CollectorRegistry(),
                lambda: self.unready,
                port=self.port,
                connection_s=connection_s,
                routes=self.page.routes(),
            )
        )
        stack.callback(self.page.close)

    def url(self, path: str = "") -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/{path}"


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        # The service's own; asyncio's of Python 3.11 leaves a connection open that comes as its server is closed.
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Its result, from the other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)

    def call(self, function: Callable[[], _T]) -> _T:
        """What a function gives in the loop's thread."""

        async def called() -> _T:
            return function()

        return self.run(called())

    def stop(self) -> None:
        """End the thread, once what is being closed is closed."""
        for _ in range(10):
            self.run(asyncio.sleep(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_STOP_S)
        self._loop.close()


@contextmanager
def in_thread(service: LiveService, **options: int) -> Iterator[Loop]:
    """Serves a service's page in a thread; what is done to the service meanwhile is done in its loop."""
    loop = Loop()
    stack = AsyncExitStack()
    try:
        loop.run(service.serve(stack, **options))
        yield loop
    finally:
        loop.run(stack.aclose())
        loop.stop()
