"""Readings to windows: what must not matter, what a hole does, and what the numbers are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import butter

from streamer.errors import ConfigError
from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.preprocessing import filters
from streamer.preprocessing.align import MAX_FINE_HZ
from streamer.preprocessing.pipeline import (
    Preprocessor,
    Step,
    Windows,
    denser,
    join_windows,
    windows_of,
    windows_of_each,
)
from streamer.preprocessing.spec import UCI_HAR, Channel, LowPass, PreprocessingSpec
from streamer.preprocessing.timelines import SENSOR_SKEW_NS
from tests.bundles import POSTURE_SPEC, START_NS
from tests.motion import MS, SECOND, Feed, feeds, interleaved, joined, messages, noise, rows, still, times, turns

LATENESS_NS: Final = 100 * MS
#: Every filter there is, both sensors.
BOTH_SENSORS: Final = msgspec.structs.replace(UCI_HAR, window_len=32, hop_len=16, initial_state="primed")
#: Another grid, the accelerometer alone, its channels out of order, a hop that does not divide the window.
ACC_ONLY: Final = msgspec.structs.replace(
    BOTH_SENSORS,
    rate_hz=20,
    hop_len=13,
    median_len=1,
    noise=LowPass(order=3, cutoff_hz=8.0),
    channels=("body_acc_x", "gravity_x", "total_acc_z"),
)
SPECS: Final = st.sampled_from([BOTH_SENSORS, ACC_ONLY])
#: Raw readings come through, end to end: windows that touch, no filter before the total acceleration.
RAW: Final = msgspec.structs.replace(POSTURE_SPEC, hop_len=POSTURE_SPEC.window_len)

Outcome = tuple[str, int, bytes, float, int]


def outcomes(steps: Iterable[Step], slots: int = 1) -> list[list[Outcome]]:
    """For each slot its windows, to the bit, and the ends of its segments, in their order."""
    found: list[list[Outcome]] = [[] for _ in range(slots)]
    for step in steps:
        w = step.windows
        for i, slot in enumerate(w.slots.tolist()):
            found[slot].append(
                ("window", int(w.start_ns[i]), w.samples[i].tobytes(), float(w.completeness[i]), int(w.gap_ns[i]))
            )
        for slot, gap_ns in zip(step.closed.tolist(), step.gap_ns.tolist(), strict=True):
            found[slot].append(("closed", 0, b"", 0.0, gap_ns))
    return found


def live(
    spec: PreprocessingSpec,
    arriving: Sequence[ImuBatch],
    *,
    devices: Sequence[str] = ("wrist",),
    most_per_call: Sequence[int] = (1,),
    lateness_ns: int = LATENESS_NS,
) -> list[Step]:
    """What a live stream makes of messages; a call takes at most one message of each watch."""
    preprocessor = Preprocessor(spec, capacity=len(devices), lateness_ns=lateness_ns)
    steps: list[Step] = []
    waiting, calls = list(reversed(arriving)), 0
    while waiting:
        call: dict[int, ImuBatch] = {}
        while waiting and len(call) < most_per_call[calls % len(most_per_call)]:
            slot = devices.index(waiting[-1].device_id)
            if slot in call:
                break
            call[slot] = waiting.pop()
        steps += preprocessor.push(list(call), list(call.values()))
        calls += 1
    return [*steps, *preprocessor.flush(range(len(devices)))]


def signal(windows: Windows) -> NDArray[np.float32]:
    """(n, channels): the samples of windows that touch."""
    return windows.samples.reshape(-1, windows.samples.shape[2])


# What must not matter ----------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    spec=SPECS,
    watches=st.lists(feeds(disorder_ns=LATENESS_NS), min_size=1, max_size=3),
    cuts=turns,
    order=turns,
    calls=st.lists(st.integers(1, 3), min_size=1, max_size=5),
)
def test_windows_depend_neither_on_messages_nor_on_calls_nor_on_other_watches(
    spec: PreprocessingSpec, watches: list[Feed], cuts: list[int], order: list[int], calls: list[int]
) -> None:
    devices = [f"watch-{i}" for i in range(len(watches))]
    streams = [feed.streams(device) for feed, device in zip(watches, devices, strict=True)]
    # Alone, in messages as large as can be.
    expected = [
        outcomes(live(spec, messages(own, [10_000])))[0] for own in ([_as("wrist", s) for s in x] for x in streams)
    ]
    arriving = interleaved([messages(own, cuts) for own in streams], order)
    found = outcomes(live(spec, arriving, devices=devices, most_per_call=calls), len(devices))
    assert found == expected


def _as(device: str, batch: ImuBatch) -> ImuBatch:
    return ImuBatch(device, batch.t_ns, batch.acc, batch.gyro, batch.rate_hz)


@settings(max_examples=30)
@given(feed=feeds(disorder_ns=0), cuts=turns)
def test_sensors_of_the_same_times_may_come_in_one_message_or_each_in_its_own(feed: Feed, cuts: list[int]) -> None:
    (both,) = dataclasses.replace(feed, separate=False).streams("wrist")
    each = [ImuBatch("wrist", both.t_ns, both.acc, None, both.rate_hz)]
    each.append(ImuBatch("wrist", both.t_ns, None, both.gyro, both.rate_hz))
    found, expected = (outcomes(live(BOTH_SENSORS, messages(streams, cuts)))[0] for streams in (each, [both]))
    assert [outcome for outcome in found if outcome[0] == "window"] == [o for o in expected if o[0] == "window"]


@settings(max_examples=30)
@given(spec=SPECS, feed=feeds(disorder_ns=0), cuts=turns)
def test_a_recording_and_a_live_stream_give_the_same_windows(
    spec: PreprocessingSpec, feed: Feed, cuts: list[int]
) -> None:
    streams = feed.streams("wrist")
    recorded = windows_of(streams, spec)
    step = Step(recorded, np.empty(0, np.int64), np.empty(0, np.int64))
    found = outcomes(live(spec, messages(streams, cuts)))[0]
    assert [outcome for outcome in found if outcome[0] == "window"] == outcomes([step])[0]


@settings(max_examples=30)
@given(spec=SPECS, watches=st.lists(feeds(disorder_ns=0), max_size=4))
def test_recordings_run_together_give_the_windows_of_each(spec: PreprocessingSpec, watches: list[Feed]) -> None:
    streams = [feed.streams("wrist") for feed in watches]
    for found, own in zip(windows_of_each(streams, spec), streams, strict=True):
        alone = windows_of(own, spec)
        for name in Windows.__dataclass_fields__:
            one, other = getattr(found, name), getattr(alone, name)
            assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes()), name


@settings(max_examples=20)
@given(spec=SPECS, feed=feeds(disorder_ns=0), shift_ns=st.integers(-START_NS, 2**61))
def test_a_shift_of_all_times_shifts_the_windows_and_changes_nothing_else(
    spec: PreprocessingSpec, feed: Feed, shift_ns: int
) -> None:
    streams = feed.streams("wrist")
    shifted = [ImuBatch(s.device_id, s.t_ns + shift_ns, s.acc, s.gyro, s.rate_hz) for s in streams]
    one, other = windows_of(streams, spec), windows_of(shifted, spec)
    # The pieces into which a recording is cut lie elsewhere too; that must not show.
    np.testing.assert_array_equal(other.start_ns, one.start_ns + shift_ns)
    np.testing.assert_array_equal(other.samples, one.samples)
    np.testing.assert_array_equal(other.completeness, one.completeness)
    np.testing.assert_array_equal(other.gap_ns, one.gap_ns)


@settings(max_examples=30)
@given(spec=SPECS, known=feeds(disorder_ns=0), later=feeds(disorder_ns=0, most=80))
def test_what_is_known_of_a_window_never_changes_by_later_readings(
    spec: PreprocessingSpec, known: Feed, later: Feed
) -> None:
    (before,), (after,) = (dataclasses.replace(feed, separate=False).streams("wrist") for feed in (known, later))
    after = ImuBatch("wrist", after.t_ns - after.t_ns[0] + before.t_ns[-1] + 1, after.acc, after.gyro)
    early = outcomes(Preprocessor(spec).push([0], [joined(before)]))[0]
    whole = outcomes(Preprocessor(spec).push([0], [joined(before, after)]))[0]
    assert whole[: len(early)] == early


@settings(max_examples=20)
@given(spec=SPECS, feed=feeds(disorder_ns=0))
def test_readings_sent_twice_change_nothing_and_are_counted(spec: PreprocessingSpec, feed: Feed) -> None:
    streams = feed.streams("wrist")
    preprocessor = Preprocessor(spec, lateness_ns=LATENESS_NS)
    # In one message, so that no first copy is forgotten before its second comes.
    found = outcomes(step for stream in streams for step in preprocessor.push([0], [stream]))[0]
    once = dataclasses.replace(feed, repeats=()).streams("wrist")
    undisturbed = Preprocessor(spec, lateness_ns=LATENESS_NS)
    assert found == outcomes(step for stream in once for step in undisturbed.push([0], [stream]))[0]
    used = streams if spec.uses_gyro else streams[:1]
    assert preprocessor.intake.take_counts().duplicate == len(used) * len(feed.repeats)


def test_first_of_two_readings_of_one_time_counts() -> None:
    batch, other = noise(200), noise(200, seed=1)
    twice = joined(batch, ImuBatch("wrist", batch.t_ns, other.acc, other.gyro))
    mixed = rows(twice, np.arange(400).reshape(2, 200).T.ravel())
    assert outcomes(live(BOTH_SENSORS, messages([mixed], [33]))) == outcomes(live(BOTH_SENSORS, [batch]))


def test_readings_out_of_order_within_the_lateness_are_put_in_order() -> None:
    in_order = noise(200)
    swapped = rows(in_order, np.arange(200).reshape(-1, 2)[:, ::-1].ravel())
    assert outcomes(live(BOTH_SENSORS, messages([swapped], [7]))) == outcomes(live(BOTH_SENSORS, [in_order]))


def test_reading_later_than_the_lateness_is_counted_and_dropped() -> None:
    batch = noise(200)
    without = np.flatnonzero(np.arange(200) != 50)
    # Reading 50 comes after reading 55, which is exactly as much newer as may be, or after reading 54.
    for after, late in ((55, 1), (54, 0)):
        preprocessor = Preprocessor(BOTH_SENSORS, lateness_ns=LATENESS_NS)
        order = np.insert(without, after, 50)
        assert order[after - 1] == after
        found = outcomes(preprocessor.push([0], [rows(batch, order)]))
        expected = rows(batch, without) if late else batch
        assert found == outcomes(Preprocessor(BOTH_SENSORS, lateness_ns=LATENESS_NS).push([0], [expected]))
        assert preprocessor.intake.take_counts().late == late


def test_what_a_flush_released_stays_as_it_is() -> None:
    batch = noise(202)
    preprocessor = Preprocessor(BOTH_SENSORS, lateness_ns=LATENESS_NS)
    early = rows(batch, np.delete(np.arange(200), 198))
    steps = [*preprocessor.push([0], [early]), *preprocessor.flush([0])]
    # Reading 198 is within the lateness still, but 199 has been released.
    for number in (200, 198, 201):
        steps += preprocessor.push([0], [batch[number : number + 1]])
    steps += preprocessor.flush([0])
    assert preprocessor.intake.take_counts().late == 1
    assert outcomes(steps) == outcomes(live(BOTH_SENSORS, [rows(batch, np.delete(np.arange(202), 198))]))


# Holes -------------------------------------------------------------------------------------------------------------


def test_windows_overlap_by_the_hop() -> None:
    # samples  0         10        20        30        40        50    at 20 Hz
    # window 0 [- - - - - - - - - -)
    # window 1           [- - - - - - - - - -)
    # window 2                     [- - - - - - - - - -)
    windows = windows_of([still("lying", 2.0)], POSTURE_SPEC)
    assert (windows.start_ns - START_NS).tolist() == [0, 500 * MS, 1000 * MS]
    assert windows.samples.shape == (3, 20, 3)
    assert windows.samples[:, :, 2].min() == np.float32(STANDARD_GRAVITY)


def test_hop_need_not_divide_the_window() -> None:
    windows = windows_of([noise(60, rate_hz=20)], msgspec.structs.replace(POSTURE_SPEC, hop_len=7))
    assert ((windows.start_ns - START_NS) // (50 * MS)).tolist() == [0, 7, 14, 21, 28, 35]


def test_gap_restarts_filters_and_window() -> None:
    # readings  x x x x x x x x x x             x x x x x x x x x x x x
    # seconds   0             1.75              4.0                   6.4
    # segments  [          )   hole of 2.3 s    [                     )
    # windows   [- - - -)                       [- - - -)
    #                [- - - -)  never full           [- - - -) ...
    first, second = noise(35, rate_hz=20), noise(48, rate_hz=20, seed=1)
    second = ImuBatch("wrist", second.t_ns + 4 * SECOND, second.acc, second.gyro)
    for initial_state in ("zero", "primed"):
        spec = msgspec.structs.replace(POSTURE_SPEC, initial_state=initial_state, channels=("body_acc_x", "gravity_z"))
        preprocessor = Preprocessor(spec)
        found = outcomes(preprocessor.push([0], [joined(first, second)]))[0]
        alone = outcomes([*Preprocessor(spec).push([0], [first])])[0] + [("closed", 0, b"", 0.0, 2_300 * MS)]
        assert found == alone + outcomes(Preprocessor(spec).push([0], [second]))[0]
        assert [(start_ns - START_NS) // MS for kind, start_ns, *_ in found if kind == "window"] == [
            *(0, 500),
            *(4000, 4500, 5000),
        ]
        counts = preprocessor.aligner.take_counts()
        assert (counts.gaps, counts.bridged) == (1, 0)


def test_hole_as_long_as_max_gap_is_bridged_and_a_nanosecond_more_is_not() -> None:
    before, after = still("lying", 1.0), still("lying", 1.0)
    for more_ns, gaps, windows in ((0, 0, 4), (1, 1, 2)):
        t_ns = after.t_ns - after.t_ns[0] + before.t_ns[-1] + POSTURE_SPEC.max_gap_ns + more_ns
        preprocessor = Preprocessor(POSTURE_SPEC)
        after = ImuBatch("wrist", t_ns, after.acc, after.gyro)
        found = outcomes(preprocessor.push([0], [joined(before, after)]))[0]
        assert sum(kind == "window" for kind, *_ in found) == windows
        assert preprocessor.aligner.take_counts().gaps == gaps


def test_short_hole_is_bridged_counted_and_stamped() -> None:
    # readings  x x x x x x . . . . x x x x x x x x x x x x x x x x x x x x    . lost
    # sample    0         5         10        15        20        25
    # window 0  [- - - - - - o o o o - - - - - - - - - -)            4 of 20 lie in the hole
    # window 1                      [- - - - - - - - - - - - ...
    batch = still("lying", 1.5)
    kept = np.delete(np.arange(30), [6, 7, 8, 9])
    preprocessor = Preprocessor(POSTURE_SPEC)
    (window0, window1) = outcomes(preprocessor.push([0], [rows(batch, kept)]))[0]
    lying = np.tile(np.array([0, 0, STANDARD_GRAVITY], np.float32), 20).tobytes()
    assert window0 == ("window", START_NS, lying, 16 / 20, 250 * MS)
    assert window1 == ("window", START_NS + 500 * MS, lying, 1.0, 0)
    assert preprocessor.aligner.take_counts().bridged == 4


def test_hole_of_either_sensor_is_stamped() -> None:
    spec = msgspec.structs.replace(POSTURE_SPEC, channels=("total_acc_x", "gyro_x"))
    whole, lost = still("lying", 2.0), np.delete(np.arange(40), [7, 8])
    for acc, gyro in ((lost, np.arange(40)), (np.arange(40), lost)):
        one, other = rows(whole, acc), rows(whole, gyro)
        streams = [ImuBatch("wrist", one.t_ns, one.acc, None), ImuBatch("wrist", other.t_ns, None, other.gyro)]
        windows = windows_of(streams, spec)
        assert windows.completeness.tolist() == [18 / 20, 1.0, 1.0]
        assert windows.gap_ns.tolist() == [150 * MS, 0, 0]


def test_one_lost_reading_is_a_hole_and_jitter_below_half_a_period_is_none() -> None:
    batch = still("lying", 2.0)
    lost = rows(batch, np.delete(np.arange(40), 5))
    late = batch.t_ns.copy()
    late[5] += 24 * MS
    for readings, completeness, gap_ns in (
        (lost, 19 / 20, 100 * MS),
        (ImuBatch("wrist", late, batch.acc, batch.gyro), 1.0, 0),
    ):
        windows = windows_of([readings], POSTURE_SPEC)
        assert (windows.completeness[0], windows.gap_ns[0]) == (completeness, gap_ns)


def test_hole_is_stamped_where_it_was_though_the_median_comes_a_sample_late() -> None:
    # sample    0 . . . 18 19 20 21 . . . 39
    # readings  x x x x x  .  .  x  x x x x x
    # window 0  [- - - - - o)                     one of 20 lies in the hole
    # window 1                [o - - - - - - -)   and one
    spec = msgspec.structs.replace(RAW, median_len=3)
    for sizes in ([100], [1], [19, 2]):
        batch = rows(still("lying", 2.5), np.delete(np.arange(50), [19, 20]))
        found = outcomes(live(spec, messages([batch], sizes)))[0]
        assert [(completeness, gap_ns) for *_, completeness, gap_ns in found] == [(19 / 20, 150 * MS)] * 2


def test_windows_are_made_where_both_sensors_run() -> None:
    # acc     x x x x x x x x x x x x x x x x x x x x x x
    # gyro         x x x x x x x         x x x x x x x x
    # second  0    1           3.5       6               9
    # grid         | | | | | | |         | | | | | | | |     anchored where the later sensor begins
    spec = msgspec.structs.replace(POSTURE_SPEC, channels=("total_acc_x", "gyro_x"))
    acc = still("lying", 9.0)
    gyro = joined(still("lying", 2.5, start_s=1.003), still("lying", 3.0, start_s=6.017))
    streams = [ImuBatch("wrist", acc.t_ns, acc.acc, None), ImuBatch("wrist", gyro.t_ns, None, gyro.gyro)]
    found = outcomes(live(spec, messages(streams, [5])))[0]
    assert [(kind, (start_ns - START_NS) / 1e9) for kind, start_ns, *_ in found if kind == "window"] == [
        *(("window", 1.003), ("window", 1.503), ("window", 2.003), ("window", 2.503)),
        *(("window", 6.017), ("window", 6.517), ("window", 7.017), ("window", 7.517)),
    ]
    assert [gap_ns for kind, *_, gap_ns in found if kind == "closed"] == [2_564 * MS]


def test_no_segment_opens_before_both_sensors_are_known_to_run() -> None:
    # acc     . x x x x x x x x        the first acc could anchor a grid only if gyro had gone on to it
    # gyro    x           x x x x
    # second  0           2
    spec = msgspec.structs.replace(POSTURE_SPEC, channels=("total_acc_x", "gyro_x"))
    acc, gyro = still("lying", 4.0, start_s=0.1), joined(still("lying", 0.05), still("lying", 2.0, start_s=2.0))
    streams = [ImuBatch("wrist", acc.t_ns, acc.acc, None, 20.0), ImuBatch("wrist", gyro.t_ns, None, gyro.gyro, 20.0)]
    for size in (1, 100):
        found = outcomes(live(spec, messages(streams, [size])))[0]
        assert [(kind, (start_ns - START_NS) // MS) for kind, start_ns, *_ in found] == [
            *(("window", 2000), ("window", 2500), ("window", 3000))
        ]


def test_watch_that_pauses_has_lost_no_sensor_though_one_speaks_first_again() -> None:
    # acc     x x x x                             x x x x
    # gyro    x x x x                               x x x x     each message of acc comes before that of gyro
    # second  0      2     pause of 58 s          60
    spec = msgspec.structs.replace(POSTURE_SPEC, channels=("total_acc_x", "gyro_x"))
    whole = joined(still("lying", 2.0), still("lying", 2.0, start_s=60.0))
    preprocessor = Preprocessor(spec, lateness_ns=LATENESS_NS)
    steps: list[Step] = []
    for first in range(0, 80, 20):
        part = whole[first : first + 20]
        for message in (
            ImuBatch("wrist", part.t_ns, part.acc, None),
            ImuBatch("wrist", part.t_ns, None, part.gyro),
        ):
            steps += preprocessor.push([0], [message])
            assert preprocessor.intake.missing_sensor([0]) == []
    steps += preprocessor.flush([0])
    assert outcomes(steps) == outcomes(live(spec, [whole]))
    assert [gap_ns for kind, *_, gap_ns in outcomes(steps)[0] if kind == "closed"] == [58_050 * MS]


def test_sensor_that_stays_away_is_told_and_its_siblings_readings_stay_bounded() -> None:
    spec = msgspec.structs.replace(POSTURE_SPEC, channels=("total_acc_x", "gyro_x"))
    preprocessor = Preprocessor(spec)
    told_at: list[float] = []
    for second in range(60):
        acc = still("lying", 1.0, start_s=second)
        list(preprocessor.push([0], [ImuBatch("wrist", acc.t_ns, acc.acc, None)]))
        if preprocessor.intake.missing_sensor([0]):
            told_at.append(float(acc.t_ns[-1] - START_NS) / 1e9)
        state = preprocessor.intake.export_rows(np.array([0]))
        assert len(state["acc_times"]) <= SENSOR_SKEW_NS // spec.period_ns + 20
    assert told_at == [10.95 + second for second in range(50)]


# Numbers -----------------------------------------------------------------------------------------------------------


@given(
    values=st.lists(st.floats(-300, 300), min_size=20, max_size=40),
    wander=st.lists(st.integers(-24 * MS, 24 * MS), min_size=20, max_size=20),
)
def test_reading_on_the_grid_passes_unchanged_whatever_lies_between(values: list[float], wander: list[int]) -> None:
    n = len(values) // 2 * 2
    t_ns = times(n / 20)
    t_ns[1::2] += np.resize(wander, n // 2)
    acc = np.array(values[:n])[:, None] * np.array([1.0, -0.5, 0.25])
    samples = signal(windows_of([ImuBatch("wrist", t_ns, acc, None, rate_hz=20.0)], RAW))
    np.testing.assert_array_equal(samples[::2], acc[: len(samples) : 2].astype(np.float32))


def tone(t_ns: NDArray[np.int64], frequency_hz: float) -> NDArray[np.float64]:
    wave: NDArray[np.float64] = np.sin(2 * np.pi * frequency_hz * (t_ns - START_NS) / 1e9)
    return np.tile(wave[:, None], 3)


@pytest.mark.parametrize("frequency_hz", [2.0, 22.0])
def test_faster_feed_is_low_passed_before_it_is_thinned(frequency_hz: float) -> None:
    # 22 Hz on a grid of 20 Hz would pass for 2 Hz. Gain of a Butterworth low-pass of order 6 at 8 Hz and 100 Hz,
    # by the bilinear transform: 1 / sqrt(1 + (tan(pi f / 100) / tan(pi 8 / 100))^12).
    gain = 1 / np.sqrt(1 + (np.tan(np.pi * frequency_hz / 100) / np.tan(np.pi * 8 / 100)) ** 12)
    t_ns = times(20.0, 100.0)
    heard = signal(windows_of([ImuBatch("wrist", t_ns, tone(t_ns, frequency_hz), None)], RAW))[200:, 0]
    # Ten samples make one period of 2 Hz.
    amplitude = 2 * np.abs(np.fft.rfft(heard[:100])[10]) / 100
    assert amplitude == pytest.approx(gain, rel=1e-3)
    assert (gain > 0.99) if frequency_hz < 8 else (gain < 0.002)


def test_slower_feed_without_holes_is_complete() -> None:
    spec = msgspec.structs.replace(RAW, rate_hz=50, window_len=50, hop_len=50)
    t_ns = times(10.0, 10.0)
    windows = windows_of([ImuBatch("wrist", t_ns, tone(t_ns, 0.5), None)], spec)
    assert windows.completeness.tolist() == [1.0] * 9
    assert windows.gap_ns.tolist() == [0] * 9
    np.testing.assert_allclose(signal(windows)[100:, 0], tone(times(9.0, 50.0), 0.5)[100:, 0], atol=0.002)


def test_half_way_between_readings_the_gain_at_a_fifth_of_the_rate_is_095() -> None:
    # readings   x . . x . x . x . x      the first anchors the grid, all others lie between its points
    # grid       |   |   |   |   |
    t_ns = times(10.0, 50.0)
    t_ns[1:] += 10 * MS
    spec = msgspec.structs.replace(RAW, rate_hz=50, window_len=50, hop_len=50)
    found = signal(windows_of([ImuBatch("wrist", t_ns, tone(t_ns, 10.0), None)], spec))[:, 0]
    # Catmull-Rom half way: weights (-1, 9, 9, -1) / 16.
    gain = 9 / 8 * np.cos(np.pi / 5) - 1 / 8 * np.cos(3 * np.pi / 5)
    assert gain == pytest.approx(0.949, abs=5e-4)
    np.testing.assert_allclose(found[5:], gain * tone(times(10.0, 50.0), 10.0)[5 : len(found), 0], atol=1e-6)


def test_rate_class_is_kept_until_a_gap_renews_it() -> None:
    # feed    100 Hz (thinned by 5)   50 Hz, no gap      gap   25 Hz
    preprocessor = Preprocessor(POSTURE_SPEC)
    latched: list[tuple[int, int]] = []
    for start_s, rate_hz in ((0.0, 100.0), (1.0, 50.0), (4.0, 25.0)):
        list(preprocessor.push([0], [still("lying", 1.0, start_s=start_s, rate_hz=rate_hz)]))
        aligner = preprocessor.aligner
        latched.append((round(float(aligner.feed_hz[0, 0])), int(aligner.factor[0])))
    assert latched == [(100, 5), (100, 5), (25, 2)]


def test_primed_filters_start_settled_and_zero_filters_settle_in_eight_seconds() -> None:
    channels: tuple[Channel, ...] = ("body_acc_z", "gravity_z", "total_acc_z")
    body: dict[str, NDArray[np.float32]] = {}
    for initial_state in ("primed", "zero"):
        spec = msgspec.structs.replace(
            RAW,
            rate_hz=50,
            acc_unit="g",
            channels=channels,
            initial_state=initial_state,
            noise=LowPass(order=3, cutoff_hz=20.0),
        )
        samples = signal(windows_of([still("lying", 10.0, rate_hz=50.0)], spec))
        np.testing.assert_allclose(samples[:, 0] + samples[:, 1], samples[:, 2], atol=1e-6)
        body[initial_state] = np.abs(samples[:, 0])
    assert body["primed"].max() < 1e-6
    assert body["zero"][:50].max() > 0.9
    assert body["zero"][: 5 * 50].max() > 0.001
    assert body["zero"][8 * 50 :].max() < 0.001


def test_angular_rate_starts_with_its_drift_and_loses_it() -> None:
    # What turns at the start may be a turn: the drift filter is never primed.
    spec = msgspec.structs.replace(
        RAW, rate_hz=50, channels=("gyro_x",), gyro_drift=LowPass(order=2, cutoff_hz=0.1), initial_state="primed"
    )
    batch = still("lying", 40.0, rate_hz=50.0)
    turning = ImuBatch("wrist", batch.t_ns, batch.acc, np.full((len(batch), 3), 0.5))
    gyro = signal(windows_of([turning], spec))[:, 0]
    assert gyro[0] == pytest.approx(0.5, abs=1e-3)
    assert np.abs(gyro[30 * 50 :]).max() < 1e-3


def test_denser_windows_are_the_same_windows_with_more_between() -> None:
    batch = noise(500)
    every_hop, every_sample = windows_of([batch], BOTH_SENSORS), windows_of([batch], denser(BOTH_SENSORS, 1))
    np.testing.assert_array_equal(every_sample.samples[::16], every_hop.samples)
    np.testing.assert_array_equal(every_sample.start_ns[::16], every_hop.start_ns)


# The spec ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate_hz": 60}, "preprocessing.rate_hz is 60; expected a divisor of 10^9 from 1 to 1000"),
        ({"rate_hz": 0}, "preprocessing.rate_hz is 0; expected a divisor of 10^9 from 1 to 1000"),
        ({"window_len": 1}, "preprocessing.window_len is 1; expected 2 to 4096 samples"),
        ({"hop_len": 33}, "preprocessing.hop_len is 33; expected 1 to window_len=32"),
        ({"max_gap_ns": 19_999_999}, "preprocessing.max_gap_ns is 19999999; expected one grid period to 60 s"),
        ({"channels": ()}, "preprocessing.channels is (); expected distinct channel names"),
        (
            {"channels": ("gyro_x", "gyro_x")},
            "preprocessing.channels is ('gyro_x', 'gyro_x'); expected distinct channel names",
        ),
        (
            {"noise": LowPass(order=10, cutoff_hz=25.0)},
            "preprocessing.noise is order 10 at 25.0 Hz; expected order 1 to 16 and a cutoff below 25.0 Hz",
        ),
        (
            {"gravity": LowPass(order=0, cutoff_hz=0.3)},
            "preprocessing.gravity is order 0 at 0.3 Hz; expected order 1 to 16 and a cutoff below 25.0 Hz",
        ),
        (
            {"gyro_drift": LowPass(order=2, cutoff_hz=float("nan"))},
            "preprocessing.gyro_drift is order 2 at nan Hz; expected order 1 to 16 and a cutoff below 25.0 Hz",
        ),
    ],
)
def test_spec_that_cannot_be_is_refused(change: Mapping[str, object], message: str) -> None:
    fields: dict[str, Any] = msgspec.structs.asdict(BOTH_SENSORS) | dict(change)
    with pytest.raises(ConfigError) as caught:
        PreprocessingSpec(**fields)
    assert str(caught.value) == message


def test_spec_names_the_sensors_it_needs() -> None:
    assert UCI_HAR.sensors == ("acc", "gyro")
    assert ACC_ONLY.sensors == ("acc",)
    assert (UCI_HAR.period_ns, UCI_HAR.window_ns) == (20 * MS, 2_560 * MS)


def test_long_sparse_message_is_worked_off_in_turns_that_change_nothing() -> None:
    # A fast start latches fine steps; then each reading stands for a second of them: 400,000 samples in one message.
    rng = np.random.default_rng(0)
    steps = np.concatenate([np.full(20, 2_500_000), rng.integers(980 * MS, 999 * MS, 1000)])
    t_ns = START_NS + np.cumsum(steps)
    sparse = ImuBatch("wrist", t_ns, rng.normal(size=(len(t_ns), 3)), rng.normal(size=(len(t_ns), 3)))
    spec = msgspec.structs.replace(POSTURE_SPEC, channels=("body_acc_x", "gyro_x"))
    at_once, one_by_one = Preprocessor(spec), Preprocessor(spec)
    found = join_windows([step.windows for step in at_once.push([0], [sparse])], spec)
    parts = [step.windows for i in range(len(sparse)) for step in one_by_one.push([0], [sparse[i : i + 1]])]
    expected = join_windows(parts, spec)
    assert len(found) > 1900
    np.testing.assert_array_equal(found.samples, expected.samples)
    np.testing.assert_array_equal(found.start_ns, expected.start_ns)
    np.testing.assert_array_equal(found.completeness, expected.completeness)


@pytest.mark.parametrize("declared_hz", [None, 50.0, 10_000.0])
@pytest.mark.parametrize("dense", [0, 200])
def test_a_reading_stands_for_a_bounded_number_of_samples(declared_hz: float | None, dense: int) -> None:
    # The dearest readings: a fast start latches fine steps, then each lies as far as is bridged from the one before.
    t_ns = START_NS + np.cumsum(np.append(np.full(dense, MS // 10), np.full(500, UCI_HAR.max_gap_ns)))
    values = np.zeros((len(t_ns), 3))
    stages = Preprocessor(UCI_HAR)
    samples = 0
    for message in messages([ImuBatch("wrist", t_ns, values, values, declared_hz)], [100]):
        for chunk in stages.aligner.advance([0], stages.intake.push([0], [message])):
            samples += len(chunk.samples)
    per_gap = UCI_HAR.max_gap_ns * max(MAX_FINE_HZ, UCI_HAR.rate_hz) // SECOND
    assert 0 < samples <= per_gap * 500 + dense
    # Readings that a watch may well send cost five at most.
    stages = Preprocessor(UCI_HAR)
    for rate_hz in (10.0, 25.0, 50.0, 200.0):
        t_ns = times(60.0, rate_hz, start_s=100 * rate_hz)
        honest = ImuBatch("wrist", t_ns, np.zeros((len(t_ns), 3)), np.zeros((len(t_ns), 3)))
        found = sum(len(chunk.samples) for chunk in stages.aligner.advance([0], stages.intake.push([0], [honest])))
        assert 0 < found <= 5 * len(honest)


def test_filter_loop_gives_what_scipys_own_call_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sos = butter(5, 0.3, output="sos")
    x, z = rng.normal(size=(7, 3, 40)), rng.normal(size=(7, 3, len(sos), 2))
    for signals in (x, x[:, ::-1], x.transpose(0, 2, 1)[:, :3]):
        before = signals.copy(), z.copy()
        y, after = filters.run_sections(sos, signals, z)
        with monkeypatch.context() as patch:
            patch.setattr(filters, "_sosfilt", None)
            expected_y, expected_after = filters.run_sections(sos, signals, z)
        np.testing.assert_array_equal(y, expected_y)
        np.testing.assert_array_equal(after, expected_after)
        np.testing.assert_array_equal(signals, before[0])
        np.testing.assert_array_equal(z, before[1])
