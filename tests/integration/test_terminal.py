"""The table that keeps up on a terminal: a real service on a real pseudo-terminal, seen through a terminal emulator."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final

import pytest

from streamer.wire import topics
from tests.bundles import make_bundle
from tests.programs import BIN
from tests.senders import lying, sending
from tests.servers import HOST, Mosquitto, wait_until
from tests.terminals import Terminal

HAR_STREAM: Final = str(BIN / "har-stream")
#: Stops a terminal, and lets it go on.
CTRL_S, CTRL_Q = "\x13", "\x11"
LOGGED: Final = re.compile(r"\d\d:\d\d:\d\d (INFO|WARNING) .+")
ROW: Final = re.compile(
    r"(?P<watch>\S+)  +(?P<activity>\w+) +(?P<sure>[01]\.\d\d) +(?P<since>\d+:\d\d) +(?P<hz>[\d.]+) .*"
)
TITLE: Final = re.compile(r"\d+ watch(es)?  \S+  Ctrl-C to end")
#: What a table is made of, and no line of the log.
TABLE: Final = re.compile(r"watch +activity +sure|[▁▂▃▄▅▆▇█]{2}|Ctrl-C to end")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of accelerations, with windows of a second."""
    folder = tmp_path_factory.mktemp("posture")
    make_bundle(folder)
    return str(folder)


def rows(terminal: Terminal) -> dict[str, re.Match[str]]:
    """The table's rows by watch."""
    found = [match for line in terminal.lines if (match := ROW.fullmatch(line))]
    assert len({match["watch"] for match in found}) == len(found), terminal.text
    return {match["watch"]: match for match in found}


def wait_whole(terminal: Terminal, watches: int) -> None:
    """Return once the table is whole, with so many watches of known activity."""
    try:
        wait_until(lambda: is_whole(terminal) and len(rows(terminal)) == watches, "a whole table", within_s=30)
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{terminal.text}") from error


def is_whole(terminal: Terminal) -> bool:
    """Whether nothing is torn: log, then one title, heads, rows, and at most the line about those left out."""
    lines = [line for line in terminal.lines if line]
    titles = [number for number, line in enumerate(lines) if TITLE.fullmatch(line)]
    if len(titles) != 1:
        return False
    above, table = lines[: titles[0]], lines[titles[0] + 1 :]
    if not table:
        return False
    heads_and_rows = table[0].split()[:2] == ["watch", "activity"] and all(
        ROW.fullmatch(line) or re.fullmatch(r"[\d,]+ more; those that changed last are shown", line)
        for line in table[1:]
    )
    # A long line of the log goes on in the next one of the screen.
    return heads_and_rows and not any(TABLE.search(line) for line in above)


def test_demonstration_keeps_a_table_and_leaves_the_terminal_as_it_was() -> None:
    with Terminal(HAR_STREAM, "--demo", "--http-port", "0", columns=140) as terminal:
        wait_whole(terminal, 8)
        assert set(rows(terminal)) == {f"synthetic-00{n}" for n in range(1, 9)}
        terminal.wait_for(r"synthetic-008 +\w+ +0\.\d\d .* 50 .*[▁▂▃▄▅▆▇█]{3}")
        assert is_whole(terminal), terminal.text
        assert terminal.has(r"^8 watches  http://127\.0\.0\.1:\d+/  Ctrl-C to end$")
        assert terminal.cursor_is_hidden
        assert re.search(rb"\x1b\[(3[0-7]|9[0-7])m", terminal.raw)
        # What is typed does not show.
        terminal.type("what is this\r")
        before = rows(terminal)["synthetic-001"]["since"]
        wait_until(lambda: rows(terminal)["synthetic-001"]["since"] != before, "the next second")
        assert is_whole(terminal), terminal.text
        terminal.type("\x03")
        assert terminal.ended() == 0
        # The last state stays, once, below all that was logged.
        assert is_whole(terminal), terminal.text
        assert not terminal.cursor_is_hidden
        assert terminal.echoes


def test_table_keeps_up_with_log_lines_sizes_and_being_stopped(mosquitto: Mosquitto, model: str) -> None:
    address = ["--broker", HOST, "--port", str(mosquitto.port), "--model", model, "--http-port", "0", "--no-state"]
    refused = lambda: b"not a reading"  # noqa: E731 # a payload
    with Terminal(HAR_STREAM, *address, columns=120, lines=14) as terminal, ExitStack() as senders:
        terminal.wait_for(r"^waiting for readings  ")
        for number in range(3):
            senders.enter_context(sending(mosquitto.port, lying(), topic=topics.imu(f"wrist-{number}")))
        terminal.wait_for(r"wrist-2 +lying +1\.00 ")
        # Log lines go above the table, as they come.
        with sending(mosquitto.port, refused, topic=topics.imu("broken")):
            terminal.wait_for(r"WARNING .*first byte")
        assert is_whole(terminal), terminal.text
        for columns, lines in ((60, 10), (200, 40), (90, 8)):
            terminal.resize(columns, lines)
            wait_whole(terminal, 3)
        # Stopped by Ctrl-Z the terminal is the shell's again.
        terminal.type("\x1a")
        os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert terminal.echoes
        wait_until(lambda: not terminal.cursor_is_hidden, "the cursor")
        terminal.process.send_signal(signal.SIGCONT)
        wait_until(lambda: terminal.cursor_is_hidden and not terminal.echoes, "the table again")
        wait_whole(terminal, 3)
        # A shorter time than that of the log's own lines: everything is there, and nothing twice.
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ended() == 0
        assert is_whole(terminal), terminal.text


def test_many_watches_are_cut_to_those_that_changed_last(mosquitto: Mosquitto, model: str) -> None:
    address = ["--broker", HOST, "--port", str(mosquitto.port), "--model", model, "--http-port", "0", "--no-state"]
    with Terminal(HAR_STREAM, *address, columns=100, lines=16) as terminal:
        terminal.wait_for(r"^waiting for readings  ")
        replay = [str(BIN / "simulator"), "replay", "synthetic", "--devices", "60", "--rate", "20", "--duration", "25"]
        replay += ["--start", "now", "--broker", HOST, "--port", str(mosquitto.port), "--preroll", "20"]
        with subprocess.Popen(replay, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as simulator:
            terminal.wait_for(r"^60 watches  ")
            terminal.wait_for(r"^48 more; those that changed last are shown")
            wait_whole(terminal, 12)
            # Not the first ones by their names.
            assert sorted(rows(terminal)) != [f"synthetic-{n:03}" for n in range(1, 13)]
            simulator.terminate()
        terminal.type("\x03")
        assert terminal.ended() == 0
    # No frame was too high for the terminal: nothing of the table was ever scrolled away.
    assert not [line for line in terminal.scrolled if line and not LOGGED.fullmatch(line)]


def test_lines_are_printed_where_nothing_can_be_painted_over_or_they_are_asked_for() -> None:
    def run(*options: str, term: str = "xterm") -> bytes:
        command = [HAR_STREAM, "--demo", "--http-port", "0", *options]
        with Terminal(*command, columns=120, environment={"TERM": term}) as terminal:
            terminal.wait_for(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  synthetic-00\d +\w+ +0\.\d\d  since ")
            terminal.type("\x03")
            assert terminal.ended() == 0
        return terminal.raw

    with ThreadPoolExecutor(2) as pool:
        for ended in (pool.submit(run, term="dumb"), pool.submit(run, "--output", "lines")):
            assert b"\x1b" not in ended.result()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"environment": {"TERM": ""}}, False),
        # What runs behind a shell leaves its terminal alone.
        ({"foreground": False}, False),
        # Nobody looks at a terminal without a size, as of a container in the background.
        ({"columns": 0}, False),
    ],
    ids=["terminal", "unknown", "background", "no size"],
)
def test_only_a_terminal_of_ones_own_is_painted_on(options: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 # a parameter
    program = "import sys; from streamer.terminal import can_paint; print(can_paint(sys.stdout))"
    with Terminal(sys.executable, "-c", program, **options) as terminal:
        assert terminal.ended() == 0
        assert terminal.has(f"^{expected}$")


def test_no_color_means_none_and_a_terminal_that_takes_nothing_holds_nobody_up() -> None:
    with Terminal(HAR_STREAM, "--demo", "--http-port", "0", environment={"NO_COLOR": "1"}) as terminal:
        terminal.wait_for(r"synthetic-001 +\w+ ")
        wait_until(lambda: terminal.has("live page|metrics at"), "address")
        url = re.search(r"http://127\.0\.0\.1:\d+", terminal.text)
        assert url is not None
        terminal.type(CTRL_S)
        wait_until(lambda: not terminal.writes_more(within_s=1.0), "the terminal takes no more")
        began_s = time.monotonic()
        with urllib.request.urlopen(f"{url[0]}/readyz", timeout=5) as answer:  # noqa: S310 # http on loopback
            assert answer.status == 200
        assert time.monotonic() - began_s < 1
        terminal.type(CTRL_Q)
        assert terminal.writes_more(within_s=10)
        terminal.type("\x03")
        assert terminal.ended() == 0
    assert not re.search(rb"\x1b\[[\d;]*3[0-7]m|\x1b\[[\d;]*9[0-7]m|38;5", terminal.raw)
