"""The project's own programs as a user runs them, for the integration tests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from streamer.config import Settings
from streamer.wire.events import ActivityEvent
from tests.servers import HOST, wait_until

BIN: Final = Path(sys.executable).parent


class HarStream:
    """A running `har-stream`, its events and its log in files of the test's own.

    State: the process.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        name: str = "har-stream",
        output: str = "json",
        state: Path | None = None,
        program: Sequence[str] = (str(BIN / "har-stream"),),
        environment: Mapping[str, str] | None = None,
        workers: int = 1,
    ) -> None:
        """Start it.

        Args:
            folder: for its output; made if it isn't there.
            arguments: of the program.
            name: of its output's files.
            output: what it prints.
            state: where it keeps its state; None for no state, so that no test finds another's or touches the user's.
            program: how it is called.
            environment: None for this process's own.
            workers: how many processes share the watches; the same as `--workers=N` among the arguments.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._events = folder / f"{name}.events.jsonl"
        self._log = folder / f"{name}.log"
        if workers > 1:
            arguments = (*arguments, f"--workers={workers}")
        stated = [argument.partition("=")[2] for argument in arguments if argument.startswith("--workers=")]
        self._workers = int(stated[-1]) if stated else 1
        command = [*program, *arguments, "--output", output, "--http-port", "0", *_state_options(state)]
        with self._events.open("wb") as events, self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=events, stderr=log, env=environment)

    @property
    def log(self) -> str:
        """What it wrote on standard error so far."""
        return self._log.read_text()

    @property
    def events(self) -> list[ActivityEvent]:
        """The events it has printed so far."""
        lines = self._events.read_bytes().split(b"\n")[:-1]
        return [msgspec.json.decode(line, type=ActivityEvent) for line in lines]

    @property
    def urls(self) -> list[str]:
        """Where its HTTP servers listen, one for each worker."""
        pattern = rf"http://{HOST}:\d+(?=/metrics)"
        wait_until(
            lambda: len(re.findall(pattern, self.log)) >= self._workers or self.process.poll() is not None,
            "HTTP addresses in the log",
        )
        found = re.findall(pattern, self.log)
        assert len(found) == self._workers, self.log
        return found

    @property
    def url(self) -> str:
        """Where its HTTP server, or its first worker's, listens."""
        return self.urls[0]

    def ready(self) -> bool:
        """What /readyz says, of all workers."""
        return all(map(_is_ready, self.urls))

    def wait_ready(self, *, within_s: float = 20) -> None:
        """Return when it recognises messages."""
        wait_until(lambda: self.process.poll() is not None or self.ready(), "/readyz", within_s=within_s)
        assert self.process.poll() is None, self.log

    def metric(self, name: str, **labels: str) -> float:
        """A metric's current value, summed over the workers and the series that have these labels."""
        return sum(
            sample.value
            for url in self.urls
            for sample in samples(url)
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def kill(self) -> None:
        """End it and its workers whatever they do; nothing when it has ended."""
        if self.process.poll() is None:
            workers = [] if self._workers == 1 else children(self.process.pid)
            for pid in (self.process.pid, *workers):
                os.kill(pid, signal.SIGKILL)
            self.process.wait(timeout=20)
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers' end")


def samples(url: str, *, timeout_s: float = 5) -> list[Sample]:
    """All samples that /metrics shows."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=timeout_s) as answer:  # noqa: S310 # http on loopback
        text = answer.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def children(pid: int) -> list[int]:
    """The processes that a process has started (Linux)."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310 # http on loopback
            return bool(json.load(answer)["ready"])
    except urllib.error.HTTPError as error:
        with error:
            return bool(json.load(error)["ready"])


def _state_options(state: Path | None) -> list[str]:
    if "state" not in Settings.__struct_fields__:
        return []
    return ["--no-state"] if state is None else ["--state", str(state)]


def simulator(*arguments: str, timeout_s: float = 120) -> dict[str, Any]:
    """Run `simulator replay` to its end; its summary."""
    command = [str(BIN / "simulator"), "replay", *arguments, "--summary", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary
