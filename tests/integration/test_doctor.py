"""`har-stream doctor` at real brokers that are set up wrongly, each in its own way."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from streamer.config import Settings
from streamer.doctor import entry, probe, queues, rights
from streamer.doctor.examination import examine
from streamer.doctor.finding import CHECKS, Finding
from streamer.doctor.probe import Heard, Login, Probe
from streamer.wire import topics
from tests.bundles import make_bundle
from tests.certificates import DAY, Authority
from tests.deployed import Deployed
from tests.programs import BIN, HarStream
from tests.senders import lying, sending
from tests.servers import HOST, Mosquitto, free_port, wait_until
from tests.terminals import Terminal

FILTERS: Final = ", ".join(topics.DEFAULT_FILTERS)
#: As Debian ships it: no limits are set, so those of the broker itself hold.
STOCK: Final = "listener {port} {host}\nallow_anonymous true\nlog_dest stderr\nconnection_messages true\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of accelerations, with windows of a second and feeds from 8 Hz on."""
    folder = tmp_path_factory.mktemp("posture")
    make_bundle(folder)
    return str(folder)


Diagnose = Callable[..., dict[str, Finding]]


@pytest.fixture
def diagnose(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Diagnose:
    """Findings by check."""
    # Nobody comes back where nobody was; who does comes at once.
    monkeypatch.setattr(entry, "_TAKEOVER_S", 0.2)

    def run(port: int, *, listen_s: float = 0.3, queue: bool = False, **options: Any) -> dict[str, Finding]:  # noqa: ANN401 # settings
        usual: dict[str, Any] = {"broker": HOST, "port": port, "model": model, "http_port": 0, "state": str(tmp_path)}
        found = list(examine(Settings(**usual | options), listen_s=listen_s, queue=queue))
        assert [finding.check for finding in found] == sorted((f.check for f in found), key=CHECKS.index)
        return {finding.check: finding for finding in found}

    return run


def at_once(**calls: Callable[[], dict[str, Finding]]) -> dict[str, dict[str, Finding]]:
    """What each of some calls finds, all of them under way at the same time: most of each is waiting."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return dict(zip(calls, pool.map(lambda call: call(), calls.values()), strict=True))


def troubles(found: Mapping[Any, Finding]) -> dict[str, str]:
    return {check: finding.status for check, finding in found.items() if finding.status not in {"ok", "skipped"}}


# Nothing is wrong ---------------------------------------------------------------------------------------------------


def test_all_is_well_where_all_is_well(mosquitto: Mosquitto, diagnose: Diagnose) -> None:
    with sending(mosquitto.port, lying()):
        found = diagnose(mosquitto.port, listen_s=2.5, queue=True)
    assert troubles(found) == {}
    assert set(found) == set(CHECKS)
    assert found["login"].figures["mqtt"] == "5"
    assert found["subscribe"].says.startswith(f"{FILTERS}: granted, and a message came back in ")
    assert "50 Hz) and says: wrist lying" in found["model"].says
    assert found["queue"].figures == {"kept": 1500, "sent": 1500}
    assert all(finding.next == "" for finding in found.values())


def test_the_embedded_broker_is_found_well(model: str, tmp_path: Path) -> None:
    # In a process of its own, as its broker's would stand still while the doctor waits.
    port = free_port()
    service = HarStream(tmp_path, "--broker", "embedded", "--port", str(port), "--model", model)
    try:
        service.wait_ready()
        with sending(port, lying()):
            found = {
                finding.check: finding
                for finding in examine(
                    Settings(broker="embedded", port=port, model=model, http_port=0), listen_s=1.5, queue=True
                )
            }
        assert troubles(found) == {}
        assert found["login"].figures["mqtt"] == "3.1.1"
        assert found["client-id"].figures == {"online": True}
        assert service.metric("har_rejects_total") == 0
        assert service.metric("har_devices") == 1
    finally:
        service.kill()


def test_the_shipped_access_list_gives_the_service_what_it_needs(deployed: Deployed, diagnose: Diagnose) -> None:
    options = dict(zip(*[iter(deployed.login("har-stream"))] * 2, strict=True))
    found = diagnose(
        deployed.broker.port,
        queue=True,
        username="har-stream",
        password_file=options["--password-file"],
        tls_ca=options["--tls-ca"],
    )
    # It may not publish readings, so that nothing arrives; that is no fault of the list.
    assert troubles(found) == {"readings": "failed"}
    assert found["tls"].says.startswith("TLSv1.3, certificate for ")
    assert found["queue"].figures == {"kept": 1500, "sent": 1500}


# Address, TLS and login ---------------------------------------------------------------------------------------------


def test_nothing_listens(diagnose: Diagnose) -> None:
    found = diagnose(1)
    assert troubles(found) == {"address": "failed"}
    assert found["address"].says == "nothing listens at 127.0.0.1:1"
    assert "har-stream --broker embedded" in found["address"].next
    assert "login" not in found


def test_name_that_leads_nowhere(diagnose: Diagnose) -> None:
    found = diagnose(1883, broker="broker.invalid")
    assert found["address"].status == "failed"
    assert found["address"].says.startswith("the name broker.invalid leads nowhere")


def test_something_else_listens(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ANSWER_S", 0.3)
    with socket.create_server((HOST, 0)) as server:
        # It is reached and says nothing: the doctor does not wait for ever.
        found = diagnose(server.getsockname()[1])
    assert found["address"].status == "ok"
    assert found["login"].status == "failed"
    assert "no answer to CONNECT" in found["login"].says


def test_tls_is_judged_by_certificate_name_and_expiry(
    start_mosquitto: Callable[..., Mosquitto], diagnose: Diagnose, tmp_path: Path
) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")

    def start(name: str, **options: Any) -> int:  # noqa: ANN401 # of a certificate
        certificate = authority.sign(name, **options)
        lines = f"certfile {certificate.certificate}", f"keyfile {certificate.key}"
        return start_mosquitto(*lines, f"cafile {authority.certificate}").port

    ca = str(authority.certificate)
    good, plain = start("good", ends=90 * DAY), start_mosquitto().port
    soon, expired = start("soon", ends=timedelta(days=3)), start("expired", begins=-2 * DAY, ends=-DAY)
    elsewhere = start("elsewhere", host="broker.example")
    found = at_once(
        good=lambda: diagnose(good, tls_ca=ca),
        foreign=lambda: diagnose(good, tls_ca=str(other.certificate)),
        # Without TLS the port does not answer in MQTT; that it speaks TLS is found out.
        not_asked_for=lambda: diagnose(good),
        soon=lambda: diagnose(soon, tls_ca=ca),
        expired=lambda: diagnose(expired, tls_ca=ca),
        elsewhere=lambda: diagnose(elsewhere, tls_ca=ca),
        plain=lambda: diagnose(plain, tls_ca=ca),
    )
    assert found["good"]["tls"].status == "ok"
    assert found["good"]["tls"].figures["version"] == "TLSv1.3"
    assert found["good"]["tls"].figures["expires_days"] == pytest.approx(90, abs=0.1)
    foreign = found["foreign"]["tls"]
    assert foreign.says.startswith("the broker's certificate is not signed by a CA that is trusted")
    assert foreign.next == "--tls-ca FILE, with the CA that signed the broker's certificate"
    assert "login" not in found["foreign"]
    assert f"port {good} speaks TLS" in found["not_asked_for"]["tls"].says
    assert (found["soon"]["tls"].status, found["soon"]["tls"].next) == (
        "warning",
        "renew it soon: deploy/mosquitto/certificates.sh",
    )
    assert (found["expired"]["tls"].status, "has expired" in found["expired"]["tls"].says) == ("failed", True)
    assert found["elsewhere"]["tls"].next == "--broker with a name of its certificate: broker.example"
    assert "speaks MQTT without TLS" in found["plain"]["tls"].says


def test_password_that_is_wrong_or_missing(
    start_mosquitto: Callable[..., Mosquitto], diagnose: Diagnose, tmp_path: Path
) -> None:
    (tmp_path / "accounts").touch()
    (tmp_path / "secret").write_text("wrong\n")
    port = start_mosquitto("allow_anonymous false", f"password_file {tmp_path / 'accounts'}").port
    nobody = diagnose(port)["login"]
    assert (nobody.status, nobody.figures["code"]) == ("failed", 135)
    assert nobody.next.startswith("--username NAME with --password-file FILE")
    me = diagnose(port, username="me", password_file=str(tmp_path / "secret"))["login"]
    assert me.says == "the broker does not let me in: the user name or the password is wrong (reason code 135)"
    unreadable = diagnose(port, username="me", password_file=str(tmp_path / "absent"))["login"]
    assert "cannot be read" in unreadable.says


# Rights -------------------------------------------------------------------------------------------------------------


def test_access_list_that_denies(
    start_mosquitto: Callable[..., Mosquitto], diagnose: Diagnose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rights, "_BACK_S", 0.5)
    monkeypatch.setattr(queues, "_BACK_S", 0.5)

    def start(name: str, *lines: str) -> int:
        (tmp_path / name).write_text("\n".join([*lines, ""]))
        return start_mosquitto(f"acl_file {tmp_path / name}").port

    deaf = start("deaf", "topic write #", "topic read $SYS/#")
    mute = start("mute", "topic readwrite har/v1/+/imu", "topic readwrite har/v1/+/sync")
    found = at_once(deaf=lambda: diagnose(deaf, queue=True), mute=lambda: diagnose(mute, queue=True))
    # Mosquitto grants the subscription all the same.
    assert troubles(found["deaf"]) == {"subscribe": "failed", "readings": "failed"}
    assert found["deaf"]["subscribe"].next.endswith("(Mosquitto: `topic read har/v1/+/imu`)")
    assert troubles(found["mute"]) == {"publish": "failed", "readings": "failed"}
    assert found["mute"]["publish"].next.endswith("(Mosquitto: `topic write har/v1/+/activity`)")
    # Without rights of its own the doctor measures nothing, and says so.
    for one in found.values():
        assert (one["queue"].status, "har/doctor/#" in one["queue"].next) == ("skipped", True)


# Readings -----------------------------------------------------------------------------------------------------------


def test_nothing_arrives_but_elsewhere(mosquitto: Mosquitto, diagnose: Diagnose) -> None:
    with (
        sending(mosquitto.port, lying(), topic="phones/mine/motion"),
        sending(mosquitto.port, lambda: b"21", topic="t"),
    ):
        found = diagnose(mosquitto.port, listen_s=1.0)
    assert troubles(found) == {"readings": "failed"}
    assert found["readings"].says.endswith("but what came on phones/mine/motion looks like readings")
    assert "--topic 'phones/mine/motion'" in found["readings"].next
    assert re.search(
        r"phones/mine/motion \(\d+\), t \(\d+\)|t \(\d+\), phones/mine/motion \(\d+\)", found["nearby"].says
    )


@dataclass(frozen=True, slots=True)
class Wrong:
    """A watch that sends what it should not, and what is to be told of it."""

    payload: Callable[[], bytes]
    check: str
    says: str
    next_step: str
    options: dict[str, Any] = field(default_factory=dict)


def test_readings_that_are_not_as_they_should_be(mosquitto: Mosquitto, diagnose: Diagnose) -> None:
    cases = {
        "g": Wrong(
            lying(unit=1.0), "units", "|acc| at rest is 1: accelerations seem to be in g", "multiply by 9.80665"
        ),
        "no-gravity": Wrong(lying(unit=0.01), "units", "far below 9.81: gravity", "the acceleration with gravity"),
        "slow": Wrong(
            lying(rate_hz=5), "model", "sends 5 readings a second, and posture needs 8", "raise the app's rate"
        ),
        "late": Wrong(
            lying(behind_s=7200), "clocks", "its readings are 2 hours old when they arrive", "set the clocks"
        ),
        "partial": Wrong(lambda: b'{"t_ns": 1, "acc_x": 1}', "decoding", "for `schema`", "all three axes of a sensor"),
        "no-gyro": Wrong(
            lying(gyro=False),
            "model",
            "no-gyro sends no gyroscope, and uci-har-lstm needs it",
            "or wisdm-watch-cnn, which does without",
            {"model": "uci-har-lstm"},
        ),
    }

    def call(name: str, wrong: Wrong) -> Callable[[], dict[str, Finding]]:
        topics_ = (f"{name}/+/imu",)
        options = wrong.options | {"client_id": name}
        return lambda: diagnose(mosquitto.port, listen_s=4.3, topic=topics_, **options)

    with ExitStack() as senders:
        for name, wrong in cases.items():
            senders.enter_context(sending(mosquitto.port, wrong.payload, topic=f"{name}/{name}/imu"))
        found = at_once(**{name: call(name, wrong) for name, wrong in cases.items()})
    for name, wrong in cases.items():
        assert troubles(found[name]) == {wrong.check: "warning" if name == "late" else "failed"}, name
        assert wrong.says in found[name][wrong.check].says
        assert wrong.next_step in found[name][wrong.check].next


# The broker's limits ------------------------------------------------------------------------------------------------


def test_stock_limits_are_measured_and_nothing_is_left_behind(
    start_mosquitto: Callable[..., Mosquitto], diagnose: Diagnose
) -> None:
    broker = start_mosquitto(template=STOCK)
    found = diagnose(broker.port, queue=True)
    assert troubles(found) == {"readings": "failed", "queue": "warning"}
    assert found["queue"].figures == {"kept": 1000, "sent": 1500}
    assert "max_queued_messages" in found["queue"].next
    left = re.findall(r"as (har-stream-doctor-\w+-queue) ", broker.log.read_text())
    assert left
    with Probe(
        Login(host=HOST, port=broker.port, username=None, password=None), left[0], mqtt_5=True, clean=False
    ) as one:
        assert one.open() == 0
        assert not one.resumed


def test_session_is_removed_when_the_measuring_is_interrupted(
    start_mosquitto: Callable[..., Mosquitto], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = start_mosquitto(template=STOCK)
    login = Login(host=HOST, port=broker.port, username=None, password=None)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(queues, "_take_all", interrupt)
    with Probe(login, "doctor", mqtt_5=False) as main:
        main.open()
        with pytest.raises(KeyboardInterrupt):
            queues.check_queue(login, main, "token", 1.0)
    with Probe(login, "har-stream-doctor-token-queue", mqtt_5=False, clean=False) as left:
        left.open()
        assert not left.resumed


# The name -----------------------------------------------------------------------------------------------------------


def test_a_running_service_is_looked_at_and_left_alone(
    mosquitto: Mosquitto, diagnose: Diagnose, model: str, tmp_path: Path
) -> None:
    address = ["--broker", HOST, "--port", str(mosquitto.port), "--model", model]
    service = HarStream(tmp_path, *address, state=tmp_path / "state")
    try:
        service.wait_ready()
        http_port = int(service.url.rpartition(":")[2])
        with sending(mosquitto.port, lying()):
            found = diagnose(mosquitto.port, listen_s=1.2, http_port=http_port, state=str(tmp_path / "state"))
        assert troubles(found) == {}
        assert found["client-id"].figures == {"online": True}
        assert found["http"].says.endswith("already, and is ready")
        assert f"in use by process {service.process.pid}" in found["state"].says
        assert service.metric("har_reconnects_total") == 0
        assert service.metric("har_rejects_total") == 0
        assert service.metric("har_devices") == 1
    finally:
        service.kill()


def test_another_client_of_the_same_name_is_found(
    mosquitto: Mosquitto, diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This one comes back after a second.
    monkeypatch.setattr(entry, "_TAKEOVER_S", 10)
    other = paho.Client(CallbackAPIVersion.VERSION2, "har-stream", protocol=MQTTProtocolVersion.MQTTv5)
    other.connect(HOST, mosquitto.port)
    other.loop_start()
    try:
        found = diagnose(mosquitto.port)
    finally:
        other.disconnect()
        other.loop_stop()
    assert found["client-id"].status == "failed"
    assert found["client-id"].next.startswith("another --client-id")


def test_services_that_throw_each_other_out_are_found(
    mosquitto: Mosquitto, diagnose: Diagnose, model: str, tmp_path: Path
) -> None:
    address = ["--broker", HOST, "--port", str(mosquitto.port), "--model", model]
    with ExitStack() as stack:
        for name in ("one", "two"):
            service = HarStream(tmp_path / name, *address)
            stack.callback(service.kill)
        wait_until(lambda: "trying again" in service.log, "one throws the other out", within_s=20)
        found = diagnose(mosquitto.port, listen_s=2)
    assert found["client-id"].status == "failed"
    assert "throw each other out" in found["client-id"].next


@pytest.mark.parametrize("mqtt_5", [True, False])
def test_what_the_broker_keeps_for_the_service_stays(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch, *, mqtt_5: bool
) -> None:
    monkeypatch.setattr(entry, "_TAKEOVER_S", 0.3)
    login = Login(host=HOST, port=mosquitto.port, username=None, password=None)
    with Probe(login, "har-stream", mqtt_5=mqtt_5, clean=False, keep_s=3600) as service:
        service.open()
        service.subscribe(topics.IMU_FILTER, 1)
    with Probe(login, "watch", mqtt_5=mqtt_5) as watch:
        watch.open()
        watch.publish_all(topics.imu("wrist"), [b"%d" % number for number in range(50)])
    settings = Settings(state="/nowhere")
    found = entry.check_client_id(settings, login, mqtt_5=mqtt_5, statuses={})
    assert found.status == "ok"
    kept: list[Heard] = []
    with Probe(login, "har-stream", mqtt_5=mqtt_5, clean=False, keep_s=3600, receive=kept.append) as service:
        service.open()
        assert service.wait(lambda: len(kept) >= 50)
    assert [heard.payload for heard in kept] == [b"%d" % number for number in range(50)]


# This machine -------------------------------------------------------------------------------------------------------


def test_state_that_cannot_be_written_and_port_that_is_taken(diagnose: Diagnose, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        found = diagnose(1, http_port=port, state=str(tmp_path / "file" / "state"), model="wisdm-watch-cn")
    assert found["bundle"].status == found["state"].status == found["http"].status == "failed"
    assert "did you mean wisdm-watch-cnn?" in found["bundle"].says
    assert found["http"].says.startswith(f"{HOST}:{port} is not to be had")


def test_a_terminal_shows_how_long_the_doctor_listens_and_lines_that_fit(mosquitto: Mosquitto) -> None:
    options = ["--broker", HOST, "--port", str(mosquitto.port), "--no-state", "--http-port", "0", "--listen", "60"]
    with Terminal(str(BIN / "har-stream"), "doctor", *options, columns=60) as terminal:
        terminal.wait_for(r"^listening for [1-6]\d s more, 0 messages so far")
        # What is longer goes on below, in its column.
        assert terminal.has(r"^ok +bundle +wisdm-watch-cnn: 18 activities")
        assert terminal.has(r"^ {20}\S")
        terminal.type("\x03")
        assert terminal.ended() == 130
        assert not terminal.has("listening")


def test_who_interrupts_the_doctor_waits_for_no_lock(mosquitto: Mosquitto) -> None:
    login = Login(host=HOST, port=mosquitto.port, username=None, password=None)
    one = Probe(login, "interrupted", mqtt_5=True)
    assert one.open() == 0
    # As paho leaves it where the interrupt comes between taking a lock and holding it.
    with one._client._msgtime_mutex, pytest.raises(KeyboardInterrupt), one:
        raise KeyboardInterrupt
    one.close()


# The command --------------------------------------------------------------------------------------------------------


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "har-stream"), "doctor", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | environment,
    )


def test_the_command_takes_settings_from_everywhere_and_tells_of_all_in_its_status(
    mosquitto: Mosquitto, model: str, tmp_path: Path
) -> None:
    (tmp_path / "settings.toml").write_text(f"port = {mosquitto.port}\nmodel = {model!r}\n")
    options = ["--config", str(tmp_path / "settings.toml"), "--no-queue", "--http-port", "0", "--listen", "1.5"]
    # As if a service had run here: its name is then not tried.
    options += ["--state", str(tmp_path)]
    (tmp_path / "har-stream").mkdir()
    with sending(mosquitto.port, lying()), ThreadPoolExecutor(2) as pool:
        ended = [pool.submit(run, *options, *more, HAR_STREAM_BROKER=HOST) for more in ((), ("--json",))]
        told, document = (one.result() for one in ended)
    assert (told.returncode, told.stderr) == (0, ""), told.stdout
    lines = told.stdout.splitlines()
    assert lines[0] == f"broker {HOST}:{mosquitto.port}, topic {FILTERS}, model {model}"
    assert re.fullmatch(r"ok +bundle +posture: 3 activities from acc, windows of 1 s, feeds from 8 Hz on", lines[1])
    assert re.fullmatch(r"\d+ ok(, 1 skipped)?", lines[-1])
    report = json.loads(document.stdout)
    assert report["ok"] is True
    assert {finding["check"] for finding in report["findings"]} == set(CHECKS) - {"queue"}


def test_the_command_ends_with_status_1_where_something_fails_and_2_where_it_is_told_wrong() -> None:
    nowhere = ("--broker", HOST, "--port", "1", "--no-state", "--http-port", "0")
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(run, *given) for given in (nowhere, (*nowhere, "--json"), ("--port", "high"))]
        nobody, document, wrong = (call.result() for call in calls)
    assert nobody.returncode == 1
    assert re.search(
        r"^failed +address +nothing listens at 127.0.0.1:1\n +next: start the broker", nobody.stdout, re.MULTILINE
    )
    assert nobody.stdout.splitlines()[-1].endswith("1 failed")
    assert document.returncode == 1
    assert json.loads(document.stdout)["ok"] is False
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "har-stream: command line: --port is 'high'; expected a whole number from 0 up to 65535\n"
