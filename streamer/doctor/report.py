"""The report: lines for people as the findings come, or one JSON document."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from typing import Final

import msgspec

from streamer.config import Settings
from streamer.doctor.finding import Finding, Status

_COLOUR: Final[dict[Status, str]] = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
_WIDTHS: Final = (8, 10)
#: The findings' column, for the next steps below them.
_INDENT: Final = " " * (sum(_WIDTHS) + 2)
_LEAST_WIDTH: Final = 20


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints.

    Attributes:
        schema: version of this document.
        ok: nothing failed.
        broker: where was looked.
    """

    schema: int
    ok: bool
    broker: str
    topic: tuple[str, ...]
    model: str
    findings: tuple[Finding, ...]


def print_lines(settings: Settings, findings: Iterable[Finding], listening: Listening) -> bool:
    """A line for each finding as it comes, and one for its next step; whether nothing failed."""
    from rich.console import Console  # noqa: PLC0415 - a tenth of a second, for this command only

    console = Console(highlight=False, soft_wrap=True)
    counts: dict[Status, int] = {"ok": 0, "warning": 0, "failed": 0, "skipped": 0}
    console.print(f"{_place(settings)}, topic {', '.join(settings.topic)}, model {settings.model}", markup=False)
    for finding in findings:
        listening.clear()
        counts[finding.status] += 1
        # In a pipe each is one line, however long.
        width = console.width - len(_INDENT) if console.is_terminal else None
        console.print(f"{finding.status:{_WIDTHS[0]}}", style=_COLOUR[finding.status], end=" ")
        console.print(f"{finding.check:{_WIDTHS[1]}} {_folded(finding.says, width)}", markup=False)
        if finding.next:
            console.print(f"{_INDENT}{_folded(f'next: {finding.next}', width)}", markup=False, style="bold")
    listening.clear()
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    console.print(told, markup=False)
    return not counts["failed"]


def _folded(text: str, width: int | None) -> str:
    """A text in lines of a width, each below the other; in one where there is no width, or next to none.

    >>> print(_folded("nothing listens at 127.0.0.1:1", 24))
    nothing listens at
                        127.0.0.1:1
    """
    if width is None or width < _LEAST_WIDTH:
        return text
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return f"\n{_INDENT}".join(lines)


def print_json(settings: Settings, findings: Iterable[Finding]) -> bool:
    """One document; whether nothing failed."""
    found = tuple(findings)
    good = all(finding.status != "failed" for finding in found)
    report = Report(
        schema=1,
        ok=good,
        broker=_place(settings),
        topic=settings.topic,
        model=settings.model,
        findings=found,
    )
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    sys.stdout.buffer.flush()
    return good


class Listening:
    """Says on a terminal for how long the doctor goes on listening; nothing elsewhere.

    State: whether its line is on the screen.
    """

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown = ""

    def tell(self, left_s: float, messages: int) -> None:
        """Take the seconds left and the messages so far."""
        text = f"listening for {left_s:.0f} s more, {messages} messages so far"
        if self._is_terminal and text != self._shown:
            self.clear()
            self._write(text)
            self._shown = text

    def clear(self) -> None:
        """Take the line off the screen."""
        if self._shown:
            self._write(f"\r{' ' * len(self._shown)}\r")
            self._shown = ""

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _place(settings: Settings) -> str:
    return f"broker {settings.broker}" if settings.broker == "embedded" else f"broker {settings.broker}:{settings.port}"
