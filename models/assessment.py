"""Scoring a bundle as it would be served: its own preprocessing, its own model in ONNX Runtime. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.data import (
    DATASETS,
    DatasetName,
    LabelledWindows,
    Sitting,
    labelled_windows,
    official_windows,
    recordings_of,
    sittings_of,
)
from models.evaluation import Figures, GroupFigures, confusion_of, macro_f1, score
from simulator.datasets import uci_har
from streamer.bundle import ModelBundle
from streamer.classifier import Classifier
from streamer.errors import ConfigError, nearest
from streamer.preprocessing.spec import UCI_HAR
from streamer.recognizer import Recognizer
from streamer.recording import Recording
from streamer.wire.events import ActivityEvent

OFFICIAL: Final = "uci-har"
#: Window phases, as eighths of a hop, for which accuracy is told apart.
PHASES: Final = 8
#: Readings per message when recordings are streamed: half a second at 50 Hz.
_READINGS: Final = 25
#: Time is compared in frames of this length.
_FRAME_NS: Final = 100_000_000


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle's figures on a data set.

    Attributes:
        bundle, digest: what was scored.
        dataset, protocol: on what, in words.
        seen_in_training: whether the model learned from these very recordings; such figures flatter it.
        phase_accuracy: accuracy with the windows' start moved by each eighth of a hop, None where windows are given.
        figures: at the model's own hop.
    """

    bundle: str
    digest: str
    dataset: str
    protocol: str
    seen_in_training: bool
    phase_accuracy: tuple[float, ...] | None
    figures: Figures

    def json(self) -> bytes:
        """One flat JSON document."""
        own = {name: getattr(self, name) for name in self.__struct_fields__ if name != "figures"}
        return msgspec.json.format(msgspec.json.encode(own | msgspec.structs.asdict(self.figures))) + b"\n"

    def text(self) -> str:
        """A table for people."""
        f = self.figures
        lines = [f"{self.bundle} ({self.digest}) on {self.dataset}: {self.protocol}"]
        if self.seen_in_training:
            lines.append("These recordings were seen in training: the figures flatter the model.")
        lines.append(
            f"windows {f.n}  accuracy {f.accuracy:.4f}  macro-F1 {f.macro_f1:.4f}  "
            f"per-group macro-F1 {f.group_macro_f1:.4f}  log-loss {f.log_loss:.4f}  ECE {f.ece:.4f}"
        )
        for label, own in f.per_class.items():
            if own.support:
                rates = f"precision {own.precision:.3f}  recall {own.recall:.3f}  F1 {own.f1:.3f}"
                lines.append(f"  {label:20s} {rates}  of {own.support}")
        if self.phase_accuracy is not None:
            lines.append("accuracy by window phase: " + " ".join(f"{value:.4f}" for value in self.phase_accuracy))
        return "\n".join(lines)


class StreamingAssessment(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle's figures over continuous recordings, by labelled time.

    Attributes:
        bundle, digest, dataset, protocol, seen_in_training: as in Assessment.
        seconds: labelled time.
        hindsight_accuracy: share of it at which the bouts, from onset to the next onset, name the true activity.
        live_accuracy: likewise for the state as it was published at that time, delay included.
        live_unknown: share of it at which the published state is unknown or nothing yet.
        hindsight_macro_f1: mean F1 over activities, by time; unknown counts as missed.
        bouts: bouts told, unknown ones left out.
        true_bouts: labelled stretches.
        decision_delay_s: median time from a bout's onset to its decision.
        per_group: hindsight figures by subject; n is labelled seconds.
    """

    bundle: str
    digest: str
    dataset: str
    protocol: str
    seen_in_training: bool
    seconds: float
    hindsight_accuracy: float
    live_accuracy: float
    live_unknown: float
    hindsight_macro_f1: float
    bouts: int
    true_bouts: int
    decision_delay_s: float
    per_group: dict[str, GroupFigures]

    def json(self) -> bytes:
        """One flat JSON document."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    def text(self) -> str:
        """A few lines for people."""
        return (
            f"{self.bundle} ({self.digest}) on {self.dataset}: {self.protocol}\n"
            f"labelled {self.seconds:.0f} s  accuracy in hindsight {self.hindsight_accuracy:.4f}  "
            f"live {self.live_accuracy:.4f}  (live unknown {self.live_unknown:.4f})  "
            f"macro-F1 {self.hindsight_macro_f1:.4f}\n"
            f"bouts {self.bouts} for {self.true_bouts} labelled stretches, decided {self.decision_delay_s:.2f} s after "
            f"their onset in the median" + ("; seen in training" if self.seen_in_training else "")
        )


def evaluate_bundle(bundle: ModelBundle, dataset: str) -> Assessment:
    """Figures over the windows of a data set that lie inside one labelled stretch each.

    Stretches with activities that the bundle doesn't know are left out. A bundle with an official test split meets
    that split only.

    Raises:
        ConfigError: the data set is unknown, missing, or has nothing in common with the bundle.
    """
    classifier = Classifier(bundle)
    phase_accuracy = None
    if dataset == OFFICIAL:
        truth = _official(bundle)
        protocol = "official test windows"
    else:
        name = _known(dataset)
        sittings = [s for s in sittings_of(name) if _may_be_met(bundle, name, s.group)]
        truth = labelled_windows(sittings, bundle.spec, bundle.labels)
        protocol = f"{len({s.group for s in sittings})} groups{_test_note(bundle, name)}"
        if name == "hapt" and len(truth):
            phase_accuracy = accuracy_by_phase(bundle, classifier, sittings)
    if not len(truth):
        raise ConfigError(
            f"data set {dataset} has no windows for bundle {bundle.manifest.name}; expected its activities"
        )
    return Assessment(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        dataset=dataset,
        protocol=protocol,
        seen_in_training=_seen(bundle, dataset),
        phase_accuracy=phase_accuracy,
        figures=score(classifier.predict(truth.samples), truth, bundle.labels),
    )


def accuracy_by_phase(
    bundle: ModelBundle, classifier: Classifier, sittings: Sequence[Sitting]
) -> tuple[float, ...] | None:
    """Accuracy of windows whose start is moved by 0/8 to 7/8 of a hop; None where the hop doesn't divide."""
    step, rest = divmod(bundle.spec.hop_len, PHASES)
    if rest:
        return None
    dense = labelled_windows(sittings, bundle.spec, bundle.labels, hop_len=step)
    # Grids start with each recording, whose first reading lies at a whole second.
    phase = (dense.start_ns // (step * bundle.spec.period_ns)) % PHASES
    right = classifier.predict(dense.samples).argmax(axis=1) == dense.targets
    return tuple(float(right[phase == p].mean()) for p in range(PHASES))


def evaluate_streaming(bundle: ModelBundle, dataset: str) -> StreamingAssessment:
    """Figures of the recognizer's bouts over whole recordings, by labelled time.

    Raises:
        ConfigError: the data set is unknown, missing, or has nothing in common with the bundle.
    """
    name = _known(dataset)
    recordings = [
        recording
        for recording in recordings_of(name)
        if _may_be_met(bundle, name, recording.subject or recording.device_id)
    ]
    labels = bundle.labels
    frames = [_frames(bundle, recording) for recording in recordings]
    truth = np.concatenate([f.truth for f in frames])
    if not len(truth):
        raise ConfigError(f"data set {dataset} has no labelled time for bundle {bundle.manifest.name}")
    hindsight, live = np.concatenate([f.hindsight for f in frames]), np.concatenate([f.live for f in frames])
    groups = np.concatenate([np.full(len(f.truth), r.subject or "") for f, r in zip(frames, recordings, strict=True)])
    per_group = {
        str(group): GroupFigures(
            n=round(int((groups == group).sum()) * _FRAME_NS / 1e9),
            accuracy=float((truth == hindsight)[groups == group].mean()),
            macro_f1=_frame_macro_f1(truth[groups == group], hindsight[groups == group], len(labels)),
        )
        for group in np.unique(groups).tolist()
    }
    delays = [delay for f in frames for delay in f.delays_s]
    return StreamingAssessment(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        dataset=dataset,
        protocol=f"{len(recordings)} recordings{_test_note(bundle, name)} through the recognizer",
        seen_in_training=_seen(bundle, dataset),
        seconds=len(truth) * _FRAME_NS / 1e9,
        hindsight_accuracy=float((truth == hindsight).mean()),
        live_accuracy=float((truth == live).mean()),
        live_unknown=float((live == len(labels)).mean()),
        hindsight_macro_f1=_frame_macro_f1(truth, hindsight, len(labels)),
        bouts=len(delays),
        true_bouts=sum(f.true_bouts for f in frames),
        decision_delay_s=float(np.median(delays)) if delays else 0.0,
        per_group=per_group,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Frames:
    """Labelled frames of one recording: truth and answers as label indices, len(labels) for unknown."""

    truth: NDArray[np.int64]
    hindsight: NDArray[np.int64]
    live: NDArray[np.int64]
    true_bouts: int
    delays_s: list[float]


def _frames(bundle: ModelBundle, recording: Recording) -> _Frames:
    labels = bundle.labels
    events = list(_events(bundle, recording))
    spans = [span for span in recording.spans if span.activity in labels]
    times = [np.arange(span.start_ns, span.end_ns, _FRAME_NS) for span in spans]
    truth = [np.full(len(t), labels.index(span.activity)) for t, span in zip(times, spans, strict=True)]
    t_ns = np.concatenate([np.empty(0, np.int64), *times])
    starts = [event for event in events if event.type == "start" and event.activity in labels]
    return _Frames(
        np.concatenate([np.empty(0, np.int64), *truth]),
        _answers(t_ns, events, labels, hindsight=True),
        _answers(t_ns, events, labels, hindsight=False),
        len(spans),
        [(event.decided_ns - event.onset_ns) / 1e9 for event in starts],
    )


def _events(bundle: ModelBundle, recording: Recording) -> Iterable[ActivityEvent]:
    recognizer = Recognizer(bundle)
    for message in recording.messages(_READINGS):
        yield from recognizer.recognize([message], int(message.t_ns[-1])).events
    yield from recognizer.finish("end_of_recording").events


def _answers(
    t_ns: NDArray[np.int64], events: Iterable[ActivityEvent], labels: Sequence[str], *, hindsight: bool
) -> NDArray[np.int64]:
    """(n,) int64: the activity that holds at each time, by onset in hindsight or by decision when live."""
    answers = np.full(len(t_ns), len(labels))
    for event in events:
        begin_ns = event.onset_ns if hindsight else event.decided_ns
        if event.type == "start":
            # A later start overwrites from its begin on; an end below clears what nothing followed.
            answers[t_ns >= begin_ns] = labels.index(event.activity) if event.activity in labels else len(labels)
        elif event.type == "end" and event.reason != "changed":
            answers[t_ns >= event.window_end_ns] = len(labels)
    return answers


def _frame_macro_f1(truth: NDArray[np.int64], answers: NDArray[np.int64], labels: int) -> float:
    return macro_f1(confusion_of(truth, answers, labels + 1))


def _official(bundle: ModelBundle) -> LabelledWindows:
    spec = bundle.spec
    if (spec.channels, spec.window_len, spec.acc_unit) != (UCI_HAR.channels, UCI_HAR.window_len, UCI_HAR.acc_unit):
        raise ConfigError(
            f"data set {OFFICIAL} holds windows of {UCI_HAR.window_len} samples with UCI HAR's nine channels; bundle "
            f"{bundle.manifest.name} takes {spec.window_len} of {', '.join(spec.channels)}"
        )
    return official_windows("test", bundle.labels)


def _known(dataset: str) -> DatasetName:
    if dataset not in DATASETS:
        meant = nearest(dataset, (OFFICIAL, *DATASETS))
        raise ConfigError(f"data set {dataset!r} is unknown; expected one of {OFFICIAL}, {', '.join(DATASETS)}{meant}")
    return dataset


def _may_be_met(bundle: ModelBundle, dataset: DatasetName, group: str) -> bool:
    return not _has_test_split(bundle, dataset) or group in uci_har.TEST_SUBJECTS


def _has_test_split(bundle: ModelBundle, dataset: str) -> bool:
    training = bundle.manifest.training
    return training.get("dataset") == dataset and bool(training.get("held_out_for_test"))


def _test_note(bundle: ModelBundle, dataset: str) -> str:
    return " of official test subjects" if _has_test_split(bundle, dataset) else ""


def _seen(bundle: ModelBundle, dataset: str) -> bool:
    return bundle.manifest.training.get("dataset") == dataset and not _has_test_split(bundle, dataset)
