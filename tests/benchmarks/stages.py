"""What each stage costs in instructions, over a floor counted in the same run: a guard that no busy machine disturbs.

    python -m tests.benchmarks.stages              each stage beside the baseline
    python -m tests.benchmarks.stages --renew      make these the baseline

valgrind counts the instructions of one fixed piece of work (tests/benchmarks/stage_probe.py), the same to some
thousandths however busy the machine is. Each stage is divided by what the libraries alone need for comparable work, so
that another build of Python or NumPy, which changes both, changes the ratio less. What it does not see: waiting, system
calls, and caches that are missed.

A stage that got dearer on purpose, or cheaper, needs a new baseline: --renew writes stages.json, which is committed
with the change that explains it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from simulator.load_fleet import FIRST_SEQ, Fleet, Format, Motion
from streamer.wire import topics
from tests.benchmarks.stage_probe import Probe

BASELINE: Final = Path(__file__).with_name("stages.json")
#: Outside this range of its baseline a stage is dearer, or so much cheaper that the baseline guards nothing. Counts
#: repeat to some thousandths, another build of Python moves ratios by some hundredths, a rise of a fifth must show.
RANGE: Final = (0.85, 1.10)
_WATCHES: Final = 64
#: Up to before the first windows, of 5 s; then one of each watch.
_WARM_UP_S: Final = 4
_MEASURED_S: Final = 2
_START_NS: Final = 1_750_000_000_000_000_000


def make_probe() -> Probe:
    """A fixed piece of work."""
    formats: tuple[Format, ...] = ("cbor", "json", "single")
    fleets = {f: Fleet(devices=_WATCHES, rate_hz=50, batch=1 if f == "single" else 50, name="probe") for f in formats}
    motions = {f: Motion(fleets[f], f, qos=0) for f in formats}

    def payload(payload_format: Format, watch: int, number: int) -> bytes:
        t_ns = _START_NS + number * fleets[payload_format].period_ns
        return motions[payload_format].template(watch, number).payload(t_ns, FIRST_SEQ + number)

    return Probe(
        rounds=[
            [(topics.imu(fleets["cbor"].device(watch)), payload("cbor", watch, number)) for watch in range(_WATCHES)]
            for number in range(_WARM_UP_S + _MEASURED_S)
        ],
        measured=_MEASURED_S,
        payloads={f: [payload(f, watch, 0) for watch in range(_WATCHES)] for f in formats},
    )


def count() -> dict[str, int]:
    """Instructions by stage and floor.

    Raises:
        RuntimeError: valgrind or the probe failed; the message holds what they said.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "probe").write_bytes(msgspec.msgpack.encode(make_probe()))
        command = [
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            "--dump-before=getppid",
            f"--callgrind-out-file={folder / 'counts'}",
            *(sys.executable, "-m", "tests.benchmarks.stage_probe", str(folder / "probe")),
        ]
        # One hash seed, or dictionaries would lie differently each time.
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
        names: list[str] = json.loads(done.stdout)
        counts: Counter[str] = Counter()
        for number, stage in enumerate(names, start=1):
            dump = (folder / f"counts.{number}").read_text()
            found = re.search(r"^totals: (\d+)", dump, re.MULTILINE)
            counts[stage] += int(found[1]) if found else 0
    counts.pop("")
    return dict(counts)


def ratios(counts: dict[str, int]) -> dict[str, float]:
    """Each stage over its floor: the model's runtime for `classify`, else what the other libraries need."""
    return {
        stage: round(n / counts["floor: runtime" if stage == "classify" else "floor: libraries"], 4)
        for stage, n in counts.items()
        if not stage.startswith("floor")
    }


def baseline() -> dict[str, float]:
    """The committed ratios."""
    found: dict[str, float] = json.loads(BASELINE.read_text())
    return found


def changes(found: dict[str, float], before: dict[str, float]) -> list[str]:
    """What stages do outside the range, and stages that only one of both knows."""
    lines = [f"stage {stage}: not in both runs and the baseline" for stage in sorted(found.keys() ^ before.keys())]
    for stage in sorted(found.keys() & before.keys()):
        change = found[stage] / before[stage]
        if not RANGE[0] <= change <= RANGE[1]:
            lines.append(
                f"stage {stage}: {change:.3f} times its instructions in the baseline, {found[stage]} instead of "
                f"{before[stage]} of the floor; expected {RANGE[0]} to {RANGE[1]}"
            )
    return lines


def main() -> None:
    """Count, print, and renew the baseline where asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.stages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--renew", action="store_true", help="write the ratios found as the new baseline")
    options = parser.parse_args()
    counts = count()
    found = ratios(counts)
    before = baseline() if BASELINE.exists() else {}
    for stage, ratio in found.items():
        change = f"{ratio / before[stage]:8.3f} of the baseline" if stage in before else ""
        print(f"{stage:16}{counts[stage]:12} instructions{ratio:10.4f} of the floor{change}")  # noqa: T201 - its purpose
    if options.renew:
        BASELINE.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
