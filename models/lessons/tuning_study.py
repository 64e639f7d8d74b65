"""What teaching gains and costs, on people whom the base has not met: `python -m models.lessons.tuning_study`.

A base is trained as `wisdm-watch-cnn` is, without a fifth of WISDM's people and without three of its activities; a
second one without the people only. Each of those people then teaches

* the first one each of the three activities, by three quarters of three minutes; the last quarter is held out;
* the second their own way of all activities, by the first half of each; the second half is held out.

Besides, two of the shipped models are taught: `uci-har-cnn` by each of HAPT's test subjects by one of two recordings,
and `wisdm-watch-cnn` three activities of gymnastics by the one person of the Fitbit data, by quarters of a minute.

What the others of the fifth do is asked before and after. Halves and quarters are of one sitting, a few seconds apart:
recordings of other days would be told less well. Takes half an hour on two cores, most of it for the two bases.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.fitting.training import fit, training_sittings, training_windows
from models.lessons.rehearsal import made_up_windows
from models.lessons.tuning import Pupil, Teaching, held_out_answers, one_thread
from models.nets.importing import import_network
from models.nets.networks import Network, build
from models.recipes import RECIPES, Recipe
from models.scoring.evaluation import confusion_of, macro_f1
from models.windows.data import Sitting, group_folds, labelled_windows, time_blocks
from simulator.datasets import fitbit, hapt, uci_har
from simulator.datasets.location import data_root
from streamer.bundle import ModelBundle, find_bundle, load_bundle

#: With a rhythm of its own; hardly unlike others; without any rhythm.
LEFT_OUT: Final = ("brushing_teeth", "typing", "folding_clothes")
GYMNASTICS: Final = ("jumping", "squats", "sit_ups")
_GUARD_NS: Final = 2_000_000_000
_RECIPE: Final = RECIPES["wisdm-watch-cnn"]


class People:
    """The people that no base has met: their windows, and their features under a base."""

    def __init__(self, network: Network, sittings: Sequence[Sitting], labels: Sequence[str]) -> None:
        self.labels = labels
        self.plain = labelled_windows(sittings, _RECIPE.spec, labels)
        self.dense = labelled_windows(sittings, _RECIPE.spec, labels, hop_len=_RECIPE.spec.hop_len // 4)
        pupil = Pupil(network, self.plain.samples[:1], new=0)
        self.plain_features, self.dense_features = (pupil.features(w.samples) for w in (self.plain, self.dense))
        self.names = sorted(set(self.plain.groups.tolist()))

    def cut(self, person: str, targets: Sequence[int], share: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which dense windows lie in the first `share` of a person's time of each activity, and which behind it."""
        dense = self.dense
        first, rest = np.zeros((2, len(dense)), np.bool_)
        for target in targets:
            own = (dense.groups == person) & (dense.targets == target)
            if own.any():
                t_ns = dense.start_ns
                end_ns = t_ns[own].min() + share * float(t_ns[own].max() - t_ns[own].min())
                first |= own & (t_ns + _RECIPE.spec.window_ns < end_ns)
                rest |= own & (t_ns > end_ns + _GUARD_NS)
        return first, rest


def teach_new(base: Network, people: People, teaching: Teaching, made_up: NDArray[np.float32]) -> None:
    """Print what it takes to know each activity that was left out."""
    old = len(people.labels) - len(LEFT_OUT)
    for target in range(old, len(people.labels)):
        pupil = Pupil(base, made_up, new=1, teaching=teaching)
        rows = []
        for person in people.names:
            first, rest = people.cut(person, [target], 0.75)
            if not first.any():
                continue
            head = pupil.taught(people.dense_features[torch.from_numpy(first)], np.full(int(first.sum()), old)).head
            known = people.plain.targets < old
            own, others = known & (people.plain.groups == person), known & (people.plain.groups != person)
            told = _told(head, people.plain_features)
            rows.append(
                (
                    (_told(head, people.dense_features)[rest] == old).mean(),
                    (told[(people.plain.targets == target) & (people.plain.groups != person)] == old).mean(),
                    *_before_after(base, head, people, own),
                    *_before_after(base, head, people, others),
                    (told[others] == old).mean(),
                )
            )
        held, by_others, own0, own1, others0, others1, false = np.mean(rows, axis=0)
        print(
            f"  {people.labels[target]:16} recall held out {held:.3f}, of others {by_others:.3f}; macro-F1 of what was "
            f"known, own {own0:.3f} -> {own1:.3f}, others' {others0:.3f} -> {others1:.3f}; "
            f"told wrongly in {false:.3f} of others' windows",
            flush=True,
        )


def teach_person(base: Network, people: People, teaching: Teaching, made_up: NDArray[np.float32]) -> None:
    """Print what a base gains for the people who taught it, and loses for others."""
    pupil = Pupil(base, made_up, new=0, teaching=teaching)
    rows = []
    for person in people.names:
        first, rest = people.cut(person, range(len(people.labels)), 0.5)
        head = pupil.taught(people.dense_features[torch.from_numpy(first)], people.dense.targets[first]).head
        truth, asked = people.dense.targets[rest], people.dense_features[torch.from_numpy(rest)]
        rows.append(
            (
                _f1(truth, _told(base.head, asked), len(people.labels)),
                _f1(truth, _told(head, asked), len(people.labels)),
                *_before_after(base, head, people, people.plain.groups != person),
            )
        )
    own0, own1, others0, others1 = np.mean(rows, axis=0)
    print(f"  macro-F1 own, held out {own0:.3f} -> {own1:.3f}; others' {others0:.3f} -> {others1:.3f}", flush=True)


def teach_phone() -> None:
    """Print what a model that is right already gains by the second recording of each of its test subjects."""
    base = load_bundle(find_bundle("uci-har-cnn"))
    recordings = [r for r in hapt.read_recordings(data_root()) if r.subject in uci_har.TEST_SUBJECTS]
    rows = []
    for subject in sorted(uci_har.TEST_SUBJECTS):
        own = [Sitting(recording.device_id, recording) for recording in recordings if recording.subject == subject]
        truth, *told = _held_out(base, own, base.labels)
        rows.append([_f1(truth, answers, len(base.labels)) for answers in told])
    before, after = np.mean(rows, axis=0)
    print(f"{len(rows)} test subjects of HAPT, {base.manifest.name}: macro-F1 {before:.3f} -> {after:.3f}", flush=True)


def teach_gymnastics() -> None:
    """Print how well three activities are told that a watch of another make and one person taught."""
    base = load_bundle(find_bundle("wisdm-watch-cnn"))
    blocks = [block for recording in fitbit.read_recordings(data_root()) for block in time_blocks(recording, 4)]
    named = [(block.recording.spans[0].activity, block) for block in blocks]
    own = [Sitting(f"{name} {block.group}", block.recording) for name, block in named if name in GYMNASTICS]
    truth, _, told = _held_out(base, own, (*base.labels, *GYMNASTICS))
    for target, activity in enumerate(GYMNASTICS, start=len(base.labels)):
        print(f"Fitbit's {activity}: recall held out {(told[truth == target] == target).mean():.3f}", flush=True)


def _held_out(
    base: ModelBundle, own: Sequence[Sitting], labels: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """What windows are, what the base tells them to be, and what it tells when taught by the other recordings."""
    dense, plain = (labelled_windows(own, base.spec, labels, hop_len=hop) for hop in (base.spec.hop_len // 4, None))
    network = import_network(base)
    pupil = Pupil(network, made_up_windows(base.spec, seed=0), new=len(labels) - len(base.labels))
    before = _told(network.head, pupil.features(plain.samples))
    return plain.targets, before, held_out_answers(pupil, dense, plain).argmax(axis=1)


def _told(head: torch.nn.Module, features: Tensor) -> NDArray[np.int64]:
    with torch.no_grad():
        told: NDArray[np.int64] = head(features).argmax(1).numpy()
    return told


def _before_after(base: Network, head: torch.nn.Linear, people: People, rows: NDArray[np.bool_]) -> tuple[float, float]:
    truth, features = people.plain.targets[rows], people.plain_features[torch.from_numpy(rows)]
    return tuple(_f1(truth, _told(one, features), head.out_features) for one in (base.head, head))  # type: ignore[return-value] # two


def _f1(truth: NDArray[np.int64], told: NDArray[np.int64], labels: int) -> float:
    return macro_f1(confusion_of(truth, told, labels))


def _base(recipe: Recipe, sittings: Sequence[Sitting], file: Path, epochs: int) -> Network:
    """A base network, from the file where it is there already."""
    if not file.exists():
        recipe = replace(recipe, schedule=replace(recipe.schedule, epochs=epochs))
        network, _ = fit(recipe, training_windows(recipe, sittings, seed=0), seed=0, on_epoch=lambda e: print(e.line()))
        torch.save(network.state_dict(), file)
    network = build(recipe.network, channels=len(recipe.spec.channels), outputs=len(recipe.labels))
    network.load_state_dict(torch.load(file))
    return network.eval()


def main() -> None:
    """Train the bases, teach them, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep-bases", type=Path, default=Path(), help="folder for the two trained bases")
    parser.add_argument("--epochs", type=int, default=_RECIPE.schedule.epochs, help="of each base")
    given = parser.parse_args()
    sittings = training_sittings(_RECIPE)
    held = group_folds([sitting.group for sitting in sittings], 5, seed=0)[0]
    met = [sitting for sitting in sittings if sitting.group not in held]
    unmet = [sitting for sitting in sittings if sitting.group in held]
    known = tuple(label for label in _RECIPE.labels if label not in LEFT_OUT)
    person_base = _base(_RECIPE, met, given.keep_bases / "all.pt", given.epochs)
    activity_base = _base(replace(_RECIPE, labels=known), met, given.keep_bases / "without-three.pt", given.epochs)
    knower, learner = People(person_base, unmet, _RECIPE.labels), People(activity_base, unmet, (*known, *LEFT_OUT))
    with one_thread():
        teach_phone()
        teach_gymnastics()
        _compare(activity_base, learner, person_base, knower)


def _compare(activity_base: Network, learner: People, person_base: Network, knower: People) -> None:
    for name, teaching in (("as har-models train does", Teaching()), ("without made-up motion", Teaching(keep=(0.0,)))):
        print(f"{len(knower.names)} people, {name}")
        teach_new(activity_base, learner, teaching, made_up_windows(_RECIPE.spec, seed=0, without=LEFT_OUT))
        teach_person(person_base, knower, teaching, made_up_windows(_RECIPE.spec, seed=0))


if __name__ == "__main__":
    main()
