"""Two hundred watches in real time."""

from __future__ import annotations

import pytest

from simulator.load import LoadOptions
from tests.benchmarks.stand import run
from tests.conftest import missing
from tests.servers import find_program


@pytest.mark.timeout(180)
def test_200_watches_at_50_hz_lose_nothing_and_wait_less_than_100_ms() -> None:
    if find_program("mosquitto") is None:
        missing("mosquitto is not installed: apt-get install mosquitto")
    measured = run(LoadOptions(devices=200, duration_s=60, batch=25, published="windows"))
    report = measured.report
    assert report.readings > 500_000
    assert measured.is_clean, measured
    assert measured.late == 0
    assert measured.windows == report.expected > 3000
    assert report.latency_p99_ms is not None
    assert report.latency_p99_ms < 100, measured
    # What leaks per message or window (24,000 and 4,000 of them) would show.
    assert measured.rss_growth_bytes < 3e6, measured
