"""Synthetic motion is seeded, labelled, and recognised by the model that har-stream ships for watches."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.gestures import gestures
from simulator.synthetic import SyntheticWatch, shipped_profiles, synthetic_watches
from streamer.activities import ACTIVITIES
from streamer.bundle import find_bundle, load_bundle
from streamer.classifier import Classifier
from streamer.config import DEFAULT_MODEL
from streamer.errors import ConfigError
from streamer.imu import STANDARD_GRAVITY
from streamer.preprocessing.pipeline import windows_of


def readings(watch: SyntheticWatch, seconds: float) -> NDArray[np.float64]:
    (stream,) = watch.recording(seconds).streams
    assert stream.acc is not None
    assert stream.gyro is not None
    return np.concatenate([stream.t_ns[:, None].astype(np.float64), stream.acc, stream.gyro], axis=1)


@pytest.mark.parametrize("rate_hz", [20, 50])
def test_the_default_model_recognises_nine_windows_in_ten(rate_hz: int) -> None:
    bundle = load_bundle(find_bundle(DEFAULT_MODEL))
    classifier = Classifier(bundle)
    hits: dict[str, list[bool]] = defaultdict(list)
    for watch in synthetic_watches(6, seed=1000, rate_hz=rate_hz):
        recording = watch.recording(1200)
        windows = windows_of(recording.streams, bundle.spec)
        found = classifier.predict(windows.samples).argmax(axis=1)
        for start_ns, label in zip(windows.start_ns.tolist(), found.tolist(), strict=True):
            for span in recording.spans:
                if span.start_ns <= start_ns and start_ns + bundle.spec.window_ns <= span.end_ns:
                    hits[span.activity].append(bundle.labels[label] == span.activity)
    assert set(hits) == set(shipped_profiles().playlist)
    recognised = list(itertools.chain.from_iterable(hits.values()))
    assert np.mean(recognised) >= 0.9


def test_the_playlist_has_the_common_activities_and_all_are_known() -> None:
    playlist = shipped_profiles().playlist
    assert {"walking", "running", "sitting", "standing", "stairs"} <= set(playlist)
    assert set(playlist) <= set(shipped_profiles().activities) <= set(ACTIVITIES)


def test_the_same_seed_gives_the_same_motion_and_another_seed_another() -> None:
    (one,), (same,), (other,) = (synthetic_watches(1, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(readings(one, 100), readings(same, 100))
    assert not np.array_equal(readings(one, 100)[:, 1:], readings(other, 100)[:, 1:])


def test_messages_are_the_recording_cut_in_pieces() -> None:
    (watch,) = synthetic_watches(1, seed=2)
    (stream,) = watch.recording(200).streams
    pieces = list(itertools.islice(watch.messages(33), 300))
    assert {len(piece) for piece in pieces} == {33}
    times = np.concatenate([piece.t_ns for piece in pieces])
    np.testing.assert_array_equal(times, stream.t_ns[: len(times)])
    acc = np.concatenate([piece.acc for piece in pieces if piece.acc is not None])
    assert stream.acc is not None
    np.testing.assert_array_equal(acc, stream.acc[: len(acc)])


def test_spans_cover_the_recording_without_holes() -> None:
    (watch,) = synthetic_watches(1)
    recording = watch.recording(500)
    assert recording.spans[0].start_ns == recording.start_ns == watch.start_ns
    assert recording.spans[-1].end_ns == recording.end_ns + 20_000_000
    for earlier, later in zip(recording.spans, recording.spans[1:], strict=False):
        assert earlier.end_ns == later.start_ns
        assert 40 <= (earlier.end_ns - earlier.start_ns) / 1e9 <= 80


@pytest.mark.parametrize("rate_hz", [10, 25, 200])
def test_any_rate_gives_an_exact_grid_and_gravity(rate_hz: int) -> None:
    (watch,) = synthetic_watches(1, rate_hz=rate_hz, playlist=["sitting"])
    (stream,) = watch.recording(60).streams
    assert (np.diff(stream.t_ns) == 1_000_000_000 // rate_hz).all()
    assert stream.acc is not None
    assert float(np.median(np.linalg.norm(stream.acc, axis=1))) == pytest.approx(STANDARD_GRAVITY, rel=0.1)


def test_watches_of_a_fleet_start_apart() -> None:
    starts = [watch.start_ns for watch in synthetic_watches(50)]
    assert len({start // 20_000_000 for start in starts}) > 25
    assert max(starts) - min(starts) < 3_000_000_000


def test_no_jump_lies_between_two_activities() -> None:
    # Running into sitting: within the blended second no step is larger than those of running itself.
    (watch,) = synthetic_watches(1, seed=3, playlist=["sitting", "standing"])
    recording = watch.recording(600)
    (stream,) = recording.streams
    assert stream.acc is not None
    steps = np.linalg.norm(np.diff(stream.acc, axis=0), axis=1)
    seams = np.searchsorted(stream.t_ns, [span.start_ns for span in recording.spans[1:]])
    assert steps[seams - 1].max() <= 2 * np.quantile(steps, 0.999)


def test_a_wrong_activity_or_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match="activity 'flying' has no profile; expected any of walking"):
        synthetic_watches(1, playlist=["flying"])
    with pytest.raises(ConfigError, match="rate 30 Hz: expected a divisor"):
        synthetic_watches(1, rate_hz=30)


def test_waving_is_for_whoever_asks_and_no_shipped_model_knows_it() -> None:
    assert set(gestures()) == {"waving"}
    assert not set(gestures()) & {*shipped_profiles().activities, *ACTIVITIES}
    (recording,) = (watch.recording(20) for watch in synthetic_watches(1, playlist=["waving"]))
    assert {span.activity for span in recording.spans} == {"waving"}
    (stream,) = recording.streams
    assert stream.acc is not None
    # A hand that swings with gravity along the forearm.
    assert np.abs(stream.acc.mean(axis=0)).argmax() == 0
    assert 7 < np.sqrt((stream.acc**2).sum(axis=1)).mean() < 20
