"""Every row of docs/errors.md: its command is run, and what it says and its exit status are those of the page."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
import pytest

from tests.bundles import make_bundle
from tests.certificates import DAY, Authority
from tests.conftest import missing
from tests.programs import BIN
from tests.servers import HOST, Mosquitto, find_program

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "errors.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the page; `where` is what it says behind the command."""

    command: str
    where: str
    status: int
    line: str
    advice: str


def rows() -> list[Row]:
    found = []
    for text in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in text.strip("|").split(" | ")]
        if text.startswith("| `"):
            did, status, read, advice = cells
            _, command, where = did.split("`", 2)
            found.append(Row(command, where, int(status), read.strip("`"), advice))
    return found


ROWS: Final = rows()
#: All rows are run at once, on the first one's account.
pytestmark = pytest.mark.timeout(900)


def bundle(folder: Path, **changes: Any) -> Path:  # noqa: ANN401 # JSON
    """The posture bundle, with other entries in its bundle.json."""
    make_bundle(folder)
    change(folder, **changes)
    return folder


def change(folder: Path, **changes: Any) -> None:  # noqa: ANN401 # JSON
    manifest = folder / "bundle.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def prepare(folder: Path) -> None:
    """The files that the page's commands speak of."""
    (folder / "data").mkdir()
    # In the place of a package that is not installed.
    (folder / "bare" / "opentelemetry").mkdir(parents=True)
    absent = "raise ModuleNotFoundError(\"No module named 'opentelemetry'\", name='opentelemetry')\n"
    (folder / "bare" / "opentelemetry" / "__init__.py").write_text(absent)
    (folder / "quoted.toml").write_text('port = "1883"\n')
    (folder / "colon.toml").write_text("port: 1883\n")
    (folder / "misspelt.toml").write_text("quous = 1\n")
    (folder / "secret").write_text("hunter2\n")
    (folder / "walk.csv").write_text("t_ns,acc_x,acc_y,acc_z\n0,1,2,3\n1,1,nothing,3\n")
    for name, label, seconds in (
        ("slips", "walkng", 9),
        ("walk-of-3-s", "walking", 3),
        ("single", "waving", 9),
        ("meals", "eating", 9),
        ("unlabelled", "", 9),
    ):
        rows = [f"{i * 50_000_000},0,0,9.8,{label}\n" for i in range(20 * seconds)]
        (folder / name).mkdir()
        (folder / name / "walk.csv").write_text("t_ns,acc_x,acc_y,acc_z,label\n" + "".join(rows))
    authority = Authority(folder)
    authority.certificate  # noqa: B018 # is written when first asked for
    for name in ("client", "other"):
        authority.sign(name)
    authority.sign("sealed", passphrase=b"hunter2")
    (bundle(folder / "incomplete") / "model.onnx").unlink()
    (bundle(folder / "altered") / "model.onnx").write_bytes(b"something else")
    bundle(folder / "mislabelled", labels=["standing", "sitting"])
    bundle(folder / "renamed", labels=["standing", "sitting", "Loafing about"])
    bundle(folder / "misplaced", groups={"lying": "flat"})
    even = [1 / 3] * 3
    exponents = {"prior_weight": 0, "evidence": 0.5, "within": 0.2}
    chain = {"steps": [even] * 3, "start": even, "prior": even, **exponents}
    bundle(folder / "short", smoothing={"weight": 1, "enter": 0.6, "leave": 0.4, "dwell": 1, "chain": chain})
    bundle(folder / "repeated", passages=["sitting"])
    bundle(folder / "newer", schema=2)
    future = bundle(folder / "future")
    model = onnx.load(future / "model.onnx")
    model.opset_import[0].version = 99
    content = model.SerializeToString()
    (future / "model.onnx").write_bytes(content)
    change(future, model_sha256=hashlib.sha256(content).hexdigest())


def brokers(folder: Path) -> dict[int, Mosquitto]:
    """The brokers that the page's commands speak of, by the port that it gives them."""
    program = find_program("mosquitto")
    if program is None:
        missing("mosquitto is not installed: apt-get install mosquitto")
    authority = Authority(folder, "broker-ca")
    shutil.copy(authority.certificate, folder / "ca.crt")
    good, expired, elsewhere = (
        authority.sign("good"),
        authority.sign("expired", begins=-2 * DAY, ends=-DAY),
        authority.sign("elsewhere", host="broker.example"),
    )
    (folder / "passwd").touch()
    configurations = {
        1883: ("allow_anonymous false", f"password_file {folder / 'passwd'}"),
        **{
            port: (f"certfile {c.certificate}", f"keyfile {c.key}", f"cafile {folder / 'ca.crt'}")
            for port, c in {8883: good, 8884: expired, 8885: elsewhere, 8886: good}.items()
        },
    }
    configurations[8886] += ("require_certificate true",)
    started = {}
    for port, lines in configurations.items():
        place = folder / f"mosquitto-{port}"
        place.mkdir()
        started[port] = Mosquitto(program, place, *lines)
    return started


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[Row, tuple[int, str, str]]]:
    """What became of each row's command: status, standard output and error, with the page's ports in them."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [call.params["row"] for call in calls if call is not None and isinstance(call.params.get("row"), Row)]
    folder = tmp_path_factory.mktemp("wrong-use")
    prepare(folder)
    served = brokers(folder)
    taken = folder / "taken" / "har-stream"
    taken.mkdir(parents=True)
    with socket.create_server((HOST, 0)) as listening, (taken / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HAR_DATA_DIR": "data"}
        # Where the programs are run from a working tree other than the installed one.
        environment |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        ports = {9464: listening.getsockname()[1]} | {port: broker.port for port, broker in served.items()}

        def outcome(row: Row) -> tuple[int, str, str]:
            command = row.command
            # Each has a state of its own.
            home = folder / f"home-{ROWS.index(row)}"
            home.mkdir()
            for port, here in ports.items():
                # The settings' rows need no broker, and say what they were given.
                if row.status == 1 or port == 9464:
                    command = command.replace(f" {port}", f" {here}")
            if command.split()[0].endswith("har-stream") and "--http-port" not in command:
                command += " --http-port 0" if "classify" not in command and "clasify" not in command else ""
            own = {"HOME": str(home)}
            if "without the extra" in row.where:
                # Found before the one that is installed.
                own["PYTHONPATH"] = os.pathsep.join(filter(None, ["bare", environment.get("PYTHONPATH")]))
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=folder,
                env=environment | own,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            error = done.stderr
            for port, here in ports.items():
                error = error.replace(str(here), str(port))
            return done.returncode, done.stdout, error

        try:
            for broker in served.values():
                broker.start()
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                yield dict(zip(chosen, pool.map(outcome, chosen), strict=True))
        finally:
            for broker in served.values():
                broker.stop()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.command)
def test_a_mistake_is_told_as_the_page_says(outcomes: Mapping[Row, tuple[int, str, str]], row: Row) -> None:
    status, out, error = outcomes[row]
    program = row.line.split(":")[0]
    # Before it a service may have logged; the mistake itself is one line, and the last.
    *logged, line = error.splitlines()
    assert re.fullmatch(re.escape(row.line).replace("…", ".+"), line), error
    assert not [other for other in logged if other.startswith(f"{program}: ")]
    assert "Traceback" not in error
    assert (status, out) == (row.status, "")


def test_every_row_says_what_to_do() -> None:
    assert [row.command for row in ROWS if not row.advice] == []
    assert {row.line.split(":")[0] for row in ROWS} == {"har-stream", "simulator", "har-models"}
    assert len(ROWS) > 60
