"""Puts the service together and runs it: broker, HTTP, signals, and the demonstration's watches."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from streamer import ingest
from streamer.addresses import is_loopback, own_addresses, way_to
from streamer.announcer import Announcer
from streamer.bundle import find_bundle, load_bundle
from streamer.config import EMBEDDED, Settings
from streamer.durability.store import StateStore
from streamer.errors import ConfigError
from streamer.http import http_server
from streamer.likeness.fleet import FleetLikeness
from streamer.live.board import Board
from streamer.live.feed import LivePage
from streamer.live.site import Names, absent_page, machine_names
from streamer.logs import SIMULATOR_LOG_FORMAT, LogFormat
from streamer.metrics import Metrics, StageClock
from streamer.output import printer
from streamer.recognizer import Recognizer
from streamer.service import Service
from streamer.terminal import ShowLine, can_paint, painted
from streamer.watches import Limits

if TYPE_CHECKING:
    # An extra that need not be installed.
    from streamer.tracing import Tracing

logger = logging.getLogger(__name__)

_NANOSECONDS: Final = 1_000_000_000
#: Eight that change their activity about once a minute: a line every few seconds.
_DEMO_WATCHES: Final = 8
#: Motion that the demonstration's watches have behind them at the start, so that first events come at once.
_DEMO_PREROLL_S: Final = 20
_DEMO_FAREWELL_S: Final = 5.0


def run_service(settings: Settings, *, worker: int = 0) -> None:
    """Run until SIGTERM, Ctrl-C or the end of `duration`.

    Args:
        settings: where and how much.
        worker: which of `settings.workers` processes this one is.

    Raises:
        ConfigError: something given can't be used.
        BrokerError: the broker can't be used and `exit_on_failure` is set.
    """
    bundle = load_bundle(find_bundle(settings.model))
    metrics = Metrics(
        activities=(*bundle.labels, *bundle.groups), model=bundle.manifest.name, model_digest=bundle.digest
    )
    tracing = _tracing(settings, metrics)
    clock = StageClock(metrics) if tracing is None else tracing.stages
    recognizer = Recognizer(
        bundle,
        limits=Limits(
            max_watches=settings.max_watches,
            lateness_ns=round(settings.lateness * _NANOSECONDS),
            silence_ns=round(settings.silence * _NANOSECONDS),
            evict_after_ns=round(settings.evict_after * _NANOSECONDS),
        ),
        every_window=settings.publish == "windows",
        mark=clock.mark,
    )
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        try:
            runner.run(_run(settings, worker, recognizer, metrics, clock, tracing=tracing))
        finally:
            if tracing is not None:
                tracing.close()


async def _run(
    settings: Settings,
    worker: int,
    recognizer: Recognizer,
    metrics: Metrics,
    clock: StageClock,
    *,
    tracing: Tracing | None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if settings.workers > 1:
        _stop_with_parent(loop, stop)
    embedded = settings.demo or settings.broker == EMBEDDED
    async with AsyncExitStack() as stack:
        host, port = settings.broker, settings.port
        if embedded:
            host, port = await stack.enter_async_context(_embedded_broker(settings))
        store = await stack.enter_async_context(_state_store(settings, metrics, recognizer.bundle.digest))
        paints = settings.output == "text" and settings.workers == 1 and can_paint(sys.stdout)
        no_page = why_no_page(settings)
        likeness = FleetLikeness(recognizer.bundle.manifest, recognizer.watches.slot_of)
        board = Board(recognizer, likeness.of) if paints or no_page is None else None
        service = Service(
            settings,
            recognizer,
            metrics,
            clock,
            show=printer("none" if paints else settings.output),
            board=board,
            likeness=likeness,
            store=store,
            announcer=_announcer(settings, recognizer, metrics),
            tracing=tracing,
            embedded=embedded,
            worker=worker,
        )
        page = _live_page(settings, worker, board, service) if board and no_page is None else None
        token = settings.ingest_token()
        http_port = await stack.enter_async_context(
            http_server(
                metrics.registry,
                service.unready,
                host=settings.http_host,
                port=settings.http_port,
                routes=[
                    web.post(ingest.PATH, service.ingest(token).answer),
                    *(page.routes() if page else [absent_page(no_page)]),
                ],
            )
        )
        logger.info("metrics at http://%s:%d/metrics", settings.http_host, http_port)
        if page is not None:
            stack.callback(page.close)
            logger.info("live page at http://%s:%d/", _in_url(way_to(settings.http_host)), http_port)
        else:
            logger.info("no live page: %s", no_page)
        if token is not None:
            logger.info("readings by POST to http://%s:%d/ingest/NAME", settings.http_host, http_port)
        if settings.duration is not None:
            loop.call_later(settings.duration, stop.set)
        above: ShowLine | None = None
        if board is not None and paints:
            place = f"http://{_in_url(way_to(settings.http_host))}:{http_port}/" if page else f"{host}:{port}"
            above = await stack.enter_async_context(_table(board, service, f"{place}  Ctrl-C to end", stop))
        if settings.demo:
            await stack.enter_async_context(_demo_watches(port, settings.log_format, above=above))
        await service.run(stop, host=host, port=port)


@asynccontextmanager
async def _table(board: Board, service: Service, title: str, stop: asyncio.Event) -> AsyncIterator[ShowLine]:
    """A table of the watches at the bottom of the terminal while the context lasts; gives what shows lines above."""
    # Not needed by whoever reads lines.
    from streamer.table import WatchTable  # noqa: PLC0415

    table = WatchTable(board, service.unready, title=title, stream=sys.stdout)
    async with painted(sys.stdout, table.draw, stop) as above:
        yield above


@asynccontextmanager
async def _embedded_broker(settings: Settings) -> AsyncIterator[tuple[str, int]]:
    """A broker inside the process, and where the service reaches it."""
    # Not needed by whoever has a broker, and half a tenth of a second at each start.
    from streamer.broker import embedded_broker  # noqa: PLC0415

    listening, wanted = settings.embedded_address
    account = settings.embedded_account()
    # The demonstration must not fail for a broker that runs already.
    async with embedded_broker(listening, 0 if settings.demo else wanted, account=account) as port:
        logger.info("embedded broker listens on %s:%d", _in_url(listening), port)
        if account is not None and not is_loopback(listening):
            logger.info(
                "in an app on the same network enter host %s, port %d, no TLS, user name %s and its password; "
                "topic har/v1/NAME/imu with any NAME",
                # May ask for this machine's name, and wait for the answer.
                " or ".join(await asyncio.to_thread(own_addresses, listening)) or "(this machine's address)",
                port,
                account.username,
            )
        yield way_to(listening), port


def _announcer(settings: Settings, recognizer: Recognizer, metrics: Metrics) -> Announcer | None:
    """What tells Home Assistant of the watches, None where nobody asked for it."""
    if not settings.home_assistant:
        return None
    return Announcer(settings, recognizer, metrics, version=_version())


def _tracing(settings: Settings, metrics: Metrics) -> Tracing | None:
    """What makes traces, None where nobody asked for them.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    if not settings.tracing:
        return None
    try:
        from streamer.tracing import Tracing  # noqa: PLC0415
    except ModuleNotFoundError as error:
        missing = (error.name or "opentelemetry").partition(".")[0]
        raise ConfigError(
            f"tracing is set, but {missing} is not installed; expected pip install 'har-stream[otel]'"
        ) from None
    return Tracing(metrics, client_id=settings.client_id, version=_version())


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - takes a while to import

    return version("har-stream")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def why_no_page(settings: Settings) -> str | None:
    """Why there is no live page, None where there is one: it shows what people do to whoever reaches the port."""
    if settings.live_page == "off":
        return "live_page is off"
    if settings.live_page == "auto" and not is_loopback(settings.http_host):
        return f"http_host is {settings.http_host}, which others reach too; live_page on would show them what people do"
    return None


def _live_page(settings: Settings, worker: int, board: Board, service: Service) -> LivePage:
    return LivePage(
        board,
        Names(settings.http_host, settings.live_host, machine_names()),
        service.unready,
        worker=worker,
        workers=settings.workers,
        port=settings.http_port and settings.http_port - worker,
    )


def _stop_with_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Stop when the process that started the workers is gone, as by SIGKILL; its successor needs their state."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def gone() -> None:
        loop.remove_reader(parent.sentinel)
        logger.warning("the process that started the workers is gone; stopping")
        stop.set()

    loop.add_reader(parent.sentinel, gone)


@asynccontextmanager
async def _state_store(settings: Settings, metrics: Metrics, model_digest: str) -> AsyncIterator[StateStore | None]:
    """What keeps the state, None where nothing is kept."""
    reason = settings.why_no_state
    if reason is not None:
        logger.info("at most once: what is under way at a crash or restart is lost, as %s", reason)
        yield None
        return
    folder = settings.state_folder()
    store = StateStore(folder, model_digest=model_digest, workers=settings.workers, metrics=metrics)
    logger.info("exactly once: state in %s", folder)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def _demo_watches(port: int, log_format: LogFormat, *, above: ShowLine | None) -> AsyncIterator[None]:
    """The simulator as a child process that replays synthetic watches.

    Args:
        port: of the broker.
        log_format: of its log.
        above: takes its log's lines; None for standard error.
    """
    arguments = (
        "replay synthetic --broker 127.0.0.1 --qos 0 --speed 1 --start now --format cbor "
        f"--port {port} --devices {_DEMO_WATCHES} --preroll {_DEMO_PREROLL_S}"
    )
    code = "from simulator.cli import main; main()"
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", code),
        *arguments.split(),
        stdout=asyncio.subprocess.DEVNULL,
        # On a terminal of its own it would show a bar.
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {SIMULATOR_LOG_FORMAT: log_format},
    )
    logger.info("%d synthetic watches replay over MQTT", _DEMO_WATCHES)
    relay = asyncio.create_task(_relay(child.stderr, above))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(_DEMO_FAREWELL_S):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()
        await relay


async def _relay(lines: asyncio.StreamReader | None, above: ShowLine | None) -> None:
    if lines is not None:
        async for line in lines:
            (above or _print_error)(line.decode(errors="replace").rstrip())


def _print_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """The loop of uvloop where that is installed: cheaper per message; nothing depends on it."""
    try:
        import uvloop  # noqa: PLC0415 - optional, and absent on Windows
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
