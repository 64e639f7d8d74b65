"""What is known of each watch right now and of its latest quarter of an hour, for as many as there are.

    Recognizer ── Result ──▶ Board: bouts that ended          always, a line of work per bout
                             Board: readings, probabilities   of watches that somebody looks at
    Recognizer ◀── asks ──── Board: everything else           when a viewer's frame is made

No clock and no I/O: time is an argument. Nothing here changes what is recognized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from streamer.bouts import NO_WINDOW
from streamer.likeness.finding import Finding
from streamer.live.documents import Detail, Fleet, Row
from streamer.live.facts import Fact, of_clock, of_rates, of_source, trouble, without
from streamer.live.history import BoutHistory
from streamer.live.reasons import Why, in_doubt, reasons, unlike
from streamer.live.survey import Page, Survey, natural
from streamer.live.traces import Traces
from streamer.preprocessing.timelines import NEVER
from streamer.recognizer import Recognizer
from streamer.results import Result
from streamer.standing import Standing
from streamer.tracking import NONE

#: How far the timeline of bouts goes back.
HISTORY_NS: Final = 900_000_000_000
#: A fleet is looked over at most this often, however many look on.
_SURVEY_NS: Final = 1_000_000_000
_MS: Final = 1_000_000


class Board:
    """What the live page shows.

    State: the latest bouts of all watches, the traces of those that are looked at, and the latest survey.
    """

    def __init__(
        self, recognizer: Recognizer, findings_of: Callable[[str], Sequence[Finding]] = lambda _device_id: ()
    ) -> None:
        """Nothing is known yet.

        Args:
            recognizer: of the watches.
            findings_of: what in a watch's readings is unlike the training data.
        """
        self._recognizer = recognizer
        self._findings_of = findings_of
        self._watches = recognizer.watches
        self.manifest = recognizer.bundle.manifest
        self.digest = recognizer.bundle.digest
        #: What is told by number: the model's labels, the groups that it tells, unknown.
        self.labels = recognizer.bundle.activities
        self.groups = recognizer.bundle.groups
        self.traces = Traces()
        self.history = BoutHistory(self.labels, self.is_followed)
        self._survey: Survey | None = None
        #: Names in natural order, with what they are sorted by.
        self._order: dict[str, tuple[str | int, ...]] = {}

    def take(self, result: Result) -> None:
        """Take what came of a call."""
        for event in result.events:
            self.history.note(event)
        self.traces.take(result)

    def is_followed(self, device_id: str) -> bool:
        """Whether a name is a followed watch's."""
        return self._watches.slot_of(device_id) is not None

    def survey(self, now_ns: int) -> Survey:
        """The whole fleet, at most a second ago."""
        latest = self._survey
        if latest is None or not 0 <= now_ns - latest.at_ns < _SURVEY_NS:
            latest = self._survey = self._look_over(now_ns)
        return latest

    def fleet(self, survey: Survey, page: Page, unready: str | None) -> Fleet:
        """A survey in figures."""
        return Fleet(
            watches=len(survey.heard_ns),
            silent=int(survey.silent.sum()),
            waiting=self._watches.waiting,
            counts=survey.counts,
            matching=page.matching,
            first=page.first,
            unready=unready,
        )

    def rows(self, devices: Sequence[str], now_ns: int) -> list[Row]:
        """Watches as they stand at this moment; those that are not followed any more are left out."""
        standing = self._recognizer.standing(devices)
        return [self._row(standing, row, now_ns) for row in range(len(standing.devices))]

    def bouts(self, device_id: str, newest_ms: int | None) -> list[tuple[int, int, int]]:
        """A watch's bouts that have ended: number of the label, onset and end, ms."""
        return [
            (bout.activity, bout.onset_ns // _MS, bout.end_ns // _MS)
            for bout in self.history.bouts(device_id, after_ns=(newest_ms or 0) * _MS - HISTORY_NS)
        ]

    def detail(self, device_id: str, now_ns: int, *, windows_from: int, with_bouts: bool) -> Detail:
        """One watch in detail.

        Args:
            device_id: the watch.
            now_ns: by the service's clock.
            windows_from: how many of its windows the viewer has seen.
            with_bouts: tell of its bouts.
        """
        standing = self._recognizer.standing([device_id])
        if not standing.devices:
            return Detail(row=None)
        row = self._row(standing, 0, now_ns)
        traces = self.traces.of(device_id)
        bouts = self.history.bouts(device_id, after_ns=(row.newest or 0) * _MS - HISTORY_NS) if with_bouts else None
        return Detail(
            row=row,
            smoothed=np.round(standing.smoothed[0], 4).tolist(),
            reasons=self._why(standing, 0, now_ns),
            facts=self._facts(standing, row),
            windows=[] if traces is None else traces.windows.since(windows_from),
            bouts=None
            if bouts is None
            else [(b.activity, b.onset_ns // _MS, b.end_ns // _MS, round(b.confidence, 3), b.reason) for b in bouts],
        )

    def _look_over(self, now_ns: int) -> Survey:
        if self._order.keys() != set(self._watches):
            keys = {name: self._order.get(name) or natural(name) for name in self._watches}
            self._order = dict(sorted(keys.items(), key=lambda item: (item[1], item[0])))
        standing = self._recognizer.standing(self._order)
        heard = [self._last_heard(name) for name in standing.devices]
        activity = np.where(standing.activity == NONE, len(self.labels), standing.activity)
        return Survey(
            at_ns=now_ns,
            standing=standing,
            heard_ns=np.fromiter((heard_ns for heard_ns, _ in heard), np.int64, len(heard)),
            silent=np.fromiter((not is_alive for _, is_alive in heard), np.bool_, len(heard)),
            counts=np.bincount(activity, minlength=len(self.labels) + 1).tolist(),
        )

    def _last_heard(self, device_id: str) -> tuple[int, bool]:
        """Of a watch that is followed."""
        return self._watches.last_heard(device_id) or (0, False)

    def _row(self, standing: Standing, row: int, now_ns: int) -> Row:
        name = standing.devices[row]
        heard_ns, is_alive = self._last_heard(name)
        why = self._why(standing, row, now_ns)
        newest_ns = int(standing.newest_ns[row].max())
        return Row(
            name=name,
            activity=int(standing.activity[row]),
            confidence=round(float(standing.confidence[row]), 3),
            onset=int(standing.onset_ns[row]) // _MS,
            heard=heard_ns // _MS,
            newest=None if newest_ns == NEVER else newest_ns // _MS,
            rate=self._rate_hz(standing, row),
            completeness=None if standing.latest_ns[row] == NO_WINDOW else round(float(standing.completeness[row]), 3),
            silent=not is_alive,
            why=why[0].text if why else "",
            doubt=in_doubt(standing, row) if is_alive else [],
            gap=int(standing.gap_ns[row]) // _MS,
        )

    def _rate_hz(self, standing: Standing, row: int) -> float | None:
        """As seen where somebody looks, of the slowest of the model's sensors; else as it was taken to be."""
        traces = self.traces.of(standing.devices[row])
        if traces is not None:
            seen = [t.rate_hz for t in (traces.acc, traces.gyro)[: len(self.manifest.preprocessing.sensors)]]
            known = [rate for rate in seen if rate is not None]
            if known:
                return round(min(known), 1)
        taken = standing.slowest_hz(row)
        return round(taken, 1) if taken else None

    def _why(self, standing: Standing, row: int, now_ns: int) -> list[Why]:
        name = standing.devices[row]
        heard_ns, is_alive = self._last_heard(name)
        found = reasons(
            standing, row, self.manifest, self.groups, silent_s=None if is_alive else (now_ns - heard_ns) / 1e9
        )
        found = [*unlike(self._findings_of(name)), *found] if is_alive else found
        against = trouble(self._recognizer.source_of(name))
        return found if against is None else [against, *found]

    def _facts(self, standing: Standing, row: Row) -> list[Fact]:
        taken_hz = standing.slowest_hz(0)
        lacking = self.manifest.preprocessing.optional_sensors if standing.partial[0] else ()
        found = [
            *of_source(self._recognizer.source_of(row.name)),
            *of_rates(self.traces.of(row.name), taken_hz, self.manifest.preprocessing.rate_hz),
            *without(lacking),
        ]
        if row.newest is not None:
            found.append(of_clock((row.newest - row.heard) * _MS))
        return found
