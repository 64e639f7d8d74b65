"""What /proc says of a process and of the machine (Linux)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Processor time of the living threads of a process and its children, s; finer than the hundredths of its stat."""
    total_ns = 0
    for process in (pid, *_descendants(pid)):
        with suppress(FileNotFoundError):  # a process or a thread that has just ended
            for task in Path(f"/proc/{process}/task").iterdir():
                total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and its children; what they share counts for each."""
    statms = [Path(f"/proc/{process}/statm").read_text() for process in (pid, *_descendants(pid))]
    return sum(int(statm.split()[1]) for statm in statms) * _PAGE_BYTES


def peak_bytes(pid: int) -> int:
    """The most resident memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"/proc/{pid}/status: no VmHWM")


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return children + [grandchild for child in children for grandchild in _descendants(child)]


def machine_cpu_s() -> float:
    """Processor time of everything on the machine since its start, s."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + irq + softirq) / _TICKS_PER_S


def pin(pid: int, core: int) -> None:
    """Keep a process on one core; 0 for this one. What it starts later stays there, too."""
    os.sched_setaffinity(pid, {core})
