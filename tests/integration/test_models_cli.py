"""What a user meets at `har-models`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from models.recipes import RECIPES
from models.reports.palette import colour_of, hues
from models.scoring.crossvalidation import CrossValidation, Run, put_together, write_crossvalidation
from models.scoring.evaluation import score
from models.scoring.held_out import plan
from models.windows.data import LabelledWindows
from streamer.activities import ACTIVITIES, GROUPS
from streamer.bundle import load_bundle


def har_models(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\n{before}\nfrom models.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_help_names_every_command_and_imports_nothing_slow() -> None:
    before = (
        "import atexit; atexit.register(lambda: print(sorted({'torch', 'scipy', 'onnxruntime'} & set(sys.modules))))"
    )
    found = har_models("--help", before=before)
    assert found.returncode == 0
    for command in ("list", "train", "crossvalidate", "leave-out", "evaluate", "quantize", "report"):
        assert command in found.stdout
    assert found.stdout.rstrip().endswith("[]")


def test_list_shows_the_shipped_bundles() -> None:
    found = har_models("list")
    assert found.returncode == 0
    for name in RECIPES:
        assert name in found.stdout


@pytest.mark.parametrize(
    "command", [("train", "uci-har-cnn"), ("crossvalidate", "uci-har-cnn"), ("report", "uci-har-cnn")]
)
def test_without_the_train_extra_one_line_says_what_to_install(command: tuple[str, ...]) -> None:
    # A finder that denies torch, as on a machine where it is not installed.
    before = (
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'torch' else real(name, *rest)"
    )
    found = har_models(*command, before=before)
    assert found.returncode == 2
    assert found.stderr.splitlines() == [
        "har-models: torch not installed; this command needs them: pip install 'har-stream[train]'"
    ]


def test_unknown_recipe_bundle_and_data_set_are_one_line_and_status_2() -> None:
    for arguments, expected in (
        (("train", "nothing"), "recipe 'nothing' is unknown"),
        (("evaluate", "nothing", "--dataset", "hapt"), "model 'nothing' is neither"),
        (("evaluate", "wisdm-watch-cnn", "--dataset", "nothing"), "data set 'nothing' is unknown"),
        (("evaluate", "wisdm-watch-cnn", "--dataset", "nothing", "--unworn"), "data set 'nothing' is unknown"),
        (("evaluate", "fitbit-cnn", "--dataset", "fitbit", "--unworn", "--streaming"), "expected one of --streaming"),
        (
            ("evaluate", "fitbit-cnn", "--dataset", "hapt", "--unworn", "--subjects", "train"),
            "learned nothing from hapt",
        ),
        (("evaluate", "fitbit-cnn", "--dataset", "fitbit", "--variations", "--subjects", "x"), "--subjects is 'x'"),
        (("quantize", "nothing"), "model 'nothing' is neither"),
    ):
        found = har_models(*arguments)
        assert (found.returncode, len(found.stderr.splitlines())) == (2, 1)
        assert expected in found.stderr


def test_evaluate_writes_the_figures_as_json(data_dir: Path, tmp_path: Path) -> None:
    assert data_dir
    path = tmp_path / "figures.json"
    assert har_models("evaluate", "fitbit-cnn", "--dataset", "fitbit", "--json", str(path)).returncode == 0
    figures = json.loads(path.read_text())
    assert {"accuracy", "macro_f1", "per_class", "confusion", "n", "labels", "seen_in_training"} <= figures.keys()
    assert figures["seen_in_training"] is True


def test_evaluate_streaming_writes_every_figure_of_bouts_as_json(data_dir: Path, tmp_path: Path) -> None:
    assert data_dir
    path = tmp_path / "figures.json"
    found = har_models("evaluate", "fitbit-cnn", "--dataset", "fitbit", "--streaming", "--json", str(path))
    assert found.returncode == 0, found.stderr
    figures = json.loads(path.read_text())
    of_bouts = {"bout_f1", "insertions_per_h", "fragmentation", "merges", "edit_score", "lost_time"}
    assert {"hindsight_accuracy", "live_accuracy", "detection_median_s", "detection_p95_s", "never_detected"} <= (
        figures.keys()
    )
    assert of_bouts <= figures.keys()
    assert of_bouts <= figures["live"].keys()
    assert f"F1 {figures['bout_f1']:.4f}" in found.stdout


def test_crossvalidate_goes_on_from_its_file(tmp_path: Path) -> None:
    # Runs that are there already are not repeated, so that this takes no training.
    path = tmp_path / "figures.json"
    write_crossvalidation(path, settled("fitbit-cnn"))
    before = path.read_bytes()
    found = har_models("crossvalidate", "fitbit-cnn", "--json", str(path))
    assert (found.returncode, path.read_bytes()) == (0, before), found.stderr
    assert "all 5 runs are there already" in found.stderr
    assert "worst run" in found.stdout


def settled(name: str) -> CrossValidation:
    """Figures of a recipe as if all its runs had been made."""
    recipe = RECIPES[name]
    wanted = plan(recipe)
    runs = []
    for number, (seed, fold) in enumerate(wanted.runs):
        targets = np.arange(40) % len(recipe.labels)
        truth = LabelledWindows(
            np.zeros((40, 1, 1), np.float32), targets, np.full(40, f"block {number}"), np.zeros(40, np.int64)
        )
        own = score(np.eye(len(recipe.labels), dtype=np.float32)[targets], truth, recipe.labels)
        figures = {name: getattr(own, name) for name in ("n", "accuracy", "macro_f1", "group_macro_f1")}
        runs.append(Run(seed=seed, fold=fold, groups=tuple(own.per_group), figures=own, **figures))
    leaky = {"accuracy": 1.0, "macro_f1": 1.0}
    return put_together(wanted.settings, runs, wanted.runs, who="blocks of time", epochs=20, leaky=leaky)


def test_quantize_writes_a_bundle_of_its_own_name_that_loads_and_compares_it(data_dir: Path, tmp_path: Path) -> None:
    assert data_dir
    folder, path = tmp_path / "small", tmp_path / "figures.json"
    found = har_models("quantize", "fitbit-cnn", "--out", str(folder), "--json", str(path))
    assert found.returncode == 0, found.stderr
    figures = json.loads(path.read_text())
    bundle = load_bundle(folder)
    assert (bundle.manifest.name, bundle.digest) == ("fitbit-cnn-int8", figures["digest"])
    assert figures["int8_bytes"] == (folder / "model.onnx").stat().st_size < 0.3 * figures["float32_bytes"]
    assert figures["equal_labels"] > 0.97
    assert "in integers of 8 bits" in (folder / "CARD.md").read_text(encoding="utf-8")
    again = har_models("quantize", str(folder))
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
    assert "is quantized already" in again.stderr


def test_report_writes_pictures_and_a_page(data_dir: Path, tmp_path: Path) -> None:
    assert data_dir
    began = time.monotonic()
    found = har_models("report", "fitbit-cnn", "--out", str(tmp_path))
    assert found.returncode == 0, found.stderr
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for name in (
        "curves",
        "confusion",
        "per_class",
        "per_group",
        "reliability",
        "timeline",
        "onset_delay",
        "pca",
        "windows",
    ):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        assert f"{name}.png" in page
    assert time.monotonic() - began < 60


def test_pictures_colour_activities_as_the_live_page_does() -> None:
    named = {*ACTIVITIES, *GROUPS}
    assert named <= hues().keys()
    assert len({colour_of(activity) for activity in named}) == len(named)
    # What Chromium draws for oklch(0.68 0.155 156), and for oklch(0.58 0.155 176), which sRGB does not hold.
    assert (colour_of("walking"), colour_of("walking_upstairs")) == ("#24b46e", "#009677")
    assert colour_of("juggling") == colour_of("juggling") != colour_of("unknown")
