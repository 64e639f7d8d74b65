"""One run of one program: its CPU time, and whether it did the work."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from streamer.bundle import load_bundle
from streamer.classifier import Classifier
from tests.benchmarks.peers.drive import Outcome, drive
from tests.benchmarks.peers.load import Load
from tests.benchmarks.peers.programs import Program, Running, machine_cpu_s, tree_cpu_s
from tests.servers import Mosquitto, find_program

#: Watches start within three seconds and a window takes about five: from here on all of them have full windows.
WARM_UP_S: Final = 9.0
#: A program is behind when windows are still missing this long after the load's end.
_BEHIND_S: Final = 2.0
_PATIENCE_S: Final = 20.0
#: Windows for each run of the runtime alone, and for how long.
_FLOOR_BATCH: Final = 64
_FLOOR_S: Final = 1.0


class NotWorkingError(Exception):
    """A program that was started does nothing; the message says what it wrote."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of one program.

    Attributes:
        cpu_us_per_watch_s: CPU time for each second of each watch, µs.
        others_cores: what everything but program, broker and load used of the machine meanwhile, cores.
        faults: why the run cannot be compared; empty when it can.
    """

    cpu_us_per_watch_s: float
    others_cores: float
    outcome: Outcome
    faults: list[str]


@contextmanager
def running_broker(folder: Path) -> Iterator[Mosquitto]:
    """A Mosquitto for one run."""
    program = find_program("mosquitto")
    if program is None:
        raise SystemExit("mosquitto is not installed: apt-get install mosquitto")
    broker = Mosquitto(program, folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def measure(program: Program, load: Load, bundle: Path) -> Measurement:
    """Run a program once.

    Raises:
        NotWorkingError: it never gives a window; the message ends with its log.
    """
    with tempfile.TemporaryDirectory() as name, running_broker(Path(name)) as broker:
        running = Running(program, broker, bundle, Path(name) / "program.log")
        taken: list[tuple[float, float, float]] = []

        def mark() -> None:
            ours = tree_cpu_s(broker.pid) + time.process_time()
            taken.append((running.cpu_s(), machine_cpu_s() - ours, time.monotonic()))

        try:
            outcome = asyncio.run(drive(broker, load, marks={WARM_UP_S: mark}, patience_s=_PATIENCE_S))
            mark()
        except TimeoutError as error:
            raise NotWorkingError(f"{program.name}: {error}; its log ends: {running.log.read_text()[-500:]}") from None
        finally:
            ended = running.process.poll()
            running.stop()
    (cpu_then_s, rest_then_s, then_s), (cpu_s, rest_s, now_s) = taken
    return Measurement(
        cpu_us_per_watch_s=1e6 * (cpu_s - cpu_then_s) / load.watch_seconds(WARM_UP_S),
        others_cores=max(0.0, (rest_s - rest_then_s - (cpu_s - cpu_then_s)) / (now_s - then_s)),
        outcome=outcome,
        faults=faults(outcome, least_agreeing=program.least_agreeing, ended=ended),
    )


def faults(outcome: Outcome, *, least_agreeing: float, ended: int | None) -> list[str]:
    """Why what a program did is not the work asked for."""
    found = [
        f"{number} windows {what}"
        for number, what in (
            (outcome.missing, "missing"),
            (outcome.doubled, "twice"),
            (outcome.unexpected, "where none belongs"),
        )
        if number
    ]
    if ended is not None:
        found.append(f"ended by itself with status {ended}")
    if outcome.behind_s > _BEHIND_S:
        found.append(f"{outcome.behind_s:.1f} s behind the load")
    if outcome.agreeing < least_agreeing:
        found.append(f"{outcome.agreeing:.1%} of the labels are har-stream's, expected {least_agreeing:.0%}")
    return found


def runtime_alone_us(bundle: Path) -> float:
    """CPU time of ONNX Runtime alone on one watch's windows for a second, µs: no program with this model costs less."""
    loaded = load_bundle(bundle)
    classifier = Classifier(loaded)
    golden = loaded.golden.windows
    windows = np.ascontiguousarray(np.resize(golden, (_FLOOR_BATCH, *golden.shape[1:])))
    classifier.predict(windows)
    runs, begin_s = 0, time.process_time()
    while time.process_time() - begin_s < _FLOOR_S:
        classifier.predict(windows)
        runs += 1
    window_s = (time.process_time() - begin_s) / (runs * _FLOOR_BATCH)
    return 1e6 * window_s * 1e9 / (loaded.spec.hop_len * loaded.spec.period_ns)
