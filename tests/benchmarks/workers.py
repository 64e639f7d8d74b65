"""Row 14: what it costs to share a fleet among worker processes, each of which hears everything and follows its own."""

from __future__ import annotations

from statistics import median
from typing import Final

from tests.benchmarks.figures import Effort, Figure, Row
from tests.benchmarks.stand import Run, run

_PER: Final = "watch-second"
_MOST_OVER_ONE: Final = 1.15


def workers_row(effort: Effort) -> Row:
    """One worker and two in turns under the same load, as the service is started by default: QoS 1, the state kept."""
    devices = effort.fleet // 2
    runs: dict[int, list[Run]] = {1: [], 2: []}
    for _ in range(effort.repetitions):
        for workers, done in runs.items():
            options = effort.load(devices)
            done.append(run(options, cores=effort.cores, qos=1, keeps_state=True, workers=workers))
    ratios = [two.service_cpu_us / one.service_cpu_us for one, two in zip(runs[1], runs[2], strict=True)]
    figures = [
        Figure(name="two workers over one, per watch", value=median(ratios), unit="times", target=_MOST_OVER_ONE),
        Figure(name="  least", value=min(ratios), unit="times"),
        Figure(name="  most", value=max(ratios), unit="times"),
        *(
            Figure(name=f"  {workers}", value=median(one.service_cpu_us for one in done), unit="µs", per=_PER)
            for workers, done in runs.items()
        ),
    ]
    every = [*runs[1], *runs[2]]
    return Row(
        number=14,
        title=f"--workers 2: processor time of {devices} watches, QoS 1, both workers on the service's core",
        figures=figures,
        notes=["something was lost or dropped" for one in every if not one.is_clean],
        others_share=max(one.others_share for one in every),
    )
