"""Rows 1 to 4: how many watches one service process sustains on one core."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

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
        """Nothing dropped, lost or double, p99 in time, nothing piled up, and the load really offered."""
        report = self.run.report
        p99_ms, rate = report.latency_p99_ms, report.messages_per_s
        return (
            self.run.is_clean
            and p99_ms is not None
            and p99_ms <= MOST_P99_MS
            and self.run.behind_s <= MOST_P99_MS / 1e3
            and rate is not None
            and rate >= _LEAST_RATE * report.offered_messages_per_s
        )


def search(attempt: Callable[[int], tuple[bool, float]], first: int, *, step: float) -> int:
    """The largest number of watches sustained, 0 for none; a number larger by a factor of `step` was tried and not.

    Args:
        attempt: tries a number of watches; whether it is sustained, and the service's share of its core.
        first: where to begin.
        step: how closely to tell, above 1.
    """
    low, high, devices = 0, 0, first
    while devices >= 1:
        is_sustained, share = attempt(devices)
        if is_sustained:
            low = devices
        else:
            high = devices
        if not high:
            # What is left of the core says how far it may go.
            devices = math.ceil(devices * min(max(1 / max(share, 0.01), step), _STRIDE))
        elif not low:
            devices = int(devices / _STRIDE)
        else:
            devices = round(math.sqrt(low * high))
            if high <= low * step or devices in {low, high}:
                break
    return low


def capacity_row(number: int, title: str, target: int, **changes: str) -> Callable[[Effort], Row]:
    """The measurement of a row of the table; `changes` are the load's, beside the number of watches."""

    def measure(effort: Effort) -> Row:
        trials: dict[int, Trial] = {}

        def attempt(devices: int) -> tuple[bool, float]:
            trial = trials[devices] = Trial(devices, run(effort.load(devices, **changes), cores=effort.cores))
            return trial.is_sustained, trial.run.service_share

        sustained = trials.get(search(attempt, target, step=effort.step))
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
            figures += _explained(sustained)
        return Row(
            number=number,
            title=f"{title}, --publish {effort.published}",
            figures=figures,
            notes=_limits(list(trials.values()), effort.step),
            others_share=max(trial.run.others_share for trial in trials.values()),
            curves={
                "p99 latency, ms, over watches": sorted(
                    (float(t.devices), t.run.report.latency_p99_ms or math.nan) for t in trials.values()
                )
            },
        )

    return measure


def _explained(sustained: Trial) -> list[Figure]:
    run_, report = sustained.run, sustained.run.report
    return [
        Figure(name="readings", value=sustained.devices * report.rate_hz, unit="/s"),
        Figure(name="messages", value=report.messages_per_s, unit="/s"),
        Figure(name="p99 event latency", value=report.latency_p99_ms, unit="ms", target=MOST_P99_MS),
        Figure(name="service", value=run_.service_share, unit="of a core"),
        Figure(name="broker", value=run_.broker_share, unit="of a core"),
        Figure(name="load generator", value=run_.load_share, unit="of a core"),
        Figure(name="load's own lag, p99", value=report.lag_p99_ms, unit="ms"),
    ]


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
            f"{run_.behind_s:.1f} s behind at the end, "
            f"{report.messages_per_s or 0:.0f} of {report.offered_messages_per_s:.0f} messages/s sent; "
            f"busy core: {' and '.join(busy) or 'none'}, "
            f"everything else {run_.others_share:.2f} cores"
        )
    return notes


ROWS: Final = {
    1: capacity_row(1, "watches at 50 Hz, 1-second CBOR batches, default model", 10_000),
    2: capacity_row(2, "the same, JSON in columns", 6_000, payload_format="json"),
    3: capacity_row(3, "the same, one JSON message per reading", 600, payload_format="single"),
    4: capacity_row(4, "as 1, LSTM bundle", 5_000, model="uci-har-lstm"),
}
