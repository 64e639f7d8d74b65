"""Groups of activities: where each has its place, and when a group is told instead of an activity.

In the timelines a letter is what a window says: P pasta, S soup, I sitting and W walking, each for sure; e eating one
of the two, r at rest in one of three ways, n none of them. Below it is what is told after the window: p, s, i, w, E for
eating, R for still, u for unknown, `.` for none yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.activities import ACTIVITIES, GROUPS, NAME, groups_around, groups_of
from streamer.bundle import Smoothing, load_bundle, shipped_bundles
from streamer.errors import BundleError
from streamer.recognizer import Recognizer
from streamer.tracking import ActivityTracker, Tracked
from streamer.wire.events import encode_event
from tests.bundles import POSTURES, make_bundle
from tests.motion import still

LABELS: Final = ("pasta", "soup", "sitting", "walking")
#: Eating, and around it still.
NESTED: Final = ((0, 1, 2), (0, 1))
SAID: Final = {
    "P": (0.8, 0.1, 0.0, 0.1),
    "S": (0.1, 0.8, 0.0, 0.1),
    "I": (0.0, 0.1, 0.8, 0.1),
    "W": (0.1, 0.0, 0.0, 0.9),
    "e": (0.45, 0.45, 0.0, 0.1),
    "r": (0.3, 0.3, 0.3, 0.1),
    "n": (0.1, 0.1, 0.1, 0.1),
    # Pasta weakens, and eating stays sure; pasta is out; eating is, too.
    "1": (0.45, 0.4, 0.1, 0.05),
    "2": (0.2, 0.5, 0.2, 0.1),
    "3": (0.2, 0.2, 0.3, 0.3),
    # Sitting could still be, but walking or something like it is likelier.
    "a": (0.35, 0.0, 0.0, 0.65),
}
ONE: Final = np.array([0])


def smoothing(
    *,
    weight: float = 1.0,
    enter: float = 0.6,
    leave: float = 0.3,
    dwell: int = 1,
    group_enter: float | None = 0.7,
    group_leave: float | None = 0.5,
) -> Smoothing:
    return Smoothing(
        weight=weight, enter=enter, leave=leave, dwell=dwell, group_enter=group_enter, group_leave=group_leave
    )


def told(windows: str, fitted: Smoothing, groups: Sequence[Sequence[int]] = NESTED) -> str:
    tracker = ActivityTracker(len(LABELS), fitted, capacity=1, groups=groups)
    names = "psiw" + ("RE" if groups == NESTED else "RM") + "u."
    return "".join(
        names[int(tracker.update(ONE, np.array([SAID[window]]), np.array([start])).activity[0])]
        for start, window in enumerate(windows)
    )


# The tree -------------------------------------------------------------------------------------------------------------


def test_every_activity_of_the_vocabulary_is_either_moving_or_still() -> None:
    tops = {activity: groups_around(activity, ACTIVITIES, {})[0] for activity in ACTIVITIES}
    assert set(tops.values()) == {"moving", "still"}
    assert {activity for activity, top in tops.items() if top == "still"} == {
        *("sitting", "standing", "lying", "typing", "writing"),
        *("eating_soup", "eating_chips", "eating_pasta", "eating_sandwich", "drinking"),
    }


def test_the_tree_is_one_and_its_names_are_no_activities_but_stairs() -> None:
    members = [member for group in GROUPS.values() for member in group]
    assert len(members) == len(set(members))
    assert all(NAME.fullmatch(group) for group in GROUPS)
    assert set(GROUPS) & set(ACTIVITIES) == {"stairs"}
    # A group stands before those within it, and everything in a group is an activity or a group.
    order = list(GROUPS)
    assert all(order.index(group) < order.index(m) for group, own in GROUPS.items() for m in own if m in GROUPS)
    assert set(members) <= {*ACTIVITIES, *GROUPS}


@pytest.mark.parametrize(
    ("bundle", "groups"),
    [
        # Moving and being on foot are the same there: the narrower name says more.
        ("uci-har-cnn", {"on_foot": 3, "stairs": 2, "still": 3}),
        ("fitbit-cnn", {"moving": 7, "on_foot": 4, "stairs": 2, "still": 3}),
        # Its one kind of stairs is an activity.
        (
            "wisdm-watch-cnn",
            {
                "moving": 9,
                "on_foot": 3,
                "still": 9,
                "desk_work": 2,
                "eating_or_drinking": 5,
                "eating": 4,
            },
        ),
    ],
)
def test_a_model_can_tell_the_groups_that_say_something_of_its_activities(bundle: str, groups: dict[str, int]) -> None:
    labels = load_bundle(bundle).labels
    assert {group: len(members) for group, members in groups_of(labels, {}).items()} == groups


def test_groups_are_told_where_the_bundle_says_so_and_nowhere_else(tmp_path: Path) -> None:
    for folder in shipped_bundles().values():
        bundle = load_bundle(folder)
        if bundle.manifest.smoothing.group_enter is None:
            assert bundle.activities == (*bundle.labels, "unknown")
    bundle = make_bundle(tmp_path / "b", labels=("walking", "stairs", "sitting"), smoothing=smoothing())
    assert bundle.activities == ("walking", "stairs", "sitting", "on_foot", "unknown")
    assert bundle.paths == (*[("moving", "on_foot")] * 2, ("still",), ("moving", "on_foot"), ())


def test_ones_own_activities_are_under_nothing_unless_the_manifest_places_them(tmp_path: Path) -> None:
    labels = ("walking", "sitting", "waving")
    bundle = make_bundle(tmp_path / "own", labels=labels, smoothing=smoothing())
    assert (bundle.paths[2], dict(bundle.groups)) == ((), {})
    bundle = make_bundle(tmp_path / "placed", labels=labels, smoothing=smoothing(), groups={"waving": "moving"})
    assert (bundle.paths[2], dict(bundle.groups)) == (("moving",), {"moving": (0, 2)})


def test_an_activity_of_a_groups_name_is_an_activity(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "own", labels=("moving", "walking", "sitting"), smoothing=smoothing())
    assert bundle.paths[:2] == ((), ("on_foot",))
    assert dict(bundle.groups) == {}


@pytest.mark.parametrize("groups", [{"flying": "moving"}, {"sitting": "movng"}, {"sitting": "lying"}, {"sitting": ""}])
def test_a_manifest_that_places_nothing_or_nowhere_is_refused(tmp_path: Path, groups: dict[str, str]) -> None:
    ((label, group),) = groups.items()
    with pytest.raises(BundleError, match=f"groups place {label} in {group}; expected labels of this model, each in"):
        make_bundle(tmp_path / "b", groups=groups)


# What is told ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        # The narrowest that is sure: a leaf, the group of those in doubt, the one around it, or nothing.
        ("PePrWn", "pEpRwu"),
        ("eerre", "EERRE"),
        ("ennPnn", "Euupuu"),
    ],
)
def test_the_narrowest_that_is_sure_is_told(windows: str, expected: str) -> None:
    # `leave` so high that nothing stays for having been told.
    assert told(windows, smoothing(leave=0.6, group_leave=0.7)) == expected


def test_an_activity_that_weakens_stays_while_it_holds_though_its_group_is_surer() -> None:
    # Pasta has 0.45 at `1` and at `e`, above `leave`; eating has 0.85 and 0.9.
    assert told("P1e1P", smoothing()) == "ppppp"
    # At `2` it has 0.2, and eating 0.7; at `3` eating has 0.4, less than its own `leave`, but still has 0.7.
    assert told("P23nP", smoothing()) == "pERup"


def test_a_group_that_was_not_told_has_to_reach_what_any_other_must() -> None:
    # Pasta is out at `2`. Eating has 0.7 there: that it was sure of all along as pasta was told counts for nothing.
    assert told("P2", smoothing(group_enter=0.75)) == "pR"
    assert told("P2", smoothing(group_enter=0.95)) == "pu"


def test_a_group_is_left_by_its_own_probability_and_not_by_that_of_an_activity_in_it() -> None:
    # Eating has 0.9, then 0.6: no activity in it has more than 0.45, and it holds until it falls below its own 0.5.
    assert told("err", smoothing()) == "EEE"
    assert told("er3", smoothing()) == "EER"
    # Without a threshold of its own it takes that of activities.
    assert told("er33", smoothing(group_leave=None)) == "EEEE"


def test_an_activity_of_another_group_or_another_group_ends_one_that_still_holds() -> None:
    assert told("PaP", smoothing(leave=0.2)) == "pwp"
    # Neither sitting nor walking is sure, and walking is with something else in a group apart from pasta's.
    assert told("Pa", smoothing(leave=0.2, enter=0.7, group_enter=0.6), ((0, 1), (2, 3))) == "pM"


def test_a_group_narrows_to_an_activity_and_does_not_widen_while_that_holds() -> None:
    assert told("rePe1r", smoothing(leave=0.25)) == "REpppp"


def test_none_of_these_is_unknown_however_many_there_are() -> None:
    # Rows of 0.4 in all: neither the activities nor their groups have what is needed.
    assert told("nnn", smoothing()) == "uuu"
    assert told("ennn", smoothing(group_leave=0.3)) == "Euuu"


@pytest.mark.parametrize(
    ("windows", "dwell", "expected"),
    [
        # Eating leads for both windows, one of them narrowed to pasta: eating is what has led for two.
        ("WWeP", 2, ".wwE"),
        ("WWPe", 2, ".wwE"),
        ("WWPP", 2, ".wwp"),
        # Two activities of one group in turn are agreed on nothing while the group is not what leads.
        ("WWPSPS", 2, ".wwwww"),
        ("IIeP", 3, "...."),
        ("IIIePe", 3, "..iiiE"),
    ],
)
def test_a_lead_goes_on_from_an_activity_to_its_group_and_back(windows: str, dwell: int, expected: str) -> None:
    assert told(windows, smoothing(dwell=dwell)) == expected


def test_the_onset_of_a_group_is_the_first_window_of_its_lead() -> None:
    tracker = ActivityTracker(len(LABELS), smoothing(dwell=3), capacity=1, groups=NESTED)
    found = [tracker.update(ONE, np.array([SAID[w]]), np.array([start])) for start, w in enumerate("WWWPePe")]
    # window         0 1 2 3 4 5
    # says           W W W P e P
    # dwell = 3            1 2 3    eating, since 3
    (last,) = [tracked for tracked in found[3:] if tracked.switched[0]]
    assert (int(last.activity[0]), int(last.onset_ns[0])) == (len(LABELS) + NESTED.index((0, 1)), 3)
    assert last.confidence[0] == pytest.approx(0.9)
    assert (int(last.previous[0]), last.left[0]) == (3, pytest.approx(0.1))


# What must not matter -------------------------------------------------------------------------------------------------

rows_of_probabilities = st.lists(
    st.tuples(*[st.floats(0, 1, width=32)] * 5).map(lambda row: tuple(p / max(sum(row), 1.0) for p in row[:4])),
    min_size=1,
    max_size=12,
)
fits = st.builds(
    smoothing,
    weight=st.sampled_from([0.3, 1.0]),
    enter=st.sampled_from([0.4, 0.6]),
    leave=st.sampled_from([0.2, 0.5]),
    dwell=st.integers(1, 3),
    group_enter=st.sampled_from([0.51, 0.7, 0.9]),
    group_leave=st.sampled_from([None, 0.3, 0.95]),
)
GROUPINGS: Final = (((0, 1, 2), (0, 1)), ((0, 1), (2, 3)), ((0, 2, 3), (2, 3)), ((1, 3),))


def columns(tracked: Tracked, row: int) -> list[bytes]:
    arrays: list[NDArray[np.generic]] = [getattr(tracked, field.name) for field in fields(tracked)]
    return [array[row].tobytes() for array in arrays]


@given(feeds=st.lists(rows_of_probabilities, min_size=2, max_size=9), fitted=fits, groups=st.sampled_from(GROUPINGS))
def test_what_is_told_of_a_watch_does_not_depend_on_the_others_to_the_last_bit(
    feeds: list[list[tuple[float, ...]]], fitted: Smoothing, groups: tuple[tuple[int, ...], ...]
) -> None:
    together = ActivityTracker(4, fitted, capacity=len(feeds), groups=groups)
    alone = [ActivityTracker(4, fitted, capacity=1, groups=groups) for _ in feeds]
    for start in range(max(map(len, feeds))):
        going = [slot for slot, feed in enumerate(feeds) if start < len(feed)]
        said = np.array([feeds[slot][start] for slot in going], np.float32)
        tracked = together.update(np.array(going), said, np.full(len(going), start))
        for row, slot in enumerate(going):
            own = alone[slot].update(ONE, said[row : row + 1], np.array([start]))
            assert columns(own, 0) == columns(tracked, row)


@given(feed=rows_of_probabilities, fitted=fits)
def test_groups_that_are_not_to_be_told_change_nothing(feed: list[tuple[float, ...]], fitted: Smoothing) -> None:
    never = msgspec.structs.replace(fitted, group_enter=None)
    plain, grouped = ActivityTracker(4, never, capacity=1), ActivityTracker(4, never, capacity=1, groups=NESTED)
    for start, row in enumerate(feed):
        one, other = (t.update(ONE, np.array([row]), np.array([start])) for t in (plain, grouped))
        # Unknown comes behind the groups.
        assert (one.activity[0] == plain.unknown) == (other.activity[0] == grouped.unknown)
        assert one.activity[0] in {other.activity[0], plain.unknown}
        assert one.confidence[0] == other.confidence[0]
        assert one.switched[0] == other.switched[0]


@given(feed=rows_of_probabilities, fitted=fits, groups=st.sampled_from(GROUPINGS))
def test_a_groups_probability_is_the_sum_of_its_activities(
    feed: list[tuple[float, ...]], fitted: Smoothing, groups: tuple[tuple[int, ...], ...]
) -> None:
    tracker = ActivityTracker(4, fitted, capacity=1, groups=groups)
    for start, row in enumerate(feed):
        tracked = tracker.update(ONE, np.array([row]), np.array([start]))
        activity = int(tracked.activity[0])
        if 4 <= activity < tracker.unknown:
            expected = tracker.smoothed[0, list(groups[activity - 4])].sum()
            assert tracked.confidence[0] == pytest.approx(expected, abs=1e-12)


# Events ---------------------------------------------------------------------------------------------------------------


def test_events_of_a_model_that_is_torn_tell_the_group_and_the_way_to_it(tmp_path: Path) -> None:
    labels = ("walking", "stairs", "sitting")
    bundle = make_bundle(tmp_path / "torn", labels=labels, smoothing=smoothing(group_enter=0.9))
    readings = still(POSTURES[0], 3)
    assert readings.acc is not None
    readings.acc[:] = (6.0, 6.1, 0.0)
    recognizer = Recognizer(bundle, every_window=True)
    events = recognizer.recognize([readings], 0).events
    start, state, window, *_ = events
    assert [(e.type, e.activity, e.groups) for e in (start, state, window)] == [
        ("start", "on_foot", ("moving", "on_foot")),
        ("state", "on_foot", ("moving", "on_foot")),
        ("window", "stairs", ("moving", "on_foot")),
    ]
    assert start.reason is None
    assert start.confidence == pytest.approx(1, abs=0.01)
    assert b'"activity":"on_foot","groups":["moving","on_foot"],"confidence":' in encode_event(start)
    vitals = recognizer.vitals(readings.device_id)
    assert vitals is not None
    assert (vitals.activity, vitals.groups) == ("on_foot", ("moving", "on_foot"))
    assert recognizer.activities()["on_foot"] == 1
    (bout,) = recognizer.classify(readings.t_ns, readings.acc)
    assert (bout.activity, bout.groups) == ("on_foot", ("moving", "on_foot"))


def test_an_unknown_activity_is_in_no_group(tmp_path: Path) -> None:
    events = Recognizer(make_bundle(tmp_path / "b")).recognize([still("standing", 3)], 0).events
    assert {(event.activity, event.groups) for event in events} == {("standing", ("still",))}
    readings = still("standing", 3)
    assert readings.acc is not None
    readings.acc[:] = (6.0, 6.1, 0.0)
    events = Recognizer(make_bundle(tmp_path / "again")).recognize([readings], 0).events
    assert {(event.activity, event.groups) for event in events} == {("unknown", ())}
    assert all(b"groups" not in encode_event(event) for event in events)
