"""har-models: train, cross-validate, evaluate and report the shipped models. Exit status 2 for what can't be used."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from streamer.commandline import run
from streamer.completion import bundles, one_of
from streamer.errors import ConfigError

if TYPE_CHECKING:
    from streamer.bundle import ModelBundle

# torch, scipy and onnxruntime take seconds to import: --help must not wait for them.

app = typer.Typer(no_args_is_help=True, help="Train, score and plot har-stream's models.")

_TRAIN_EXTRA: Final = ("torch", "onnx", "matplotlib")


def _data_sets(incomplete: str) -> list[str]:
    """Offered on Tab."""
    from simulator.sources import DATA_SETS

    return one_of(DATA_SETS)(incomplete)


# Each recipe has a bundle of its name, and those are found without importing torch.
RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="a recipe's name, see `har-models list`", autocompletion=bundles)
]
BundleName = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="a shipped bundle's name, or a bundle's folder", autocompletion=bundles)
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the figures there, too")]
# Whoever chooses by figures of the test part has no test left: it is for finished models.
PartOfSubjects = Annotated[
    str, typer.Option("--subjects", metavar="test|train", help="of an official split; train while making a model")
]


@app.command("list")
def list_models() -> None:
    """Show recipes and shipped bundles."""
    from streamer.bundle import load_bundle, shipped_bundles
    from streamer.config import DEFAULT_MODEL

    for name, folder in shipped_bundles().items():
        bundle = load_bundle(folder)
        spec = bundle.spec
        default = "  (default)" if name == DEFAULT_MODEL else ""
        print(
            f"{name}  {bundle.digest}  {len(bundle.labels)} activities, {spec.rate_hz} Hz, "
            f"window {spec.window_len / spec.rate_hz:g} s every {spec.hop_len / spec.rate_hz:g} s, "
            f"{spec.sensors_in_words}{default}"
        )
        print(f"    {bundle.manifest.training.get('summary', '')}")


@app.command()
def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="a recipe's name, see `har-models list`",
            autocompletion=bundles,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="own labelled recordings to teach --base by, in place of a recipe"),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="BUNDLE", help="a shipped bundle's name, or a bundle's folder", autocompletion=bundles),
    ] = None,
    new: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="an activity of --data that is new in spite of its name")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=GROUP", help="where an activity of --data belongs, such as waving=moving"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of weights, order and augmentation of a recipe")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder of the bundle; by default ./RECIPE or ./BASE-own")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace what --data taught before")] = False,
    figures: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="JSON of `crossvalidate`, to go on the card of a recipe's model"),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Train a recipe's model, or teach a finished one by own recordings, and write its bundle."""
    if (recipe is None) == (data is None) or (data is None) != (base is None):
        raise ConfigError("expected a recipe, or own recordings by --data with the model to teach by --base")
    _require_train_extra()
    if data is not None and base is not None:
        _teach(data, base, out, new=tuple(new or ()), groups=tuple(group or ()), force=force, json_file=json_file)
        return
    from models.bundling import finish_bundle
    from models.recipes import find_recipe
    from models.reports.progress import told

    chosen = find_recipe(recipe or "")
    folder = out or Path(chosen.name)
    with told(_say) as (say, on_epoch):
        bundle = finish_bundle(chosen, folder, seed=seed, crossvalidation=figures or (), say=say, on_epoch=on_epoch)
    _say(f"wrote {folder}: bundle {bundle.manifest.name}, digest {bundle.digest}")


def _teach(
    data: Path,
    base: str,
    out: Path | None,
    *,
    new: tuple[str, ...],
    groups: tuple[str, ...],
    force: bool,
    json_file: Path | None,
) -> None:
    from models.lessons.teaching import teach
    from models.reports.progress import told

    folder = out or Path(f"{Path(base).name}-own")
    with told(_say) as (say, _):
        bundle, lesson = teach(data, base, folder, new=new, groups=groups, force=force, say=say)
    print(lesson.text())
    _write(json_file, lesson.json())
    _say(f"wrote {folder}: {len(bundle.labels)} activities, digest {bundle.digest}; har-stream --model {folder}")


@app.command()
def crossvalidate(
    recipe: RecipeName,
    folds: Annotated[
        int | None,
        typer.Option(min=0, help="folds by group; 0, the default where there is one: the official test split"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="repeats, with seeds from 0")] = 1,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, metavar="N", help="this seed only, in place of --seeds")
    ] = None,
    fold: Annotated[list[int] | None, typer.Option(min=0, metavar="N", help="this fold only, from 0")] = None,
    all_subjects: Annotated[
        bool,
        typer.Option("--all-subjects", help="folds over the subjects of both official parts, scored on their windows"),
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(help="fit each run's temperature on some of its training groups, by a fit without them"),
    ] = True,
    calibration_folds: Annotated[
        int | None,
        typer.Option(min=2, help="fit each fold's chain on so many of the others, for fewer fits; on all without it"),
    ] = None,
    merge: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="take in the runs of another such JSON")
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="write the figures there after every run; its runs are not repeated"
        ),
    ] = None,
) -> None:
    """Score a recipe on people (or blocks of time) that each fitted model did not see, in pieces if need be."""
    _require_train_extra()
    from models.recipes import find_recipe
    from models.reports.progress import told
    from models.scoring.crossvalidation import runs_of, write_crossvalidation
    from models.scoring.held_out import crossvalidate as run
    from models.scoring.held_out import plan

    chosen = find_recipe(recipe)
    wanted = plan(
        chosen,
        folds=folds,
        seeds=seed or range(seeds),
        only_folds=fold,
        all_subjects=all_subjects,
        calibrated=calibrate,
        calibration_folds=calibration_folds,
    )
    files = [*(merge or ()), *([json_file] if json_file is not None and json_file.exists() else [])]
    earlier = [runs_of(file, wanted.settings) for file in files]
    with told(_say) as (say, on_epoch):
        result = run(
            chosen,
            wanted,
            earlier=earlier,
            say=say,
            on_epoch=on_epoch,
            on_run=lambda document: None if json_file is None else write_crossvalidation(json_file, document),
        )
    print(result.text())
    if json_file is not None:
        write_crossvalidation(json_file, result)


@app.command()
def evaluate(
    bundle: BundleName,
    dataset: Annotated[str, typer.Option(help="uci-har, hapt, wisdm-watch or fitbit", autocompletion=_data_sets)],
    streaming: Annotated[
        bool, typer.Option("--streaming", help="score the recognizer's bouts over continuous recordings")
    ] = False,
    variations: Annotated[
        bool, typer.Option("--variations", help="score it on turned, slower, lossy and mistimed recordings")
    ] = False,
    unworn: Annotated[
        bool, typer.Option("--unworn", help="see what it tells of watches that nobody wears and of dead axes")
    ] = False,
    subjects: PartOfSubjects = "test",
    json_file: JsonFile = None,
) -> None:
    """Score a bundle on a data set, as it would be served."""
    from models.scoring.assessment import evaluate_bundle
    from models.scoring.streaming import evaluate_streaming
    from streamer.bundle import find_bundle, load_bundle

    if streaming + variations + unworn > 1:
        raise ConfigError("expected one of --streaming, --variations and --unworn at a time")
    loaded = load_bundle(find_bundle(bundle))
    if streaming:
        from models.scoring.subjects import known_subjects

        streamed = evaluate_streaming(loaded, dataset, subjects=known_subjects(subjects))
        print(streamed.text())
        _write(json_file, streamed.json())
        return
    if variations or unworn:
        _stress(loaded, dataset, subjects, json_file, unworn=unworn)
        return
    if subjects != "test":
        raise ConfigError(f"--subjects {subjects}: expected --streaming, --variations or --unworn with it")
    result = evaluate_bundle(loaded, dataset)
    print(result.text())
    _write(json_file, result.json())


def _stress(loaded: ModelBundle, dataset: str, subjects: str, json_file: Path | None, *, unworn: bool) -> None:
    from models.reports.progress import told
    from models.scoring.false_activity import Unworn, evaluate_unworn
    from models.scoring.robustness import Robustness, evaluate_variations
    from models.scoring.subjects import known_subjects

    part = known_subjects(subjects)
    result: Robustness | Unworn
    with told(_say) as (say, _):
        if unworn:
            result = evaluate_unworn(loaded, dataset, subjects=part, say=say)
        else:
            result = evaluate_variations(loaded, dataset, subjects=part, say=say)
    print(result.text())
    _write(json_file, result.json())


@app.command("leave-out")
def leave_out(
    recipe: RecipeName,
    folds: Annotated[
        int, typer.Option(min=3, help="parts of the training groups: one is scored, one calibrates refusal")
    ] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="repeats, with seeds from 0")] = 1,
    json_file: JsonFile = None,
) -> None:
    """Leave each activity out of training in turn: how well does `unknown` tell what was never taught?"""
    _require_train_extra()
    from models.recipes import find_recipe
    from models.reports.progress import told
    from models.scoring.open_set import leave_out_activities

    with told(_say) as (say, on_epoch):
        result = leave_out_activities(find_recipe(recipe), seeds=seeds, folds=folds, say=say, on_epoch=on_epoch)
    print(result.text())
    _write(json_file, result.json())


@app.command()
def quantize(
    bundle: BundleName,
    out: Annotated[
        Path | None,
        typer.Option("--out", "--output", metavar="DIR", help="folder of the new bundle; by default ./BUNDLE-int8"),
    ] = None,
    subjects: PartOfSubjects = "test",
    json_file: JsonFile = None,
) -> None:
    """Write a bundle's twin in integers of 8 bits, and compare the two: size, accuracy, equal answers, time."""
    _require_train_extra()
    from models.nets.quantizing import quantize_bundle
    from models.scoring.quantized import card as card_of
    from models.scoring.quantized import compare
    from models.scoring.subjects import known_subjects
    from streamer.bundle import find_bundle, load_bundle

    part = known_subjects(subjects)
    whole = load_bundle(find_bundle(bundle))
    folder = out or Path(f"{whole.manifest.name}-int8")
    quantized = quantize_bundle(whole, folder)
    _say(f"wrote {folder}: bundle {quantized.manifest.name}, digest {quantized.digest}")
    result = compare(whole, quantized, subjects=part)
    (folder / "CARD.md").write_text(card_of(result), encoding="utf-8")
    print(result.text())
    _write(json_file, result.json())


@app.command()
def report(
    bundle: BundleName,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="by default ./BUNDLE-report")] = None,
) -> None:
    """Draw a bundle's training curves, confusion, per-class and per-subject figures as PNG and one HTML page."""
    _require_train_extra()
    from models.reports.report import write_report
    from streamer.bundle import find_bundle, load_bundle

    loaded = load_bundle(find_bundle(bundle))
    folder = out or Path(f"{loaded.manifest.name}-report")
    _say(f"wrote {write_report(loaded, folder)}")


@app.command()
def card(
    bundle: BundleName,
    figures: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="JSON of `crossvalidate`, to be added")
    ] = None,
) -> None:
    """Score a bundle anew and rewrite its model card."""
    _require_train_extra()
    from models.bundling import add_crossvalidation
    from models.recipes import find_recipe
    from streamer.bundle import find_bundle, load_bundle

    folder = find_bundle(bundle)
    written = add_crossvalidation(find_recipe(load_bundle(folder).manifest.name), folder, figures or ())
    _say(f"wrote {folder / 'CARD.md'}: digest {written.digest}")


@app.command()
def profile(
    bundle: BundleName,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder of the bundle with it; by default the bundle's own")
    ] = None,
) -> None:
    """Add to a bundle what its training recordings were like; its digest changes, and `card` writes its card anew."""
    _require_train_extra()
    from models.bundling import add_profile
    from models.recipes import find_recipe
    from streamer.bundle import find_bundle, load_bundle

    folder = find_bundle(bundle)
    loaded = load_bundle(folder)
    written = add_profile(find_recipe(loaded.manifest.name), loaded, out or folder)
    described = written.manifest.profile
    _say(f"wrote {out or folder}: digest {written.digest}, profile of {described.summary if described else 'nothing'}")


def main() -> NoReturn:
    """Entry point of `har-models`."""
    run(app, "har-models")


def _require_train_extra() -> None:
    missing = [name for name in _TRAIN_EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not installed; this command needs them: pip install 'har-stream[train]'"
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(path: Path | None, content: bytes) -> None:
    if path is None:
        return
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
