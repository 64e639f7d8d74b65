"""The test stand: a broker and a service of its own, each on its core, under a load from this process.

The service has a core for itself; broker and load share the other. What else runs on the machine meanwhile is measured
and reported with every figure, for it cannot be kept off.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simulator.load import LoadOptions, LoadReport, Phase, run_load
from simulator.session import Broker
from tests.benchmarks import proc
from tests.programs import HarStream, samples
from tests.servers import Mosquitto, find_program, wait_until


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the service runs, and where everything else."""

    service: int
    rest: int

    @classmethod
    def available(cls) -> Cores:
        """The first and the last core that this process may use; the same one where there is only one."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A load, what came of it, and what it cost.

    Attributes:
        report: the load generator's.
        service_cpu_us: processor time of the service per watch and second, µs, after the warm-up.
        stage_us: the same split by the service's own clocks, by stage; wall time.
        service_share, broker_share, load_share, others_share: of a core, after the warm-up.
        rss_bytes: the service's resident memory when the last message was sent.
        rss_growth_bytes: that, less what it was after the warm-up.
        behind_s: how much of the load the service had yet to work off when the last message was sent.
        windows: that the service classified; dropped: messages that it or the broker dropped; late: readings.
    """

    report: LoadReport
    service_cpu_us: float
    stage_us: dict[str, float]
    service_share: float
    broker_share: float
    load_share: float
    others_share: float
    rss_bytes: int
    rss_growth_bytes: int
    behind_s: float
    windows: int
    dropped: int
    late: int

    @property
    def is_clean(self) -> bool:
        """Whether everything came once and nothing was dropped."""
        report = self.report
        return (report.lost, report.duplicate, report.unexpected, self.dropped) == (0, 0, 0, 0)


@contextmanager
def broker(cores: Cores) -> Iterator[Mosquitto]:
    """A pinned Mosquitto."""
    program = find_program("mosquitto")
    if program is None:
        raise SystemExit("mosquitto is not installed: apt-get install mosquitto")
    with tempfile.TemporaryDirectory() as folder:
        mosquitto = Mosquitto(program, Path(folder))
        mosquitto.start()
        proc.pin(mosquitto.pid, cores.rest)
        try:
            yield mosquitto
        finally:
            mosquitto.stop()


@contextmanager
def service(
    mosquitto: Mosquitto, cores: Cores, *arguments: str, keeps_state: bool = False, workers: int = 1
) -> Iterator[HarStream]:
    """A pinned service that is ready."""
    with tempfile.TemporaryDirectory() as folder:
        started = HarStream(
            Path(folder),
            "--broker",
            mosquitto.host,
            "--port",
            str(mosquitto.port),
            *arguments,
            output="none",
            state=Path(folder) / "state" if keeps_state else None,
            workers=workers,
        )
        proc.pin(started.process.pid, cores.service)
        try:
            started.wait_ready(within_s=60)
            yield started
        finally:
            started.kill()


def run(
    options: LoadOptions,
    *arguments: str,
    cores: Cores | None = None,
    qos: Literal[0, 1] = 0,
    keeps_state: bool = False,
    workers: int = 1,
) -> Run:
    """A load against a fresh broker and a fresh service.

    Args:
        options: of the load; model and published are the service's, too.
        arguments: further ones of the service.
        cores: where to run what.
        qos: of readings.
        keeps_state: whether the service keeps what survives it.
        workers: the service's, all on its core.
    """
    cores = cores or Cores.available()
    arguments = ("--model", options.model, "--publish", options.published, "--qos", str(qos), *arguments)
    with (
        broker(cores) as mosquitto,
        service(mosquitto, cores, *arguments, keeps_state=keeps_state, workers=workers) as started,
    ):
        return load(mosquitto, started, options, qos=qos)


def load(mosquitto: Mosquitto, started: HarStream, options: LoadOptions, *, qos: Literal[0, 1] = 0) -> Run:
    """A load against what is running already."""
    pid = started.process.pid
    before = _Scrape.of(started)
    marks: dict[Phase, _Mark] = {}
    scrapes: dict[Phase, Future[_Scrape]] = {}
    with ThreadPoolExecutor(1) as aside:

        def on_phase(phase: Phase) -> None:
            marks[phase] = _Mark.now(pid, mosquitto.pid)
            if phase in {"steady", "end"}:
                # Messages go on being sent and events being read meanwhile.
                scrapes[phase] = aside.submit(_Scrape.of, started)

        report = run_load(Broker(mosquitto.host, mosquitto.port, qos=qos), options, on_phase=on_phase)
        at_steady, at_end = scrapes["steady"].result(), scrapes["end"].result()
    wait_until(lambda: started.metric("har_queue_messages") == 0, "queue worked off", within_s=60)
    after = _Scrape.of(started)
    steady, end = marks["steady"], marks["end"]
    seconds = end.at_s - steady.at_s
    service_share, broker_share, load_share, machine_share = (
        (there - here) / seconds for here, there in zip(steady.cpu_s, end.cpu_s, strict=True)
    )
    watch_seconds = (at_end.readings - at_steady.readings) / report.rate_hz
    return Run(
        report=report,
        service_cpu_us=1e6 * service_share / report.devices,
        stage_us={
            stage: 1e6 * (at_end.stage_s[stage] - at_steady.stage_s[stage]) / watch_seconds for stage in at_end.stage_s
        },
        service_share=service_share,
        broker_share=broker_share,
        load_share=load_share,
        others_share=max(0.0, machine_share - service_share - broker_share - load_share),
        rss_bytes=end.rss_bytes,
        rss_growth_bytes=end.rss_bytes - steady.rss_bytes,
        behind_s=(report.messages - at_end.messages + before.messages) / report.offered_messages_per_s,
        windows=after.windows - before.windows,
        dropped=after.dropped - before.dropped,
        late=after.late - before.late,
    )


@dataclass(frozen=True, slots=True)
class _Mark:
    """A moment of a run.

    Attributes:
        at_s: monotonic.
        cpu_s: so far, of service, broker, this process and the whole machine.
        rss_bytes: of the service.
    """

    at_s: float
    cpu_s: tuple[float, float, float, float]
    rss_bytes: int

    @classmethod
    def now(cls, service_pid: int, broker_pid: int) -> _Mark:
        cpu_s = (proc.cpu_s(service_pid), proc.cpu_s(broker_pid), time.process_time(), proc.machine_cpu_s())
        return cls(time.monotonic(), cpu_s, proc.rss_bytes(service_pid))


@dataclass(frozen=True, slots=True)
class _Scrape:
    """What the service's metrics said; counts since its start.

    Attributes:
        stage_s: time by stage.
        dropped: messages, by the service or the broker.
    """

    stage_s: dict[str, float]
    messages: int
    readings: int
    windows: int
    dropped: int
    late: int

    @classmethod
    def of(cls, started: HarStream) -> _Scrape:
        samples_ = [sample for url in started.urls for sample in samples(url, timeout_s=30)]

        def total(*names: str) -> int:
            return round(sum(sample.value for sample in samples_ if sample.name in names))

        stage_s: dict[str, float] = defaultdict(float)
        for sample in samples_:
            if sample.name == "har_stage_seconds_sum":
                stage_s[sample.labels["stage"]] += sample.value
        return cls(
            stage_s,
            messages=total("har_messages_total"),
            readings=total("har_readings_total"),
            windows=total("har_windows_total"),
            dropped=total("har_dropped_messages_total", "har_broker_dropped_messages"),
            late=total("har_late_readings_total"),
        )
