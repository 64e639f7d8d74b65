"""The whole fleet at one moment: who does what, and which watches a viewer asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from streamer.bouts import NO_WINDOW
from streamer.standing import Standing
from streamer.tracking import NONE

Order = Literal["name", "changed", "unsure", "quiet"]
#: Watches of one page at most.
MOST_SHOWN: Final = 60

_DIGITS: Final = re.compile(r"(\d+)")


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which watches a viewer wants to see.

    Attributes:
        q: part of their names, whatever its case; empty for any.
        activity: label or group, `unknown`, `none` for watches outside any bout; empty for any.
        order: by name; by latest change of activity; least sure first; longest unheard of first.
        first: how many of them to leave out.
        count: how many to show.
        watch: the one to show in detail; empty for none.
    """

    q: Annotated[str, Meta(max_length=64)] = ""
    activity: Annotated[str, Meta(max_length=64)] = ""
    order: Order = "name"
    first: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    count: Annotated[int, Meta(ge=0, le=MOST_SHOWN)] = MOST_SHOWN
    watch: Annotated[str, Meta(max_length=64)] = ""


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """The part of a fleet that a viewer sees: names in order, how many match in all, and how many are before these."""

    devices: list[str]
    matching: int
    first: int


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """A fleet at one moment.

    Attributes:
        at_ns: that moment.
        standing: of all watches, in natural order of their names.
        heard_ns: (n,) int64, when each was last heard of.
        silent: (n,) bool, True for those that are not waited for any more.
        counts: watches by activity: one number for each label and group, then unknown, then those outside any bout.
    """

    at_ns: int
    standing: Standing
    heard_ns: NDArray[np.int64]
    silent: NDArray[np.bool_]
    counts: list[int]

    def page(self, query: Query, labels: Sequence[str]) -> Page:
        """The watches that a query asks for.

        Args:
            query: what is asked.
            labels: the model's, behind them the groups that it tells, and unknown.
        """
        devices, chosen = self.standing.devices, np.ones(len(self.heard_ns), np.bool_)
        if query.q:
            wanted = query.q.lower()
            chosen &= np.fromiter((wanted in name.lower() for name in devices), np.bool_, len(devices))
        if query.activity:
            number = labels.index(query.activity) if query.activity in labels else NONE
            chosen &= self.standing.activity == number
        rows = np.flatnonzero(chosen)
        if query.order != "name":
            # Stable, so that equals stay in the order of their names.
            rows = rows[np.argsort(self._keys(query.order)[rows], kind="stable")]
        # Past the end, as when watches have gone: the last page.
        first = min(query.first, max(len(rows) - 1, 0) // max(query.count, 1) * query.count)
        return Page([devices[row] for row in rows[first : first + query.count].tolist()], len(rows), first)

    def _keys(self, order: Order) -> NDArray[np.float64] | NDArray[np.int64]:
        if order == "changed":
            in_bout = self.standing.activity != NONE
            return np.where(in_bout, -self.standing.onset_ns, np.iinfo(np.int64).max)
        if order == "unsure":
            judged = (self.standing.activity != NONE) & (self.standing.latest_ns != NO_WINDOW)
            return np.where(judged, self.standing.confidence, 2.0)
        return self.heard_ns


def natural(name: str) -> tuple[str | int, ...]:
    """What to sort names by, so that numbers in them count as numbers.

    >>> sorted(["watch-10", "watch-9", "Anna"], key=natural)
    ['Anna', 'watch-9', 'watch-10']
    """
    # Odd places are numbers, even ones are not, so that a number never meets a text.
    return tuple(int(part) if i % 2 else part for i, part in enumerate(_DIGITS.split(name.lower())))
