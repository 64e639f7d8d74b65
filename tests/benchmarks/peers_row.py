"""Row 10: against what a user would otherwise write; tests/benchmarks/peers measures, this reports."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from tests.benchmarks.figures import Effort, Figure, Row
from tests.benchmarks.peers.compare import compare
from tests.benchmarks.peers.programs import PEERS

_WATCHES: Final = 50
_FLEET: Final = 1_000
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
            fleet=min(_FLEET, effort.fleet),
            only=list(PEERS),
            folder=Path(folder),
        )
    figures: list[Figure] = []
    notes: list[str] = []
    for comparison in report.comparisons:
        for what, ratio in (
            (f"{_WATCHES} watches", comparison.ratio),
            (f"{report.fleet} watches", comparison.at_fleet),
        ):
            figures.append(
                Figure(
                    name=f"{comparison.peer} over har-stream with {what}",
                    value=None if ratio is None else ratio.median,
                    unit="times",
                    target=_TIMES_CHEAPER,
                    better="higher",
                )
            )
        if comparison.absent is not None:
            notes.append(f"{comparison.peer} not run: {comparison.absent}")
        notes += sorted({f"{comparison.peer}: {fault}" for measured in comparison.runs for fault in measured.faults})
    measured = [m for c in report.comparisons for m in (*c.runs, *c.har_stream)]
    return Row(
        number=10,
        title=f"processor time per watch-second of peers with {_WATCHES} watches, JSON batches, over har-stream's",
        figures=figures,
        notes=notes,
        others_share=max((m.others_cores for m in measured), default=None),
    )
