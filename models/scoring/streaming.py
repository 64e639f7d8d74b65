"""Scoring a bundle over continuous recordings: what the recognizer publishes against what was done, by labelled time.

    done      sitting       . (stands up) . standing         . walking
    state     sitting          unknown      . . standing         . . walking      by the time of decision: live
    bouts     sitting        unknown | standing            walking                by their onset: in hindsight
                                            |-->| time to detection

Everything comes from the events that are published; a recording gives the same ones live and offline. Transitions,
unlabelled time and activities that the bundle doesn't know count neither way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.scoring.assessment import data_set, may_be_met, seen_in_training, split_note
from models.scoring.evaluation import GroupFigures, confusion_of, macro_f1
from models.scoring.segments import IGNORED, SegmentFigures, compare, segment_figures
from models.scoring.spread import Spread, spread_over_groups
from models.scoring.subjects import Subjects
from models.windows.data import recordings_of
from streamer.activities import UNKNOWN
from streamer.bundle import ModelBundle
from streamer.errors import ConfigError
from streamer.offline import classify_recording
from streamer.recognizer import Recognizer
from streamer.recording import Recording
from streamer.wire.events import ActivityEvent

Int64 = NDArray[np.int64]

#: Time is compared in frames of this length.
FRAME_NS: Final = 100_000_000
_FOREVER_NS: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Onset:
    """A true change of activity, and how long it took to be told.

    Attributes:
        activity: that began.
        onset_ns: when.
        delay_s: from there to the decision for it, 0 where it was decided in the time before it that counts neither
            way; None where it was never told while it lasted.
    """

    activity: str
    onset_ns: int
    delay_s: float | None


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of the time from since_ns up to until_ns: a label, a group of activities, or unknown."""

    activity: str
    since_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """One recording as the recognizer told it, in frames.

    Attributes:
        recording: what was streamed.
        events: all that was published.
        truth: (n,) label of each frame, IGNORED where time counts neither way.
        stretches: (n,) number of the labelled stretch, IGNORED likewise.
        hindsight, live: (n,) label told: by onset, and as it was published at that time. len(labels) for unknown and
            for nothing yet, one more for a group of activities that the true one is in, two more for another group.
        onsets: changes of activity.
    """

    recording: Recording
    events: tuple[ActivityEvent, ...]
    truth: Int64
    stretches: Int64
    hindsight: Int64
    live: Int64
    onsets: tuple[Onset, ...]

    @property
    def group(self) -> str:
        """Who was recorded."""
        return self.recording.subject or self.recording.device_id


class StreamingAssessment(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle's figures over continuous recordings, by labelled time.

    Attributes:
        bundle, digest, dataset, protocol, seen_in_training: as in Assessment.
        seconds: labelled time.
        hindsight_accuracy: share of it at which the bouts, from onset to the next onset, name the true activity.
        live_accuracy: likewise for the state as it was published at that time, delay included.
        hindsight_unknown, live_unknown: share of it at which that is unknown or nothing yet.
        hindsight_group, live_group: share of it at which that is a group of activities, which is not right here.
        hindsight_group_right, live_group_right: share of it at which that is a group that the true activity is in.
        hindsight_macro_f1: mean F1 over activities, by time; unknown and groups count as missed.
        bouts: bouts of one of the bundle's activities that were published, whenever.
        decision_delay_s: median time from the onset in an event to its decision.
        onsets: true changes of activity that a recording shows: not the first bout where the recording begins with it,
            and none that only goes on with what was done before.
        detection_median_s, detection_p95_s: time from such an onset to the decision for it, over those that were
            detected; None where none was.
        never_detected: share of onsets whose activity was not decided between the end of the labelled stretch before
            and the end of their own.
        early: share of them that were decided before the onset, in time that counts neither way; their time is 0.
        segments: told bouts against true ones, in hindsight.
        live_segments: likewise for the states as they were published.
        per_group: hindsight figures by subject; n is labelled seconds.
        spread: of those over subjects.
    """

    bundle: str
    digest: str
    dataset: str
    protocol: str
    seen_in_training: bool
    seconds: float
    hindsight_accuracy: float
    live_accuracy: float
    hindsight_unknown: float
    live_unknown: float
    hindsight_group: float
    live_group: float
    hindsight_group_right: float
    live_group_right: float
    hindsight_macro_f1: float
    bouts: int
    decision_delay_s: float
    onsets: int
    detection_median_s: float | None
    detection_p95_s: float | None
    never_detected: float
    early: float
    segments: SegmentFigures
    live_segments: SegmentFigures
    per_group: dict[str, GroupFigures]
    spread: dict[str, Spread]

    def json(self) -> bytes:
        """One JSON document; the figures of `segments` stand at its top level, those of the live state in `live`."""
        flat = msgspec.structs.asdict(self)
        flat |= {"live": flat.pop("live_segments"), **msgspec.structs.asdict(flat.pop("segments"))}
        return msgspec.json.format(msgspec.json.encode(flat)) + b"\n"

    def text(self) -> str:
        """A few lines for people."""
        lines = [f"{self.bundle} ({self.digest}) on {self.dataset}: {self.protocol}"]
        if self.seen_in_training:
            lines.append("These recordings were seen in training: the figures flatter the model.")
        lines += [
            (
                f"labelled {self.seconds:.0f} s  accuracy in hindsight {self.hindsight_accuracy:.4f}  live "
                f"{self.live_accuracy:.4f}  (unknown {self.hindsight_unknown:.4f}, live {self.live_unknown:.4f}; group "
                f"{self.hindsight_group:.4f}, {self.hindsight_group_right:.4f} of it right, live "
                f"{self.live_group:.4f}, {self.live_group_right:.4f})  macro-F1 {self.hindsight_macro_f1:.4f}"
            ),
        ]
        for name, own in (("in hindsight", self.segments), ("live", self.live_segments)):
            lost = ", ".join(f"{kind} {share:.4f}" for kind, share in msgspec.structs.asdict(own.lost_time).items())
            lines += [
                (
                    f"bouts {name}: F1 {own.bout_f1:.4f}  edit score {own.edit_score:.4f}  insertions "
                    f"{own.insertions_per_h:.1f} per hour  fragmented {own.fragmentation:.2%}  merges {own.merges}  "
                    f"deleted {own.deleted}  ({own.told_bouts} told, {own.true_bouts} true)"
                ),
                f"  time lost to {lost}",
            ]
        lines += [
            (
                f"time to detection from the true onset: median {_seconds(self.detection_median_s)}, 95th percentile "
                f"{_seconds(self.detection_p95_s)}, never {self.never_detected:.2%} of {self.onsets} "
                f"(early {self.early:.2%})"
            ),
            f"{self.bouts} bouts published, decided {self.decision_delay_s:.2f} s after their onset in the median",
            *(f"{name} in hindsight by group: {one.text()}" for name, one in self.spread.items()),
        ]
        return "\n".join(lines)


def evaluate_streaming(bundle: ModelBundle, dataset: str, *, subjects: Subjects = "test") -> StreamingAssessment:
    """Figures of the recognizer's events over whole recordings.

    Args:
        bundle: what to score.
        dataset: its recordings; of a bundle with an official test split there, those of `subjects`.
        subjects: "train" while a model is being made: the test part is for finished ones.

    Raises:
        ConfigError: the data set is unknown, missing, has nothing in common with the bundle, or no such subjects.
    """
    streamed = stream_data_set(bundle, dataset, subjects=subjects)
    return streaming_figures(bundle, dataset, streamed, subjects=subjects)


def stream_data_set(bundle: ModelBundle, dataset: str, *, subjects: Subjects = "test") -> list[Streamed]:
    """Recordings of a data set through the recognizer; see `evaluate_streaming`."""
    name = data_set(dataset)
    if subjects == "train" and not split_note(bundle, name):
        raise ConfigError(f"--subjects train: {bundle.manifest.name} holds nobody of {dataset} back; expected test")
    met = [
        recording
        for recording in recordings_of(name)
        if may_be_met(bundle, name, recording.subject or recording.device_id) == (subjects == "test")
    ]
    return [stream(bundle, recording) for recording in met]


def stream(bundle: ModelBundle, recording: Recording) -> Streamed:
    """One recording through a recognizer of its own."""
    labels = bundle.labels
    events = tuple(classify_recording(Recognizer(bundle), recording))
    bouts, published = (told_over_time(events, hindsight=by_onset) for by_onset in (True, False))
    t_ns, truth, stretches = frames_of(recording, labels)
    return Streamed(
        recording,
        events,
        truth,
        stretches,
        answers_at(t_ns, truth, bouts, bundle),
        answers_at(t_ns, truth, published, bundle),
        onsets_of(recording, published, labels),
    )


def streaming_figures(
    bundle: ModelBundle, dataset: str, streamed: Sequence[Streamed], *, subjects: Subjects = "test"
) -> StreamingAssessment:
    """Figures of recordings that were streamed, of a data set's subjects as `stream_data_set` knows them.

    Raises:
        ConfigError: they have no labelled time.
    """
    labels = len(bundle.labels)
    counted = [one.truth != IGNORED for one in streamed]
    truth, hindsight, live = (
        np.concatenate(
            [np.empty(0, np.int64), *(getattr(one, name)[own] for one, own in zip(streamed, counted, strict=True))]
        )
        for name in ("truth", "hindsight", "live")
    )
    if not len(truth):
        raise ConfigError(f"data set {dataset} has no labelled time for bundle {bundle.manifest.name}")
    groups = np.repeat([one.group for one in streamed], [int(own.sum()) for own in counted])
    per_group = {
        str(group): GroupFigures(
            n=round(int((groups == group).sum()) * FRAME_NS / 1e9),
            accuracy=float((truth == hindsight)[groups == group].mean()),
            macro_f1=_macro_f1(truth[groups == group], hindsight[groups == group], labels),
        )
        for group in np.unique(groups).tolist()
    }
    onsets = [onset for one in streamed for onset in one.onsets]
    delays = [onset.delay_s for onset in onsets if onset.delay_s is not None]
    decided = [delay for one in streamed for delay in decision_delays(one.events, bundle.labels)]
    whose = split_note(bundle, dataset) if subjects == "test" else " of training subjects"
    median, p95 = np.quantile(delays, (0.5, 0.95)).tolist() if delays else (None, None)
    return StreamingAssessment(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        dataset=dataset,
        protocol=f"{len(streamed)} recordings{whose} through the recognizer",
        seen_in_training=subjects == "train" or seen_in_training(bundle, dataset),
        seconds=len(truth) * FRAME_NS / 1e9,
        hindsight_accuracy=float((truth == hindsight).mean()),
        live_accuracy=float((truth == live).mean()),
        hindsight_unknown=float((hindsight == labels).mean()),
        live_unknown=float((live == labels).mean()),
        hindsight_group=float((hindsight > labels).mean()),
        live_group=float((live > labels).mean()),
        hindsight_group_right=float((hindsight == labels + 1).mean()),
        live_group_right=float((live == labels + 1).mean()),
        hindsight_macro_f1=_macro_f1(truth, hindsight, labels),
        bouts=len(decided),
        decision_delay_s=float(np.median(decided)) if decided else 0.0,
        onsets=len(onsets),
        detection_median_s=median,
        detection_p95_s=p95,
        never_detected=1.0 - len(delays) / len(onsets) if onsets else 0.0,
        early=delays.count(0.0) / len(onsets) if onsets else 0.0,
        segments=_segments(streamed, "hindsight", labels),
        live_segments=_segments(streamed, "live", labels),
        per_group=per_group,
        spread=spread_over_groups(per_group),
    )


def frames_of(recording: Recording, labels: Sequence[str]) -> tuple[Int64, Int64, Int64]:
    """Start, label and labelled stretch of each frame, (n,) each; frames begin anew with each stretch."""
    cursor_ns = recording.start_ns
    parts: list[tuple[Int64, int, int]] = []
    for number, span in enumerate(span for span in recording.spans if span.activity in labels):
        parts.append((np.arange(cursor_ns, span.start_ns, FRAME_NS), IGNORED, IGNORED))
        parts.append((np.arange(span.start_ns, span.end_ns, FRAME_NS), labels.index(span.activity), number))
        cursor_ns = span.end_ns
    parts.append((np.arange(cursor_ns, recording.end_ns + 1, FRAME_NS), IGNORED, IGNORED))
    lengths = [len(times) for times, _, _ in parts]
    return (
        np.concatenate([times for times, _, _ in parts]),
        np.repeat([label for _, label, _ in parts], lengths),
        np.repeat([number for _, _, number in parts], lengths),
    )


def told_over_time(events: Iterable[ActivityEvent], *, hindsight: bool) -> list[Told]:
    """What holds over time, in its order: by onset in hindsight, or by decision, as it was published."""
    found: list[Told] = []
    for event in events:
        if event.type == "start":
            at_ns = event.onset_ns if hindsight else event.decided_ns
        elif event.type == "end" and event.reason != "changed":
            at_ns = event.window_end_ns
        else:
            continue
        # An onset may lie before that of the bout before it.
        while found and found[-1].since_ns >= at_ns:
            found.pop()
        if found:
            found[-1] = replace(found[-1], until_ns=min(found[-1].until_ns, at_ns))
        if event.type == "start":
            found.append(Told(event.activity, at_ns, _FOREVER_NS))
    return found


def answers_at(t_ns: Int64, truth: Int64, told: Iterable[Told], bundle: ModelBundle) -> Int64:
    """(n,) label told at each time, or what else `Streamed` says of it."""
    labels, groups = bundle.labels, bundle.groups
    answers = np.full(len(t_ns), len(labels))
    for one in told:
        when = (t_ns >= one.since_ns) & (t_ns < one.until_ns)
        if one.activity in groups:
            answers[when] = len(labels) + 2 - np.isin(truth[when], groups[one.activity])
        elif one.activity != UNKNOWN:
            answers[when] = labels.index(one.activity)
    return answers


def onsets_of(recording: Recording, published: Iterable[Told], labels: Sequence[str]) -> tuple[Onset, ...]:
    """The changes of activity that a recording shows, and when each was told.

    What begins with the recording may have begun before it, and what goes on with the activity of the stretch before
    is no change: of neither is the onset known.
    """
    published = list(published)
    known = [span for span in recording.spans if span.activity in labels]
    found = []
    for before, span in zip([None, *known], known, strict=False):
        if span.start_ns <= recording.start_ns or (before is not None and before.activity == span.activity):
            continue
        # What was told while something else was done, and held by chance, is no detection.
        since_ns = recording.start_ns if before is None else before.end_ns
        told_ns = next(
            (
                told.since_ns
                for told in published
                if told.activity == span.activity
                and since_ns <= told.since_ns < span.end_ns
                and told.until_ns > span.start_ns
            ),
            None,
        )
        delay_s = None if told_ns is None else max(told_ns - span.start_ns, 0) / 1e9
        found.append(Onset(span.activity, span.start_ns, delay_s))
    return tuple(found)


def decision_delays(events: Iterable[ActivityEvent], labels: Sequence[str]) -> list[float]:
    """Seconds from onset to decision of each bout of one of the labels."""
    return [
        (event.decided_ns - event.onset_ns) / 1e9
        for event in events
        if event.type == "start" and event.activity in labels
    ]


def _segments(streamed: Sequence[Streamed], answers: Literal["hindsight", "live"], labels: int) -> SegmentFigures:
    compared = [compare(one.truth, one.stretches, getattr(one, answers), labels) for one in streamed]
    return segment_figures(compared, frame_s=FRAME_NS / 1e9)


def _macro_f1(truth: Int64, answers: Int64, labels: int) -> float:
    """Of labels; what is none of them, `labels` or up to two more, stands in a column of its own."""
    return macro_f1(confusion_of(truth, answers, labels + 3))


def _seconds(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f} s"
