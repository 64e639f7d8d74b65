"""The service as a process of its own, against a real Mosquitto, fed by the simulator with real recordings."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.nets.golden import golden_vectors
from simulator.datasets import hapt, uci_har
from simulator.datasets.location import data_root
from streamer.bundle import find_bundle, load_bundle, save_bundle
from streamer.classifier import Classifier
from streamer.imu import ImuBatch
from streamer.offline import classify_recording
from streamer.recognizer import Recognizer
from streamer.recording import Recording, write_csv
from streamer.wire import topics
from streamer.wire.events import ActivityEvent
from streamer.workers import is_own
from tests.programs import BIN, HarStream, simulator
from tests.servers import HOST, Mosquitto, free_port, wait_until

Start = Callable[..., HarStream]


@pytest.fixture
def start_service(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Start]:
    """Starts services at the test's Mosquitto and waits until they are ready; all end with the test."""
    started: list[HarStream] = []

    def start(*arguments: str, workers: int = 1) -> HarStream:
        address = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
        service = HarStream(tmp_path, *address, *arguments, name=f"service{len(started)}", workers=workers)
        started.append(service)
        service.wait_ready()
        return service

    yield start
    for service in started:
        service.kill()


def replay(mosquitto: Mosquitto, source: str, *arguments: str) -> dict[str, object]:
    return simulator(source, "--broker", mosquitto.host, "--port", str(mosquitto.port), *arguments)


def offline_windows(recording: Recording, model: str) -> list[ActivityEvent]:
    recognizer = Recognizer(load_bundle(find_bundle(model)), every_window=True)
    return [event for event in classify_recording(recognizer, recording) if event.type == "window"]


def hapt_recordings(subjects: set[str]) -> list[Recording]:
    return [r for r in hapt.read_recordings(data_root()) if r.subject in subjects]


@pytest.mark.usefixtures("data_dir")
def test_replay_at_full_speed_gives_exactly_the_offline_windows(mosquitto: Mosquitto, start_service: Start) -> None:
    service = start_service("--model", "uci-har-cnn", "--publish", "windows")
    for subject in ("2", "4"):
        summary = replay(mosquitto, "hapt", "--subject", subject, "--speed", "max", "--format", "cbor")
        assert summary["processed"]
    assert service.stop() == 0

    live: dict[str, list[ActivityEvent]] = defaultdict(list)
    for event in service.events:
        if event.type == "window":
            live[event.device].append(event)
    recordings = hapt_recordings({"2", "4"})
    assert len(recordings) == 4
    right: list[bool] = []
    for recording in recordings:
        offline = offline_windows(recording, "uci-har-cnn")
        # Whole documents: starts, probabilities bit for bit, completeness, ids. None missing, none too many.
        assert live[recording.device_id] == offline
        right += labelled_hits(recording, offline)
    assert len(right) > 400
    assert np.mean(right) >= official_accuracy("uci-har-cnn") - 0.01


@pytest.mark.usefixtures("data_dir")
def test_watch_that_switches_its_gyroscope_off_and_on_goes_on_as_offline(
    mosquitto: Mosquitto, start_service: Start, tmp_path: Path
) -> None:
    # second  0               60                  120            200
    # acc     x x x x x x x x x x x x x x x x x x x x x x x x x x x
    # gyro    x x x x x x x x x                    x x x x x x x x x    in messages of its own
    model = str(shipped_with_optional_gyro(tmp_path / "optional"))
    (stream,) = hapt_recordings({"1"})[0].streams
    whole = stream[: 200 * 50]
    second = (whole.t_ns - whole.t_ns[0]) / 1e9
    on = (second < 60) | (second >= 120)
    acc = ImuBatch("wrist", whole.t_ns, whole.acc, None)
    gyro = ImuBatch("wrist", whole.t_ns[on], None, whole.gyro[on] if whole.gyro is not None else None)
    recording = Recording("wrist", None, (acc, gyro), (), 50.0)
    write_csv(tmp_path / "wrist.csv", [recording])
    service = start_service("--model", model, "--publish", "windows")
    assert replay(mosquitto, str(tmp_path / "wrist.csv"), "--speed", "max", "--format", "cbor")["processed"]
    counted = {name: service.metric(f"har_{name}_total") for name in ("windows", "partial_windows", "gaps")}
    assert service.stop() == 0
    live = [event for event in service.events if event.type == "window"]
    assert live == offline_windows(recording, model)
    without = [(event.window_start_ns - whole.t_ns[0]) / 1e9 for event in live if event.without]
    assert (min(without), max(without)) == (pytest.approx(58, abs=1.3), pytest.approx(125, abs=1.3))
    assert counted == {"windows": len(live), "partial_windows": len(without), "gaps": 0}


def shipped_with_optional_gyro(folder: Path) -> Path:
    """The shipped model with another word about the gyroscope; that it was trained for that nobody says."""
    shipped = load_bundle(find_bundle("uci-har-cnn"))
    spec = msgspec.structs.replace(shipped.spec, optional_sensors=("gyro",))
    manifest = msgspec.structs.replace(shipped.manifest, name="optional", preprocessing=spec)
    golden = golden_vectors(manifest, shipped.model, Classifier(shipped).predict, seed=0)
    save_bundle(folder, manifest, shipped.model, golden)
    return folder


def official_accuracy(model: str) -> float:
    """Accuracy over the published test windows of UCI HAR."""
    bundle = load_bundle(find_bundle(model))
    official = uci_har.read_windows(data_root(), "test")
    best = Classifier(bundle).predict(official.signals)[:, : len(bundle.labels)].argmax(axis=1)
    return float(np.mean([bundle.labels[i] == label for i, label in zip(best, official.labels, strict=True)]))


def labelled_hits(recording: Recording, windows: list[ActivityEvent]) -> list[bool]:
    """For windows wholly inside a labelled stretch of one of the model's activities: was the most probable right?"""
    hits: list[bool] = []
    for window in windows:
        assert window.probabilities is not None
        for span in recording.spans:
            inside = span.start_ns <= window.window_start_ns and window.window_end_ns <= span.end_ns
            if inside and span.activity in window.probabilities:
                hits.append(max(window.probabilities, key=lambda a: window.probabilities[a]) == span.activity)  # type: ignore[index] # asserted above
    return hits


@pytest.mark.parametrize("client", ["gmqtt", "aiomqtt"])
def test_broker_killed_mid_replay_is_found_again_and_the_gap_is_stamped(
    mosquitto: Mosquitto, start_service: Start, client: str
) -> None:
    #   readings  |--------------| none             |--------------|
    #   broker    |--------------| killed |---------------------------
    #   events    [bout .........) gap              [bout .........
    service = start_service("--publish", "windows", "--mqtt-client", client)
    address = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
    command = [str(BIN / "simulator"), "replay", "synthetic", *address, "--devices", "3", "--start", "now"]
    command += ["--duration", "50", "--qos", "0"]
    sender = subprocess.Popen([*command, "--preroll", "20"], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(service.events) > 10, "first events", within_s=30)
        mosquitto.kill()
        # One that lives on sends what it kept, and may be back later than the service: then nothing is missing.
        sender.terminate()
        sender.wait(timeout=20)
        wait_until(lambda: not service.ready(), "/readyz goes down")
        before = len(service.events)
        # Readings must go missing for longer than the model bridges.
        wait_until(lambda: service.metric("har_connected") == 0, "disconnected")
        outage_over(service, seconds=3)
        mosquitto.start()
        wait_until(service.ready, "/readyz goes up again", within_s=30)
        sender = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(lambda: service.metric("har_gaps_total") >= 3, "gaps counted", within_s=30)
        # Each of the three has a first window after its gap, and one more.
        wait_until(
            lambda: all(n >= 2 for n in windows_behind_the_gap(service.events[before:]).values()),
            "windows after the gap",
            within_s=40,
        )
    finally:
        sender.terminate()
        sender.wait(timeout=20)
    after = service.events[before:]
    assert service.metric("har_reconnects_total") == 1
    for device in {event.device for event in after}:
        mine = [event for event in after if event.device == device]
        gaps = [e.gap_ns for e in mine if e.type == "end" and e.reason == "gap"]
        assert len(gaps) == 1
        assert gaps[0] > 1_000_000_000
        first_window = next(e for e in mine if e.type == "window" and e.gap_ns > 1_000_000_000)
        assert first_window.gap_ns == gaps[0]
        assert all(
            e.gap_ns == 0 for e in mine if e.type == "window" and e.window_start_ns > first_window.window_start_ns
        )


def windows_behind_the_gap(events: list[ActivityEvent]) -> dict[str, int]:
    """How many windows each of the three synthetic watches has had since a bout of its ended at a gap."""
    counts = {f"synthetic-{number:03d}": 0 for number in (1, 2, 3)}
    ended: set[str] = set()
    for event in events:
        if event.type == "end" and event.reason == "gap":
            ended.add(event.device)
        elif event.type == "window" and event.device in ended:
            counts[event.device] += 1
    return counts


def outage_over(service: HarStream, *, seconds: float) -> None:
    """Return when the outage has lasted: the service's own clock, its ticks, says so."""
    with pytest.raises(TimeoutError):
        wait_until(service.ready, "ready again", within_s=seconds)


@pytest.mark.usefixtures("data_dir")
def test_garbage_on_the_topic_changes_no_event_of_a_good_watch(mosquitto: Mosquitto, start_service: Start) -> None:
    service = start_service("--model", "uci-har-cnn", "--publish", "windows")
    address = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
    command = [str(BIN / "simulator"), "replay", "hapt", *address, "--subject", "2", "--speed", "60"]
    sender = subprocess.Popen([*command, "--format", "cbor"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        publish_garbage(mosquitto, until=lambda: sender.poll() is not None)
    finally:
        sender.terminate()
        assert sender.wait(timeout=20) == 0
    wait_until(lambda: service.metric("har_queue_messages") == 0, "queue worked off")
    refused = {reason: service.metric("har_rejects_total", reason=reason) for reason in ("oversize", "cbor", "format")}
    assert all(refused.values()), refused
    assert service.metric("har_rejects_total", reason="non_finite") > 0
    assert service.stop() == 0
    for recording in hapt_recordings({"2"}):
        live = [e for e in service.events if e.device == recording.device_id and e.type == "window"]
        # What lateness held back at the end stays undecided in a live stream that simply stops; `stop` flushed it.
        assert live == offline_windows(recording, "uci-har-cnn")


def publish_garbage(mosquitto: Mosquitto, *, until: Callable[[], bool]) -> None:
    """Random bytes, truncated CBOR, NaN and 10 MB on a good watch's own topic and on others, in a bounded loop."""
    import asyncio  # noqa: PLC0415 - only this sender needs a loop

    import aiomqtt  # noqa: PLC0415

    from streamer.imu import ImuBatch  # noqa: PLC0415
    from streamer.wire import topics  # noqa: PLC0415
    from streamer.wire.payload import encode_cbor  # noqa: PLC0415

    rng = np.random.default_rng(0)
    good = ImuBatch("hapt-exp03", np.arange(50, dtype=np.int64), np.ones((50, 3)), np.ones((50, 3)))
    not_finite = msgspec.msgpack.encode  # a format that isn't ours, too
    poison = [
        b"",
        rng.bytes(200),
        encode_cbor(good)[:100],
        encode_cbor(ImuBatch("x", good.t_ns, np.full((50, 3), np.nan), good.gyro)),
        bytes(10_000_000),
        b'{"t_ns": 1, "acc_x": NaN}',
        not_finite({"acc": [1, 2]}),
    ]

    async def send() -> None:
        async with aiomqtt.Client(mosquitto.host, mosquitto.port) as client:
            for i in range(300):
                if until():
                    return
                device = ("hapt-exp03", "hapt-exp04", f"nobody{i}", "bad name!")[i % 4]
                await client.publish(topics.imu(device), poison[i % len(poison)], qos=1)
        wait_until(until, "replay", within_s=60)

    asyncio.run(send())


@pytest.mark.parametrize("client", ["gmqtt", "aiomqtt"])
def test_sigterm_ends_bouts_and_says_stopped(mosquitto: Mosquitto, start_service: Start, client: str) -> None:
    service = start_service("--mqtt-client", client)
    replay(mosquitto, "synthetic", "--devices", "2", "--speed", "max", "--duration", "30", "--start", "now")
    wait_until(lambda: {e.type for e in service.events} >= {"start", "state"}, "bouts")
    assert service.stop(signal.SIGTERM) == 0
    ends = [e for e in service.events if e.type == "end" and e.reason == "shutdown"]
    assert {e.device for e in ends} == {"synthetic-001", "synthetic-002"}
    retained = subprocess.run(
        ["mosquitto_sub", "-h", HOST, "-p", str(mosquitto.port), "-t", "har/#", "-v", "-W", "2", "--retained-only"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert retained == "har/service/har-stream/status stopped\n"


@pytest.mark.parametrize("client", ["gmqtt", "aiomqtt"])
def test_killed_service_is_announced_offline(mosquitto: Mosquitto, start_service: Start, client: str) -> None:
    service = start_service("--mqtt-client", client)
    service.kill()
    status = subprocess.run(
        ["mosquitto_sub", "-h", HOST, "-p", str(mosquitto.port), "-t", "har/service/+/status", "-W", "5", "-C", "1"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert status == "offline\n"


def test_no_broker_is_explained_and_tried_again(tmp_path: Path) -> None:
    port = free_port()
    service = HarStream(tmp_path, "--broker", HOST, "--port", str(port))
    try:
        wait_until(lambda: "--broker embedded" in service.log, "explanation")
        assert f"{HOST}:{port}" in service.log
        assert "--demo" in service.log
        assert "Traceback" not in service.log
        assert not service.ready()
    finally:
        assert service.stop() == 0


def test_exit_on_failure_gives_up_with_status_1(tmp_path: Path) -> None:
    service = HarStream(tmp_path, "--broker", HOST, "--port", str(free_port()), "--exit-on-failure")
    assert service.process.wait(timeout=20) == 1
    *told, reason = service.log.splitlines()
    assert reason.startswith("har-stream: MQTT broker at")
    assert all(" INFO " in line for line in told), service.log


def test_broker_that_drops_for_its_low_limits_is_told_of(
    start_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    # Mosquitto's stock limits, 1000 messages queued for a client, and its count of drops every second.
    stock = start_mosquitto("sys_interval 1", template="listener {port} {host}\nallow_anonymous true\n")
    service = HarStream(tmp_path, "--broker", stock.host, "--port", str(stock.port))
    try:
        service.wait_ready()
        service.process.send_signal(signal.SIGSTOP)
        flood = (f"{i:01000d}" for i in range(20_000))
        command = ["mosquitto_pub", "-h", stock.host, "-p", str(stock.port), "-t", "har/v1/w/imu", "-q", "1", "-l"]
        subprocess.run(command, input="\n".join(flood), text=True, check=True, timeout=60)
        service.process.send_signal(signal.SIGCONT)
        wait_until(lambda: service.metric("har_broker_dropped_messages") > 0, "the broker's count", within_s=30)
        assert "max_queued_messages" in service.log
    finally:
        service.kill()


@pytest.mark.parametrize("client", ["gmqtt", "aiomqtt"])
def test_broker_that_speaks_only_mqtt_3_is_used_all_the_same(tmp_path: Path, client: str) -> None:
    port = free_port()
    with_broker = HarStream(tmp_path, "--broker", "embedded", "--port", str(port), name="embedded")
    other = None
    try:
        with_broker.wait_ready()
        other = HarStream(
            tmp_path,
            "--broker",
            HOST,
            "--port",
            str(port),
            "--client-id",
            "other",
            "--mqtt-client",
            client,
            name="other",
        )
        other.wait_ready()
        assert "3.1.1" in other.log
        simulator("synthetic", "--port", str(port), "--speed", "max", "--duration", "20")
        wait_until(lambda: any(e.type == "start" for e in other.events), "a bout")
        assert [e.id for e in other.events] == [e.id for e in with_broker.events][: len(other.events)]
        assert other.stop() == 0
        assert with_broker.stop() == 0
    finally:
        with_broker.kill()
        if other is not None:
            other.kill()


@pytest.mark.usefixtures("data_dir")
def test_two_workers_give_the_events_of_one(mosquitto: Mosquitto, start_service: Start) -> None:
    alone = start_service("--publish", "windows")
    together = start_service("--publish", "windows", "--client-id", "pair", workers=2)
    wait_until(lambda: together.log.count("subscribed") == 2, "both workers", within_s=30)
    replay(mosquitto, "hapt", "--split", "test", "--speed", "max", "--format", "cbor", "--duration", "120")
    assert alone.stop() == together.stop() == 0
    assert len({event.device for event in alone.events}) == 19
    expected, shared = ({e.id: e for e in service.events} for service in (alone, together))
    assert shared == expected


def test_a_worker_goes_on_hearing_its_watches_behind_many_messages_of_another(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    # More than a broker lets be unacknowledged; what is another worker's must be acknowledged, too.
    noise = next(f"noise-{n}" for n in range(10) if is_own(f"har/v1/noise-{n}/imu", worker=0, workers=2))
    address = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
    service = HarStream(tmp_path, *address, state=tmp_path / "state", workers=2)
    try:
        service.wait_ready()
        subprocess.run(
            ["mosquitto_pub", "-h", HOST, "-p", str(mosquitto.port), "-q", "1", "-t", topics.imu(noise), "-l"],
            input=b"?\n" * 25_000,
            timeout=60,
            check=True,
        )
        replay(mosquitto, "synthetic", "--devices", "4", "--speed", "max", "--duration", "60")
        assert service.stop() == 0
        followed = {event.device for event in service.events}
        assert len(followed) == 4
        assert {is_own(topics.imu(device), worker=1, workers=2) for device in followed} == {False, True}
    finally:
        service.kill()


def free_port_before_a_taken_one() -> tuple[int, socket.socket]:
    """A port that is free, and what listens at the next."""
    while True:
        taken = socket.create_server((HOST, 0))
        port = taken.getsockname()[1] - 1
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            taken.close()
        else:
            return port, taken


def test_failed_worker_ends_the_service() -> None:
    # The first worker's port is free, the second's is not.
    port, taken = free_port_before_a_taken_one()
    with taken:
        command = [
            str(BIN / "har-stream"),
            "--broker",
            HOST,
            "--port",
            str(free_port()),
            "--workers",
            "2",
            "--no-state",
        ]
        done = subprocess.run(
            [*command, "--http-port", str(port)], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 1
    assert "har-stream worker 1: HTTP: cannot listen" in done.stderr
    assert "worker-1 ended with status 2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("client", ["gmqtt", "aiomqtt"])
def test_a_burst_of_events_fits_a_broker_that_takes_twenty_at_a_time(
    start_mosquitto: Callable[..., Mosquitto], tmp_path: Path, client: str
) -> None:
    # Mosquitto's stock Receive Maximum is 20; forty watches that start together bring many more events at once.
    stock = start_mosquitto(template="listener {port} {host}\nallow_anonymous true\n")
    address = ("--broker", stock.host, "--port", str(stock.port))
    service = HarStream(tmp_path, *address, "--publish", "windows", "--mqtt-client", client)
    try:
        service.wait_ready()
        summary = simulator("synthetic", *address, "--devices", "40", "--speed", "max", "--duration", "60")
        assert summary["processed"]
        assert service.metric("har_reconnects_total") == 0
        assert service.stop() == 0
        assert len({event.device for event in service.events}) == 40
    finally:
        service.kill()
