"""A short soak; `python -m tests.soak --minutes 30` is the long one, and .ci/run runs three minutes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.world import Verdict
from tests.soak.churn import Churn
from tests.soak.run import Report, Sample, soak

EXACT = Verdict(lost=(), wrong=(), disordered=(), problems=())
MB = 1_000_000


def test_a_fleet_that_comes_and_goes_gives_the_oracles_events_and_leaves_nothing_open(tmp_path: Path) -> None:
    churn = Churn(watches=60, seconds=15.0, poison=0.05, life_s=(4.0, 9.0))
    report = soak(tmp_path / "soak", churn, warm_s=4.0, reconnect_s=5.0, sample_s=0.5, stalls=1)
    assert report.verdict.ok, report
    assert report.events > 250
    assert report.refused >= report.rubbish > 5
    assert report.reconnects >= 2
    # Memory takes minutes to settle: its slope is the long soak's business.
    assert [what for what in report.growth if "memory" not in what] == []


@pytest.mark.parametrize(
    ("rss_a_minute", "files_a_minute", "found"),
    [
        (0.0, 0.0, []),
        (4.0, 0.0, ["resident memory"]),
        (0.0, 6.0, ["file descriptors"]),
    ],
)
def test_a_leak_is_found_in_the_noise(rss_a_minute: float, files_a_minute: float, found: list[str]) -> None:
    samples = [
        Sample(
            at_s=float(second),
            rss_bytes=round(170 * MB + rss_a_minute * MB * second / 60 + (second * 7919 % 300_000)),
            files=round(18 - (second % 20 == 0) + files_a_minute * second / 60),
            threads=9,
            tasks=20 + second % 3,
        )
        for second in range(180)
    ]
    report = Report(EXACT, events=0, refused=0, rubbish=0, reconnects=0, samples=samples, warm_s=0.0)
    assert [what.split(",")[0] for what in report.growth] == found
