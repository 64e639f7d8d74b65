"""Row 12: what it costs that nothing is lost: the journal, snapshots and acknowledgements, beside doing without."""

from __future__ import annotations

from statistics import median

from tests.benchmarks.figures import Effort, Figure, Row
from tests.benchmarks.stand import Run, run

_PER = "watch-second"


def durability_row(effort: Effort) -> Row:
    """The same load of QoS 1 in turns, with the state kept and without."""
    devices = effort.fleet // 2
    kept: list[Run] = []
    without: list[Run] = []
    for _ in range(effort.repetitions):
        for runs, keeps_state in ((without, False), (kept, True)):
            options = effort.load(devices)
            runs.append(run(options, cores=effort.cores, qos=1, keeps_state=keeps_state))
    cost, floor = (median(one.service_cpu_us for one in runs) for runs in (kept, without))
    figures = [
        Figure(name="with the state kept over without", value=cost / floor, unit="times"),
        Figure(name="  with", value=cost, unit="µs", per=_PER),
        Figure(name="  without", value=floor, unit="µs", per=_PER),
    ]
    for name, runs in (("with", kept), ("without", without)):
        latencies = [one.report.latency_p99_ms for one in runs if one.report.latency_p99_ms is not None]
        figures.append(Figure(name=f"  p99 {name}", value=median(latencies) if latencies else None, unit="ms"))
    return Row(
        number=12,
        title=f"exactly once: processor time of {devices} watches, QoS 1",
        figures=figures,
        notes=["something was lost or dropped" for one in (*kept, *without) if not one.is_clean],
        others_share=max(one.others_share for one in (*kept, *without)),
    )
