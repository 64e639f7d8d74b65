"""What a shell offers on Tab, asked as bash asks: by its own script, in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from models.recipes import RECIPES
from streamer.bundle import shipped_bundles
from tests.conftest import missing
from tests.programs import BIN

PROGRAMS: Final = ("har-stream", "simulator", "har-models")


def offered(line: str) -> list[str]:
    """What is offered at the end of a command line."""
    words = line.split(" ")
    asked = {
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        f"_{words[0].replace('-', '_').upper()}_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [str(BIN / words[0])], capture_output=True, text=True, check=True, timeout=60, env=os.environ | asked
    )
    assert done.stderr == ""
    return done.stdout.split()


OFFERED: Final = {
    "har-stream --http": ["--http-host", "--http-port"],
    "har-stream --mqtt-client ": ["gmqtt", "aiomqtt"],
    "har-stream --broker e": ["embedded"],
    "har-stream --model uci": ["uci-har-cnn", "uci-har-convlstm", "uci-har-lstm"],
    "har-stream doctor --lis": ["--listen"],
    "har-stream classify --output j": ["json"],
    "har-stream --tls-ca ": [],
    "simulator replay sy": ["synthetic"],
    "simulator replay hapt --subject 2": ["2", *(str(n) for n in range(20, 30))],
    "simulator replay synthetic --fault dr": ["drop"],
    "simulator download wi": ["wisdm-watch"],
    "simulator record --label run": ["running"],
    "simulator load --model fit": ["fitbit-cnn"],
    "har-models train wi": ["wisdm-watch-cnn"],
    "har-models evaluate uci-har-cnn --dataset h": ["hapt"],
}


def test_tab_offers_what_may_come_next() -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        assert dict(zip(OFFERED, pool.map(offered, OFFERED), strict=True)) == OFFERED


def test_tab_offers_commands_and_every_shipped_bundle() -> None:
    assert {"classify", "doctor"} <= set(offered("har-stream "))
    assert {"sources", "download", "replay", "load"} <= set(offered("simulator "))
    assert offered("har-models card ") == list(shipped_bundles())


def test_every_recipe_is_offered_by_its_bundles_name() -> None:
    assert set(RECIPES) == set(shipped_bundles())


@pytest.mark.parametrize("program", PROGRAMS)
def test_completion_is_installed_into_a_real_bash(program: str, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        missing("bash is not installed: apt-get install bash")
    environment = os.environ | {"HOME": str(tmp_path), "PATH": f"{BIN}:{os.environ['PATH']}"}
    # The shell is found out by the process that calls.
    script = f"{program} --install-completion && echo installed"
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True, env=environment, timeout=60)
    assert "bash completion installed in" in done.stdout
    function = f"_{program.replace('-', '_')}_completion"
    ask = (
        f"source ~/.bashrc; complete -p {program} >/dev/null || exit 3; "
        f"COMP_WORDS=({program} --he); COMP_CWORD=1; {function} {program}; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run([bash, "-c", ask], capture_output=True, text=True, check=True, env=environment, timeout=60)
    assert done.stdout.split() == ["--help"]
