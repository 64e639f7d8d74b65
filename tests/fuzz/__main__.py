"""Generated input for every reader: `python -m tests.fuzz --payloads 10000000`.

Each target runs in a process of its own, so that a crash names its input: it is saved as a file, and so is what breaks
a property (an exception, an outcome out of the closed set, too long, growing memory). The exit status is then 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

from tests.fuzz.engine import Report
from tests.fuzz.runs import ENGINES, SHARES, fuzz


def main() -> None:
    """Run what the command line asks for."""
    arguments = _arguments()
    if arguments.invented_names:
        from streamer.watches import PROBATION_READINGS  # noqa: PLC0415 - atheris must see it imported
        from tests.fuzz.names import invented_names  # noqa: PLC0415

        for readings in (1, PROBATION_READINGS):
            found = invented_names(arguments.invented_names, seed=arguments.seed, readings=readings)
            print(json.dumps({"readings_of_each": readings} | found, indent=2), flush=True)
        return
    reports = []
    for target in [arguments.target] if arguments.target != "all" else SHARES:
        share = SHARES[target] if arguments.target == "all" else 1.0
        engines = ENGINES if arguments.engine == "both" else [arguments.engine]
        inputs = max(round(share * arguments.payloads / len(engines)), 1)
        for engine in engines:
            reports.append(fuzz(target, inputs=inputs, seed=arguments.seed, engine=engine, save_in=arguments.save_in))
            print(_shown(reports[-1]), flush=True)
    total = sum(report.inputs for report in reports)
    print(f"{total} inputs in {sum(report.seconds for report in reports):.0f} s, seed {arguments.seed}")
    if any(report.failure for report in reports):
        raise SystemExit(1)


def _shown(report: Report) -> str:
    outcomes = ", ".join(f"{name} {count}" for name, count in report.outcomes.items())
    per_s = report.inputs / max(report.seconds, 1e-9)
    rss = f"{report.rss_first / 1e6:.1f} MB after the warm-up, {report.rss_last / 1e6:.1f} MB at the end"
    lines = [
        f"{report.target} ({report.engine}): {report.inputs} inputs in {report.seconds:.0f} s, {per_s:.0f} /s",
        f"    outcomes: {outcomes}",
        f"    slowest input: {1e3 * report.slowest_s:.1f} ms of CPU, {len(report.slowest)} bytes",
        f"    memory: {rss}, {report.rss_slope:+.4f} bytes per input",
    ]
    if report.failure:
        lines.append(f"    FAILED: {report.failure}")
    if report.saved:
        lines.append(f"    input saved as {report.saved}")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    atheris = importlib.util.find_spec("atheris") is not None
    parser.add_argument("--payloads", type=int, default=100_000, help="inputs in total (default: %(default)s)")
    parser.add_argument("--target", choices=[*SHARES, "all"], default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--engine",
        choices=[*ENGINES, "both"],
        default="both" if atheris else "mutate",
        help="guided by coverage, at random with memory judged, or half of each (default: %(default)s)",
    )
    parser.add_argument("--save-in", type=Path, default=Path(), help="folder for inputs that break something")
    parser.add_argument("--invented-names", type=int, metavar="N", help="instead: N names that nobody has, in a row")
    return parser.parse_args()


if __name__ == "__main__":
    main()
