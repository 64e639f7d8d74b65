"""Labels of windows, and splits that share nobody."""

from __future__ import annotations

import zipfile
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.fitting.training import training_sittings
from models.recipes import RECIPES
from models.windows.augment import StreamVariety, WindowVarier, WindowVariety, rotations, varied
from models.windows.data import (
    Sitting,
    group_folds,
    labelled_windows,
    time_blocks,
    window_targets,
)
from simulator.datasets import uci_har
from streamer.errors import ConfigError
from streamer.imu import ImuBatch
from streamer.preprocessing.spec import Channel, LowPass, PreprocessingSpec
from streamer.recording import ActivitySpan, Recording

SPEC = PreprocessingSpec(
    rate_hz=20,
    window_len=40,
    hop_len=20,
    max_gap_ns=1_000_000_000,
    acc_unit="g",
    median_len=1,
    noise=None,
    gravity=LowPass(order=3, cutoff_hz=0.3),
    gyro_drift=None,
    initial_state="primed",
    channels=("total_acc_x", "total_acc_y", "total_acc_z"),
)
SECOND = 1_000_000_000


def recording(seconds: int, spans: tuple[ActivitySpan, ...], subject: str = "1") -> Recording:
    n = 20 * seconds
    acc = np.random.default_rng(0).normal(size=(n, 3)) + np.array([0.0, 0.0, 9.8])
    stream = ImuBatch("w", np.arange(n) * SPEC.period_ns, acc, None, rate_hz=20.0)
    return Recording("w", subject, (stream,), spans, 20.0)


def test_only_windows_inside_one_labelled_stretch_are_labelled() -> None:
    """One window covers two seconds, every second.

    time s     0   1   2   3   4   5   6   7   8
    spans      [-- walking ---)[-- sitting ---)
    windows    [w......)           [s......)
                   [w......)           [s......)
                       [ across )
    """
    spans = (ActivitySpan("walking", 0, 3 * SECOND), ActivitySpan("sitting", 3 * SECOND, 7 * SECOND))
    found = labelled_windows([Sitting("1", recording(8, spans))], SPEC, ("sitting", "walking"))
    assert (found.start_ns / SECOND).tolist() == [0, 1, 3, 4, 5]
    assert found.targets.tolist() == [1, 1, 0, 0, 0]


def test_recording_without_a_gyroscope_gives_windows_to_a_model_that_can_do_without() -> None:
    spans = (ActivitySpan("walking", 0, 8 * SECOND),)
    needs = msgspec.structs.replace(SPEC, channels=(*SPEC.channels, "gyro_x", "gyro_y", "gyro_z"))
    without = labelled_windows([Sitting("1", recording(8, spans))], SPEC, ("walking",))
    assert len(labelled_windows([Sitting("1", recording(8, spans))], needs, ("walking",))) == 0
    optional = msgspec.structs.replace(needs, optional_sensors=("gyro",))
    found = labelled_windows([Sitting("1", recording(8, spans))], optional, ("walking",))
    np.testing.assert_array_equal(found.samples[:, :, :3], without.samples)
    assert found.samples.shape == (7, 40, 6)
    assert not found.samples[:, :, 3:].any()


def test_stretches_with_other_labels_give_no_windows() -> None:
    spans = (ActivitySpan("lie_to_stand", 0, 8 * SECOND),)
    assert window_targets(np.array([0]), SPEC, spans, ("sitting",)).tolist() == [-1]
    assert len(labelled_windows([Sitting("1", recording(8, spans))], SPEC, ("sitting",))) == 0


@given(groups=st.sets(st.text("abc123", min_size=1), min_size=2, max_size=40), data=st.data())
def test_folds_are_disjoint_and_cover_all_groups(groups: set[str], data: st.DataObject) -> None:
    folds = group_folds(groups, data.draw(st.integers(2, len(groups))), seed=data.draw(st.integers(0, 9)))
    assert sum(len(fold) for fold in folds) == len(groups)
    assert frozenset().union(*folds) == groups


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(ConfigError, match="folds is 3; expected 2 to 2"):
        group_folds(["a", "b"], 3, seed=0)


def test_time_blocks_leave_a_second_between_neighbours() -> None:
    blocks = time_blocks(recording(50, (ActivitySpan("walking", 0, 50 * SECOND),)), 5)
    assert [block.group for block in blocks] == [f"block {k}" for k in range(5)]
    for before, after in pairwise(blocks):
        gap_ns = after.recording.streams[0].t_ns[0] - before.recording.streams[0].t_ns[-1]
        assert gap_ns >= SECOND


def test_varied_streams_keep_their_labels_in_step_with_their_readings() -> None:
    """Walking is recorded as 1 m/s², sitting as 2; every varied window still shows what it is labelled."""
    whole = recording(
        200, (ActivitySpan("walking", 0, 100 * SECOND), ActivitySpan("sitting", 100 * SECOND, 200 * SECOND))
    )
    acc = np.repeat([1.0, 2.0], 2000)[:, None] * np.ones(3)
    stream = ImuBatch("w", whole.streams[0].t_ns, acc, None, rate_hz=20.0)
    sitting = Sitting("1", Recording("w", "1", (stream,), whole.spans, 20.0))
    variety = StreamVariety(section_s=(10.0, 30.0), stretch=0.2, loss=0.1, halve=0.5)
    found = labelled_windows(varied([sitting], variety, seed=3), SPEC, ("walking", "sitting"))
    assert len(found) > 100
    shown = found.samples.mean(axis=(1, 2)) * 9.80665
    # Readings across the change are interpolated, so the last sample before it may already move.
    np.testing.assert_allclose(shown, np.where(found.targets == 0, 1.0, 2.0), atol=0.06)


def test_streams_are_told_by_slower_sensors_and_with_holes() -> None:
    span = ActivitySpan("walking", 0, 400 * SECOND)
    sitting = Sitting("1", recording(400, (span,)))
    variety = StreamVariety(section_s=(20.0, 20.0), resampled=0.5, rates_hz=(5.0, 10.0), holes=0.3)
    sections = [one.recording.streams[0].t_ns for one in varied([sitting], variety, seed=1)]
    steps = [float(np.median(np.diff(t_ns))) / SECOND for t_ns in sections]
    slower = [step for step in steps if step > 0.06]
    assert 0.1 * 0.99 <= min(slower) <= max(slower) <= 0.2 * 1.01
    assert 0.25 < len(slower) / len(steps) < 0.75
    assert any(np.diff(t_ns).max() > 5 * np.median(np.diff(t_ns)) for t_ns in sections)


def test_some_windows_lack_a_gyroscope_as_those_of_a_watch_without_one() -> None:
    vary = WindowVarier(
        WindowVariety(rotation_deg=20.0, noise=0.1, without_gyro=0.4),
        ("body_acc_x", "body_acc_y", "body_acc_z", "gyro_x", "gyro_y", "gyro_z"),
        torch.ones(6),
    )
    windows = vary(torch.ones(500, 10, 6), torch.Generator().manual_seed(1))
    lacks = (windows[..., 3:] == 0).flatten(1).all(1)
    assert 0.3 < float(lacks.float().mean()) < 0.5
    assert bool((windows[..., :3] != 0).all())
    assert bool((windows[~lacks][..., 3:] != 0).all())


def test_some_windows_are_of_the_other_wrist_or_a_turned_crown_and_turn_as_a_watch_there_would() -> None:
    channels: tuple[Channel, ...] = ("gravity_x", "gravity_y", "gravity_z", "gyro_x", "gyro_y", "gyro_z")
    vary = WindowVarier(WindowVariety(worn_otherwise=0.6), channels, torch.ones(6))
    # A watch that turns at w sees gravity turn at g x w, whichever way it is worn.
    rng = np.random.default_rng(0)
    gravity, rate = rng.normal(size=(2, 3))
    turn = np.cross(gravity, rate)
    window = torch.tensor(np.concatenate([gravity, rate]), dtype=torch.float32).expand(400, 1, 6)
    found = vary(window, torch.Generator().manual_seed(1))[:, 0].numpy()
    signs = np.sign(found[:, :3] / gravity)
    np.testing.assert_allclose(np.cross(found[:, :3], found[:, 3:]), signs * turn, rtol=1e-4, atol=1e-5)
    ways, counts = np.unique(signs, axis=0, return_counts=True)
    assert {*map(tuple, ways.tolist())} == {(x, y, 1.0) for x in (-1.0, 1.0) for y in (-1.0, 1.0)}
    assert 0.3 < counts[-1] / 400 < 0.5


def test_same_seed_varies_alike() -> None:
    sitting = Sitting("1", recording(60, (ActivitySpan("walking", 0, 60 * SECOND),)))
    variety = StreamVariety(section_s=(5.0, 9.0), stretch=0.2, loss=0.1)
    first, second = (labelled_windows(varied([sitting], variety, seed=5), SPEC, ("walking",)) for _ in range(2))
    np.testing.assert_array_equal(first.samples, second.samples)


def test_rotations_are_rotations_within_their_angle() -> None:
    turns = rotations(200, 30.0, torch.Generator().manual_seed(0))
    identity = torch.eye(3).expand(200, 3, 3)
    torch.testing.assert_close(turns @ turns.transpose(1, 2), identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(200), atol=1e-5, rtol=0)
    angle = torch.rad2deg(torch.arccos(((turns.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)))
    assert float(angle.max()) <= 30.1


def test_window_variety_turns_both_sensors_alike() -> None:
    vary = WindowVarier(
        WindowVariety(rotation_deg=90.0),
        ("body_acc_x", "body_acc_y", "body_acc_z", "gyro_x", "gyro_y", "gyro_z"),
        torch.ones(6),
    )
    triple = torch.randn(4, 10, 3, generator=torch.Generator().manual_seed(0))
    turned = vary(torch.cat([triple, triple], 2), torch.Generator().manual_seed(1))
    torch.testing.assert_close(turned[..., :3], turned[..., 3:])
    torch.testing.assert_close(turned[..., :3].norm(dim=2), triple.norm(dim=2))
    assert not torch.allclose(turned[..., :3], triple)


def test_test_subjects_are_the_published_ones(data_dir: Path) -> None:
    with zipfile.ZipFile(data_dir / "HAPT Data Set.zip") as archive:
        published = set(archive.read("HAPT Data Set/Test/subject_id_test.txt").decode().split())
    assert published == uci_har.TEST_SUBJECTS


def test_recipes_with_an_official_split_never_meet_its_test_subjects(data_dir: Path) -> None:
    assert data_dir
    groups = {sitting.group for sitting in training_sittings(RECIPES["uci-har-cnn"])}
    assert len(groups) == 21
    assert not groups & uci_har.TEST_SUBJECTS
