"""Figures over streams: what is published against what was done.

gravity   x x x x x x x x x x x x y y y y y y y y z z z z z z z z
done      standing . . . . . . . . sitting        lying              seconds 0, 10, 12, 20, 28
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.scoring.segments import IGNORED
from models.scoring.streaming import (
    Onset,
    answers_at,
    frames_of,
    onsets_of,
    stream,
    streaming_figures,
    told_over_time,
)
from streamer.bundle import ModelBundle, Smoothing
from streamer.errors import ConfigError
from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.recognizer import Recognizer
from streamer.recording import ActivitySpan, Recording
from streamer.wire.events import ActivityEvent, EventType, Reason
from tests.bundles import POSTURES, START_NS, make_bundle

SECOND = 1_000_000_000
RATE_HZ = 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return make_bundle(tmp_path_factory.mktemp("posture"))


def recorded(axes: str, spans: list[tuple[str, float, float]], device: str = "w") -> Recording:
    """A second of gravity along each named axis."""
    acc = np.repeat([np.eye(3)["xyz".index(axis)] for axis in axes], RATE_HZ, axis=0) * STANDARD_GRAVITY
    t_ns = START_NS + np.arange(len(acc)) * (SECOND // RATE_HZ)
    labelled = (ActivitySpan(name, START_NS + int(a * SECOND), START_NS + int(b * SECOND)) for name, a, b in spans)
    return Recording(device, device, (ImuBatch(device, t_ns, acc, None, rate_hz=20.0),), tuple(labelled), 20.0)


CHANGES = recorded(
    "x" * 12 + "y" * 8 + "z" * 8,
    [("standing", 0, 10), ("stand_to_sit", 10, 12), ("sitting", 12, 20), ("lying", 20, 28)],
)


def test_figures_of_a_stream_are_those_counted_by_hand(bundle: ModelBundle) -> None:
    # The window that is half of the one and half of the other posture decides nothing; the next one does, a second
    # after the change, and begins with it.
    found = streaming_figures(bundle, "made up", [stream(bundle, CHANGES)])
    assert found.seconds == pytest.approx(26)
    assert found.hindsight_accuracy == 1.0
    # Nothing is told in the first second, and sitting and lying are each told a second late.
    assert found.live_accuracy == pytest.approx(23 / 26)
    assert found.live_unknown == pytest.approx(1 / 26)
    assert (found.bouts, found.decision_delay_s) == (3, 1.0)
    assert (found.onsets, found.detection_median_s, found.detection_p95_s) == (2, 1.0, 1.0)
    assert (found.never_detected, found.early) == (0.0, 0.0)
    assert (found.segments.bout_f1, found.segments.edit_score, found.live_segments.bout_f1) == (1.0, 1.0, 1.0)
    assert found.live_segments.lost_time.underfill == pytest.approx(3 / 26)
    assert "1.00 s" in found.text()


def test_a_stream_is_told_as_it_is_live(bundle: ModelBundle) -> None:
    live = Recognizer(bundle)
    events = [event for one in CHANGES.messages(7) for event in live.recognize([one], int(one.t_ns[-1])).events]
    events += live.finish("end_of_recording").events
    assert list(stream(bundle, CHANGES).events) == events


def test_onset_of_what_begins_with_the_recording_is_not_known(bundle: ModelBundle) -> None:
    begun = recorded("x" * 9, [("standing", 0, 9)])
    later = recorded("x" * 9, [("standing", 0.5, 9)])
    assert stream(bundle, begun).onsets == ()
    # Before the first window is full nothing can be told: a second after the first reading.
    assert [onset.delay_s for onset in stream(bundle, later).onsets] == [0.5]


def test_what_is_never_told_while_it_lasts_is_never_detected(bundle: ModelBundle) -> None:
    brief = recorded("x" * 6 + "y" + "x" * 6, [("standing", 0, 6), ("sitting", 6, 6.8), ("standing", 7, 13)])
    found = stream(bundle, brief)
    # What held all along was not detected anew.
    assert [(onset.activity, onset.delay_s) for onset in found.onsets] == [("sitting", None), ("standing", 1.0)]
    wrong = recorded("x" * 12, [("standing", 0, 4), ("sitting", 4, 8), ("standing", 8, 12)])
    assert [onset.delay_s for onset in stream(bundle, wrong).onsets] == [None, None]


def test_recording_without_labels_of_the_bundle_is_refused(bundle: ModelBundle) -> None:
    nothing = stream(bundle, recorded("xxx", [("juggling", 0, 3)]))
    assert set(nothing.truth.tolist()) == {IGNORED}
    with pytest.raises(ConfigError, match="no labelled time"):
        streaming_figures(bundle, "made up", [nothing])


def event(kind: EventType, activity: str, onset: int, decided: int, reason: Reason | None = None) -> ActivityEvent:
    return ActivityEvent(
        schema=1,
        id="",
        bout_id="",
        type=kind,
        device="w",
        activity=activity,
        confidence=1.0,
        onset_ns=START_NS + onset * SECOND,
        decided_ns=START_NS + decided * SECOND,
        window_start_ns=START_NS + (decided - 1) * SECOND,
        window_end_ns=START_NS + decided * SECOND,
        completeness=1.0,
        gap_ns=0,
        model="",
        model_digest="",
        reason=reason,
    )


def test_unknown_and_groups_are_told_apart_from_labels_and_a_later_onset_may_reach_back(tmp_path: Path) -> None:
    smoothing = Smoothing(weight=1.0, enter=0.6, leave=0.4, dwell=1, group_enter=0.7)
    bundle = make_bundle(tmp_path / "groups", labels=("standing", "sitting", "walking"), smoothing=smoothing)
    told = [
        event("start", "standing", 0, 2),
        event("end", "standing", 0, 4, "changed"),
        event("start", "still", 3, 4),
        event("end", "still", 3, 6, "changed"),
        # Its first window began before the group's.
        event("start", "walking", 2, 6),
        event("end", "walking", 2, 8, "gap"),
    ]
    seconds = START_NS + np.arange(10) * SECOND
    truth = np.repeat([1, 2], 5)
    by_onset, by_decision = (
        answers_at(seconds, truth, told_over_time(told, hindsight=hindsight), bundle).tolist()
        for hindsight in (True, False)
    )
    unknown, right_group, wrong_group = 3, 4, 5
    assert by_onset == [0] * 2 + [2] * 6 + [unknown] * 2
    assert by_decision == [unknown] * 2 + [0] * 2 + [right_group, wrong_group] + [2] * 2 + [unknown] * 2


def test_a_change_decided_before_its_label_is_early_and_one_held_by_mistake_is_none() -> None:
    recording = recorded("x" * 30, [("standing", 1, 8), ("sitting", 12, 18), ("lying", 18, 24), ("sitting", 24, 30)])
    told = [event("start", "sitting", 9, 10), event("start", "lying", 18, 20)]
    found = onsets_of(recording, told_over_time(told, hindsight=False), POSTURES)
    at = [START_NS + s * SECOND for s in (1, 12, 18, 24)]
    assert found == (
        Onset("standing", at[0], None),
        Onset("sitting", at[1], 0.0),
        Onset("lying", at[2], 2.0),
        Onset("sitting", at[3], None),
    )
    # A state that held by mistake while something else was done is not its detection when it comes true.
    held = onsets_of(recording, told_over_time([event("start", "lying", 3, 4)], hindsight=False), POSTURES)
    assert [onset.delay_s for onset in held] == [None, None, None, None]


def test_frames_begin_anew_with_each_stretch_and_cover_what_is_between() -> None:
    t_ns, truth, stretches = frames_of(recorded("xxxx", [("sitting", 1.05, 2), ("sitting", 3, 4)]), POSTURES)
    assert (truth == IGNORED).tolist() == (stretches == IGNORED).tolist()
    assert t_ns[np.flatnonzero(np.diff(stretches)) + 1].tolist() == [START_NS + int(s * SECOND) for s in (1.05, 2, 3)]
    assert [int((stretches == number).sum()) for number in (0, 1)] == [10, 10]
    assert np.all(np.diff(t_ns) > 0)
