"""The commands of the documentation, run as a reader would: page by page, in order, in a folder of the page's own.

A fenced block's language says what it holds. `bash` holds commands, `console` commands behind "$ " (the next lines of a
long one behind "> ") and what they print, `python` a program. In what is printed a number stands for any number, "…"
for anything in a line, and a line of "…" for any lines. A comment before a block says what else there is to know:

    <!-- not run: needs Docker -->        one of NOT_RUN, and after a semicolon what is run in its place
    <!-- keeps running -->                as in a terminal of its own, until the end of the page
    <!-- Ctrl-C -->                       is interrupted
    <!-- status 2 -->                     the exit status, if it isn't 0

What keeps running or is interrupted is so once it has printed what the page shows. And anywhere between blocks:

    <!-- given: a broker -->              what the reader has; see GIVEN
    <!-- given: walk.csv -->              a recording

The page's port numbers are replaced by free ones, and nothing listens beyond loopback.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from simulator.datasets.location import data_root, find
from simulator.sources import DATA_SETS
from simulator.synthetic import synthetic_watches
from tests import phone
from tests.conftest import missing
from tests.programs import BIN
from tests.servers import Mosquitto, find_program, free_port, wait_until

ROOT: Final = Path(__file__).resolve().parents[1]
COMMANDS: Final = {"bash", "console", "python"}
#: Languages of blocks that are no commands.
OTHER: Final = {"cddl", "css", "csv", "html", "ini", "javascript", "json", "promql", "text", "toml", "xml", "yaml"}
#: Why a command cannot be run by a test.
NOT_RUN: Final = {
    "downloads a data set",
    "installs packages",
    "needs Docker",
    "needs Grafana",
    "needs Home Assistant",
    "needs a Kubernetes cluster",
    "needs root",
    "takes minutes",
    "takes hours",
}
#: The ports that pages speak of.
PORTS: Final = (1883, 1884, 1885, 8080, 8883, 9090, 9464, 9465)
#: A reader stands in a clone of the repository.
_CLONE: Final = ("deploy", "docs", "examples", "models", "simulator", "streamer", "tests", "pyproject.toml")
_FENCE: Final = re.compile(r"( *)(```+)\s*([\w-]*)")
_COMMENT: Final = re.compile(r" *<!-- (.+) -->\s*")
_NOTE: Final = re.compile(r"keeps running|status \d+|Ctrl-C")
#: A program takes a second or two to start, more on a busy machine.
SHOWN_WITHIN_S: Final = 45.0
_DONE_WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, with the comments before it."""

    place: str
    language: str
    text: str
    notes: tuple[str, ...]

    @property
    def reason_not_run(self) -> str | None:
        """Why it isn't run, None when it is."""
        return next((note.removeprefix("not run: ") for note in self.notes if note.startswith("not run: ")), None)

    @property
    def steps(self) -> list[Step]:
        """Its commands, with what each prints."""
        if self.language == "python":
            return [Step(f"python - <<'END'\n{self.text}END\n", None)]
        if self.language == "bash":
            return [Step(self.text, None)]
        steps: list[Step] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                steps.append(Step(line[2:], ""))
            elif line.startswith("> ") and steps and not steps[-1].shown:
                steps[-1] = Step(f"{steps[-1].command}\n{line[2:]}", "")
            else:
                assert steps, f"{self.place}: a console block begins with a command behind '$ '"
                steps[-1] = Step(steps[-1].command, f"{steps[-1].shown}{line}\n")
        return steps


@dataclass(frozen=True, slots=True)
class Step:
    """A command and what the page shows of its output; None where the page doesn't show any."""

    command: str
    shown: str | None


@dataclass(frozen=True, slots=True)
class Given:
    """Something that the reader has from here on."""

    place: str
    what: str


def read_page(path: Path) -> list[Block | Given]:
    """A page's blocks and what is given, in order."""
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    items: list[Block | Given] = []
    notes: list[str] = []
    lines = iter(enumerate(path.read_text(encoding="utf-8").splitlines(), start=1))
    for number, line in lines:
        place = f"{name}:{number}"
        if comment := _COMMENT.fullmatch(line):
            if comment[1].startswith("given: "):
                items.append(Given(place, comment[1].removeprefix("given: ")))
            else:
                notes.append(comment[1])
        elif fence := _FENCE.match(line):
            indent, ticks, language = fence.groups()
            text = "".join(f"{inner.removeprefix(indent)}\n" for inner in _until(lines, f"{indent}{ticks}"))
            items.append(Block(place, language, text, tuple(notes)))
            notes = []
        elif line.strip():
            notes = []
    return items


def _until(lines: Iterator[tuple[int, str]], end: str) -> Iterator[str]:
    for _, line in lines:
        if line.rstrip() == end:
            return
        yield line


def run_page(path: Path, folder: Path) -> None:
    """Run a page's commands in a new folder.

    Raises:
        AssertionError: one does not do what the page says; the message names it and holds what it printed.
    """
    folder.mkdir(parents=True)
    with_reader = Reader(folder)
    try:
        for item in read_page(path):
            if isinstance(item, Given):
                with_reader.have(item)
            elif item.language in COMMANDS and item.reason_not_run is None:
                with_reader.follow(item)
        with_reader.end()
    finally:
        with_reader.give_up()


@dataclass(slots=True)
class _Running:
    """A process, where it writes to, and what it must print."""

    place: str
    step: Step
    process: subprocess.Popen[bytes]
    output: Path


@dataclass(slots=True)
class Reader:
    """Somebody who follows a page: a folder, a shell's variables, what keeps running, brokers.

    State: all of these; `give_up` ends what still runs.
    """

    folder: Path
    ports: Mapping[int, int] = field(default_factory=lambda: {port: free_port() for port in PORTS})
    started: list[_Running] = field(default_factory=list)
    kept: list[_Running] = field(default_factory=list)
    brokers: list[Mosquitto] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in _CLONE:
            if (ROOT / name).exists():
                (self.folder / name).symlink_to(ROOT / name)
        config = self.folder / ".home" / ".config"
        config.mkdir(parents=True)
        for program in ("mosquitto_pub", "mosquitto_sub"):
            (config / program).write_text(f"-p {self.ports[1883]}\n")
        # As on a terminal, where the answer takes the progress meter's place.
        (self.folder / ".home" / ".curlrc").write_text("-sS\n")

    def have(self, given: Given) -> None:
        """Get what the reader has."""
        if given.what.endswith(".csv"):
            write_recording(self.folder / given.what)
        else:
            assert given.what in GIVEN, f"{given.place}: {given.what!r} is none of {', '.join(GIVEN)}"
            GIVEN[given.what](self)

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        unknown = [note for note in block.notes if not re.fullmatch(r"keeps running|Ctrl-C|status \d+", note)]
        assert not unknown, f"{block.place}: nothing is known of {unknown}"
        status = next((int(note.split()[1]) for note in block.notes if note.startswith("status ")), 0)
        for step in block.steps:
            running = self._start(block.place, step)
            if "keeps running" in block.notes:
                self.kept.append(running)
                self._wait_shown(running)
            elif "Ctrl-C" in block.notes:
                self._wait_shown(running)
                self._interrupt(running)
            else:
                self._wait_done(running, _DONE_WITHIN_S)
                self._check(running.process.returncode == status, running, f"exit status {status}")
                self._check(_shows(step.shown, self.printed(running), whole=True), running, "what the page shows")

    def end(self) -> None:
        """Close the terminals in which something keeps running."""
        for running in reversed(self.kept):
            self._check(running.process.poll() is None, running, "to keep running")
            self._interrupt(running)

    def give_up(self) -> None:
        """End whatever still runs."""
        for running in self.started:
            if running.process.poll() is None:
                os.killpg(running.process.pid, signal.SIGKILL)
                running.process.wait()
        for broker in self.brokers:
            broker.stop()

    def _start(self, place: str, step: Step) -> _Running:
        home, variables = self.folder / ".home", self.folder / ".home" / "variables"
        output = home / f"output-{len(self.started)}"
        environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}:/usr/sbin",
            "HOME": str(home),
            "HAR_STREAM_PORT": str(self.ports[1883]),
            "HAR_STREAM_HTTP_PORT": str(self.ports[9464]),
            "SIMULATOR_PORT": str(self.ports[1883]),
            # What a terminal shows at once must not wait in a buffer.
            "PYTHONUNBUFFERED": "1",
            **{name: os.environ[name] for name in ("HAR_DATA_DIR", "PYTHONPATH") if name in os.environ},
        }
        # One shell per command; exported variables and the folder are handed on.
        quoted = shlex.quote(str(variables))
        script = (
            f"set -e\nif [ -e {quoted} ]; then . {quoted}; fi\n"
            f"""trap '{{ export -p; printf "cd %q\\n" "$PWD"; }} >{quoted}' EXIT\n"""
            f"{self._on_loopback(step.command)}\n"
        )
        with output.open("wb") as out:
            process = subprocess.Popen(
                # Ctrl-C counts for them whatever it does to whoever runs the tests.
                ["env", "--default-signal=INT", "bash", "-c", script],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = _Running(place, step, process, output)
        self.started.append(running)
        return running

    def _wait_shown(self, running: _Running) -> None:
        def shown() -> bool:
            ended = running.process.poll() is not None
            return _shows(running.step.shown, self.printed(running), whole=False) or ended

        with contextlib.suppress(TimeoutError):
            wait_until(shown, "what the page shows", within_s=SHOWN_WITHIN_S)
        found = _shows(running.step.shown, self.printed(running), whole=False)
        self._check(found, running, "what the page shows")

    def _wait_done(self, running: _Running, within_s: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(timeout=within_s)
        self._check(running.process.poll() is not None, running, f"an end within {within_s:.0f} s")

    def _interrupt(self, running: _Running) -> None:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGINT)
            self._wait_done(running, 30)
        ended = running.process.returncode in {0, 130, -signal.SIGINT}
        self._check(ended, running, "an end at Ctrl-C")

    def _check(self, holds: bool, running: _Running, expected: str) -> None:  # noqa: FBT001 # an assertion
        assert holds, (
            f"{running.place}: expected {expected}\n$ {running.step.command}\n{self.printed(running)}"
            f"[exit status {running.process.poll()}]\nThe page shows:\n{running.step.shown}"
        )

    def printed(self, running: _Running) -> str:
        """What a process has printed so far."""
        text = running.output.read_text(encoding="utf-8", errors="replace")
        # Some answers don't end their last line.
        return f"{text}\n" if text and not text.endswith("\n") and running.process.poll() is not None else text

    def _on_loopback(self, command: str) -> str:
        for port, here in self.ports.items():
            command = re.sub(rf"(?<!\d){port}(?!\d)", str(here), command)
        return command.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 # the other way round


def _shows(shown: str | None, printed: str, *, whole: bool) -> bool:
    r"""Whether what was printed is what a page shows, or for what still runs begins so.

    >>> _shows("ready on port 1883, …\n", "ready on port 4711, and glad\n", whole=True)
    True
    >>> _shows("…\nready\n", "hello\nthere\nready\nand on\n", whole=False)
    True
    >>> _shows("ready\n", "ready\nand on\n", whole=True)
    False
    """
    if not shown:
        return shown is None or not whole or not printed
    pattern = ""
    for line in shown.splitlines():
        parts = [re.sub(r"\d+", r"\\d+", re.escape(part)) for part in line.rstrip().split("…")]
        pattern += r"(?:.*\n)*?" if line.strip() == "…" else ".+?".join(parts) + r"[ \t]*\n"
    return (re.fullmatch if whole else re.match)(pattern, printed) is not None


def write_recording(path: Path) -> None:
    """Two minutes of a synthetic watch as CSV, accelerometer and gyroscope at 50 Hz."""
    (stream,) = synthetic_watches(1)[0].recording(120).streams
    assert stream.acc is not None
    assert stream.gyro is not None
    rows = zip(stream.t_ns.tolist(), stream.acc.tolist(), stream.gyro.tolist(), strict=True)
    lines = [",".join(map(str, (t_ns, *acc, *gyro))) for t_ns, acc, gyro in rows]
    path.write_text("\n".join(["t_ns,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z", *lines, ""]))


def _a_broker(reader: Reader) -> None:
    program = find_program("mosquitto")
    if program is None:
        missing("mosquitto is not installed: apt-get install mosquitto")
    place = reader.folder / ".home" / f"mosquitto-{len(reader.brokers)}"
    place.mkdir()
    broker = Mosquitto(program, place, port=reader.ports[1883])
    reader.brokers.append(broker)
    broker.start()


def _a_running_service(reader: Reader) -> None:
    shown = "…\n… subscribed to …\n"
    reader.follow(Block("given", "console", f"$ har-stream --broker embedded\n{shown}", ("keeps running",)))


def _a_watch(reader: Reader) -> None:
    reader.follow(Block("given", "console", "$ simulator replay synthetic --start now", ("keeps running",)))


def _data_set(name: str) -> Callable[[Reader], None]:
    def look(_reader: Reader) -> None:
        if find(data_root(), DATA_SETS[name]) is None:
            missing(f"data set {name} is not in {data_root()} (HAR_DATA_DIR names the folder)")

    return look


def _a_phone(reader: Reader) -> None:
    _data_set("hapt")(reader)
    reader.follow(Block("given", "bash", f"{sys.executable} -m tests.phone --port 1883 --username phone\n", ()))
    service = reader.kept[0]
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: f" {phone.ACTIVITY} " in reader.printed(service), "activity", within_s=SHOWN_WITHIN_S)
    assert f" {phone.ACTIVITY} " in reader.printed(service), reader.printed(service)


#: What a reader may have.
GIVEN: Final[Mapping[str, Callable[[Reader], None]]] = {
    "a broker": _a_broker,
    "a running har-stream": _a_running_service,
    "a watch that sends": _a_watch,
    "a phone that sends": _a_phone,
    **{f"the data set {name}": _data_set(name) for name in DATA_SETS},
}
