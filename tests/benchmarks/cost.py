"""Rows 6 and 8: processor time per watch and second, by stage, against the floor, and as the fleet grows."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Final

from streamer.config import DEFAULT_MODEL
from tests.benchmarks.figures import Effort, Figure, Row
from tests.benchmarks.floors import client_us, parser_us, runtime_us
from tests.benchmarks.stand import Run, run

_MOST_OVER_FLOOR: Final = 3.0
_FLEETS: Final = (100, 300, 1_000, 3_000, 10_000)
_PER: Final = "watch-second"


def cost_row(effort: Effort) -> Row:
    """The service and its floors in turns, so that both meet the same machine."""
    options = effort.load(effort.fleet)
    runs: list[Run] = []
    parsers: list[float] = []
    clients: list[float] = []
    runtimes: list[float] = []
    for _ in range(effort.repetitions):
        runs.append(run(options, cores=effort.cores))
        parsers.append(parser_us(options, effort.cores))
        clients.append(client_us(options, effort.cores))
        runtimes.append(runtime_us(DEFAULT_MODEL, effort.cores))
    ratios = [
        one.service_cpu_us / (parser + runtime) for one, parser, runtime in zip(runs, parsers, runtimes, strict=True)
    ]
    whole = median(one.service_cpu_us for one in runs)
    client = median(clients)
    # Publishing is mostly waiting for the broker, so that its time says nothing of the processor's.
    stages = {stage: median(one.stage_us[stage] for one in runs) for stage in runs[0].stage_us if stage != "publish"}
    rest = whole - client - sum(stages.values())
    figures = [
        Figure(name="service over floor", value=median(ratios), unit="times", target=_MOST_OVER_FLOOR),
        Figure(name="service over floor, least", value=min(ratios), unit="times"),
        Figure(name="service over floor, most", value=max(ratios), unit="times"),
        Figure(name="service", value=whole, unit="µs", per=_PER),
        Figure(name="  client", value=client, unit="µs", per=_PER),
        *(Figure(name=f"  {stage}", value=value, unit="µs", per=_PER) for stage, value in stages.items()),
        Figure(name="  publish, event loop, metrics", value=rest, unit="µs", per=_PER),
        Figure(name="floor: ONNX Runtime alone", value=median(runtimes), unit="µs", per=_PER),
        Figure(name="floor: bare asyncio MQTT parser", value=median(parsers), unit="µs", per=_PER),
    ]
    return Row(
        number=6,
        title=f"processor time with {effort.fleet} watches, CBOR batches, over the floor of the same run",
        figures=figures,
        notes=[
            f"medians of {effort.repetitions} runs in turns",
            "client: alone under the same load; decode to track: wall time by the service's own clocks",
            "publish and so on: what is left of its processor time",
        ],
        others_share=max(one.others_share for one in runs),
    )


def growth_row(effort: Effort) -> Row:
    """Processor time per watch over the number of watches."""
    fleets = [n for n in _FLEETS if n <= effort.fleet]
    runs = [run(effort.load(n), cores=effort.cores) for n in fleets]
    costs = [one.service_cpu_us for one in runs]
    figures = [
        Figure(
            name=f"cost per watch at {fleets[-1]} over that at {fleets[0]} watches",
            value=costs[-1] / costs[0],
            unit="times",
            target=1.0,
        ),
        Figure(
            name="most that a larger fleet costs over the next smaller one, per watch",
            value=max((b / a for a, b in pairwise(costs)), default=None),
            unit="times",
        ),
        *(
            Figure(name=f"  {n} watches", value=cost, unit="µs", per=_PER)
            for n, cost in zip(fleets, costs, strict=True)
        ),
    ]
    return Row(
        number=8,
        title=f"processor time per watch from {fleets[0]} to {fleets[-1]} watches: falls or stays flat",
        figures=figures,
        notes=[f"{n} watches were not sustained" for n, one in zip(fleets, runs, strict=True) if not one.is_clean],
        others_share=max(one.others_share for one in runs),
        curves={"µs per watch-second, over watches": [(float(n), c) for n, c in zip(fleets, costs, strict=True)]},
    )
