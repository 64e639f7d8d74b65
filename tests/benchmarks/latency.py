"""Row 5: how long an event takes, from when its deciding message was due to its arrival at a subscriber."""

from __future__ import annotations

from typing import Final

from tests.benchmarks.figures import Effort, Figure, Row
from tests.benchmarks.stand import run

_SMALL: Final = 100
#: Milliseconds at the median, at 99 and at 99.9 of 100.
_TARGETS_MS: Final = {"100 watches": (3.0, 10.0, 25.0), "half of row 1": (10.0, 40.0, 100.0)}
#: A hundred watches give forty windows a second: a 99.9th percentile needs time.
_LONGER: Final = 4
_HALF_OF_ROW_1: Final = 5_000


def latency_row(effort: Effort) -> Row:
    """Latency of every window with a few watches and with many."""
    figures: list[Figure] = []
    others = 0.0
    for (name, targets), devices in zip(_TARGETS_MS.items(), (_SMALL, _HALF_OF_ROW_1), strict=True):
        seconds = effort.seconds * (_LONGER if devices == _SMALL else 1)
        measured = run(effort.load(devices, seconds=seconds, published="windows"), cores=effort.cores)
        report = measured.report
        others = max(others, measured.others_share)
        values = (report.latency_p50_ms, report.latency_p99_ms, report.latency_p999_ms)
        figures += [
            Figure(name=f"{percentile}, {name} ({devices})", value=value, unit="ms", target=target)
            for percentile, value, target in zip(("p50", "p99", "p99.9"), values, targets, strict=True)
        ]
        figures += [
            Figure(name="  windows", value=report.expected - report.lost, unit="windows"),
            Figure(name="  lost, double, dropped", value=report.lost + report.duplicate + measured.dropped, unit=""),
            Figure(name="  of it the load's own lag, p50", value=report.lag_p50_ms, unit="ms"),
            Figure(name="  of it the load's own lag, p99", value=report.lag_p99_ms, unit="ms"),
        ]
    return Row(
        number=5,
        title="latency of every window from the scheduled time of its closing message, --publish windows",
        figures=figures,
        others_share=others,
    )
