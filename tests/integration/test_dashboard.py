"""Every query of the dashboards and every alert, put to a real Prometheus that scraped a live service."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.conftest import missing
from tests.dashboards import NAMES, queries
from tests.servers import HOST, Mosquitto, Prometheus, answers, find_program, free_port, wait_until

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
BIN: Final = Path(sys.executable).parent
_STARTUP_S: Final = 60


def alert_selectors() -> list[str]:
    """Every series that an alert reads, with the labels that it is chosen by."""
    document = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    exprs = [rule["expr"] for group in document["groups"] for rule in group["rules"]]
    return sorted({found for expr in exprs for found in re.findall(r"\b(?:har_\w+|up)\b(?:\{[^}]*\})?", expr)})


@pytest.fixture(scope="module")
def scraped(prometheus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with the shipped configuration that has watched a service recognise four synthetic watches."""
    folder = tmp_path_factory.mktemp("dashboard")
    program = find_program("mosquitto")
    if program is None:
        missing("mosquitto is not installed: apt-get install mosquitto")
    broker = Mosquitto(program, folder)
    http_port = free_port()
    server = Prometheus(prometheus, _scrape_config(folder, http_port), folder)
    address = ["--broker", HOST, "--port", str(broker.port)]
    log = (folder / "har-stream.log").open("wb")
    processes: list[subprocess.Popen[bytes]] = []
    try:
        broker.start()
        command = [str(BIN / "har-stream"), *address, "--http-port", str(http_port), "--output", "none"]
        command += ["--state", str(folder / "state")]
        service = subprocess.Popen(command, stdout=log, stderr=log)
        processes.append(service)
        wait_until(lambda: answers(f"http://{HOST}:{http_port}/readyz"), "har-stream", within_s=_STARTUP_S)
        server.start()
        replay = [str(BIN / "simulator"), "replay", "synthetic", *address, "--devices", "4", "--start", "now"]
        # Bouts begin after some windows of 5 s; what lies behind the watches at the start makes them begin at once.
        processes.append(subprocess.Popen([*replay, "--preroll", "30", "--duration", "120"], stdout=log, stderr=log))
        begun = 'sum(increase(har_events_total{type="start"}[1m])) > 0'
        wait_until(lambda: bool(server.values(begun)), f"events in Prometheus; see {log.name}", within_s=90)
        yield server
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=30) == 0
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        server.stop()
        broker.stop()
        log.close()


def _scrape_config(folder: Path, http_port: int) -> Path:
    """The shipped configuration, pointed at this service and scraping every second."""
    shipped = DEPLOY / "prometheus"
    config = (shipped / "prometheus.yml").read_text()
    for there, here in [("har-stream:9464", f"{HOST}:{http_port}"), ("_interval: 5s", "_interval: 1s")]:
        assert there in config
        config = config.replace(there, here)
    (folder / "rules.yml").write_text((shipped / "rules.yml").read_text())
    path = folder / "prometheus.yml"
    path.write_text(config)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_every_query_of_a_dashboard_gives_numbers(scraped: Prometheus, name: str) -> None:
    # But for the marks, of which there may be none.
    answers = {where: scraped.values(expr) for where, expr in queries(name).items()}
    without = [where for where, values in answers.items() if not any(map(math.isfinite, values))]
    assert [where for where in without if where != f"{name}: mark Alerts"] == []


def test_figures_that_are_looked_up_or_come_from_the_watches_clocks_fit_the_run(scraped: Prometheus) -> None:
    (active,) = scraped.values("sum(har_active_devices)")
    assert 1 <= active <= scraped.values("har_devices")[0] == 4
    (share,) = scraped.values("har_loop_cpu_seconds_total / process_cpu_seconds_total")
    assert 0.1 < share <= 1
    # What was sent at once at the start lies up to half a minute back.
    (lag_s,) = scraped.values("har_lag_seconds_sum / har_lag_seconds_count")
    assert 0.1 < lag_s < 30
    assert scraped.values("har_queue_limit_bytes") == [64_000_000]
    assert scraped.values("har_devices_limit") == [20_000]


@pytest.mark.parametrize("selector", alert_selectors())
def test_what_an_alert_reads_is_there(scraped: Prometheus, selector: str) -> None:
    assert scraped.values(f"count({selector})")[0] >= 1


def test_every_alert_expression_evaluates_without_error(scraped: Prometheus) -> None:
    def evaluated() -> list[dict[str, str]]:
        return [rule for group in scraped.get("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in evaluated()), "rules evaluated")
    assert [(rule["name"], rule.get("lastError")) for rule in evaluated() if rule["health"] != "ok"] == []


def test_a_service_that_is_well_raises_no_critical_alert(scraped: Prometheus) -> None:
    assert scraped.values('ALERTS{severity="critical"}') == []
