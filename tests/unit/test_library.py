"""Use from Python: what the packages offer, and that arrays are told what live messages are."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import models
import simulator
import streamer
from simulator import read_recordings, synthetic_recordings
from streamer import ImuBatch, Recognizer, Recording, load_bundle, write_csv
from streamer.classifier import Classifier
from streamer.errors import BundleError, ConfigError
from streamer.offline import classify_recording
from streamer.preprocessing.pipeline import windows_of


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer(load_bundle("wisdm-watch-cnn"))


@pytest.fixture(scope="module")
def stream() -> ImuBatch:
    (recording,) = synthetic_recordings(240, seed=3)
    return recording.streams[0]


@pytest.mark.parametrize("package", [streamer, simulator, models], ids=lambda package: package.__name__)
def test_package_offers_what_it_names_and_imports_it_when_asked(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined] # all three have it
    assert names == sorted(names)
    assert set(names) <= set(dir(package))
    for name in names:
        assert getattr(package, name).__module__.startswith(("streamer", "simulator", "models"))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # type: ignore[attr-defined] # noqa: B018 # on purpose
    heavy = f"import sys, {package.__name__}; print([m for m in ('numpy', 'scipy', 'torch') if m in sys.modules])"  # type: ignore[attr-defined] # a module
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_bouts_of_arrays_are_those_of_the_live_events(recognizer: Recognizer, stream: ImuBatch) -> None:
    bouts = recognizer.classify(stream.t_ns, stream.acc, stream.gyro)
    live = list(classify_recording(Recognizer(recognizer.bundle), Recording("array", None, (stream,))))
    starts = [(e.activity, e.onset_ns, e.confidence, e.decided_ns) for e in live if e.type == "start"]
    assert [(b.activity, b.start_ns, b.confidence, b.decided_ns) for b in bouts] == starts
    assert len(bouts) >= 3
    # One ends where the next begins, and the last with its last window.
    assert all(one.end_ns == other.start_ns for one, other in pairwise(bouts))
    assert bouts[-1].end_ns == [e.window_end_ns for e in live if e.type == "end"][-1]


def test_hole_ends_a_bout_and_none_begins_in_it(recognizer: Recognizer, stream: ImuBatch) -> None:
    #   readings  |--------------|       10 s       |--------------|
    #   bouts     [a)[b ... )                       [c ... )
    t_ns = stream.t_ns.copy()
    t_ns[6000:] += 10_000_000_000
    bouts = recognizer.classify(t_ns, stream.acc)
    before = [bout for bout in bouts if bout.start_ns < t_ns[5999]]
    behind = [bout for bout in bouts if bout.start_ns >= t_ns[6000]]
    assert len(before) + len(behind) == len(bouts)
    # The last sample of a window stands for the time up to the next.
    assert before[-1].end_ns < t_ns[5999] + recognizer.bundle.spec.period_ns


def test_windows_of_arrays_are_the_models_own(recognizer: Recognizer, stream: ImuBatch) -> None:
    windows = recognizer.windows(stream.t_ns, stream.acc, stream.gyro)
    expected = windows_of([stream], recognizer.bundle.spec)
    np.testing.assert_array_equal(windows.start_ns, expected.start_ns)
    np.testing.assert_array_equal(windows.probabilities, Classifier(recognizer.bundle).predict(expected.samples))
    assert windows.activities == [windows.labels[i] for i in windows.probabilities.argmax(axis=1)]
    assert (windows.end_ns - windows.start_ns == recognizer.bundle.spec.window_ns).all()
    assert len(windows) == len(windows.completeness) == len(expected)


def test_arrays_leave_the_watches_that_are_followed_alone(stream: ImuBatch) -> None:
    recognizer = Recognizer(load_bundle("wisdm-watch-cnn"))
    recognizer.recognize([stream[:2000]], 0)
    followed = list(recognizer.watches)
    before = recognizer.export_watch(followed[0])
    first = recognizer.classify(stream.t_ns, stream.acc)
    assert recognizer.classify(stream.t_ns, stream.acc) == first
    assert recognizer.export_watch(followed[0]) == before
    assert list(recognizer.watches) == followed


def test_model_that_wants_another_sensor_says_unknown_and_why(stream: ImuBatch) -> None:
    (bout,) = Recognizer(load_bundle("uci-har-lstm")).classify(stream.t_ns, stream.acc)
    assert (bout.activity, bout.reason) == ("unknown", "sensor_missing")
    slow = Recognizer(load_bundle("uci-har-lstm")).classify(
        stream.t_ns[::5], *(s[::5] for s in (stream.acc, stream.gyro) if s is not None)
    )
    assert {(b.activity, b.reason) for b in slow} == {("unknown", "feed_rate")}


T_NS, ACC = np.arange(4) * 20_000_000, np.full((4, 3), 5.6)


@pytest.mark.parametrize(
    ("t_ns", "acc", "gyro", "message"),
    [
        (T_NS / 1e9, ACC, None, r"t_ns is float64 \(4,\); expected .* integers.*; seconds become nanoseconds by"),
        (T_NS[:, None], ACC, None, r"t_ns is int64 \(4, 1\); expected \(n,\) integers"),
        (T_NS[:0], ACC[:0], None, r"t_ns is int64 \(0,\); expected \(n,\) integers, n > 0"),
        (T_NS - 1, ACC, None, "t_ns is out of range; expected 0 <= t_ns < 2^62"),
        (T_NS[::-1], ACC, None, "t_ns goes back at reading 1; expected ascending times"),
        (T_NS, None, None, "acc and gyro are both None; expected one of them at least"),
        (T_NS, ACC[:3], None, r"acc is float64 \(3, 3\); expected numbers \(4, 3\), as many as t_ns"),
        (T_NS, ACC, ACC.T, r"gyro is float64 \(3, 4\); expected numbers \(4, 3\)"),
        (T_NS, ACC.astype(str), None, r"acc is <U\d+ \(4, 3\); expected numbers"),
        (T_NS, ACC * [1, np.nan, 1], None, r"acc\[0\] is .*nan.*; expected magnitudes up to 10000"),
        (T_NS, ACC / 9.81, None, "acc has a median magnitude of 0.989; expected m/s² with gravity in it, about 9.8"),
    ],
)
def test_arrays_that_are_no_readings_are_refused(
    recognizer: Recognizer, t_ns: np.ndarray, acc: np.ndarray | None, gyro: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("2^62", r"2\^62")):
        recognizer.classify(t_ns, acc, gyro)


def test_bundle_is_found_by_its_name_or_its_folder() -> None:
    with pytest.raises(BundleError, match="did you mean wisdm-watch-cnn"):
        load_bundle("wisdm-watch-cn")


def test_recordings_are_read_by_the_name_of_a_data_set_or_of_a_file(tmp_path: Path, data_dir: Path) -> None:
    write_csv(tmp_path / "walk.csv", synthetic_recordings(10))
    assert [len(r.streams[0]) for r in read_recordings(tmp_path / "walk.csv")] == [500]
    assert [r.subject for r in read_recordings("wisdm-watch", subject="1610", folder=data_dir)] == ["1610"]
    with pytest.raises(ConfigError, match="did you mean fitbit"):
        read_recordings("fitbitt")


def test_model_is_scored_on_recordings_of_ones_own(recognizer: Recognizer) -> None:
    recordings = synthetic_recordings(240, devices=3)
    figures = models.evaluate(recognizer.bundle, recordings)
    assert figures.accuracy > 0.85
    assert set(figures.per_group) == {recording.device_id for recording in recordings}
    with pytest.raises(ConfigError, match="no labelled windows for wisdm-watch-cnn"):
        models.evaluate(recognizer.bundle, synthetic_recordings(30, activities=["waving"]))
