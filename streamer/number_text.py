"""Numbers in text to arrays, an order of magnitude faster than line by line."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Separators of the formats read here, each turned into the blank that the parser splits at.
_TO_BLANKS: Final = bytes.maketrans(b",;\r\n\t", b"     ")
_COMMA, _NEWLINE, _POINT = b",\n."
#: Cells are cut at one width for all, so a single endless one would cost its length in every line.
LONGEST_LINE: Final = 1000
#: Times from here on overflow, or nearly.
_END_NS: Final = 2**62

Cells = NDArray[np.bytes_]


def parse_floats(text: bytes) -> NDArray[np.float64] | None:
    """All numbers of a text in which blanks, commas, semicolons and line ends separate; None if anything else is there.

    Args:
        text: ASCII; `nan` and `inf` count as numbers.

    Returns:
        (n,) float64, each the double nearest to its text.
    """
    with warnings.catch_warnings():
        # NumPy stops at the first thing that is no number and says so by a deprecation warning only.
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text.translate(_TO_BLANKS), dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


class CellTable:
    r"""Text of comma-separated cells, each line with as many as the first; lines end with a newline.

    Attributes:
        rows: number of lines.
        odd_row: first line without `columns` cells or of more than 1000 bytes, None when there is none; where there
            is one, no column can be taken.

    >>> table = CellTable(b"1,a\n20,b\n", columns=2)
    >>> table.column(0).astype(np.int64).tolist(), table.column(1).tolist()
    ([1, 20], [b'a', b'b'])
    """

    def __init__(self, text: bytes, columns: int) -> None:
        self._text = np.frombuffer(text, np.uint8)
        separators = np.flatnonzero((self._text == _COMMA) | (self._text == _NEWLINE))
        line_ends = np.flatnonzero(self._text[separators] == _NEWLINE)
        cells_per_line = np.diff(line_ends, prepend=-1)
        too_long = np.diff(separators[line_ends], prepend=-1) > LONGEST_LINE
        odd = np.flatnonzero((cells_per_line != columns) | too_long)
        self.rows = len(line_ends)
        self.odd_row = int(odd[0]) if len(odd) else None
        if self.odd_row is None:
            self._ends = separators.reshape(-1, columns)
            self._starts = (np.concatenate([[-1], separators[:-1]]) + 1).reshape(-1, columns)

    def first_longer_than(self, length: int, index: int) -> int | None:
        """First line whose cell in a column has more bytes than this, None when there is none."""
        longer = self._ends[:, index] - self._starts[:, index] > length
        return int(longer.argmax()) if longer.any() else None

    def column(self, index: int) -> Cells:
        """(rows,) byte strings."""
        return _cut(self._text, self._starts[:, index], self._ends[:, index])

    def column_ns(self, index: int) -> NDArray[np.int64]:
        """(rows,) int64 ns: a column of seconds, exact for decimals of up to nine places, more are cut off.

        Seconds with an exponent go through float64, which near the present resolves 240 ns.

        Raises:
            ValueError: a cell is not such a number, or lies beyond 2^62 ns.
        """
        cells = self.column(index)
        letters = cells.view(np.uint8).reshape(self.rows, -1)
        has_exponent = ((letters == ord("e")) | (letters == ord("E"))).any()
        if (letters == ord("-")).any() and not has_exponent:
            raise ValueError("a negative number")
        if has_exponent:
            in_ns = np.rint(cells.astype(np.float64) * 1e9)
            if not ((in_ns >= 0) & (in_ns < _END_NS)).all():
                raise ValueError("beyond 2^62 ns")
            return in_ns.astype(np.int64)
        starts, ends = self._starts[:, index], self._ends[:, index]
        has_point = (letters == _POINT).any(axis=1)
        points = np.where(has_point, starts + (letters == _POINT).argmax(axis=1), ends)
        seconds = _cut(self._text, starts, points).astype(np.int64)
        if seconds.max(initial=0) > _END_NS // 1_000_000_000:
            raise ValueError("beyond 2^62 ns")
        fraction = _cut(self._text, np.minimum(points + 1, ends), ends, width=9, fill=ord("0")).astype(np.int64)
        return seconds * 1_000_000_000 + fraction


def _cut(
    text: NDArray[np.uint8], starts: NDArray[np.intp], ends: NDArray[np.intp], *, width: int = 0, fill: int = 0
) -> Cells:
    """The pieces text[start:end], cut or filled up to one width (that of the longest when 0)."""
    lengths = ends - starts
    width = width or max(int(lengths.max(initial=0)), 1)
    # Windows that begin near the end of the text reach beyond it.
    padded = np.concatenate([text, np.zeros(width, np.uint8)])
    pieces = np.lib.stride_tricks.sliding_window_view(padded, width)[starts]
    pieces[np.arange(width) >= lengths[:, None]] = fill
    return pieces.view(f"S{width}")[:, 0]
