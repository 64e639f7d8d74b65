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
from pathlib import Path

from tests.chaos.feed import recorded_feed
from tests.chaos.schedule import SPEED, draw, run


def main() -> int:
    """Run what was asked for; 1 when a schedule was not exact."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--schedules", type=int, default=20, help="how many, with seeds from --seed on")
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule")
    parser.add_argument("--sabotage", default=None, help="what to break in the service")
    parser.add_argument("--keep", action="store_true", help="keep the folders of schedules that were not exact")
    arguments = parser.parse_args()

    feed = recorded_feed(seconds=120.0)
    oracle = feed.oracle()
    duration_s = feed.due_s[-1] / SPEED
    print(f"{len(feed.messages)} messages, {len(oracle)} events, {duration_s:.1f} s")  # noqa: T201 # its purpose
    failed = repeats = died_writing = 0
    befallen: Counter[str] = Counter()
    recoveries_s: dict[str, list[float]] = defaultdict(list)
    root = Path(tempfile.mkdtemp(prefix="har-stream-chaos."))
    for seed in range(arguments.seed, arguments.seed + arguments.schedules):
        schedule, folder, began_s = draw(seed, duration_s=duration_s), root / str(seed), time.monotonic()
        outcome = run(schedule, folder, feed, oracle, sabotage=arguments.sabotage)
        print(f"{seed:6d}  {time.monotonic() - began_s:5.1f} s  {outcome.verdict}  [{schedule}]", flush=True)  # noqa: T201 # its purpose
        failed += not outcome.verdict.ok
        repeats += outcome.repeats
        died_writing += outcome.died_writing
        befallen.update(planned.fault.__name__ for planned in (*schedule.service, *schedule.link))
        for cause, times_s in outcome.recoveries_s.items():
            recoveries_s[cause] += times_s
        if outcome.verdict.ok or not arguments.keep:
            shutil.rmtree(folder)
    names = ", ".join(f"{n} {name}" for name, n in sorted(befallen.items()))
    print(f"{failed} of {arguments.schedules} schedules not exact; {repeats} repeated events set aside")  # noqa: T201
    print(f"faults: {names}; {died_writing} processes died while writing")  # noqa: T201
    for cause, times_s in sorted(recoveries_s.items()):
        print(  # noqa: T201 # its purpose
            f"first new event after {cause}: median {statistics.median(times_s):.2f} s, worst {max(times_s):.2f} s "
            f"of {len(times_s)}"
        )
    return failed > 0


if __name__ == "__main__":
    # Ended by SIGTERM, too, no process and no mount must be left behind.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    sys.exit(main())
