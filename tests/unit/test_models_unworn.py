"""Generated streams are of what they say they are, and telling an activity in them is counted."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.scoring.false_activity import told_of
from models.windows.data import Sitting
from models.windows.unworn import (
    EVALUATION_SEED,
    HELD_OUT_KINDS,
    TRAINING_KINDS,
    Broken,
    Generated,
    broken,
    streams_of,
    unworn,
    unworn_windows,
)
from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.recording import Recording
from tests.bundles import POSTURE_SPEC, POSTURES, make_bundle
from tests.motion import noise, still

GENERATED: tuple[Generated, ...] = get_args(Generated)


def sensors(recording: Recording) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    (stream,) = recording.streams
    assert stream.acc is not None
    assert stream.gyro is not None
    return stream.acc, stream.gyro


def made(kind: Generated, seed: int) -> Recording:
    return unworn(kind, np.random.default_rng(seed), rate_hz=50.0, seconds=60.0)


@pytest.mark.parametrize("kind", GENERATED)
def test_a_seed_makes_one_stream_and_another_seed_another(kind: Generated) -> None:
    acc, gyro = sensors(made(kind, 1))
    assert acc.shape == gyro.shape == (3000, 3)
    assert np.isfinite(acc).all()
    assert np.isfinite(gyro).all()
    np.testing.assert_array_equal(acc, sensors(made(kind, 1))[0])
    assert kind == "zeros" or (acc != sensors(made(kind, 2))[0]).any()


def test_a_table_shows_gravity_and_a_sensors_noise_between_knocks() -> None:
    for seed in range(20):
        acc, gyro = sensors(made("table", seed))
        assert np.linalg.norm(np.median(acc, axis=0)) == pytest.approx(STANDARD_GRAVITY, abs=0.75)
        quiet = np.median(np.abs(acc - np.median(acc, axis=0)))
        assert quiet < 0.08
        assert np.median(np.abs(gyro)) < 0.06


def test_vibrations_and_motors_have_all_strengths_about_gravity() -> None:
    for kind in ("vibration", "motor"):
        strengths = [float(np.std(sensors(made(kind, seed))[0], axis=0).mean()) for seed in range(40)]
        assert min(strengths) < 0.5
        assert max(strengths) > 1.5


def test_zeros_and_frozen_values_never_change() -> None:
    assert not sensors(made("zeros", 0))[0].any()
    for values in sensors(made("frozen", 0)):
        assert not np.ptp(values, axis=0).any()
        assert values.any()


@pytest.mark.parametrize("kind", get_args(Broken))
def test_a_broken_axis_is_stuck_and_the_others_go_on(kind: Broken) -> None:
    whole = Recording("w", "1", (noise(500),))
    stuck = set()
    for seed in range(30):
        before, after = sensors(whole)[0], sensors(broken(kind, whole, np.random.default_rng(seed)))[0]
        constant = np.ptp(after, axis=0) == 0
        assert constant.sum() == 1
        np.testing.assert_array_equal(after[:, ~constant], before[:, ~constant])
        stuck.add((int(constant.argmax()), bool(abs(after[0, constant]) > 19)))
    assert {axis for axis, _ in stuck} == {0, 1, 2}
    assert {at_end for _, at_end in stuck} == {kind == "full_scale"}


def test_models_are_taught_neither_evaluations_seeds_nor_its_own_kinds() -> None:
    assert not set(TRAINING_KINDS) & set(HELD_OUT_KINDS)
    with pytest.raises(ValueError, match="expected 0 to 999999"):
        unworn_windows(POSTURE_SPEC, seed=EVALUATION_SEED)


def test_windows_to_learn_from_come_of_every_kind_and_of_a_dead_axis_where_there_are_recordings() -> None:
    sittings = [Sitting("1", Recording("w", "1", (noise(600, rate_hz=20.0),)))]
    without = unworn_windows(POSTURE_SPEC, seed=1, count=2, seconds=10.0)
    with_dead = unworn_windows(POSTURE_SPEC, sittings, seed=1, count=2, seconds=10.0)
    # Ten seconds give 18 or 19 windows of a second each half second.
    assert 5 * 2 * 18 <= len(without) <= 5 * 2 * 19
    assert len(with_dead) > len(without)
    np.testing.assert_array_equal(with_dead[: len(without)], without)


def test_time_told_as_an_activity_is_counted_and_unknown_is_not(tmp_path: Path) -> None:
    """The posture bundle tells a posture from gravity's direction, and nothing from zeros.

    time s      0                    30
    still       [...standing         )     the first window takes one second
    zeros       [...unknown          )
    """
    bundle = make_bundle(tmp_path)
    worn = told_of(bundle, [Recording("w", "1", (still("standing", 30),))], "worn")
    assert worn.activity_share == pytest.approx(29 / 30, abs=0.01)
    assert (worn.streams_with_activity, worn.told["standing"]) == (1, worn.activity_share)
    nobody = told_of(bundle, streams_of("zeros", (), seed=EVALUATION_SEED, count=3, seconds=30.0), "zeros")
    assert (nobody.streams, nobody.activity_share, nobody.streams_with_activity, nobody.per_hour) == (3, 0.0, 0, 0.0)
    assert set(nobody.told) == {"unknown"}


def test_it_is_counted_without_the_gyroscope_too_where_a_feed_may_lack_it(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(
        POSTURE_SPEC, channels=(*POSTURE_SPEC.channels[:3], "gyro_x"), optional_sensors=("gyro",)
    )
    bundle = make_bundle(tmp_path, spec=spec, labels=(*POSTURES, "turning"))
    t_ns, nothing = np.arange(1500) * 20_000_000, np.zeros((1500, 3))
    spin = Recording("w", "1", (ImuBatch("w", t_ns, nothing, nothing + np.array([20.0, 0.0, 0.0])),))
    found = told_of(bundle, [spin], "zeros")
    assert found.activity_share == pytest.approx(29 / 30, abs=0.01)
    assert found.share_without_gyro == 0.0
    assert told_of(make_bundle(tmp_path / "needs none"), [spin], "zeros").share_without_gyro is None
