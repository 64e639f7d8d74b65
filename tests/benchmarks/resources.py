"""Row 13: what a deployed service takes of the machine, for the requests and limits in deploy/."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

from tests.benchmarks import proc
from tests.benchmarks.figures import Effort, Figure, Row
from tests.benchmarks.stand import broker, load
from tests.programs import HarStream

_FLEETS: Final = (1_000, 5_000)
#: Starting up leaves something to do for a moment.
_SETTLED_S: Final = 2.0


def resources_row(effort: Effort) -> Row:
    """Memory, processor and disk of a service as it is deployed: QoS 1, state kept; idle and with fleets."""
    figures: list[Figure] = []
    others: list[float] = []
    for devices in (0, *_FLEETS):
        with tempfile.TemporaryDirectory() as folder:
            found, others_share = _measure(effort, devices, Path(folder))
        figures += found
        others.append(others_share)
    return Row(
        number=13,
        title="what a deployment takes: QoS 1, state kept",
        figures=figures,
        notes=["each watch sends 50 readings of both sensors a second in one message"],
        others_share=max(others),
    )


def _measure(effort: Effort, devices: int, folder: Path) -> tuple[list[Figure], float]:
    """The figures of one fleet, and what else ran on the machine."""
    with broker(effort.cores) as mosquitto:
        address = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
        began_s = time.monotonic()
        service = HarStream(folder, *address, output="none", state=folder / "state")
        try:
            proc.pin(service.process.pid, effort.cores.service)
            service.wait_ready(within_s=60)
            ready_s = time.monotonic() - began_s
            others_share = messages_per_s = 0.0
            if devices:
                run = load(mosquitto, service, effort.load(devices), qos=1)
                share, others_share = run.service_share, run.others_share
                messages_per_s = run.report.messages_per_s or 0.0
            else:
                share = _idle_share(service.process.pid, effort.seconds)
            resident, peak = proc.rss_bytes(service.process.pid), proc.peak_bytes(service.process.pid)
            service.kill()
            if devices:
                # What was not acknowledged comes again, what was is read from the journal.
                began_s = time.monotonic()
                service = HarStream(folder, *address, name="again", output="none", state=folder / "state")
                service.wait_ready(within_s=120)
                ready_s = time.monotonic() - began_s
        finally:
            service.kill()
        kept = sum(file.stat().st_size for file in (folder / "state").rglob("*") if file.is_file())
    what = f"{devices} watches" if devices else "idle"
    return [
        Figure(name=f"{what}: messages a second", value=messages_per_s, unit=""),
        Figure(name="  processor", value=100 * share, unit="% of a core"),
        Figure(name="  resident memory", value=resident / 1e6, unit="MB"),
        Figure(name="  most of it at any time", value=peak / 1e6, unit="MB"),
        Figure(name="  state on the disk", value=kept / 1e6, unit="MB"),
        Figure(name=f"  ready after {'SIGKILL' if devices else 'the first start'}", value=ready_s, unit="s"),
    ], others_share


def _idle_share(pid: int, seconds: float) -> float:
    time.sleep(_SETTLED_S)
    before_s, from_s = proc.cpu_s(pid), time.monotonic()
    time.sleep(seconds)  # the measurement itself
    return (proc.cpu_s(pid) - before_s) / (time.monotonic() - from_s)
