"""Row 9: what the service costs when there is nothing to do, and how soon it is there."""

from __future__ import annotations

import select
import subprocess
import time
from contextlib import closing
from statistics import median
from typing import Final

from simulator.load_mqtt import Connection
from simulator.session import Broker
from streamer.wire import topics
from tests.benchmarks import proc
from tests.benchmarks.figures import Effort, Figure, Row
from tests.benchmarks.stand import broker, run, service
from tests.programs import BIN

_REPETITIONS: Final = 5
_PATIENCE_S: Final = 30.0


def idle_row(effort: Effort) -> Row:
    """Idle cost, time to the first subscription, time of --help."""
    with broker(effort.cores) as mosquitto, service(mosquitto, effort.cores) as started:
        pid = started.process.pid
        time.sleep(2)  # what starting up still has to do
        before_s, from_s = proc.cpu_s(pid), time.monotonic()
        time.sleep(effort.seconds)  # the measurement itself
        idle = (proc.cpu_s(pid) - before_s) / (time.monotonic() - from_s)
    one = run(effort.load(1), cores=effort.cores)
    return Row(
        number=9,
        title="idle, start and help",
        figures=[
            Figure(name="no watch", value=100 * idle, unit="% of a core", target=0.5),
            Figure(
                name="one watch, 1-second CBOR batches", value=100 * one.service_share, unit="% of a core", target=1.0
            ),
            Figure(
                name=f"start to first subscription, median of {_REPETITIONS}",
                value=median(_start_s(effort) for _ in range(_REPETITIONS)),
                unit="s",
                target=1.5,
            ),
            Figure(
                name=f"har-stream --help, median of {_REPETITIONS}",
                value=median(_help_s(effort) for _ in range(_REPETITIONS)),
                unit="s",
                target=0.3,
            ),
        ],
        others_share=one.others_share,
    )


def _start_s(effort: Effort) -> float:
    """From the start of the process until it says that it is subscribed."""
    with broker(effort.cores) as mosquitto:
        address = Broker(mosquitto.host, mosquitto.port, qos=0)
        with closing(Connection(address, "watcher", subscribe=topics.STATUS_FILTER)) as connection:
            begin_s = time.monotonic()
            command = [str(BIN / "har-stream"), "--broker", mosquitto.host, "--port", str(mosquitto.port)]
            with subprocess.Popen([*command, "--http-port", "0"], stderr=subprocess.DEVNULL) as process:
                proc.pin(process.pid, effort.cores.service)
                said: list[bytes] = []
                while b"online" not in said:
                    readable, _, _ = select.select([connection], [], [], _PATIENCE_S)
                    if not readable:
                        raise TimeoutError(f"har-stream has not subscribed within {_PATIENCE_S} s")
                    said += connection.receive()
                took_s = time.monotonic() - begin_s
                process.terminate()
    return took_s


def _help_s(effort: Effort) -> float:
    begin_s = time.monotonic()
    with subprocess.Popen([str(BIN / "har-stream"), "--help"], stdout=subprocess.DEVNULL) as process:
        proc.pin(process.pid, effort.cores.service)
    return time.monotonic() - begin_s
