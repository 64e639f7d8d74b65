"""Row 7: memory per active watch, and with far more watches than are followed at once."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final

from simulator.load_fleet import FIRST_SEQ, KINDS, Fleet, Motion
from simulator.load_mqtt import Connection
from simulator.session import Broker
from streamer.config import Settings
from streamer.wire import topics
from tests.benchmarks import proc
from tests.benchmarks.figures import Effort, Figure, Row
from tests.benchmarks.stand import Run, broker, run, service
from tests.programs import HarStream
from tests.servers import Mosquitto, wait_until

_FEW: Final = 100
_PASSERS_BY: Final = 100_000
_PER_S: Final = 2_500
_MOST_KB: Final = 12.0
_MOST_MB: Final = 1000.0
#: A service with more work than this before it holds messages that wait, whose memory is no watch's.
_BEHIND_S: Final = 0.5
_FEWER: Final = 0.75


def memory_row(effort: Effort) -> Row:
    """Resident memory of the service."""
    few = run(effort.load(_FEW), cores=effort.cores)
    fleet, many = _sustained(effort)
    per_watch_kb = (many.rss_bytes - few.rss_bytes) / (fleet - _FEW) / 1e3
    with broker(effort.cores) as mosquitto, service(mosquitto, effort.cores) as started:
        followed, most_bytes = _pass_by(mosquitto, started)
    return Row(
        number=7,
        title="resident memory of the service",
        figures=[
            Figure(
                name=f"from {_FEW} to {fleet} active watches",
                value=per_watch_kb,
                unit="kB",
                per="active watch",
                target=_MOST_KB,
            ),
            Figure(name=f"  with {_FEW} watches", value=few.rss_bytes / 1e6, unit="MB"),
            Figure(name=f"  with {fleet} watches", value=many.rss_bytes / 1e6, unit="MB"),
            Figure(name="  work before it at the end", value=many.behind_s, unit="s"),
            Figure(
                name=f"most with {_PASSERS_BY} watches seen once",
                value=most_bytes / 1e6,
                unit="MB",
                target=_MOST_MB,
            ),
            Figure(name="  watches followed at the end", value=followed, unit="watches", target=Settings().max_watches),
        ],
        notes=[
            f"as many of {effort.fleet} watches as this machine sustains: messages that wait are no watch's memory",
            f"each of the {_PASSERS_BY} sends one batch of 50 readings; {_PER_S} do so a second, instead of 28",
            "none is forgotten for its age meanwhile: the cap alone bounds them",
        ],
        others_share=max(few.others_share, many.others_share),
    )


def _sustained(effort: Effort) -> tuple[int, Run]:
    """The largest of a few fleets that the service keeps up with, and its run."""
    fleet = effort.fleet
    while True:
        many = run(effort.load(fleet), cores=effort.cores)
        if many.behind_s <= _BEHIND_S or _FEWER * fleet < 10 * _FEW:
            return fleet, many
        fleet = int(_FEWER * fleet)


def _pass_by(mosquitto: Mosquitto, started: HarStream) -> tuple[float, int]:
    """Watches followed at the end, and the most memory meanwhile, when many send one message each."""
    fleet = Fleet(devices=_PASSERS_BY, rate_hz=50, batch=50, name="passing")
    motion = Motion(fleet, "cbor", qos=0)
    most_bytes = 0
    address = Broker(mosquitto.host, mosquitto.port, qos=0)
    with closing(Connection(address, "passing")) as connection:
        begin_s = time.monotonic()
        for first in range(0, _PASSERS_BY, _PER_S // 10):
            time.sleep(max(0.0, begin_s + first / _PER_S - time.monotonic()))  # the pace
            t_ns = time.time_ns() - fleet.span_ns
            for index in range(first, first + _PER_S // 10):
                topic = topics.imu(fleet.device(index)).encode()
                connection.unsent += motion.template(index % KINDS, 0).stamped(topic, b"", t_ns, FIRST_SEQ)
            while connection.unsent:
                connection.send()
            most_bytes = max(most_bytes, proc.rss_bytes(started.process.pid))
        wait_until(lambda: started.metric("har_messages_total") >= _PASSERS_BY, "all messages", within_s=60)
        wait_until(lambda: started.metric("har_queue_messages") == 0, "queue worked off", within_s=60)
        most_bytes = max(most_bytes, proc.rss_bytes(started.process.pid))
    return started.metric("har_devices"), most_bytes
