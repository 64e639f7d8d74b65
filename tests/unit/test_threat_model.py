"""The threat model's page holds what it says: each row names a defence and a test that exists."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "threat-model.md"


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def functions_of(file: Path) -> set[str]:
    """Names of a module's test functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, functions)}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[1])
def test_each_threat_has_a_defence_and_a_test_that_exists(row: list[str]) -> None:
    _, threat, defence, test = row
    assert threat
    assert defence
    file, _, name = test.partition("::")
    assert name in functions_of(ROOT / file)


def test_rows_begin_with_who() -> None:
    assert rows()[0][0]
    assert len(rows()) > 20
