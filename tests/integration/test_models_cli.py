"""What a user meets at `har-models`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.recipes import RECIPES


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
    for command in ("list", "train", "crossvalidate", "evaluate", "report"):
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


def test_report_writes_pictures_and_a_page(data_dir: Path, tmp_path: Path) -> None:
    assert data_dir
    began = time.monotonic()
    found = har_models("report", "fitbit-cnn", "--out", str(tmp_path))
    assert found.returncode == 0, found.stderr
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for name in ("curves", "confusion", "per_class", "per_group", "pca", "windows"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        assert f"{name}.png" in page
    assert time.monotonic() - began < 60
