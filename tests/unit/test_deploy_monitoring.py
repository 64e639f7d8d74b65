"""Dashboard and alert rules: built from their code, accepted by Prometheus' own tool, over metrics that exist."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from streamer.metrics import Metrics

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD: Final = DEPLOY / "grafana" / "dashboards" / "har-stream.json"


def exposed_names() -> set[str]:
    """The names of all series that the service exposes."""
    metrics = Metrics(activities=["walking"], model="demo", model_digest="0123456789abcdef")
    return {sample.name for family in metrics.registry.collect() for sample in family.samples}


def metric_names(expr: str) -> set[str]:
    """The service's metrics that an expression reads."""
    return set(re.findall(r"\b(?:har|process)_\w+", expr))


def dashboard() -> Any:  # noqa: ANN401  # JSON
    return json.loads(DASHBOARD.read_text())


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def test_the_committed_dashboard_is_what_its_code_builds() -> None:
    built = runpy.run_path(str(DEPLOY / "grafana" / "dashboard.py"))["build"]()
    assert built == DASHBOARD.read_text(), "run python deploy/grafana/dashboard.py and commit what it writes"


def test_every_panel_says_what_it_shows_and_has_an_id_and_title_of_its_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    drawn = [panel for panel in panels if panel["type"] != "row"]
    assert len({panel["title"] for panel in drawn}) == len(drawn)
    for panel in drawn:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]


def test_dashboard_reads_only_metrics_that_the_service_exposes() -> None:
    exprs = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]
    read = set().union(*map(metric_names, exprs))
    assert read - exposed_names() == set()
    assert "har_readings_total" in read


def test_alerts_read_only_metrics_that_the_service_exposes() -> None:
    read = set().union(*(metric_names(rule["expr"]) for rule in rules()))
    assert read - exposed_names() == set()
    assert "har_connected" in read


def test_every_alert_has_a_severity_a_summary_and_a_runbook_line() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "runbook"}, rule["alert"]


def test_every_alert_is_seen_firing_by_the_rule_tests() -> None:
    # promtool runs them below; one that is not named there is not tested.
    tests = (DEPLOY / "prometheus" / "rules_test.yml").read_text()
    assert [rule["alert"] for rule in rules() if not re.search(rf"\b{rule['alert']}\b", tests)] == []


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")],
    ids=" ".join,
)
def test_promtool_accepts(arguments: tuple[str, ...], promtool: Path) -> None:
    done = subprocess.run(
        [promtool, *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
