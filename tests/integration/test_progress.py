"""Progress as it is seen: on a terminal, and in a pipe."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.fitting.epoch import Epoch
from models.reports.progress import told
from tests.programs import BIN
from tests.servers import HOST, Mosquitto
from tests.terminals import Terminal


def test_replay_shows_rate_and_time_left_on_a_terminal_and_nothing_in_a_pipe(mosquitto: Mosquitto) -> None:
    command = [str(BIN / "simulator"), "replay", "synthetic", "--devices", "4", "--duration", "20"]
    command += ["--broker", HOST, "--port", str(mosquitto.port)]
    with Terminal(*command, "--speed", "10", columns=130) as terminal:
        terminal.wait_for(r"synthetic ━.* +\d+ % [\d,]+ readings/s, \d+(e\+\d+)? Hz per watch, \d+ ms behind 0:00:0\d")
        assert terminal.ended() == 0
        # The result is on the screen below the bar, which is full.
        assert terminal.has(r"100 % ")
        assert terminal.has(r"^devices 4, readings \d+, ")
        assert not terminal.cursor_is_hidden
    done = subprocess.run([*command, "--speed", "100"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.startswith("devices 4, readings ")


def test_replay_without_end_shows_how_long_it_has_gone_on(mosquitto: Mosquitto) -> None:
    command = [str(BIN / "simulator"), "replay", "synthetic", "--broker", HOST, "--port", str(mosquitto.port)]
    with Terminal(*command, columns=130) as terminal:
        terminal.wait_for(r"synthetic .* readings/s, .* behind 0:00:0[1-9]")
        assert not terminal.has(" % ")
        terminal.type("\x03")
        assert terminal.ended() == 130
        assert not terminal.cursor_is_hidden


class _Slowly(http.server.BaseHTTPRequestHandler):
    """Half a megabyte in half a second, and that is all."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        for _ in range(5):
            self.wfile.write(bytes(100_000))
            time.sleep(0.1)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the base class's name for it
        pass


@contextmanager
def publisher() -> Iterator[str]:
    """A data set's address that breaks off half way."""
    server = http.server.ThreadingHTTPServer((HOST, 0), _Slowly)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/archive.zip"
    finally:
        server.shutdown()
        server.server_close()


def downloading(url: str, folder: str, *, line_every_s: float) -> list[str]:
    """`simulator download hapt` from elsewhere."""
    program = (
        "import os, sys\n"
        f"os.environ['HAR_DATA_DIR'] = {folder!r}\n"
        "from dataclasses import replace\n"
        "from simulator import cli, sources\n"
        "from streamer import progress\n"
        f"sources.DATA_SETS['hapt'] = replace(sources.DATA_SETS['hapt'], url={url!r})\n"
        f"progress.LINE_EVERY_S = {line_every_s}\n"
        "sys.argv = ['simulator', 'download', 'hapt']\n"
        "cli.main()\n"
    )
    return [sys.executable, "-c", program]


def test_download_shows_rate_and_time_left(tmp_path: Path) -> None:
    with publisher() as url, Terminal(*downloading(url, f"{tmp_path}/one", line_every_s=10), columns=120) as terminal:
        terminal.wait_for(r"hapt ━.* 0\.\d/1\.0 MB .*\d kB/s|hapt ━.* 0\.\d/1\.0 MB .* MB/s")
        assert terminal.ended() == 1
        assert terminal.has(r"^simulator: http://.*broke off after 500000 of 1000000 bytes")
        assert not terminal.cursor_is_hidden
    with publisher() as url:
        command = downloading(url, f"{tmp_path}/two", line_every_s=0.2)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    *lines, last = done.stderr.splitlines()
    assert lines
    assert all(re.fullmatch(r"hapt: 0\.\d of 1\.0 MB, \d+\.\d MB/s, 0:0\d left", line) for line in lines)
    assert last.startswith("simulator: http://")


TRAINING = """
import sys, time
from models.reports.progress import told
from models.fitting.epoch import Epoch

def say(line):
    print(line, file=sys.stderr)

with told(say) as (tell, on_epoch):
    tell("recipe: 3 recordings")
    for fit in range(2):
        for number in range(1, 5):
            time.sleep(0.15)
            on_epoch(Epoch(number, 4, 1 / number, 0.9, 0.8, 1234.5, 0.15 * (4 - number)))
        tell(f"fit {fit + 1} is done")
"""


def test_training_shows_a_bar_on_a_terminal_and_a_line_per_epoch_in_a_pipe() -> None:
    with Terminal(sys.executable, "-c", TRAINING, columns=140) as terminal:
        terminal.wait_for(
            r"epoch   [1-4]/4 ━.* loss 0\.\d{4}  held-out accuracy 0\.9000 .* 1,23\d windows/s  0:00 left"
        )
        assert terminal.ended() == 0
        assert [line for line in terminal.lines if "is done" in line] == ["fit 1 is done", "fit 2 is done"]
        assert terminal.has(r"^recipe: 3 recordings$")
        assert not terminal.cursor_is_hidden
    lines: list[str] = []
    with told(lines.append) as (_, on_epoch):
        on_epoch(Epoch(1, 4, 1.0, 0.9, 0.8, 1234.5, 61.0))
    assert lines == ["  epoch   1/4  loss 1.0000  held-out accuracy 0.9000 macro-F1 0.8000  1,234 windows/s  1:01 left"]
