"""Varied recordings are what they say they are, and a bundle's losses under them are counted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.scoring.robustness import score_variations, varied_sittings
from models.windows import variations
from models.windows.data import Sitting, stream_slice
from models.windows.sensors import other_sensor
from models.windows.variations import VARIATIONS, Variation
from streamer.imu import ImuBatch
from streamer.preprocessing.spec import Sensor
from streamer.recording import ActivitySpan, Recording
from tests.bundles import POSTURE_SPEC, POSTURES, START_NS, UNSMOOTHED, make_bundle
from tests.motion import SECOND, joined, still

BY_NAME = {variation.name: variation for variation in VARIATIONS}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def recording(values: NDArray[np.float64], *, rate_hz: float = 50.0) -> Recording:
    """Both sensors show the same three values over time; the middle third is labelled."""
    t_ns = START_NS + np.rint(np.arange(len(values)) * (1e9 / rate_hz)).astype(np.int64)
    stream = ImuBatch("w", t_ns, values, 0.1 * values, rate_hz=rate_hz)
    third = len(values) // 3
    span = ActivitySpan("walking", int(t_ns[third]), int(t_ns[2 * third]))
    return Recording("w", "1", (stream,), (span,), rate_hz)


def tone(frequency_hz: float, *, seconds: float = 60.0, rate_hz: float = 50.0) -> Recording:
    t_s = np.arange(round(seconds * rate_hz))[:, None] / rate_hz
    return recording(np.sin(2 * np.pi * frequency_hz * t_s) * np.ones(3), rate_hz=rate_hz)


def acc_of(varied: Recording) -> NDArray[np.float64]:
    (stream,) = varied.streams
    assert stream.acc is not None
    return stream.acc


@pytest.mark.parametrize("name", ["turned_30", "turned_anyhow"])
def test_a_turned_watch_turns_both_sensors_by_one_rotation(name: str) -> None:
    values = rng().normal(size=(300, 3))
    (stream,) = BY_NAME[name].vary(recording(values.copy()), rng(1)).streams
    assert stream.acc is not None
    assert stream.gyro is not None
    np.testing.assert_allclose(stream.gyro, 0.1 * stream.acc, atol=1e-12)
    rotation = np.linalg.lstsq(values, stream.acc, rcond=None)[0]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def test_mounting_stays_within_thirty_degrees_and_any_orientation_does_not() -> None:
    down = recording(np.tile([0.0, 0.0, 9.8], (10, 1)))
    angles = {
        name: [
            np.degrees(np.arccos(np.clip(acc_of(BY_NAME[name].vary(down, rng(seed)))[0, 2] / 9.8, -1, 1)))
            for seed in range(200)
        ]
        for name in ("turned_30", "turned_anyhow")
    }
    assert max(angles["turned_30"]) <= 30.0
    assert max(angles["turned_30"]) > 20.0
    # Over a sphere half of all directions are more than 90 degrees off.
    assert np.mean(np.array(angles["turned_anyhow"]) > 90) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("rate_hz", variations.RATES_HZ)
def test_a_sensor_of_another_rate_tells_slow_motion_as_it_was(rate_hz: float) -> None:
    whole = tone(1.0)
    (stream,) = variations.at_rate(whole, rng(3), rate_hz=rate_hz).streams
    assert stream.rate_hz is None
    np.testing.assert_allclose(np.diff(stream.t_ns), 1e9 / rate_hz, atol=1.0)
    assert len(stream) == pytest.approx(60 * rate_hz, abs=3)
    # Its own phase: not that of the recording.
    assert 0 <= stream.t_ns[0] - START_NS < 1e9 / rate_hz
    assert stream.acc is not None
    t_s = (stream.t_ns - START_NS) / 1e9
    inside = (t_s > 5) & (t_s < 55)
    waves = np.stack([np.sin(2 * np.pi * t_s[inside]), np.cos(2 * np.pi * t_s[inside])], axis=1)
    weights = np.linalg.lstsq(waves, stream.acc[inside, 0], rcond=None)[0]
    # The same wave, a little late where there is a low-pass: at 10 Hz by about 0.1 s.
    np.testing.assert_allclose(waves @ weights, stream.acc[inside, 0], atol=1e-3)
    assert np.hypot(*weights) == pytest.approx(1.0, abs=0.01)
    late_s = -np.arctan2(weights[1], weights[0]) / (2 * np.pi)
    assert -1e-3 < late_s < (1.1 / rate_hz if rate_hz < 50 else 1e-3)


def test_what_a_slow_sensor_cannot_tell_it_does_not_tell_as_something_else() -> None:
    # Sampled without a low-pass, 9 Hz would show as 1 Hz in full.
    assert np.abs(acc_of(variations.at_rate(tone(9.0), rng(), rate_hz=10.0))[50:-50]).max() < 0.05


def test_another_rate_makes_up_nothing_inside_a_hole() -> None:
    whole = tone(1.0)
    (stream,) = whole.streams
    holed = stream_slice(stream, (stream.t_ns < START_NS + 20 * SECOND) | (stream.t_ns > START_NS + 25 * SECOND))
    varied = variations.at_rate(Recording("w", "1", (holed,)), rng(), rate_hz=20.0).streams[0]
    assert not ((varied.t_ns > START_NS + 20 * SECOND) & (varied.t_ns < START_NS + 25 * SECOND)).any()
    assert np.diff(varied.t_ns).max() > 4.9 * SECOND


def test_a_tenth_of_the_readings_is_lost_one_by_one_or_in_holes() -> None:
    whole = tone(1.0, seconds=600.0)
    singly, in_bursts = (BY_NAME[name].vary(whole, rng(1)) for name in ("readings_lost", "bursts_lost"))
    for varied in (singly, in_bursts):
        assert len(varied.streams[0]) == pytest.approx(0.9 * 30_000, rel=0.015)
        assert varied.spans == whole.spans
    holes_s = np.diff(in_bursts.streams[0].t_ns) / 1e9
    holes_s = holes_s[holes_s > 0.03]
    assert len(holes_s) > 80
    # Neighbouring holes may touch.
    assert np.median(holes_s) == pytest.approx(np.mean(variations.BURST_S), abs=0.15)


def test_another_sensor_adds_its_own_noise_offset_and_steps_and_leaves_times() -> None:
    still_watch = recording(np.tile([0.0, 6.0, 7.7], (1000, 1)))
    read = [other_sensor(still_watch, np.random.default_rng(seed)).streams[0] for seed in range(20)]
    stream = still_watch.streams[0]
    assert stream.acc is not None
    for one in read:
        assert one.acc is not None
        np.testing.assert_array_equal(one.t_ns, stream.t_ns)
        off = one.acc - stream.acc
        assert 0 < np.abs(off.mean(axis=0)).max() < 0.5
        assert 0.002 < off.std(axis=0).max() < 0.1
    steps = {float(np.diff(np.unique(one.acc)).min().round(6)) for one in read if one.acc is not None}
    assert len(steps) > 1


@pytest.mark.parametrize(("name", "factor"), [("clock_fast", 1.05), ("clock_slow", 0.95)])
def test_a_wrong_clock_stretches_times_and_labels_and_leaves_values(name: str, factor: float) -> None:
    whole = tone(1.0)
    varied = BY_NAME[name].vary(whole, rng())
    (before,), (after,) = whole.streams, varied.streams
    np.testing.assert_array_equal(after.acc, before.acc)
    np.testing.assert_array_equal(after.gyro, before.gyro)
    assert int(after.t_ns[-1] - after.t_ns[0]) == pytest.approx(factor * int(before.t_ns[-1] - before.t_ns[0]), abs=2)
    (span,) = varied.spans
    # The same readings are labelled.
    assert np.searchsorted(after.t_ns, [span.start_ns, span.end_ns]).tolist() == [1000, 2000]


def test_a_gyroscope_that_stops_half_way_leaves_the_accelerometer_alone() -> None:
    whole = tone(1.0)
    acc, gyro = BY_NAME["gyro_stops"].vary(whole, rng()).streams
    assert acc.gyro is None
    assert gyro.acc is None
    np.testing.assert_array_equal(acc.acc, acc_of(whole))
    assert len(gyro) == pytest.approx(1500, abs=1)
    (alone,) = BY_NAME["no_gyro"].vary(whole, rng()).streams
    assert alone.gyro is None


def test_a_variation_draws_the_same_whatever_else_is_drawn() -> None:
    sittings = [Sitting("1", tone(1.0, seconds=5.0)), Sitting("2", tone(2.0, seconds=5.0))]
    jitter = BY_NAME["jitter"]
    first, again, other = (
        [sitting.recording.streams[0].t_ns for sitting in varied_sittings(sittings, jitter, seed=seed)]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert (first[0] != other[0]).any()
    assert (first[0] != first[1]).any()
    # The recordings themselves are not touched.
    assert (sittings[0].recording.streams[0].t_ns[1] - START_NS) == 20_000_000


def postures() -> list[Sitting]:
    """One person who stands, sits and lies for twenty seconds each."""
    parts = [still(posture, 20, start_s=20 * number) for number, posture in enumerate(POSTURES)]
    spans = tuple(
        ActivitySpan(posture, START_NS + 20 * n * SECOND, START_NS + 20 * (n + 1) * SECOND)
        for n, posture in enumerate(POSTURES)
    )
    return [Sitting("1", Recording("wrist", "1", (joined(*parts),), spans, 20.0))]


def test_losses_are_counted_and_what_is_not_served_says_why(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, smoothing=UNSMOOTHED, min_feed_rate_hz=12.0)
    upside_down = Variation("upside_down", "upside down", lambda r, _: variations._rotated(r, -np.eye(3)), 2, 2.0)
    chosen = (upside_down, BY_NAME["rate_10"], BY_NAME["clock_fast"], BY_NAME["no_gyro"])
    found = score_variations(
        bundle, postures(), dataset="made up", protocol="one person", seen_in_training=False, variations=chosen
    )
    assert found.plain.alone.accuracy == 1.0
    down, slow, fast, alone = (one.alone for one in found.varied)
    # No posture is told by the axis that points away from it.
    assert down is not None
    assert (down.accuracy, down.accuracy_lost, down.worst_lost, len(found.varied[0].draws)) == (0.0, 100.0, 100.0, 2)
    assert (slow, found.varied[1].not_supported) == (None, "needs 12 Hz")
    assert fast is not None
    assert (fast.accuracy_lost, fast.macro_f1_lost) == (0.0, 0.0)
    # This model never had a gyroscope.
    assert alone is not None
    assert all(one.with_past is None for one in found.varied), "there is no chain"
    assert "upside down" in found.text()
    assert "not supported: needs 12 Hz" in found.markdown()


@pytest.mark.parametrize("optional", [(), ("gyro",)])
def test_a_bundle_is_scored_without_the_gyroscope_where_it_may_lack_it(
    tmp_path: Path, optional: tuple[Sensor, ...]
) -> None:
    spec = msgspec.structs.replace(POSTURE_SPEC, channels=(*POSTURE_SPEC.channels, "gyro_x"), optional_sensors=optional)
    found = score_variations(
        make_bundle(tmp_path, spec=spec),
        postures(),
        dataset="made up",
        protocol="one person",
        seen_in_training=False,
        variations=(BY_NAME["no_gyro"], BY_NAME["gyro_stops"]),
    )
    if optional:
        assert [one.alone and one.alone.accuracy for one in found.varied] == [1.0, 1.0]
        assert [one.windows_share for one in found.varied] == pytest.approx([1.0, 1.0], abs=0.05)
    else:
        assert [one.not_supported for one in found.varied] == ["needs gyro", "needs gyro"]
