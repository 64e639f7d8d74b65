"""Real recordings made unlike themselves in known ways, and how often that is found: `python -m tests.likeness`.

For each data set the profile is made of some people's recordings and tried on others': clean ones, where any finding is
a false alarm unless it is true, and ones with one thing wrong. Of HAPT only training subjects are read.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.bundling import training_profile
from models.fitting.training import training_sittings
from models.recipes import RECIPES, Recipe
from models.windows.data import Sitting, group_folds, recordings_of
from streamer.bundle import Manifest, find_bundle, load_bundle
from streamer.explanation import explain
from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.likeness.finding import Kind
from streamer.recording import Recording

Float64 = NDArray[np.float64]
Change = Callable[[ImuBatch], ImuBatch]
_DEGREES: Final = 180 / np.pi


def _values(
    acc: Callable[[Float64], Float64] = lambda values: values,
    gyro: Callable[[Float64], Float64] = lambda values: values,
) -> Change:
    return lambda b: replace(
        b, acc=None if b.acc is None else acc(b.acc), gyro=None if b.gyro is None else gyro(b.gyro)
    )


def _times(change: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> Change:
    return lambda b: replace(b, t_ns=b.t_ns[0] + change(b.t_ns - b.t_ns[0]), rate_hz=None)


def _rows(choose: Callable[[ImuBatch], NDArray[np.int64]]) -> Change:
    def change(b: ImuBatch) -> ImuBatch:
        rows = choose(b)
        return replace(
            b,
            t_ns=b.t_ns[rows],
            acc=None if b.acc is None else b.acc[rows],
            gyro=None if b.gyro is None else b.gyro[rows],
            rate_hz=None,
        )

    return change


def _lost(b: ImuBatch) -> NDArray[np.int64]:
    """Three of ten messages of half a second, drawn by lot."""
    message = (b.t_ns - b.t_ns[0]) // 500_000_000
    kept = np.random.default_rng(len(b)).random(int(message[-1]) + 1) >= 0.3
    return np.flatnonzero(kept[message])


def _without_gravity(acc: Float64) -> Float64:
    """What is left of acceleration without its mean over 51 readings."""
    padded = np.pad(acc, ((25, 25), (0, 0)), mode="edge")
    total = np.concatenate([np.zeros((1, 3)), np.cumsum(padded, axis=0)])
    rest: Float64 = acc - (total[51:] - total[:-51]) / 51
    return rest


def _one_value(values: Float64) -> Float64:
    return np.tile(values[:1], (len(values), 1))


def _bursts(t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Readings stamped as 20 are handed over together."""
    group = np.arange(len(t_ns)) // 20
    return t_ns[group * 20] + (np.arange(len(t_ns)) % 20) * 100_000


_ORDER: Final = [1, 2, 0]
_EXCHANGED: Final = [1, 0, 2]

#: Name, what is expected to be found, and the change. Of several kinds any will do.
CORRUPTIONS: Final[dict[str, tuple[set[Kind], Change]]] = {
    "acceleration in g": ({"acceleration_in_g"}, _values(acc=lambda a: a / STANDARD_GRAVITY)),
    "converted from g twice": ({"acceleration_scale"}, _values(acc=lambda a: a * STANDARD_GRAVITY)),
    "range taken for half": ({"acceleration_scale"}, _values(acc=lambda a: a * 2)),
    "milli-g": ({"acceleration_scale"}, _values(acc=lambda a: a * 1000 / STANDARD_GRAVITY)),
    "gravity taken out": ({"gravity_missing"}, _values(acc=_without_gravity)),
    "gyroscope in deg/s": ({"gyroscope_in_degrees"}, _values(gyro=lambda g: g * _DEGREES)),
    "axes (y, z, x)": ({"orientation"}, _values(lambda a: a[:, _ORDER], lambda g: g[:, _ORDER])),
    "x and y exchanged": (
        {"orientation", "axes_disagree"},
        _values(lambda a: a[:, _EXCHANGED], lambda g: g[:, _EXCHANGED]),
    ),
    "accelerometer's x, y exchanged": ({"orientation", "axes_disagree"}, _values(acc=lambda a: a[:, _EXCHANGED])),
    "accelerometer negated": ({"orientation"}, _values(acc=lambda a: -a)),
    "gyroscope negated": ({"axes_disagree"}, _values(gyro=lambda g: -g)),
    "clipped at 1.5 g": ({"saturated"}, _values(acc=lambda a: np.clip(a, -14.71, 14.71))),
    "gyroscope clipped at 125 deg/s": ({"saturated"}, _values(gyro=lambda g: np.clip(g, -2.18, 2.18))),
    "acc_y missing": ({"dead_axis"}, _values(acc=lambda a: a * [1.0, 0.0, 1.0])),
    "gyroscope frozen at 0": ({"frozen"}, _values(gyro=np.zeros_like)),
    "accelerometer frozen": ({"frozen"}, _values(acc=_one_value)),
    "one reading of eight": ({"feed_rate"}, _rows(lambda b: np.arange(0, len(b), 8))),
    "declares twice its rate": (
        {"feed_rate"},
        lambda b: replace(b, rate_hz=2e9 / float(np.median(np.diff(b.t_ns)))),
    ),
    "times in ms": ({"timestamps"}, _times(lambda t: t // 1_000_000)),
    "times in us": ({"timestamps"}, _times(lambda t: t // 1_000)),
    "times rounded to s": ({"timestamps"}, _times(lambda t: t // 1_000_000_000 * 1_000_000_000)),
    "stamped in bursts": ({"timestamps"}, _times(_bursts)),
    "3 of 10 messages lost": ({"holes"}, _rows(_lost)),
}


def changed(recording: Recording, change: Change) -> Recording:
    """A recording with one thing wrong."""
    return replace(recording, streams=tuple(change(stream) for stream in recording.streams), spans=())


@dataclass(frozen=True, slots=True)
class Trial:
    """Recordings, and the manifest of a model that learned from other people's.

    Attributes:
        name: of the data set.
        sittings: to try.
        manifest: with a profile of the others.
    """

    name: str
    sittings: Sequence[Sitting]
    manifest: Manifest


def trials(recipe: Recipe, *, folds: int, most: int | None = None) -> list[Trial]:
    """A data set's recordings by fold, each with the profile of the other folds' people.

    Args:
        recipe: of the model.
        folds: by group; 1 for the profile of all, tried on themselves.
        most: recordings of each fold.
    """
    # Of the one person of a data set blocks of time are groups for training: here that is one recording.
    sittings = (
        [Sitting("1", recording) for recording in recordings_of(recipe.dataset)]
        if recipe.dataset == "fitbit"
        else training_sittings(recipe)
    )
    manifest = load_bundle(find_bundle(recipe.name)).manifest
    groups = [sitting.group for sitting in sittings]
    held = group_folds(groups, folds, seed=0) if folds > 1 else [frozenset(groups)]
    found = []
    for own in held:
        others = [s for s in sittings if s.group not in own] if folds > 1 else sittings
        profile = training_profile(recipe, others)
        tried = [s for s in sittings if s.group in own][:most]
        found.append(Trial(recipe.dataset, tried, msgspec.structs.replace(manifest, profile=profile)))
    return found


def applies(name: str, manifest: Manifest) -> bool:
    """Whether a model cares."""
    return "gyroscope" not in name or manifest.preprocessing.uses_gyro


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.likeness", description=__doc__)
    parser.add_argument("--recipe", action="append", choices=sorted(RECIPES))
    parser.add_argument("--most", type=int, default=4, help="recordings of each fold with something wrong")
    parser.add_argument("--no-profile", action="store_true", help="as of a bundle without one")
    parser.add_argument("--clean", action="store_true", help="only recordings as they are")
    given = parser.parse_args(arguments)
    for name in given.recipe or ("uci-har-cnn", "wisdm-watch-cnn", "fitbit-cnn"):
        recipe = RECIPES[name]
        found = trials(recipe, folds=1 if recipe.dataset == "fitbit" else 5)
        if given.no_profile:
            found = [replace(t, manifest=msgspec.structs.replace(t.manifest, profile=None)) for t in found]
        _clean(found)
        for what, (expected, change) in {} if given.clean else CORRUPTIONS.items():
            _tried(found, what, expected, change, given.most)


def _clean(found: Sequence[Trial]) -> None:
    told: list[tuple[str, Kind, str, int, int]] = []
    stretches = recordings = 0
    for trial in found:
        for sitting in trial.sittings:
            explanation = explain(sitting.recording, trial.manifest)
            recordings, stretches = recordings + 1, stretches + explanation.stretches
            told += [
                (explanation.device, f.kind, f.seen, f.stretches, explanation.stretches) for f in explanation.findings
            ]
    wrong = len({device for device, *_ in told})
    print(f"{found[0].name}: {recordings} recordings as they are, {stretches} stretches: findings in {wrong}")
    for device, kind, seen, n, of in told:
        print(f"    {device} {kind} in {n} of {of}: {seen}")
    sys.stdout.flush()


def _tried(found: Sequence[Trial], what: str, expected: set[Kind], change: Change, most: int) -> None:
    if not applies(what, found[0].manifest):
        return
    right = total = 0
    others: Counter[str] = Counter()
    for trial in found:
        for sitting in trial.sittings[:most]:
            kinds = {f.kind for f in explain(changed(sitting.recording, change), trial.manifest).findings}
            total += 1
            right += bool(kinds & expected)
            others.update(kinds - expected)
    besides = f"  besides: {dict(others)}" if others else ""
    print(f"    {what:32} {right:3} of {total:3}{besides}", flush=True)


if __name__ == "__main__":
    main()
