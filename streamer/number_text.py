"""Numbers in text to arrays, an order of magnitude faster than line by line."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Separators of the formats read here, each turned into the blank that the parser splits at.
_TO_BLANKS: Final = bytes.maketrans(b",;\r\n\t", b"     ")


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
