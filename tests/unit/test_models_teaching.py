"""Teaching a finished model: what it learns, what it keeps, and what is wrong with recordings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.fitting.training import predict
from models.lessons.lesson import Lesson
from models.lessons.own_recordings import placed, read_own
from models.lessons.rehearsal import made_up_windows
from models.lessons.teaching import teach
from models.lessons.tuning import Pupil, Teaching, deal, one_thread, probabilities
from models.nets.export import to_onnx
from models.nets.importing import import_network
from models.scoring.assessment import evaluate_bundle
from models.windows.data import LabelledWindows, time_blocks
from simulator.datasets import fitbit
from simulator.synthetic import synthetic_watches
from streamer.bundle import ModelBundle, find_bundle, load_bundle, shipped_bundles
from streamer.classifier import Classifier
from streamer.errors import BundleError, ConfigError
from streamer.imu import ImuBatch
from streamer.offline import classify_file
from streamer.preprocessing.pipeline import windows_of
from streamer.recording import ActivitySpan, Recording, write_csv
from tests.bundles import make_bundle

BASE = "wisdm-watch-cnn"
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def base() -> ModelBundle:
    return load_bundle(find_bundle(BASE))


# Taking a model up again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_bundles())
def test_network_of_a_shipped_model_gives_its_answers_and_its_graph_to_the_byte(name: str) -> None:
    bundle = load_bundle(find_bundle(name))
    network = import_network(bundle)
    assert to_onnx(network, window_len=bundle.spec.window_len) == bundle.model
    windows = np.array(bundle.golden.windows)
    # float32 sums in another order.
    np.testing.assert_allclose(predict(network, windows), Classifier(bundle).predict(windows), atol=2e-6)


def test_model_of_another_kind_cannot_learn_further(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"^model of bundle posture: cannot learn further \(.+\); expected one that"):
        import_network(make_bundle(tmp_path))


# Keeping what was known --------------------------------------------------------------------------------------------


def test_made_up_motion_keeps_what_a_new_activity_would_drive_out(base: ModelBundle) -> None:
    network = import_network(base)
    (waving,) = synthetic_watches(1, seed=1, playlist=["waving"])[0].recording(60).streams
    windows = windows_of([waving], base.spec).samples
    others = made_up_windows(base.spec, seed=1)
    kept = {}
    for keep in (0.0, 16.0):
        pupil = Pupil(network, made_up_windows(base.spec, seed=0), new=1, teaching=Teaching(keep=(keep,)))
        with one_thread():
            head = pupil.taught(pupil.features(windows), np.full(len(windows), len(base.labels))).head
        assert (probabilities(head, pupil.features(windows)).argmax(1) == len(base.labels)).all()
        asked = pupil.features(others)
        same = probabilities(head, asked).argmax(1) == probabilities(network.head, asked).argmax(1)
        kept[keep] = float(same.mean())
    assert kept[0.0] < 0.9
    assert kept[16.0] > 0.98


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=60))
def test_each_recording_is_held_out_once_and_no_part_takes_all_of_an_activity(pairs: list[tuple[int, int]]) -> None:
    targets, groups = np.array([t for t, _ in pairs]), np.array([f"r{g}" for _, g in pairs])
    windows = LabelledWindows(np.empty((len(pairs), 1, 1), np.float32), targets, groups, np.zeros(len(pairs), np.int64))
    parts = deal(windows)
    assert sorted(name for part in parts for name in part) == sorted(set(groups.tolist()))
    for target in set(targets.tolist()):
        own = {g for t, g in zip(targets.tolist(), groups.tolist(), strict=True) if t == target}
        if len(own) > 1 and all(len({t for t, g in pairs if f"r{g}" == name}) == 1 for name in own):
            assert not any(own <= set(part) for part in parts)


# From recordings to a bundle ---------------------------------------------------------------------------------------


def write(path: Path, activity: str | None, *, seed: int = 0, seconds: float = 30.0, rate_hz: int = 50) -> Path:
    """A recording of a synthetic watch."""
    moves = activity if activity in {"walking", "sitting", "waving"} else "waving"
    recording = synthetic_watches(1, seed=seed, rate_hz=rate_hz, playlist=[moves])[0].recording(seconds)
    spans = [ActivitySpan(activity, s.start_ns, s.end_ns) for s in recording.spans] if activity else []
    write_csv(path, [Recording(recording.device_id, None, recording.streams, tuple(spans), recording.rate_hz)])
    return path


def test_own_activity_is_learned_from_recordings_and_served(tmp_path: Path) -> None:
    data = tmp_path / "mine"
    data.mkdir()
    for number in range(3):
        write(data / f"waving-{number}.csv", "waving", seed=number)
    for number in range(2):
        write(data / f"walking-{number}.csv", "walking", seed=number)
    bundle, lesson = teach(data, BASE, tmp_path / "my-model")
    assert (lesson.new, lesson.folds, len(lesson.sources)) == (("waving",), 5, 5)
    assert lesson.before.per_class["waving"].recall == 0
    assert lesson.after.per_class["waving"].recall > 0.5
    assert lesson.after.per_class["walking"].recall >= lesson.before.per_class["walking"].recall - 0.1
    assert lesson.kept > 0.98
    assert bundle.labels == (*load_bundle(find_bundle(BASE)).labels, "waving")
    assert len(bundle.model) < 1_000_000
    # A recording that nobody has learned from, by the live recognizer.
    unheard = write(tmp_path / "unheard.csv", "waving", seed=77)
    told = [e.activity for e in classify_file(unheard, model=str(tmp_path / "my-model")) if e.type == "start"]
    assert told[-1] == "waving"
    card = (tmp_path / "my-model" / "CARD.md").read_text()
    for text in (bundle.digest, load_bundle(find_bundle(BASE)).digest, "waving-0.csv", "waving (new)", "Weiss"):
        assert text in card


def test_taught_model_can_be_taught_again(tmp_path: Path) -> None:
    for folder, activity in (("one", "waving"), ("two", "beating_eggs")):
        (tmp_path / folder).mkdir()
        for number in range(2):
            write(tmp_path / folder / f"{number}.csv", activity, seed=number, seconds=15)
    teach(tmp_path / "one", BASE, tmp_path / "first")
    bundle, lesson = teach(tmp_path / "two", str(tmp_path / "first"), tmp_path / "second")
    assert bundle.labels[-2:] == ("waving", "beating_eggs")
    assert lesson.base == "first"


def test_real_watch_of_another_make_teaches_three_activities(data_dir: Path, tmp_path: Path) -> None:
    # Fitbit's one person does what WISDM's did not. Quarters of a minute stand for recordings: one sitting, told so in
    # the documentation; the base has met neither person nor watch.
    new = ("jumping", "squats", "sit_ups")
    (tmp_path / "mine").mkdir()
    for recording in fitbit.read_recordings(data_dir):
        for block in time_blocks(recording, 4):
            (span,) = block.recording.spans
            if span.activity in (*new, "walking", "running"):
                write_csv(tmp_path / "mine" / f"{span.activity}-{block.group[-1]}.csv", [block.recording])
    bundle, lesson = teach(tmp_path / "mine", BASE, tmp_path / "sporty")
    assert lesson.new == ("jumping", "sit_ups", "squats")
    recalls = {label: lesson.after.per_class[label].recall for label in lesson.activities}
    assert recalls["jumping"] >= 0.9
    assert recalls["squats"] >= 0.8
    assert recalls["sit_ups"] >= 0.6
    assert recalls["walking"] >= 0.9
    assert recalls["running"] >= 0.9
    assert lesson.before.accuracy < 0.5
    assert lesson.after.accuracy > 0.85
    # What it knew of others, on data that the base has learned from and the lesson has not seen.
    known = evaluate_bundle(bundle, "fitbit").figures.per_class
    assert known["standing"].recall >= 0.7
    assert known["sitting"].recall >= 0.7


# Wrong recordings --------------------------------------------------------------------------------------------------


def refusal(data: Path, bundle: ModelBundle, *, new: Sequence[str] = ()) -> str:
    with pytest.raises(ConfigError) as raised:
        read_own(data, bundle, new=new)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_folder_without_recordings_is_named(tmp_path: Path, base: ModelBundle) -> None:
    assert (
        refusal(tmp_path / "absent", base)
        == f"--data {tmp_path / 'absent'}: no such folder; expected one with recordings"
    )
    (tmp_path / "notes.txt").touch()
    assert refusal(tmp_path, base).startswith(f"--data {tmp_path}: holds no recordings; expected files .csv, .jsonl,")


def test_recording_that_cannot_teach_is_named_with_the_reason(tmp_path: Path, base: ModelBundle) -> None:
    cases = {
        "unlabelled.csv": (
            None,
            30.0,
            50,
            "nothing in it is labelled; expected a label, as by simulator record --label",
        ),
        "short.csv": ("walking", 3.0, 50, r"labelled for 3.0 s at a time; expected 5.0 s at least, a window of wisdm"),
        "slow.csv": ("walking", 30.0, 5, "synthetic-001 has 5 readings a second; wisdm-watch-cnn needs 10 or more"),
        "shouted.csv": ("WALKING", 30.0, 50, "label 'WALKING' is no name of an activity; .*did you mean walking?"),
        "slip.csv": ("walkng", 30.0, 50, "label 'walkng' is no activity of wisdm-watch-cnn; did you mean walking?"),
        "single.csv": (
            "waving",
            30.0,
            50,
            r"label waving is in one recording only \(single.csv\); expected 2 at least",
        ),
    }
    for name, (activity, seconds, rate_hz, expected) in cases.items():
        path = write(tmp_path / name, activity, seconds=seconds, rate_hz=rate_hz)
        assert re.search(expected, refusal(path, base)), name


def test_recording_without_the_sensor_that_the_base_needs_is_named(tmp_path: Path) -> None:
    t_ns = np.arange(1000) * (SECOND // 50)
    batch = ImuBatch("w", t_ns, np.ones((1000, 3)), None)
    path = tmp_path / "w.csv"
    write_csv(path, [Recording("w", None, (batch,), (ActivitySpan("walking", 0, 20 * SECOND),))])
    assert refusal(path, load_bundle(find_bundle("uci-har-lstm"))) == "w.csv: w has no gyro; uci-har-lstm needs it"


def test_name_near_a_known_one_is_taken_when_it_is_said_to_be_new(tmp_path: Path, base: ModelBundle) -> None:
    for number in range(2):
        write(tmp_path / f"{number}.csv", "walkings", seed=number)
    assert "A new one is taught by --new walkings" in refusal(tmp_path, base)
    assert len(read_own(tmp_path, base, new=["walkings"])) == 2
    assert refusal(tmp_path, base, new=["walkings", "runs"]).startswith("--new runs: no recording is labelled so; ")


def test_name_of_a_group_is_an_activity_only_where_it_is_meant(tmp_path: Path, base: ModelBundle) -> None:
    for number in range(2):
        write(tmp_path / f"{number}.csv", "eating", seed=number)
    assert refusal(tmp_path, base) == (
        "0.csv: label 'eating' names a group of activities; expected one that is in it, or where it is meant as an "
        "activity --new eating"
    )
    assert len(read_own(tmp_path, base, new=["eating"])) == 2


def test_own_activity_is_placed_in_a_group_of_the_tree_or_refused(tmp_path: Path) -> None:
    labels, own = ("walking", "waving", "desk_work"), ("waving",)
    assert placed(["waving=moving"], labels, own) == {"waving": "moving"}
    for option, expected in {
        "wavng=moving": "--group wavng=moving: no recording is labelled wavng; expected LABEL=GROUP with one of waving",
        "waving": "--group waving: nothing is no group; expected one of moving, on_foot, stairs, still, eating_or_",
        "waving=movng": "did you mean moving?",
        # It is an activity of this model.
        "waving=desk_work": "--group waving=desk_work: desk_work is no group; ",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(expected)):
            placed([option], labels, own)
    (tmp_path / "own").mkdir()
    for number in range(2):
        write(tmp_path / "own" / f"{number}.csv", "waving", seed=number, seconds=12)
    bundle, _ = teach(tmp_path / "own", BASE, tmp_path / "placed", groups=["waving=moving"])
    assert bundle.manifest.groups == {"waving": "moving"}
    assert dict(zip(bundle.labels, bundle.paths, strict=False))["waving"] == ("moving",)
    # What it learns next, it learns as the model that it is.
    again, _ = teach(tmp_path / "own", str(tmp_path / "placed"), tmp_path / "twice")
    assert again.manifest.groups == {"waving": "moving"}


def test_lesson_is_the_same_once_more_and_replaces_nothing_by_accident(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"{number}.csv", "waving", seed=number, seconds=12)
    bundle, lesson = teach(tmp_path, BASE, tmp_path / "narrow")
    assert "All recordings are of waving" in lesson.text()
    assert Lesson.json(lesson).startswith(b"{")
    with pytest.raises(ConfigError, match="is there already; expected a new name, or --force to replace it"):
        teach(tmp_path, BASE, tmp_path / "narrow")
    again, _ = teach(tmp_path, BASE, tmp_path / "narrow", force=True)
    assert again.digest == bundle.digest


def test_base_of_few_features_gives_way_as_far_as_it_must(tmp_path: Path) -> None:
    # Held to its answers as tightly as others are, the LSTM of 32 features cannot learn it at all.
    for number in range(2):
        write(tmp_path / f"{number}.csv", "waving", seed=number, seconds=12)
    _, lesson = teach(tmp_path, "uci-har-lstm", tmp_path / "waist")
    assert lesson.keep < 16
    assert lesson.after.per_class["waving"].recall > 0.5
