"""What is said of readings that are unlike the training data: real recordings with one thing wrong, and as they are."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundling import add_profile, training_profile
from models.recipes import RECIPES
from models.windows.data import Sitting
from models.windows.profile import profile_of
from simulator.datasets import fitbit, hapt, uci_har, wisdm
from simulator.datasets.location import data_root
from streamer.bundle import Manifest, find_bundle, load_bundle, save_bundle
from streamer.errors import BundleError
from streamer.explanation import Explanation, describe, explain, print_explanations
from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.likeness.finding import KINDS, Finding, Kind
from streamer.likeness.fleet import MOST_AT_ONCE, FleetLikeness
from streamer.likeness.judge import Judgement, Verdict, judge
from streamer.likeness.orientation import directions_of
from streamer.likeness.profile import CELLS, CENTERS, cell_of
from streamer.likeness.scale import seconds_of
from streamer.likeness.stretch import stretches_of
from streamer.live.board import Board
from streamer.notices import LINES, Notices
from streamer.recognizer import Recognizer
from streamer.recording import Recording, write_csv
from tests.bundles import make_bundle
from tests.likeness import CORRUPTIONS, applies, changed
from tests.programs import BIN

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "unlike-training.md"
MODELS: Final = {"hapt": "uci-har-cnn", "wisdm-watch": "wisdm-watch-cnn", "fitbit": "fitbit-cnn"}
#: What is not always found: see the page.
SELDOM: Final = {
    "hapt": {"axes (y, z, x)", "gyroscope negated"},
    "wisdm-watch": {"axes (y, z, x)", "x and y exchanged", "accelerometer's x, y exchanged", "accelerometer negated"},
    "fitbit": {"accelerometer's x, y exchanged"},
}
SECOND: Final = 1_000_000_000
#: Of a recording these first seconds, in which most activities come.
SECONDS: Final = {"hapt": 400, "wisdm-watch": 3600, "fitbit": 700}


@cache
def manifest_of(model: str) -> Manifest:
    return load_bundle(find_bundle(model)).manifest


def first(recording: Recording, seconds: float) -> Recording:
    """The beginning of a recording."""
    streams = [
        s[: int(np.searchsorted(s.t_ns, recording.start_ns + round(seconds * SECOND)))] for s in recording.streams
    ]
    return replace(recording, streams=tuple(streams), spans=())


@pytest.fixture(scope="module")
def recordings(data_dir: Path) -> dict[str, list[Recording]]:
    """A few training subjects of each data set; the first one's is tried, the others make the profile."""
    assert data_dir == data_root()
    subjects = ("7", "1", "5", "6", "8", "11", "14", "15")
    assert uci_har.TEST_SUBJECTS.isdisjoint(subjects)
    found = {
        "hapt": hapt.read_recordings(data_dir, subjects=subjects),
        "wisdm-watch": wisdm.read_recordings(data_dir, subjects=("1610", "1612", "1618", "1630", "1640")),
        "fitbit": fitbit.read_recordings(data_dir),
    }
    return {name: sorted(own, key=lambda r: r.subject != "7") for name, own in found.items()}


@pytest.fixture(scope="module")
def manifests(recordings: dict[str, list[Recording]]) -> dict[str, Manifest]:
    """Each data set's model, with a profile of the other people's recordings."""
    found = {}
    for name, own in recordings.items():
        others = [r for r in own if r.subject != own[0].subject] or own
        profile = training_profile(RECIPES[MODELS[name]], [Sitting(r.subject or "", r) for r in others])
        found[name] = msgspec.structs.replace(load_bundle(find_bundle(MODELS[name])).manifest, profile=profile)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_found_in_a_recording_as_it_is(
    recordings: dict[str, list[Recording]], manifests: dict[str, Manifest], name: str
) -> None:
    explanation = explain(recordings[name][0], manifests[name])
    assert explanation.findings == []
    assert explanation.like_training
    assert explanation.stretches > 10
    assert "looks like the training data of" in describe(explanation)
    low, high = explanation.training["gravity_ms2"]
    assert low <= explanation.figures["gravity_ms2"] <= high


@pytest.mark.parametrize("what", CORRUPTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_what_is_wrong_is_found_and_nothing_else(
    recordings: dict[str, list[Recording]], manifests: dict[str, Manifest], name: str, what: str
) -> None:
    if not applies(what, manifests[name]):
        return
    expected, change = CORRUPTIONS[what]
    explanation = explain(changed(first(recordings[name][0], SECONDS[name]), change), manifests[name])
    found = {finding.kind for finding in explanation.findings}
    assert found <= expected, describe(explanation)
    assert found or what in SELDOM[name], describe(explanation)


def test_each_sentence_says_what_was_seen_what_training_had_and_what_to_do(
    recordings: dict[str, list[Recording]], manifests: dict[str, Manifest]
) -> None:
    def sentence(what: str) -> str:
        (found,) = explain(changed(first(recordings["hapt"][0], 300), CORRUPTIONS[what][1]), manifests["hapt"]).findings
        return f"{found.seen}; {found.expected}: {found.advice}"

    in_g = sentence("acceleration in g")
    assert "|acc| at rest is 1" in in_g
    assert "the training data had 9." in in_g
    assert "multiply by 9.80665" in in_g
    negated = sentence("accelerometer negated")
    assert "gravity points along -x" in negated
    assert "there it pointed along +x" in negated
    assert "(x, y, z as (-x, " in negated
    slow = sentence("one reading of eight")
    assert "6.25 readings of acc come a second; the model takes 10 and more, its training data had 50 to 50" in slow


def test_what_needs_no_profile_is_found_without_one(
    recordings: dict[str, list[Recording]], manifests: dict[str, Manifest]
) -> None:
    manifest = msgspec.structs.replace(manifests["hapt"], profile=None)
    recording = first(recordings["hapt"][0], 300)
    assert explain(recording, manifest).findings == []
    assert "does not say what its training data was like" in describe(explain(recording, manifest))
    for what in ("acceleration in g", "gravity taken out", "gyroscope in deg/s", "times in ms"):
        found = explain(changed(recording, CORRUPTIONS[what][1]), manifest).findings
        assert {finding.kind for finding in found} <= CORRUPTIONS[what][0]
        assert found, what


def test_a_model_without_gyroscope_does_not_care_for_one(recordings: dict[str, list[Recording]]) -> None:
    manifest = load_bundle(find_bundle("wisdm-watch-cnn")).manifest
    channels = tuple(channel for channel in manifest.preprocessing.channels if not channel.startswith("gyro"))
    spec = msgspec.structs.replace(manifest.preprocessing, channels=channels, optional_sensors=())
    manifest = msgspec.structs.replace(manifest, preprocessing=spec)
    recording = changed(first(recordings["wisdm-watch"][0], 300), CORRUPTIONS["gyroscope frozen at 0"][1])
    assert explain(recording, manifest).findings == []
    without = replace(recording, streams=tuple(s for s in recording.streams if s.acc is not None))
    assert explain(without, manifest).findings == []
    assert [f.kind for f in explain(without, load_bundle(find_bundle("fitbit-cnn")).manifest).findings] == [
        "sensor_missing"
    ]


def test_a_finding_holds_once_two_stretches_in_a_row_show_it_and_is_told_once() -> None:
    def judgement(*kinds: Kind) -> Judgement:
        findings = tuple(Finding(kind=kind, seen="this", expected="that", advice="do", figures={}) for kind in kinds)
        return Judgement(findings, {}, np.zeros((2, CELLS), np.int64), 20 * SECOND)

    #   shown   -  holes  -  holes  holes  holes  -  -  holes  holes
    #   holds                       x      x      x     .      x
    #   told                        x
    verdict, course = Verdict(), []
    for shown in ((), ("holes",), (), ("holes",), ("holes",), ("holes",), (), (), ("holes",), ("holes",)):
        told = verdict.take(judgement(*shown), None)
        course.append(("holes" in verdict.holds, bool(told)))
    assert [holds for holds, _ in course] == [False] * 4 + [True] * 3 + [False] * 2 + [True]
    assert [told for _, told in course] == [False] * 4 + [True] + [False] * 5
    verdict = Verdict()
    seeming: tuple[tuple[Kind, ...], ...] = (("gravity_missing",), ("gravity_missing", "acceleration_in_g"))
    for kinds in (*seeming, ("acceleration_in_g",)):
        verdict.take(judgement(*kinds), None)
    assert list(verdict.holds) == ["acceleration_in_g"]


def test_cells_are_near_what_lies_in_them() -> None:
    assert cell_of(CENTERS).tolist() == list(range(CELLS))
    directions = np.random.default_rng(0).normal(size=(2000, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    cosines = (CENTERS[cell_of(directions)] * directions).sum(axis=1)
    assert np.degrees(np.arccos(cosines.min())) < 21


@given(
    n=st.integers(1, 300),
    times=st.sampled_from(["even", "same", "far", "any", "back"]),
    values=st.sampled_from(["noise", "zero", "large", "tiny"]),
    gyro=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_a_watch_may_send_is_judged_in_bounds(
    *, n: int, times: str, values: str, gyro: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    t_ns = {
        "even": np.arange(n) * 20_000_000,
        "same": np.full(n, 2**62 - 1),
        "far": np.sort(rng.integers(0, 2, n)) * (2**62 - 1),
        "any": rng.integers(0, 2**62, n),
        "back": np.arange(n)[::-1] * 20,
    }[times].astype(np.int64)
    scale = {"noise": 10.0, "zero": 0.0, "large": 1e4, "tiny": 1e-300}[values]
    readings = scale * rng.uniform(-1, 1, (2, n, 3))
    rate_hz = float(rng.choice([0.01, 50.0, 10_000.0])) if seed % 2 else None
    batch = ImuBatch("wrist", t_ns, readings[0], readings[1] if gyro else None, rate_hz)
    for name in MODELS.values():
        manifest = manifest_of(name)
        for stretch in stretches_of([batch[i : i + 20] for i in range(0, n, 20)]):
            told = judge(stretch, manifest)
            assert all(np.isfinite(list(finding.figures.values())).all() for finding in told.findings)
            assert np.isfinite(list(told.figures.values())).all()


# --- live -----------------------------------------------------------------------------------------------------------


def messages(device: str, seconds: float, unit: float = STANDARD_GRAVITY, start_s: float = 0.0) -> list[ImuBatch]:
    """A watch's messages of a second each, nearly at rest."""
    n, rng = round(seconds * 25), np.random.default_rng(3)
    acc = unit * (np.array([0.6, 0.0, 0.8]) + 0.02 * rng.normal(size=(n, 3)))
    t_ns = round(start_s * SECOND) + np.arange(n) * (SECOND // 25)
    return [ImuBatch(device, t_ns[i : i + 25], acc[i : i + 25], None) for i in range(0, n, 25)]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make_bundle(tmp_path_factory.mktemp("posture")).manifest


def run(fleet: FleetLikeness, batches: list[ImuBatch], from_s: float = 0.0) -> list[tuple[str, Kind]]:
    """Hand each message over a second after the one before; what was told."""
    return [
        (device, finding.kind)
        for second, batch in enumerate(batches)
        for device, finding in fleet.take([batch], round((from_s + second) * SECOND))
    ]


def test_live_watch_in_g_is_told_of_once_and_shown_until_it_is_mended(manifest: Manifest) -> None:
    fleet = FleetLikeness(manifest, lambda _: True)
    assert run(fleet, messages("wrist", 60, 1.0)) == [("wrist", "acceleration_in_g")]
    assert [finding.kind for finding in fleet.of("wrist")] == ["acceleration_in_g"]
    assert run(fleet, messages("wrist", 900, 1.0, 60), 60) == []
    assert run(fleet, messages("wrist", 3600, STANDARD_GRAVITY, 960), 960) == []
    assert fleet.of("wrist") == ()
    assert run(fleet, messages("good", 200)) == []
    assert fleet.of("nobody") == ()


def test_the_live_page_says_what_is_unlike_training_for_as_long_as_it_holds(tmp_path: Path) -> None:
    recognizer = Recognizer(make_bundle(tmp_path))
    fleet = FleetLikeness(recognizer.bundle.manifest, recognizer.watches.slot_of)
    board = Board(recognizer, fleet.of)

    def why(second: int) -> str:
        (row,) = board.rows(["wrist"], second * SECOND)
        return row.why

    for second, batch in enumerate(messages("wrist", 60, 1.0)):
        fleet.take(recognizer.recognize([batch], second * SECOND).batches, second * SECOND)
    assert why(60).startswith("|acc| at rest is 1 m/s²: this feed seems to be in g: multiply by 9.80665")
    for second, batch in enumerate(messages("wrist", 400, STANDARD_GRAVITY, 60), 60):
        fleet.take(recognizer.recognize([batch], second * SECOND).batches, second * SECOND)
    assert why(460) == ""


def test_a_fleet_is_looked_at_in_turn_and_costs_what_a_hundred_watches_do(manifest: Manifest) -> None:
    fleet = FleetLikeness(manifest, lambda _: True)
    names = [f"watch-{number:04}" for number in range(2 * MOST_AT_ONCE)]
    one = messages("", 260, 1.0)
    told: list[str] = []
    for second, batch in enumerate(one):
        for part in np.array_split(np.array(names), 30):
            batches = [replace(batch, device_id=str(name)) for name in part]
            told += [device for device, _ in fleet.take(batches, second * SECOND)]
            assert fleet.gathered <= MOST_AT_ONCE
    assert sorted(told) == names
    assert len(fleet) == len(names)


def test_names_that_are_no_watchs_any_more_are_forgotten(manifest: Manifest) -> None:
    fleet = FleetLikeness(manifest, lambda name: name == "stays")
    fleet.take(messages("stays", 1), 0)
    for number in range(5000):
        fleet.take([replace(batch, device_id=f"gone-{number}") for batch in messages("", 1)], 0)
    assert len(fleet) <= 1024


def test_ten_thousand_wrong_watches_are_a_handful_of_lines_a_minute(
    manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    counted: list[Kind] = []
    kinds: tuple[Kind, ...] = ("acceleration_in_g", "holes", "dead_axis")

    class Likeness(FleetLikeness):
        """Finds something wrong with a watch at each call."""

        def take(self, batches: object, now_ns: int) -> list[tuple[str, Finding]]:  # noqa: ARG002 # as it is called
            number = len(counted)
            kind = kinds[number % len(kinds)]
            finding = Finding(kind=kind, seen="this", expected="that", advice="do this", figures={})
            return [(f"watch-{number}", finding)] if number < 10_000 else []

    notices = Notices(Likeness(manifest, lambda _: True), "posture", counted.append)
    with caplog.at_level(logging.WARNING):
        for call in range(10_000):
            notices.take([], call * 6_000_000)  # within a minute
        assert len(caplog.messages) == LINES
        assert len(counted) == 10_000
        for minute in (2, 3, 4):
            notices.take([], minute * 60 * SECOND)
    assert len(caplog.messages) == LINES + len(kinds)
    assert caplog.messages[0] == (
        "watch watch-0 is unlike the training data of posture (acceleration_in_g): this; that: do this"
    )
    assert caplog.messages[-1].endswith("more")
    told = sum(1 + int(text.split()[-2]) if text.endswith(" more") else 1 for text in caplog.messages)
    assert told == 10_000


# --- bundles, command and page --------------------------------------------------------------------------------------


def test_a_profile_travels_in_the_bundle_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "posture")
    recording = Recording("wrist", "1", tuple(messages("wrist", 300)))
    profile = profile_of([Sitting("1", recording)], least_hz=8, max_gap_ns=SECOND)
    assert sum(profile.still) == pytest.approx(10_000, abs=CELLS)
    assert profile.moving == ()
    assert profile.rate_hz.median == 25
    saved = save_bundle(
        tmp_path / "posture", msgspec.structs.replace(bundle.manifest, profile=profile), bundle.model, bundle.golden
    )
    assert saved.manifest.profile == profile
    assert saved.digest != bundle.digest
    document = json.loads((tmp_path / "posture" / "bundle.json").read_text())
    document["profile"]["still"] = [1, 2, 3]
    (tmp_path / "posture" / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"profile\.still has 3 cells; expected none, or 96"):
        load_bundle(tmp_path / "posture")


@pytest.mark.usefixtures("data_dir")
def test_a_profile_is_added_to_a_bundle_and_its_model_stays_as_it_is(tmp_path: Path) -> None:
    before = load_bundle(find_bundle("fitbit-cnn"))
    after = add_profile(RECIPES["fitbit-cnn"], before, tmp_path / "with-profile")
    assert after.model == before.model
    assert after.manifest.profile is not None
    assert msgspec.structs.replace(after.manifest, profile=before.manifest.profile) == before.manifest
    (recording,) = fitbit.read_recordings(data_root())
    assert explain(recording, after.manifest).like_training


def test_profile_of_directions_is_that_of_the_readings() -> None:
    (stretch, *_) = stretches_of(messages("wrist", 20))
    assert stretch.acc is not None
    still, moving = directions_of(seconds_of(stretch.acc.t_ns, stretch.acc.values))
    assert still.sum() == 20
    assert CENTERS[np.flatnonzero(still)] @ [0.6, 0.0, 0.8] == pytest.approx(1, abs=0.1)
    assert moving.sum() == 0


def test_judging_a_stretch_takes_a_few_milliseconds_at_most(
    recordings: dict[str, list[Recording]], manifests: dict[str, Manifest]
) -> None:
    import time  # noqa: PLC0415 # one measurement

    stretches = list(stretches_of(recordings["hapt"][0].messages(50)))
    took = []
    for stretch in stretches:
        began = time.perf_counter()
        judge(stretch, manifests["hapt"])
        took.append(time.perf_counter() - began)
    assert np.median(took) < 0.05


@pytest.fixture(scope="module")
def in_g(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explain") / "wrist.csv"
    write_csv(path, [Recording("wrist", None, tuple(messages("wrist", 60, 1.0)))])
    return path


def classify(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "har-stream", "classify", *arguments], capture_output=True, text=True, check=False)


def test_classify_explains_for_people_and_for_programs(in_g: Path) -> None:
    shown = classify(str(in_g), "--explain")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "wrist: unlike the training data of wisdm-watch-cnn (60 s in 3 stretches)" in shown.stdout
    assert "  acceleration_in_g (in 3 of 3): |acc| at rest is 1 m/s²: this feed seems to be in g; " in shown.stdout
    assert "    next: multiply by 9.80665" in shown.stdout


def test_classify_hints_at_explain_where_it_recognises_nothing(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    write_csv(path, [Recording("short", None, tuple(messages("short", 2)))])
    ended = classify(str(path))
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "nothing was recognised; --explain says" in ended.stderr


def test_an_explanation_is_a_document_for_programs(
    manifest: Manifest, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    watches = {"in-g": 1.0, "good": STANDARD_GRAVITY}
    recordings = [Recording(name, None, tuple(messages(name, 60, unit))) for name, unit in watches.items()]
    print_explanations([explain(recording, manifest) for recording in recordings], as_json=True)
    in_g, good = (msgspec.json.decode(line, type=Explanation) for line in capfdbinary.readouterr().out.splitlines())
    assert (in_g.device, in_g.type, in_g.like_training, in_g.stretches) == ("in-g", "explanation", False, 3)
    assert [(found.kind, found.stretches) for found in in_g.findings] == [("acceleration_in_g", 3)]
    assert in_g.findings[0].figures["gravity_ms2"] == pytest.approx(1, abs=0.05)
    assert (good.like_training, good.findings, good.training) == (True, [], {})
    short = explain(Recording("short", None, tuple(messages("short", 2))), manifest)
    assert describe(short) == "short: too few readings to say whether they are like the training data of posture"


def test_the_page_explains_every_finding() -> None:
    text = PAGE.read_text()
    assert [kind for kind in KINDS if f"\n| `{kind}` |" not in text] == []


def test_nothing_of_training_is_imported_to_explain() -> None:
    code = "import sys, streamer.explanation; print([m for m in sys.modules if m in {'models', 'torch', 'sklearn'}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
