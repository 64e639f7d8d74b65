"""The watches as a table for a terminal: who does what, how surely, at which rate, and how they move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TextIO

import numpy as np
from rich.console import Console
from rich.text import Text

from streamer import clock
from streamer.imu import STANDARD_GRAVITY
from streamer.live.board import Board
from streamer.live.documents import Row
from streamer.live.survey import MOST_SHOWN, Query
from streamer.live.traces import Piece
from streamer.tracking import NONE

#: Time of one letter of a spark line: short enough for steps to show.
_COLUMN_MS: Final = 250
#: The spark line's letters, from rest on. They grow with the root of what a peak has over gravity, so that gestures
#: show besides steps; the last is for this much, a run.
_LETTERS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_LETTERS: Final = "_.-=+*%#"
_FULL_MS2: Final = 30.0
#: Of a piece's readings: time, then x, y and z in hundredths of m/s².
_FIELDS: Final = 4
#: Columns, those with numbers with their widths.
_NUMBERS: Final = {"sure": 4, "for": 7, "Hz": 5}
_HEADS: Final = ("watch", "activity", *_NUMBERS, "acceleration", "")
_SPARK: Final = _HEADS.index("acceleration")
_LONGEST_NAME: Final = 24
#: Of names and activities, where there is little room.
_SHORT: Final = 14
_SHORTEST_SPARK, _LONGEST_SPARK, _SHORTEST_REMARK = 8, 40, 20
#: Lines that are no watches: title, heads of columns, and what is left out.
_FRAME: Final = 3
_COLOURS: Final = ("green", "cyan", "yellow", "magenta", "blue", "bright_red", "bright_cyan", "bright_yellow")


class WatchTable:
    """Draws a board; a watch that is not shown costs nothing.

    State: what the terminal can show.
    """

    def __init__(self, board: Board, unready: Callable[[], str | None], *, title: str, stream: TextIO) -> None:
        """Nothing is drawn yet.

        Args:
            board: what is known of the watches.
            unready: why nothing is recognized, None when it is.
            title: what else to say above the table.
            stream: the terminal; colours follow from it, and from NO_COLOR.
        """
        self._board = board
        self._unready = unready
        self._title = title
        self._console = Console(file=stream, highlight=False)
        has_all = (stream.encoding or "").lower().startswith("utf")
        self._letters, self._cut = (_LETTERS, "…") if has_all else (_PLAIN_LETTERS, "~")

    def draw(self, width: int, most: int) -> list[str]:
        """The table's lines.

        Args:
            width: of the terminal.
            most: lines that it may have.
        """
        now_ns = clock.now_ns()
        survey = self._board.survey(now_ns)
        watches, room = len(survey.heard_ns), min(max(most - _FRAME, 1), MOST_SHOWN)
        # While all of them have a place nobody changes it; else those are shown to whom something happened.
        page = survey.page(Query(order="name" if watches <= room else "changed", count=room), self._board.labels)
        self._board.traces.look_at(page.devices, now_ns)
        widths = self._widths(width, page.devices)
        # One text and one call: rich's own tables take three times as long, and the service waits meanwhile.
        text = Text(no_wrap=True, overflow="ellipsis", end="")
        text.append_text(self._head(watches))
        self._append(text, _HEADS, ["dim"] * len(_HEADS), widths)
        for row in self._board.rows(page.devices, now_ns):
            cells, colour = self._cells(row, widths[_SPARK])
            styles = ["", colour, "", "", "", "", "dim"]
            self._append(text, cells, ["dim"] * len(cells) if row.silent else styles, widths)
        if watches > len(page.devices):
            text.append(f"\n{watches - len(page.devices):,} more; those that changed last are shown", "dim")
        with self._console.capture() as captured:
            self._console.print(text, width=width, no_wrap=True, overflow="ellipsis", crop=True)
        return captured.get().splitlines()[:most]

    def _append(self, text: Text, cells: Sequence[str], styles: Sequence[str], widths: Sequence[int]) -> None:
        """Add a line."""
        text.append("\n")
        gap = ""
        for head, cell, style, width in zip(_HEADS, cells, styles, widths, strict=False):
            shown = cell if len(cell) <= width else f"{cell[: width - 1]}{self._cut}"
            text.append(gap)
            text.append(shown.rjust(width) if head in _NUMBERS else shown.ljust(width), style)
            gap = "  "

    def _widths(self, width: int, devices: Sequence[str]) -> list[int]:
        """Widths of the columns: the spark line takes what there is, up to its longest; the rest is for remarks."""
        names, labels = [len(_HEADS[0]), *map(len, devices)], max(map(len, self._board.labels))
        widths = [min(max(names), _LONGEST_NAME), labels, *(max(len(head), n) for head, n in _NUMBERS.items())]
        left = width - sum(widths) - 2 * len(widths)
        if left < _SHORTEST_SPARK:
            widths[:2] = [min(widths[0], _SHORT), min(labels, _SHORT)]
            left = width - sum(widths) - 2 * len(widths)
        widths.append(min(max(left, 1), _LONGEST_SPARK))
        remark = left - widths[-1] - 2
        return [*widths, remark] if remark >= _SHORTEST_REMARK else widths

    def _head(self, watches: int) -> Text:
        unready = self._unready()
        if unready is not None:
            return Text(unready, "red")
        said = f"{watches:,} watch{'' if watches == 1 else 'es'}" if watches else "waiting for readings"
        return Text.assemble((said, "bold"), (f"  {self._title}", "dim"))

    def _cells(self, row: Row, spark_width: int) -> tuple[list[str], str]:
        """A watch's cells, and the style of its activity."""
        labels = self._board.labels
        traces = self._board.traces.of(row.name)
        pieces = () if traces is None or row.silent else traces.acc.pieces
        drawn = spark(pieces, row.newest, spark_width, self._letters)
        rate = "" if row.rate is None or row.silent else f"{row.rate:.4g}"
        if row.activity == NONE:
            return [row.name, "", "", "", rate, drawn, row.why], ""
        lasted = "" if row.newest is None else _span(row.newest - row.onset)
        colour = "dim" if row.activity == len(labels) - 1 else _COLOURS[row.activity % len(_COLOURS)]
        # A group is said in another voice than an activity.
        colour = f"italic {colour}" if labels[row.activity] in self._board.groups else colour
        return [row.name, labels[row.activity], f"{row.confidence:.2f}", lasted, rate, drawn, row.why], colour


def spark(pieces: Iterable[Piece], newest_ms: int | None, width: int, letters: Sequence[str]) -> str:
    """The peaks of acceleration over the last `width` quarters of a second; a space where there are no readings.

    Args:
        pieces: accelerations, see `Piece`.
        newest_ms: the latest time of all.
        width: letters.
        letters: from rest to the strongest motion.

    >>> still, moved = [0, 0, 0, 981], [0, 1500, 0, 2000]
    >>> spark([Piece(1, 1000, still), Piece(2, 1500, moved)], 1500, 4, "_.-=+*%#")
    ' _ *'
    """
    peaks = [-1.0] * width
    last = 0 if newest_ms is None else newest_ms // _COLUMN_MS
    for piece in pieces:
        rows = np.asarray(piece.readings, np.int64).reshape(-1, _FIELDS)
        magnitudes = np.sqrt((rows[:, 1:] ** 2).sum(axis=1)) / 100
        for t_ms, magnitude in zip(rows[:, 0].tolist(), magnitudes.tolist(), strict=True):
            place = width - 1 - last + (piece.start_ms + t_ms) // _COLUMN_MS
            if 0 <= place < width:
                peaks[place] = max(peaks[place], magnitude)
    top = len(letters) - 1
    steps = (round(top * min(max((peak - STANDARD_GRAVITY) / _FULL_MS2, 0), 1) ** 0.5) for peak in peaks)
    return "".join(" " if peak < 0 else letters[step] for peak, step in zip(peaks, steps, strict=True))


def _span(ms: int) -> str:
    """A duration, short.

    >>> _span(7_200), _span(192_000), _span(7_260_000)
    ('0:07', '3:12', '2:01:00')
    """
    minutes, seconds = divmod(max(ms, 0) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
