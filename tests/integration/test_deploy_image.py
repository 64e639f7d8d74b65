"""What would run in the container or under systemd, run here: the image's own files and commands, the unit's sandbox.

Neither Docker nor systemd is needed: the Dockerfile's steps are replayed in a folder, and the system calls of the
service are held to what the unit allows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import missing
from tests.programs import BIN, HarStream, simulator
from tests.servers import Mosquitto, find_program, wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
UNIT: Final = DEPLOY / "systemd" / "har-stream.service"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines)]


@dataclass(frozen=True, slots=True)
class Image:
    """What the image would hold and start.

    Attributes:
        site: the folder that the wheel is installed in.
        environment: of its processes.
        entrypoint, healthcheck: commands.
    """

    site: Path
    environment: dict[str, str]
    entrypoint: list[str]
    healthcheck: list[str]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The Dockerfile's steps in a folder; what the wheel depends on is taken from this environment."""
    folder = tmp_path_factory.mktemp("image")
    context, wheels, site, state = (folder / name for name in ("context", "wheels", "site", "state"))
    context.mkdir()
    said = instructions()
    for source in [
        name for step, rest in said if step == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    ]:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, context / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, context)
    steps = [rest for step, rest in said if step == "RUN"]
    assert steps[0] == "pip wheel --no-deps --wheel-dir /wheels ."
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), "."]
    subprocess.run(build, cwd=context, check=True)
    (wheel,) = wheels.iterdir()
    assert steps[1] == "python -m venv /opt/har-stream && /opt/har-stream/bin/pip install /wheels/*.whl"
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
    environment = dict(re.findall(r"(\w+)=(\S+)", " ".join(rest for step, rest in said if step == "ENV")))
    assert environment["PATH"] == "/opt/har-stream/bin:$PATH"
    assert environment["STATE_DIRECTORY"] in steps[2]
    environment |= {
        "PATH": f"{site / 'bin'}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(site),
        "STATE_DIRECTORY": str(state),
        "HOME": "/nowhere",
    }
    commands = {step: rest for step, rest in said if step in {"ENTRYPOINT", "HEALTHCHECK"}}
    return Image(
        site=site,
        environment=os.environ | environment,
        entrypoint=json.loads(commands["ENTRYPOINT"]),
        healthcheck=json.loads(commands["HEALTHCHECK"].partition("CMD ")[2]),
    )


def test_the_image_serves_and_is_found_healthy(image: Image, mosquitto: Mosquitto, tmp_path: Path) -> None:
    where = "import streamer, models, simulator; print(streamer.__file__, models.__file__, simulator.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=image.environment, capture_output=True, text=True, check=True
    )
    assert all(Path(file).is_relative_to(image.site) for file in found.stdout.split())

    program = shutil.which(image.entrypoint[0], path=image.environment["PATH"])
    assert program is not None
    address = ["--broker", mosquitto.host, "--port", str(mosquitto.port)]
    service = HarStream(tmp_path, *address, program=[program], state=tmp_path / "state", environment=image.environment)
    try:
        service.wait_ready()
        port = service.url.rpartition(":")[2]
        check = [part.replace("9464", port) for part in image.healthcheck]
        assert check != image.healthcheck
        assert check[0] == "python"
        done = subprocess.run(check, env=image.environment, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert simulator("synthetic", *address, "--speed", "max", "--duration", "30")["messages"] > 0
        assert {event.type for event in service.events} >= {"start", "state"}
        assert service.stop() == 0
        assert subprocess.run(check, env=image.environment, capture_output=True, check=False).returncode != 0
    finally:
        service.kill()


def allowed_system_calls() -> set[str]:
    """What the unit's SystemCallFilter= lets through, by systemd's own lists."""
    analyze = find_program("systemd-analyze")
    if analyze is None:
        missing("systemd-analyze is not installed: apt-get install systemd")
    listing = subprocess.run([analyze, "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True)
    groups: dict[str, list[str]] = {}
    for line in listing.stdout.splitlines():
        word = line.strip()
        if line.startswith("@"):
            groups[word] = members = []
        elif line.startswith("    ") and not word.startswith("#"):
            members.append(word)

    def expand(name: str) -> set[str]:
        return {name} if not name.startswith("@") else {call for member in groups[name] for call in expand(member)}

    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.+)$", UNIT.read_text(), re.MULTILINE):
        for name in line.removeprefix("~").split():
            allowed = allowed - expand(name) if line.startswith("~") else allowed | expand(name)
    return allowed


def test_the_unit_forbids_nothing_that_the_service_does(
    start_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    strace = find_program("strace")
    if strace is None:
        missing("strace is not installed: apt-get install strace")
    broker = start_mosquitto()
    trace = tmp_path / "trace"
    # -D: the process that is started is the service, and strace a child of it.
    program = [str(strace), "-D", "-f", "-q", "-o", str(trace), str(BIN / "har-stream")]
    address = ["--broker", "localhost", "--port", str(broker.port)]
    service = HarStream(tmp_path, *address, program=program, state=tmp_path / "state")
    try:
        service.wait_ready(within_s=60)
        simulator("synthetic", *address, "--speed", "max", "--duration", "30")
        assert service.stop() == 0
        wait_until(lambda: "exited with 0" in trace.read_text().splitlines()[-1], "strace's last line")
    finally:
        service.kill()
    calls = re.findall(r"^\d+ +(\w+)\((.*)", trace.read_text(), re.MULTILINE)
    made = {name for name, _ in calls}
    assert {"epoll_pwait", "fsync", "connect", "mmap"} <= made, made
    assert made - allowed_system_calls() == set()
    unit = UNIT.read_text()
    families = set(re.findall(r"^RestrictAddressFamilies=(.+)$", unit, re.MULTILINE)[0].split())
    # Names are looked up without it, too.
    assert {rest.partition(",")[0] for name, rest in calls if name == "socket"} - {"AF_NETLINK"} <= families
    assert "MemoryDenyWriteExecute=yes" in unit
    executable = [rest for name, rest in calls if name in {"mmap", "mprotect", "pkey_mprotect"} and "PROT_EXEC" in rest]
    assert [rest for rest in executable if "PROT_WRITE" in rest] == []
    assert [rest for name, rest in calls if name.endswith("mprotect") and "PROT_EXEC" in rest] == []
