"""Tables that come in several messages, and clocks that count from a start of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.errors import PayloadError, RejectReason
from streamer.wire.readings import MAX_T_NS
from streamer.wire.senders.phyphox import streams_of
from streamer.wire.senders.streams import Sent, Stream, seconds

#: A device that says that it was started at another time by more than this was; less is the jitter of its saying so.
_RESTART_NS: Final = 2_000_000_000
#: Tables in a row that lack a column, after which that is taken to come no more.
_MOST_TORN: Final = 3


class Table(msgspec.Struct, array_like=True):
    """Columns that come one by one.

    Attributes:
        columns: those that are there, as bytes, in the order of arrival.
        named: those that make the table whole.
        torn: tables in a row that did not become whole.
    """

    columns: dict[str, bytes] = {}
    named: list[str] = []
    torn: int = 0

    def join(self, sent: Sent) -> Sent:
        """The message itself, or the table that its column makes whole.

        The order of columns is the app's own and always the same; where it begins shows when a name comes again.

        Raises:
            PayloadError: the table does not fit together.
        """
        if sent.column is None:
            return sent
        table = self._with(*sent.column)
        if not table:
            return sent
        columns = {name: np.frombuffer(raw, np.float64) for name, raw in table.items()}
        utc = columns.pop("utc", None)
        try:
            streams = streams_of(columns)
        except PayloadError as error:
            if error.reason == RejectReason.SHAPE and not self.columns:
                # It began in the midst of a sending: what fits together at its end is the next one's.
                while not _fit(table):
                    del table[next(iter(table))]
                self.columns = table
            raise
        if utc is None or not len(utc) or not np.isfinite(utc[-1]):
            return replace(sent, streams=streams)
        latest_ns = max((int(stream.t_ns[-1]) for stream in streams), default=0)
        return replace(sent, streams=streams, start_ns=seconds("utc", float(utc[-1])) - latest_ns)

    def _with(self, name: str, values: NDArray[np.float64]) -> dict[str, bytes]:
        """Put a column in; the whole table if it makes one."""
        whole: dict[str, bytes] = {}
        if name in self.columns:
            self.torn += 1
            if not self.named:
                whole = self.columns
            if not self.named or self.torn >= _MOST_TORN:
                self.named, self.torn = list(self.columns), 0
            self.columns = {}
        self.columns[name] = values.tobytes()
        if self.named and self.columns.keys() >= set(self.named):
            whole, self.columns, self.torn = self.columns, {}, 0
        return whole


def _fit(columns: Mapping[str, bytes]) -> bool:
    """Whether columns that belong together are equally long; a time without a sensor belongs to all."""
    kinds = {name.partition("_")[0] if "t" not in columns else "" for name in columns if name != "utc"}
    return all(len({len(c) for name, c in columns.items() if name != "utc" and name.startswith(k)}) == 1 for k in kinds)


def dated(sent: Sent, start_ns: int | None) -> tuple[tuple[Stream, ...], int | None]:
    """Streams whose times are of the UTC epoch, and when the sender's clock was 0.

    Args:
        sent: a message.
        start_ns: when its sender's clock was 0 by the messages before, None for not known.

    Raises:
        PayloadError: a time is out of range.
    """
    if sent.start_ns is None:
        return sent.streams, start_ns
    if start_ns is None or abs(sent.start_ns - start_ns) > _RESTART_NS:
        start_ns = sent.start_ns
    for stream in sent.streams:
        if len(stream) and not 0 <= int(stream.t_ns.min()) + start_ns <= int(stream.t_ns.max()) + start_ns < MAX_T_NS:
            raise PayloadError(RejectReason.TIME_RANGE, f"{sent.format}: expected times from 1970 to 2116")
    return tuple(stream.shifted(start_ns) for stream in sent.streams), start_ns
