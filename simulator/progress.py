"""How far a replay, a recording or a download has come, with its rate and the time that it takes yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from simulator.record import Captured
from simulator.replay import Progress
from streamer.progress import Lines, bar, left, on_terminal

#: A bar is told no more often: a fast replay sends ten thousand messages a second.
_TELL_EVERY_S: Final = 0.1


@contextmanager
def of_download(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Takes the bytes so far, and in all: a bar on a terminal, a line now and then elsewhere."""
    if not on_terminal():
        lines, began_s, first = Lines(), time.monotonic(), -1

        def say(done: int, total: int | None) -> None:
            nonlocal first
            first = done if first < 0 else first
            seconds = time.monotonic() - began_s
            lines.show(lambda: download_line(name, done, total, fetched=done - first, seconds=seconds))

        yield say
        return
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with bar(*columns) as shown:
        task = shown.add_task(name, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def of_replay(name: str, total_s: float | None) -> Iterator[Callable[[Progress], None]]:
    """Takes the state of a replay after each message: a bar on a terminal, nothing elsewhere.

    Args:
        name: of the source.
        total_s: recorded time to replay, None for without end.
    """
    if not on_terminal():
        yield lambda _: None
        return
    from rich.progress import BarColumn, TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415

    # Of a replay without end it is told how long it has been going on.
    clock = TimeElapsedColumn() if total_s is None else TimeRemainingColumn()
    columns = ("{task.description}", BarColumn(), "{task.percentage:>3.0f} %", "{task.fields[state]}", clock)
    with bar(*columns if total_s is not None else columns[:2] + columns[3:]) as shown:
        task = shown.add_task(name, total=total_s, state="")
        told_s = 0.0
        last: Progress | None = None

        def show(progress: Progress) -> None:
            nonlocal told_s, last
            last, now_s = progress, time.monotonic()
            if now_s - told_s >= _TELL_EVERY_S:
                told_s = now_s
                shown.update(task, completed=progress.recorded_s, state=replay_state(progress))

        yield show
        if last is not None:
            # The last message is due before the end of the time that was asked for.
            covered_s = last.recorded_s if last.interrupted or total_s is None else total_s
            shown.update(task, completed=covered_s, state=replay_state(last))


@contextmanager
def of_recording(name: str, total_s: float | None) -> Iterator[Callable[[Captured], None]]:
    """Takes the state of a recording a few times a second: a bar on a terminal, a line now and then elsewhere.

    Args:
        name: what is recorded.
        total_s: how long, None for without end.
    """
    if not on_terminal():
        lines = Lines()
        yield lambda captured: lines.show(lambda: f"{name}: {recording_state(captured)}")
        return
    from rich.progress import BarColumn, TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415

    clock = TimeElapsedColumn() if total_s is None else TimeRemainingColumn()
    with bar("{task.description}", BarColumn(), "{task.fields[state]}", clock) as shown:
        task = shown.add_task(name, total=total_s, state=recording_state(Captured()))
        yield lambda captured: shown.update(task, completed=captured.seconds, state=recording_state(captured))


def recording_state(captured: Captured) -> str:
    """Watches, readings and their rate.

    >>> from collections import Counter
    >>> recording_state(Captured())
    'waiting for readings'
    >>> recording_state(Captured(Counter(left=400, right=380), recent_hz=99.6, size=150_000))
    '2 watches, 780 readings, 49.8 Hz each, 0.1 MB'
    """
    watches, readings = len(captured.readings), captured.readings.total()
    parts = ["waiting for readings"]
    if watches:
        parts = [
            f"{watches} {'watch' if watches == 1 else 'watches'}",
            f"{readings:,} readings",
            f"{captured.recent_hz / watches:.1f} Hz each",
            f"{captured.size / 1e6:.1f} MB",
        ]
    if captured.refused:
        parts.append(f"{captured.refused.total()} refused")
    return ", ".join(parts)


def replay_state(progress: Progress) -> str:
    """Rate and lag of a replay.

    >>> replay_state(Progress(devices=2, readings=500, messages=10, seconds=5.0, lag_s=0.012))
    '100 readings/s, 50 Hz per watch, 12 ms behind'
    """
    per_s = progress.readings / progress.seconds if progress.seconds else 0.0
    return f"{per_s:,.0f} readings/s, {progress.achieved_hz:.3g} Hz per watch, {progress.lag_s * 1000:.0f} ms behind"


def download_line(name: str, done: int, total: int | None, *, fetched: int, seconds: float) -> str:
    """How far a download has come.

    Args:
        name: of the data set.
        done: bytes there so far, those of an earlier attempt included.
        total: bytes in all, None where the server doesn't say.
        fetched: bytes of this attempt.
        seconds: time of this attempt.

    >>> download_line("hapt", 12_000_000, 60_000_000, fetched=10_000_000, seconds=10.0)
    'hapt: 12.0 of 60.0 MB, 1.0 MB/s, 0:48 left'
    """
    of = "" if total is None else f" of {total / 1e6:.1f}"
    parts = [f"{name}: {done / 1e6:.1f}{of} MB", f"{fetched / seconds / 1e6:.1f} MB/s" if seconds else ""]
    parts.append("" if total is None else left(fetched, total - done + fetched, seconds))
    return ", ".join(part for part in parts if part)
