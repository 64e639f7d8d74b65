"""One process per target: what kills it is found out, and so is the input that did."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from tests.fuzz.engine import Report, last_input, run, save

#: Guided by coverage; at random, where growing memory is the target's own.
ENGINES: Final = ("atheris", "mutate")
#: Share of each target in a run over all of them.
SHARES: Final = {
    "json": 0.26,
    "cbor": 0.26,
    "sensor-logger": 0.06,
    "phyphox": 0.04,
    "phyphox-csv": 0.02,
    "sensorlog": 0.04,
    "movesense": 0.02,
    "senml-json": 0.03,
    "senml-cbor": 0.03,
    "csv": 0.06,
    "jsonl": 0.02,
    "npz": 0.04,
    "bundle": 0.04,
    "onnx": 0.03,
    "state": 0.04,
    "events": 0.01,
}


def fuzz(target: str, *, inputs: int, seed: int, engine: str, save_in: Path) -> Report:
    """Try a target in a process of its own."""
    save_in.mkdir(parents=True, exist_ok=True)
    file = save_in / f"fuzz-{target}-report.json"
    log = file.with_suffix(".log")
    file.unlink(missing_ok=True)
    begun = time.monotonic()
    job = {"name": target, "inputs": inputs, "seed": seed, "engine": engine, "save_in": save_in}
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(job, file))
    process.start()
    process.join()
    last = last_input(save_in, target)
    if file.exists():
        report = msgspec.json.decode(file.read_bytes(), type=Report)
        file.unlink()
    else:
        content = last.read_bytes() if last.exists() else bytes(4)
        data = content[4 : 4 + int.from_bytes(content[:4], "little")]
        report = Report(
            target=target,
            engine=engine,
            seed=seed,
            seconds=time.monotonic() - begun,
            failure=f"the process ended with status {process.exitcode}: {_tail(log)}",
            saved=str(save(save_in, target, data)),
        )
    last.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    return report


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1000:] if log.exists() else ""


def _child(job: dict[str, Any], file: Path) -> None:
    def deliver(report: Report) -> NoReturn:
        file.write_bytes(msgspec.json.encode(report))
        os._exit(0)

    # libFuzzer talks; what it says is worth reading only when there is no report.
    with file.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
        os.dup2(log.fileno(), sys.stdout.fileno())
    run(**job, deliver=deliver)
