"""One model for watches with and without a gyroscope: what a window is made of, and what must not matter."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.bundle import ModelBundle
from streamer.errors import ConfigError
from streamer.imu import ImuBatch
from streamer.preprocessing.pipeline import Preprocessor, Step, join_windows, windows_of
from streamer.preprocessing.spec import UCI_HAR, PreprocessingSpec
from streamer.preprocessing.timelines import SENSOR_SKEW_NS
from streamer.recognizer import Recognizer
from streamer.results import Result
from streamer.standing import Standing
from streamer.watches import Limits
from streamer.wire import topics
from streamer.wire.events import encode_event
from streamer.wire.payload import Message, encode_cbor
from tests.bundles import POSTURE_SPEC, START_NS, make_bundle
from tests.motion import MS, SECOND, Feed, feeds, interleaved, joined, messages, noise, rows, still, turns
from tests.unit.test_preprocessing import LATENESS_NS, live, outcomes

#: Every filter there is; windows of 2.56 s, two to the second.
OPTIONAL: Final = msgspec.structs.replace(UCI_HAR, hop_len=25, initial_state="primed", optional_sensors=("gyro",))
REQUIRED: Final = msgspec.structs.replace(OPTIONAL, optional_sensors=())
ACC_ONLY: Final = msgspec.structs.replace(
    REQUIRED, channels=tuple(channel for channel in OPTIONAL.channels if not channel.startswith("gyro"))
)
#: Another grid, no median, no filter but gravity's; faster feeds are decimated.
PLAIN: Final = msgspec.structs.replace(
    OPTIONAL, rate_hz=20, window_len=64, hop_len=13, median_len=1, noise=None, gyro_drift=None, acc_unit="m/s2"
)
SPECS: Final = st.sampled_from([OPTIONAL, PLAIN])
#: Messages of separate sensors are this long at most: less than half of what a start waits for.
SPAN_NS: Final = SECOND
GYRO: Final = [OPTIONAL.channels.index(channel) for channel in ("gyro_x", "gyro_y", "gyro_z")]
REST: Final = [i for i in range(len(OPTIONAL.channels)) if i not in GYRO]


def acc_of(batch: ImuBatch) -> ImuBatch:
    """The accelerometer alone."""
    return ImuBatch(batch.device_id, batch.t_ns, batch.acc, None, batch.rate_hz)


def gyro_of(batch: ImuBatch) -> ImuBatch:
    """The gyroscope alone."""
    return ImuBatch(batch.device_id, batch.t_ns, None, batch.gyro, batch.rate_hz)


def is_on(t_ns: NDArray[np.int64], off: Iterable[tuple[float, float]]) -> NDArray[np.bool_]:
    """(n,) whether a gyroscope that is off from the first to the second of each pair of seconds has these readings."""
    second = (t_ns - START_NS) / 1e9
    on = np.ones(len(t_ns), np.bool_)
    for first, end in off:
        on &= (second < first) | (second >= end)
    return on


def sent(streams: Sequence[ImuBatch], off: Sequence[tuple[float, float]], sizes: Sequence[int]) -> list[ImuBatch]:
    """A watch's messages in their order of arrival, its gyroscope off at times.

    Of one stream a message has both sensors while both are on; of two each has messages of its own.
    """
    if len(streams) == 2:
        acc, gyro = streams
        return messages([acc, rows(gyro, is_on(gyro.t_ns, off))], sizes, most_ns=SPAN_NS)
    (both,) = streams
    on = is_on(both.t_ns, off)
    parts = np.split(np.arange(len(both)), np.flatnonzero(np.diff(on)) + 1)
    stretches = [rows(both, part) if on[part[0]] else acc_of(rows(both, part)) for part in parts]
    return [message for stretch in stretches for message in messages([stretch], sizes)]


@dataclasses.dataclass(frozen=True)
class Watch:
    """A feed whose gyroscope is off at times: from a second since the start on, for some seconds."""

    feed: Feed
    off: tuple[tuple[float, float], ...]

    def messages(self, device: str, sizes: Sequence[int]) -> list[ImuBatch]:
        """In their order of arrival."""
        return sent(self.feed.streams(device), [(first, first + length) for first, length in self.off], sizes)


def watches(*, disorder_ns: int = LATENESS_NS) -> st.SearchStrategy[Watch]:
    """Feeds whose gyroscope is off up to twice, for a moment or for good, from before the start or later."""
    lengths = st.sampled_from([0.5, 0.9, 1.5, 4.0, 4.9, 5.1, 7.0, 11.0, 1000.0])
    off = st.lists(st.tuples(st.floats(-1, 20), lengths), max_size=2).map(tuple)
    return st.builds(Watch, feed=feeds(disorder_ns=disorder_ns, most=600), off=off)


# What must not matter ----------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    spec=SPECS,
    worn=st.lists(watches(), min_size=1, max_size=3),
    cuts=turns,
    order=turns,
    calls=st.lists(st.integers(1, 3), min_size=1, max_size=5),
)
def test_windows_depend_neither_on_messages_nor_on_calls_nor_on_other_watches(
    spec: PreprocessingSpec, worn: list[Watch], cuts: list[int], order: list[int], calls: list[int]
) -> None:
    devices = [f"watch-{i}" for i in range(len(worn))]
    expected = [outcomes(live(spec, watch.messages("wrist", [10_000])))[0] for watch in worn]
    arriving = interleaved([watch.messages(d, cuts) for watch, d in zip(worn, devices, strict=True)], order)
    assert outcomes(live(spec, arriving, devices=devices, most_per_call=calls), len(devices)) == expected


@settings(max_examples=15)
@given(spec=SPECS, watch=watches(disorder_ns=0), cuts=turns)
def test_a_recording_and_a_live_stream_give_the_same_windows(
    spec: PreprocessingSpec, watch: Watch, cuts: list[int]
) -> None:
    acc, gyro = dataclasses.replace(watch.feed, separate=True).streams("wrist")
    off = [(first, first + length) for first, length in watch.off]
    streams = [stream for stream in (acc, rows(gyro, is_on(gyro.t_ns, off))) if len(stream)]
    none = np.empty(0, np.int64)
    recorded = outcomes([Step(windows_of(streams, spec), none, none)])[0]
    found = outcomes(live(spec, sent([acc, gyro], off, cuts)))[0]
    assert [outcome for outcome in found if outcome[0] == "window"] == recorded


@settings(max_examples=15)
@given(feed=feeds(disorder_ns=LATENESS_NS), cuts=turns)
def test_watch_that_sends_both_in_one_message_has_the_windows_of_a_model_that_needs_both(
    feed: Feed, cuts: list[int]
) -> None:
    arriving = messages(dataclasses.replace(feed, separate=False).streams("wrist"), cuts)
    assert outcomes(live(OPTIONAL, arriving)) == outcomes(live(REQUIRED, arriving))


def short(batch: ImuBatch, sizes: Sequence[int]) -> list[ImuBatch]:
    """Messages by which a watch's time goes on by less than half of what a start waits for, but for holes."""
    found: list[ImuBatch] = []
    newest_ns, first = int(batch.t_ns[0]), 0
    while first < len(batch):
        due = np.flatnonzero(batch.t_ns[first:] > newest_ns + OPTIONAL.window_ns * 2 // 5)
        end = first + max(1, min(sizes[len(found) % len(sizes)], *due[:1].tolist(), len(batch)))
        found.append(batch[first:end])
        newest_ns, first = max(newest_ns, int(batch.t_ns[first:end].max())), end
    return found


@settings(max_examples=15)
@given(feed=feeds(disorder_ns=LATENESS_NS), cuts=turns)
def test_watch_without_a_gyroscope_has_the_windows_of_a_model_that_takes_none_and_no_later(
    feed: Feed, cuts: list[int]
) -> None:
    optional, alone = (Preprocessor(spec, lateness_ns=LATENESS_NS) for spec in (OPTIONAL, ACC_ONLY))
    for message in [*short(acc_of(feed.streams("wrist")[0]), cuts), None]:
        # Message by message, so that none comes later.
        found, expected = (
            join_windows([step.windows for step in steps], stages.spec)
            for stages in (optional, alone)
            for steps in [stages.flush([0]) if message is None else stages.push([0], [message])]
        )
        np.testing.assert_array_equal(found.samples[:, :, REST], expected.samples)
        np.testing.assert_array_equal(found.start_ns, expected.start_ns)
        np.testing.assert_array_equal(found.completeness, expected.completeness)
        np.testing.assert_array_equal(found.gap_ns, expected.gap_ns)
        assert not found.samples[:, :, GYRO].any()
        assert (found.partial == 1).all()
        assert optional.intake.missing_sensor([0]) == []
    assert optional.intake.take_counts() == alone.intake.take_counts()
    counted, expected_counts = optional.aligner.take_counts(), alone.aligner.take_counts()
    assert counted.gaps == expected_counts.gaps
    # A segment that ends before its first window was due has waited for a gyroscope until then, and has no samples.
    assert counted.bridged <= expected_counts.bridged


# What is in the windows --------------------------------------------------------------------------------------------


def signal(steps: Iterable[Step]) -> NDArray[np.float32]:
    """(samples, channels) of one segment from its start on; where windows overlap they agree."""
    windows = join_windows([step.windows for step in steps], OPTIONAL)
    at = (windows.start_ns - windows.start_ns[0]) // OPTIONAL.period_ns
    found = np.full((int(at[-1]) + OPTIONAL.window_len, len(OPTIONAL.channels)), np.nan, np.float32)
    for i, first in enumerate(at.tolist()):
        known = found[first : first + OPTIONAL.window_len]
        seen = ~np.isnan(known)
        np.testing.assert_array_equal(known[seen], windows.samples[i][seen])
        zero = (windows.samples[i][:, GYRO] == 0).all(axis=1)
        assert windows.partial[i] == zero.mean()
        known[:] = windows.samples[i]
    return found


def zeros(samples: NDArray[np.float32]) -> list[tuple[int, int]]:
    """First sample and end of the stretches in which the gyroscope's channels are 0, exactly, all of them."""
    zero = (samples[:, GYRO] == 0).all(axis=1)
    edges = np.flatnonzero(np.diff(zero.astype(np.int8), prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize(
    ("off", "without"),
    [
        # The longest hole that is bridged.
        ((6.0, 6.98), []),
        # Longer ones, and the last sample before: it has no next one for the median. Back at once, for so long it is
        # waited for.
        ((6.0, 7.0), [(299, 350)]),
        ((6.0, 10.98), [(299, 549)]),
        # Given up, perhaps: samples up to five seconds after its first reading may have been made.
        ((6.0, 11.0), [(299, 800)]),
        ((6.0, 18.0), [(299, 1150)]),
        # A start waits for it for 2.54 s, and begins with it where it came in half of that.
        ((0.0, 1.26), []),
        ((0.0, 1.28), [(0, 64 + 250)]),
        ((0.0, 5.0), [(0, 500)]),
        # For good: to the end of the last window.
        ((12.0, 40.0), [(599, 1478)]),
        ((0.0, 40.0), [(0, 1478)]),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_gyroscope_is_zero_while_it_is_off(
    off: tuple[float, float], without: list[tuple[int, int]], *, apart: bool
) -> None:
    # acc       x x x x x x x x x x x x x x x x x x x x x x x x x x x
    # gyro      x x x x . . . . . . . . . . . . . x x x x x x x x x x
    # channels  x x x 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 x x x x x
    batch = noise(1500)
    streams = [acc_of(batch), gyro_of(batch)] if apart else [batch]
    steps = live(OPTIONAL, sent(streams, [off], [20]))
    samples = signal(steps)
    assert zeros(samples) == without
    # Neither the segment nor completeness suffers.
    assert not any(len(step.closed) for step in steps)
    assert off[1] < 7 or all((step.windows.completeness == 1).all() for step in steps)
    begins = 63 if off == (0.0, 1.26) else 0
    whole = signal(live(REQUIRED, [batch[begins:]]))
    np.testing.assert_array_equal(samples[:, REST], whole[: len(samples), REST])
    for first, end in without:
        # What it measured before is there, and what it measures after is as if it had just begun.
        np.testing.assert_array_equal(samples[:first], whole[:first])
        if end < len(samples):
            anew = signal(live(REQUIRED, [batch[end:]]))[: len(samples) - end]
            np.testing.assert_array_equal(samples[end : end + len(anew), GYRO], anew[:, GYRO])


def test_gyroscope_that_ends_holds_windows_up_for_ten_seconds_once() -> None:
    # acc        x x x x x x x x x x x x x x x x x x x x x x
    # gyro       x x x x x x                                     nothing from second 6 on
    # known up to    2 3 4 5 5 5 5 5 5 5 5 5 5 15 16 17 18       by the second of the newest reading
    stages = Preprocessor(OPTIONAL, lateness_ns=LATENESS_NS)
    behind_s = []
    for second, part in enumerate(messages([noise(1500)], [50])):
        arriving = [acc_of(part), gyro_of(part)] if second < 6 else [acc_of(part)]
        for message in arriving:
            for step in stages.push([0], [message]):
                if len(step.windows):
                    newest_ns = int(step.windows.start_ns[-1]) + OPTIONAL.window_ns
            if second >= 3:
                behind_s.append((second, (int(message.t_ns[-1]) - newest_ns) / 1e9))
    longest = max(late for _, late in behind_s)
    assert SENSOR_SKEW_NS / 1e9 <= longest < SENSOR_SKEW_NS / 1e9 + 1.5
    assert [second for second, late in behind_s if late > 2] == list(range(7, 16))


def test_start_by_long_messages_waits_for_one_more_and_no_longer() -> None:
    told = []
    for spec in (OPTIONAL, ACC_ONLY):
        stages = Preprocessor(spec)
        parts = messages([acc_of(noise(1000))], [200])
        told.append([sum(len(step.windows) for step in stages.push([0], [part])) for part in parts])
    assert told == [[0, 11, 8, 8, 8], [3, 8, 8, 8, 8]]


@pytest.mark.parametrize("span_s", [1.0, 2.4, 4.0, 9.0])
def test_start_is_not_without_a_gyroscope_whose_first_message_comes_second(span_s: float) -> None:
    whole = noise(600)
    arriving = [one for part in messages([whole], [round(span_s * 50)]) for one in (acc_of(part), gyro_of(part))]
    assert outcomes(live(OPTIONAL, arriving)) == outcomes(live(REQUIRED, [whole]))


def test_watch_that_pauses_has_lost_no_gyroscope_though_the_accelerometer_speaks_first_again() -> None:
    whole = joined(noise(200), later(noise(300), 60))
    arriving = [one for part in messages([whole], [50]) for one in (acc_of(part), gyro_of(part))]
    assert outcomes(live(OPTIONAL, arriving)) == outcomes(live(REQUIRED, [whole]))


def test_gyroscope_whose_readings_are_not_believed_yet_is_waited_for() -> None:
    # Windows of a second, and behind the pause readings are believed once they have lasted for 0.9 s.
    # acc     x x x x x                   60.0 x x x x x x x x x
    # gyro    x x x x x                     60.3 x x x x x x x x
    optional = msgspec.structs.replace(PLAIN, window_len=20, hop_len=10)
    required = msgspec.structs.replace(optional, optional_sensors=())
    whole = joined(noise(200), later(noise(300), 60))
    on = is_on(whole.t_ns, [(60.0, 60.3)])
    arriving = messages([acc_of(whole), gyro_of(rows(whole, on))], [5])
    found, expected = (outcomes(live(spec, arriving))[0] for spec in (optional, required))
    assert [one for one in found if one[0] == "window"] == [one for one in expected if one[0] == "window"]
    # The hole is the accelerometer's, whoever speaks first.
    other_way = messages([gyro_of(rows(whole, on)), acc_of(whole)], [5])
    assert outcomes(live(optional, other_way))[0] == found
    assert [gap_ns for kind, *_, gap_ns in found if kind == "closed"] == [56_020 * MS]


def test_gyroscope_that_is_back_holds_no_window_up() -> None:
    # acc        0 - - - - - - - - - - - - - - - - - - - - 40
    # gyro       0 - - - - 6          20 - - - - - - - - - 40
    # used       0 - - - - 6              25 - - - - - - - 40
    stages = Preprocessor(OPTIONAL, lateness_ns=LATENESS_NS)
    latest_ns, behind_ns = START_NS, 0
    whole = noise(2000)
    slow = gyro_of(rows(whole, np.arange(0, 2000, 5)))
    for message in sent([acc_of(whole), slow], [(6.0, 20.0)], [5]):
        for step in stages.push([0], [message]):
            latest_ns = max([latest_ns, *(step.windows.start_ns + OPTIONAL.window_ns).tolist()])
        if message.t_ns[0] > START_NS + 20 * SECOND:
            behind_ns = max(behind_ns, int(message.t_ns[-1]) - latest_ns)
    # A hop, the lateness, a message of the slower sensor and its next reading: no readings to tell its rate by.
    assert behind_ns <= 500 * MS + LATENESS_NS + 500 * MS + 100 * MS
    assert stages.aligner.feed_hz[0].tolist() == [50.0, 10.0]


@pytest.mark.parametrize("lateness_ns", [100 * MS, 110 * MS])
def test_gyroscope_that_comes_later_than_that_joins_on_the_grid(lateness_ns: int) -> None:
    # At twice the grid's rate each second sample lies between two of the grid's.
    # acc    0 - - - - - - - - - - 20             20 - - 30
    # gyro                            [10 - - 18) 18 - - 30
    whole = noise(3000, rate_hz=100.0)
    early = [part for one in (acc_of(whole[:2000]), gyro_of(whole[1000:1800])) for part in messages([one], [50])]
    parts = [*early, *messages([acc_of(whole[2000:]), gyro_of(whole[1800:])], [50])]
    samples = signal(live(OPTIONAL, parts, lateness_ns=lateness_ns))
    assert zeros(samples) == [(0, 995)]
    anew = signal(live(REQUIRED, [whole[2 * 995 :]]))[:450]
    np.testing.assert_array_equal(samples[995 : 995 + len(anew), GYRO], anew[:, GYRO])


def later(batch: ImuBatch, seconds: int) -> ImuBatch:
    """The same readings at another time."""
    return dataclasses.replace(batch, t_ns=batch.t_ns + seconds * SECOND)


def test_gyroscope_readings_for_samples_that_are_made_are_late() -> None:
    # acc    [0 - - - 1)[1 - - - 2) ... [29 - - - 30)
    # gyro                                             [5 - - - 10): for samples that nobody waited for
    whole = noise(1500)
    stages = Preprocessor(OPTIONAL, lateness_ns=LATENESS_NS)
    for part in messages([acc_of(whole)], [50]):
        list(stages.push([0], [part]))
    assert stages.intake.take_counts().late == 0
    assert list(stages.push([0], [gyro_of(whole[250:500])])) == []
    assert stages.intake.take_counts().late == 250
    # The latest sample, released by the lateness behind second 29.98, is late, and the next one isn't.
    list(stages.push([0], [gyro_of(whole[1475:])]))
    assert stages.intake.take_counts().late == 20


def test_rate_of_a_gyroscope_decides_nothing_while_it_is_off() -> None:
    slow = noise(100, rate_hz=5.0)
    acc = acc_of(noise(1000))
    stages = Preprocessor(OPTIONAL)
    for message in messages([acc, gyro_of(slow)], [20], most_ns=SPAN_NS):
        list(stages.push([0], [message]))
    slot = np.array([0])
    assert stages.aligner.slowest_hz(slot) == pytest.approx(5.0)
    for message in messages([later(acc, 20)], [20]):
        list(stages.push([0], [message]))
    assert stages.aligner.slowest_hz(slot) == pytest.approx(50.0)


def test_watch_with_a_gyroscope_alone_still_lacks_a_sensor() -> None:
    stages = Preprocessor(OPTIONAL)
    told = []
    for second, message in enumerate(messages([gyro_of(noise(1500))], [50])):
        list(stages.push([0], [message]))
        told += [second] if stages.intake.missing_sensor([0]) else []
        assert len(stages.intake.export_rows(np.array([0]))["gyro_times"]) <= 1100
    assert told == list(range(10, 30))


@pytest.mark.parametrize("optional", [("acc",), ("gyro", "gyro"), ("acc", "gyro")])
def test_no_other_sensor_is_optional(optional: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError, match=r"preprocessing.optional_sensors is .*; expected none, or \('gyro',\) where"):
        msgspec.structs.replace(REQUIRED, optional_sensors=optional)


def test_only_a_sensor_that_channels_are_made_of_is_optional() -> None:
    with pytest.raises(ConfigError, match="where channels are made of it"):
        msgspec.structs.replace(ACC_ONLY, optional_sensors=("gyro",))
    assert (OPTIONAL.sensors, OPTIONAL.required_sensors) == (("acc", "gyro"), ("acc",))
    # A bundle written before there was any has none.
    spec = msgspec.json.decode(
        msgspec.json.encode(REQUIRED).replace(b',"optional_sensors":[]', b""), type=PreprocessingSpec
    )
    assert spec == REQUIRED


# What is told ------------------------------------------------------------------------------------------------------

LIMITS: Final = Limits(lateness_ns=LATENESS_NS)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """Tells postures; its windows of 2.4 s take a gyroscope where there is one."""
    spec = msgspec.structs.replace(
        POSTURE_SPEC,
        channels=("total_acc_x", "total_acc_y", "total_acc_z", "gyro_z"),
        window_len=48,
        hop_len=12,
        optional_sensors=("gyro",),
    )
    return make_bundle(tmp_path_factory.mktemp("optional"), spec=spec)


def told(recognizer: Recognizer, arriving: Iterable[ImuBatch]) -> list[Result]:
    """What becomes of messages, one in a call, and of the end."""
    results = [recognizer.process([Message(topics.imu("wrist"), encode_cbor(one))], START_NS) for one in arriving]
    return [*results, recognizer.finish("shutdown")]


def test_bout_goes_on_while_the_gyroscope_comes_and_goes_and_windows_say_so(bundle: ModelBundle) -> None:
    # acc       0 - - - - - - - - - - - - - - - - - - - - - - - 60
    # gyro      0 - - - - - - 20                40 - - - - - - 60
    # windows   |- - both - - |- - without - - - - -|- - both - |
    # bout      [sitting                                        )
    recognizer = Recognizer(bundle, limits=LIMITS, every_window=True)
    watch = still("sitting", 60.0)
    turning = ImuBatch("wrist", watch.t_ns, watch.acc, np.ones((len(watch), 3)))
    results = told(recognizer, sent([turning], [(20.0, 40.0)], [20]))
    events = [event for result in results for event in result.events]
    kinds = [(event.type, event.reason) for event in events if event.type != "window"]
    assert kinds == [("start", None), ("state", None), ("end", "shutdown")]
    assert [sum(r.counts.gaps for r in results), sum(r.counts.unfit.total() for r in results)] == [0, 0]
    windows = [event for event in events if event.type == "window"]
    lack = [(event.window_start_ns - START_NS) / 1e9 for event in windows if event.without == ("gyro",)]
    # The first one ends behind second 20, the last one begins before second 45.
    assert (lack[0], lack[-1], len(lack)) == (18.0, 44.4, 45)
    assert all(event.without == () for event in windows if not 18.0 <= (event.window_start_ns - START_NS) / 1e9 <= 44.4)
    assert {event.completeness for event in windows} == {1.0}
    assert sum(result.counts.partial for result in results) == 45
    assert sum(result.counts.windows for result in results) == len(windows)
    encoded = {b'"without":["gyro"]' in encode_event(event): b"without" in encode_event(event) for event in windows}
    assert encoded == {True: True, False: False}


def test_watch_without_a_gyroscope_is_told_of_as_early_as_with_one(bundle: ModelBundle) -> None:
    watch = still("lying", 30.0)
    for one in (watch, acc_of(watch)):
        starts = [
            (number, event.activity, event.onset_ns - START_NS, event.decided_ns - START_NS, event.without)
            for number, result in enumerate(told(Recognizer(bundle, limits=LIMITS), messages([one], [10])))
            for event in result.events
            if event.type == "start"
        ]
        # In the message of seconds 2 to 2.5, whose last reading releases the window's last one.
        assert starts == [(4, "lying", 0, 2_400 * MS, () if one is watch else ("gyro",))]
        standing = told_standing(bundle, one)
        assert bool(standing.partial[0]) == (one is not watch)
        assert standing.slowest_hz(0) == pytest.approx(20.0)


def told_standing(bundle: ModelBundle, batch: ImuBatch) -> Standing:
    """How a watch stands behind some readings."""
    recognizer = Recognizer(bundle, limits=LIMITS)
    recognizer.recognize([batch], START_NS)
    assert (vitals := recognizer.vitals("wrist")) is not None
    assert vitals.rate_hz == pytest.approx(20.0)
    return recognizer.standing(["wrist"])


@settings(max_examples=15)
@given(watch=watches(), cuts=turns, share=st.floats(0, 1))
def test_state_can_move_at_any_message(bundle: ModelBundle, watch: Watch, cuts: list[int], share: float) -> None:
    arriving = watch.messages("wrist", cuts)
    cut = round(share * len(arriving))
    one, other = (Recognizer(bundle, limits=LIMITS, every_window=True) for _ in range(2))
    one.recognize(arriving[:cut], START_NS)
    state = one.export_watch("wrist")
    if state is None:
        # Still on probation: there is no watch to move.
        return
    other.recognize([noise(100, device="another")], START_NS)
    other.import_watch(state, START_NS)
    assert other.export_watch("wrist") == state
    found, expected = (
        [
            encode_event(event)
            for result in (recognizer.recognize(arriving[cut:], START_NS), recognizer.finish("shutdown"))
            for event in result.events
            if event.device == "wrist"
        ]
        for recognizer in (other, one)
    )
    assert found == expected


@settings(max_examples=10)
@given(watch=watches(), cuts=turns, calls=turns)
def test_events_depend_neither_on_messages_nor_on_calls(
    bundle: ModelBundle, watch: Watch, cuts: list[int], calls: list[int]
) -> None:
    alone, grouped = (Recognizer(bundle, limits=LIMITS, every_window=True) for _ in range(2))
    expected = [event for result in told(alone, watch.messages("wrist", [10_000])) for event in result.events]
    arriving = watch.messages("wrist", cuts)
    found, first = [], 0
    while first < len(arriving):
        size = calls[first % len(calls)]
        found += grouped.recognize(arriving[first : first + size], START_NS).events
        first += size
    assert [*found, *grouped.finish("shutdown").events] == expected
