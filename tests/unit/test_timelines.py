"""What a watch's clock may do to its events: nothing that it does not have to, and never for long."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.bundle import ModelBundle
from streamer.imu import ImuBatch
from streamer.preprocessing.pipeline import Preprocessor, Step
from streamer.preprocessing.timelines import LEAP_READINGS, MARK_NS, MARKS, RETURN_NS
from streamer.recognizer import Recognizer
from streamer.results import Counts, Result
from streamer.watches import Limits
from streamer.wire import topics
from streamer.wire.events import encode_event
from streamer.wire.payload import Message, encode_cbor
from tests.bundles import POSTURE_SPEC, START_NS, make_bundle
from tests.motion import MS, SECOND, Feed, feeds, joined, messages, noise, still, times, turns

LATENESS_NS: Final = 100 * MS
DAY: Final = 86_400 * SECOND
HOUR: Final = 3600 * SECOND
#: Both sensors, and each second a window of two.
SPEC: Final = msgspec.structs.replace(POSTURE_SPEC, channels=("total_acc_x", "gyro_z"), window_len=40, hop_len=20)
#: Any time in which a test's readings lie.
NOW_NS: Final = START_NS + 100 * DAY
LIMITS: Final = Limits(lateness_ns=LATENESS_NS)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """Takes both sensors; each window decides."""
    return make_bundle(tmp_path_factory.mktemp("both"), spec=SPEC, labels=("standing", "sitting"))


def recognized(bundle: ModelBundle, arriving: Sequence[ImuBatch], sizes: Sequence[int]) -> tuple[list[bytes], Counts]:
    """Events of a watch whose messages come in calls of these sizes, and the sum of some counts."""
    recognizer = Recognizer(bundle, limits=LIMITS, every_window=True)
    sent = [Message(topics.imu("wrist"), encode_cbor(batch)) for batch in arriving]
    results: list[Result] = []
    first = 0
    while first < len(sent):
        size = sizes[len(results) % len(sizes)]
        results.append(recognizer.process(sent[first : first + size], NOW_NS))
        first += size
    results.append(recognizer.finish("shutdown"))
    total = Counts()
    for result in results:
        total.clock_jumps += result.counts.clock_jumps
        total.missing_messages += result.counts.missing_messages
    return [encode_event(event) for result in results for event in result.events], total


def windows_by(batches: Iterable[ImuBatch]) -> list[tuple[int, bytes]]:
    """Starts and samples of the windows of messages."""
    preprocessor = Preprocessor(SPEC, lateness_ns=LATENESS_NS)
    steps: list[Step] = [step for batch in batches for step in preprocessor.push([0], [batch])]
    steps += preprocessor.flush([0])
    return [
        (start_ns, samples.tobytes())
        for step in steps
        for start_ns, samples in zip(step.windows.start_ns.tolist(), step.windows.samples, strict=True)
    ]


def shifted(batch: ImuBatch, from_: int, by_ns: int) -> ImuBatch:
    """The same readings with a clock that is set before reading `from_`."""
    t_ns = batch.t_ns.copy()
    t_ns[from_:] += by_ns
    return ImuBatch(batch.device_id, t_ns, batch.acc, batch.gyro, batch.rate_hz)


leaps = st.integers(-2 * DAY, 2 * DAY) | st.integers(-200 * SECOND, 200 * SECOND) | st.just(-START_NS)


@settings(max_examples=40)
@given(
    feed=feeds(disorder_ns=LATENESS_NS, most=400),
    jumps=st.lists(st.tuples(st.integers(0, 400), leaps), max_size=2),
    cuts=turns,
    calls=turns,
    breaks=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_suffix_delivered_again_changes_no_event(
    bundle: ModelBundle,
    *,
    feed: Feed,
    jumps: list[tuple[int, int]],
    cuts: list[int],
    calls: list[int],
    breaks: tuple[float, float],
) -> None:
    streams = feed.streams("wrist")
    for at, by_ns in jumps:
        streams = [shifted(s, at, by_ns) for s in streams]
        streams = [s for s in streams if s.t_ns.min() >= 0]
    if not streams:
        return
    whole = cut_as_they_come(streams, cuts)
    since, until = sorted(round(share * len(whole)) for share in breaks)
    again = [*whole[:until], *whole[since:until], *whole[until:]]
    assert recognized(bundle, again, calls)[0] == recognized(bundle, whole, [len(whole)])[0]


def cut_as_they_come(streams: Sequence[ImuBatch], sizes: Sequence[int]) -> list[ImuBatch]:
    """A watch's streams in messages, reading number by reading number: their times say nothing of their order."""
    cut: list[tuple[int, int, ImuBatch]] = []
    for number, stream in enumerate(streams):
        first = turn = 0
        while first < len(stream):
            size = sizes[turn % len(sizes)]
            cut.append((first + size, number, stream[first : first + size]))
            first, turn = first + size, turn + 1
    return [message for _, _, message in sorted(cut, key=lambda entry: entry[:2])]


@pytest.mark.parametrize("again_s", [5, 90, 600])
@pytest.mark.parametrize("jitter", [0.0, 0.05])
def test_minutes_of_readings_delivered_again_are_known_by_their_marks(
    bundle: ModelBundle, again_s: int, jitter: float
) -> None:
    (whole,) = Feed(
        12_500, 20.0, jitter, (((9000, HOUR),), ()), (), 0, separate=False, declares_rate=False, seed=3
    ).streams("wrist")
    parts = messages([whole], [20])
    for until in (600, 455):
        again = [*parts[:until], *parts[until - min(again_s, until) : until], *parts[until:]]
        found, counts = recognized(bundle, again, [50])
        assert (found, counts.clock_jumps) == (recognized(bundle, parts, [50])[0], 0)


# Second 130 is second 30 again, and believed to be at 190; with second 230 the watch is where it had never been.
@pytest.mark.parametrize("by_ns", [-100 * SECOND, -100 * SECOND + 7 * MS])
@pytest.mark.parametrize(
    ("since", "until"),
    [(100, 130), (100, 160), (131, 160), (131, 200), (185, 195), (195, 240), (100, 250)],
)
def test_readings_delivered_again_around_a_clock_set_back_change_nothing(by_ns: int, since: int, until: int) -> None:
    parts = messages_in_order(shifted(noise(260 * 20, rate_hz=20), 130 * 20, by_ns), [20])
    expected = windows_by(parts)
    assert len(expected) == 129 + 69
    assert windows_by([*parts[:until], *parts[since:until], *parts[until:]]) == expected


@settings(max_examples=10)
@given(ran_s=st.sampled_from([3, 30, 200]), by_ns=leaps, phase_ns=st.integers(0, 50 * MS), cuts=turns)
@example(ran_s=200, by_ns=-100 * SECOND, phase_ns=0, cuts=[20])
@example(ran_s=200, by_ns=DAY, phase_ns=0, cuts=[20])
def test_watch_whose_clock_was_set_is_recognised_again_within_bounds(
    ran_s: int, by_ns: int, phase_ns: int, cuts: list[int]
) -> None:
    rate_hz = 20
    batch = shifted(noise(rate_hz * (ran_s + 100), rate_hz=rate_hz), rate_hz * ran_s, by_ns - phase_ns)
    if int(batch.t_ns.min()) < 0:
        return
    found = [start_ns for start_ns, _ in windows_by(messages_in_order(batch, cuts))]
    set_ns = int(batch.t_ns[rate_hz * ran_s])
    back_again = set_ns + RETURN_NS
    after = [start_ns for start_ns in found[-50:] if start_ns >= set_ns]
    # From the bound on, each second has its window.
    due = int((batch.t_ns[-1] - back_again) // SECOND) - 4
    assert sum(start_ns >= back_again - SECOND for start_ns in after) >= due
    assert np.diff(after[-due:]).tolist() == [SECOND] * (due - 1)


def messages_in_order(batch: ImuBatch, sizes: Sequence[int]) -> list[ImuBatch]:
    return cut_as_they_come([batch], sizes)


@pytest.mark.parametrize("by_ns", [DAY, -DAY, 400 * SECOND, -400 * SECOND, -START_NS])
def test_clock_set_to_where_it_never_was_loses_nothing(by_ns: int) -> None:
    # readings  0 ... 10 s | 10 s + by ... 20 s + by
    # windows   [ ][ ]...     [ ][ ]...                  the first begins with the first reading
    batch = shifted(noise(400, rate_hz=20), 200, by_ns)
    before, after = batch[:200], batch[200:]
    expected = windows_by([before]) + windows_by([after])
    for sizes in ([1], [20], [400]):
        found = windows_by(messages_in_order(batch, sizes))
        # What came before it is told to its last whole window, what comes after it from its first reading on.
        assert found == expected


@pytest.mark.parametrize("count", [1, 15])
@settings(max_examples=20)
@given(
    feed=feeds(disorder_ns=0, most=200),
    cuts=turns,
    at=st.floats(0.1, 1),
    away_ns=leaps.filter(lambda ns: not -LATENESS_NS - 300 * MS <= ns <= SPEC.max_gap_ns),
)
def test_stray_readings_change_nothing(count: int, feed: Feed, cuts: list[int], at: float, away_ns: int) -> None:
    feed = dataclasses.replace(feed, holes=((), ()), separate=False)
    (batch,) = feed.streams("wrist")
    i = round(at * len(batch))
    t_ns = int(batch.t_ns[max(i - 1, 0)]) + away_ns
    if t_ns < 0:
        return
    strays = ImuBatch("wrist", t_ns + np.arange(count) * 20 * MS, np.ones((count, 3)), np.ones((count, 3)))
    before, after = (joined(part) if len(part) else None for part in (batch[:i], batch[i:]))
    mixed = joined(*(part for part in (before, strays, after) if part is not None))
    mixed = dataclasses.replace(mixed, rate_hz=batch.rate_hz)
    assert windows_by(messages_in_order(mixed, cuts)) == windows_by([batch])


def test_a_stray_message_of_a_second_changes_nothing() -> None:
    parts = messages([noise(1000)], [50])
    for away_ns in (-DAY, -5 * SECOND, 30 * SECOND, DAY):
        stray = shifted(parts[3], 0, away_ns)
        assert windows_by([*parts[:10], stray, *parts[10:]]) == windows_by(parts)


def test_watch_that_starts_over_from_zero_again_and_again_is_recognised_each_time(bundle: ModelBundle) -> None:
    # Each life begins at the same time with the same counter; its values are its own.
    lives = [
        ImuBatch("wrist", times(100.0) - START_NS, noise(2000, seed=s).acc, noise(2000, seed=s).gyro) for s in range(4)
    ]
    numbered = [
        dataclasses.replace(part, seq=seq) for life in lives for seq, part in enumerate(messages_in_order(life, [20]))
    ]
    found, counts = recognized(bundle, numbered, [7])
    windows = [event for event in found if b'"type":"window"' in event]
    # The first hears everything, the others are believed after a minute that the watch has lived before.
    assert len(windows) == 99 + 3 * 39
    assert (counts.clock_jumps, counts.missing_messages) == (3, 0)


def test_clock_that_goes_back_ends_the_bout_like_a_gap_and_is_counted(bundle: ModelBundle) -> None:
    recognizer = Recognizer(bundle, limits=LIMITS)
    lying = joined(still("standing", 5.0), still("standing", 5.0, start_s=-1000.0))
    result = recognizer.recognize([lying], NOW_NS)
    told = [(e.type, e.reason, e.gap_ns, (e.onset_ns - START_NS) // SECOND) for e in result.events if e.type != "state"]
    back_ns = 1004 * SECOND + 950 * MS
    assert told == [("start", None, 0, 0), ("end", "gap", back_ns, 0), ("start", None, back_ns, -1000)]
    assert (result.counts.clock_jumps, result.counts.gaps, result.counts.late) == (1, 1, 0)


def test_memory_sent_after_the_present_is_late_and_no_clock_that_was_set() -> None:
    # A watch sends what is new first, then in turn a message from its memory and one of what is new.
    parts = messages([noise(6000)], [50])
    in_turn = [part for pair in zip(parts[10:58], parts[62:110], strict=True) for part in pair]
    assert windows_by([*parts[:10], *parts[60:62], *in_turn]) == windows_by([*parts[:10], *parts[60:110]])


def test_readings_held_stay_few() -> None:
    preprocessor = Preprocessor(SPEC, lateness_ns=LATENESS_NS)
    list(preprocessor.push([0], [noise(100)]))
    elsewhere = START_NS + DAY
    t_ns: NDArray[np.int64] = elsewhere + np.tile(np.arange(10) * MS, 1000)
    for _ in range(5):
        list(preprocessor.push([0], [ImuBatch("wrist", t_ns, np.zeros((10_000, 3)), np.zeros((10_000, 3)))]))
        state = preprocessor.intake.export_rows(np.array([0]))
        assert len(state["acc_held_times"]) <= 1024


def test_marks_reach_back_for_hours() -> None:
    assert MARKS * MARK_NS > 2 * HOUR
    assert RETURN_NS >= 3 * MARK_NS
    assert LEAP_READINGS <= 20
