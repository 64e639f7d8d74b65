"""`har-stream` with a clock that can be stepped, a moment to die at, a look inside, and room for sabotage.

    python -m tests.chaos.program CONTROL [har-stream's arguments]

CONTROL is a small file mapped into memory, by which the harness steers the process. Everything else is the service as
it is.
"""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: Moments during the writing of state at which the process can be made to die; 0 is never.
MOMENTS: Final = (
    "never",
    "half of a record written",
    "half of a snapshot written",
    "snapshot without its name",
    "snapshot with its name",
    "journal forgotten",
)
SABOTAGE_VARIABLE: Final = "CHAOS_SABOTAGE"
#: Seconds of work after which a snapshot is due, in place of the service's own.
WORK_VARIABLE: Final = "CHAOS_LEAST_WORK_S"
_NUMBER: Final = struct.Struct("<q")
#: The file's numbers, 8 bytes each.
_CLOCK, _MOMENT, _ASKED, _ANSWERED, _TASKS = range(5)
_BYTES: Final = 5 * _NUMBER.size
_LOOK_S: Final = 0.2


class Control:
    """The file by which the harness steers the program; one of them at each end.

    State: the mapping.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        if not path.exists():
            path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)

    @property
    def clock_offset_ns(self) -> int:
        """By how much the program's wall clock is off."""
        return self._get(_CLOCK)

    @clock_offset_ns.setter
    def clock_offset_ns(self, offset_ns: int) -> None:
        self._set(_CLOCK, offset_ns)

    @property
    def die_at(self) -> str:
        """The moment at which the program kills itself."""
        return MOMENTS[self._get(_MOMENT)]

    @die_at.setter
    def die_at(self, moment: str) -> None:
        self._set(_MOMENT, MOMENTS.index(moment))

    def ask_tasks(self, *, meanwhile: Callable[[], None], within_s: float = 10.0) -> int:
        """How many asyncio tasks and futures the program holds that have not ended.

        Raises:
            TimeoutError: it does not answer.
        """
        asked = self._get(_ASKED) + 1
        self._set(_ASKED, asked)
        deadline_s = time.monotonic() + within_s
        while self._get(_ANSWERED) != asked:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"number of tasks: not within {within_s} s")
            meanwhile()
        return self._get(_TASKS)

    def answer(self) -> None:
        """Answer what was asked; in the program."""
        asked = self._get(_ASKED)
        if asked != self._get(_ANSWERED):
            self._set(_TASKS, sum(isinstance(o, asyncio.Future) and not o.done() for o in gc.get_objects()))
            self._set(_ANSWERED, asked)

    def _get(self, number: int) -> int:
        value: int = _NUMBER.unpack_from(self._map, number * _NUMBER.size)[0]
        return value

    def _set(self, number: int, value: int) -> None:
        _NUMBER.pack_into(self._map, number * _NUMBER.size, value)


def install(control: Control) -> None:
    """Have this process see the harness's clock, and answer it."""
    true_time_ns, true_time = time.time_ns, time.time
    time.time_ns = lambda: true_time_ns() + control.clock_offset_ns
    time.time = lambda: true_time() + control.clock_offset_ns / 1e9
    threading.Thread(target=_answer, args=(control,), name="look", daemon=True).start()


def _answer(control: Control) -> None:
    while True:
        time.sleep(_LOOK_S)
        control.answer()


def main() -> None:
    """Entry point."""
    control = Control(Path(sys.argv[1]))
    sys.argv = ["har-stream", *sys.argv[2:]]
    install(control)
    # Nothing of the service is imported before the clock is set.
    from tests.chaos.mortality import be_mortal, take_snapshots_often  # noqa: PLC0415

    be_mortal(control)
    least_work_s = os.environ.get(WORK_VARIABLE)
    if least_work_s:
        take_snapshots_often(float(least_work_s))
    sabotage = os.environ.get(SABOTAGE_VARIABLE)
    if sabotage:
        from tests.chaos.sabotage import SABOTAGES  # noqa: PLC0415

        SABOTAGES[sabotage]()
    from streamer.cli import main as har_stream  # noqa: PLC0415

    har_stream()


if __name__ == "__main__":
    main()
