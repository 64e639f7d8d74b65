"""A program on a terminal of its own: a real pseudo-terminal, and what is to be seen on it, by pyte."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from typing import Final, Self

import pyte

from tests.servers import wait_until

#: Gives a program its terminal, as a shell does: it becomes the terminal's foreground, and heeds Ctrl-C even where the
#: tests were started in the background of a script, which ignores that.
_AS_A_SHELL: Final = (
    "import fcntl, os, signal, sys, termios\n"
    "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    "os.setsid()\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])\n"
)


class Terminal:
    """A program that runs on a terminal.

    State: the process, and the terminal's screen.

    Attributes:
        process: the program.
        raw: all that it has written.
    """

    def __init__(
        self,
        *command: str,
        columns: int = 100,
        lines: int = 30,
        environment: Mapping[str, str] | None = None,
        without: Sequence[str] = (),
        history: int = 500,
        foreground: bool = True,
    ) -> None:
        """Start it.

        Args:
            command: the program and its arguments.
            columns: of the terminal.
            lines: of the terminal.
            environment: besides this process's own.
            without: variables that it is not to have.
            history: lines scrolled away upwards that are kept.
            foreground: it has the terminal to itself, as what a shell runs; else as what runs behind it.
        """
        self._screen = pyte.HistoryScreen(columns or 80, lines, history=history)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = b""
        self._master, slave = os.openpty()
        self._size(columns, lines)
        variables = {name: value for name, value in os.environ.items() if name not in {*without, "NO_COLOR", "COLUMNS"}}
        variables |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **(environment or {})}
        as_a_shell = [sys.executable, "-c", _AS_A_SHELL] if foreground else []
        self.process = subprocess.Popen([*as_a_shell, *command], stdin=slave, stdout=slave, stderr=slave, env=variables)
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=20)
        self._reader.join(timeout=10)
        os.close(self._master)

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without blanks at the ends of lines."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The same in one."""
        return "\n".join(self.lines)

    @property
    def scrolled(self) -> list[str]:
        """What has scrolled away upwards."""
        with self._lock:
            rows = list(self._screen.history.top)
            return ["".join(row[x].data for x in range(self._screen.columns)).rstrip() for row in rows]

    @property
    def cursor_is_hidden(self) -> bool:
        """Whether it is."""
        with self._lock:
            return bool(self._screen.cursor.hidden)

    @property
    def echoes(self) -> bool:
        """Whether what is typed shows."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def has(self, pattern: str) -> bool:
        """Whether a line on the screen matches somewhere."""
        return any(re.search(pattern, line) for line in self.lines)

    def wait_for(self, pattern: str, *, within_s: float = 30) -> None:
        """Return once a line on the screen matches.

        Raises:
            TimeoutError: none does; the message holds the screen.
        """
        try:
            wait_until(lambda: self.has(pattern) or self.process.poll() is not None, pattern, within_s=within_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.text}") from error
        assert self.has(pattern), f"ended with {self.process.poll()} before {pattern!r} showed:\n{self.text}"

    def writes_more(self, *, within_s: float) -> bool:
        """Whether the program writes anything within a time."""
        before = len(self.raw)
        try:
            wait_until(lambda: len(self.raw) != before, "more", within_s=within_s)
        except TimeoutError:
            return False
        return True

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size; pyte does not join and break lines anew, as some terminals do."""
        with self._lock:
            self._screen.resize(lines, columns)
        self._size(columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def ended(self, *, within_s: float = 20) -> int:
        """Wait for the program's end; its exit status."""
        status = self.process.wait(timeout=within_s)
        self._reader.join(timeout=10)
        return status

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # what Linux says once nobody has the terminal open any more
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)
