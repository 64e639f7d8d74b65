"""Several processes for one fleet: each follows the watches whose names fall to it, and drops the rest unread.

Wildcards cannot hash, and shared subscriptions spread one watch over their members, so every worker subscribes to
everything. A message that is another's costs it the taking apart of a packet and a look at its topic, some 5 µs; it
is acknowledged with the worker's own. Of a topic that names no device, which the payload then does, every worker has
to read the name in each message. `python -m tests.benchmarks --rows 14` compares two workers with one. A worker is
a service of its own: its client id and its HTTP port are the settings' with its number added.
"""

from __future__ import annotations

import multiprocessing
import signal
import zlib
from collections.abc import Callable
from multiprocessing.connection import wait

import msgspec

from streamer.config import EMBEDDED, Settings
from streamer.errors import ConfigError, HarError
from streamer.wire import topics


class WorkerError(HarError):
    """A worker ended by itself, so the others were stopped."""


def worker_of(device: str, workers: int) -> int:
    """To whom a device falls: by a checksum of its name, the same everywhere and always."""
    return zlib.crc32(device.encode()) % workers


def is_own(topic: str, *, worker: int, workers: int) -> bool:
    """Whether a topic's messages may fall to a worker: those of a topic that names no device may fall to any.

    >>> [is_own(f"har/v1/watch-{i}/imu", worker=0, workers=2) for i in range(8)]
    [False, False, False, False, True, True, True, True]
    """
    device = topics.device_level(topic)
    return device is None or worker_of(device, workers) == worker


def settings_of(settings: Settings, worker: int) -> Settings:
    """The settings of one worker."""
    return msgspec.structs.replace(
        settings,
        client_id=f"{settings.client_id}-{worker}",
        http_port=settings.http_port + worker if settings.http_port else 0,
    )


def run_workers(settings: Settings, run_one: Callable[[Settings, int], None]) -> None:
    """Run `settings.workers` processes until they are told to stop, or one ends by itself.

    Args:
        settings: the whole's.
        run_one: what a worker does with its settings and number; must be importable in a fresh process.

    Raises:
        ConfigError: the settings and several workers exclude each other.
        WorkerError: a worker failed.
    """
    if settings.demo or settings.broker == EMBEDDED:
        raise ConfigError(f"workers is {settings.workers} with an embedded broker; expected a broker of its own, or 1")
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(
            target=run_one, args=(settings_of(settings, number), number), name=f"worker-{number}", daemon=True
        )
        for number in range(settings.workers)
    ]

    def stop(*_signal: object) -> None:
        for process in processes:
            if process.is_alive():
                process.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    for process in processes:
        process.start()
    alive = set(processes)
    while alive:
        wait([process.sentinel for process in alive])
        ended = {process for process in alive if not process.is_alive()}
        alive -= ended
        if any(process.exitcode for process in ended):
            # Half a fleet followed is worse than a restart by whoever watches over the service.
            stop()
    failed = [f"{process.name} ended with status {process.exitcode}" for process in processes if process.exitcode]
    if failed:
        raise WorkerError(", ".join(failed))
