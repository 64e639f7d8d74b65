"""The project's own programs as a user runs them, for the integration tests."""

from __future__ import annotations

import json
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
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._events = folder / f"{name}.events.jsonl"
        self._log = folder / f"{name}.log"
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
    def url(self) -> str:
        """Where its HTTP server listens."""
        wait_until(lambda: "/metrics" in self.log or self.process.poll() is not None, "HTTP address in the log")
        found = re.search(rf"http://{HOST}:\d+", self.log)
        assert found, self.log
        return found[0]

    def ready(self) -> bool:
        """What /readyz says."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:  # noqa: S310 # http on loopback
                return bool(json.load(answer)["ready"])
        except urllib.error.HTTPError as error:
            with error:
                return bool(json.load(error)["ready"])

    def wait_ready(self, *, within_s: float = 20) -> None:
        """Return when it recognises messages."""
        wait_until(lambda: self.process.poll() is not None or self.ready(), "/readyz", within_s=within_s)
        assert self.process.poll() is None, self.log

    def metric(self, name: str, **labels: str) -> float:
        """A metric's current value, summed over the series that have these labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:  # noqa: S310 # http on loopback
            text = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def kill(self) -> None:
        """End it whatever it does; nothing when it has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=20)


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
