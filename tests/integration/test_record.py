"""Recording live watches: what the file gives again is what was recognised live, whatever ends the recording."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simulator.captures import open_capture
from simulator.record import Captured, Recorder, record
from simulator.session import Broker, open_session
from streamer.offline import classify_file
from streamer.recording import read_recordings
from streamer.wire import topics
from streamer.wire.events import ActivityEvent
from streamer.wire.payload import encode_cbor
from tests.motion import noise
from tests.programs import BIN, HarStream, simulator
from tests.servers import Mosquitto, wait_until

FORMATS = (".jsonl", ".csv", ".parquet")


@contextmanager
def service(folder: Path, mosquitto: Mosquitto, name: str) -> Iterator[HarStream]:
    running = HarStream(
        folder, "--broker", mosquitto.host, "--port", str(mosquitto.port), "--publish", "windows", name=name
    )
    try:
        running.wait_ready()
        yield running
        assert running.stop() == 0
    finally:
        running.kill()


def windows(events: list[ActivityEvent]) -> dict[str, list[ActivityEvent]]:
    """Window documents by watch, in their order."""
    found: dict[str, list[ActivityEvent]] = {}
    for event in events:
        if event.type == "window":
            found.setdefault(event.device, []).append(event)
    return found


@contextmanager
def recording(mosquitto: Mosquitto, out: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`simulator record`, from its subscription on."""
    where = ["--broker", mosquitto.host, "--port", str(mosquitto.port), "--out", str(out), "--summary", "json"]
    command = [str(BIN / "simulator"), "record", *where, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "Ctrl-C ends it" in line, line + process.stderr.read()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def record_in_every_format(mosquitto: Mosquitto, folder: Path, while_recording: Callable[[], None]) -> None:
    stop, ready = asyncio.Event(), asyncio.Semaphore(0)
    broker = Broker(mosquitto.host, mosquitto.port)
    files = [open_capture(folder / f"walk{suffix}", force=False) for suffix in FORMATS]
    async with asyncio.TaskGroup() as tasks:
        for file in files:
            recorder = Recorder(file, Captured(), filters=[topics.IMU_FILTER], label="walking")
            tasks.create_task(record(broker, recorder, file, stop, on_start=ready.release))
        for _ in files:
            await ready.acquire()
        await asyncio.to_thread(while_recording)
        stop.set()
    for file in files:
        file.close()


@pytest.mark.usefixtures("data_dir")
async def test_every_format_gives_again_what_was_recognised_live_bit_for_bit(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    where = ("--broker", mosquitto.host, "--port", str(mosquitto.port))

    def send() -> None:
        # Out of order, with uneven times; and sensors with messages and times of their own.
        simulator("synthetic", *where, "--devices", "2", "--speed", "30", "--duration", "60", "--rate", "100",
                  "--fault", "reorder=0.1", "--fault", "jitter", "--fault", "duplicate=0.05")  # fmt: skip
        simulator("wisdm-watch", "--subject", "1610", *where, "--speed", "max", "--duration", "60", "--format", "cbor")

    with service(tmp_path, mosquitto, "live") as live:
        await record_in_every_format(mosquitto, tmp_path, send)
    expected = windows(live.events)
    assert len(expected) == 3
    assert sum(map(len, expected.values())) > 50
    for suffix in FORMATS:
        path = tmp_path / f"walk{suffix}"
        assert windows(list(classify_file(path, model="wisdm-watch-cnn", every_window=True))) == expected, suffix
    with service(tmp_path, mosquitto, "again") as again:
        summary = await asyncio.to_thread(simulator, str(tmp_path / "walk.csv"), *where, "--speed", "max")
    assert summary["processed"]
    assert windows(again.events) == expected


def readings_in(path: Path) -> int:
    return sum(len(message) for recording in read_recordings(path) for message in recording.arrivals)


def test_killed_recordings_are_whole(mosquitto: Mosquitto, tmp_path: Path) -> None:
    where = ["--broker", mosquitto.host, "--port", str(mosquitto.port)]
    paths = {suffix: tmp_path / f"walk{suffix}" for suffix in FORMATS}
    # Until it is finished, Parquet stands beside it as lines.
    left = [paths[".jsonl"], paths[".csv"], tmp_path / "walk.parquet.jsonl"]
    with (
        recording(mosquitto, paths[".jsonl"]) as one,
        recording(mosquitto, paths[".csv"]) as two,
        recording(mosquitto, paths[".parquet"]) as three,
    ):
        command = [str(BIN / "simulator"), "replay", "synthetic", *where, "--start", "now", "--batch", "1"]
        sender = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: all(path.exists() and path.stat().st_size > 10_000 for path in left), "some readings")
            for process in (one, two, three):
                process.kill()
        finally:
            sender.kill()
            sender.wait()
    for path in left:
        assert path.read_bytes().endswith(b"\n")
        assert readings_in(path) > 10
    assert not paths[".parquet"].exists()


async def test_recording_of_one_watch_ends_with_ctrl_c_its_summary_and_status_0(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    out = tmp_path / "walk.jsonl"
    with recording(mosquitto, out, "--device", "wrist", "--label", "walking") as process:
        async with open_session(Broker(mosquitto.host, mosquitto.port)) as session:
            for device in ("wrist", "other"):
                await session.publish(topics.imu(device), encode_cbor(noise(40)), content_type="application/cbor")
            await session.publish(topics.imu("wrist"), b"not a reading")
        wait_until(out.exists, "the first reading")
        process.send_signal(signal.SIGINT)
        stdout, stderr = await asyncio.to_thread(process.communicate, timeout=20)
    assert (process.returncode, stderr) == (0, "")
    summary = json.loads(stdout)
    assert (summary["devices"], summary["messages"], summary["refused"]) == ({"wrist": 40}, 1, {"format": 1})
    (found,) = read_recordings(out)
    assert [span.activity for span in found.spans] == ["walking"]


def test_nothing_that_came_is_status_1_one_line_and_no_file(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with recording(mosquitto, tmp_path / "walk.csv", "--duration", "0.3") as process:
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    place = f"{mosquitto.host}:{mosquitto.port}"
    assert re.fullmatch(rf"simulator: no readings came in 0 s on .+ at {place}; expected a watch .+\n", stderr)
    assert list(tmp_path.iterdir()) == []


async def test_lost_broker_is_a_gap_in_a_recording_that_goes_on(mosquitto: Mosquitto, tmp_path: Path) -> None:
    captured, stop = Captured(), asyncio.Event()
    file = open_capture(tmp_path / "walk.csv", force=False)
    broker = Broker(mosquitto.host, mosquitto.port)
    recorder = Recorder(file, captured, filters=[topics.IMU_FILTER])
    running = asyncio.create_task(record(broker, recorder, file, stop))

    async def send(seed: int) -> None:
        async with open_session(broker) as session:
            await session.publish(topics.imu("wrist"), encode_cbor(noise(40, seed=seed)))

    async def until(condition: Callable[[], bool]) -> None:
        await asyncio.to_thread(wait_until, condition, "the recorder", within_s=20)

    await until(lambda: captured.connections == 1)
    await send(1)
    await until(lambda: captured.messages == 1)
    await asyncio.to_thread(mosquitto.kill)
    await asyncio.to_thread(mosquitto.start)
    await until(lambda: captured.connections == 2)
    await send(2)
    await until(lambda: captured.messages == 2)
    stop.set()
    await running
    assert captured.summary()["gaps"] == 1
    assert file.close() == tmp_path / "walk.csv"
    assert readings_in(tmp_path / "walk.csv") == 80


def test_terminal_shows_what_comes_and_how_fast(mosquitto: Mosquitto, tmp_path: Path) -> None:
    where = ["--broker", mosquitto.host, "--port", str(mosquitto.port)]
    screen, end = pty.openpty()
    command = [str(BIN / "simulator"), "record", *where, "--out", str(tmp_path / "walk.csv"), "--label", "walking"]
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end, env=environment)
    os.close(end)
    shown = b""

    def has_shown(text: bytes) -> bool:
        nonlocal shown
        shown += os.read(screen, 10_000)
        return text in shown

    try:
        wait_until(lambda: has_shown(b"waiting for readings"), "the line of progress")
        simulator("synthetic", *where, "--duration", "2")
        wait_until(lambda: has_shown(b"1 watch, 100 readings"), "the readings")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(screen)
    assert b"Hz each" in shown
