"""Build the image and run it as Compose would, without a container engine's daemon and without a registry of images.

    apt-get install buildah iptables mmdebstrap mosquitto netavark podman runc
    python -m tests.image [--keep FOLDER]

Needs root, Debian's mirror and PyPI, and some minutes: that is why it is no test of the suite. What takes the place of
`python:3.12-slim` is Debian 12 with its Python 3.11; everything after FROM is the Dockerfile's own. The container runs
as deploy/compose.yaml says: user, read-only system, no capabilities, limits, a volume for the state.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.programs import simulator
from tests.servers import Mosquitto, answers, find_program, wait_until

ROOT: Final = Path(__file__).resolve().parents[1]
DOCKERFILE: Final = ROOT / "deploy" / "Dockerfile"
BASE: Final = "localhost/python-of-debian:12"
IMAGE: Final = "localhost/har-stream:tried"
_PACKAGES: Final = "python3,python3-venv,python3-pip,python-is-python3,openssl,ca-certificates"
_NAME: Final = "har-stream-tried"
#: The host's way to PyPI, where it has one of its own.
_HOST_FILES: Final = ("/etc/ssl/certs", "/usr/local/share/ca-certificates", "/etc/pip.conf")
#: Not all machines let root raise these, and neither runtime asks before it tries.
_LIMITS: Final = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")


class Store:
    """Images and containers in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._options = ["--root", str(folder / "root"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]
        self.folder: Final = folder

    def buildah(self, *arguments: str) -> str:
        """Run buildah; what it prints."""
        return _run("buildah", *self._options, *arguments)

    def podman(self, *arguments: str) -> str:
        """Run podman; what it prints."""
        engine = ["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--log-level", "fatal"]
        return _run("podman", *self._options, *engine, *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}")
    return done.stdout.strip()


def build(store: Store) -> None:
    """Make the base from Debian's packages, and the image from the Dockerfile."""
    archive = store.folder / "base.tar"
    if not archive.exists():
        _run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(archive))
    container = store.buildah("from", "scratch")
    store.buildah("add", "--quiet", container, str(archive), "/")
    store.buildah("commit", "--quiet", container, BASE)
    store.buildah("rm", container)
    mounts = [part for file in _HOST_FILES if Path(file).exists() for part in ("--volume", f"{file}:{file}:ro")]
    # Docker's own format, for the health check.
    options = ["--isolation", "chroot", "--network", "host", "--format", "docker", *mounts]
    options += ["--build-arg", f"PYTHON_IMAGE={BASE}"]
    ignore = ["--ignorefile", f"{DOCKERFILE}.dockerignore"]
    store.buildah("bud", "--quiet", *options, *ignore, "--file", str(DOCKERFILE), "--tag", IMAGE, str(ROOT))


def try_it(store: Store, broker: Mosquitto) -> None:
    """Run the image as Compose would, look at it from all sides, and stop it."""
    service: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["har-stream"]
    options = ["--read-only"] if service["read_only"] else []
    options += [part for name in service["cap_drop"] for part in ("--cap-drop", name)]
    options += [part for name in service["security_opt"] for part in ("--security-opt", name.partition(":")[0])]
    options += [part for folder in service["tmpfs"] for part in ("--tmpfs", folder)]
    options += ["--memory", service["mem_limit"], "--volume", "har-stream-state:/var/lib/har-stream", *_LIMITS]
    address = ["--broker", broker.host, "--port", str(broker.port)]
    said = [part for part in service["command"] if part.startswith(("--client-id", "--qos", "--http-", "--output"))]
    store.podman("run", "--detach", "--name", _NAME, "--network", "host", *options, IMAGE, *address, *said)
    try:
        wait_until(lambda: answers("http://127.0.0.1:9464/readyz"), "/readyz", within_s=60)
        store.podman("healthcheck", "run", _NAME)
        pid = store.podman("inspect", "--format", "{{.State.Pid}}", _NAME)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        _expect("user", status["Uid"].split(), ["10001"] * 4)
        _expect("capabilities", int(status["CapEff"], 16), 0)
        _expect("no new privileges", status["NoNewPrivs"], "1")
        writes = "touch /etc/x 2>/dev/null && echo written; stat --format '%u %a' /var/lib/har-stream"
        _expect("a read-only system, a state of its own", store.podman("exec", _NAME, "sh", "-c", writes), "10001 700")
        simulator("synthetic", *address, "--devices", "4", "--speed", "max", "--duration", "60")
        with urllib.request.urlopen("http://127.0.0.1:9464/metrics", timeout=10) as answer:
            lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
        _expect("watches", float(lines["har_devices"]), 4.0)
        store.podman("stop", "--time", service["stop_grace_period"].removesuffix("s"), _NAME)
        _expect("exit status", store.podman("inspect", "--format", "{{.State.ExitCode}}", _NAME), "0")
        store.podman("start", _NAME)
        wait_until(lambda: answers("http://127.0.0.1:9464/readyz"), "/readyz again", within_s=60)
    finally:
        store.podman("rm", "--force", "--time", "5", _NAME)
        store.podman("volume", "rm", "--force", "har-stream-state")
    (image,) = json.loads(store.podman("image", "inspect", IMAGE))
    print(f"image: {image['Size'] / 1e6:.0f} MB with its base, user {image['Config']['User']}")  # noqa: T201


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise SystemExit(f"{what}: {found!r}; expected {expected!r}")
    print(f"{what}: {found}")  # noqa: T201


def main(arguments: Sequence[str] | None = None) -> None:
    """Build and try."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.image", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where images stay, for another time")
    options = parser.parse_args(arguments)
    program = find_program("mosquitto")
    absent = [name for name in ("buildah", "mmdebstrap", "podman", "runc") if find_program(name) is None]
    if program is None or absent:
        raise SystemExit(f"not installed: {' '.join(absent) or 'mosquitto'}")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(options.keep.resolve() if options.keep else Path(folder))
        store.folder.mkdir(exist_ok=True)
        build(store)
        broker = Mosquitto(program, Path(folder))
        broker.start()
        try:
            try_it(store, broker)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
