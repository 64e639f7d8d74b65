"""Two hundred watches in real time; `python -m tests.benchmarks.fleet` prints the same figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.fleet import measure
from tests.conftest import missing
from tests.servers import find_program


@pytest.mark.timeout(180)
def test_200_watches_at_50_hz_lose_nothing_and_wait_less_than_100_ms(tmp_path: Path) -> None:
    if find_program("mosquitto") is None:
        missing("mosquitto is not installed: apt-get install mosquitto")
    report = measure(tmp_path, watches=200, seconds=60)
    assert report.readings > 500_000
    assert (report.dropped, report.late) == (0, 0)
    assert report.windows == report.windows_expected > 3000
    assert report.latency_p99_ms < 100, report
    # Two thirds of a minute: what leaks per message or window (24,000 and 4,000 of them) would show.
    assert report.memory_growth_mb < 3, report
