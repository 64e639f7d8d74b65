"""The data sets as published: counts, times, labels, and what is said when they are not there."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from simulator.datasets import fitbit, hapt, uci_har, wisdm
from simulator.datasets.location import DataSet, data_root, find, open_files
from simulator.datasets.timeline import EPOCH_NS, PAUSE_NS
from streamer.errors import RecordingError
from streamer.imu import STANDARD_GRAVITY
from streamer.recording import Recording


@pytest.fixture(scope="module")
def hapt_recordings(data_dir: Path) -> list[Recording]:
    return hapt.read_recordings(data_dir)


def hours(recordings: Sequence[Recording]) -> float:
    return sum(len(recording.streams[0]) for recording in recordings) / 50 / 3600


def test_hapt_has_61_experiments_of_30_subjects_as_published(hapt_recordings: list[Recording]) -> None:
    assert len(hapt_recordings) == 61
    assert {recording.subject for recording in hapt_recordings} == {str(subject) for subject in range(1, 31)}
    assert hours(hapt_recordings) == pytest.approx(6.24, abs=0.005)
    labelled_ns = sum(span.end_ns - span.start_ns for recording in hapt_recordings for span in recording.spans)
    assert labelled_ns / 3.6e12 / hours(hapt_recordings) == pytest.approx(0.73, abs=0.005)
    assert {span.activity for recording in hapt_recordings for span in recording.spans} == set(hapt.LABELS)


def test_hapt_readings_lie_on_an_exact_grid_and_gravity_is_there(hapt_recordings: list[Recording]) -> None:
    for recording in hapt_recordings:
        (stream,) = recording.streams
        assert stream.acc is not None
        assert stream.t_ns[0] == EPOCH_NS
        assert (np.diff(stream.t_ns) == 20_000_000).all()
        median_size = float(np.median(np.linalg.norm(stream.acc, axis=1)))
        assert median_size == pytest.approx(STANDARD_GRAVITY, rel=0.05)


def test_hapt_labels_count_samples_from_one(hapt_recordings: list[Recording]) -> None:
    # labels.txt begins with "1 1 5 250 1232": standing from the 250th to the 1232nd sample of experiment 1.
    first = hapt_recordings[0].spans[0]
    assert first.activity == "standing"
    assert (first.start_ns - EPOCH_NS) // 20_000_000 == 249
    assert (first.end_ns - EPOCH_NS) // 20_000_000 == 1232


def test_hapt_reads_only_the_subjects_asked_for(data_dir: Path, hapt_recordings: list[Recording]) -> None:
    two = hapt.read_recordings(data_dir, subjects={"2"})
    assert [recording.device_id for recording in two] == ["hapt-exp03", "hapt-exp04"]
    (whole,) = [recording for recording in hapt_recordings if recording.device_id == "hapt-exp04"]
    np.testing.assert_array_equal(two[1].streams[0].t_ns, whole.streams[0].t_ns)


def test_uci_har_has_the_published_windows(data_dir: Path) -> None:
    train, test = uci_har.read_windows(data_dir, "train"), uci_har.read_windows(data_dir, "test")
    assert train.signals.shape == (7352, 128, 9)
    assert test.signals.shape == (2947, 128, 9)
    # Check values of the data's README: what published notebooks print, to the float32 digits of a rebuilt copy.
    assert float(test.signals.mean()) == pytest.approx(0.09913989, abs=5e-8)
    assert float(test.signals.std()) == pytest.approx(0.39567083, abs=5e-8)
    assert set(train.labels) == set(uci_har.LABELS)
    assert {str(subject) for subject in test.subjects} == uci_har.TEST_SUBJECTS
    assert {str(subject) for subject in train.subjects} == uci_har.SUBJECTS - uci_har.TEST_SUBJECTS


def test_uci_har_channels_are_body_acc_then_gyro_then_total_acc(data_dir: Path) -> None:
    test = uci_har.read_windows(data_dir, "test")
    # Only total acceleration holds gravity; a phone at rest does not turn.
    lying = test.signals[test.labels == "lying"].mean(axis=1)
    assert np.median(np.linalg.norm(lying[:, 6:9], axis=1)) == pytest.approx(1.0, abs=0.05)
    assert np.median(np.linalg.norm(lying[:, 0:3], axis=1)) < 0.05
    assert np.median(np.linalg.norm(lying[:, 3:6], axis=1)) < 0.05


def test_stitched_uci_har_windows_cut_again_are_the_official_ones(data_dir: Path) -> None:
    official = uci_har.read_windows(data_dir, "test")
    recordings = {recording.subject: recording for recording in uci_har.read_recordings(data_dir, "test")}
    for subject in np.unique(official.subjects):
        recording = recordings[str(subject)]
        (stream,) = recording.streams
        assert stream.acc is not None
        assert stream.gyro is not None
        holes = np.flatnonzero(np.diff(stream.t_ns) != 20_000_000)
        assert (np.diff(stream.t_ns)[holes] == PAUSE_NS + 20_000_000).all()
        windows, labels = [], []
        for first, end in zip([0, *(holes + 1)], [*(holes + 1), len(stream)], strict=True):
            (span,) = [span for span in recording.spans if span.start_ns == stream.t_ns[first]]
            for start in range(first, end - 127, 64):
                rows = slice(start, start + 128)
                acc_g = stream.acc[rows] / STANDARD_GRAVITY
                windows.append(np.concatenate([stream.gyro[rows], acc_g], axis=1).astype(np.float32))
                labels.append(span.activity)
        own = official.subjects == subject
        np.testing.assert_array_equal(np.stack(windows), official.signals[own][:, :, 3:])
        assert labels == official.labels[own].tolist()


def test_uci_har_segments_last_16_seconds_in_the_median(data_dir: Path) -> None:
    recordings = uci_har.read_recordings(data_dir)
    lengths_s = [(span.end_ns - span.start_ns) / 1e9 for recording in recordings for span in recording.spans]
    assert len(recordings) == 30
    assert 16.0 <= float(np.median(lengths_s)) < 17.0


def test_wisdm_has_46_subjects_with_both_sensors_in_streams_of_their_own(data_dir: Path) -> None:
    recordings = wisdm.read_recordings(data_dir)
    assert len(recordings) == 46
    for recording in recordings:
        acc, gyro = recording.streams
        assert acc.gyro is None
        assert gyro.acc is None
        assert (np.diff(acc.t_ns) > 0).all()
        assert (np.diff(gyro.t_ns) > 0).all()
    spans = [span.activity for recording in recordings for span in recording.spans]
    assert set(spans) == set(wisdm.LABELS.values())
    # 46 times 18, less those that the data's README lists as missing: 1616-B, 1618-O, 1642-C and 1642-F.
    assert len(spans) == 46 * 18 - 4


def test_wisdm_activities_are_apart_by_a_pause_and_keep_their_own_times(data_dir: Path) -> None:
    (recording,) = wisdm.read_recordings(data_dir, subjects={"1610"})
    assert recording.start_ns == EPOCH_NS
    for earlier, later in zip(recording.spans, recording.spans[1:], strict=False):
        assert later.start_ns - earlier.end_ns == PAUSE_NS
    intervals_ns = np.diff(recording.streams[0].t_ns)
    assert float(np.median(intervals_ns)) == pytest.approx(49.93e6, rel=0.02)
    # From the file: two readings of walking.
    with open_files(data_dir, wisdm.DATA_SET) as files:
        rows = files.read("raw/watch/accel/data_1610_accel_watch.txt").decode().split("\n")[:2]
    first, second = (row.rstrip(";").split(",") for row in rows)
    (walking,) = [span for span in recording.spans if span.activity == "walking"]
    inside = np.flatnonzero(recording.streams[0].t_ns >= walking.start_ns)[:2]
    assert int(np.diff(recording.streams[0].t_ns[inside])[0]) == int(second[2]) - int(first[2])
    assert recording.streams[0].acc is not None
    assert recording.streams[0].acc[inside[0]].tolist() == [float(value) for value in first[3:]]


def test_fitbit_has_ten_blocks_of_ten_activities_and_pauses_between(data_dir: Path) -> None:
    (recording,) = fitbit.read_recordings(data_dir)
    (stream,) = recording.streams
    assert len(stream) == 5930
    assert sorted(span.activity for span in recording.spans) == sorted(fitbit.LABELS)
    for earlier, later in zip(recording.spans, recording.spans[1:], strict=False):
        assert later.start_ns - earlier.end_ns == PAUSE_NS
    holes = np.diff(stream.t_ns) != 100_000_000
    assert int(holes.sum()) == 9


def test_an_unpacked_folder_reads_like_the_archive(data_dir: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(data_dir / "HAPT Data Set.zip") as archive:
        wanted = [name for name in archive.namelist() if name.endswith(("user02.txt", "labels.txt"))]
        archive.extractall(tmp_path, wanted)
    packed, unpacked = (hapt.read_recordings(root, subjects={"2"}) for root in (data_dir, tmp_path))
    own_folder = hapt.read_recordings(tmp_path / "HAPT Data Set")
    assert [recording.spans for recording in packed] == [recording.spans for recording in unpacked]
    for one, other in zip(unpacked, own_folder, strict=True):
        np.testing.assert_array_equal(one.streams[0].t_ns, other.streams[0].t_ns)
    for one, other in zip(packed, unpacked, strict=True):
        first, second = one.streams[0].acc, other.streams[0].acc
        assert first is not None
        assert second is not None
        np.testing.assert_array_equal(first, second)


DATA_SETS = [module.DATA_SET for module in (uci_har, hapt, fitbit, wisdm)]


@pytest.mark.parametrize("data_set", DATA_SETS, ids=lambda data_set: data_set.name)
def test_a_missing_data_set_is_named_with_where_it_was_looked_for(data_set: DataSet, tmp_path: Path) -> None:
    with pytest.raises(RecordingError) as raised, open_files(tmp_path, data_set):
        pass
    message = str(raised.value)
    assert data_set.name in message
    assert str(tmp_path) in message
    assert data_set.page in message
    assert "\n" not in message


def test_a_damaged_archive_is_refused_with_its_path(tmp_path: Path) -> None:
    place = tmp_path / "HAPT Data Set.zip"
    place.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(RecordingError, match=r"HAPT Data Set\.zip: cannot be opened"):
        hapt.read_recordings(tmp_path)


def test_an_archive_without_the_data_sets_files_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "HAPT Data Set.zip", "w") as archive:
        archive.writestr("something.txt", "else")
    with pytest.raises(RecordingError, match=r"has no RawData/labels\.txt"):
        hapt.read_recordings(tmp_path)


def test_a_table_that_is_not_numbers_is_refused_with_its_name(data_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(data_dir / "fitbit", tmp_path / "fitbit")
    table = tmp_path / "fitbit" / "sensor_original.csv"
    table.chmod(0o644)
    table.write_text(table.read_text().replace("-8.3046875", "sideways", 1))
    with pytest.raises(RecordingError, match=r"sensor_original\.csv is not rows of ActivityID"):
        fitbit.read_recordings(tmp_path)


def test_the_folder_of_data_sets_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HAR_DATA_DIR", str(tmp_path))
    assert data_root() == tmp_path
    monkeypatch.delenv("HAR_DATA_DIR")
    assert data_root().name == "har-stream"
    assert find(tmp_path, hapt.DATA_SET) is None
