"""`python -m tests.chaos`: seeded schedules of faults against the real service, judged by an oracle."""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos.faults import kill, terminate
from tests.chaos.feed import recorded_feed
from tests.chaos.schedule import CONTROLS, SPEED, Planned, Schedule, draw, run


def main() -> int:
    """Run what was asked for; 1 when a schedule was not exact."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--schedules", type=int, default=20, help="how many, with seeds from --seed on")
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule")
    parser.add_argument(
        "--controls", action="store_true", help="instead: run sabotaged services, which must be found out"
    )
    parser.add_argument("--recoveries", type=int, default=0, metavar="N", help="instead: time N restarts of each kind")
    parser.add_argument("--keep", action="store_true", help="keep the folders of schedules that were not exact")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="har-stream-chaos."))
    try:
        if arguments.controls:
            return _controls(root)
        if arguments.recoveries:
            return _recoveries(root, arguments.recoveries)
        return _schedules(root, arguments.schedules, arguments.seed, keep=arguments.keep)
    finally:
        if not arguments.keep:
            shutil.rmtree(root, ignore_errors=True)


def _schedules(root: Path, number: int, first_seed: int, *, keep: bool) -> int:
    feed = recorded_feed(seconds=120.0)
    oracle = feed.oracle()
    duration_s = feed.due_s[-1] / SPEED
    _say(f"{len(feed.messages)} messages, {len(oracle)} events, {duration_s:.1f} s")
    failed = repeats = died_writing = 0
    befallen: Counter[str] = Counter()
    recoveries_s: dict[str, list[float]] = defaultdict(list)
    for seed in range(first_seed, first_seed + number):
        schedule, folder, began_s = draw(seed, duration_s=duration_s), root / str(seed), time.monotonic()
        outcome = run(schedule, folder, feed, oracle)
        _say(f"{seed:6d}  {time.monotonic() - began_s:5.1f} s  {outcome.verdict}  [{schedule}]")
        failed += not outcome.verdict.ok
        repeats += outcome.repeats
        died_writing += outcome.died_writing
        befallen.update(planned.fault.__name__ for planned in (*schedule.service, *schedule.link))
        for cause, times_s in outcome.recoveries_s.items():
            recoveries_s[cause] += times_s
        if outcome.verdict.ok or not keep:
            shutil.rmtree(folder)
    names = ", ".join(f"{n} {name}" for name, n in sorted(befallen.items()))
    _say(f"{failed} of {number} schedules not exact; {repeats} repeated events set aside")
    _say(f"faults: {names}; {died_writing} processes died while writing")
    _say_recoveries(recoveries_s)
    return int(failed > 0)


def _controls(root: Path) -> int:
    feed = recorded_feed(seconds=50.0)
    oracle = feed.oracle()
    passed = 0
    for sabotage, schedule in CONTROLS.items():
        outcome = run(schedule, root / sabotage, feed, oracle, patience_s=3.0, sabotage=sabotage)
        _say(f"{sabotage}: {outcome.verdict}  [{schedule}]")
        passed += outcome.verdict.ok
    _say(f"{passed} of {len(CONTROLS)} sabotaged services were not found out")
    return int(passed > 0)


def _recoveries(root: Path, number: int) -> int:
    feed = recorded_feed(watches=10, seconds=280.0)
    faults = tuple(Planned(1.0 + 2.5 * i, (kill, terminate)[i % 2], i) for i in range(2 * number))
    speed = min(feed.due_s[-1] / (faults[-1].at_s + 3.0), SPEED)
    outcome = run(Schedule(faults), root / "recoveries", feed, feed.oracle(), speed=speed)
    _say(f"{outcome.verdict}; a first start to ready, without any state: {outcome.first_start_s:.2f} s")
    _say_recoveries(outcome.recoveries_s)
    return int(not outcome.verdict.ok)


def _say_recoveries(recoveries_s: Mapping[str, Sequence[float]]) -> None:
    for cause, times_s in sorted(recoveries_s.items()):
        _say(
            f"start to first new event after {cause}: median {statistics.median(times_s):.2f} s, "
            f"worst {max(times_s):.2f} s of {len(times_s)}"
        )


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 # its purpose


if __name__ == "__main__":
    # Ended by SIGTERM, too, no process and no mount must be left behind.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    sys.exit(main())
