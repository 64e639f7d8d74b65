"""JSON logs: every line of standard error is an entry, whatever happens."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from streamer.logs import JsonLines
from tests.programs import BIN
from tests.servers import HOST


def entry(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonLines().format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


#: Holds itself.
RING: list[object] = []
RING.append(RING)


def record(message: str = "watch %s", *args: object, **fields: Any) -> logging.LogRecord:  # noqa: ANN401 - anything
    made = logging.LogRecord("streamer.x", logging.WARNING, __file__, 1, message, args or ("w",), None)
    vars(made).update(fields)
    return made


def entries(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_entry_says_when_how_grave_who_and_what() -> None:
    found = entry(record())
    at = datetime.fromisoformat(found.pop("time"))
    assert timedelta(0) <= datetime.now(UTC) - at < timedelta(seconds=60)
    assert found == {"level": "warning", "logger": "streamer.x", "message": "watch w"}


def test_what_a_record_carries_besides_is_in_its_entry() -> None:
    extra: dict[str, Any] = {
        "device": "w",
        "n": 3,
        "ratio": 0.5,
        "level": "mine",
        "array": np.arange(2),
        "error": ValueError("x"),
    }
    found = entry(record(**extra))
    assert (found["device"], found["n"], found["ratio"]) == ("w", 3, 0.5)
    # What JSON has no words for, in Python's; and nothing takes an entry's own keys.
    assert (found["array"], found["error"], found["level"]) == ("array([0, 1])", "ValueError('x')", "warning")


def test_an_exception_stays_in_its_line() -> None:
    error = ValueError("two\nlines")
    caught = (type(error), error, error.__traceback__)
    found = entry(record(exc_info=caught, stack_info="Stack (most recent call last):\n  here"))
    assert found["exception"].endswith("ValueError: two\nlines")
    assert found["stack"].startswith("Stack")


@pytest.mark.parametrize(
    "fields",
    [{"ring": RING}, {"key": {1: 2, (3,): 4}}, {"text": "\udc80"}, {"number": 2**200}],
    ids=["a ring", "keys that are no text", "half a character", "a large number"],
)
def test_what_cannot_be_written_as_json_is_told_all_the_same(fields: Mapping[str, Any]) -> None:
    assert entry(record(**fields))["message"].strip("'") == "watch w"


def test_a_wrong_log_call_is_told_as_such() -> None:
    assert "not enough arguments" in entry(record("%s and %s", "one"))["message"]


def test_whatever_ends_or_warns_a_program_is_an_entry() -> None:
    program = """
import asyncio, threading, warnings
from streamer.logs import log_to_stderr
log_to_stderr("json")
warnings.warn("deprecated")
def fail():
    raise KeyError("in a thread")
thread = threading.Thread(target=fail, name="worker")
thread.start()
thread.join()
class Bad:
    def __del__(self):
        raise KeyError("in a finalizer")
Bad()
async def forget():
    asyncio.get_running_loop().create_task(asyncio.sleep(-1, None))
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)
asyncio.run(forget())
raise SystemError("at the end")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    found = entries(done.stderr)
    assert [(e["logger"], e["level"]) for e in found] == [
        ("py.warnings", "warning"),
        ("streamer.logs", "critical"),
        ("streamer.logs", "error"),
        ("asyncio", "error"),
        ("streamer.logs", "critical"),
    ]
    assert [e["exception"].splitlines()[-1] for e in found[1:]] == [
        "KeyError: 'in a thread'",
        "KeyError: 'in a finalizer'",
        "KeyError: 'in a thread'",
        "SystemError: at the end",
    ]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_that_gives_up_says_so_in_an_entry(workers: str) -> None:
    options = ["--log-format", "json", "--workers", workers, "--http-port", "0", "--no-state"]
    command = [str(BIN / "har-stream"), "--broker", HOST, "--port", "1", "--exit-on-failure", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    found = entries(done.stderr)
    assert {e["level"] for e in found} <= {"info", "warning", "critical"}
    assert [e["logger"] for e in found if f"MQTT broker at {HOST}:1: " in e["message"] and e["level"] == "critical"]


def test_the_demonstration_and_its_simulator_write_entries_only() -> None:
    command = [str(BIN / "har-stream"), "--demo", "--duration", "3", "--log-format", "json", "--http-port", "0"]
    done = subprocess.run([*command, "--output", "none"], capture_output=True, text=True, check=True)
    assert {e["level"] for e in entries(done.stderr)} <= {"info", "warning"}


def test_the_simulator_says_in_an_entry_what_is_wrong() -> None:
    command = [str(BIN / "simulator"), "replay", "absent.csv"]
    environment = os.environ | {"SIMULATOR_LOG_FORMAT": "json"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    (found,) = entries(done.stderr)
    assert (found["logger"], found["level"]) == ("simulator", "critical")
    assert "absent.csv" in found["message"]
