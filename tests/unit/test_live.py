"""What the live page knows: bouts of all watches, traces of those looked at, the fleet, and why a watch is unsure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.load_fleet import KINDS, Fleet, Motion
from streamer.bundle import ModelBundle, Smoothing, find_bundle, load_bundle
from streamer.config import DEFAULT_MODEL, Settings
from streamer.imu import ImuBatch
from streamer.live.board import Board
from streamer.live.history import DEPTH, BoutHistory
from streamer.live.site import Names
from streamer.live.survey import MOST_SHOWN, Query, natural
from streamer.live.traces import MOST_WATCHES, TRACE_HZ, TRACE_NS, WINDOWS
from streamer.live.viewer import Viewer
from streamer.preprocessing.spec import PreprocessingSpec
from streamer.recognizer import Recognizer
from streamer.results import Result
from streamer.runner import why_no_page
from streamer.watches import Limits
from streamer.wire import topics
from streamer.wire.events import SCHEMA, ActivityEvent, EventType, Reason
from streamer.wire.payload import Message
from tests import phones
from tests.bundles import POSTURE_SPEC, POSTURES, START_NS, make_bundle
from tests.live import message
from tests.motion import SECOND, noise, rows, still

#: Written by `python -m tests.screenshots`.
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
NOW_NS = START_NS + 3600 * SECOND


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "posture")


class Watched:
    """A recognizer with its board, fed as the service feeds them."""

    def __init__(self, bundle: ModelBundle, *, limits: Limits | None = None) -> None:
        self.recognizer = Recognizer(bundle, limits=limits)
        self.board = Board(self.recognizer)

    def process(self, *batches: ImuBatch, now_ns: int = NOW_NS) -> Result:
        result = self.recognizer.process([message(batch) for batch in batches], now_ns)
        self.board.take(result)
        return result

    def why(self, device: str = "wrist", now_ns: int = NOW_NS) -> list[tuple[str, str]]:
        detail = self.board.detail(device, now_ns, windows_from=0, with_bouts=False)
        return [(why.code, why.text) for why in detail.reasons]


def event(
    kind: EventType,
    activity: str,
    onset_s: float,
    decided_s: float,
    *,
    reason: Reason = "changed",
    device: str = "wrist",
) -> ActivityEvent:
    decided_ns = START_NS + round(decided_s * SECOND)
    return ActivityEvent(
        schema=SCHEMA,
        id="",
        bout_id=None,
        type=kind,
        device=device,
        activity=activity,
        confidence=0.5,
        onset_ns=START_NS + round(onset_s * SECOND),
        decided_ns=decided_ns,
        window_start_ns=decided_ns - SECOND,
        window_end_ns=decided_ns,
        completeness=1.0,
        gap_ns=0,
        model="posture",
        model_digest="",
        reason=reason,
    )


# --- bouts ------------------------------------------------------------------------------------------------------------


def test_a_bout_ends_where_the_next_one_begins_and_not_where_that_was_decided() -> None:
    #   walking [0 ............ decided end 10)
    #   sitting            [8 .................. end 20, gap)
    history = BoutHistory(("walking", "sitting"), lambda _: True)
    told = [
        event("start", "walking", 0, 2),
        event("end", "walking", 0, 10),
        event("start", "sitting", 8, 10),
        event("state", "sitting", 8, 10),
        event("end", "sitting", 8, 20, reason="gap"),
    ]
    for one in told:
        history.note(one)
    bouts = [
        (b.activity, (b.onset_ns - START_NS) / SECOND, (b.end_ns - START_NS) / SECOND, b.reason)
        for b in history.bouts("wrist", after_ns=0)
    ]
    assert bouts == [(0, 0, 8, "changed"), (1, 8, 20, "gap")]
    assert history.bouts("wrist", after_ns=START_NS + 8 * SECOND) == history.bouts("wrist", after_ns=0)[1:]


def test_only_the_latest_bouts_of_a_watch_are_kept() -> None:
    history = BoutHistory(("walking",), lambda _: True)
    for i in range(3 * DEPTH):
        history.note(event("end", "walking", i, i + 1))
    onsets = [(b.onset_ns - START_NS) // SECOND for b in history.bouts("wrist", after_ns=0)]
    assert onsets == list(range(2 * DEPTH, 3 * DEPTH))


def test_bouts_of_a_clock_that_was_set_back_begin_anew() -> None:
    history = BoutHistory(("walking",), lambda _: True)
    history.note(event("end", "walking", 1000, 1010))
    history.note(event("end", "walking", 10, 20))
    assert [(b.onset_ns - START_NS) // SECOND for b in history.bouts("wrist", after_ns=0)] == [10]


def test_watches_that_are_gone_make_room_for_others() -> None:
    followed = {"watch-0"}
    history = BoutHistory(("walking",), followed.__contains__)
    for i in range(1000):
        followed = {f"watch-{i}"}
        history._is_followed = followed.__contains__  # whom the recognizer follows, which changes
        history.note(event("end", "walking", 0, 1, device=f"watch-{i}"))
    assert len(history) <= 64
    assert history.bouts("watch-999", after_ns=0)
    history.note(event("end", "walking", 5, 6, device="watch-999", reason="evicted"))
    assert history.bouts("watch-999", after_ns=0) == []


def test_the_version_changes_with_the_bouts_also_for_a_watch_that_comes_back() -> None:
    history = BoutHistory(("walking",), lambda _: True)
    versions = [history.version("wrist")]
    for one in (
        event("end", "walking", 0, 10),
        event("start", "walking", 9, 11),
        event("end", "walking", 9, 12, reason="evicted"),
    ):
        history.note(one)
        versions.append(history.version("wrist"))
    history.note(event("end", "walking", 20, 30))
    versions.append(history.version("wrist"))
    # Forgotten is 0 again; every other number is a new one.
    assert versions[3] == 0
    assert len(set(versions)) == 4


# --- traces -----------------------------------------------------------------------------------------------------------


def shown_readings(board: Board, device: str = "wrist") -> list[tuple[int, ...]]:
    traces = board.traces.of(device)
    assert traces is not None
    return [
        (piece.start_ms + piece.readings[i], *piece.readings[i + 1 : i + 4])
        for piece in traces.acc.pieces
        for i in range(0, len(piece.readings), 4)
    ]


@pytest.mark.parametrize("rate_hz", [10, 50, 200])
def test_a_trace_is_thinned_out_the_same_however_readings_are_grouped(bundle: ModelBundle, rate_hz: int) -> None:
    readings = noise(6 * rate_hz, rate_hz=rate_hz)
    traces = []
    for size in (1, 7, rate_hz, len(readings)):
        watched = Watched(bundle)
        watched.board.traces.look_at(["wrist"], NOW_NS)
        for first in range(0, len(readings), size):
            watched.process(readings[first : first + size])
        traces.append(shown_readings(watched.board))
    assert all(trace == traces[0] for trace in traces)
    assert len(traces[0]) == 6 * min(rate_hz, TRACE_HZ)
    assert readings.acc is not None
    assert traces[0][0] == (int(readings.t_ns[0]) // 1_000_000, *np.rint(readings.acc[0] * 100).astype(int).tolist())


def test_nothing_is_kept_of_a_watch_that_nobody_looks_at(bundle: ModelBundle) -> None:
    watched = Watched(bundle)
    watched.board.traces.look_at(["wrist"], NOW_NS)
    watched.process(still("sitting", 3), still("sitting", 3, device="other"))
    assert watched.board.traces.of("other") is None
    traces = watched.board.traces.of("wrist")
    assert traces is not None
    # The fifth waits for readings that may still come late.
    assert traces.windows.count == 4
    # A minute after anybody has asked for it, it is let go.
    watched.board.traces.look_at([], NOW_NS + 59 * SECOND)
    assert watched.board.traces.of("wrist") is traces
    watched.board.traces.look_at([], NOW_NS + 60 * SECOND)
    assert len(watched.board.traces) == 0


def test_traces_are_bounded_in_time_in_pieces_and_in_watches(bundle: ModelBundle) -> None:
    watched = Watched(bundle)
    traces = watched.board.traces
    traces.look_at(["wrist", "slow"], NOW_NS)
    readings = noise(50 * 20)
    for first in range(len(readings)):
        watched.process(readings[first : first + 1])
    shown = shown_readings(watched.board)
    assert TRACE_NS / 1e6 * 0.9 < shown[-1][0] - shown[0][0] <= TRACE_NS / 1e6 + 1000
    # One message that spans days.
    t_ns = START_NS + np.arange(10_000, dtype=np.int64) * 60 * SECOND
    watched.process(ImuBatch("slow", t_ns, np.zeros((10_000, 3)), None), now_ns=int(t_ns[-1]))
    assert len(shown_readings(watched.board, "slow")) == 1
    log = traces.of("wrist")
    assert log is not None
    for i in range(2 * WINDOWS):
        log.windows.add(START_NS + i * SECOND, np.array([1.0, 0.0, 0.0], np.float32))
    assert len(log.windows.since(0)) == WINDOWS
    assert log.windows.since(log.windows.count - 2) == [
        ((START_NS + (2 * WINDOWS - i) * SECOND) // 1_000_000, [200, 0, 0]) for i in (2, 1)
    ]
    traces.look_at([f"watch-{i}" for i in range(2 * MOST_WATCHES)], NOW_NS)
    assert len(traces) == MOST_WATCHES


def test_the_rate_is_what_comes_and_sensors_in_messages_of_their_own_are_told_apart(bundle: ModelBundle) -> None:
    watched = Watched(bundle)
    watched.board.traces.look_at(["wrist"], NOW_NS)
    acc, gyro = noise(500, rate_hz=50), noise(1000, rate_hz=100, seed=1)
    for i in range(10):
        watched.process(replace(acc[50 * i : 50 * i + 50], gyro=None), replace(gyro[100 * i : 100 * i + 100], acc=None))
    traces = watched.board.traces.of("wrist")
    assert traces is not None
    assert traces.acc.rate_hz == pytest.approx(50)
    assert traces.gyro.rate_hz == pytest.approx(100)
    (row,) = watched.board.rows(["wrist"], NOW_NS)
    assert row.rate == 50


# --- the fleet --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fleet(bundle: ModelBundle) -> Watched:
    watched = Watched(bundle)
    for i in range(200):
        watched.process(still(POSTURES[i % 2], 3, device=f"watch-{i}"), now_ns=NOW_NS - i * SECOND)
    return watched


def names(watched: Watched, query: Query) -> list[str]:
    return watched.board.survey(NOW_NS).page(query, watched.board.labels).devices


def test_a_page_shows_the_first_watches_in_natural_order_and_how_many_match(fleet: Watched) -> None:
    page = fleet.board.survey(NOW_NS).page(Query(q="WATCH-1", count=5), fleet.board.labels)
    assert page.devices == ["watch-1", "watch-10", "watch-11", "watch-12", "watch-13"]
    assert (page.matching, page.first) == (111, 0)
    assert names(fleet, Query(first=60, count=3)) == ["watch-60", "watch-61", "watch-62"]
    # Past the end there is the last page.
    page = fleet.board.survey(NOW_NS).page(Query(first=999), fleet.board.labels)
    assert (page.first, page.devices[-1]) == (180, "watch-199")
    assert names(fleet, Query(q="nobody")) == []


def test_watches_are_chosen_by_activity_and_ordered_by_what_matters(fleet: Watched) -> None:
    assert names(fleet, Query(activity="sitting", count=3)) == ["watch-1", "watch-3", "watch-5"]
    assert names(fleet, Query(activity="none")) == []
    assert names(fleet, Query(activity="flying")) == []
    assert names(fleet, Query(order="quiet", count=3)) == ["watch-199", "watch-198", "watch-197"]
    survey = fleet.board.survey(NOW_NS)
    assert survey.counts == [100, 100, 0, 0, 0]
    assert len(names(fleet, Query())) == MOST_SHOWN


def test_least_sure_and_latest_changed_come_first(bundle: ModelBundle) -> None:
    watched = Watched(bundle)
    tilted = still("sitting", 3, device="unsure")
    assert tilted.acc is not None
    tilted.acc[:, 0] = tilted.acc[:, 1] - 1.0
    watched.process(still("sitting", 3, device="sure"), tilted, still("lying", 3, start_s=60, device="later"))
    assert names(watched, Query(order="unsure"))[0] == "unsure"
    assert names(watched, Query(order="changed"))[0] == "later"


def test_numbers_in_names_count_as_numbers() -> None:
    assert sorted(["b2", "b10", "B1", "2", "10"], key=natural) == ["2", "10", "B1", "b2", "b10"]


# --- why --------------------------------------------------------------------------------------------------------------


def test_a_sure_watch_needs_no_reason(bundle: ModelBundle) -> None:
    watched = Watched(bundle)
    watched.process(still("sitting", 3))
    assert watched.why() == []


def test_an_uncertain_watch_says_between_which_activities(bundle: ModelBundle) -> None:
    watched = Watched(bundle)
    readings = still("sitting", 3)
    assert readings.acc is not None
    readings.acc[:] = (6.0, 6.1, 0.0)
    watched.process(readings)
    (uncertain, how_much), (between, named) = watched.why()
    assert (uncertain, between) == ("uncertain", "between")
    assert "the first has 52%, 60% is needed" in how_much
    assert named == "Between sitting (52%) and standing (47%)."
    (row,) = watched.board.rows(["wrist"], NOW_NS)
    assert (row.activity, row.doubt, row.why) == (len(POSTURES), [1, 0], how_much)


def test_a_group_says_what_its_activities_have_together_and_counts_as_an_activity(tmp_path: Path) -> None:
    smoothing = Smoothing(weight=1.0, enter=0.6, leave=0.4, dwell=1, group_enter=0.9)
    watched = Watched(make_bundle(tmp_path / "torn", labels=("walking", "stairs", "sitting"), smoothing=smoothing))
    readings = still("sitting", 3)
    assert readings.acc is not None
    readings.acc[:] = (6.0, 6.1, 0.0)
    watched.process(readings, still("lying", 3, device="other"))
    assert watched.board.labels == ("walking", "stairs", "sitting", "on_foot", "unknown")
    assert watched.why() == [
        ("group", "No one activity is sure enough: the first has 52%. The 2 of the group on foot have 100% together."),
        ("between", "Between stairs (52%) and walking (47%)."),
    ]
    survey = watched.board.survey(NOW_NS)
    assert survey.counts == [0, 0, 1, 1, 0, 0]
    assert names(watched, Query(activity="on_foot")) == ["wrist"]
    watched.process(still("lying", 3, start_s=3))
    assert [bout.activity for bout in watched.board.history.bouts("wrist", after_ns=0)] == [3]


def test_a_change_to_come_is_told(tmp_path: Path) -> None:
    smoothing = Smoothing(weight=1.0, enter=0.6, leave=0.4, dwell=3)
    watched = Watched(make_bundle(tmp_path / "slow", smoothing=smoothing))
    watched.process(still("sitting", 3))
    watched.process(still("lying", 1.2, start_s=3))
    assert watched.why()[-1] == ("changing", "About to change: lying has led for 1 window of 3.")


def test_a_gap_is_told_with_what_is_gathered_since(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(POSTURE_SPEC, window_len=60, hop_len=20)
    watched = Watched(make_bundle(tmp_path / "long", spec=spec))
    watched.process(still("sitting", 4))
    watched.process(still("sitting", 2, start_s=8))
    assert watched.why() == [
        (
            "gap",
            "A hole of 4.0 seconds in its readings ended the activity: more than the 1.0 seconds that can be bridged.",
        ),
        ("gathering", "Gathering the first window: 1.9 of 3.0 s."),
    ]


def test_a_feed_too_slow_is_told(bundle: ModelBundle) -> None:
    watched = Watched(bundle)
    watched.process(still("sitting", 10, rate_hz=4.0))
    assert watched.why() == [("feed_rate", "It sends 4 readings a second; the model needs 8.")]


def test_a_missing_sensor_is_named(tmp_path: Path) -> None:
    channels: PreprocessingSpec = msgspec.structs.replace(
        POSTURE_SPEC, channels=("total_acc_x", "total_acc_y", "total_acc_z", "gyro_x")
    )
    watched = Watched(make_bundle(tmp_path / "gyro", spec=channels))
    for i in range(15):
        watched.process(replace(still("sitting", 1, start_s=i), gyro=None))
    assert watched.why() == [("sensor_missing", "No readings of the gyroscope; the model needs them.")]


def test_a_sensor_that_the_model_does_without_is_no_reason_but_a_fact(tmp_path: Path) -> None:
    channels: PreprocessingSpec = msgspec.structs.replace(
        POSTURE_SPEC,
        channels=("total_acc_x", "total_acc_y", "total_acc_z", "gyro_x"),
        optional_sensors=("gyro",),
    )
    watched = Watched(make_bundle(tmp_path / "optional", spec=channels))
    watched.process(replace(still("sitting", 15), gyro=None))
    assert watched.why() == []
    facts = watched.board.detail("wrist", NOW_NS, windows_from=0, with_bouts=False).facts
    assert ("Gyroscope", "not used", "the latest window lacks it; the model can do without") in facts
    assert any(what == "Rate" and value == "taken as 20 Hz" for what, value, _ in facts)


def test_a_watch_gone_silent_says_for_how_long(bundle: ModelBundle) -> None:
    watched = Watched(bundle, limits=Limits(silence_ns=30 * SECOND))
    watched.process(still("sitting", 3))
    watched.process(now_ns=NOW_NS + 45 * SECOND)
    assert watched.why(now_ns=NOW_NS + 45 * SECOND) == [
        ("silence", "Nothing has come from it for 45 seconds, so its activity has ended.")
    ]
    (row,) = watched.board.rows(["wrist"], NOW_NS + 45 * SECOND)
    assert (row.activity, row.silent) == (-1, True)


def test_readings_that_are_missing_inside_the_window_are_told(bundle: ModelBundle) -> None:
    watched = Watched(bundle)
    readings = still("sitting", 3)
    watched.process(rows(readings, np.r_[0:36, 45:60]))
    assert watched.why() == [("incomplete", "45% of the latest window had to be bridged: readings are missing.")]


def test_a_watch_whose_clock_is_wrong_is_told_by_how_much(bundle: ModelBundle) -> None:
    watched = Watched(bundle)
    watched.process(still("sitting", 3), now_ns=NOW_NS)
    detail = watched.board.detail("wrist", NOW_NS, windows_from=0, with_bouts=True)
    assert ("Clock", "60.0 minutes behind", "its newest reading, against the service's") in detail.facts
    assert watched.board.detail("nobody", NOW_NS, windows_from=0, with_bouts=True).row is None


def test_what_was_found_out_about_a_sender_is_told(bundle: ModelBundle) -> None:
    watched = Watched(bundle)
    for one in phones.sensor_logger(phones.logged(still("sitting", 8, device="phone"), None)):
        watched.board.take(watched.recognizer.process([one], NOW_NS))
    facts = watched.board.detail("phone", NOW_NS, windows_from=0, with_bouts=False).facts
    assert facts[:3] == [
        ("Sender", "Sensor Logger", ""),
        ("Acceleration", "wrist motion, in g", "sign of Apple; gravity is in it"),
        ("Angular rate", "wrist motion", ""),
    ]
    (row,) = watched.board.rows(["phone"], NOW_NS)
    assert (row.activity, row.why) == (POSTURES.index("sitting"), "")


@pytest.mark.parametrize(
    ("sent", "code", "advice"),
    [
        (("accelerometer",), "gravity", "Its acceleration has no gravity in it: let it send one with gravity"),
        (("accelerometer", "gravity"), "sign", "let it send its attitude too"),
    ],
)
def test_a_sender_whose_readings_are_refused_is_told_what_to_change(
    bundle: ModelBundle, sent: tuple[str, ...], code: str, advice: str
) -> None:
    def form(acc: NDArray[np.float64]) -> dict[str, dict[str, float]]:
        parts = {"accelerometer": 0.001 * acc, "gravity": acc}
        return {name: dict(zip("xyz", parts[name].tolist(), strict=True)) for name in sent}

    watched = Watched(bundle)
    for one in phones.sensor_logger(phones.logged(still("sitting", 8, device="phone"), form)):
        watched.board.take(watched.recognizer.process([one], NOW_NS))
    assert watched.why("phone")[0][0] == code
    assert advice in watched.why("phone")[0][1]


# --- viewers ----------------------------------------------------------------------------------------------------------


def test_a_viewer_is_told_each_thing_once(bundle: ModelBundle) -> None:
    watched = Watched(bundle)
    for start_s in range(3):
        watched.process(still("sitting", 1, start_s=start_s))
    viewer = Viewer(watched.board, Query(watch="wrist"))
    first = viewer.frame(NOW_NS, None)
    assert (first.page, [row.name for row in first.rows]) == (["wrist"], ["wrist"])
    assert first.fleet is not None
    assert first.fleet.counts == [0, 1, 0, 0, 0]
    # Nothing came since: a frame of nothing.
    assert msgspec.to_builtins(viewer.frame(NOW_NS + 1, None)) == {"now": (NOW_NS + 1) // 1_000_000}
    watched.process(still("lying", 2, start_s=3))
    second = viewer.frame(NOW_NS + SECOND, "no broker")
    assert second.page is None
    assert second.fleet is not None
    assert second.fleet.unready == "no broker"
    assert list(second.acc) == list(second.gyro) == ["wrist"]
    assert second.bouts["wrist"][0][0] == POSTURES.index("sitting")
    assert second.watch is not None
    assert len(second.watch.windows) == 4
    third = viewer.frame(NOW_NS + 2 * SECOND, None)
    assert (third.acc, third.bouts) == ({}, {})
    assert third.watch is not None
    assert (third.watch.windows, third.watch.bouts) == ([], None)


def test_looking_on_changes_nothing_of_what_is_recognised(bundle: ModelBundle) -> None:
    def events(*, looked_at: bool) -> list[ActivityEvent]:
        watched = Watched(bundle)
        viewer = Viewer(watched.board, Query(watch="wrist"))
        found: list[ActivityEvent] = []
        for i in range(40):
            posture = POSTURES[i // 7 % 3]
            found += watched.process(
                still(posture, 0.5, start_s=0.5 * i), still(posture, 0.5, start_s=i, device="other")
            ).events
            if looked_at:
                viewer.frame(NOW_NS + i * SECOND, None)
        return found

    assert events(looked_at=True) == events(looked_at=False)


def fleet_rounds(watches: int, seconds: int) -> list[list[Message]]:
    """A second of readings a round."""
    fleet = Fleet(devices=watches, rate_hz=50, batch=50, name="cost")
    motion = Motion(fleet, "cbor", qos=0)
    return [
        [
            Message(
                topics.imu(fleet.device(watch)),
                motion.template(watch % KINDS, number).payload(START_NS + number * fleet.period_ns, number),
            )
            for watch in range(watches)
        ]
        for number in range(seconds)
    ]


def test_without_a_viewer_a_call_costs_nothing_more() -> None:
    """With 1000 watches, in CPU time: what the board takes of a call, over what the recognizer does."""
    recognizer = Recognizer(load_bundle(find_bundle(DEFAULT_MODEL)))
    board = Board(recognizer)
    recognized_s = taken_s = 0.0
    for messages in fleet_rounds(1000, 9):
        for first in range(0, len(messages), 100):
            began_s = time.thread_time()
            result = recognizer.process(messages[first : first + 100], NOW_NS)
            recognized_s += time.thread_time() - began_s
            began_s = time.thread_time()
            board.take(result)
            taken_s += time.thread_time() - began_s
    print(f"board over recognizer: {taken_s / recognized_s:.5f}")  # noqa: T201 - a figure for whoever asks
    assert taken_s < 0.005 * recognized_s


# --- whom the page is for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "is_served"),
    [
        (Settings(), True),
        (Settings(http_host="::1"), True),
        (Settings(http_host="localhost"), True),
        (Settings(http_host="0.0.0.0"), False),  # noqa: S104 - that it isn't served there is the point
        (Settings(http_host="192.168.1.5"), False),
        (Settings(http_host="127.0.0.1.example"), False),
        (Settings(http_host="0.0.0.0", live_page="on"), True),  # noqa: S104
        (Settings(live_page="off"), False),
    ],
)
def test_the_page_is_served_on_loopback_alone_unless_told_otherwise(settings: Settings, is_served: bool) -> None:  # noqa: FBT001
    assert (why_no_page(settings) is None) == is_served


@pytest.mark.parametrize(
    ("http_host", "admitted", "refused"),
    [
        (
            "127.0.0.1",
            ["127.0.0.1:9464", "localhost:9464", "LOCALHOST", "[::1]:9464", "lab-pc:9464", "har.example.org"],
            [
                "evil.example:9464",
                "127.0.0.1.evil.example",
                "192.168.1.5:9464",
                "",
                "localhost.evil.example",
                "[::1",
                "0x7f.1",
            ],
        ),
        (
            "0.0.0.0",  # noqa: S104
            ["192.168.1.5:9464", "[fe80::1]:9464", "lab-pc", "har.example.org:443"],
            ["evil.example", "192.168.1.5.evil.example"],
        ),
    ],
)
def test_only_names_of_the_service_are_answered(
    http_host: str, admitted: Sequence[str], refused: Sequence[str]
) -> None:
    names = Names(http_host, "har.example.org", ["lab-pc"])
    assert [host for host in admitted if not names.admit(host)] == []
    assert [host for host in refused if names.admit(host)] == []


@pytest.mark.parametrize("name", ["live-dark.png", "live-light.png", "live-detail.png"])
def test_pictures_of_the_documentation_are_there_and_small(name: str) -> None:
    content = (IMAGES / name).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 200_000
