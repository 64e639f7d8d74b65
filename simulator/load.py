"""`simulator load`: thousands of watches from one process, and what becomes of their events.

Latency counts from the moment at which the message that decided an event was due, not from when it was sent: a load
that falls behind cannot hide a service that does.
"""

from __future__ import annotations

import gc
import signal
import time
import uuid
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

from simulator.load_expectation import TOPIC_KINDS, Published, expectation
from simulator.load_fleet import JOIN_S, NANOSECONDS, Fleet, Format, Motion
from simulator.load_mqtt import Connection
from simulator.load_run import Exchange, Sender, Tally
from simulator.session import Broker
from streamer.bundle import find_bundle, load_bundle
from streamer.config import DEFAULT_MODEL
from streamer.wire import topics

#: From the subscription to the first message, so that the beginning is no rush.
_LEAD_NS: Final = NANOSECONDS // 2

#: The first message is due; the warm-up is over; the last message is sent; the events have been waited for.
Phase = Literal["begin", "steady", "end", "settled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """The command line's options; see `simulator load --help`."""

    devices: int
    duration_s: float
    rate_hz: int = 50
    batch: int = 50
    payload_format: Format = "cbor"
    published: Published = "changes"
    model: str = DEFAULT_MODEL
    lateness_s: float = 0.1
    warmup_s: float = JOIN_S
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What was sent and what came of it.

    Attributes:
        seconds: from the first message's due time until the last one was sent.
        messages, readings: sent.
        offered_messages_per_s: due per second once all watches have joined.
        messages_per_s: sent per second after the warm-up; None when the load ended before.
        lag: how late messages were handed to the kernel; it is part of the latency, too.
        expected, lost: events that the sent messages must bring about, and those among them that did not come.
        duplicate: events that came again; unexpected: events of these watches that nothing sent explains.
        latency: from when the deciding message was due to the arrival of its event, after the warm-up; None where no
            event came.
        cpu_share: processor time of this process per second, while it sends.
    """

    devices: int
    rate_hz: int
    batch: int
    payload_format: Format
    published: Published
    qos: int
    seconds: float
    messages: int
    readings: int
    offered_messages_per_s: float
    messages_per_s: float | None
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    lag_max_ms: float | None
    expected: int
    lost: int
    duplicate: int
    unexpected: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    latency_p999_ms: float | None
    latency_max_ms: float | None
    cpu_share: float
    interrupted: bool

    def summary(self) -> dict[str, float | int | str | bool | None]:
        """What `--summary json` prints."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


def run_load(
    broker: Broker, options: LoadOptions, *, on_phase: Callable[[Phase], None] = lambda _phase: None
) -> LoadReport:
    """Offer the load, wait for its events, and report; Ctrl-C and SIGTERM end it early.

    Args:
        broker: where to publish, and with which quality of service.
        options: what to publish.
        on_phase: told of each phase as it is reached.

    Raises:
        BrokerError: there is no broker, it refuses, or a connection is lost.
        ConfigError, BundleError: an option or the model cannot be used.
    """
    batch = 1 if options.payload_format == "single" else options.batch
    name = f"load-{uuid.uuid4().hex[:6]}"
    fleet = Fleet(devices=options.devices, rate_hz=options.rate_hz, batch=batch, name=name)
    motion = Motion(fleet, options.payload_format, qos=broker.qos, seed=options.seed)
    slots = fleet.slots_until(round(options.duration_s * NANOSECONDS))
    expected = expectation(
        fleet,
        motion,
        load_bundle(find_bundle(options.model)),
        rounds=-(-slots // fleet.devices),
        published=options.published,
        lateness_ns=round(options.lateness_s * NANOSECONDS),
    )
    warmup_ns = round(options.warmup_s * NANOSECONDS)
    steady = min(slots, fleet.slots_until(warmup_ns))
    events = topics.output("+", TOPIC_KINDS[options.published])
    with closing(Connection(broker, name, subscribe=events)) as connection, _undisturbed():
        begin_ns, epoch_ns = time.monotonic_ns() + _LEAD_NS, time.time_ns() + _LEAD_NS
        sender = Sender(fleet, motion, connection, epoch_ns, qos=broker.qos)
        tally = Tally(fleet, expected, options.published, epoch_ns, counted_from_ns=warmup_ns)
        exchange = Exchange(fleet, sender, tally, connection, begin_ns)
        with _stopped_by_signals(exchange.stop):
            exchange.begin()
            on_phase("begin")
            cpu_s = time.process_time()
            exchange.send_until(steady)
            on_phase("steady")
            messages_before, steady_s = sender.messages, time.monotonic()
            exchange.send_until(slots)
            end_s, cpu_s = time.monotonic(), time.process_time() - cpu_s
            on_phase("end")
            exchange.settle()
            on_phase("settled")
    seconds = end_s - begin_ns / NANOSECONDS
    messages = sender.messages
    must_come = tally.expected(sender.slot)
    return LoadReport(
        devices=fleet.devices,
        rate_hz=fleet.rate_hz,
        batch=fleet.batch,
        payload_format=options.payload_format,
        published=options.published,
        qos=broker.qos,
        seconds=seconds,
        messages=messages,
        readings=messages * fleet.batch,
        offered_messages_per_s=fleet.messages_per_s,
        messages_per_s=(messages - messages_before) / (end_s - steady_s) if slots > steady else None,
        lag_p50_ms=_quantile(sender.lags_ms, 0.5),
        lag_p99_ms=_quantile(sender.lags_ms, 0.99),
        lag_max_ms=_quantile(sender.lags_ms, 1),
        expected=must_come,
        lost=must_come - tally.came,
        duplicate=tally.duplicate,
        unexpected=tally.unexpected,
        latency_p50_ms=_quantile(tally.latencies_ms, 0.5),
        latency_p99_ms=_quantile(tally.latencies_ms, 0.99),
        latency_p999_ms=_quantile(tally.latencies_ms, 0.999),
        latency_max_ms=_quantile(tally.latencies_ms, 1),
        cpu_share=cpu_s / seconds,
        interrupted=exchange.stopped,
    )


def _quantile(values: array[float], share: float) -> float | None:
    return float(np.quantile(np.frombuffer(values, np.float32), share)) if values else None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection: one of all prepared packets takes longer than a message may be late."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM call `stop`; a second one does what it always does."""
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, _frame: object) -> None:
        stop()
        signal.signal(number, before[signal.Signals(number)])

    for which in (signal.SIGINT, signal.SIGTERM):
        before[which] = signal.signal(which, handle)
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
