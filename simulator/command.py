"""`simulator replay`, from its options to its summary."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from simulator.datasets.location import data_root
from simulator.faults import parse_fault
from simulator.progress import of_replay
from simulator.replay import Format, Pacer, Progress, replay
from simulator.session import Broker, open_session
from simulator.sources import Selection, Split, load
from simulator.watches import Copy, fleet, in_time_order
from streamer.errors import ConfigError, nearest
from streamer.imu import ImuBatch

_NANOSECONDS: Final = 1_000_000_000
_LIVE_BATCH_S: Final = 0.5
#: Nobody waits for a reading of a replay at full speed. Sensors with messages of their own must not drift further apart
#: than the service waits for the slower one, which is 10 s.
_FASTEST_BATCH_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """The command line's options; see `simulator replay --help`."""

    source: str
    broker: Broker
    subject: str | None = None
    split: Split | None = None
    devices: int | None = None
    speed: str = "1"
    batch: int | None = None
    payload_format: Format = "json"
    start: str = "recorded"
    duration_s: float | None = None
    preroll_s: float = 0.0
    seed: int = 0
    rate_hz: int = 50
    activities: tuple[str, ...] = ()
    name: str | None = None
    faults: tuple[str, ...] = ()


def run_replay(options: ReplayOptions) -> Progress:
    """Replay as the options say, with a progress bar on a terminal; Ctrl-C and SIGTERM end it early.

    Raises:
        ConfigError: an option or a file is wrong.
        BrokerError: the broker stays away, or a service does not answer.
    """
    speed = parse_speed(options.speed)
    faults = [parse_fault(text) for text in options.faults]
    selection = Selection(
        options.subject, options.split, options.devices, options.seed, options.rate_hz, options.activities
    )
    originals = load(options.source, data_root(), selection)
    start_ns = parse_start(options.start, time.time_ns(), options.preroll_s)
    watches = fleet(originals, devices=options.devices, start_ns=start_ns, name=options.name)
    batches: Iterable[ImuBatch] = in_time_order(
        watches, options.batch, batch_s=_FASTEST_BATCH_S if speed is None else _LIVE_BATCH_S
    )
    rng = np.random.default_rng(options.seed)
    for fault in faults:
        batches = fault(batches, rng)
    if speed is None and _length_s(options, watches) is None:
        raise ConfigError(f"--speed max: {options.source} has no end; expected --duration SECONDS with it")
    progress = Progress(devices=len(watches))
    pacer = Pacer(speed, options.preroll_s)

    async def send() -> None:
        async with open_session(options.broker) as session:
            with of_replay(options.source, _length_s(options, watches)) as on_progress:
                await replay(
                    session,
                    batches,
                    pacer,
                    progress,
                    start_ns=min(watch.first_due_ns for watch in watches),
                    duration_s=options.duration_s,
                    payload_format=options.payload_format,
                    on_progress=on_progress,
                )

    asyncio.run(_until_signal(send))
    return progress


def parse_speed(text: str) -> float | None:
    """Recorded seconds per second; None for `max`.

    Raises:
        ConfigError: neither `max` nor a positive number.
    """
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise ConfigError(f"--speed {text}: expected a positive number or max{nearest(text, ['max'])}")
    return speed


def parse_start(text: str, now_ns: int, preroll_s: float) -> int | None:
    """Where the first reading is moved to; None for `recorded`.

    Raises:
        ConfigError: neither `recorded`, `now` nor an ISO 8601 time.
    """
    if text == "recorded":
        return None
    if text == "now":
        return now_ns - round(preroll_s * _NANOSECONDS)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        meant = nearest(text, ["recorded", "now"])
        raise ConfigError(
            f"--start {text}: expected recorded, now or a time such as 2026-01-31T12:00:00Z{meant}"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * _NANOSECONDS + since.microseconds * 1000


async def _until_signal(send: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run to the end or to the first SIGINT or SIGTERM."""
    sending = asyncio.create_task(send())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, sending.cancel)
    await asyncio.wait({sending})
    if not sending.cancelled():
        sending.result()


def _length_s(options: ReplayOptions, watches: Sequence[Copy]) -> float | None:
    """Recorded time to replay, None for without end."""
    ends_ns = [watch.last_due_ns for watch in watches if watch.last_due_ns is not None]
    if len(ends_ns) < len(watches):
        return options.duration_s
    whole_s = (max(ends_ns) - min(watch.first_due_ns for watch in watches)) / _NANOSECONDS
    return whole_s if options.duration_s is None else min(whole_s, options.duration_s)
