"""`har-stream` on the command line: help, refusals, exit statuses, and recordings in files."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pytest

from streamer import cli
from streamer.bundle import Smoothing
from streamer.config import Settings
from streamer.recognizer import Recognizer
from streamer.recording import Recording, write_csv
from streamer.wire import topics
from streamer.wire.events import ActivityEvent
from streamer.wire.payload import Message, encode_json
from tests.bundles import POSTURE_SPEC, START_NS, make_bundle
from tests.motion import MS, SECOND, Feed, joined, messages, still
from tests.programs import BIN

HAR_STREAM: Final = (sys.executable, "-m", "streamer")
#: Nobody listens on port 1 of loopback.
NO_BROKER: Final = ("--broker", "127.0.0.1", "--port", "1")


class Ended(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def har_stream(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Ended]:
    """Runs the command line in this process."""

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["har-stream", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfdbinary.readouterr()
        return Ended(int(ended.value.code or 0), out.decode(), err.decode())

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of the posture bundle."""
    folder = tmp_path_factory.mktemp("posture")
    make_bundle(folder)
    return str(folder)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file in which two watches lie, one of them sits up, and the other pauses."""
    file = tmp_path_factory.mktemp("recording") / "night.csv"
    left = joined(still("lying", 2.1, device="left"), still("sitting", 1.9, start_s=2.1))
    right = joined(still("lying", 2.0, device="right"), still("lying", 2.0, start_s=9.0))
    write_csv(file, [Recording("left", None, (left,)), Recording("right", None, (right,))])
    return str(file)


def test_help_is_complete(har_stream: Callable[..., Ended]) -> None:
    shown = har_stream("--help")
    assert (shown.status, shown.err) == (0, "")
    options = set(re.findall(r"^ +(--[a-z-]+)", shown.out, re.MULTILINE))
    settings = {f"--{field.name.replace('_', '-')}" for field in msgspec.structs.fields(Settings)}
    assert options >= settings | {"--config", "--help"}
    assert "classify" in shown.out
    text = " ".join(shown.out.split())
    for field in msgspec.structs.fields(Settings):
        assert field.type.__metadata__[-1].description in text
    classify = har_stream("classify", "--help")
    assert set(re.findall(r"--[a-z-]+", classify.out)) == {"--model", "--output", "--publish", "--explain", "--help"}


@pytest.mark.parametrize("program", ["har-stream", "simulator", "har-models"])
def test_version_is_the_installed_one(program: str) -> None:
    done = subprocess.run([BIN / program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{program} {version('har-stream')}\n"


def test_help_is_instant() -> None:
    took = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([*HAR_STREAM, "--help"], capture_output=True, check=True)
        took.append(time.perf_counter() - start)
    assert statistics.median(took) < 0.3


@pytest.mark.parametrize(
    "arguments", [("--help",), ("classify", "--help"), ("--qos", "7"), ("--port", "1", "classify")]
)
def test_nothing_heavy_is_imported_to_help_or_to_refuse(arguments: tuple[str, ...]) -> None:
    program = (
        "import sys\n"
        "from streamer import cli\n"
        f"sys.argv = ['har-stream', *{arguments!r}]\n"
        "try:\n    cli.main()\n"
        "except SystemExit:\n    pass\n"
        "print({'numpy', 'scipy', 'onnxruntime', 'aiohttp', 'aiomqtt', 'amqtt'} & set(sys.modules))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "set()"


# Exit statuses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("--port", "5", "--demo", "classify", "x.csv"),
            "--port, --demo would be ignored by classify; expected options behind the subcommand: har-stream classify",
        ),
        (("--config", "x.toml", "classify", "x.csv"), "--config would be ignored by classify"),
        (("classify",), "Missing argument"),
        (("classify", "x.csv", "--output", "xml"), "xml"),
        (("replay",), "No such command"),
        (("--prot", "5"), "No such option"),
        (
            ("--port", "high"),
            "har-stream: command line: --port is 'high'; expected a whole number from 0 up to 65535\n",
        ),
        (
            ("--port", "70000"),
            "har-stream: command line: --port is '70000'; expected a whole number from 0 up to 65535\n",
        ),
        (("--duration", "0"), "har-stream: command line: --duration is '0'; expected a number above 0"),
        (("--config", "absent.toml"), "har-stream: absent.toml: cannot be read (No such file or directory)\n"),
        (("--model", "absent"), "har-stream: model 'absent' is neither a shipped bundle ("),
        (("classify", "absent.csv"), "har-stream: absent.csv: cannot be read (No such file or directory)\n"),
    ],
)
def test_what_cannot_be_used_is_refused_with_status_2(
    har_stream: Callable[..., Ended],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = har_stream(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert expected in ended.err
    assert "Traceback" not in ended.err


def test_environment_is_refused_by_name(har_stream: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAR_STREAM_QOS", "2")
    assert har_stream() == (2, "", "har-stream: environment: HAR_STREAM_QOS is '2'; expected 0 or 1\n")


def test_damaged_recording_is_refused_by_line(har_stream: Callable[..., Ended], tmp_path: Path, model: str) -> None:
    file = tmp_path / "walk.csv"
    file.write_text("t_ns,acc_x,acc_y,acc_z\n0,1,2,3\n1,1,nothing,3\n")
    ended = har_stream("classify", str(file), "--model", model)
    assert ended == (2, "", f"har-stream: {file}: line 3, column acc_y is 'nothing'; expected a number\n")


def test_broker_that_is_not_there_gives_status_1_when_told_to_give_up() -> None:
    arguments = (*HAR_STREAM, *NO_BROKER, "--http-port", "0", "--exit-on-failure")
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "har-stream: MQTT broker at 127.0.0.1:1: " in ended.stderr
    assert "Traceback" not in ended.stderr


# Recordings --------------------------------------------------------------------------------------------------------


def test_classify_tells_people(har_stream: Callable[..., Ended], recording: str, model: str) -> None:
    ended = har_stream("classify", recording, "--model", model)
    assert (ended.status, ended.err) == (0, "")
    # Columns are as wide as they may be.
    assert [" ".join(line.split()) for line in ended.out.splitlines()] == [
        "2023-11-14 22:13:21 left lying 1.00 since 22:13:20",
        "2023-11-14 22:13:23 left lying end 0.00 since 22:13:20 (changed)",
        "2023-11-14 22:13:23 left sitting 1.00 since 22:13:22",
        "2023-11-14 22:13:24 left sitting end 1.00 since 22:13:22 (end of recording)",
        "2023-11-14 22:13:21 right lying 1.00 since 22:13:20",
        "2023-11-14 22:13:22 right lying end 1.00 since 22:13:20 (gap) hole of 7.05 s",
        "2023-11-14 22:13:30 right lying 1.00 since 22:13:29 hole of 7.05 s",
        "2023-11-14 22:13:31 right lying end 1.00 since 22:13:29 (end of recording)",
    ]


def test_classify_prints_the_published_documents(har_stream: Callable[..., Ended], recording: str, model: str) -> None:
    ended = har_stream("classify", recording, "--model", model, "--output", "json", "--publish", "windows")
    events = [msgspec.json.decode(line, type=ActivityEvent) for line in ended.out.splitlines()]
    assert ended.status == 0
    assert [(e.device, e.type, e.activity) for e in events if e.type != "window"] == [
        *(("left", "start", "lying"), ("left", "state", "lying"), ("left", "end", "lying")),
        *(("left", "start", "sitting"), ("left", "state", "sitting"), ("left", "end", "sitting")),
        *(("right", "start", "lying"), ("right", "state", "lying"), ("right", "end", "lying")),
        *(("right", "state", "unknown"), ("right", "start", "lying"), ("right", "state", "lying")),
        ("right", "end", "lying"),
    ]
    windows = [e for e in events if e.type == "window"]
    assert [(e.device, (e.window_start_ns - START_NS) // MS) for e in windows] == [
        *(("left", start) for start in range(0, 3500, 500)),
        *(("right", start) for start in (0, 500, 1000, 9000, 9500, 10_000)),
    ]
    assert all(list(e.probabilities or {}) == ["standing", "sitting", "lying"] for e in windows)


def test_file_and_live_stream_are_told_alike(har_stream: Callable[..., Ended], tmp_path: Path) -> None:
    spec = msgspec.structs.replace(POSTURE_SPEC, channels=("body_acc_x", "gravity_y", "gyro_z"))
    smoothing = Smoothing(weight=0.6, enter=0.5, leave=0.4, dwell=2)
    bundle = make_bundle(tmp_path, spec=spec, smoothing=smoothing)
    holes = (((300, SECOND), (600, 3 * SECOND)), ((450, 2 * SECOND),))
    feed = Feed(1000, 50.0, 0.1, holes, (), 0, separate=True, declares_rate=False, seed=3)
    streams = tuple(feed.streams("wrist"))
    write_csv(tmp_path / "wrist.csv", [Recording("wrist", None, streams)])
    recognizer = Recognizer(bundle, every_window=True)
    arriving = [Message(topics.imu("wrist"), encode_json(batch)) for batch in messages(streams, [13, 50, 7])]
    live = [*recognizer.process(arriving, START_NS).events, *recognizer.finish("end_of_recording").events]
    arguments = ("classify", str(tmp_path / "wrist.csv"), "--model", str(tmp_path), "--output", "json")
    ended = har_stream(*arguments, "--publish", "windows")
    assert [msgspec.json.decode(line, type=ActivityEvent) for line in ended.out.splitlines()] == live
    assert {event.type for event in live} == {"start", "end", "state", "window"}


def test_reader_that_has_seen_enough_is_no_error(recording: str, model: str) -> None:
    command = [*HAR_STREAM, "classify", recording, "--model", model, "--publish", "windows"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as program:
        if program.stdout is None or program.stderr is None:
            pytest.fail("no pipes")
        program.stdout.readline()
        program.stdout.close()
        assert b"Traceback" not in program.stderr.read()


def test_classify_takes_the_model_that_the_environment_names_unless_told_otherwise(
    har_stream: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, model: str, recording: str
) -> None:
    as_told = har_stream("classify", recording, "--model", model, "--output", "json")
    monkeypatch.setenv("HAR_STREAM_MODEL", model)
    assert har_stream("classify", recording, "--output", "json") == as_told
    monkeypatch.setenv("HAR_STREAM_MODEL", "no-such-bundle")
    assert har_stream("classify", recording, "--output", "json").status == 2
    assert har_stream("classify", recording, "--model", model, "--output", "json") == as_told
