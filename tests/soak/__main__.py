"""`python -m tests.soak --minutes 30`: 200 watches that come and go, 1 % rubbish, a lost connection every 20 s.

Exit status 1 when an event differs from the oracle's, or when memory, descriptors, threads or tasks grew.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.soak.churn import Churn
from tests.soak.run import soak


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--watches", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=Path, help="where to write the samples (JSON)")
    arguments = parser.parse_args()
    seconds = 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="har-stream-soak.") as folder:
        churn = Churn(arguments.watches, seconds, seed=arguments.seed)
        # Places fill, names pass and buffers reach their size within some minutes; a third of a short run must do.
        report = soak(Path(folder) / "soak", churn, warm_s=min(seconds / 3, 300.0))
    print(report)  # noqa: T201 # its purpose
    if arguments.samples:
        arguments.samples.write_text(json.dumps([asdict(sample) for sample in report.samples]))
    return int(not report.verdict.ok or bool(report.growth) or report.refused < report.rubbish)


if __name__ == "__main__":
    # Ended by SIGTERM, too, no process and no mount must be left behind.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    sys.exit(main())
