"""Structure-of-arrays state: one row per watch in each of a stage's arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

#: Some watches' state in one stage, by attribute.
SlotState = dict[str, NDArray[np.generic]]


class Slots:
    """A stage whose attributes named in ARRAYS have one row per slot.

    Rows are not cleared on growth: whoever hands out a slot resets it first.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ()

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` slots."""
        for name in self.ARRAYS:
            array: NDArray[Any] = getattr(self, name)
            more = np.zeros((capacity - len(array), *array.shape[1:]), array.dtype)
            setattr(self, name, np.concatenate([array, more]))

    def reset(self, slot: int) -> None:
        """Forget everything about a slot."""
        raise NotImplementedError

    def export_rows(self, rows: NDArray[np.int64]) -> SlotState:
        """A copy of some slots' rows.

        Args:
            rows: (n,) int64, distinct slots.
        """
        return {name: getattr(self, name)[rows] for name in self.ARRAYS}

    def import_rows(self, rows: NDArray[np.int64], state: Mapping[str, NDArray[np.generic]]) -> None:
        """Put what `export_rows` gave into as many slots.

        Args:
            rows: (n,) int64, distinct slots.
            state: of n slots.
        """
        for name in self.ARRAYS:
            getattr(self, name)[rows] = state[name]
