"""The whole table: how many watches, how fast, at what cost, against floors and peers, on this machine in this run.

    python -m tests.benchmarks                     everything, about an hour
    python -m tests.benchmarks --quick             the same, coarsely, in a quarter of an hour
    python -m tests.benchmarks --rows 1,6,8        some rows

The service has the first core for itself; broker, load generator and this process share the last one. Absolute figures
are this machine's; what compares is what each was divided by, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, get_args

from simulator.load_expectation import Published
from streamer.errors import HarError
from tests.benchmarks import proc
from tests.benchmarks.capacity import ROWS as CAPACITY_ROWS
from tests.benchmarks.cost import cost_row, growth_row
from tests.benchmarks.durability import durability_row
from tests.benchmarks.figures import Effort, MeasureRow, Row, text
from tests.benchmarks.idle import idle_row
from tests.benchmarks.latency import latency_row
from tests.benchmarks.memory import memory_row
from tests.benchmarks.peers_row import peers_row
from tests.benchmarks.resources import resources_row
from tests.benchmarks.stand import Cores
from tests.benchmarks.throughput import throughput_row
from tests.benchmarks.workers import workers_row

ROWS: Final[dict[int, MeasureRow]] = {
    **CAPACITY_ROWS,
    5: latency_row,
    6: cost_row,
    7: memory_row,
    8: growth_row,
    9: idle_row,
    10: peers_row,
    11: throughput_row,
    12: durability_row,
    13: resources_row,
    14: workers_row,
}
_PACKAGES: Final = ("numpy", "scipy", "onnxruntime", "msgspec", "cbor2", "uvloop", "aiomqtt", "gmqtt")


def _rows(given: str) -> list[int]:
    try:
        numbers = [int(number) for number in given.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not set(numbers) <= ROWS.keys():
        raise argparse.ArgumentTypeError(f"{given!r}: expected numbers from {min(ROWS)} to {max(ROWS)} with commas")
    return sorted(set(numbers))


def conditions(cores: Cores) -> dict[str, Any]:
    """What the figures depend on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "begun": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "processor": model[0].partition(":")[2].strip() if model else platform.machine(),
        "cores": os.cpu_count(),
        "service_core": cores.service,
        "other_core": cores.rest,
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=_rows, default=list(ROWS), metavar="1,2,...", help="which rows")
    parser.add_argument("--quick", action="store_true", help="shorter loads, coarser search")
    parser.add_argument("--fleet", type=int, default=10_000, help="watches of rows 6 to 8")
    parser.add_argument(
        "--publish",
        choices=get_args(Published),
        default="changes",
        help="the service's --publish in all rows but 5, which times every window",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it")
    options = parser.parse_args(arguments)
    cores = Cores.available()
    proc.pin(0, cores.rest)
    given = {"cores": cores, "fleet": options.fleet, "published": options.publish}
    if options.quick:
        effort = Effort(seconds=10, step=1.2, repetitions=1, **given)
    else:
        effort = Effort(seconds=30, step=1.05, repetitions=3, **given)
    document: dict[str, Any] = {"conditions": conditions(cores), "effort": asdict(effort), "rows": []}
    rows: list[Row] = []
    failed = False
    for number in options.rows:
        try:
            row = ROWS[number](effort)
        except (HarError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            # The other rows may take an hour more and are worth it.
            print(f"{number}. failed: {error}", file=sys.stderr, flush=True)  # noqa: T201 - its purpose
            failed = True
            continue
        rows.append(row)
        print(text(row), flush=True)  # noqa: T201 - its purpose
        document["rows"].append(_as_json(row))
        if options.json is not None:
            # Row by row: a run that is broken off has not been for nothing.
            options.json.write_text(json.dumps(document, indent=2) + "\n")
    if options.plot is not None:
        from tests.benchmarks.plot import plot  # noqa: PLC0415 - matplotlib takes a second to load

        plot(rows, options.plot)
    sys.exit(failed)


def _as_json(row: Row) -> dict[str, Any]:
    figures = [asdict(figure) | {"ratio": figure.ratio, "reached": figure.is_reached} for figure in row.figures]
    return asdict(row) | {"figures": figures}


if __name__ == "__main__":
    main()
