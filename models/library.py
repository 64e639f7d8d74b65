"""Scoring and asking a model about recordings, from Python; needs no torch."""

from __future__ import annotations

from collections.abc import Iterable

from models.scoring.evaluation import Figures, score
from models.windows.data import LabelledWindows, Sitting, labelled_windows
from streamer.bundle import ModelBundle
from streamer.classifier import Classifier
from streamer.errors import ConfigError
from streamer.recording import Recording


def windows_of_recordings(bundle: ModelBundle, recordings: Iterable[Recording]) -> LabelledWindows:
    """The labelled windows that a model is given of recordings: by its own preprocessing, at its own hop.

    Windows across two activities are left out, and so are activities that the model does not know. A window's group is
    the recording's subject, or its device where no subject is known.
    """
    sittings = [Sitting(recording.subject or recording.device_id, recording) for recording in recordings]
    return labelled_windows(sittings, bundle.spec, bundle.labels)


def evaluate(bundle: ModelBundle, recordings: Iterable[Recording]) -> Figures:
    """How well a model does on labelled recordings, window by window: accuracy, macro-F1, per activity and per person.

    Raises:
        ConfigError: no recording is labelled with an activity of the model's for as long as a window.
    """
    truth = windows_of_recordings(bundle, recordings)
    if not len(truth):
        raise ConfigError(
            f"no labelled windows for {bundle.manifest.name}; expected activities of {', '.join(bundle.labels)}, "
            f"each for {bundle.spec.window_ns / 1e9:.1f} s at least"
        )
    return score(Classifier(bundle).predict(truth.samples), truth, bundle.labels)
