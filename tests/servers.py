"""Real servers on loopback for the integration tests: started, awaited and ended by their own process id."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

HOST: Final = "127.0.0.1"
#: Debian installs daemons where an ordinary user's PATH does not look.
_DAEMON_PATH: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
#: How often a condition is looked at while waiting for it.
_POLL_S: Final = 0.01

# Stock limits drop messages without a word (1000 queued per client); here only a byte bound stands.
# Not 0 messages ("no limit"): before 2.0.22 that disconnects a client for every message that is refused.
MOSQUITTO_CONF: Final = """\
listener {port} {host}
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 1
max_queued_messages 1000000000
max_queued_bytes 536870912
max_inflight_messages 1000
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages true
"""


def find_program(name: str) -> Path | None:
    """The program's path, system folders included; None when it is not installed."""
    found = shutil.which(name, path=_DAEMON_PATH)
    return Path(found) if found else None


def free_port() -> int:
    """A TCP port on which nothing listened a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def accepts_connections(port: int) -> bool:
    """Whether something listens on the loopback port."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool], what: str, *, within_s: float = 10.0) -> None:
    """Return as soon as the condition holds.

    Raises:
        TimeoutError: it did not hold within the deadline; the message says what was waited for.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s} s")
        time.sleep(_POLL_S)


class Mosquitto:
    """A Mosquitto of the system's package on a loopback port that stays its own over restarts.

    State: the port, and a folder with configuration, log and persisted messages.
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        *extra_conf: str,
        template: str = MOSQUITTO_CONF,
        port: int | None = None,
    ) -> None:
        """Nothing runs yet.

        Args:
            program: the broker.
            folder: where it keeps its files; the test's own.
            extra_conf: further lines of mosquitto.conf.
            template: mosquitto.conf with places for {host}, {port} and {folder}.
            port: where it listens; None for any free one.
        """
        self.host: Final = HOST
        self.port: Final = free_port() if port is None else port
        self.log: Final = folder / "mosquitto.log"
        self._program = program
        self._conf = folder / "mosquitto.conf"
        # Started by root it would turn into the user mosquitto, who may not write into pytest's folders.
        user = ["user root"] if os.geteuid() == 0 else []
        lines = [template.format(port=self.port, host=HOST, folder=folder), *user, *extra_conf, ""]
        self._conf.write_text("\n".join(lines))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id.

        Raises:
            RuntimeError: the broker is not running.
        """
        if self._process is None:
            raise RuntimeError("mosquitto is not running")
        return self._process.pid

    def start(self) -> None:
        """Run, and return when connections are accepted.

        Raises:
            RuntimeError: it ended at once; the message holds its log.
            TimeoutError: it does not listen.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen([self._program, "-c", self._conf], stderr=log, stdout=log)
        self._process = process

        def listens() -> bool:
            if process.poll() is not None:
                self._process = None
                raise RuntimeError(f"mosquitto ended with status {process.returncode}: {self.log.read_text()}")
            return accepts_connections(self.port)

        wait_until(listens, f"mosquitto on port {self.port}")

    def stop(self) -> None:
        """SIGTERM, then wait: persisted messages are written. Does nothing when not running."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def kill(self) -> None:
        """SIGKILL, then wait: what was not yet saved is lost. Does nothing when not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def restart(self) -> None:
        """Stop and start again on the same port."""
        self.stop()
        self.start()


class Prometheus:
    """A Prometheus of the system's package on a loopback port, with its data in a folder of the test's own."""

    def __init__(self, program: Path, config: Path, folder: Path) -> None:
        self.url: Final = f"http://{HOST}:{free_port()}"
        self.log: Final = folder / "prometheus.log"
        self._command = [
            str(program),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run, and return when it is ready.

        Raises:
            RuntimeError: it ended at once; the message holds its log.
            TimeoutError: it does not get ready.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(self._command, stderr=log, stdout=log)
        self._process = process

        def is_ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"prometheus ended with status {process.returncode}: {self.log.read_text()}")
            return answers(f"{self.url}/-/ready")

        wait_until(is_ready, "prometheus", within_s=30)

    def stop(self) -> None:
        """SIGTERM, then wait. Does nothing when not running."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
            self._process = None

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401  # JSON
        """The `data` of an answer of its HTTP API.

        Raises:
            RuntimeError: it refused; the message says why.
        """
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310  # always http on loopback
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(f"{parameters}: {error.read().decode()}") from None

    def values(self, expr: str) -> list[float]:
        """The values of an instant query's series."""
        answer = self.get("query", query=expr)
        assert answer["resultType"] == "vector", expr
        return [float(series["value"][1]) for series in answer["result"]]


def answers(url: str) -> bool:
    """Whether an HTTP GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  # always http on loopback
            return bool(response.status == HTTPStatus.OK)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False
