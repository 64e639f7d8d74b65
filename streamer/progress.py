"""How far something that takes a while has come: a bar on a terminal, now and then a line elsewhere.

It goes to standard error, so that standard output holds results only. What is logged meanwhile goes above the bar.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

#: Elsewhere than on a terminal: how long it takes to the next line, and to the first.
LINE_EVERY_S: Final = 10.0


def on_terminal() -> bool:
    """Whether a bar can be shown."""
    from rich.console import Console  # noqa: PLC0415 - takes a while, for whom it shows something

    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def bar(*columns: str | ProgressColumn, transient: bool = False) -> Iterator[Progress]:
    """A bar for as long as the context lasts; to be had on a terminal only, see `on_terminal`.

    Args:
        columns: of the bar, see rich.
        transient: leave nothing of it on the screen.
    """
    from rich.console import Console  # noqa: PLC0415 - likewise
    from rich.progress import Progress  # noqa: PLC0415 - likewise

    before = sys.stderr
    with Progress(*columns, console=Console(stderr=True), transient=transient) as shown:
        # The bar has put something in the place of standard error that prints above it; who opened it earlier does not
        # know, and would print into the bar.
        handlers = [
            handler
            for handler in logging.getLogger().handlers
            if isinstance(handler, logging.StreamHandler) and handler.stream is before
        ]
        for handler in handlers:
            handler.setStream(sys.stderr)
        try:
            yield shown
        finally:
            for handler in handlers:
                handler.setStream(before)


class Lines:
    """Says now and then how far something has come, for logs of builds and the like.

    State: when it last said so.

    >>> said = []
    >>> times = iter([0.0, 4.0, 10.0, 12.0])
    >>> lines = Lines(said.append, clock=lambda: next(times))
    >>> for done in (10, 20, 30):
    ...     lines.show(lambda: f"{done} %")
    >>> said
    ['20 %']
    """

    def __init__(
        self, say: Callable[[str], None] | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """The first line comes after LINE_EVERY_S.

        Args:
            say: takes a line; by default it is printed to standard error.
            clock: in seconds.
        """
        self._say = say or (lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201 # a command line prints
        self._clock = clock
        self._said_s = clock()

    def show(self, line: Callable[[], str]) -> None:
        """Say it, if it is time."""
        now_s = self._clock()
        if now_s - self._said_s >= LINE_EVERY_S:
            self._said_s = now_s
            self._say(line())


def left(done: float, total: float | None, seconds: float) -> str:
    """The time that it takes yet at the rate so far; empty where nobody knows.

    >>> left(25, 100, 30), left(0, 100, 30), left(5, None, 30)
    ('1:30 left', '', '')
    """
    if not done or total is None or not seconds:
        return ""
    minutes, rest = divmod(round((total - done) / done * seconds), 60)
    return f"{minutes}:{rest:02d} left"
