"""What the benchmarks conclude from what they measure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.__main__ import main
from tests.benchmarks.capacity import search
from tests.benchmarks.figures import Figure, Row, text


@given(st.integers(1, 60_000), st.integers(1, 30_000), st.sampled_from([1.05, 1.2, 1.5]))
def test_search_finds_the_largest_number_sustained(capacity: int, first: int, step: float) -> None:
    tried: list[int] = []

    def attempt(devices: int) -> tuple[bool, float]:
        tried.append(devices)
        return devices <= capacity, devices / capacity

    found = search(attempt, first, step=step)
    assert len(tried) == len(set(tried))
    assert 0 < found <= capacity
    # The next larger number that was tried was not sustained, and it is near, or the next one at all.
    too_many = min(devices for devices in tried if devices > capacity)
    assert too_many <= max(found * step, found + 1)
    assert len(tried) < 40


def test_search_ends_where_nothing_is_sustained() -> None:
    assert search(lambda _devices: (False, 1.0), 10_000, step=1.05) == 0


@pytest.mark.parametrize(
    ("value", "better", "is_reached"),
    [
        (9.0, "lower", True),
        (10.0, "lower", True),
        (11.0, "lower", False),
        (11.0, "higher", True),
        (None, "higher", False),
    ],
)
def test_a_target_is_reached_on_its_better_side(value: float | None, better: str, *, is_reached: bool) -> None:
    figure = Figure(name="x", value=value, unit="ms", target=10.0, better="higher" if better == "higher" else "lower")
    assert figure.is_reached is is_reached
    assert figure.ratio == (None if value is None else value / 10)


def test_a_row_says_what_each_figure_was_divided_by_and_whether_it_is_enough() -> None:
    figures = [
        Figure(name="service", value=81.5, unit="µs", per="watch-second", target=80.0),
        Figure(name="x", value=None, unit="s"),
    ]
    lines = text(Row(number=6, title="cost", figures=figures, notes=["by hand"], others_share=0.25)).splitlines()
    assert lines[0] == "6. cost   (everything else used 0.25 cores)"
    assert " ".join(lines[1].split()) == "service 81.5 µs per watch-second to reach <= 80: NOT reached, 1.02 of it"
    assert " ".join(lines[2].split()) == "x - s"
    assert lines[3].strip() == "by hand"


@pytest.mark.parametrize("given", ["0", "99", "1,x", "", "1;2"])
def test_rows_that_do_not_exist_are_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--rows", given])
    assert "expected numbers from 1 to 14 with commas" in capsys.readouterr().err
