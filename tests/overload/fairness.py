"""What one flooding watch costs the others: their latency with and without it, by the same service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simulator.load import LoadOptions, LoadReport, run_load
from simulator.session import Broker
from tests.overload.flood import flooding
from tests.programs import HarStream
from tests.servers import HOST, Mosquitto

#: One message a second each, of a second's readings.
_BATCH = 50


@dataclass(frozen=True, slots=True)
class Fairness:
    """Two loads of the same watches.

    Attributes:
        alone, flooded: the watches' load without and with the flood.
        dropped, left: messages that the service dropped, and left with the broker, whosoever.
        flood_messages: messages that the service had from the flood.
    """

    alone: LoadReport
    flooded: LoadReport
    dropped: float
    left: float
    flood_messages: float

    @property
    def ratio(self) -> float | None:
        """The watches' 99th percentile of latency, with the flood over without; None where no event came."""
        if self.alone.latency_p99_ms is None or self.flooded.latency_p99_ms is None:
            return None
        return self.flooded.latency_p99_ms / self.alone.latency_p99_ms

    def __str__(self) -> str:
        p50, p99, ratio = (
            "none" if number is None else f"{number:.2f}"
            for number in (self.flooded.latency_p50_ms, self.flooded.latency_p99_ms, self.ratio)
        )
        return (
            f"alone p50 {self.alone.latency_p50_ms:.2f} ms, p99 {self.alone.latency_p99_ms:.2f} ms; "
            f"flooded p50 {p50} ms, p99 {p99} ms, ratio {ratio}; "
            f"lost {self.alone.lost} and {self.flooded.lost} of {self.flooded.expected} events; "
            f"{self.flood_messages:.0f} messages of the flood; {self.dropped:.0f} dropped, {self.left:.0f} left"
        )


def measure(
    folder: Path,
    broker: Mosquitto,
    *,
    watches: int = 199,
    per_s: float = 100.0,
    qos: int = 0,
    duration_s: float = 15.0,
    service: tuple[str, ...] = (),
) -> Fairness:
    """Load the same service twice.

    Args:
        folder: for the service's files.
        broker: a running one.
        watches: that behave, one message a second each.
        per_s: messages a second of the one that does not.
        qos: of all.
        duration_s: of each load.
        service: further arguments of the service.
    """
    program = HarStream(
        folder,
        f"--broker={HOST}",
        f"--port={broker.port}",
        "--publish=windows",
        f"--qos={qos}",
        *service,
        output="none",
        state=folder / "state" if qos else None,
    )
    options = LoadOptions(devices=watches, duration_s=duration_s, batch=_BATCH, published="windows")
    address = Broker(HOST, broker.port, qos=1 if qos else 0)
    try:
        program.wait_ready()
        alone = run_load(address, options)
        before = program.metric("har_messages_total")
        with flooding(broker.port, per_s=per_s, qos=qos):
            flooded = run_load(address, options)
        return Fairness(
            alone,
            flooded,
            program.metric("har_dropped_messages_total"),
            program.metric("har_left_messages_total"),
            program.metric("har_messages_total") - before - flooded.messages,
        )
    finally:
        program.kill()
