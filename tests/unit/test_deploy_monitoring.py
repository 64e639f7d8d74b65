"""Dashboards and alert rules: built from their code, accepted by Prometheus' own tool, over metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from streamer.metrics import Metrics
from tests.dashboards import GRAFANA, NAMES, committed, queries

ROOT: Final = Path(__file__).resolve().parents[2]
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
#: What the models of a dashboard in the SDK leave out: Prometheus' annotations have it in Grafana.
_ONLY_PROMETHEUS: Final = {"titleFormat", "textFormat", "useValueForTime"}


def exposed_names() -> set[str]:
    """The names of all series that the service exposes."""
    metrics = Metrics(activities=["walking"], model="demo", model_digest="0123456789abcdef")
    return {sample.name for family in metrics.registry.collect() for sample in family.samples}


def metric_names(expr: str) -> set[str]:
    """The service's metrics that an expression reads."""
    return set(re.findall(r"\b(?:har|process|python)_\w+", expr))


def drawn(name: str) -> Iterator[dict[str, Any]]:
    """A dashboard's panels, but for the rows' titles."""
    return (panel for panel in committed(name)["panels"] if panel["type"] != "row")


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def test_the_committed_dashboards_are_what_their_code_builds(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GRAFANA / "build.py", tmp_path], check=True)
    built = {file.name: file.read_text() for file in tmp_path.iterdir()}
    shipped = {file.name: file.read_text() for file in (GRAFANA / "dashboards").iterdir()}
    assert built == shipped, "run python deploy/grafana/build.py and commit what it writes"
    assert built.keys() == {f"{name}.json" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_grafanas_own_models_read_a_dashboard_without_leaving_anything_out(name: str) -> None:
    # They are generated from Grafana's schema: a field that it does not know is lost on the way.
    plugins.register_default_plugins()
    document = committed(name)
    again = json.loads(json.dumps(Dashboard.from_json(document), cls=JSONEncoder))
    for annotation in document["annotations"]["list"]:
        for field in _ONLY_PROMETHEUS:
            del annotation[field]
    assert again == document


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_shows_in_which_unit_and_has_an_id_and_title_of_its_own(name: str) -> None:
    panels = list(drawn(name))
    known = {value for unit, value in vars(units).items() if unit[0].isupper()}
    assert len({panel["id"] for panel in committed(name)["panels"]}) == len(committed(name)["panels"])
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in known, panel["title"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_every_query_is_of_the_chosen_job_and_processes(name: str) -> None:
    asked = [target["expr"] for panel in drawn(name) for target in panel["targets"]]
    for expr in [*asked, *(mark["expr"] for mark in committed(name)["annotations"]["list"])]:
        selectors = re.findall(r"\b(?:(?:har|process|python)_\w+|ALERTS)(\{[^}]*\})?", expr)
        assert selectors, expr
        assert all('job=~"$job", instance=~"$instance"' in selector for selector in selectors), expr
    assert [variable["name"] for variable in committed(name)["templating"]["list"]] == ["datasource", "job", "instance"]


def test_the_dashboards_lead_to_each_other_and_one_of_them_is_grafanas_home() -> None:
    addresses = {name: f"/d/{committed(name)['uid']}" for name in NAMES}
    for name in NAMES:
        links = committed(name)["links"]
        assert [link["url"] for link in links] == [address for other, address in addresses.items() if other != name]
        assert all(link["includeVars"] and link["keepTime"] for link in links)
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["grafana"]
    home = Path(compose["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (GRAFANA / "dashboards" / home.name).is_file()
    assert f"./grafana/dashboards:{home.parent}:ro" in compose["volumes"]


def test_the_dashboards_read_all_metrics_that_the_service_exposes_and_no_others() -> None:
    read = {metric for name in NAMES for expr in queries(name).values() for metric in metric_names(expr)}
    exposed = exposed_names()
    assert read - exposed == set()
    families = {re.sub(r"_(bucket|sum|count|created)$", "", metric) for metric in exposed if metric.startswith("har_")}
    shown = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in read}
    assert {family for family in families - shown if f"{family}_total" not in shown} == set(), (
        "a metric that nobody looks at: give it a panel in deploy/grafana/fleet.py or service.py"
    )


def test_alerts_read_only_metrics_that_the_service_exposes() -> None:
    read = set().union(*(metric_names(rule["expr"]) for rule in rules()))
    assert read - exposed_names() == set()
    assert "har_connected" in read


def test_every_alert_has_a_severity_a_summary_and_a_runbook_line() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}, rule["alert"]


def test_every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() -> None:
    page = (ROOT / "docs" / "runbook.md").read_text()
    sections = dict(re.findall(r"^## (HarStream\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert list(sections) == [rule["alert"] for rule in rules()]
    shown = {panel["title"] for name in NAMES for panel in drawn(name)}
    for rule in rules():
        text = " ".join(sections[rule["alert"]].split())
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert text.startswith(f"*{rule['labels']['severity'].capitalize()}.*"), rule["alert"]
        for heading in ("**Means.**", "**Look at.**", "**Do.**"):
            assert text.count(heading) == 1, f"{rule['alert']}: {heading}"
        # A panel is named in quotation marks, by its title.
        assert set(re.findall(r'"([^"]+)"', text)) <= shown, rule["alert"]


def test_every_alert_is_seen_firing_by_the_rule_tests() -> None:
    # promtool runs them below; one that is not named there is not tested.
    tests = (PROMETHEUS / "rules_test.yml").read_text()
    assert [rule["alert"] for rule in rules() if not re.search(rf"\b{rule['alert']}\b", tests)] == []


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")],
    ids=" ".join,
)
def test_promtool_accepts(arguments: tuple[str, ...], promtool: Path) -> None:
    done = subprocess.run([promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_what_the_page_on_grafana_says_to_configure(promtool: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "grafana.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "rules.yml").write_text((PROMETHEUS / "rules.yml").read_text())
    for block in blocks:
        config = yaml.safe_load(block)
        (scrape,) = config["scrape_configs"]
        # The rules ask for this name.
        assert scrape["job_name"] == "har-stream"
        # Debian's Prometheus is built without discovery in Kubernetes.
        if scrape.pop("kubernetes_sd_configs", None) is not None:
            scrape["static_configs"] = [{"targets": ["har-stream:9464"]}]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        done = subprocess.run(
            [promtool, "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
