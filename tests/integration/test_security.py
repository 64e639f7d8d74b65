"""What the shipped broker and the service keep out; see docs/threat-model.md.

What they say to it is told by docs/errors.md, and tested in test_wrong_use.py.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import urllib.request
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Final

import aiomqtt
import pytest

from streamer.mqtt.connection import Connect, Connection, Link, Outgoing, RefusedError
from streamer.wire.topics import DEFAULT_FILTERS
from tests.certificates import DAY, Authority, Certificate
from tests.conftest import missing
from tests.deployed import V5, V311, Deployed
from tests.programs import BIN, HarStream
from tests.servers import HOST, MOSQUITTO_CONF, Mosquitto, find_program, wait_until

VERSIONS: Final = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
CLIENTS: Final = pytest.mark.parametrize("client", ["gmqtt", "aiomqtt"])


def run(program: str, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A program of the project, to its end."""
    command = [str(BIN / program), *arguments]
    variables = os.environ | (environment or {})
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=variables)


def refusal(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """What har-stream says when the broker turns it down at the start: one line, and status 1."""
    ended = run("har-stream", *arguments, "--no-state", "--http-port", "0", environment=environment)
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("har-stream: ")]
    return line


# The wire --------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def serve(
    start_mosquitto: Callable[..., Mosquitto], authority: Authority
) -> Callable[..., tuple[Mosquitto, tuple[str, ...]]]:
    """Starts a broker with a certificate; the broker, and options with which har-stream trusts its CA."""

    def start(certificate: Certificate, *extra_conf: str) -> tuple[Mosquitto, tuple[str, ...]]:
        lines = (f"certfile {certificate.certificate}", f"keyfile {certificate.key}")
        broker = start_mosquitto(*lines, f"cafile {authority.certificate}", *extra_conf)
        return broker, ("--broker", HOST, "--port", str(broker.port), "--tls-ca", str(authority.certificate))

    return start


Serve = Callable[..., tuple[Mosquitto, tuple[str, ...]]]


@CLIENTS
def test_a_service_with_a_client_certificate_is_served_by_tls(
    serve: Serve, authority: Authority, tmp_path: Path, client: str
) -> None:
    _, options = serve(authority.sign("broker"), "require_certificate true", "tls_version tlsv1.3")
    own = authority.sign("har-stream")
    certificate = ("--tls-cert", str(own.certificate), "--tls-key", str(own.key))
    service = HarStream(tmp_path / client, *options, *certificate, "--mqtt-client", client)
    try:
        service.wait_ready()
        assert service.stop() == 0
    finally:
        service.kill()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"begins": -2 * DAY, "ends": -DAY}, "has expired; expected a renewed one"),
        ({"begins": DAY, "ends": 2 * DAY}, "is not yet valid; is this machine's clock right?"),
        (
            {"host": "broker.example"},
            f"is for another host: IP address mismatch, certificate is not valid for '{HOST}'",
        ),
    ],
    ids=["expired", "not yet valid", "another host"],
)
def test_a_broker_whose_certificate_is_not_valid_is_refused(
    serve: Serve, authority: Authority, wrong: dict[str, Any], reason: str
) -> None:
    broker, options = serve(authority.sign("broker", **wrong))
    assert refusal(*options) == f"har-stream: MQTT broker at {HOST}:{broker.port}: the broker's certificate {reason}"


@CLIENTS
def test_a_broker_with_a_certificate_of_a_foreign_ca_is_refused(serve: Serve, tmp_path: Path, client: str) -> None:
    _, options = serve(Authority(tmp_path, "other").sign("broker"))
    line = refusal(*options, "--mqtt-client", client)
    assert "the broker's certificate is not signed by a CA that is trusted; expected one of tls_ca" in line


def test_the_systems_cas_alone_do_not_vouch_for_a_ca_of_ones_own(serve: Serve, authority: Authority) -> None:
    broker, _ = serve(authority.sign("broker"))
    line = refusal("--broker", HOST, "--port", str(broker.port), "--tls")
    assert "is not signed by a CA that is trusted" in line


def test_a_client_certificate_that_is_not_valid_is_refused_by_the_broker(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    _, options = serve(authority.sign("broker"), "require_certificate true")
    cases = [
        (authority.sign("old", begins=-2 * DAY, ends=-DAY), "the broker says that the client certificate has expired"),
        (authority.sign("young", begins=DAY, ends=2 * DAY), "the broker says that the client certificate is not valid"),
        (Authority(tmp_path, "other").sign("mallory"), "the broker does not trust the CA of the client certificate"),
    ]
    for own, reason in cases:
        assert reason in refusal(*options, "--tls-cert", str(own.certificate), "--tls-key", str(own.key))


def test_the_shipped_broker_speaks_no_tls_older_than_1_2(deployed: Deployed) -> None:
    address = f"{deployed.broker.host}:{deployed.broker.port}"
    for version, accepted in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        # Debian's openssl would refuse the older ones itself, were it not told otherwise.
        command = ["openssl", "s_client", "-connect", address, version, "-cipher", "DEFAULT:@SECLEVEL=0"]
        shaken = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert (shaken.returncode == 0) is accepted, (version, shaken.stderr)


# Accounts --------------------------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize(("name", "password"), [(None, None), ("nobody", "guess"), ("watch-1", "guess")])
async def test_nobody_gets_in_without_a_name_and_its_password(
    deployed: Deployed, name: str | None, password: str | None, version: aiomqtt.ProtocolVersion
) -> None:
    with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
        async with deployed.client(name, password=password, version=version):
            pass


def test_a_service_with_a_wrong_password_ends_and_says_so_and_says_no_password(deployed: Deployed) -> None:
    address = ("--broker", HOST, "--port", str(deployed.broker.port), "--tls-ca", str(deployed.ca))
    for account, environment in (
        ((), {}),
        (("--username", "har-stream"), {"HAR_STREAM_PASSWORD": "hunter2"}),
    ):
        line = refusal(*address, *account, environment=environment)
        assert line.endswith(f"{HOST}:{deployed.broker.port}: code 135 (Connection Refused: Not authorized)")


def test_a_password_in_the_environment_lets_the_service_in_and_shows_nowhere(deployed: Deployed) -> None:
    secret = deployed.passwords["har-stream"]
    address = ("--broker", HOST, "--port", str(deployed.broker.port), "--tls-ca", str(deployed.ca))
    variables = os.environ | {"HAR_STREAM_PASSWORD": secret}
    service = HarStream(deployed.folder, *address, "--username", "har-stream", environment=variables)
    try:
        service.wait_ready()
        assert secret not in Path(f"/proc/{service.process.pid}/cmdline").read_text()
        with urllib.request.urlopen(f"{service.url}/metrics", timeout=5) as answer:  # noqa: S310 # http on loopback
            shown = answer.read().decode()
        assert service.stop() == 0
        assert "har_connected 1.0" in shown
        assert secret not in shown + service.log
    finally:
        service.kill()


def test_no_message_repeats_a_secret_that_was_put_in_the_wrong_place(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('password = "hunter2"\n')
    for arguments, environment in (
        (("--password", "hunter2"), {}),
        (("--password=hunter2",), {}),
        (("--config", str(file)), {}),
        ((), {"HAR_STREAM_PASWORD": "hunter2"}),
        (("--help",), {"HAR_STREAM_PASSWORD": "hunter2"}),
    ):
        ended = run("har-stream", *arguments, environment=environment)
        assert "hunter2" not in ended.stdout + ended.stderr, arguments
        assert ended.returncode == (0 if arguments == ("--help",) else 2)


def test_a_service_that_was_in_once_keeps_trying_when_it_is_refused(deployed: Deployed) -> None:
    accounts = deployed.folder / "passwd"
    known = accounts.read_text()
    service = HarStream(deployed.folder, *deployed.login("har-stream"))
    try:
        service.wait_ready()
        deployed.broker.stop()
        accounts.chmod(0o600)
        accounts.write_text(
            "".join(line for line in known.splitlines(keepends=True) if not line.startswith("har-stream:"))
        )
        deployed.broker.start()
        wait_until(lambda: "Not authorized); trying again" in service.log, "the refusal in the log", within_s=30)
        deployed.broker.stop()
        accounts.write_text(known)
        deployed.broker.start()
        service.wait_ready(within_s=30)
        assert service.stop() == 0
    finally:
        service.kill()


# Topics ----------------------------------------------------------------------------------------------------------


async def next_message(client: aiomqtt.Client) -> tuple[str, bytes]:
    async with asyncio.timeout(20):
        message = await anext(aiter(client.messages))
    assert isinstance(message.payload, bytes)
    return str(message.topic), message.payload


@VERSIONS
async def test_a_watch_publishes_readings_under_its_own_name_and_nothing_else(
    deployed: Deployed, version: aiomqtt.ProtocolVersion
) -> None:
    forbidden = (
        "har/v1/watch-2/imu",
        "har/v1/watch-1/activity",
        "har/v1/watch-1/event",
        "har/v1/watch-1/window",
        "har/v1/watch-1/health",
        "homeassistant/device/har_watch-2/config",
        "homeassistant/status",
        "har/service/har-stream/status",
        "har/service/har-stream/synced",
        "elsewhere",
    )
    async with deployed.client("har-stream") as service, deployed.client("watch-1", version=version) as watch:
        # The service may read what it may write, so a forgery that were let through would show here.
        for topic in ("har/v1/+/imu", "har/v1/+/activity", "har/v1/+/health"):
            await service.subscribe(topic, qos=1)
        async with deployed.client("reader") as reader, deployed.client("home-assistant") as hub:
            for topic in ("har/v1/+/+", "har/service/+/+", "elsewhere"):
                await reader.subscribe(topic, qos=1)
            for topic in ("homeassistant/#", "har/v1/+/event"):
                await hub.subscribe(topic, qos=1)
            for topic in forbidden:
                # MQTT 5 brokers refuse with 135, MQTT 3.1.1 has no words for it: both acknowledge, nobody hears of it.
                await watch.publish(topic, b"forged", qos=1, retain=True)
            await watch.publish("har/v1/watch-1/imu", b"mine", qos=1)
            assert await next_message(service) == ("har/v1/watch-1/imu", b"mine")
            # The reader hears of nothing either, but of what the service says.
            await service.publish("har/v1/watch-1/event", b"walking", qos=1)
            for client in (reader, hub):
                assert await next_message(client) == ("har/v1/watch-1/event", b"walking")


async def test_nobody_writes_the_topic_where_payloads_name_the_watch(deployed: Deployed) -> None:
    async with deployed.client("har-stream") as service:
        for topic in DEFAULT_FILTERS:
            await service.subscribe(topic, qos=1)
        for account in ("watch-1", "reader", "simulator", "home-assistant"):
            async with deployed.client(account) as forger:
                await forger.publish("sensor-logger", b"I am watch-2", qos=1)
                await forger.publish("har/v1/watch-2/imu/acc_x", b"0.1", qos=1)
        async with deployed.client("watch-1") as watch:
            await watch.publish("har/v1/watch-1/imu/acc_x", b"0.1", qos=1)
        assert await next_message(service) == ("har/v1/watch-1/imu/acc_x", b"0.1")


@pytest.mark.parametrize("account", ["reader", "simulator", "home-assistant"])
async def test_only_the_service_publishes_events(deployed: Deployed, account: str) -> None:
    async with deployed.client("reader") as reader, deployed.client(account) as forger:
        await reader.subscribe("har/#", qos=1)
        await reader.subscribe("har/v1/+/event", qos=1)
        for kind in ("event", "activity", "window", "health"):
            await forger.publish(f"har/v1/watch-1/{kind}", b"forged", qos=1, retain=True)
        async with deployed.client("har-stream") as service:
            await service.publish("har/v1/watch-1/event", b"walking", qos=1)
        assert await next_message(reader) == ("har/v1/watch-1/event", b"walking")


async def test_a_watch_reads_nothing_of_another_watch(deployed: Deployed) -> None:
    async with deployed.client("har-stream") as service, deployed.client("watch-1") as watch:
        for topic in ("#", "har/#", "har/v1/+/imu", "har/v1/watch-2/activity", "har/v1/+/event", "$SYS/#"):
            await watch.subscribe(topic, qos=1)
        async with deployed.client("watch-2") as other:
            await other.publish("har/v1/watch-2/imu", b"theirs", qos=1)
        await service.publish("har/v1/watch-2/activity", b"sitting", qos=1, retain=True)
        await service.publish("har/v1/watch-2/event", b"sitting", qos=1)
        await service.publish("har/v1/watch-1/activity", b"walking", qos=1, retain=True)
        assert await next_message(watch) == ("har/v1/watch-1/activity", b"walking")


@CLIENTS
def test_events_that_the_broker_refuses_are_logged_once_and_counted(
    start_mosquitto: Callable[..., Mosquitto], tmp_path: Path, client: str
) -> None:
    acl = tmp_path / "acl"
    acl.write_text(
        "topic read har/v1/+/imu\ntopic readwrite har/v1/+/sync\ntopic write har/v1/+/imu\n"
        "topic readwrite har/service/+/synced\ntopic read har/service/+/status\n"
    )
    broker = start_mosquitto(f"acl_file {acl}")
    address = ("--broker", HOST, "--port", str(broker.port))
    service = HarStream(tmp_path / client, *address, "--mqtt-client", client)
    try:
        service.wait_ready()
        ended = run(
            "simulator", "replay", "synthetic", *address, "--devices", "3", "--speed", "max", "--duration", "60"
        )
        assert ended.returncode == 0, ended.stderr
        # The synchronisation's answer comes behind them: it is published, they are not.
        wait_until(lambda: service.metric("har_refused_events_total") >= 3, "refused events")
        assert service.log.count("the broker refuses what har-stream publishes (reason code 135)") == 1
        assert service.metric("har_events_total", type="start") >= 3
        assert service.ready()
        assert service.stop() == 0
    finally:
        service.kill()


# What refuses a client by MQTT's own means, in both versions and clients ------------------------------------------


def connecting(
    port: int, client: str, version: aiomqtt.ProtocolVersion, username: str, password: str
) -> AbstractAsyncContextManager[Connection]:
    """A connection of the service's own, by one of its libraries."""
    link = Link(
        host=HOST,
        port=port,
        client_id=username,
        username=username,
        password=password,
        tls=None,
        keepalive_s=30,
        timeout_s=10,
        will=Outgoing("har/service/x/status", b"offline"),
        persistent=False,
        numbers=count(1),
    )
    connect: Connect = import_module(f"streamer.mqtt.by_{client}").connect
    return connect(link, version is V5, lambda _arrival: None)


@pytest.fixture
def dynamic(start_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> tuple[Mosquitto, Callable[..., None]]:
    """A broker with Mosquitto's dynamic-security plugin, which says no to subscriptions, and its control program.

    It knows the client har-stream with the password `secret`, which may publish and not subscribe.
    """
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
    tool = find_program("mosquitto_ctrl")
    if plugin is None or tool is None:
        missing(
            "mosquitto_dynamic_security.so or mosquitto_ctrl is not there: apt-get install mosquitto mosquitto-clients"
        )
    file = tmp_path / "dynamic-security.json"
    subprocess.run([tool, "dynsec", "init", file, "admin", "secret"], check=True, capture_output=True)
    lines = ("per_listener_settings false", f"plugin {plugin}", f"plugin_opt_config_file {file}")
    broker = start_mosquitto(*lines, template=MOSQUITTO_CONF.replace("allow_anonymous true", "allow_anonymous false"))

    def control(*arguments: str) -> None:
        admin = ["-h", HOST, "-p", str(broker.port), "-u", "admin", "-P", "secret", "dynsec"]
        done = subprocess.run([tool, *admin, *arguments], capture_output=True, text=True, check=True)
        assert "Error" not in done.stdout + done.stderr

    control("createClient", "har-stream", "-p", "secret")
    control("createRole", "service")
    control("addRoleACL", "service", "publishClientSend", "har/#", "allow")
    control("addClientRole", "har-stream", "service")
    return broker, control


def test_a_service_that_may_not_subscribe_ends_and_says_so(
    dynamic: tuple[Mosquitto, Callable[..., None]], tmp_path: Path
) -> None:
    broker, control = dynamic
    options = ("--broker", HOST, "--port", str(broker.port), "--username", "har-stream")
    environment = {"HAR_STREAM_PASSWORD": "secret"}
    line = refusal(*options, environment=environment)
    assert line.endswith("the broker refuses the subscription to har/v1/+/imu (reason code 135)")
    line = refusal(*options, "--topic", "sensor-logger", environment=environment)
    assert line.endswith("the broker refuses the subscription to sensor-logger (reason code 135)")
    for topic in ("har/v1/+/imu", "har/v1/+/sync"):
        control("addRoleACL", "service", "subscribePattern", topic, "allow")
    # The broker's own count of dropped messages is one that a service can do without, and so are topics by default.
    service = HarStream(tmp_path, *options, environment=os.environ | environment)
    try:
        service.wait_ready()
        for topic in DEFAULT_FILTERS[1:]:
            assert f"refuses the subscription to {topic} (reason code 135): going on without" in service.log
        assert service.stop() == 0
    finally:
        service.kill()


@CLIENTS
@VERSIONS
async def test_both_clients_hear_a_refusal_in_both_versions(
    dynamic: tuple[Mosquitto, Callable[..., None]], client: str, version: aiomqtt.ProtocolVersion
) -> None:
    broker, _ = dynamic
    with pytest.raises(RefusedError, match=r"(?i)not authori[sz]ed"):
        async with connecting(broker.port, client, version, "har-stream", "guess"):
            pass
    async with connecting(broker.port, client, version, "har-stream", "secret") as connection:
        assert await connection.subscribe("har/v1/+/imu", 1) == (135 if version is V5 else 128)
        # MQTT 3.1.1 has no refusal for a publication; the plugin acknowledges it and tells nobody.
        refused = [135] if version is V5 else []
        assert await connection.publish([Outgoing("elsewhere", b""), Outgoing("har/v1/w/event", b"")]) == refused
