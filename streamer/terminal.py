"""A few lines at the bottom of a terminal that are painted again and again, with the log scrolling above them.

    log line                     scrolls away upwards, once
    log line
    first line of the picture    painted over at each frame
    ...
    last line
    cursor                       hidden

The terminal is opened anew, so that nobody waits for it: a frame that it does not take, as after Ctrl-S, is left out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import sys
import termios
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, TextIO

_FRAME_S: Final = 0.25
#: Lines of the log that wait to be painted, and that are shown again when the terminal has another size.
_MOST_LINES: Final = 1000
_FAREWELL_S: Final = 1.0

_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # a terminal that knows this shows what lies between in one go
_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
_TO_END_OF_LINE, _BELOW, _ALL = "\x1b[K\r\n", "\x1b[J", "\x1b[2J\x1b[H"

#: Shows a line above the picture.
ShowLine = Callable[[str], None]
#: Gives the picture, given the width and the most lines it may have.
Draw = Callable[[int, int], list[str]]


def can_paint(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream is a terminal in which lines can be painted over, and which is ours just now."""
    if not stream.isatty() or environment.get("TERM", "") in {"", "dumb", "unknown"}:
        return False
    try:
        os.close(_opened(stream))
        # One that nobody looks at, as of a container in the background, has no size; its log would grow for ever.
        if not os.get_terminal_size(stream.fileno()).columns:
            return False
    except OSError:  # as of another container's terminal
        return False
    return _is_ours(stream.fileno())


def _opened(stream: TextIO) -> int:
    return os.open(os.ttyname(stream.fileno()), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)


def _is_ours(terminal: int) -> bool:
    """Whether this process is in the foreground: what is in the background must leave the terminal alone."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False


class Screen:
    """The terminal while something is painted on it.

    State: what of the log is still to be shown, how many lines of the picture are on the screen, the terminal's size
    and settings as they were, and bytes that it has not taken yet.
    """

    def __init__(self, stream: TextIO, draw: Draw) -> None:
        """Open the terminal behind a stream anew.

        Args:
            stream: the terminal, see `can_paint`.
            draw: gives the picture.

        Raises:
            OSError: it can't be.
        """
        self._terminal = _opened(stream)
        self._waiting: deque[str] = deque(maxlen=_MOST_LINES)
        self._shown: deque[str] = deque(maxlen=_MOST_LINES)
        self._unwritten = b""
        self._painted = 0
        self._size: tuple[int, int] | None = None
        self._draw = draw
        self._picture: list[str] = []
        self._before = termios.tcgetattr(self._terminal)

    def begin(self) -> None:
        """Take the terminal: what is typed does not show, as it would move the picture."""
        settings = termios.tcgetattr(self._terminal)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(self._terminal, termios.TCSANOW, settings)
        self._write(_HIDE)

    def end(self, *, keep: bool) -> None:
        """Give the terminal back, with the rest of the log.

        Args:
            keep: leave the picture standing; else it is taken off, to be painted elsewhere.
        """
        deadline = time.monotonic() + _FAREWELL_S
        while not self._flush() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.paint(anew=False)
        if not keep and self._painted:
            self._write(f"\r\x1b[{self._painted}A{_BELOW}")
            self._painted = 0
        self._write(_SHOW)
        while not self._flush() and time.monotonic() < deadline:
            time.sleep(0.01)
        with suppress(termios.error):
            if _is_ours(self._terminal):
                termios.tcsetattr(self._terminal, termios.TCSANOW, self._before)

    def close(self) -> None:
        """End, and close the terminal."""
        self.end(keep=True)
        os.close(self._terminal)

    def log(self, line: str) -> None:
        """Show a line above the picture, with the next frame."""
        self._waiting.append(line)

    def paint(self, *, anew: bool) -> None:
        """Paint a frame, unless the terminal is not ours or takes nothing.

        Args:
            anew: draw the picture; else it stays as it is while the terminal's size does.
        """
        if not _is_ours(self._terminal) or not self._flush():
            return
        try:
            size = os.get_terminal_size(self._terminal)
        except OSError:
            return
        # The last column is left free: some terminals begin a new line behind it.
        width, most = max(size.columns - 1, 1), max(size.lines - 1, 1)
        if anew or size != self._size:
            self._picture = self._draw(width, most)[:most]
        parts = [_BEGIN]
        if self._size is not None and size != self._size:
            # Lines may have been broken or joined: nobody knows where the picture is.
            parts.append(_ALL)
            room = most - len(self._picture)
            parts += [line + _TO_END_OF_LINE for line in list(self._shown)[-room:]] if room > 0 else []
        elif self._painted:
            parts.append(f"\r\x1b[{self._painted}A")
        parts += [line + _TO_END_OF_LINE for line in (*self._waiting, *self._picture)]
        parts += [_BELOW, _END]
        self._shown += self._waiting
        self._waiting.clear()
        self._painted, self._size = len(self._picture), size
        self._write("".join(parts))

    def _write(self, text: str) -> None:
        self._unwritten += text.encode("utf-8", "replace")
        self._flush()

    def _flush(self) -> bool:
        """Write what can be written at once; whether nothing is left."""
        while self._unwritten:
            if not select.select([], [self._terminal], [], 0)[1]:
                return False
            try:
                written = os.write(self._terminal, self._unwritten)
            except BlockingIOError:
                return False
            except OSError:
                # The terminal is gone; whoever waits for it waits in vain.
                self._unwritten = b""
                return True
            self._unwritten = self._unwritten[written:]
        return True


class _ToScreen(logging.Handler):
    """Shows the log's lines above the picture."""

    def __init__(self, screen: Screen, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._screen = screen
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record, which may be of several lines."""
        for line in self.format(record).splitlines():
            self._screen.log(line)


@asynccontextmanager
async def painted(stream: TextIO, draw: Draw, stop: asyncio.Event) -> AsyncIterator[ShowLine]:
    """Paints a picture four times a second until `stop` is set; what then comes of the log still goes above it.

    Args:
        stream: the terminal, see `can_paint`.
        draw: gives the picture.
        stop: from then on the picture stays as it is.

    Yields:
        What shows a line above it.

    Raises:
        OSError: the terminal can't be opened.
    """
    screen = Screen(stream, draw)
    root = logging.getLogger()
    replaced = [handler for handler in root.handlers if _writes_to_a_terminal(handler)]
    own = [_ToScreen(screen, handler.formatter) for handler in replaced]
    loop = asyncio.get_running_loop()

    def suspend() -> None:
        """Ctrl-Z: give the terminal back while stopped."""
        screen.end(keep=False)
        os.kill(os.getpid(), signal.SIGSTOP)
        screen.begin()

    screen.begin()
    for ours, theirs in zip(own, replaced, strict=True):
        root.removeHandler(theirs)
        root.addHandler(ours)
    loop.add_signal_handler(signal.SIGTSTP, suspend)
    loop.add_signal_handler(signal.SIGWINCH, lambda: screen.paint(anew=False))
    try:
        async with asyncio.TaskGroup() as tasks:
            painting = tasks.create_task(_keep_painting(screen, stop))
            yield screen.log
            painting.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        loop.remove_signal_handler(signal.SIGTSTP)
        loop.remove_signal_handler(signal.SIGWINCH)
        for ours, theirs in zip(own, replaced, strict=True):
            root.removeHandler(ours)
            root.addHandler(theirs)
        screen.close()


async def _keep_painting(screen: Screen, stop: asyncio.Event) -> None:
    while True:
        screen.paint(anew=not stop.is_set())
        await asyncio.sleep(_FRAME_S)


def _writes_to_a_terminal(handler: logging.Handler) -> bool:
    return (
        isinstance(handler, logging.StreamHandler)
        and handler.stream in {sys.stderr, sys.stdout}
        and (handler.stream.isatty())
    )
