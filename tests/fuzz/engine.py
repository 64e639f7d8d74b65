"""Runs a target on generated inputs and judges time, memory and outcomes; one process per target.

Two ways to generate: `mutate` changes good input at random, `atheris` lets libFuzzer keep what reaches new code of
`streamer` and change that, by its own means and by the same mutations in turn.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import mmap
import os
import random
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
import numpy as np

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

#: CPU seconds that one input of at most LONGEST bytes may take: honest ones of that size take a hundredth of it.
MOST_SECONDS: Final = 1.0
LONGEST: Final = 8192
#: Memory may grow by this much after the warm-up: room for a garbage collection that has not come yet.
MOST_GROWTH_BYTES: Final = 16_000_000
_NO_BOUND: Final = 2**62
_WARM_UP: Final = 0.3
_SAMPLES: Final = 100
_LENGTH: Final = struct.Struct("<I")


class Report(msgspec.Struct, kw_only=True):
    """What a run of one target came to.

    Attributes:
        inputs: how many were tried.
        seconds: it took.
        outcomes: how often each was met.
        slowest_s: CPU time of the slowest input.
        rss_first, rss_last: bytes of memory after the warm-up and at the end.
        rss_slope: bytes per input after the warm-up, by least squares.
        failure: what broke, None when nothing did; `saved` is the file that holds the input.
    """

    target: str
    engine: str
    seed: int
    inputs: int = 0
    seconds: float = 0.0
    outcomes: dict[str, int] = {}
    slowest_s: float = 0.0
    slowest: bytes = b""
    rss_first: int = 0
    rss_last: int = 0
    rss_slope: float = 0.0
    failure: str | None = None
    saved: str | None = None


def rss_bytes() -> int:
    """Memory of this process that is in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Trial:
    """One target's run, input by input.

    State: the counts so far, samples of memory, and the input under trial in a file that outlives a crash.
    """

    def __init__(self, target: Target, report: Report, *, most: int, growth_bytes: int, last_input: Path) -> None:
        self._target = target
        self._most = most
        self._growth_bytes = growth_bytes
        self._outcomes: Counter[str] = Counter()
        self._rss: list[tuple[int, int]] = []
        self._begun = time.monotonic()
        self.report = report
        with last_input.open("w+b") as file:
            file.truncate(LONGEST * 2 + _LENGTH.size)
            self._last = mmap.mmap(file.fileno(), 0)

    @property
    def over(self) -> bool:
        """Whether all inputs were tried."""
        return self.report.inputs >= self._most

    def __call__(self, data: bytes) -> None:
        """Try one input.

        Raises:
            AssertionError: a property does not hold; anything else that the target raises is as bad.
        """
        self._last[: _LENGTH.size + len(data)] = _LENGTH.pack(len(data)) + data
        begin = time.thread_time()
        outcome = self._target.check(data)
        took_s = time.thread_time() - begin
        if took_s > self.report.slowest_s:
            if took_s > MOST_SECONDS:
                # A collection of garbage may have fallen into it.
                begin = time.thread_time()
                self._target.check(data)
                took_s = min(took_s, time.thread_time() - begin)
            self.report.slowest_s, self.report.slowest = took_s, data
        assert took_s <= MOST_SECONDS, f"took {took_s:.2f} s; expected at most {MOST_SECONDS} s"
        assert outcome in self._target.outcomes, f"outcome {outcome!r} is not of the closed set"
        self._outcomes[outcome] += 1
        self.report.inputs += 1
        if self.report.inputs % max(self._most // _SAMPLES, 1) == 0:
            self._rss.append((self.report.inputs, rss_bytes()))

    def finish(self) -> Report:
        """The report; its `failure` says so when memory grew."""
        report = self.report
        report.seconds = time.monotonic() - self._begun
        report.outcomes = dict(self._outcomes.most_common())
        gc.collect()
        self._rss.append((report.inputs, rss_bytes()))
        at, rss = np.array([entry for entry in self._rss if entry[0] >= _WARM_UP * report.inputs], np.float64).T
        report.rss_first, report.rss_last = int(rss[0]), int(rss[-1])
        report.rss_slope = float(np.polyfit(at - at[0], rss, 1)[0]) if len(at) > 1 and at[-1] > at[0] else 0.0
        if report.rss_last - report.rss_first > self._growth_bytes:
            report.failure = f"memory grew by {report.rss_last - report.rss_first} bytes after the warm-up"
        return report


def run(
    name: str, *, inputs: int, seed: int, engine: str, save_in: Path, deliver: Callable[[Report], NoReturn]
) -> None:
    """Try a target in this process, to its end; a failing input is saved.

    Args:
        name: of TARGETS.
        inputs: how many.
        seed: decides all of them.
        engine: `mutate` or `atheris`.
        save_in: folder for failing inputs, and for the one under trial, `fuzz-<name>-last`.
        deliver: takes the report and ends the process, for libFuzzer never returns.
    """
    with _instrumented(engine):
        # Nothing above may import streamer: atheris watches what is imported under its eyes.
        from tests.fuzz.mutation import mutated  # noqa: PLC0415
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415
    report = Report(target=name, engine=engine, seed=seed)
    # libFuzzer keeps inputs, and instrumented code keeps what it compared: there growth says nothing about the target.
    growth = MOST_GROWTH_BYTES if engine == "mutate" else _NO_BOUND
    target = TARGETS[name]()
    trial = Trial(target, report, most=inputs, growth_bytes=growth, last_input=last_input(save_in, name))

    def attempt(data: bytes) -> None:
        try:
            trial(data)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what was looked for
            report.failure = "".join(traceback.format_exception(error)).strip()
            report.saved = str(save(save_in, name, data))
            deliver(report)
        if trial.over:
            deliver(trial.finish())

    rng = random.Random(seed)  # noqa: S311 - not for secrets

    def fresh() -> bytes:
        """An input that owes nothing to the last one."""
        if target.compose is not None and rng.random() < 0.5:
            return target.compose(rng)[:LONGEST]
        return mutated(rng, target.seeds)[:LONGEST]

    def changed(data: bytes) -> bytes:
        return mutated(rng, target.seeds, data)[:LONGEST]

    if engine == "atheris":
        _guided(attempt, target.seeds, fresh, changed, rng)
    else:
        _unguided(attempt, target.seeds, fresh, changed, rng)


def last_input(folder: Path, name: str) -> Path:
    """Where a target's input under trial lies, with its length before it."""
    return folder / f"fuzz-{name}-last"


def save(folder: Path, name: str, data: bytes) -> Path:
    """Write a failing input to a file that is named after it."""
    path = folder / f"fuzz-{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path


def _unguided(
    attempt: Callable[[bytes], None],
    seeds: Sequence[bytes],
    fresh: Callable[[], bytes],
    changed: Callable[[bytes], bytes],
    rng: random.Random,
) -> NoReturn:
    for data in seeds:
        attempt(data[:LONGEST])
    while True:
        data = fresh()
        while rng.random() < 0.2:
            data = changed(data)
        attempt(data)


def _guided(
    attempt: Callable[[bytes], None],
    seeds: Sequence[bytes],
    fresh: Callable[[], bytes],
    changed: Callable[[bytes], bytes],
    rng: random.Random,
) -> None:
    import atheris  # noqa: PLC0415 - only where it is installed

    def mutator(data: bytes, max_size: int, _seed: int) -> bytes:
        draw = rng.random()
        if draw < 0.4:
            mutant: bytes = atheris.Mutate(data, max_size)
            return mutant
        return (changed(data) if draw < 0.7 else fresh())[:max_size]

    with tempfile.TemporaryDirectory() as corpus:
        for number, content in enumerate(seeds):
            (Path(corpus) / str(number)).write_bytes(content[:LONGEST])
        options = [f"-seed={rng.randrange(1, 2**31)}", f"-max_len={LONGEST}", "-timeout=60"]
        atheris.Setup([sys.argv[0], *options, corpus], attempt, custom_mutator=mutator)
        atheris.Fuzz()


@contextlib.contextmanager
def _instrumented(engine: str) -> Iterator[None]:
    if engine == "mutate":
        yield
        return
    import atheris  # noqa: PLC0415 - only where it is installed

    with atheris.instrument_imports(include=["streamer"]):
        yield
