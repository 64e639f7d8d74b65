"""CPU time per received message of the two MQTT clients behind streamer.mqtt, in turns, through a real Mosquitto.

    python -m tests.benchmarks.clients

A flood of 1.2 kB messages is published by mosquitto_pub; each client counts them in a process of its own, on uvloop,
MQTT 5. Quote the ratios: the machine's speed falls out of them.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import uvloop

from streamer.ingress import Arrival
from streamer.mqtt import by_aiomqtt, by_gmqtt
from streamer.mqtt.connection import Connect, Link, Outgoing
from tests.servers import HOST, Mosquitto, find_program

_CONNECT: Final[dict[str, Connect]] = {"gmqtt": by_gmqtt.connect, "aiomqtt": by_aiomqtt.connect}
_TOPIC: Final = "har/v1/wrist/imu"
_BYTES: Final = 1200


async def count(client: str, port: int, qos: int, messages: int) -> float:
    """CPU seconds of this process from the first of `messages` messages to the last."""
    arrived = 0
    first_s = last_s = 0.0
    all_here = asyncio.Event()

    def receive(_arrival: Arrival) -> None:
        nonlocal arrived, first_s, last_s
        if not arrived:
            first_s = time.process_time()
        arrived += 1
        if arrived == messages:
            last_s = time.process_time()
            all_here.set()

    link = Link(
        host=HOST,
        port=port,
        client_id=f"bench-{client}",
        username=None,
        password=None,
        tls=None,
        keepalive_s=60,
        timeout_s=10,
        will=Outgoing("bench/will", b""),
        persistent=False,
        numbers=itertools.count(1),
    )
    async with _CONNECT[client](link, True, receive) as connection:  # noqa: FBT003 # a `Connect`
        await connection.subscribe(_TOPIC, qos)
        flood = await asyncio.create_subprocess_exec(
            "mosquitto_pub",
            *("-h", HOST, "-p", str(port), "-t", _TOPIC, "-q", str(qos), "-l"),
            stdin=asyncio.subprocess.PIPE,
        )
        await flood.communicate((b"x" * _BYTES + b"\n") * messages)
        async with asyncio.timeout(60):
            await all_here.wait()
    return last_s - first_s


def main() -> None:
    """Run the clients in turns and print CPU per message and the ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--one", nargs=3, metavar=("CLIENT", "PORT", "QOS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        client, port, qos = options.one
        loop = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        print(loop.run(count(client, int(port), int(qos), options.messages)))  # noqa: T201 # its purpose
        return
    program = find_program("mosquitto")
    if program is None:
        raise SystemExit("mosquitto is not installed: apt-get install mosquitto mosquitto-clients")
    report: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(program, Path(folder))
        broker.start()
        try:
            for qos in (0, 1):
                spent: dict[str, list[float]] = {client: [] for client in _CONNECT}
                for _ in range(options.turns):
                    for client, seconds in spent.items():
                        command = [sys.executable, "-m", "tests.benchmarks.clients", "--one", client]
                        command += [str(broker.port), str(qos), "--messages", str(options.messages)]
                        done = subprocess.run(command, capture_output=True, text=True, check=True)
                        seconds.append(float(done.stdout))
                medians = {client: 1e6 * statistics.median(s) / options.messages for client, s in spent.items()}
                ratios = [a / g for a, g in zip(spent["aiomqtt"], spent["gmqtt"], strict=True)]
                report[f"qos {qos}"] = {
                    **{f"{client}_us_per_message": round(us, 1) for client, us in medians.items()},
                    "aiomqtt_over_gmqtt": round(statistics.median(ratios), 2),
                }
        finally:
            broker.stop()
    print(json.dumps(report, indent=2))  # noqa: T201 # its purpose


if __name__ == "__main__":
    main()
