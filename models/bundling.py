"""From a recipe to a bundle: fit on a part to calibrate on the rest, fit on all, export, verify."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from models.fitting.calibration import Calibration, calibrate, predictor
from models.fitting.epoch import Epoch
from models.fitting.training import make_network, training_sittings, training_windows
from models.nets.export import to_onnx
from models.nets.golden import golden_vectors
from models.nets.networks import Network, parameter_count
from models.recipes import Recipe
from models.reports.card import card
from models.scoring.assessment import evaluate_bundle
from models.scoring.crossvalidation import CrossValidation, crossvalidations_in, read_crossvalidation
from models.scoring.false_activity import evaluate_unworn
from models.scoring.robustness import evaluate_variations
from models.scoring.streaming import evaluate_streaming
from models.windows.data import Sitting
from models.windows.profile import profile_of
from streamer.bundle import SCHEMA, Manifest, ModelBundle, load_bundle, save_bundle, shipped_bundles
from streamer.errors import ConfigError
from streamer.likeness.profile import Profile

#: What was tried on the way to a shipped model, as a table; kept by hand.
TRIED_FILE: Final = "TRIED.md"
_NO_DIGEST: Final = "0" * 64


def make_bundle(
    recipe: Recipe,
    network: Network,
    calibration: Calibration,
    folder: Path,
    *,
    seed: int,
    training: dict[str, str] | None = None,
    profile: Profile | None = None,
) -> ModelBundle:
    """Export a network, add golden vectors, write the bundle and read it back.

    Raises:
        BundleError: what was written does not verify.
    """
    model = to_onnx(network, window_len=recipe.spec.window_len, temperature=calibration.temperature)
    manifest = Manifest(
        schema=SCHEMA,
        name=recipe.name,
        version=recipe.version,
        labels=recipe.labels,
        preprocessing=recipe.spec,
        min_feed_rate_hz=recipe.min_feed_rate_hz,
        smoothing=calibration.smoothing,
        training={
            "recipe": recipe.name,
            "summary": recipe.summary,
            "seed": str(seed),
            "dataset": recipe.dataset,
            "held_out_for_test": "official test subjects" if recipe.official_split else "",
            "calibrated_on": ", ".join(calibration.groups),
            "temperature": f"{calibration.temperature:.3f}",
            "parameters": str(parameter_count(network)),
            "history": json.dumps(
                [[e.number, _short(e.loss), _short(e.accuracy), _short(e.macro_f1)] for e in calibration.history]
            ),
            **(training or {}),
        },
        model_sha256=_NO_DIGEST,
        golden_sha256=_NO_DIGEST,
        passages=recipe.passages,
        profile=profile,
    )
    golden = golden_vectors(manifest, model, predictor(network, calibration.temperature), seed=seed)
    return save_bundle(folder, manifest, model, golden)


def finish_bundle(
    recipe: Recipe,
    folder: Path,
    *,
    seed: int,
    crossvalidation: Sequence[Path] = (),
    say: Callable[[str], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> ModelBundle:
    """Train a recipe to the end: calibrate, fit on all training groups, write bundle and card.

    Args:
        recipe: what to train.
        folder: of the bundle.
        seed: of weights, order and augmentation.
        crossvalidation: JSON files of `har-models crossvalidate` for the card and for reports.
        say: takes lines of progress.
        on_epoch: takes the epochs of both fits.

    Raises:
        ConfigError: the data set or the JSON can't be read.
        BundleError: what was written does not verify.
    """
    figures = _read_crossvalidations(recipe, crossvalidation)
    sittings = training_sittings(recipe)
    say(f"{recipe.name}: {len(sittings)} recordings; fitting without some groups, to calibrate on them")
    train = training_windows(recipe, sittings, seed=seed)
    calibration = calibrate(recipe, sittings, seed=seed, windows=train, on_epoch=on_epoch)
    told = f"temperature {calibration.temperature:.3f}, enter {calibration.smoothing.enter:g}"
    say(f"{told}, leave {calibration.smoothing.leave:g}; fitting on all training groups")
    network, _ = make_network(recipe, sittings, train, seed=seed, on_epoch=on_epoch)
    profile = training_profile(recipe, sittings)
    bundle = make_bundle(recipe, network, calibration, folder, seed=seed, training=figures, profile=profile)
    say("scoring")
    write_card(recipe, bundle, folder)
    return bundle


def add_crossvalidation(recipe: Recipe, folder: Path, crossvalidation: Sequence[Path]) -> ModelBundle:
    """Put the figures of `har-models crossvalidate` into a bundle and write its card anew; the model stays as it is.

    Raises:
        ConfigError: the data set or the JSON can't be read.
        BundleError: the bundle does not verify.
    """
    bundle = load_bundle(folder)
    figures = _read_crossvalidations(recipe, crossvalidation)
    if figures:
        manifest = msgspec.structs.replace(bundle.manifest, training=bundle.manifest.training | figures)
        bundle = save_bundle(folder, manifest, bundle.model, bundle.golden)
    write_card(recipe, bundle, folder)
    return bundle


def training_profile(recipe: Recipe, sittings: Sequence[Sitting]) -> Profile:
    """What a recipe's training recordings were like."""
    return profile_of(
        sittings,
        least_hz=recipe.min_feed_rate_hz,
        max_gap_ns=recipe.spec.max_gap_ns,
        reach_deg=recipe.variety.rotation_deg,
    )


def add_profile(recipe: Recipe, bundle: ModelBundle, folder: Path) -> ModelBundle:
    """Write a bundle with its training recordings' profile into a folder; the model stays as it is.

    Raises:
        RecordingError: the data set is missing or not in its published form.
        BundleError: what was written does not verify.
    """
    profile = training_profile(recipe, training_sittings(recipe))
    return save_bundle(folder, msgspec.structs.replace(bundle.manifest, profile=profile), bundle.model, bundle.golden)


def write_card(recipe: Recipe, bundle: ModelBundle, folder: Path) -> None:
    """CARD.md with the figures that `har-models evaluate` gives for this bundle, and those that it holds."""
    (folder / "CARD.md").write_text(
        card(
            recipe,
            bundle,
            [evaluate_bundle(bundle, dataset) for dataset in recipe.evaluate_on],
            [evaluate_streaming(bundle, dataset) for dataset in recipe.stream_on],
            crossvalidations_in(bundle),
            stressed=[
                figures.markdown()
                for dataset in recipe.stress_on
                for figures in (evaluate_variations(bundle, dataset), evaluate_unworn(bundle, dataset))
            ],
            tried=what_was_tried(recipe),
        ),
        encoding="utf-8",
    )


def what_was_tried(recipe: Recipe) -> str | None:
    """TRIED.md of the recipe's shipped bundle, which is kept by hand; None without one."""
    folder = shipped_bundles().get(recipe.name)
    path = None if folder is None else folder / TRIED_FILE
    return path.read_text(encoding="utf-8").strip() if path is not None and path.is_file() else None


def _read_crossvalidations(recipe: Recipe, paths: Sequence[Path]) -> dict[str, str]:
    """Entries for a bundle's `training`: the documents without what takes most of their room."""
    found = {}
    for path in paths:
        figures: CrossValidation = read_crossvalidation(path).without_details()
        if figures.recipe != recipe.name:
            raise ConfigError(f"{path}: figures of {figures.recipe}; expected those of {recipe.name}")
        if figures.missing:
            raise ConfigError(
                f"{path}: {len(figures.missing)} of {len(figures.planned)} runs are missing; expected all of them"
            )
        found[figures.key] = msgspec.json.encode(figures).decode()
    return found


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
