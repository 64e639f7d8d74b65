"""A fleet in real time through a real Mosquitto: latency, losses, lateness and memory of one service process.

    python -m tests.benchmarks.fleet --watches 200 --seconds 60

Latency runs from the moment at which a window's closing message was due to be published (not from when it was: a slow
sender must not hide a slow service) to the arrival of the window's event at a subscriber. Which message closes a
window is what the recognizer itself says when it is given the same messages one by one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import aiomqtt
import msgspec
import numpy as np

from simulator.synthetic import synthetic_watches
from simulator.watches import fleet, in_time_order
from streamer.bundle import find_bundle, load_bundle
from streamer.config import DEFAULT_MODEL
from streamer.recognizer import Recognizer
from streamer.wire import topics
from streamer.wire.events import ActivityEvent
from streamer.wire.payload import encode_cbor
from tests.programs import HarStream
from tests.servers import Mosquitto, find_program, wait_until

_LEAD_S: Final = 2.0
_SETTLE_S: Final = 3.0
_NO_DELAY: Final = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured; times in milliseconds, memory in MB.

    Attributes:
        windows: events received; windows_expected: what the recognizer gives for the same messages.
        sender_lag_p99_ms: how late the load itself was; part of the latency below, too.
        memory_growth_mb: resident memory at the end less that after a third of the time.
    """

    watches: int
    seconds: float
    messages: int
    readings: int
    windows: int
    windows_expected: int
    dropped: int
    late: int
    sender_lag_p99_ms: float
    latency_p50_ms: float
    latency_p99_ms: float
    latency_p999_ms: float
    cpu_share: float
    memory_mb: float
    memory_growth_mb: float


@dataclass(frozen=True, slots=True)
class _Sent:
    due_s: float
    topic: str
    payload: bytes
    readings: int


def _load(watches: int, seconds: float, batch: int) -> tuple[list[_Sent], dict[tuple[str, int], float]]:
    """Messages with their time from the start, and for each window (device, start) when its closing one is due."""
    start_ns = time.time_ns()
    copies = fleet(synthetic_watches(watches, seed=1), devices=watches, start_ns=start_ns)
    recognizer = Recognizer(load_bundle(find_bundle(DEFAULT_MODEL)), every_window=True)
    sent: list[_Sent] = []
    closing: dict[tuple[str, int], float] = {}
    for message in in_time_order(copies, batch):
        due_s = (int(message.t_ns[-1]) - start_ns) / 1e9
        if due_s > seconds:
            break
        sent.append(_Sent(due_s, topics.imu(message.device_id), encode_cbor(message), len(message)))
        for event in recognizer.recognize([message], now_ns=0).events:
            if event.type == "window":
                closing[event.device, event.window_start_ns] = due_s
    return sent, closing


async def _drive(
    broker: Mosquitto, sent: list[_Sent], begin_s: float
) -> tuple[list[float], dict[tuple[str, int], float]]:
    lags: list[float] = []
    received: dict[tuple[str, int], float] = {}

    async def receive(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            now_s = time.monotonic()
            event = msgspec.json.decode(message.payload, type=ActivityEvent)
            received[event.device, event.window_start_ns] = now_s - begin_s

    async def send() -> None:
        async with aiomqtt.Client(broker.host, broker.port, socket_options=_NO_DELAY) as sender:
            for message in sent:
                wait_s = begin_s + message.due_s - time.monotonic()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                lags.append(time.monotonic() - begin_s - message.due_s)
                await sender.publish(message.topic, message.payload, qos=0)

    async with aiomqtt.Client(broker.host, broker.port) as subscriber:
        await subscriber.subscribe(topics.output("+", "window"), qos=0)
        receiver = asyncio.create_task(receive(subscriber))
        await send()
        await asyncio.sleep(_SETTLE_S)
        receiver.cancel()
    return lags, received


async def _sample_memory(service: HarStream, begin_s: float, seconds: float) -> tuple[float, float]:
    await asyncio.sleep(begin_s + seconds / 3 - time.monotonic())
    early = await asyncio.to_thread(service.metric, "process_resident_memory_bytes")
    await asyncio.sleep(begin_s + seconds - time.monotonic())
    late = await asyncio.to_thread(service.metric, "process_resident_memory_bytes")
    return early, late


def measure(folder: Path, *, watches: int, seconds: float, batch: int = 25) -> Report:
    """Run the fleet once against a Mosquitto and a service of its own."""
    program = find_program("mosquitto")
    if program is None:
        raise SystemExit("mosquitto is not installed: apt-get install mosquitto")
    sent, closing = _load(watches, seconds, batch)
    broker = Mosquitto(program, folder)
    broker.start()
    service = HarStream(
        folder, "--broker", broker.host, "--port", str(broker.port), "--publish", "windows", "--qos", "0"
    )
    try:
        service.wait_ready()
        cpu_s = service.metric("process_cpu_seconds_total")
        begin_s = time.monotonic() + _LEAD_S

        async def both() -> tuple[tuple[list[float], dict[tuple[str, int], float]], tuple[float, float]]:
            return await asyncio.gather(_drive(broker, sent, begin_s), _sample_memory(service, begin_s, seconds))

        (lags, received), (early, late) = asyncio.run(both())
        wait_until(lambda: service.metric("har_queue_messages") == 0, "queue worked off")
        cpu_s = service.metric("process_cpu_seconds_total") - cpu_s
        latency_ms = np.array([1000 * (received[w] - due) for w, due in closing.items() if w in received])
        return Report(
            watches=watches,
            seconds=seconds,
            messages=len(sent),
            readings=sum(m.readings for m in sent),
            windows=len(received),
            windows_expected=len(closing),
            dropped=int(service.metric("har_dropped_messages_total")),
            late=int(service.metric("har_late_readings_total")),
            sender_lag_p99_ms=float(1000 * np.quantile(lags, 0.99)),
            latency_p50_ms=float(np.quantile(latency_ms, 0.5)),
            latency_p99_ms=float(np.quantile(latency_ms, 0.99)),
            latency_p999_ms=float(np.quantile(latency_ms, 0.999)),
            cpu_share=cpu_s / seconds,
            memory_mb=late / 1e6,
            memory_growth_mb=(late - early) / 1e6,
        )
    finally:
        service.kill()
        broker.stop()


def main() -> None:
    """Measure as the command line says, and print the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watches", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--batch", type=int, default=25, help="readings per message")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), watches=options.watches, seconds=options.seconds, batch=options.batch)
    print(json.dumps(asdict(report), indent=2))  # noqa: T201 - its purpose


if __name__ == "__main__":
    main()
