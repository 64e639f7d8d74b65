"""The committed dashboards, as Grafana would read them, and their queries with Grafana's variables filled in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

GRAFANA: Final = Path(__file__).resolve().parents[1] / "deploy" / "grafana"
NAMES: Final = ("fleet", "service")
_VARIABLES: Final = {"$__rate_interval": "1m", "$__range": "1m", "$instance": ".*", "$job": ".*"}


def committed(name: str) -> Any:  # noqa: ANN401  # JSON
    """A dashboard's document."""
    return json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text())


def queries(name: str) -> dict[str, str]:
    """What the panels, marks and variables of a dashboard ask Prometheus, by where it stands."""
    document = committed(name)
    asked = {
        f"{name}: {panel['title']} {target['refId']}": target["expr"]
        for panel in document["panels"]
        for target in panel.get("targets", [])
    }
    asked |= {f"{name}: mark {mark['name']}": mark["expr"] for mark in document["annotations"]["list"]}
    return {where: _filled(expr) for where, expr in asked.items()}


def _filled(expr: str) -> str:
    for variable, value in _VARIABLES.items():
        expr = expr.replace(variable, value)
    return expr
