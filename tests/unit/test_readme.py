"""The README says what the program does: its topics, dependencies and figures are those of the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

from streamer.bundle import shipped_bundles
from streamer.config import DEFAULT_MODEL, ENVIRONMENT_PREFIX
from streamer.wire import topics

ROOT: Final = Path(__file__).resolve().parents[2]
README: Final = (ROOT / "README.md").read_text()


def table(header: str) -> dict[str, list[str]]:
    """A table's rows by their first cell, which is stripped of its backquotes."""
    lines = README[README.index(f"| {header} |") :].splitlines()[2:]
    rows: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        first, *rest = (cell.strip() for cell in line.strip("|").split("|"))
        rows[first.strip("`")] = rest
    return rows


def test_the_ways_to_give_a_setting_are_those_that_the_readme_shows() -> None:
    assert f"{ENVIRONMENT_PREFIX}HTTP_PORT=9500" in README
    example = re.search(r"^--http-port 9500 +HAR_STREAM_HTTP_PORT=9500 +(.+)$", README, re.MULTILINE)
    assert example is not None
    assert tomllib.loads(example[1]) == {"http_port": 9500}


def test_every_topic_of_the_readme_is_one_of_the_service() -> None:
    expected = {topics.imu("<device>"), topics.part("<device>", "<part>"), topics.SENSOR_LOGGER}
    expected.add(topics.status("<client>"))
    expected |= {topics.output("<device>", kind) for kind in ("activity", "event", "health", "window")}
    assert table("topic").keys() == expected


def test_every_dependency_has_its_reason_in_the_readme() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"]]
    requirements += [*extras["train"], *extras["parquet"], *extras["otel"], *extras["docs"]]
    wanted = {re.split(r"[^A-Za-z0-9-]", requirement)[0] for requirement in requirements}
    stated = {name for cell in table("package") for name in cell.split(", ")}
    assert stated == wanted


def test_the_default_model_is_the_one_that_the_readme_marks() -> None:
    assert f"| `{DEFAULT_MODEL}` (default) |" in README


def test_every_figure_of_a_model_stands_in_its_card() -> None:
    models = README[README.index("## Models") : README.index("## Deploy")]
    bundles = shipped_bundles()
    assert table("bundle").keys() == {f"{DEFAULT_MODEL}` (default)", *bundles} - {DEFAULT_MODEL}
    for name, cells in table("bundle").items():
        card = (bundles[name.partition("`")[0]] / "CARD.md").read_text()
        assert [figure for figure in re.findall(r"0\.\d{4}", " ".join(cells)) if figure not in card] == [], name
    streamed = models[models.index("Streamed through") :]
    figures = re.findall(r"0\.\d{4}", streamed)
    assert figures
    card = (bundles["uci-har-cnn"] / "CARD.md").read_text()
    assert [figure for figure in figures if figure not in card] == []


def test_files_that_the_readme_points_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
