"""`simulator record`, from its options to its summary."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path

from simulator.captures import CaptureFile, open_capture
from simulator.progress import of_recording
from simulator.record import Captured, Recorder, record
from simulator.session import Broker
from streamer.activities import ACTIVITIES, check_activity
from streamer.commandline import say
from streamer.errors import HarError, nearest
from streamer.wire import topics


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordOptions:
    """The command line's options; see `simulator record --help`."""

    broker: Broker
    out: Path
    label: str | None = None
    devices: tuple[str, ...] = ()
    filters: tuple[str, ...] = topics.DEFAULT_FILTERS
    duration_s: float | None = None
    force: bool = False


class NothingCameError(HarError):
    """No watch sent anything while it was recorded."""


def run_record(options: RecordOptions) -> tuple[Captured, Path]:
    """Record as the options say, with a line of progress on a terminal; Ctrl-C and SIGTERM end it.

    Returns:
        What was recorded, and where it is.

    Raises:
        ConfigError: an option is wrong, or the file cannot be written.
        NothingCameError: so there is no file.
        BrokerError: there is no broker, or it refuses.
        CaptureError: the file could not be written to the end.
    """
    if options.label is not None:
        check_activity(options.label, where="--label")
        if options.label not in ACTIVITIES:
            meant = nearest(options.label, ACTIVITIES)
            _say(f"{options.label} is an activity that no shipped model knows{meant}")
    file = open_capture(options.out, force=options.force)
    captured = Captured()
    try:
        captured = asyncio.run(_record(options, file, captured))
    finally:
        place = file.close()
    if place is None:
        raise NothingCameError(_why_nothing_came(options, captured))
    return captured, place


async def _record(options: RecordOptions, file: CaptureFile, captured: Captured) -> Captured:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    recorder = Recorder(file, captured, filters=options.filters, devices=options.devices, label=options.label)

    def begin() -> None:
        _say(f"recording {', '.join(options.filters)} at {options.broker.place} into {options.out}; Ctrl-C ends it")
        if options.duration_s is not None:
            loop.call_later(options.duration_s, stop.set)

    with of_recording(options.label or "recording", options.duration_s) as on_progress:
        await record(options.broker, recorder, file, stop, on_start=begin, on_progress=on_progress)
    return captured


def describe(captured: Captured, place: Path) -> list[str]:
    """Lines for people."""
    lines = []
    for device, readings in captured.readings.items():
        lines.append(f"{place}: {device}, {readings} readings")
    if captured.refused:
        refused = ", ".join(f"{number} {reason}" for reason, number in captured.refused.items())
        lines.append(f"refused: {refused}, such as: {captured.example}")
    if captured.connections > 1:
        lines.append(f"gaps: the connection was lost {captured.connections - 1} times")
    return lines


def _why_nothing_came(options: RecordOptions, captured: Captured) -> str:
    """Why there is no file, and what to look at."""
    what = f"no readings came in {captured.seconds:.0f} s on {', '.join(options.filters)} at {options.broker.place}"
    if captured.refused:
        return f"{what}: all {captured.refused.total()} messages were refused, such as: {captured.example}"
    if captured.others:
        return f"{what} from {', '.join(options.devices)}; {captured.others} messages were of other watches"
    return f"{what}; expected a watch that sends there"


def _say(line: str) -> None:
    say("simulator", line)
