"""The programs that are compared: how each is installed into a folder of the run's own, started, measured and ended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.programs import BIN
from tests.servers import Mosquitto

_HERE: Final = Path(__file__).parent
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class NotInstallableError(Exception):
    """A peer's dependencies cannot be installed here; the message says what failed."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    Attributes:
        name: for the report.
        command: program and arguments; {host}, {port} and {bundle} are put in.
        least_agreeing: share of windows that must have the label that har-stream's filters and the model give.
        folder: where it runs, None for here.
        versions: of what it is made of, for the report.
    """

    name: str
    command: tuple[str, ...]
    least_agreeing: float
    folder: Path | None = None
    versions: dict[str, str] = field(default_factory=dict)


class Running:
    """A program at work, its output in a file.

    State: the process.
    """

    def __init__(self, program: Program, broker: Mosquitto, bundle: Path, log: Path) -> None:
        environment = os.environ | {
            "BROKER_HOST": broker.host,
            "BROKER_PORT": str(broker.port),
            "BUNDLE": str(bundle),
            "ORT_DISABLE_TELEMETRY": "1",
        }
        values = {"host": broker.host, "port": broker.port, "bundle": bundle}
        command = [part.format(**values) for part in program.command]
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=program.folder, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of the process, its threads and all its descendants so far."""
        return tree_cpu_s(self.process.pid)

    def stop(self) -> None:
        """Ask it to end, then make it end."""
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=10)


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and all its descendants, those that have ended and were waited for included."""
    process = Path("/proc") / str(pid)
    # The name in parentheses may hold anything; behind it stand state, parent, ... and from the 12th on four times.
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    children = [
        int(child) for task in (process / "task").iterdir() for child in (task / "children").read_text().split()
    ]
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS_PER_S + sum(map(tree_cpu_s, children))


def machine_cpu_s() -> float:
    """CPU seconds that the whole machine has been busy."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


def har_stream(_environments: Path) -> Program:
    """The service of this repository, publishing every window; it recognises bouts and serves metrics as well."""
    options = "--broker {host} --port {port} --model {bundle} --publish windows --qos 0 --output none --http-port 0"
    return Program("har-stream", (str(BIN / "har-stream"), *options.split()), 1.0)


def har_stream_gathering(environments: Path) -> Program:
    """The same, told that its events may come later by a second for less processor time."""
    program = har_stream(environments)
    return replace(program, name="har-stream --gather 1", command=(*program.command, "--gather", "1"))


def naive(_environments: Path) -> Program:
    """naive.py with this interpreter.

    Filtering each window to and fro gives other gravity at its edges than the causal filter that the model was trained
    behind; about every fifth window gets another label for it. The work is the same.
    """
    versions = {name: version(name) for name in ("aiomqtt", "scipy", "onnxruntime")}
    return Program("naive script", (sys.executable, str(_HERE / "naive.py")), 0.7, versions=versions)


def bytewax(environments: Path) -> Program:
    """bytewax_flow.py in a virtual environment of its own, with this environment's numpy, scipy and runtime.

    Raises:
        NotInstallableError: pip says no.
    """
    folder = environments / "bytewax"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    pinned = [f"{name}=={version(name)}" for name in ("numpy", "scipy", "onnxruntime", "cbor2", "paho-mqtt")]
    _install([str(python), "-m", "pip", "install", "--quiet", "bytewax>=0.21,<0.22", *pinned])
    asked = "import importlib.metadata as m; print(m.version('bytewax'))"
    found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    return Program(
        "Bytewax flow", (str(python), "-m", "bytewax.run", "bytewax_flow:flow"), 0.95, _HERE, {"bytewax": found}
    )


def node_red(environments: Path) -> Program:
    """The flow in node_red/, installed as its README says.

    Raises:
        NotInstallableError: node or npm is missing, or npm says no.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotInstallableError("node and npm are not installed")
    folder = environments / "node_red"
    shutil.copytree(_HERE / "node_red", folder, dirs_exist_ok=True)
    _install(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"], folder)
    runtime = "onnxruntime-node"
    if not _loads(runtime, folder):
        runtime = "onnxruntime-web"
        _install(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", runtime], folder)
        flows = folder / "flows.json"
        flows.write_text(flows.read_text().replace("onnxruntime-node", runtime))
    packages = {name: folder / "node_modules" / name / "package.json" for name in ("node-red", runtime)}
    versions = {name: str(json.loads(package.read_text())["version"]) for name, package in packages.items()}
    command = ("node", "node_modules/node-red/red.js", "--userDir", ".", "--settings", "settings.js")
    return Program("Node-RED flow", command, 0.95, folder, versions)


#: The peers by the name that --only takes.
PEERS: Final[dict[str, Callable[[Path], Program]]] = {"naive": naive, "bytewax": bytewax, "node-red": node_red}


def _loads(module: str, folder: Path) -> bool:
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}
    found = subprocess.run(
        ["node", "-e", f"require('{module}')"], cwd=folder, env=environment, capture_output=True, check=False
    )
    return found.returncode == 0


def _install(command: list[str], folder: Path | None = None) -> None:
    # The runtime's install script would download a GPU's libraries.
    environment = os.environ | {"ONNXRUNTIME_NODE_INSTALL": "skip", "ONNXRUNTIME_NODE_INSTALL_CUDA": "skip"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstallableError(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-300:]}")
