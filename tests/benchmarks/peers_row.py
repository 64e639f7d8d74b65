"""Row 10: against what a user would otherwise write; tests/benchmarks/peers measures, this reports."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks.figures import Effort, Figure, Row
from tests.benchmarks.peers.compare import compare
from tests.benchmarks.peers.programs import PEERS
from tests.benchmarks.stand import run

_WATCHES: Final = 50
_TIMES_CHEAPER: Final = 10.0


def peers_row(effort: Effort) -> Row:
    """Processor time per watch-second of each peer over har-stream's, in pairs of neighbouring runs."""
    with tempfile.TemporaryDirectory() as folder:
        report = compare(
            watches=_WATCHES,
            seconds=effort.seconds,
            batch=50,
            payload="json",
            pairs=effort.repetitions,
            fleet=0,
            only=list(PEERS),
            folder=Path(folder),
        )
    # Half of what it sustains, publishing every window as the peers do.
    devices = effort.fleet // 2
    fleet = run(effort.load(devices, payload_format="json", published="windows"), cores=effort.cores)
    figures: list[Figure] = []
    notes: list[str] = [] if fleet.is_clean else [f"{devices} watches were not sustained"]
    for comparison in report.comparisons:
        working = [measured.cpu_us_per_watch_s for measured in comparison.runs if not measured.faults]
        same = None if comparison.ratio is None else comparison.ratio.median
        gathered = None if comparison.over_gathering is None else comparison.over_gathering.median
        large = median(working) / fleet.service_cpu_us if working and fleet.is_clean else None
        figures += [
            Figure(
                name=f"{comparison.peer} over har-stream {how}",
                value=value,
                unit="times",
                target=_TIMES_CHEAPER,
                better="higher",
            )
            for how, value in (
                (f"with {_WATCHES} watches", same),
                (f"with {_WATCHES}, --gather 1", gathered),
                (f"with {devices}", large),
            )
        ]
        if comparison.absent is not None:
            notes.append(f"{comparison.peer} not run: {comparison.absent}")
        notes += sorted({f"{comparison.peer}: {fault}" for measured in comparison.runs for fault in measured.faults})
    measured = [m for c in report.comparisons for m in (*c.runs, *c.har_stream, *c.gathering)]
    return Row(
        number=10,
        title=f"processor time per watch-second of peers with {_WATCHES} watches, JSON batches, over har-stream's",
        figures=figures,
        notes=notes,
        others_share=max((m.others_cores for m in measured), default=None),
    )
