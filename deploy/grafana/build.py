# ruff: noqa: INP001  # a program of its own, in no package
"""Write the Grafana dashboards: `python deploy/grafana/build.py` writes dashboards/*.json, or into a folder given."""

from __future__ import annotations

import sys
from pathlib import Path

from drawing import build
from fleet import FLEET
from service import SERVICE

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "dashboards"
    folder.mkdir(parents=True, exist_ok=True)
    for name, board in {"fleet": FLEET, "service": SERVICE}.items():
        (folder / f"{name}.json").write_text(build(board), encoding="utf-8")
