"""CPU time per watch of har-stream and of what a user would otherwise write, under the same load in the same run.

    python -m tests.benchmarks.peers --watches 50 --seconds 30

Each peer and har-stream, by default and with --gather 1, run in turn against the same Mosquitto, with the same
messages and the same model file. CPU time is user and system time of the program's whole process tree, from when all
watches have full windows until the last window has come; broker and load are not in it. A program that loses windows,
gives others than these, or falls behind has not done the work: it is marked, and no ratio of it counts.

Every program gets cheaper per watch with more of them: work waits when it wakes. "PEER / har-stream
at N" sets the peer's small load against har-stream's large one; --watches N --fleet 0 gives both the large one. "PEER /
ONNX Runtime alone" bounds what any program with this model could reach.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import get_args

from streamer.bundle import find_bundle
from streamer.config import DEFAULT_MODEL
from tests.benchmarks.peers.load import Format, make_load
from tests.benchmarks.peers.measure import WARM_UP_S, Measurement, NotWorkingError, measure, runtime_alone_us
from tests.benchmarks.peers.programs import PEERS, NotInstallableError, Program, har_stream, har_stream_gathering


@dataclass(frozen=True, slots=True)
class Ratio:
    """Peer over har-stream: of pairs of neighbouring runs without faults, None when there are none."""

    median: float
    least: float
    most: float
    pairs: int


@dataclass(slots=True)
class Comparison:
    """One peer.

    Attributes:
        absent: why it was not run, None when it was.
        runs, har_stream, gathering: the peer, har-stream as it is by default and with --gather 1, turn after turn.
        over_gathering: over har-stream's cost with --gather 1 in the same turn.
        at_fleet: over har-stream's cost with the large fleet of the same round.
    """

    peer: str
    versions: dict[str, str] = field(default_factory=dict)
    absent: str | None = None
    runs: list[Measurement] = field(default_factory=list)
    har_stream: list[Measurement] = field(default_factory=list)
    gathering: list[Measurement] = field(default_factory=list)
    ratio: Ratio | None = None
    over_gathering: Ratio | None = None
    at_fleet: Ratio | None = None


@dataclass(slots=True)
class Report:
    """Everything that was measured, and under what.

    Attributes:
        runtime_alone_us: ONNX Runtime alone on the same number of windows, µs per watch-second, once a round.
        har_stream_fleet: har-stream with the large fleet, once a round.
    """

    model: str
    watches: int
    seconds: float
    batch: int
    payload: Format
    fleet: int
    cores: int
    comparisons: list[Comparison] = field(default_factory=list)
    runtime_alone_us: list[float] = field(default_factory=list)
    har_stream_fleet: list[Measurement] = field(default_factory=list)


def compare(
    *, watches: int, seconds: float, batch: int, payload: Format, pairs: int, fleet: int, only: list[str], folder: Path
) -> Report:
    """Run every peer and har-stream in turn; what cannot be installed or does not work is left out with the reason."""
    bundle = find_bundle(DEFAULT_MODEL).resolve()
    report = Report(bundle.name, watches, seconds, batch, payload, fleet, os.cpu_count() or 1)
    programs: list[tuple[Program, Comparison]] = []
    for name in only:
        comparison = Comparison(name)
        report.comparisons.append(comparison)
        try:
            program = PEERS[name](folder)
        except NotInstallableError as error:
            comparison.absent = str(error)
        else:
            comparison.peer, comparison.versions = program.name, program.versions
            programs.append((program, comparison))
    total_s = WARM_UP_S + seconds
    load = make_load(bundle, watches=watches, seconds=total_s, batch=batch, payload=payload)
    large = make_load(bundle, watches=fleet, seconds=total_s, batch=batch, payload=payload) if fleet else None
    service, gathering = har_stream(folder), har_stream_gathering(folder)
    for _ in range(pairs):
        report.runtime_alone_us.append(runtime_alone_us(bundle))
        for program, comparison in programs:
            if comparison.absent is not None:
                continue
            try:
                measured = measure(program, load, bundle)
            except NotWorkingError as error:
                comparison.absent = str(error)
                continue
            comparison.runs.append(measured)
            comparison.har_stream.append(measure(service, load, bundle))
            show(comparison.peer, comparison.runs[-1])
            show("har-stream", comparison.har_stream[-1])
            comparison.gathering.append(measure(gathering, load, bundle))
            show(gathering.name, comparison.gathering[-1])
        if large is not None:
            report.har_stream_fleet.append(measure(service, large, bundle))
            show(f"har-stream, {fleet} watches", report.har_stream_fleet[-1])
    for comparison in report.comparisons:
        comparison.ratio = ratio(comparison.runs, comparison.har_stream)
        comparison.over_gathering = ratio(comparison.runs, comparison.gathering)
        comparison.at_fleet = ratio(comparison.runs, report.har_stream_fleet)
    return report


def ratio(peer: list[Measurement], service: list[Measurement]) -> Ratio | None:
    """Median, least and most of the pairs in which both did the work."""
    ratios = [
        a.cpu_us_per_watch_s / b.cpu_us_per_watch_s
        for a, b in zip(peer, service, strict=False)
        if not a.faults and not b.faults
    ]
    return _ratio(ratios)


def _ratio(ratios: list[float]) -> Ratio | None:
    return Ratio(median(ratios), min(ratios), max(ratios), len(ratios)) if ratios else None


def show(name: str, measured: Measurement) -> None:
    """Print a run as it ends."""
    outcome = measured.outcome
    faults = "".join(f"; NOT COMPARABLE: {fault}" for fault in measured.faults)
    print(  # noqa: T201 - its purpose
        f"  {name:26} {measured.cpu_us_per_watch_s:7.0f} µs per watch-second; {outcome.windows} windows, "
        f"{outcome.agreeing:.1%} of the labels; others used {measured.others_cores:.2f} cores{faults}",
        flush=True,
    )


def text(report: Report) -> str:
    """The ratios for people."""
    service = [m for c in report.comparisons for m in c.har_stream]
    everything = [m for c in report.comparisons for m in c.runs] + service + report.har_stream_fleet
    others = [m.others_cores for m in everything] or [0.0]
    conditions = (
        f"{report.model}, {report.watches} watches of 50 Hz, {report.batch} readings per {report.payload} message, "
        f"{report.seconds:g} s a run, {report.cores} cores; others used {min(others):.2f} to {max(others):.2f} of them"
    )
    lines = [
        conditions,
        f"{'CPU time per watch-second':44} {'median':>8} {'min':>8} {'max':>8}  pairs",
    ]

    def line(name: str, found: Ratio | None) -> None:
        if found is not None:
            lines.append(f"{name:44} {found.median:8.1f} {found.least:8.1f} {found.most:8.1f}  {found.pairs}")

    for comparison in report.comparisons:
        versions = ", ".join(f"{name} {number}" for name, number in comparison.versions.items())
        name = comparison.peer
        if comparison.absent is not None:
            lines.append(f"{name}: not run: {comparison.absent}")
            continue
        line(f"{name} / har-stream", comparison.ratio)
        line(f"{name} / har-stream --gather 1", comparison.over_gathering)
        line(f"{name} / har-stream at {report.fleet}", comparison.at_fleet)
        line(f"{name} / ONNX Runtime alone", over_runtime(comparison.runs, report))
        if comparison.ratio is None:
            reasons = sorted({fault for m in (*comparison.runs, *comparison.har_stream) for fault in m.faults})
            lines.append(f"{name}: no comparable pair: {'; '.join(reasons)}")
        lines.append(f"    {versions}")
    line(f"har-stream at {report.fleet} watches / ONNX Runtime alone", over_runtime(report.har_stream_fleet, report))
    return "\n".join(lines)


def over_runtime(measured: list[Measurement], report: Report) -> Ratio | None:
    """Over what the model alone costs: of a peer, the most that any program could be cheaper by."""
    ratios = [
        m.cpu_us_per_watch_s / alone
        for m, alone in zip(measured, report.runtime_alone_us, strict=False)
        if not m.faults
    ]
    return _ratio(ratios)


def main() -> None:
    """Compare as the command line says; print ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--watches", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0, help="measured for each run, after the warm-up")
    parser.add_argument("--batch", type=int, default=50, help="readings per message")
    parser.add_argument("--format", choices=get_args(Format), default="json", dest="payload")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each peer, each beside one of har-stream")
    parser.add_argument("--fleet", type=int, default=1000, help="watches of har-stream's large fleet; 0 for none")
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--environments", type=Path, help="folder to install peers in and keep; default: thrown away")
    parser.add_argument("--json", type=Path, help="file to write the report to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as throw_away:
        report = compare(
            watches=options.watches,
            seconds=options.seconds,
            batch=options.batch,
            payload=options.payload,
            pairs=options.pairs,
            fleet=options.fleet,
            only=options.only,
            folder=(options.environments or Path(throw_away)).resolve(),
        )
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(report), indent=2) + "\n")
    print(text(report))  # noqa: T201 - its purpose
