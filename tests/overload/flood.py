"""One watch that sends far more than its share, from a process of its own: `python -m tests.overload.flood`."""

from __future__ import annotations

import argparse
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from simulator.load_fleet import FIRST_SEQ, NANOSECONDS, Fleet, Motion
from simulator.load_mqtt import MAX_UNACKNOWLEDGED, Connection
from simulator.session import Broker
from streamer.wire import topics
from tests.servers import HOST

DEVICE = "flood-000000"
_BATCH = 50
_RATE_HZ = 50
_TURN_S = 0.002


@contextmanager
def flooding(port: int, *, per_s: float, qos: int) -> Iterator[subprocess.Popen[str]]:
    """A flood for as long as the context lasts; it has begun when the context is entered."""
    command = [sys.executable, "-m", "tests.overload.flood", f"--port={port}", f"--per-s={per_s}", f"--qos={qos}"]
    flood = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert flood.stdout is not None
        flood.stdout.readline()
        yield flood
    finally:
        flood.terminate()
        flood.communicate(timeout=20)


def main() -> None:
    """Send until SIGTERM; a line when the first message is out, then how many there were."""
    parser = argparse.ArgumentParser(prog="python -m tests.overload.flood", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--per-s", type=float, required=True, help="messages of a second's readings, per second")
    parser.add_argument("--qos", type=int, choices=[0, 1], default=0)
    arguments = parser.parse_args()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))

    fleet = Fleet(devices=1, rate_hz=_RATE_HZ, batch=_BATCH, name="flood")
    motion = Motion(fleet, "cbor", qos=arguments.qos)
    connection = Connection(Broker(HOST, arguments.port), "flood")
    topic = topics.imu(fleet.device(0)).encode()
    # A day behind, so that its readings, which run ahead of time, are none of the future for as long as anybody looks.
    first_ns = time.time_ns() - 86_400 * NANOSECONDS
    began_s, sent = time.monotonic(), 0
    print("began", flush=True)  # noqa: T201 # read by the parent
    while not stopped:
        due = round((time.monotonic() - began_s) * arguments.per_s) - sent
        if not connection.unsent and connection.unacknowledged < MAX_UNACKNOWLEDGED:
            for _ in range(min(due, 500)):
                identifier = connection.next_identifier() if arguments.qos else b""
                template = motion.template(0, sent)
                connection.unsent += template.stamped(
                    topic, identifier, first_ns + sent * fleet.period_ns, FIRST_SEQ + sent
                )
                sent += 1
        readable, _, _ = select.select([connection], [connection] if connection.unsent else [], [], _TURN_S)
        if readable:
            connection.receive()
        if connection.unsent:
            connection.send()
    print(sent)  # noqa: T201 # for whoever runs it by hand


if __name__ == "__main__":
    main()
