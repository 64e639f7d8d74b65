"""Floors: what the work costs when nothing is done but what must be done.

* ONNX Runtime alone on the windows of the load, in its best batches.
* A bare asyncio MQTT parser that is subscribed to the same readings and takes topic and payload from each packet.

And, no floor but a share of the service's own cost: its MQTT client, subscribed to the same readings, alone.

Each runs in a process of its own, on the service's core, with the service's event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import uvloop

from simulator.load import LoadOptions, Phase, run_load
from simulator.load_mqtt import Connection
from simulator.load_packets import packets
from simulator.session import Broker
from simulator.synthetic import synthetic_watches
from streamer.bundle import find_bundle, load_bundle
from streamer.classifier import Classifier
from streamer.mqtt import by_gmqtt
from streamer.mqtt.connection import Link, Outgoing
from streamer.preprocessing.pipeline import windows_of
from streamer.wire import topics
from tests.benchmarks import proc
from tests.benchmarks.stand import Cores, broker

_WATCHES: Final = 8
_MOTION_S: Final = 60.0
#: Windows for each run; the cheapest counts.
_BATCHES: Final = (8, 64, 256)
_RUN_S: Final = 1.0


def runtime_us(model: str, cores: Cores) -> float:
    """Processor time of ONNX Runtime alone per watch and second, µs: the cheapest of several batch sizes.

    Args:
        model: the bundle.
        cores: the service's core is used.
    """
    command = [sys.executable, "-m", "tests.benchmarks.floors", "runtime", model, str(cores.service)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def parser_us(options: LoadOptions, cores: Cores) -> float:
    """Processor time of a bare asyncio MQTT parser per watch and second, µs, under a load.

    Args:
        options: the load; no service answers it.
        cores: the service's core is used.
    """
    return _listener_us("parser", options, cores)


def client_us(options: LoadOptions, cores: Cores) -> float:
    """Like `parser_us`, of the service's MQTT client, which forgets what it hands on."""
    return _listener_us("client", options, cores)


def _listener_us(what: str, options: LoadOptions, cores: Cores) -> float:
    marks: dict[Phase, tuple[float, float]] = {}
    with broker(cores) as mosquitto, _listener(what, mosquitto.host, mosquitto.port, cores) as pid:
        report = run_load(
            Broker(mosquitto.host, mosquitto.port, qos=0),
            options,
            on_phase=lambda phase: marks.__setitem__(phase, (time.monotonic(), proc.cpu_s(pid))),
        )
    (from_s, before_s), (until_s, after_s) = marks["steady"], marks["end"]
    return 1e6 * (after_s - before_s) / (until_s - from_s) / report.devices


@contextmanager
def _listener(what: str, host: str, port: int, cores: Cores) -> Iterator[int]:
    command = [sys.executable, "-m", "tests.benchmarks.floors", what, host, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        proc.pin(process.pid, cores.service)
        try:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"the {what} did not start")
            yield process.pid
        finally:
            process.terminate()


class _Parser(asyncio.Protocol):
    """Takes topic and payload from each packet, and forgets them."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for _first, body in packets(self._buffer):
            end = 2 + int.from_bytes(body[:2], "big")
            body[2:end].decode()
            body[end:]


async def _parse(host: str, port: int) -> None:
    connection = Connection(Broker(host, port, qos=0), "floor", subscribe=topics.IMU_FILTER)
    taken = socket.socket(fileno=os.dup(connection.fileno()))
    transport, _ = await asyncio.get_running_loop().create_connection(_Parser, sock=taken)
    print("ready", flush=True)  # noqa: T201 - read by the parent
    await asyncio.Event().wait()
    transport.close()


async def _listen(host: str, port: int) -> None:
    link = Link(
        host=host,
        port=port,
        client_id="client",
        username=None,
        password=None,
        tls=None,
        keepalive_s=60,
        timeout_s=10,
        will=Outgoing("bench/will", b""),
        persistent=False,
        numbers=itertools.count(1),
    )
    async with by_gmqtt.connect(link, True, lambda _arrival: None) as connection:  # noqa: FBT003 # a `Connect`
        await connection.subscribe(topics.IMU_FILTER, 0)
        print("ready", flush=True)  # noqa: T201 - read by the parent
        await connection.lost()


def _runtime(model: str) -> float:
    """µs per watch and second."""
    bundle = load_bundle(find_bundle(model))
    classifier = Classifier(bundle)
    recordings = [watch.recording(_MOTION_S) for watch in synthetic_watches(_WATCHES, rate_hz=50)]
    windows = np.concatenate([windows_of(recording.streams, bundle.spec).samples for recording in recordings])
    best_s = float("inf")
    for batch in _BATCHES:
        begin_s, classified = time.process_time(), 0
        while time.process_time() - begin_s < _RUN_S:
            for first in range(0, len(windows), batch):
                classifier.predict(windows[first : first + batch])
            classified += len(windows)
        best_s = min(best_s, (time.process_time() - begin_s) / classified)
    return 1e6 * best_s * 1e9 / (bundle.spec.hop_len * bundle.spec.period_ns)


def main() -> None:
    """Be one of the floors, as a child process."""
    what, *arguments = sys.argv[1:]
    if what == "runtime":
        model, core = arguments
        proc.pin(0, int(core))
        print(_runtime(model))  # noqa: T201 - read by the parent
    else:
        host, port = arguments
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run((_parse if what == "parser" else _listen)(host, int(port)))


if __name__ == "__main__":
    main()
