"""Rows 1 to 4: how many watches one service process sustains on one core."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from simulator.load import LoadOptions
from simulator.load_fleet import JOIN_S
from tests.benchmarks.figures import Effort, Figure, Row
from tests.benchmarks.stand import Run, run

#: What "sustained" means.
MOST_P99_MS: Final = 100.0
_LEAST_RATE: Final = 0.99
#: Further apart than this no two trials are, while the search is on its way up or down.
_STRIDE: Final = 1.5
#: A core that is this busy is at its end.
_BUSY: Final = 0.9


@dataclass(frozen=True, slots=True)
class Trial:
    """One load and whether it was sustained."""

    devices: int
    run: Run

    @property
    def is_sustained(self) -> bool:
        """Nothing dropped, lost or double, p99 in time, and the load really offered."""
        report = self.run.report
        p99_ms, rate = report.latency_p99_ms, report.messages_per_s
        return (
            self.run.is_clean
            and p99_ms is not None
            and p99_ms <= MOST_P99_MS
            and rate is not None
            and rate >= _LEAST_RATE * report.offered_messages_per_s
        )


def search(attempt: Callable[[int], Trial], first: int, *, step: float) -> list[Trial]:
    """Trials up to the largest number sustained: the next larger one tried, within a factor `step`, was not.

    Args:
        attempt: tries a number of watches.
        first: where to begin.
        step: how closely to tell, a factor above 1.
    """
    trials: list[Trial] = []
    low, high, devices = 0, 0, first
    while True:
        trial = attempt(devices)
        trials.append(trial)
        if trial.is_sustained:
            low = max(low, devices)
        else:
            high = min(high or devices, devices)
        if low and high:
            if high / low <= step:
                return trials
            devices = round(math.sqrt(low * high))
        elif low:
            # The share of the core that is left says how far it may go.
            room = 1 / max(trial.run.service_share, 0.05)
            devices = math.ceil(devices * min(max(room, step), _STRIDE))
        else:
            devices = int(devices / _STRIDE)
        if devices in {trial.devices for trial in trials} or devices < 1:
            return trials


def capacity_row(number: int, title: str, target: int, options: LoadOptions) -> Callable[[Effort], Row]:
    """The measurement of a row of the table; devices and duration of the load are filled in."""

    def measure(effort: Effort) -> Row:
        duration_s = JOIN_S + effort.seconds

        def attempt(devices: int) -> Trial:
            chosen = replace(options, devices=devices, duration_s=duration_s)
            return Trial(devices, run(chosen, cores=effort.cores))

        trials = search(attempt, target, step=effort.step)
        sustained = max((t for t in trials if t.is_sustained), key=lambda t: t.devices, default=None)
        figures = [
            Figure(
                name="watches sustained on one core",
                value=0 if sustained is None else sustained.devices,
                unit="watches",
                target=target,
                better="higher",
            )
        ]
        if sustained is not None:
            # A larger fleet sends more, and what is published adds to it.
            windows = replace(options, devices=sustained.devices, duration_s=duration_s, published="windows")
            figures += _explained(sustained, Trial(sustained.devices, run(windows, cores=effort.cores)))
        return Row(
            number=number,
            title=title,
            figures=figures,
            notes=_limits(trials, effort.step),
            others_share=max(trial.run.others_share for trial in trials),
            curves={
                "p99 latency, ms, over watches": sorted(
                    (float(t.devices), t.run.report.latency_p99_ms or math.nan) for t in trials
                )
            },
        )

    return measure


def _explained(sustained: Trial, windows: Trial) -> list[Figure]:
    run_, report = sustained.run, sustained.run.report
    figures = [
        Figure(name="readings", value=sustained.devices * report.rate_hz, unit="/s"),
        Figure(name="messages", value=report.messages_per_s, unit="/s"),
        Figure(name="p99 event latency", value=report.latency_p99_ms, unit="ms", target=MOST_P99_MS),
        Figure(name="service", value=run_.service_share, unit="of a core"),
        Figure(name="broker", value=run_.broker_share, unit="of a core"),
        Figure(name="load generator", value=run_.load_share, unit="of a core"),
        Figure(name="load's own lag, p99", value=report.lag_p99_ms, unit="ms"),
    ]
    name = "p99 of every window, with --publish windows"
    figures.append(Figure(name=name, value=windows.run.report.latency_p99_ms, unit="ms"))
    return figures


def _limits(trials: list[Trial], step: float) -> list[str]:
    """Which trials failed, and at what."""
    notes = [f"told to within a factor {step:g}; {len(trials)} trials"]
    for trial in trials:
        if trial.is_sustained:
            continue
        run_, report = trial.run, trial.run.report
        rest = run_.broker_share + run_.load_share
        busy = [name for name, share in (("the service's", run_.service_share), ("the other", rest)) if share >= _BUSY]
        p99 = "no event" if report.latency_p99_ms is None else f"p99 {report.latency_p99_ms:.0f} ms"
        notes.append(
            f"{trial.devices} watches not: {p99}, {report.lost} lost, {run_.dropped} dropped, "
            f"{report.messages_per_s or 0:.0f} of {report.offered_messages_per_s:.0f} messages/s sent; "
            f"busy core: {' and '.join(busy) or 'none'}, "
            f"everything else {run_.others_share:.2f} cores"
        )
    return notes


_ANY: Final = LoadOptions(devices=1, duration_s=1)
ROWS: Final = {
    1: capacity_row(1, "watches at 50 Hz, 1-second CBOR batches, default model", 10_000, _ANY),
    2: capacity_row(2, "the same, JSON in columns", 6_000, replace(_ANY, payload_format="json")),
    3: capacity_row(3, "the same, one JSON message per reading", 600, replace(_ANY, payload_format="single")),
    4: capacity_row(4, "as 1, LSTM bundle", 5_000, replace(_ANY, model="uci-har-lstm")),
}
