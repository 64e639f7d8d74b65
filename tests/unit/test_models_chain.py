"""What is learned of which state follows which, on whom, and what windows gain by their past."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.bundling import make_bundle
from models.fitting.calibration import Calibration, calibrate
from models.fitting.chain import (
    count_steps,
    counted_steps,
    filtered,
    fit_chain,
    fit_chained,
    forward,
    on_the_feet,
    unscripted,
    widened,
)
from models.fitting.smoothing import Course, fit_smoothing, gain
from models.fitting.training import make_network, predict, training_windows
from models.lessons.teaching import teach
from models.nets.importing import import_network
from models.recipes import Pass, Recipe, Schedule
from models.scoring.crossvalidation import CrossValidation
from models.scoring.held_out import crossvalidate, plan
from models.scoring.past import Past, blocks_at, dense_windows, official_pasts, with_past
from models.scoring.robustness import score_variations
from models.windows.data import Sitting, labelled_windows, official_windows, sittings_of
from models.windows.unworn import EVALUATION_SEED, unworn_windows
from models.windows.variations import VARIATIONS
from simulator.datasets import hapt, uci_har
from streamer.bundle import ModelBundle, Smoothing, save_bundle
from streamer.chain import Chain
from streamer.classifier import Classifier
from streamer.errors import ConfigError
from streamer.imu import ImuBatch
from streamer.offline import classify_file
from streamer.preprocessing.pipeline import windows_of
from streamer.preprocessing.spec import UCI_HAR
from streamer.recognizer import Recognizer
from streamer.recording import ActivitySpan, Recording
from streamer.tracking import ActivityTracker
from tests.unit.test_models_teaching import write
from tests.unit.test_models_training import TINY

LABELS: Final = ("walking", "sitting", "standing")
PASSAGES: Final = ("sit_to_stand", "stand_to_sit")
SECOND: Final = 1_000_000_000
#: Steps per second and swing in m/s² of what is not still, and how gravity leans before and after; nobody's.
MOTION: Final = {"walking": (1.8, 3.0), "sitting": (0.2, 0.1), "standing": (0.2, 0.1)}
SCRIPT: Final = ("standing", "stand_to_sit", "sitting", "sit_to_stand", "standing", "walking") * 3

RISING: Recipe = dataclasses.replace(
    TINY,
    name="rising",
    dataset="hapt",
    labels=LABELS,
    passages=PASSAGES,
    chained=True,
    kin=(("sitting", "standing"),),
    spec=msgspec.structs.replace(TINY.spec, window_len=40, hop_len=20),
    passes=(Pass(hop_len=10),),
    unworn_s=15.0,
    schedule=Schedule(epochs=6, windows_per_epoch=600, batch_size=32, learning_rate=5e-3),
    folds=2,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def person(seed: int) -> Sitting:
    """Three minutes of sitting down, getting up and walking; sitting and standing look alike."""
    rng = np.random.default_rng(seed)
    parts, spans, begin = [], [], 0
    for activity in SCRIPT:
        n = int(rng.uniform(50, 70)) if activity in PASSAGES else int(rng.uniform(160, 240))
        cadence_hz, swing = MOTION.get(activity, (0.0, 0.0))
        phase = 2 * np.pi * cadence_hz * np.arange(n) / 20
        wave = swing * np.stack([np.sin(phase), np.cos(phase), np.sin(2 * phase)], axis=1)
        if activity in PASSAGES:
            sign = 1.0 if activity == "sit_to_stand" else -1.0
            wave[:, 0] = sign * 5.0 * np.sin(np.linspace(0, 2 * np.pi, n))
        parts.append(wave + [0.0, 2.0, 9.6] + 0.3 * rng.normal(size=(n, 3)))
        spans.append(ActivitySpan(activity, begin * SECOND // 20, (begin + n) * SECOND // 20))
        begin += n
    stream = ImuBatch("w", np.arange(begin) * (SECOND // 20), np.concatenate(parts), None, rate_hz=20.0)
    return Sitting(str(seed), Recording("w", str(seed), (stream,), tuple(spans), 20.0))


@pytest.fixture(scope="module")
def people() -> list[Sitting]:
    return [person(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def calibration(people: list[Sitting]) -> Calibration:
    torch.set_num_threads(1)
    return calibrate(RISING, people, seed=0)


@pytest.fixture(scope="module")
def rising(people: list[Sitting], calibration: Calibration, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    network, _ = make_network(RISING, people, training_windows(RISING, people, seed=0), seed=0)
    return make_bundle(RISING, network, calibration, tmp_path_factory.mktemp("rising"), seed=0)


def course(states: str, sure: float, seed: int = 0) -> Course:
    """States w, s, t, u (sit_to_stand) and d, of which windows tell s from t by `sure` and all else by 0.9."""
    rng = np.random.default_rng(seed)
    truth = np.array(["wstud".index(state) for state in states])
    probabilities = np.full((len(truth), 5), 0.025)
    probabilities[np.arange(len(truth)), truth] = 0.9
    still = np.isin(truth, (1, 2))
    taken = np.where(rng.uniform(size=len(truth)) < sure, truth, 3 - truth)
    probabilities[still] = 0.025
    probabilities[still, taken[still]] = 0.5
    probabilities[still, 3 - taken[still]] = 0.425
    labels = np.where(truth < 3, truth, -1)
    bouts = int((np.diff(labels[labels >= 0]) != 0).sum()) + 1
    return Course(probabilities, np.arange(len(truth)) * SECOND, labels, bouts, truth)


# --- fitting ----------------------------------------------------------------------------------------------------------


def test_steps_keep_what_may_follow_and_how_long_it_lasts_and_forget_the_script() -> None:
    #        standing always before sitting, walking always behind it
    states = "t" * 8 + "dd" + "s" * 8 + "uu" + "t" * 8 + "w" * 16
    counts = count_steps([course(states * 5, 1.0)], 6)
    assert counts[0, 2] == 4, "walking is followed by standing, where a day begins anew"
    assert counts[0, 4] == counts[2, 1] == 0
    feet = on_the_feet(LABELS)
    assert feet == [0, 2]
    free = unscripted(counts, feet)
    np.testing.assert_allclose(free.sum(axis=1), counts.sum(axis=1))
    np.testing.assert_array_equal(np.diag(free), np.diag(counts))
    assert (free[0] > 0).tolist() == [True, False, True, False, True, False], "from walking one may sit down, too"
    assert free[0, 2] == free[0, 4]
    assert (free[3] > 0).tolist() == [True, False, True, True, False, False], "getting up leads to walking, too"
    assert (free[1] > 0).tolist() == [False, True, False, True, False, False], "no way up but getting up"
    steps = counted_steps(free, 1e-3)
    np.testing.assert_allclose(steps.sum(axis=1), 1)
    assert steps.min() > 0


def test_steps_skip_what_is_not_labelled() -> None:
    one = course("sssttt", 1.0)
    holed = dataclasses.replace(one, states=np.array([1, 1, -1, -1, 2, 2]))
    assert count_steps([holed], 6)[1:3, 1:3].tolist() == [[1, 1], [0, 1]]


def test_a_chain_tells_apart_what_windows_do_not() -> None:
    states = ("t" * 12 + "dd" + "s" * 12 + "uu" + "w" * 8) * 4
    courses = [course(states, 0.7, seed) for seed in range(6)]
    plain = fit_smoothing(courses, 3)
    chain = fit_chain(courses, LABELS, kin=(("sitting", "standing"),))
    smoothing = fit_chained(courses, 3, chain, ())
    assert chain.kin == ((1, 2),)
    assert chain.within < chain.evidence
    told = [own.probabilities[:, :3].argmax(axis=1) for own in filtered(courses, chain)]
    right = [(answer == own.truth)[own.truth >= 0].mean() for answer, own in zip(told, courses, strict=True)]
    alone = [(c.probabilities[:, :3].argmax(axis=1) == c.truth)[c.truth >= 0].mean() for c in courses]
    assert np.mean(alone) < 0.85
    assert np.mean(right) > 0.97
    assert gain(courses, smoothing, 3) > gain(courses, plain, 3) + 0.1


def test_a_chain_is_about_as_sure_as_it_is_right_where_windows_err_together() -> None:
    # Of every fifth bout all windows err alike, as those of a person do whom a model takes wrongly.
    rng = np.random.default_rng(0)
    bouts, length = 100, 20
    truth = np.repeat(np.arange(bouts) % 2, length)
    taken = np.where(np.repeat(rng.uniform(size=bouts) < 0.2, length), 1 - truth, truth)
    windows = np.where(np.arange(2) == taken[:, None], 0.8, 0.2)
    one = Course(windows, np.arange(len(truth)) * SECOND, truth, bouts, truth)
    chain = fit_chain([one], ("walking", "sitting"), hop_s=1.0)
    assert chain.repeated > 0

    def too_sure(by: Chain) -> float:
        told = filtered([one], by)[0].probabilities
        return float(told.max(axis=1).mean() - (told.argmax(axis=1) == truth).mean())

    assert too_sure(msgspec.structs.replace(chain, repeated=0.0)) > 0.15
    assert abs(too_sure(chain)) < 0.07


def test_where_recordings_hold_one_activity_each_all_follow_all() -> None:
    chain = fit_chain([course("w" * 30 + "s" * 30, 1.0)], LABELS, hop_s=1.0)
    steps = np.array(chain.steps)
    off = steps[~np.eye(6, dtype=np.bool_)]
    assert np.ptp(off) < 1e-7
    assert chain.within == chain.evidence


def test_what_is_fitted_on_is_what_is_served() -> None:
    courses = [course("tttddsssuuwww" * 3, 0.7, seed) for seed in range(3)]
    chain = fit_chain(courses, LABELS, kin=(("sitting", "standing"),))
    tracker = ActivityTracker(
        3, Smoothing(weight=1, enter=0.5, leave=0.3, dwell=1, chain=chain), capacity=1, passages=2
    )
    found = forward([one.probabilities for one in courses], chain)
    for one, own in zip(courses, found, strict=True):
        tracker.reset(0)
        for row, start_ns, expected in zip(one.probabilities, one.start_ns, own, strict=True):
            tracker.update(np.array([0]), row[None], np.array([start_ns]))
            assert tracker.smoothed[0].tobytes() == expected.tobytes()


def test_a_widened_chain_is_a_chain_that_may_be_anywhere_new() -> None:
    chain = fit_chain([course("tttddsssuuwww" * 3, 0.7)], LABELS, kin=(("sitting", "standing"),))
    wide = widened(chain, 3, 2)
    assert (wide.states, wide.kin) == (chain.states + 2, ((1, 2),))
    steps, known = np.array(wide.steps), np.array(chain.steps)
    old = [0, 1, 2, 5, 6, 7]
    np.testing.assert_allclose(np.diag(steps)[old], np.diag(known), atol=1e-6)
    assert steps[:, 3:5].min() > 0
    assert widened(chain, 3, 0) is chain


# --- the past ---------------------------------------------------------------------------------------------------------


def test_no_window_is_answered_by_a_later_one() -> None:
    one = course("tttddsssuuwww" * 3, 0.7)
    chain = fit_chain([one], LABELS)
    rows = np.arange(len(one.truth))
    changed = one.probabilities.copy()
    changed[20:] = changed[20:][::-1]
    found, other = (
        with_past([Past(values.astype(np.float32), rows, rows * 0)], chain, len(rows))
        for values in (one.probabilities, changed)
    )
    np.testing.assert_array_equal(found[:20], other[:20])
    assert not np.array_equal(found[20:], other[20:])


def test_blocks_begin_and_end_on_the_feet() -> None:
    # t standing, d sitting down, s sitting, u getting up, w walking, each of 10 s
    #        t d s u t d s u w t         0 .. 100 s
    #        [       .|      |. |. ]     in the middle of standing between two passages, behind getting up and walking
    names = dict(zip("tdsuw", ("standing", "stand_to_sit", "sitting", "sit_to_stand", "walking"), strict=True))
    spans = [ActivitySpan(names[a], i * 10 * SECOND, (i + 1) * 10 * SECOND) for i, a in enumerate("tdsutdsuwt")]
    assert blocks_at(np.array([0, 44, 46, 79, 81, 89, 91]) * SECOND, spans).tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_shuffled_blocks_are_the_same_windows_in_another_order() -> None:
    one = course("tttddsssuuwww" + "wwwtttttttttt" + "wwwwwwwwwwwww", 1.0)
    chain = fit_chain([one], LABELS)
    rows = np.arange(len(one.truth))
    past = Past(one.probabilities.astype(np.float32), rows, rows // 13)
    in_order, shuffled = with_past([past], chain, len(rows)), with_past([past], chain, len(rows), seed=0)
    assert not np.array_equal(in_order, shuffled)
    # By its end a block has told what was before it.
    np.testing.assert_allclose(in_order[12::13], shuffled[12::13], atol=0.02)


def test_windows_cut_from_a_few_are_those_of_the_streaming_code_bit_for_bit(data_dir: Path) -> None:
    (stream,) = hapt.read_recordings(data_dir, subjects={"1"})[0].streams
    part = stream[:2000]
    samples, start_ns = dense_windows([part])
    each = windows_of([part], msgspec.structs.replace(UCI_HAR, hop_len=1))
    assert 0 <= len(each) - len(samples) < 8
    np.testing.assert_array_equal(samples, each.samples[: len(samples)])
    np.testing.assert_array_equal(start_ns, each.start_ns[: len(samples)])


@pytest.mark.parametrize("hop_len", [64, 32])
def test_official_windows_are_found_in_the_recordings_and_have_the_windows_before_them(
    data_dir: Path, hop_len: int
) -> None:
    with (data_dir / "uci_har_windows.csv").open(newline="") as file:
        listed = [row for row in csv.DictReader(file) if row["split"] == "train"]
    truth = official_windows("train", uci_har.LABELS)
    own = truth.groups == "1"
    met = [sitting for sitting in sittings_of("hapt") if sitting.group == "1"]
    asked: list[int] = []

    def predict(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(len(windows))
        return np.full((len(windows), 6), 1 / 6, np.float32)

    pasts = official_pasts(met, truth[own], predict, hop_len=hop_len)
    places = [row for row, mine in zip(listed, own.tolist(), strict=True) if mine]
    phases = {(row["hapt_experiment"], int(row["start_sample_0based"]) % hop_len) for row in places}
    assert len(pasts) == len(phases)
    found = {int(row): at for past in pasts for at, row in enumerate(past.rows.tolist()) if row >= 0}
    assert [found[i] for i in range(len(places))] == [int(row["start_sample_0based"]) // hop_len for row in places]
    assert sum(asked) == len(places) + sum(len(past.rows) for past in pasts)


# --- a recipe with passages -------------------------------------------------------------------------------------------


def test_a_chain_is_fitted_on_everybody_by_fits_that_did_not_see_them(calibration: Calibration) -> None:
    assert calibration.groups == ("0", "1", "2", "3")
    chain = calibration.smoothing.chain
    assert chain is not None
    assert chain.states == len(LABELS) + len(PASSAGES) + 1
    steps = np.array(chain.steps)
    sitting, standing, rising = 1, 2, 3
    assert steps[rising, standing] > 10 * steps[sitting, standing], "nobody stands that has not got up"


def test_its_bundle_tells_sitting_from_standing_by_the_passage(rising: ModelBundle) -> None:
    assert (rising.labels, rising.manifest.passages) == (LABELS, PASSAGES)
    unseen = person(99).recording
    (stream,) = unseen.streams
    told = Recognizer(rising).classify(stream.t_ns, stream.acc, rate_hz=20.0)
    truth = [span for span in unseen.spans if span.activity in LABELS]
    right = sum(
        max(0, min(span.end_ns, bout.end_ns) - max(span.start_ns, bout.start_ns))
        for span in truth
        for bout in told
        if bout.activity == span.activity
    )
    assert right / sum(span.end_ns - span.start_ns for span in truth) > 0.85


def test_its_bundle_tells_that_nobody_wears_a_watch_on_a_table(rising: ModelBundle) -> None:
    classifier = Classifier(rising)
    table = unworn_windows(rising.spec, seed=EVALUATION_SEED - 1, count=10, kinds=("table",))
    worn = labelled_windows([person(98)], rising.spec, LABELS)
    assert classifier.predict(table).sum(axis=1).mean() < 0.5 < classifier.predict(worn.samples).sum(axis=1).mean()
    again = import_network(rising)
    assert again.worn is not None
    # float32 sums in another order.
    np.testing.assert_allclose(predict(again, table), classifier.predict(table), atol=1e-5)


def test_cross_validation_scores_windows_alone_and_with_their_past(people: list[Sitting]) -> None:
    brief = dataclasses.replace(RISING, schedule=dataclasses.replace(RISING.schedule, epochs=2))
    found: CrossValidation = crossvalidate(brief, plan(brief, only_folds=(0,)), sittings=people)
    (run,) = found.runs
    assert set(run.calibrated_on) == {"0", "1", "2", "3"} - set(run.groups)
    past = run.with_past
    assert past is not None
    assert past.shuffled is not None
    assert past.in_order.n == past.shuffled.n == run.n
    assert past.in_order.per_group.keys() == past.shuffled.per_group.keys() == set(run.groups)
    assert past.in_order.confusion != past.shuffled.confusion or past.in_order.log_loss != past.shuffled.log_loss
    assert "  with their past, first seed: accuracy " in found.text()
    assert found.with_past_over_seeds["in order"]["accuracy"].mean == past.in_order.accuracy
    assert found.without_details().runs[0].with_past is None
    streamed = run.streamed
    assert streamed is not None
    assert set(streamed.per_group) == set(run.groups)
    assert (streamed.seen_in_training, streamed.seconds > 60) == (False, True)
    assert "  streamed, right in hindsight: mean of runs " in found.text()
    assert found.without_details().streams() == found.streams()


def test_varied_recordings_are_scored_with_their_past_too(rising: ModelBundle) -> None:
    lost = next(one for one in VARIATIONS if one.name == "readings_lost")
    found = score_variations(
        rising, [person(97)], dataset="made up", protocol="one person", seen_in_training=False, variations=(lost,)
    )
    (varied,) = found.varied
    assert found.plain.with_past is not None
    assert varied.alone is not None
    assert varied.with_past is not None
    assert found.plain.with_past.accuracy > found.plain.alone.accuracy
    assert varied.with_past.accuracy_lost == pytest.approx(
        100 * (found.plain.with_past.accuracy - np.mean([d.with_past.accuracy for d in varied.draws if d.with_past]))
    )
    assert len({len(row) for row in found.rows()}) == 1
    assert "with past" in found.markdown()


def test_own_activities_are_learned_beside_passages(rising: ModelBundle, tmp_path: Path) -> None:
    data = tmp_path / "mine"
    data.mkdir()
    for number in range(2):
        write(data / f"{number}.csv", "waving", seed=number, seconds=20)
    base = tmp_path / "rising"
    save_bundle(base, rising.manifest, rising.model, rising.golden)
    taught, lesson = teach(data, str(base), tmp_path / "waver")
    assert (taught.labels, taught.manifest.passages) == ((*LABELS, "waving"), PASSAGES)
    assert lesson.kept > 0.95
    assert lesson.after.per_class["waving"].recall > 0.5
    # What the base says of its own outputs the taught one says too, each in its place.
    windows = rising.golden.windows
    was, told = Classifier(rising).predict(windows), Classifier(taught).predict(windows)
    same = was.argmax(axis=1) == told[:, [0, 1, 2, 4, 5]].argmax(axis=1)
    assert import_network(taught).worn is not None
    assert same.mean() > 0.7
    chain = taught.manifest.smoothing.chain
    assert chain is not None
    assert (chain.states, chain.kin) == (7, ((1, 2),))
    unheard = write(tmp_path / "unheard.csv", "waving", seed=77)
    told_activities = [e.activity for e in classify_file(unheard, model=str(tmp_path / "waver")) if e.type == "start"]
    assert told_activities[-1] == "waving"


def test_a_passage_is_no_activity_of_ones_own(rising: ModelBundle, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for number in range(2):
        write(tmp_path / "mine" / f"{number}.csv", "sit_to_stand", seconds=10, seed=number)
    base = tmp_path / "rising"
    save_bundle(base, rising.manifest, rising.model, rising.golden)
    with pytest.raises(
        ConfigError, match="label sit_to_stand is a passage of rising, which is recognised and never told"
    ):
        teach(tmp_path / "mine", str(base), tmp_path / "waver", new=("sit_to_stand",))
