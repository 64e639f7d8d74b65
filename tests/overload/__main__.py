"""`python -m tests.overload`: what one flooding watch costs the others, and ten minutes without a broker."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.overload.fairness import measure
from tests.overload.outage import outage
from tests.servers import Mosquitto, find_program


def main() -> int:
    """Run what was asked for; 1 when an event was lost or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.overload", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    flood = commands.add_parser("flood", help="199 watches and one that sends a multiple of its share")
    flood.add_argument("--per-s", type=float, default=100.0, help="its messages per second; theirs is one")
    flood.add_argument("--qos", type=int, choices=[0, 1], default=1)
    flood.add_argument("--seconds", type=float, default=60.0, help="of each of the two loads")
    away = commands.add_parser("outage", help="a broker that is away, and the catching up")
    away.add_argument("--watches", type=int, default=500)
    away.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="har-stream-overload.") as name:
        folder = Path(name)
        if arguments.command == "outage":
            catching = outage(
                folder / "outage", watches=arguments.watches, outage_s=60 * arguments.minutes, around_s=20.0
            )
            print(catching)  # noqa: T201 # its purpose
            return int(not catching.verdict.ok)
        program = find_program("mosquitto")
        if program is None:
            raise SystemExit("mosquitto is not installed: apt-get install mosquitto")
        broker = Mosquitto(program, folder)
        broker.start()
        try:
            fairness = measure(folder, broker, per_s=arguments.per_s, qos=arguments.qos, duration_s=arguments.seconds)
        finally:
            broker.stop()
        print(fairness)  # noqa: T201 # its purpose
        return int(bool(fairness.flooded.lost))


if __name__ == "__main__":
    # Ended by SIGTERM, too, no process and no mount must be left behind.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    sys.exit(main())
