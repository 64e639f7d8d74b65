"""`simulator load` against a real Mosquitto and the service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.programs import BIN, HarStream
from tests.servers import Mosquitto, free_port, wait_until


def _command(port: int, *arguments: str) -> list[str]:
    return [str(BIN / "simulator"), "load", "--broker", "127.0.0.1", "--port", str(port), *arguments]


def _load(port: int, *arguments: str) -> dict[str, Any]:
    """Run to the end; the report."""
    command = [*_command(port, *arguments), "--summary", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@contextmanager
def _service(broker: Mosquitto, folder: Path, *arguments: str, name: str = "har-stream") -> Iterator[HarStream]:
    service = HarStream(
        folder, "--broker", broker.host, "--port", str(broker.port), "--client-id", name, *arguments, name=name
    )
    try:
        service.wait_ready()
        yield service
    finally:
        service.kill()


def _is_whole(report: dict[str, Any]) -> bool:
    return report["expected"] > 0 and (report["lost"], report["duplicate"], report["unexpected"]) == (0, 0, 0)


@pytest.mark.parametrize(("payload_format", "qos"), [("cbor", "1"), ("single", "0")])
def test_every_window_of_a_load_comes_once(mosquitto: Mosquitto, tmp_path: Path, payload_format: str, qos: str) -> None:
    with _service(mosquitto, tmp_path, "--publish", "windows") as service:
        report = _load(
            mosquitto.port,
            *("--devices", "30", "--duration", "8", "--publish", "windows"),
            *("--format", payload_format, "--qos", qos),
        )
        assert _is_whole(report), report
        assert report["messages_per_s"] == pytest.approx(report["offered_messages_per_s"], rel=0.05)
        assert service.metric("har_readings_total") == report["readings"]
        assert service.metric("har_messages_total") == report["messages"]
        assert service.metric("har_rejects_total") == 0
        assert service.metric("har_missing_messages_total") == 0
        assert 0 < report["latency_p50_ms"] <= report["latency_p99_ms"] <= report["latency_max_ms"] < 10_000


def test_changes_of_activity_are_counted_where_windows_are_not_published(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with _service(mosquitto, tmp_path):
        report = _load(mosquitto.port, "--devices", "70", "--duration", "9")
        assert _is_whole(report), report


def test_events_that_two_services_send_are_double(mosquitto: Mosquitto, tmp_path: Path) -> None:
    arguments = ("--publish", "windows")
    with _service(mosquitto, tmp_path, *arguments), _service(mosquitto, tmp_path, *arguments, name="second"):
        report = _load(mosquitto.port, "--devices", "2", "--duration", "8", "--publish", "windows")
        assert report["duplicate"] == report["expected"] > 0
        assert (report["lost"], report["unexpected"]) == (0, 0)


def test_without_a_service_everything_is_lost_and_the_reason_suggested(mosquitto: Mosquitto) -> None:
    done = subprocess.run(
        [*_command(mosquitto.port, "--devices", "1", "--duration", "6.5", "--summary", "json"), "--publish", "windows"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    report = json.loads(done.stdout)
    assert report["lost"] == report["expected"] > 0
    assert report["latency_p50_ms"] is None
    assert "is a service running at this broker with --publish windows" in done.stderr


def test_a_stalled_broker_shows_in_the_latency(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Events of messages due during the stall count from when those were due."""
    with _service(mosquitto, tmp_path, "--publish", "windows") as service:
        command = _command(mosquitto.port, "--devices", "100", "--duration", "10", "--publish", "windows")
        with subprocess.Popen([*command, "--summary", "json"], stdout=subprocess.PIPE, text=True) as load:
            wait_until(lambda: service.metric("har_windows_total") > 0, "windows", within_s=60)
            os.kill(mosquitto.pid, signal.SIGSTOP)
            time.sleep(2)  # the stall itself
            os.kill(mosquitto.pid, signal.SIGCONT)
            assert load.stdout is not None
            report = json.loads(load.stdout.read())
        assert _is_whole(report), report
        assert report["latency_max_ms"] > 1500


def test_ctrl_c_ends_a_load_with_a_report_of_what_was_sent(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with _service(mosquitto, tmp_path) as service:
        command = [*_command(mosquitto.port, "--devices", "20", "--duration", "600", "--summary", "json")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
            wait_until(lambda: service.metric("har_messages_total") > 50, "messages", within_s=60)
            load.send_signal(signal.SIGINT)
            assert load.stdout is not None
            report = json.loads(load.stdout.read())
        assert load.returncode == 130
        assert report["interrupted"]
        wait_until(lambda: service.metric("har_messages_total") == report["messages"], "all messages")


def test_a_broker_that_goes_away_ends_a_load_with_one_line(mosquitto: Mosquitto) -> None:
    with subprocess.Popen(
        [*_command(mosquitto.port, "--devices", "20", "--duration", "60")], stderr=subprocess.PIPE, text=True
    ) as load:
        wait_until(lambda: "load-" in mosquitto.log.read_text(), "a connection", within_s=60)
        mosquitto.kill()
        assert load.stderr is not None
        text = load.stderr.read()
    assert load.returncode == 1
    assert "MQTT broker at 127.0.0.1" in text
    assert len(text.strip().splitlines()) == 1


def test_no_broker_ends_a_load_with_one_line() -> None:
    done = subprocess.run(
        _command(free_port(), "--devices", "2", "--duration", "5"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("simulator: no MQTT broker at 127.0.0.1")
    assert len(done.stderr.strip().splitlines()) == 1
