"""Probabilities over time to bouts: what starts one, what it survives, what ends it.

In the timelines `W` and `S` are windows in which walking or sitting is sure, `?` is a window that tells nothing, and a
line of bouts names the activity after each window: w, s, u (unknown) or `.` (none yet).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.bundle import Smoothing
from streamer.tracking import NONE, ActivityTracker

PROBABILITIES: Final = {"W": (0.9, 0.1), "S": (0.1, 0.9), "?": (0.5, 0.5)}
ONE: Final = np.array([0])


def bouts(windows: str, smoothing: Smoothing) -> str:
    tracker = ActivityTracker(2, smoothing, capacity=1)
    found = ""
    for start, window in enumerate(windows):
        tracked = tracker.update(ONE, np.array([PROBABILITIES[window]]), np.array([start]))
        found += "wsu."[int(tracked.activity[0])]
    return found


def smoothing(*, weight: float = 1.0, enter: float = 0.6, leave: float = 0.4, dwell: int = 1) -> Smoothing:
    return Smoothing(weight=weight, enter=enter, leave=leave, dwell=dwell)


@pytest.mark.parametrize(
    ("windows", "dwell", "expected"),
    [
        ("WWWSWWSSSS", 1, "wwwswwssss"),
        ("WWWSWWSSSS", 2, ".wwwwwwsss"),
        ("WWWSWWSSSS", 3, "..wwwwwwss"),
        ("WSWSWSWSWS", 2, ".........."),
    ],
)
def test_another_activity_must_lead_for_the_dwell_without_a_break(windows: str, dwell: int, expected: str) -> None:
    assert bouts(windows, smoothing(dwell=dwell)) == expected


def test_onset_is_the_first_window_of_the_lead_that_decided() -> None:
    # window      0 1 2 3 4 5 6
    # sure of     W W S W S S S
    # dwell = 3   . . 1 - 1 2 3     the lead broken at 3 begins again at 4
    tracker = ActivityTracker(2, smoothing(dwell=3), capacity=1)
    switched = []
    for start, window in enumerate("WWSWSSS"):
        tracked = tracker.update(ONE, np.array([PROBABILITIES[window]]), np.array([start]))
        if tracked.switched[0]:
            switched.append((start, int(tracked.previous[0]), int(tracked.activity[0]), int(tracked.onset_ns[0])))
    assert switched == [(6, NONE, 1, 4)]


def test_end_knows_the_onset_and_what_is_left_of_the_activity() -> None:
    tracker = ActivityTracker(2, smoothing(), capacity=1)
    for start, window in enumerate("WWS"):
        tracked = tracker.update(ONE, np.array([PROBABILITIES[window]]), np.array([10 + start]))
    assert (tracked.previous[0], tracked.previous_onset_ns[0], tracked.left[0]) == (0, 10, 0.1)
    assert (tracked.activity[0], tracked.onset_ns[0], tracked.confidence[0]) == (1, 12, 0.9)


def test_activity_holds_between_the_thresholds_and_ends_as_unknown_below_the_lower_one() -> None:
    # probability of walking  0.9   0.65  0.55  0.41  0.39  0.55  0.65     the other label stays below 0.6
    # enter 0.6, leave 0.4    start hold  hold  hold  end   -     start
    tracker = ActivityTracker(3, smoothing(), capacity=1)
    found = []
    for start, walking in enumerate((0.9, 0.65, 0.55, 0.41, 0.39, 0.55, 0.65)):
        rest = (1.0 - walking) / 2
        tracked = tracker.update(ONE, np.array([[walking, rest, rest]]), np.array([start]))
        found.append("w--u"[int(tracked.activity[0])])
    assert found == ["w", "w", "w", "w", "u", "u", "w"]


def test_unknown_gives_the_leaders_probability() -> None:
    tracker = ActivityTracker(2, smoothing(), capacity=1)
    tracked = tracker.update(ONE, np.array([[0.45, 0.55]]), np.array([0]))
    assert (tracked.activity[0], tracked.leader[0], tracked.confidence[0]) == (tracker.unknown, 1, 0.55)


@pytest.mark.parametrize(
    ("weight", "leave", "expected"),
    [
        (1.0, 0.4, "wwswww"),
        # Walking smoothed: 0.9, 0.9, 0.5, 0.7: the stray window leaves no activity above 0.6.
        (0.5, 0.4, "wwwwww"),
        (0.5, 0.55, "wwuwww"),
        # 0.9, 0.9, 0.74
        (0.2, 0.55, "wwwwww"),
    ],
)
def test_smoothing_outweighs_a_stray_window(weight: float, leave: float, expected: str) -> None:
    assert bouts("WWSWWW", smoothing(weight=weight, leave=leave)) == expected


def test_smoothing_is_the_exponential_mean_begun_with_the_first_window() -> None:
    tracker = ActivityTracker(2, smoothing(weight=0.25), capacity=1)
    first = tracker.update(ONE, np.array([[0.8, 0.2]]), np.array([0]))
    second = tracker.update(ONE, np.array([[0.4, 0.6]]), np.array([1]))
    assert first.confidence[0] == 0.8
    assert second.confidence[0] == pytest.approx(0.75 * 0.8 + 0.25 * 0.4)


def test_reset_forgets_bout_lead_and_smoothing() -> None:
    tracker = ActivityTracker(2, smoothing(weight=0.1, dwell=2), capacity=1)
    for start in range(5):
        tracker.update(ONE, np.array([PROBABILITIES["W"]]), np.array([start]))
    tracker.reset(0)
    found = [tracker.update(ONE, np.array([PROBABILITIES["S"]]), np.array([start])) for start in (5, 6)]
    assert [int(tracked.activity[0]) for tracked in found] == [NONE, 1]
    assert (found[1].onset_ns[0], found[1].confidence[0]) == (5, 0.9)


def test_known_unknown_ends_when_an_activity_is_sure_again() -> None:
    tracker = ActivityTracker(2, smoothing(), capacity=1)
    tracker.set_unknown(0, 100)
    tracked = tracker.update(ONE, np.array([PROBABILITIES["W"]]), np.array([200]))
    assert (tracked.previous[0], tracked.previous_onset_ns[0]) == (tracker.unknown, 100)
    assert (tracked.activity[0], tracked.onset_ns[0], tracked.left[0]) == (0, 200, 0.0)


@given(
    feeds=st.lists(st.text("WS?", min_size=1, max_size=20), min_size=2, max_size=4),
    weight=st.sampled_from([0.2, 0.7, 1.0]),
    dwell=st.integers(1, 3),
)
def test_watches_do_not_touch_each_other(feeds: list[str], weight: float, dwell: int) -> None:
    fitted = smoothing(weight=weight, dwell=dwell)
    together = ActivityTracker(2, fitted, capacity=len(feeds))
    found = [""] * len(feeds)
    for start in range(max(map(len, feeds))):
        going = [slot for slot, feed in enumerate(feeds) if start < len(feed)]
        probabilities = np.array([PROBABILITIES[feeds[slot][start]] for slot in going])
        tracked = together.update(np.array(going), probabilities, np.full(len(going), start))
        for slot, activity in zip(going, tracked.activity.tolist(), strict=True):
            found[slot] += "wsu."[activity]
    assert found == [bouts(feed, fitted) for feed in feeds]
