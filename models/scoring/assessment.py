"""Scoring a bundle as it would be served: its own preprocessing, its own model in ONNX Runtime. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from models.scoring.evaluation import Figures, score
from models.scoring.past import (
    PastFigures,
    Predict,
    WithoutGyro,
    lacking_gyro,
    official_pasts,
    own_pasts,
    past_figures,
    ways,
)
from models.scoring.spread import spread_over_groups
from models.windows.data import (
    DATASETS,
    DatasetName,
    LabelledWindows,
    Sitting,
    labelled_windows,
    official_windows,
    sittings_of,
)
from simulator.datasets import uci_har
from streamer.bundle import ModelBundle
from streamer.chain import Chain
from streamer.classifier import Classifier
from streamer.errors import ConfigError, RecordingError, nearest
from streamer.preprocessing.spec import UCI_HAR

OFFICIAL: Final = "uci-har"
#: Window phases, as eighths of a hop, for which accuracy is told apart.
PHASES: Final = 8


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle's figures on a data set.

    Attributes:
        bundle, digest: what was scored.
        dataset, protocol: on what, in words.
        seen_in_training: whether the model learned from these very recordings; such figures flatter it.
        phase_accuracy: accuracy with the windows' start moved by each eighth of a hop, None where windows are given.
        figures: at the model's own hop, of windows alone.
        with_past: of the same windows, each with those before it in its recording, by the bundle's chain; None for a
            bundle without one, and where recordings hold one activity each.
        without_past: why there is none, where there could be.
        without_gyro: of the same windows as a watch without a gyroscope has them, alone, where the bundle may lack one
            and windows are given; recordings are scored without it by `models.scoring.robustness`.
        without_gyro_past: the same with their past.
    """

    bundle: str
    digest: str
    dataset: str
    protocol: str
    seen_in_training: bool
    phase_accuracy: tuple[float, ...] | None
    figures: Figures
    with_past: PastFigures | None = None
    without_past: str = ""
    without_gyro: Figures | None = None
    without_gyro_past: PastFigures | None = None

    def json(self) -> bytes:
        """One flat JSON document, with the spread over groups."""
        own = {name: getattr(self, name) for name in self.__struct_fields__ if name != "figures"}
        own |= msgspec.structs.asdict(self.figures) | {"spread": spread_over_groups(self.figures.per_group)}
        return msgspec.json.format(msgspec.json.encode(own)) + b"\n"

    @property
    def ways(self) -> list[tuple[str, Figures]]:
        """The windows in each way they were answered."""
        lacking = None
        if self.without_gyro is not None:
            lacking = WithoutGyro(alone=self.without_gyro, with_past=self.without_gyro_past)
        return ways(self.figures, self.with_past, lacking)

    def text(self) -> str:
        """A table for people."""
        f = self.figures
        lines = [f"{self.bundle} ({self.digest}) on {self.dataset}: {self.protocol}"]
        if self.seen_in_training:
            lines.append("These recordings were seen in training: the figures flatter the model.")
        several = len(self.ways) > 1
        names = [f"{name}: " if several else "" for name, _ in self.ways]
        lines += [
            f"{name:<{max(map(len, names))}}windows {own.n}  accuracy {own.accuracy:.4f}  macro-F1 {own.macro_f1:.4f}  "
            f"per-group macro-F1 {own.group_macro_f1:.4f}  log-loss {own.log_loss:.4f}  ECE {own.ece:.4f}"
            for name, (_, own) in zip(names, self.ways, strict=True)
        ]
        if self.without_past:
            lines.append(f"Not with their past: {self.without_past}")
        if several:
            lines.append("What follows is of windows alone.")
        lines += [f"{name} by group: {one.text()}" for name, one in spread_over_groups(f.per_group).items()]
        if f.refused:
            lines.append(f"refused {f.refused:.4f}: rather none of these than any activity")
        for label, own in f.per_class.items():
            if own.support:
                rates = f"precision {own.precision:.3f}  recall {own.recall:.3f}  F1 {own.f1:.3f}"
                lines.append(f"  {label:20s} {rates}  of {own.support}")
        if self.phase_accuracy is not None:
            lines.append("accuracy by window phase: " + " ".join(f"{value:.4f}" for value in self.phase_accuracy))
        return "\n".join(lines)


def evaluate_bundle(bundle: ModelBundle, dataset: str) -> Assessment:
    """Figures over the windows of a data set that lie inside one labelled stretch each.

    Stretches with activities that the bundle doesn't know are left out. A bundle with an official test split meets
    that split only.

    Raises:
        ConfigError: the data set is unknown, missing, or has nothing in common with the bundle.
    """
    classifier = Classifier(bundle)
    chain = bundle.manifest.smoothing.chain
    phase_accuracy, past, without_past = None, None, ""
    without_gyro, without_gyro_past = None, None
    if dataset == OFFICIAL:
        truth = _official(bundle)
        protocol = "official test windows"
        if chain is not None:
            past, without_past = _official_past(truth, classifier.predict, bundle, chain)
        lacking = lacking_gyro(classifier.predict, bundle.spec)
        if lacking is not None:
            without_gyro = score(lacking(truth.samples), truth, bundle.labels)
            if past is not None and chain is not None:
                without_gyro_past, _ = _official_past(truth, lacking, bundle, chain)
    else:
        name = data_set(dataset)
        sittings = [s for s in sittings_of(name) if may_be_met(bundle, name, s.group)]
        truth = labelled_windows(sittings, bundle.spec, bundle.labels)
        protocol = f"{len({s.group for s in sittings})} groups{split_note(bundle, name)}"
        if name == "hapt" and len(truth):
            phase_accuracy = accuracy_by_phase(bundle, classifier, sittings)
            if chain is not None:
                pasts, scored = own_pasts(sittings, bundle.spec, bundle.labels, classifier.predict)
                past = past_figures(pasts, scored, bundle.labels, chain)
    if not len(truth):
        raise ConfigError(
            f"data set {dataset} has no windows for bundle {bundle.manifest.name}; expected its activities"
        )
    return Assessment(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        dataset=dataset,
        protocol=protocol,
        seen_in_training=seen_in_training(bundle, dataset),
        phase_accuracy=phase_accuracy,
        figures=score(classifier.predict(truth.samples), truth, bundle.labels),
        with_past=past,
        without_past=without_past,
        without_gyro=without_gyro,
        without_gyro_past=without_gyro_past,
    )


def _official_past(
    truth: LabelledWindows, predict: Predict, bundle: ModelBundle, chain: Chain
) -> tuple[PastFigures | None, str]:
    """Figures, or why there are none."""
    try:
        sittings = sittings_of("hapt")
    except RecordingError as error:
        return None, f"the windows before them are in HAPT's recordings alone ({error})"
    pasts = official_pasts(sittings, truth, predict, hop_len=bundle.spec.hop_len)
    return past_figures(pasts, truth, bundle.labels, chain), ""


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
    right = classifier.predict(dense.samples)[:, : len(bundle.labels)].argmax(axis=1) == dense.targets
    return tuple(float(right[phase == p].mean()) for p in range(PHASES))


def _official(bundle: ModelBundle) -> LabelledWindows:
    spec = bundle.spec
    if (spec.channels, spec.window_len, spec.acc_unit) != (UCI_HAR.channels, UCI_HAR.window_len, UCI_HAR.acc_unit):
        raise ConfigError(
            f"data set {OFFICIAL} holds windows of {UCI_HAR.window_len} samples with UCI HAR's nine channels; bundle "
            f"{bundle.manifest.name} takes {spec.window_len} of {', '.join(spec.channels)}"
        )
    return official_windows("test", bundle.labels)


def data_set(name: str) -> DatasetName:
    """The data set of that name.

    Raises:
        ConfigError: there is none, or it holds no recordings.
    """
    if name not in DATASETS:
        meant = nearest(name, (OFFICIAL, *DATASETS))
        raise ConfigError(f"data set {name!r} is unknown; expected one of {OFFICIAL}, {', '.join(DATASETS)}{meant}")
    return name


def may_be_met(bundle: ModelBundle, dataset: str, group: str) -> bool:
    """Whether a bundle is scored on a person: on all, or on the official test subjects where it has such."""
    return not _has_test_split(bundle, dataset) or group in uci_har.TEST_SUBJECTS


def split_note(bundle: ModelBundle, dataset: str) -> str:
    """What of a data set a bundle is scored on, to go into a sentence."""
    return " of official test subjects" if _has_test_split(bundle, dataset) else ""


def seen_in_training(bundle: ModelBundle, dataset: str) -> bool:
    """Whether a bundle learned from what it is scored on."""
    return bundle.manifest.training.get("dataset") == dataset and not _has_test_split(bundle, dataset)


def _has_test_split(bundle: ModelBundle, dataset: str) -> bool:
    training = bundle.manifest.training
    return training.get("dataset") == dataset and bool(training.get("held_out_for_test"))
