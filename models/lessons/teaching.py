"""From somebody's own recordings and a base to a bundle that can do both."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.fitting.chain import widened
from models.fitting.training import predict
from models.lessons.lesson import Lesson, Source
from models.lessons.lesson_card import card
from models.lessons.own_recordings import OwnRecording, labels_of, placed, read_own
from models.lessons.rehearsal import made_up_windows
from models.lessons.tuning import Pupil, deal, held_out_answers, one_thread, probabilities, reordered
from models.nets.export import to_onnx
from models.nets.golden import golden_vectors
from models.nets.importing import import_network
from models.nets.networks import Network, parameter_count
from models.scoring.evaluation import score
from models.windows.data import labelled_windows
from streamer.bundle import SCHEMA, Manifest, ModelBundle, Smoothing, find_bundle, load_bundle, save_bundle
from streamer.classifier import Classifier
from streamer.errors import ConfigError

#: Windows to learn from start so many times closer together than those that are served.
_DENSER: Final = 4
_NO_DIGEST: Final = "0" * 64
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True)
class _Taught:
    """A lesson, and the network that it made."""

    lesson: Lesson
    network: Network
    labels: tuple[str, ...]


def teach(
    data: Path,
    base_name: str,
    folder: Path,
    *,
    new: Sequence[str] = (),
    groups: Sequence[str] = (),
    force: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[ModelBundle, Lesson]:
    """Teach a base by the recordings in a folder, and write what comes of it as a bundle of the folder's name.

    Args:
        data: recordings.
        base_name: a shipped bundle's name, or a bundle's folder.
        folder: of the new bundle.
        new: activities that are new although a known one has nearly their name.
        groups: where activities belong that the vocabulary has no place for: LABEL=GROUP each.
        force: replace a bundle that is in the folder.
        say: takes lines of progress.

    Raises:
        ConfigError: the folder's name is none for a bundle, or something is in it; or a label or a group is wrong.
        RecordingError: a recording is.
        BundleError: the base cannot learn further, or what was written does not verify.
    """
    if not _NAME.fullmatch(folder.name):
        raise ConfigError(f"--out {folder}: expected a name of a-z 0-9 -, by which the model is called")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not force:
        raise ConfigError(f"--out {folder}: is there already; expected a new name, or --force to replace it")
    base = load_bundle(find_bundle(base_name))
    own = read_own(data, base, new=new)
    activities = labels_of(own)
    places = base.manifest.groups | placed(groups, tuple({*base.labels, *activities}), activities)
    with one_thread():
        taught = _learn(base, import_network(base), own, say)
    bundle = _bundle(base, taught, folder, places)
    return bundle, taught.lesson


def _learn(base: ModelBundle, network: Network, own: Sequence[OwnRecording], say: Callable[[str], None]) -> _Taught:
    spec, activities = base.spec, labels_of(own)
    added = tuple(label for label in activities if label not in base.labels)
    labels = (*base.labels, *added)
    confused = sorted({*activities} & {*base.manifest.passages})
    if confused:
        raise ConfigError(
            f"label {confused[0]} is a passage of {base.manifest.name}, which is recognised and never told; expected "
            "another name"
        )
    # The base's outputs first; in the bundle passages stand last.
    outputs = (*base.outputs, *added)
    order = [outputs.index(name) for name in (*labels, *base.manifest.passages)]
    places = np.array([labels.index(name) if name in labels else -1 for name in outputs])
    sittings = [sitting for one in own for sitting in one.sittings]
    seconds = sum(sum(one.seconds().values()) for one in own)
    say(f"{len(own)} recordings, {seconds / 60:.1f} minutes of {', '.join(activities)}")
    dense = labelled_windows(sittings, spec, outputs, hop_len=max(spec.hop_len // _DENSER, 1))
    plain = labelled_windows(sittings, spec, outputs)
    truth = replace(plain, targets=places[plain.targets])
    pupil = Pupil(network, made_up_windows(spec, seed=0), new=len(added))
    # None for what the base does not know.
    said = np.pad(Classifier(base).predict(plain.samples), ((0, 0), (0, len(added))))
    before = score(said[:, order], truth, labels)
    answers = held_out_answers(
        pupil, dense, plain, on_fold=lambda done, of: say(f"learned without part {done} of {of}, and told it")
    )
    taught = pupil.taught(pupil.features(dense.samples), dense.targets)
    say("learned from all recordings")
    # Motion that was not learned from.
    others = pupil.features(made_up_windows(spec, seed=1))
    was, told = probabilities(network.head, others).argmax(1), probabilities(taught.head, others).argmax(1)
    lesson = Lesson(
        base=base.manifest.name,
        base_digest=base.digest,
        activities=tuple(activities),
        new=added,
        sources=tuple(Source(name=one.name, sha256=one.sha256, seconds=one.seconds()) for one in own),
        folds=len(deal(plain)),
        before=before,
        after=score(answers[:, order], truth, labels),
        keep=taught.keep,
        made_up=len(told),
        kept=float((was == told).mean()),
        turned_new=float((told >= len(base.outputs)).mean()),
    )
    network.head = reordered(taught.head, order)
    return _Taught(lesson, network, labels)


def _smoothing(base: ModelBundle, new: int) -> Smoothing:
    smoothing = base.manifest.smoothing
    if smoothing.chain is None:
        return smoothing
    return msgspec.structs.replace(smoothing, chain=widened(smoothing.chain, len(base.labels), new))


def _bundle(base: ModelBundle, taught: _Taught, folder: Path, places: dict[str, str]) -> ModelBundle:
    """Write the bundle, card and all, and read it back.

    Raises:
        BundleError: what was written does not verify.
    """
    lesson, network = taught.lesson, taught.network
    model = to_onnx(network, window_len=base.spec.window_len)
    inherited = ("dataset", "held_out_for_test", "calibrated_on", "temperature")
    summary = f"{base.manifest.name}, taught {', '.join(lesson.activities)} by {len(lesson.sources)} recordings"
    manifest = Manifest(
        schema=SCHEMA,
        name=folder.name,
        version="1",
        labels=taught.labels,
        preprocessing=base.spec,
        min_feed_rate_hz=base.manifest.min_feed_rate_hz,
        smoothing=_smoothing(base, len(lesson.new)),
        training={
            "summary": summary,
            "base": lesson.base,
            "base_digest": lesson.base_digest,
            **{name: text for name, text in base.manifest.training.items() if name in inherited},
            "parameters": str(parameter_count(network)),
            "lesson": msgspec.json.encode(lesson).decode(),
        },
        model_sha256=_NO_DIGEST,
        golden_sha256=_NO_DIGEST,
        groups=places,
        profile=base.manifest.profile,
        passages=base.manifest.passages,
    )
    golden = golden_vectors(manifest, model, lambda windows: predict(network, windows.copy()), seed=0)
    bundle = save_bundle(folder, manifest, model, golden)
    (folder / "CARD.md").write_text(card(bundle, lesson, base), encoding="utf-8")
    return bundle
