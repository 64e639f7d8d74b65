"""What is deployed holds together: the files parse, refer to things that exist, and grant no more than they say."""

from __future__ import annotations

import configparser
import os
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest
import yaml

from streamer.config import load_settings

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
#: YAML as it was read: the files' own shape is what these tests are about.
Document = dict[str, object]


def documents(path: Path) -> list[Document]:
    """All YAML documents of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def at(document: object, *path: str | int) -> object:
    """What stands at a path of keys and positions; a missing one fails the test with its name."""
    value = document
    for step in path:
        if isinstance(step, int):
            assert isinstance(value, list), f"{step} of {path}: {value!r}"
            value = value[step]
        else:
            assert isinstance(value, dict), f"{step} of {path}: {value!r}"
            assert step in value, f"{step} of {path}: not there"
            value = value[step]
    return value


def mapping(document: object, *path: str | int) -> dict[str, object]:
    """A mapping at a path."""
    value = at(document, *path)
    assert isinstance(value, dict)
    return value


def texts(document: object, *path: str | int) -> list[str]:
    """A list of strings at a path."""
    value = at(document, *path)
    assert isinstance(value, list)
    return [str(item) for item in value]


@pytest.fixture(scope="module")
def compose() -> Document:
    return documents(DEPLOY / "compose.yaml")[0]


YAML_FILES: Final = sorted(path for suffix in ("*.yaml", "*.yml") for path in DEPLOY.rglob(suffix))


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_yaml_file_parses(path: Path) -> None:
    assert documents(path)


def test_compose_brings_broker_service_prometheus_and_grafana(compose: Document) -> None:
    assert {"mosquitto", "har-stream", "prometheus", "grafana"} <= mapping(compose, "services").keys()


def test_compose_services_run_without_root_capabilities_or_a_writable_image(compose: Document) -> None:
    for name, service in mapping(compose, "services").items():
        assert at(service, "read_only") is True, name
        assert texts(service, "cap_drop") == ["ALL"], name
        assert texts(service, "security_opt") == ["no-new-privileges:true"], name
    with_capabilities = [
        name for name, service in mapping(compose, "services").items() if "cap_add" in mapping(service)
    ]
    assert with_capabilities == ["certificates", "accounts"], "only those that hand files to other users"


def test_compose_mounts_only_files_that_exist_and_volumes_that_are_declared(compose: Document) -> None:
    declared = mapping(compose, "volumes").keys()
    for name, service in mapping(compose, "services").items():
        for mount in texts(service, "volumes") if "volumes" in mapping(service) else []:
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
            else:
                assert source in declared, f"{name}: {source}"


def test_compose_publishes_only_mqtt_by_tls_beyond_loopback(compose: Document) -> None:
    beyond = [
        port
        for service in mapping(compose, "services").values()
        for port in (texts(service, "ports") if "ports" in mapping(service) else [])
        if not port.startswith("127.0.0.1:")
    ]
    assert beyond == ["8883:8883"]
    lines = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text().splitlines()
    assert [line for line in lines if line.startswith("listener")] == ["listener 8883"]
    assert {line.split()[0] for line in lines if line} >= {"certfile", "keyfile", "password_file", "acl_file"}


def test_the_service_verifies_the_brokers_certificate_and_keeps_its_state_in_a_volume(compose: Document) -> None:
    command = texts(compose, "services", "har-stream", "command")
    assert {"--port=8883", "--tls-ca=/certificates/ca.crt"} <= set(command)
    mounts = texts(compose, "services", "har-stream", "volumes")
    assert "certificates:/certificates:ro" in mounts
    state = "/var/lib/har-stream"
    assert f"har-stream-state:{state}" in mounts
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert f"STATE_DIRECTORY={state}" in " ".join(lines)
    # A volume that is still empty takes over the folder's owner.
    assert f"RUN install -d -o 10001 -g 10001 -m 0700 {state}" in lines
    assert lines.index(f"RUN install -d -o 10001 -g 10001 -m 0700 {state}") < lines.index("USER 10001:10001")


def test_compose_pins_every_image_to_a_release(compose: Document) -> None:
    for name, service in mapping(compose, "services").items():
        _, _, tag = str(at(service, "image")).partition(":")
        assert tag, name
        assert tag != "latest", name


def test_prometheus_scrapes_the_address_that_compose_gives_the_service(compose: Document) -> None:
    config = documents(DEPLOY / "prometheus" / "prometheus.yml")[0]
    targets = texts(config, "scrape_configs", 0, "static_configs", 0, "targets")
    assert targets == ["har-stream:9464"]
    assert "--http-port=9464" in texts(compose, "services", "har-stream", "command")


def test_grafana_finds_its_data_source_and_dashboards_where_compose_mounts_them(compose: Document) -> None:
    provider = documents(DEPLOY / "grafana" / "provisioning" / "dashboards" / "har-stream.yaml")[0]
    mounted = [mount.split(":")[1] for mount in texts(compose, "services", "grafana", "volumes")]
    assert str(at(provider, "providers", 0, "options", "path")) in mounted
    source = documents(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml")[0]
    assert at(source, "datasources", 0, "url") == "http://prometheus:9090"


def test_dockerfile_copies_only_what_its_ignore_file_lets_through() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = {
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in shlex.split(line)[1:-1]
    }
    allowed = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
    assert any(line == "USER 10001:10001" for line in lines)


def test_kustomization_lists_every_manifest_and_the_pod_is_restricted() -> None:
    folder = DEPLOY / "kubernetes"
    kustomization = documents(folder / "kustomization.yaml")[0]
    listed = set(texts(kustomization, "resources"))
    assert listed == {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    kinds = {str(document["kind"]) for name in listed for document in documents(folder / name)}
    assert kinds == {"Namespace", "StatefulSet", "Service", "NetworkPolicy", "PodDisruptionBudget"}

    stateful = documents(folder / "statefulset.yaml")[0]
    # Not a Deployment: that starts a second pod while the first one's node does not answer.
    assert at(stateful, "spec", "replicas") == 1
    pod = mapping(stateful, "spec", "template", "spec")
    assert at(pod, "securityContext", "runAsNonRoot") is True
    container = mapping(pod, "containers", 0)
    assert at(container, "securityContext", "readOnlyRootFilesystem") is True
    assert texts(container, "securityContext", "capabilities", "drop") == ["ALL"]
    assert at(container, "livenessProbe", "httpGet", "path") == "/healthz"
    assert at(container, "readinessProbe", "httpGet", "path") == "/readyz"
    assert mapping(container, "resources", "requests").keys() == {"cpu", "memory"}


def test_the_pods_metrics_can_be_had_while_it_is_not_ready() -> None:
    folder = DEPLOY / "kubernetes"
    service = mapping(documents(folder / "service.yaml")[0], "spec")
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    spec = mapping(documents(folder / "statefulset.yaml")[0], "spec")
    assert service["selector"] == at(spec, "selector", "matchLabels") == at(spec, "template", "metadata", "labels")


def test_kubernetes_settings_read_the_secret_where_the_pod_mounts_it() -> None:
    folder = DEPLOY / "kubernetes"
    settings = tomllib.loads((folder / "har-stream.toml").read_text())
    container = mapping(documents(folder / "statefulset.yaml")[0], "spec", "template", "spec", "containers", 0)
    mounts = at(container, "volumeMounts")
    assert isinstance(mounts, list)
    paths = {str(at(mount, "name")): str(at(mount, "mountPath")) for mount in mounts}
    assert settings["password_file"] == f"{paths['mqtt']}/password"
    assert texts(container, "args") == [f"--config={paths['config']}/har-stream.toml"]
    assert settings["tls_ca"] == f"{paths['mqtt']}/ca.crt"
    assert settings["http_port"] == at(container, "ports", 0, "containerPort")


def test_kubernetes_keeps_the_state_in_a_volume_of_its_own() -> None:
    folder = DEPLOY / "kubernetes"
    settings = tomllib.loads((folder / "har-stream.toml").read_text())
    stateful = documents(folder / "statefulset.yaml")[0]
    claim = at(stateful, "spec", "volumeClaimTemplates", 0, "metadata", "name")
    mounts = at(stateful, "spec", "template", "spec", "containers", 0, "volumeMounts")
    assert isinstance(mounts, list)
    assert [at(mount, "mountPath") for mount in mounts if at(mount, "name") == claim] == [settings["state"]]
    # The volume belongs to the pod's user.
    assert at(stateful, "spec", "template", "spec", "securityContext", "fsGroup") == 10001


def test_kubernetes_lets_nothing_in_but_the_scrape_and_nothing_out_but_names_and_the_broker() -> None:
    settings = tomllib.loads((DEPLOY / "kubernetes" / "har-stream.toml").read_text())
    policy = mapping(documents(DEPLOY / "kubernetes" / "networkpolicy.yaml")[0], "spec")
    assert texts(policy, "policyTypes") == ["Ingress", "Egress"]

    def ports(direction: str) -> list[object]:
        rules = at(policy, direction)
        assert isinstance(rules, list)
        return [at(port, "port") for rule in rules for port in at(rule, "ports")]  # type: ignore[attr-defined] # a list

    assert ports("ingress") == [settings["http_port"]]
    assert ports("egress") == [53, 53, settings["port"]]


def test_deployed_settings_are_ones_that_the_service_takes(compose: Document) -> None:
    options = dict(
        option.removeprefix("--").split("=", 1) for option in texts(compose, "services", "har-stream", "command")
    )
    composed = load_settings({name.replace("-", "_"): value for name, value in options.items()}, environment={})
    clustered = load_settings({}, file=DEPLOY / "kubernetes" / "har-stream.toml", environment={})
    for settings in (composed, clustered):
        assert (settings.http_host, settings.http_port, settings.output) == ("0.0.0.0", 9464, "none")  # noqa: S104
        assert (settings.port, settings.uses_tls) == (8883, True)
        assert (settings.username, settings.log_format) == ("har-stream", "json")
    # On a machine with other users and networks: nobody from outside.
    alone = load_settings({}, file=DEPLOY / "systemd" / "har-stream.toml", environment={})
    assert (alone.http_host, alone.port, alone.uses_tls, alone.username) == ("127.0.0.1", 8883, True, "har-stream")
    assert alone.password_file is None
    assert alone.state is None


def test_systemd_unit_restarts_on_failure_but_not_on_a_wrong_setting() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign] # keys of units are case-sensitive; the documented way
    unit.read(DEPLOY / "systemd" / "har-stream.service")
    service = unit["Service"]
    assert service["ExecStart"].startswith("/opt/har-stream/bin/har-stream ")
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("on-failure", "2")
    assert (service["DynamicUser"], service["ProtectSystem"]) == ("yes", "strict")
    assert (service["StateDirectory"], service["StateDirectoryMode"]) == ("har-stream", "0700")


def run_accounts(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script that creates the broker's accounts, with its files in a folder of the test's own."""
    ids = {"BROKER_UID": str(os.getuid()), "SERVICE_UID": str(os.getuid())}
    files = {"ACCOUNTS_FILE": str(folder / "passwd"), "SECRET_FILE": str(folder / "secret")}
    return subprocess.run(
        ["/bin/sh", DEPLOY / "mosquitto" / "accounts.sh", *arguments],
        env=os.environ | ids | files,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "name", ["har-stream", "simulator", "reader", "home-assistant", "", "../etc", "a/b", "a+b", "-x", "a:b"]
)
def test_accounts_are_refused_to_names_that_no_device_may_have(name: str, tmp_path: Path) -> None:
    result = run_accounts(tmp_path, name)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"device name {name}")
    assert list(tmp_path.iterdir()) == []


def test_a_role_that_is_not_there_is_refused(tmp_path: Path) -> None:
    result = run_accounts(tmp_path, "--role", "admin")
    assert (result.returncode, result.stderr) == (2, "role admin: expected simulator, reader or home-assistant\n")


@pytest.mark.parametrize("arguments", [(), ("--client",), ("--client", "../x"), ("a b",), ("x;y",), ("/CN=x",)])
def test_certificates_are_refused_to_what_is_no_name(arguments: tuple[str, ...], tmp_path: Path) -> None:
    command = ["/bin/sh", str(DEPLOY / "mosquitto" / "certificates.sh"), *arguments]
    environment = os.environ | {"CERTIFICATES": str(tmp_path / "certificates")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "expected" in result.stderr
    assert list(tmp_path.iterdir()) == []
