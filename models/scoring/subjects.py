"""Whose recordings a bundle may be scored on: the official test subjects once it is finished, others until then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from models.scoring.assessment import data_set
from models.windows.data import Sitting, sittings_of
from simulator.datasets import uci_har
from streamer.bundle import ModelBundle
from streamer.errors import ConfigError

Subjects = Literal["test", "train"]


@dataclass(frozen=True, slots=True)
class Meeting:
    """Recordings to score a bundle on.

    Attributes:
        sittings: with their groups.
        protocol: whose they are, in words.
        seen_in_training: whether the bundle's model learned from them.
    """

    sittings: list[Sitting]
    protocol: str
    seen_in_training: bool


def known_subjects(subjects: str) -> Subjects:
    """Which part is meant.

    Raises:
        ConfigError: neither.
    """
    if subjects not in get_args(Subjects):
        raise ConfigError(f"--subjects is {subjects!r}; expected one of {', '.join(get_args(Subjects))}")
    return subjects  # type: ignore[return-value]  # mypy does not narrow to a Literal by get_args


def sittings_to_meet(bundle: ModelBundle, dataset: str, *, subjects: Subjects = "test") -> Meeting:
    """The recordings of a data set, of one part where the bundle's training held the other back.

    Raises:
        ConfigError: the data set is unknown, or `subjects` asks for a split that the bundle does not have there.
        RecordingError: the data set is missing or not in its published form.
    """
    name = data_set(dataset)
    training = bundle.manifest.training
    is_own = training.get("dataset") == name
    has_split = is_own and bool(training.get("held_out_for_test"))
    if subjects == "train" and not is_own:
        raise ConfigError(f"--subjects train: {bundle.manifest.name} learned nothing from {dataset}; expected test")
    sittings = sittings_of(name)
    if has_split:
        sittings = [s for s in sittings if (s.group in uci_har.TEST_SUBJECTS) == (subjects == "test")]
    groups = f"{len({s.group for s in sittings})} groups"
    which = {"test": " of official test subjects", "train": " of training subjects"}[subjects] if has_split else ""
    return Meeting(sittings, groups + which, is_own and not (has_split and subjects == "test"))
