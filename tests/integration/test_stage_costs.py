"""No stage gets dearer unnoticed: instructions counted by valgrind, over a floor of the same run."""

from __future__ import annotations

import pytest

from tests.benchmarks.stages import baseline, changes, count, ratios
from tests.conftest import missing
from tests.servers import find_program


def test_no_stage_costs_more_than_its_baseline() -> None:
    """A change on purpose: `python -m tests.benchmarks.stages --renew`."""
    if find_program("valgrind") is None:
        missing("valgrind is not installed: apt-get install valgrind")
    assert changes(ratios(count()), baseline()) == []


@pytest.mark.parametrize("stage", sorted(baseline()))
def test_a_stage_that_is_dearer_by_a_fifth_is_found(stage: str) -> None:
    before = baseline()
    assert changes(before, before) == []
    (line,) = changes(before | {stage: 1.2 * before[stage]}, before)
    assert line.startswith(f"stage {stage}: 1.200 times")


def test_a_stage_that_the_baseline_does_not_know_is_named() -> None:
    before = baseline()
    assert changes(before | {"guess": 1.0}, before) == ["stage guess: not in both runs and the baseline"]
