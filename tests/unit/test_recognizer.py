"""The pure core: messages in, events out; what it tells, what it forgets, and what must not matter."""

from __future__ import annotations

import dataclasses
import json
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.bundle import ModelBundle, Smoothing
from streamer.classifier import Classifier
from streamer.errors import ConfigError, RejectReason
from streamer.imu import ImuBatch
from streamer.preprocessing.pipeline import windows_of
from streamer.recognizer import Recognizer
from streamer.results import Result
from streamer.watch_state import SCHEMA
from streamer.watches import PROBATION_READINGS, Limits, Liveness
from streamer.wire import topics
from streamer.wire.events import ActivityEvent, encode_event
from streamer.wire.payload import Message, encode_cbor, encode_json
from tests.bundles import POSTURE_SPEC, START_NS, make_bundle, mean_softmax
from tests.motion import MS, SECOND, Feed, feeds, interleaved, joined, messages, noise, rows, still, turns

LATENESS_NS: Final = 100 * MS
NOW_NS: Final = START_NS
#: After the last reading of any feed here, before any watch falls silent.
LIMITS: Final = Limits(lateness_ns=LATENESS_NS)
#: Needs both sensors; bouts lag behind windows; a feed of 10 Hz is too slow for it.
BOTH_SENSORS: Final = msgspec.structs.replace(
    POSTURE_SPEC, channels=("body_acc_x", "total_acc_y", "gyro_z"), window_len=16, hop_len=8
)
SMOOTHING: Final = Smoothing(weight=0.7, enter=0.5, leave=0.4, dwell=2)


@pytest.fixture(scope="module")
def posture(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """Takes the accelerometer alone; each window decides."""
    return make_bundle(tmp_path_factory.mktemp("posture"))


@pytest.fixture(scope="module")
def both_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    make_bundle(folder, spec=BOTH_SENSORS, smoothing=SMOOTHING, min_feed_rate_hz=12.0)
    return folder


@pytest.fixture(scope="module")
def both(both_folder: Path) -> ModelBundle:
    """Takes both sensors, smooths, and refuses slow feeds."""
    return make_bundle(both_folder, spec=BOTH_SENSORS, smoothing=SMOOTHING, min_feed_rate_hz=12.0)


def message(batch: ImuBatch, *, as_json: bool = False) -> Message:
    return Message(topics.imu(batch.device_id), encode_json(batch) if as_json else encode_cbor(batch))


def story(events: Iterable[ActivityEvent]) -> list[tuple[str, str, float, float, str | None]]:
    """Type, activity, onset and decision in seconds, reason; states left out, for they repeat starts."""
    return [
        (e.type, e.activity, (e.onset_ns - START_NS) / 1e9, (e.decided_ns - START_NS) / 1e9, e.reason)
        for e in events
        if e.type != "state"
    ]


def by_device(results: Sequence[Result]) -> dict[str, list[bytes]]:
    """Each watch's events as they are published."""
    found: dict[str, list[bytes]] = {}
    for result in results:
        for event in result.events:
            found.setdefault(event.device, []).append(encode_event(event))
    return found


def in_calls(recognizer: Recognizer, arriving: Sequence[Message], sizes: Sequence[int]) -> list[Result]:
    results: list[Result] = []
    first = 0
    while first < len(arriving):
        size = sizes[len(results) % len(sizes)]
        results.append(recognizer.process(arriving[first : first + size], NOW_NS))
        first += size
    return results


# What must not matter ----------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    watches=st.lists(feeds(disorder_ns=LATENESS_NS, most=300), min_size=1, max_size=3),
    cuts=turns,
    order=turns,
    calls=turns,
    as_json=st.booleans(),
)
def test_events_depend_neither_on_messages_nor_on_calls_nor_on_other_watches(
    both: ModelBundle, watches: list[Feed], cuts: list[int], order: list[int], calls: list[int], *, as_json: bool
) -> None:
    streams = [feed.streams(f"watch-{i}") for i, feed in enumerate(watches)]
    expected: dict[str, list[bytes]] = {}
    for own in streams:
        alone = Recognizer(both, limits=LIMITS, every_window=True)
        arriving = [message(batch) for batch in messages(own, [10_000])]
        expected |= by_device([*in_calls(alone, arriving, [1]), alone.finish("shutdown")])
    together = Recognizer(both, limits=LIMITS, every_window=True)
    arriving = [message(b, as_json=as_json) for b in interleaved([messages(own, cuts) for own in streams], order)]
    assert by_device([*in_calls(together, arriving, calls), together.finish("shutdown")]) == expected


def test_windows_are_those_of_the_offline_run_and_probabilities_those_of_the_model(both: ModelBundle) -> None:
    batch = noise(600)
    recognizer = Recognizer(both, limits=LIMITS, every_window=True)
    arriving = [message(part) for part in messages([batch], [7, 30, 1])]
    results = [*in_calls(recognizer, arriving, [3]), recognizer.finish("shutdown")]
    events = [event for result in results for event in result.events if event.type == "window"]
    windows = windows_of([batch], both.spec)
    assert len(events) == len(windows) == 29
    assert [event.window_start_ns for event in events] == windows.start_ns.tolist()
    found = np.array([list((event.probabilities or {}).values()) for event in events], np.float32)
    np.testing.assert_array_equal(found, Classifier(both).predict(windows.samples))
    np.testing.assert_allclose(found, mean_softmax(windows.samples, 3), atol=1e-6)
    assert list(events[0].probabilities or {}) == list(both.labels)


FRESH_PROCESS: Final = """
import json, sys
from pathlib import Path
from streamer.bundle import load_bundle
from streamer.recognizer import Recognizer
from streamer.watches import Limits
from streamer.wire.events import encode_event
from streamer.wire.payload import Message

job = json.load(sys.stdin)
recognizer = Recognizer(load_bundle(Path(job["bundle"])), limits=Limits(), every_window=True)
for state in job["states"]:
    recognizer.import_watch(bytes.fromhex(state), now_ns=0)
messages = [Message(topic, bytes.fromhex(payload)) for topic, payload in job["messages"]]
for result in (recognizer.process(messages, job["now_ns"]), recognizer.finish("shutdown")):
    for event in result.events:
        print(encode_event(event).decode())
"""


def test_fresh_process_goes_on_from_the_state_of_another(both: ModelBundle, both_folder: Path) -> None:
    # Cut in the middle of everything: readings that wait for their sibling, filters, a half full window, a bout.
    plain = Feed(310, 50.0, 0.05, ((), ()), (), LATENESS_NS, separate=False, declares_rate=False, seed=1)
    holes = (((20, 2 * SECOND),), ((25, SECOND),))
    worse = Feed(310, 50.0, 0.05, holes, (7,), LATENESS_NS, separate=True, declares_rate=True, seed=2)
    streams = [plain.streams("plain"), worse.streams("worse"), [still("sitting", 6.2, rate_hz=50.0, device="still")]]
    arriving = [message(batch) for batch in interleaved([messages(own, [13]) for own in streams], [2, 3, 1])]
    half = len(arriving) // 2 + 1
    here = Recognizer(both, limits=LIMITS, every_window=True)
    here.process(arriving[:half], NOW_NS)
    states = [here.export_watch(device) for device in ("still", "worse", "plain")]
    expected = by_device([here.process(arriving[half:], NOW_NS), here.finish("shutdown")])
    assert {device: len(events) > 3 for device, events in expected.items()} == dict.fromkeys(expected, True)

    job = {
        "bundle": str(both_folder),
        "states": [state.hex() for state in states if state is not None],
        "messages": [(one.topic, one.payload.hex()) for one in arriving[half:]],
        "now_ns": NOW_NS,
    }
    there = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS], input=json.dumps(job), capture_output=True, text=True, check=True
    )
    found: dict[str, list[bytes]] = {}
    for line in there.stdout.splitlines():
        found.setdefault(json.loads(line)["device"], []).append(line.encode())
    assert found == expected


@settings(max_examples=15)
@given(feed=feeds(disorder_ns=LATENESS_NS, most=300), cuts=turns, share=st.floats(0, 1))
def test_state_can_move_at_any_message(both: ModelBundle, feed: Feed, cuts: list[int], share: float) -> None:
    arriving = [message(batch) for batch in messages(feed.streams("wrist"), cuts)]
    cut = round(share * len(arriving))
    one = Recognizer(both, limits=LIMITS, every_window=True)
    one.process(arriving[:cut], NOW_NS)
    state = one.export_watch("wrist")
    if state is None:
        # Still on probation: there is no watch to move.
        return
    other = Recognizer(both, limits=LIMITS, every_window=True)
    other.recognize([noise(100, device="another")], NOW_NS)
    other.import_watch(state, NOW_NS)
    assert other.export_watch("wrist") == state
    found = by_device([other.process(arriving[cut:], NOW_NS), other.finish("shutdown")])
    expected = by_device([one.process(arriving[cut:], NOW_NS), one.finish("shutdown")])
    assert found.get("wrist") == expected.get("wrist")


def test_ids_are_the_same_in_every_run_and_differ_between_events(both: ModelBundle) -> None:
    arriving = [message(part) for part in messages([noise(600, device=name) for name in ("a", "b")], [50])]
    ids: list[list[str]] = []
    bouts: list[dict[str, Counter[str]]] = []
    for _ in range(2):
        recognizer = Recognizer(both, limits=LIMITS, every_window=True)
        events = [*recognizer.process(arriving, NOW_NS).events, *recognizer.finish("shutdown").events]
        ids.append([event.id for event in events])
        bouts.append({})
        for event in events:
            if event.bout_id is not None:
                bouts[-1].setdefault(event.bout_id, Counter())[event.type] += 1
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0]) > 70
    # Each bout has one start, one state and one end, and the windows between them.
    assert {(types["start"], types["state"], types["end"]) for types in bouts[0].values()} == {(1, 1, 1)}


def test_garbage_changes_no_event_of_a_good_watch(both: ModelBundle) -> None:
    good = [message(part, as_json=i % 2 == 0) for i, part in enumerate(messages([noise(600)], [25]))]
    whole = encode_cbor(noise(10))
    poison = {
        b"": RejectReason.FORMAT,
        b"\xff\x00garbage": RejectReason.FORMAT,
        whole[:-3]: RejectReason.CBOR,
        b'{"t_ns": 1, "acc_x": ': RejectReason.JSON,
        b'{"t_ns": 1, "acc_x": NaN, "acc_y": 0.0, "acc_z": 0.0}': RejectReason.NON_FINITE,
        b'{"t_ns": 1, "acc_x": 1e9, "acc_y": 0.0, "acc_z": 0.0}': RejectReason.VALUE_RANGE,
        b'{"t_ns": -1, "acc_x": 1.0, "acc_y": 0.0, "acc_z": 0.0}': RejectReason.TIME_RANGE,
        b'{"t_ns": 1, "gyro_x": [1.0], "gyro_y": [], "gyro_z": []}': RejectReason.SHAPE,
        b'{"t_ns": 1, "device": "other", "acc_x": 1.0, "acc_y": 1.0, "acc_z": 1.0}': RejectReason.DEVICE_MISMATCH,
        b"{" + b" " * 1_000_000 + b"}": RejectReason.OVERSIZE,
    }
    bad = [Message(topics.imu("wrist"), payload) for payload in poison]
    bad += [Message("wrist", whole), Message("har/v1/no wrist/imu", whole)]
    mixed = [one for i, fine in enumerate(good) for one in (bad[i % len(bad)], fine)]
    undisturbed, disturbed = (Recognizer(both, limits=LIMITS, every_window=True) for _ in range(2))
    expected = by_device([*in_calls(undisturbed, good, [4]), undisturbed.finish("shutdown")])
    results = in_calls(disturbed, mixed, [5])
    assert by_device([*results, disturbed.finish("shutdown")]) == expected
    rejects: Counter[RejectReason] = sum((result.counts.rejects for result in results), Counter())
    assert rejects == Counter([*poison.values(), RejectReason.TOPIC, RejectReason.DEVICE_NAME] * 2)
    assert sum(result.counts.messages for result in results) == len(good)


@given(payload=st.binary(max_size=200))
def test_no_payload_raises_or_leaves_a_trace(posture_recognizer: Recognizer, payload: bytes) -> None:
    before = posture_recognizer.export_watch("wrist")
    result = posture_recognizer.process([Message(topics.imu("wrist"), payload)], NOW_NS)
    if result.counts.rejects.total():
        assert posture_recognizer.export_watch("wrist") == before


@pytest.fixture(scope="module")
def posture_recognizer(posture: ModelBundle) -> Recognizer:
    """Follows the watch "wrist"."""
    recognizer = Recognizer(posture, limits=LIMITS)
    recognizer.recognize([still("lying", 2.0)], NOW_NS)
    return recognizer


# What is told ------------------------------------------------------------------------------------------------------


def test_bouts_start_at_their_first_window_and_end_where_the_next_is_decided(posture: ModelBundle) -> None:
    # second      0        1        2        3        4        5
    # gravity     z z z z z z z z z z z y y y y y y y y y y y y
    # windows     [- lying -)       [- half -)       the window 1.5 to 2.5 has seen a tenth more of lying
    #                 [- lying -)       [- sitting -)
    # bouts       [lying, told at 1         )[sitting from 2 on, told at 3
    recognizer = Recognizer(posture, limits=LIMITS)
    result = recognizer.recognize([joined(still("lying", 2.1), still("sitting", 2.9, start_s=2.1))], NOW_NS)
    assert story(result.events) == [
        ("start", "lying", 0.0, 1.0, None),
        ("end", "lying", 0.0, 3.0, "changed"),
        ("start", "sitting", 2.0, 3.0, None),
    ]
    start, state = result.events[:2]
    assert (state.type, state.id != start.id) == ("state", True)
    assert msgspec.structs.replace(state, type="start", id=start.id) == start
    assert (start.window_start_ns, start.window_end_ns) == (START_NS, START_NS + SECOND)
    assert (start.model, start.model_digest) == ("posture", posture.digest)
    assert (start.completeness, start.gap_ns) == (1.0, 0)
    assert start.confidence == pytest.approx(0.9999, abs=1e-4)
    assert story(recognizer.finish("shutdown").events) == [("end", "sitting", 2.0, 5.0, "shutdown")]
    assert recognizer.finish("shutdown").events == []


def test_windows_are_told_on_request_only(posture: ModelBundle) -> None:
    for every_window, expected in ((False, 0), (True, 7)):
        recognizer = Recognizer(posture, limits=LIMITS, every_window=every_window)
        result = recognizer.recognize([still("lying", 4.2)], NOW_NS)
        assert sum(event.type == "window" for event in result.events) == expected
        assert result.counts.windows == 7


def test_uncertain_watch_is_unknown(posture: ModelBundle) -> None:
    # All axes feel the same: no posture is probable enough.
    flat = still("lying", 3.0)
    assert flat.acc is not None
    result = Recognizer(posture, limits=LIMITS).recognize(
        [ImuBatch("wrist", flat.t_ns, np.ones_like(flat.acc), None)], NOW_NS
    )
    assert story(result.events) == [("start", "unknown", 0.0, 1.0, "uncertain")]
    assert result.events[0].confidence == pytest.approx(1 / 3)


def test_gap_ends_the_bout_and_its_length_is_stamped_on_what_follows(posture: ModelBundle) -> None:
    # second    0                 3                10
    # readings  x x x x x x x x x                  x x x x x x
    # bouts     [lying            ) end, unknown   [lying
    recognizer = Recognizer(posture, limits=LIMITS, every_window=True)
    result = recognizer.recognize([joined(still("lying", 3.0), still("lying", 3.0, start_s=10.0))], NOW_NS)
    told = [event for event in result.events if event.type != "window"]
    assert [(event.type, event.activity, event.reason, event.gap_ns) for event in told] == [
        ("start", "lying", None, 0),
        ("state", "lying", None, 0),
        ("end", "lying", "gap", 7_050 * MS),
        ("state", "unknown", "gap", 7_050 * MS),
        ("start", "lying", None, 7_050 * MS),
        ("state", "lying", None, 7_050 * MS),
    ]
    assert [event.onset_ns for event in told if event.type == "start"] == [START_NS, START_NS + 10 * SECOND]
    windows = [event for event in result.events if event.type == "window"]
    assert [event.gap_ns for event in windows] == [0] * 5 + [7_050 * MS] + [0] * 3
    assert result.counts.gaps == 1


def test_short_hole_shows_in_completeness_and_length(posture: ModelBundle) -> None:
    batch = still("lying", 3.2)
    recognizer = Recognizer(posture, limits=LIMITS, every_window=True)
    result = recognizer.recognize([rows(batch, np.delete(np.arange(64), [25, 26, 27, 28]))], NOW_NS)
    windows = [event for event in result.events if event.type == "window"]
    assert [event.completeness for event in windows] == [1.0, 0.8, 0.8, 1.0, 1.0]
    assert [event.gap_ns for event in windows] == [0, 250 * MS, 250 * MS, 0, 0]
    assert result.counts.bridged == 4


# Watches that the model can't take ---------------------------------------------------------------------------------


def test_watch_without_a_needed_sensor_is_unknown_after_ten_seconds_each_time(both: ModelBundle) -> None:
    # acc     x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x
    # gyro                                            x x x x x
    # second  0               10 unknown              20  known 25        35 unknown   38
    recognizer = Recognizer(both, limits=LIMITS)
    watch = still("sitting", 38.0)
    results = []
    for second, part in enumerate(messages([watch], [20])):
        sent = [ImuBatch("wrist", part.t_ns, part.acc, None), ImuBatch("wrist", part.t_ns, None, part.gyro)]
        results.append(recognizer.process([message(one) for one in sent[: 2 if 20 <= second < 25 else 1]], NOW_NS))
    found = story(event for result in results for event in result.events)
    assert found == [
        ("start", "unknown", 0.0, 10.0, "sensor_missing"),
        ("end", "unknown", 0.0, 21.2, "changed"),
        ("start", "sitting", 20.0, 21.2, None),
        ("end", "sitting", 20.0, 24.8, "gap"),
        ("start", "unknown", 24.8, 34.8, "sensor_missing"),
    ]
    # At second 20 the accelerometer's message comes before the gyroscope's.
    unfit = [second for second, result in enumerate(results) if result.counts.unfit["sensor_missing"]]
    assert unfit == [*range(10, 21), *range(35, 38)]


def test_sensor_that_is_missing_after_a_pause_is_missing_since_the_pause(both: ModelBundle) -> None:
    # acc     x x x x x               x x x x x x x x x
    # gyro    x x x x                                          nothing after the pause, and a little less before it
    # second  0      5                60       70 unknown
    watch = joined(still("sitting", 5.0), still("sitting", 15.0, start_s=60.0))
    acc = ImuBatch("wrist", watch.t_ns, watch.acc, None)
    gyro = ImuBatch("wrist", watch.t_ns[:96], None, watch.gyro[:96] if watch.gyro is not None else None)
    recognizer = Recognizer(both, limits=LIMITS)
    results = in_calls(recognizer, [message(one) for one in messages([acc, gyro], [20])], [1])
    assert story(event for result in results for event in result.events) == [
        ("start", "sitting", 0.0, 1.2, None),
        ("end", "sitting", 0.0, 4.4, "gap"),
        ("start", "unknown", 60.0, 70.0, "sensor_missing"),
    ]


def test_watch_with_the_wrong_sensor_alone_is_unknown(posture: ModelBundle) -> None:
    watch = still("standing", 12.0)
    only_gyro = ImuBatch("wrist", watch.t_ns, None, watch.gyro)
    recognizer = Recognizer(posture, limits=LIMITS)
    results = in_calls(recognizer, [message(part) for part in messages([only_gyro], [20])], [1])
    found = story(event for result in results for event in result.events)
    assert found == [("start", "unknown", 0.0, 10.0, "sensor_missing")]
    # And is known as soon as the right one comes.
    result = recognizer.process([message(still("standing", 2.0, start_s=12.0))], NOW_NS)
    assert story(result.events)[1:] == [("start", "standing", 12.0, 13.0, None)]


def test_feed_too_slow_for_the_model_is_unknown_again_after_every_gap(posture: ModelBundle) -> None:
    # second    0              6          10              16      20
    # feed      5 Hz           gap        5 Hz            gap     20 Hz
    recognizer = Recognizer(posture, limits=LIMITS)
    results = [
        recognizer.recognize([still("lying", 6.0, start_s=start_s, rate_hz=rate_hz)], NOW_NS)
        for start_s, rate_hz in ((0.0, 5.0), (10.0, 5.0), (20.0, 20.0))
    ]
    assert [story(result.events) for result in results] == [
        [("start", "unknown", 0.0, 1.0, "feed_rate")],
        [("end", "unknown", 0.0, 1.0, "gap"), ("start", "unknown", 10.0, 11.0, "feed_rate")],
        [("end", "unknown", 10.0, 11.0, "gap"), ("start", "lying", 20.0, 21.0, None)],
    ]
    # The last window of each feed waits for the lateness to pass.
    assert [result.counts.unfit["feed_rate"] for result in results] == [9, 10, 1]
    assert [result.counts.windows for result in results] == [0, 0, 10]


def test_feed_a_little_slower_than_declared_is_taken(posture: ModelBundle) -> None:
    # Clocks are not exact: a tenth below the least rate is taken.
    for rate_hz, activity in ((7.3, "lying"), (7.1, "unknown")):
        recognizer = Recognizer(posture, limits=LIMITS)
        (start, _) = recognizer.recognize([still("lying", 4.0, rate_hz=rate_hz)], NOW_NS).events
        assert start.activity == activity


# Watches that come and go ------------------------------------------------------------------------------------------


def test_new_name_is_followed_after_some_readings_and_loses_none(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, limits=LIMITS)
    batch = still("lying", 1.2)
    first = recognizer.process([message(batch[: PROBATION_READINGS - 1])], NOW_NS)
    assert (first.counts.messages, len(recognizer.watches)) == (0, 0)
    second = recognizer.process([message(batch[PROBATION_READINGS - 1 :])], NOW_NS)
    assert (second.counts.messages, second.counts.readings, len(recognizer.watches)) == (2, 24, 1)
    assert story(second.events) == [("start", "lying", 0.0, 1.0, None)]


def test_silence_ends_the_bout_once_and_the_watch_may_come_back(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, limits=LIMITS)
    recognizer.process([message(still("lying", 3.0))], NOW_NS)
    assert recognizer.process([], NOW_NS + 30 * SECOND - 1).events == []
    # The last window waited for the lateness to pass.
    silent = recognizer.process([], NOW_NS + 30 * SECOND)
    assert story(silent.events) == [("end", "lying", 0.0, 3.0, "silence")]
    assert recognizer.process([], NOW_NS + 60 * SECOND).events == []
    back = recognizer.process([message(still("lying", 2.0, start_s=100.0))], NOW_NS + 100 * SECOND)
    assert story(back.events) == [("start", "lying", 100.0, 101.0, None)]
    assert back.events[0].gap_ns == 97_050 * MS


def test_messages_of_other_watches_are_no_tick(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, limits=LIMITS)
    recognizer.process([message(still("lying", 3.0))], NOW_NS)
    other = recognizer.process([message(still("sitting", 3.0, device="other"))], NOW_NS + 60 * SECOND)
    assert {event.device for event in other.events} == {"other"}
    assert {event.device for event in recognizer.process([], NOW_NS + 60 * SECOND).events} == {"wrist"}


def test_silent_watch_is_forgotten_after_its_time(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, limits=LIMITS)
    recognizer.process([message(still("lying", 3.0))], NOW_NS)
    recognizer.process([], NOW_NS + 30 * SECOND)
    result = recognizer.process([], NOW_NS + 3600 * SECOND)
    assert (result.events, result.counts.evicted, len(recognizer.watches)) == ([], {"age": 1}, 0)
    # What comes later is a new watch, without a gap to its former life.
    again = recognizer.process([message(still("sitting", 1.2, start_s=4000.0))], NOW_NS + 4000 * SECOND)
    assert story(again.events) == [("start", "sitting", 4000.0, 4001.0, None)]
    assert again.counts.gaps == again.events[0].gap_ns == 0


def test_watch_longest_silent_makes_room_and_its_bout_ends(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, limits=Limits(max_watches=2, lateness_ns=0))
    early = [still("lying", 2.0, device="a"), still("lying", 2.0, device="b")]
    begun = recognizer.process([message(batch) for batch in early], NOW_NS)
    late = [still("lying", 1.0, start_s=2.0, device="a"), still("sitting", 2.0, device="c")]
    refused = recognizer.process([message(batch) for batch in late], NOW_NS + 30 * SECOND - 1)
    assert (refused.counts.rejects, refused.counts.evicted) == ({RejectReason.CAPACITY: 1}, {})
    assert sorted(recognizer.watches) == ["a", "b"]
    result = recognizer.process([message(batch) for batch in late], NOW_NS + 30 * SECOND)
    result.events[:0] = begun.events
    assert result.counts.evicted == {"capacity": 1}
    assert sorted(recognizer.watches) == ["a", "c"]
    assert story(event for event in result.events if event.device == "b") == [
        ("start", "lying", 0.0, 1.0, None),
        ("end", "lying", 0.0, 2.0, "evicted"),
    ]
    assert story(event for event in result.events if event.device == "c") == [("start", "sitting", 0.0, 1.0, None)]


def test_slot_of_a_forgotten_watch_keeps_nothing_of_it(posture: ModelBundle) -> None:
    recognizer, fresh = (Recognizer(posture, limits=Limits(max_watches=1), every_window=True) for _ in range(2))
    recognizer.recognize([noise(500, device="a")], NOW_NS)
    newcomer = noise(500, seed=1, device="b")
    assert (
        by_device([recognizer.recognize([newcomer], NOW_NS + 30 * SECOND)])["b"]
        == by_device([fresh.recognize([newcomer], NOW_NS)])["b"]
    )


def test_more_watches_than_the_first_slots_are_followed(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, limits=Limits(max_watches=150, lateness_ns=0))
    devices = [f"watch-{i}" for i in range(200)]
    result = recognizer.process([message(still("lying", 1.0, device=device)) for device in devices], NOW_NS)
    assert [event.device for event in result.events if event.type == "start"] == devices[:150]
    assert (len(recognizer.watches), result.counts.rejects) == (150, {RejectReason.CAPACITY: 50})


def test_watches_are_counted_by_their_current_activity_while_they_are_heard_of(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, limits=LIMITS)
    # More than the first slots, so that there are slots which nobody has had yet.
    lying = [message(still("lying", 2.0, device=f"watch-{i}")) for i in range(70)]
    recognizer.process([*lying, message(still("sitting", 2.0, device="other"))], NOW_NS)
    assert {activity: n for activity, n in recognizer.activities().items() if n} == {"lying": 70, "sitting": 1}
    assert list(recognizer.activities()) == [*posture.labels, "unknown"]
    recognizer.process([message(still("sitting", 1.0, start_s=2.0, device="watch-7"))], NOW_NS + 29 * SECOND)
    recognizer.process([], NOW_NS + 30 * SECOND)
    assert sum(recognizer.activities().values()) == 1
    assert len(recognizer.watches) == 71


# What is counted and refused ---------------------------------------------------------------------------------------


def test_reading_more_than_a_day_ahead_is_refused(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, limits=LIMITS)
    one = still("lying", 1.0)
    (newest_ns,) = one.t_ns[-1:].tolist()
    assert recognizer.process([message(one)], newest_ns - 86_400 * SECOND).counts.messages == 1
    result = recognizer.process([message(one)], newest_ns - 86_400 * SECOND - 1)
    assert (result.counts.messages, result.counts.rejects) == (0, {RejectReason.FUTURE: 1})
    assert result.counts.reject_examples[RejectReason.FUTURE] == (
        "device wrist: a reading lies 86400 s ahead of the clock; expected at most 86400 s"
    )


def test_jumps_of_the_message_counter_are_counted(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, limits=LIMITS)
    parts = messages([still("lying", 6.0)], [20])
    numbered = [
        message(ImuBatch("wrist", part.t_ns, part.acc, None, seq=seq))
        for part, seq in zip(parts, (7, 8, 11, 12, 0, 1), strict=True)
    ]
    # 9 and 10 are missing; a counter that begins again is no loss.
    assert recognizer.process(numbered, NOW_NS).counts.missing_messages == 2


def test_message_counter_of_a_message_delivered_again_says_nothing(posture: ModelBundle) -> None:
    parts = messages([still("lying", 8.0)], [20])
    sent = [dataclasses.replace(part, seq=seq) for part, seq in zip(parts, (7, 8, 9, 0, 1, 2, 5, 6), strict=True)]
    # 3 and 4 are missing, whatever is delivered again: also across the start of another count.
    for again in ([], sent[5:6], sent[1:6], sent[:7]):
        arriving = [*sent[:6], *again, *sent[6:7], *again, *sent[7:]]
        for sizes in ([1], [20]):
            results = in_calls(Recognizer(posture, limits=LIMITS), [message(one) for one in arriving], sizes)
            assert sum(result.counts.missing_messages for result in results) == 2


def test_late_and_double_readings_are_counted(posture: ModelBundle) -> None:
    batch = still("lying", 2.0)
    recognizer = Recognizer(posture, limits=LIMITS)
    first = recognizer.process([message(batch)], NOW_NS).counts
    again = recognizer.process([message(batch[10:12]), message(batch[39:])], NOW_NS).counts
    assert (first.late, first.duplicate) == (0, 0)
    assert (again.late, again.duplicate) == (2, 1)


def test_state_of_another_bundle_layout_or_damaged_is_refused(posture: ModelBundle, both: ModelBundle) -> None:
    source = Recognizer(posture, limits=LIMITS)
    source.recognize([still("lying", 2.0)], NOW_NS)
    state = source.export_watch("wrist")
    assert state is not None
    assert source.export_watch("nobody") is None
    (length,) = struct.unpack_from("<I", state)
    header = msgspec.msgpack.decode(state[4 : 4 + length])

    def with_header(**changes: object) -> bytes:
        changed = msgspec.msgpack.encode(header | changes)
        return struct.pack("<I", len(changed)) + changed + state[4 + length :]

    stage, name, dtype, shape = header["arrays"][0]
    for recognizer, data, expected in (
        (Recognizer(both), state, f"bundle {posture.digest}; expected schema {SCHEMA}, bundle {both.digest}"),
        (source, with_header(schema=1), "schema 1"),
        (source, with_header(arrays=[[stage, "other", dtype, shape], *header["arrays"][1:]]), "other stages or arrays"),
        (source, with_header(arrays=[[stage, name, "<i2", shape], *header["arrays"][1:]]), "state of watch wrist"),
        (source, with_header(devices=[]), "state of 0 watches: arrays of other lengths"),
        (source, state[:-1], "state of watch wrist: buffer is smaller"),
        (source, state + b"x", f"state of watch wrist: {len(state) + 1} bytes; expected {len(state)}"),
        (source, state[:20], "watch state: Input data was truncated"),
        (source, b"", "watch state: unpack_from"),
    ):
        with pytest.raises(ConfigError, match=expected):
            recognizer.import_watch(data, NOW_NS)
    assert source.export_watch("wrist") == state


def test_a_fleet_without_watches_is_taken_over_too(posture: ModelBundle) -> None:
    nobody, other = Recognizer(posture), Recognizer(posture)
    liveness, pieces = nobody.export_fleet()
    other.import_fleet(liveness, b"".join(pieces))
    assert len(other.watches) == 0


def test_a_fleet_goes_on_in_a_fresh_recognizer_as_if_nothing_had_happened(posture: ModelBundle) -> None:
    """Watches in slots, silent ones, and one that is still on probation."""

    def arriving(start_s: float) -> list[Message]:
        lengths = {"a": 2.0, "b": 1.0, "c": 0.2 if start_s == 0 else 2.0}
        return [message(still("lying", s, device=d, start_s=start_s)) for d, s in lengths.items()]

    one, other = (Recognizer(posture, limits=LIMITS, every_window=True) for _ in range(2))
    one.process(arriving(0), NOW_NS)
    liveness, pieces = one.export_fleet()
    expected = [one.process(arriving(2), NOW_NS + 1), one.process([], NOW_NS + 10**12)]
    other.import_fleet(msgspec.msgpack.decode(msgspec.msgpack.encode(liveness), type=Liveness), b"".join(pieces))
    found = [other.process(arriving(2), NOW_NS + 1), other.process([], NOW_NS + 10**12)]
    assert by_device(found) == by_device(expected)
    assert {"a", "b", "c"} == by_device(expected).keys()
    with pytest.raises(ConfigError, match="liveness of other watches"):
        other.import_fleet(Liveness(alive=[], silent=[], probation=[]), b"".join(one.export_fleet()[1]))


def test_time_in_which_nobody_listened_ends_no_bout(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, limits=LIMITS)
    recognizer.process([message(still("lying", 4.0))], NOW_NS)
    recognizer.excuse(LIMITS.silence_ns)
    assert not recognizer.process([], NOW_NS + LIMITS.silence_ns + 1).events
    assert [e.reason for e in recognizer.process([], NOW_NS + 2 * LIMITS.silence_ns).events] == ["silence"]


def test_state_is_refused_where_there_is_no_room(posture: ModelBundle) -> None:
    source, full = (Recognizer(posture, limits=Limits(max_watches=1)) for _ in range(2))
    source.recognize([still("lying", 2.0, device="a")], NOW_NS)
    full.recognize([still("lying", 2.0, device="b")], NOW_NS)
    state = source.export_watch("a")
    assert state is not None
    with pytest.raises(ConfigError, match=r"state of watch a: 1 watches are followed; expected room for 1 more in 1"):
        full.import_watch(state, NOW_NS)
    assert list(full.watches) == ["b"]


def test_stages_are_marked_in_their_order(posture: ModelBundle) -> None:
    marks: list[str] = []
    Recognizer(posture, limits=LIMITS, mark=marks.append).process([message(still("lying", 2.0))], NOW_NS)
    assert marks == ["decode", "align", "filter", "window", "classify", "track"]
