"""The command line: what it lists, what it refuses and with which status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import free_port


def simulator(*arguments: str, data_dir: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "HAR_DATA_DIR"}
    if data_dir is not None:
        environment["HAR_DATA_DIR"] = str(data_dir)
    command = [sys.executable, "-c", "from simulator.cli import main; main()", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_sources_says_what_is_there_and_how_to_get_the_rest(tmp_path: Path) -> None:
    (tmp_path / "fitbit").mkdir()
    (tmp_path / "fitbit" / "sensor_original.csv").write_text("")
    done = simulator("sources", data_dir=tmp_path)
    assert done.returncode == 0
    assert f"found: {tmp_path / 'fitbit'}" in done.stdout
    assert f"not in {tmp_path}: run `simulator download hapt`" in done.stdout
    for name in ("uci-har", "hapt", "fitbit", "wisdm-watch", "synthetic", "PATH"):
        assert f"\n{name} " in f"\n{done.stdout}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay", "nothing"], "source 'nothing' is neither a file nor one of uci-har, hapt"),
        (["replay", "hapt"], "data set hapt is not in"),
        (["replay", "synthetic", "--subject", "1"], "--subject 1: synthetic has no subjects"),
        (
            ["replay", "hapt", "--activity", "walking"],
            "--activity walking: hapt holds what was recorded; synthetic takes",
        ),
        (["replay", "synthetic", "--activity", "wavng"], "activity 'wavng' has no profile; expected any of"),
        (["replay", "synthetic", "--name", "a/b"], "--name 'a/b': expected 1 to 64 of A-Z a-z 0-9 . _ : @ -"),
        (["replay", "wisdm-watch", "--split", "test"], "--split test: wisdm-watch has no published split"),
        (["replay", "synthetic", "--speed", "max"], "synthetic has no end; expected --duration"),
        (["replay", "synthetic", "--speed", "warp"], "--speed warp: expected a positive number or max"),
        (["replay", "synthetic", "--start", "once"], "--start once: expected recorded, now or a time"),
        (["replay", "synthetic", "--fault", "flood"], "fault 'flood': expected one of"),
        (["replay", "synthetic", "--password-file", "/no/such"], "--password-file /no/such: cannot be read"),
        (["replay", "synthetic", "--format", "xml"], "--format is 'xml'; 'xml' is not one of 'json', 'cbor'"),
        (
            ["replay", "synthetic", "--qos", "2"],
            "simulator: --qos is '2'; expected a number less than or equal to 1; see simulator replay --help",
        ),
        (["download", "elsewhere"], "source 'elsewhere': expected one of uci-har"),
    ],
)
def test_a_wrong_use_ends_with_status_2_and_one_clear_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = simulator(*arguments, data_dir=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--subject", "77"], "--subject 77: hapt has no such subject; expected 1 to 30"),
        (["--subject", "2", "--split", "train"], "--subject 2: hapt has no such subject in the train split"),
        (["--subject", "S12"], "are the test split; did you mean 12?"),
    ],
)
def test_a_subject_that_is_not_there_is_named(data_dir: Path, arguments: list[str], message: str) -> None:
    done = simulator("replay", "hapt", *arguments, data_dir=data_dir)
    assert done.returncode == 2
    assert message in done.stderr


def test_without_a_broker_the_message_names_it_and_the_way_out() -> None:
    port = free_port()
    done = simulator("replay", "synthetic", "--broker", "127.0.0.1", "--port", str(port), "--duration", "1")
    assert done.returncode == 1
    assert f"no MQTT broker at 127.0.0.1:{port}" in done.stderr
    assert "har-stream --broker embedded" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_no_heavy_imports() -> None:
    probe = (
        "import sys; from simulator import cli\n"
        "try: cli.app(['replay', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'scipy', 'aiomqtt', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
