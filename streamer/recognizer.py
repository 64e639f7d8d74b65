"""The pure core: messages of many watches in, activity events out.

    messages ─ decode ─ watches ─ (source) ─ align ─ filter ─ window ─ classify ─ track ─ events

No clock, no I/O, no logging: time is an argument, and the same messages give the same events however they were
grouped into calls.

Past 400 lines, since the order of a call's steps is one subject, and a watch's state belongs to who keeps the stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamer.activities import UNKNOWN
from streamer.arrays import Bout, ClassifiedWindows, batch_of, bouts_of, windows_of_events
from streamer.bouts import BoutLog
from streamer.bundle import ModelBundle
from streamer.classifier import Classifier
from streamer.errors import ConfigError, PayloadError, RejectReason
from streamer.imu import ImuBatch, joined
from streamer.preprocessing.pipeline import Preprocessor, Step, Windows, join_windows, pieces
from streamer.preprocessing.slots import Slots, SlotState
from streamer.preprocessing.timelines import SENSOR_SKEW_NS
from streamer.results import Counts, Result, Scored
from streamer.sources import Source, Sources
from streamer.standing import Standing
from streamer.tracking import NONE, ActivityTracker
from streamer.vitals import Vitals
from streamer.watch_state import Piece, WatchNotes, decode_state, encode_state
from streamer.watches import Limits, Liveness, Watches
from streamer.wire.events import ActivityEvent, Reason
from streamer.wire.payload import Message, Sent, read

#: Share of the declared least feed rate that is still taken: clocks are not exact.
_RATE_TOLERANCE: Final = 0.9
_FIRST_CAPACITY: Final = 64
_LONGEST_LOSS: Final = 1_000_000


class Recognizer:
    """Events from readings for many watches, with one bundle.

    State: a slot per watch in each stage (see `export_watch`), and which watches are followed.

    >>> from streamer.bundle import find_bundle, load_bundle
    >>> recognizer = Recognizer(load_bundle(find_bundle("wisdm-watch-cnn")))
    >>> result = recognizer.process([Message("har/v1/wrist/imu", b"not a reading")], now_ns=0)
    >>> dict(result.counts.rejects)
    {<RejectReason.FORMAT: 'format'>: 1}
    """

    def __init__(
        self,
        bundle: ModelBundle,
        *,
        limits: Limits | None = None,
        every_window: bool = False,
        mark: Callable[[str], None] | None = None,
        classifier: Classifier | None = None,
    ) -> None:
        """Build the stages.

        Args:
            bundle: the model and everything its numbers mean.
            limits: bounds on watches and time.
            every_window: also give an event for every window.
            mark: called with a stage's name when the stage is through, for somebody who has a clock.
            classifier: the bundle's, where there is one already; None to build it.

        Raises:
            BundleError: the model does not do here what the bundle says.
        """
        self.bundle = bundle
        self._limits = limits or Limits()
        self._mark = mark or (lambda _stage: None)
        self._classifier = classifier or Classifier(bundle)
        capacity = min(_FIRST_CAPACITY, self._limits.max_watches)
        self.watches = Watches(self._limits, capacity=capacity)
        self._preprocessor = Preprocessor(
            bundle.spec, capacity=capacity, lateness_ns=self._limits.lateness_ns, mark=self._mark
        )
        self._tracker = ActivityTracker(
            len(bundle.labels),
            bundle.manifest.smoothing,
            capacity=capacity,
            groups=tuple(bundle.groups.values()),
            passages=len(bundle.manifest.passages),
        )
        self._bouts = BoutLog(bundle, self._tracker, self.watches.names, capacity=capacity, every_window=every_window)
        self._notes = WatchNotes(capacity)
        self._sources = Sources()
        self._slowest_feed_hz = _RATE_TOLERANCE * bundle.manifest.min_feed_rate_hz
        self._stages: dict[str, Slots] = {
            **self._preprocessor.stages,
            "track": self._tracker,
            "bout": self._bouts,
            "notes": self._notes,
            "source": self._sources,
        }

    def process(self, messages: Sequence[Message], now_ns: int) -> Result:
        """Work off messages in their order of arrival; none of them raises.

        Args:
            messages: any number, of any watches; an empty sequence is a tick, by which watches fall silent.
            now_ns: ns since the UTC epoch; decides liveness and what lies too far ahead, nothing else.
        """
        result = Result()
        arrived: list[ImuBatch | Sent] = []
        for message in messages:
            try:
                readings = read(message)
                if type(readings) is ImuBatch:
                    self._refuse_future(readings, now_ns)
            except PayloadError as error:
                result.refuse(message, error)
            else:
                arrived.append(readings)
        self._mark("decode")
        self._recognize(arrived, now_ns, result)
        if not messages:
            self._tick(now_ns, result)
        self._take_counts(result.counts)
        return result

    def recognize(self, batches: Iterable[ImuBatch], now_ns: int) -> Result:
        """Like `process`, for readings that are decoded already."""
        result = Result()
        self._recognize(batches, now_ns, result)
        self._take_counts(result.counts)
        return result

    def classify(
        self,
        t_ns: ArrayLike,
        acc: ArrayLike | None,
        gyro: ArrayLike | None = None,
        *,
        rate_hz: float | None = None,
    ) -> list[Bout]:
        """Bouts of one recording in arrays, as they would be told live; the watches that are followed are not touched.

        Args:
            t_ns: (n,) integers, ns since any origin, ascending.
            acc: (n, 3), m/s², gravity included; None for none.
            gyro: (n, 3), rad/s; None for none.
            rate_hz: readings per second, None to tell them from the times.

        Raises:
            ValueError: the arrays are not those of readings.
        """
        return bouts_of(self._over(batch_of(t_ns, acc, gyro, rate_hz), every_window=False))

    def windows(
        self,
        t_ns: ArrayLike,
        acc: ArrayLike | None,
        gyro: ArrayLike | None = None,
        *,
        rate_hz: float | None = None,
    ) -> ClassifiedWindows:
        """Every window of one recording with the probability of each activity; arguments as of `classify`.

        Raises:
            ValueError: the arrays are not those of readings.
        """
        events = self._over(batch_of(t_ns, acc, gyro, rate_hz), every_window=True)
        return windows_of_events(events, self.bundle.labels)

    def _over(self, batch: ImuBatch, *, every_window: bool) -> list[ActivityEvent]:
        """Events of one recording by a recognizer of its own."""
        apart = Recognizer(self.bundle, every_window=every_window, classifier=self._classifier)
        events = [event for piece in pieces([batch]) for event in apart.recognize([piece], 0).events]
        return events + apart.finish("end_of_recording").events

    def finish(self, reason: Reason) -> Result:
        """Work off what is held back and end every bout; the watches stay known."""
        result = Result()
        slots = [slot for name in self.watches if (slot := self.watches.slot_of(name)) is not None]
        self._flush(slots, result)
        for slot in slots:
            self._end_bout(slot, reason, result)
        self._take_counts(result.counts)
        return result

    def closing(self, reason: Reason) -> list[ActivityEvent]:
        """What would end every bout as it stands; nothing is changed."""
        slots = [slot for name in self.watches if (slot := self.watches.slot_of(name)) is not None]
        return [event for slot in slots for event in self._bouts.end(slot, reason)]

    def standing(self, devices: Iterable[str]) -> Standing:
        """How watches stand at this moment; names that are not followed are left out, and nothing is changed."""
        slots = {name: slot for name in devices if (slot := self.watches.slot_of(name)) is not None}
        rows = np.fromiter(slots.values(), np.int64, len(slots))
        tracker, bouts, aligner = self._tracker, self._bouts, self._preprocessor.aligner
        smoothed = np.where(tracker.started[rows, None], tracker.smoothed[rows], 0.0)
        return Standing(
            devices=tuple(slots),
            activity=tracker.activity[rows],
            onset_ns=tracker.onset_ns[rows],
            confidence=bouts.confidence[rows],
            completeness=bouts.completeness[rows],
            latest_ns=bouts.window_start_ns[rows],
            smoothed=smoothed[:, : tracker.labels],
            passing=smoothed[:, tracker.labels : tracker.labels + tracker.passages],
            challenger=tracker.challenger[rows],
            lead=tracker.lead[rows],
            gap_ns=bouts.gap_ns[rows],
            restart_gap_ns=bouts.restart_gap_ns[rows],
            unfit=self._notes.unfit[rows],
            newest_ns=self._preprocessor.intake.timelines.newest_ns[rows],
            feed_hz=aligner.feed_hz[rows],
            partial=bouts.partial[rows],
            gathered=np.where(aligner.factor[rows] > 0, self._preprocessor.buffer.count[rows], 0),
        )

    def excuse(self, deaf_ns: int) -> None:
        """Leave a time in which nobody listened out of every watch's silence."""
        self.watches.excuse(deaf_ns)

    def activities(self) -> dict[str, int]:
        """How many watches are in a bout of each activity now; one that is silent is in none."""
        slots = np.fromiter(self.watches.slots(), np.int64, len(self.watches))
        activities = self.bundle.activities
        counts = np.bincount(self._tracker.activity[slots] - NONE, minlength=1 + len(activities))[1:]
        return dict(zip(activities, counts.tolist(), strict=True))

    def source_of(self, device_id: str) -> Source | None:
        """What is known of a watch's sender, None for an unknown watch."""
        slot = self.watches.slot_of(device_id)
        return None if slot is None else self._sources.source_of(slot)

    def vitals(self, device_id: str) -> Vitals | None:
        """What is known of a watch now, None for an unknown watch."""
        slot, heard = self.watches.slot_of(device_id), self.watches.last_heard(device_id)
        if slot is None or heard is None:
            return None
        heard_ns, is_alive = heard
        activity, groups, confidence = self._bouts.current(slot) or (UNKNOWN, (), None)
        aligner = self._preprocessor.aligner
        return Vitals(
            is_alive=is_alive,
            heard_ns=heard_ns,
            activity=activity,
            groups=groups,
            confidence=confidence,
            rate_hz=float(aligner.slowest_hz(np.array([slot]))[0]) if aligner.factor[slot] else None,
            completeness=self._bouts.latest_completeness(slot),
        )

    def export_watch(self, device_id: str) -> bytes | None:
        """A watch's whole state, None for an unknown watch."""
        slot = self.watches.slot_of(device_id)
        return None if slot is None else b"".join(self._export([device_id], [slot]))

    def import_watch(self, data: bytes, now_ns: int) -> None:
        """Follow a watch from an exported state, in place of what was known of it.

        Raises:
            ConfigError: the state is damaged, of another layout or of another bundle, or there is no room for a watch.
        """
        self._import(data, now_ns)

    def export_fleet(self) -> tuple[Liveness, Iterator[Piece]]:
        """The whole state: when watches were last heard of, and all their slots in pieces.

        The pieces are of a copy: they may be written while the recognizer goes on.
        """
        devices = list(self.watches)
        slots = [slot for device in devices if (slot := self.watches.slot_of(device)) is not None]
        return self.watches.export_liveness(), self._export(devices, slots)

    def import_fleet(self, liveness: Liveness, data: bytes | memoryview) -> None:
        """Go on from an exported fleet; to be called before anything is processed.

        Raises:
            ConfigError: the state is damaged, of another layout or of another bundle, or there is no room for it.
        """
        self._import(data, 0)
        try:
            self.watches.import_liveness(liveness)
        except ValueError as error:
            raise ConfigError(f"state of {len(self.watches)} watches: {error}") from error

    def _export(self, devices: Sequence[str], slots: Sequence[int]) -> Iterator[Piece]:
        rows = np.asarray(slots, np.int64)
        return encode_state(
            devices, self.bundle.digest, {stage: held.export_rows(rows) for stage, held in self._stages.items()}
        )

    def _import(self, data: bytes | memoryview, now_ns: int) -> None:
        devices, stages = decode_state(data, self.bundle.digest)
        named = f"state of watch {devices[0]}" if len(devices) == 1 else f"state of {len(devices)} watches"
        if _layout(stages) != _layout({stage: held.export_rows(_NO_SLOTS) for stage, held in self._stages.items()}):
            raise ConfigError(f"{named}: other stages or arrays; expected those of this release")
        if any(
            len(stages[stage][name]) != len(devices) for stage, held in self._stages.items() for name in held.ARRAYS
        ):
            raise ConfigError(f"{named}: arrays of other lengths; expected a row for each watch")
        new = sum(self.watches.slot_of(device) is None for device in devices)
        if len(self.watches) + new > self._limits.max_watches:
            raise ConfigError(
                f"{named}: {len(self.watches)} watches are followed; "
                f"expected room for {new} more in {self._limits.max_watches}"
            )
        slots: list[int] = []
        for device in devices:
            slot = self.watches.heard(device, now_ns)
            slots.append(self._new_slot(device, now_ns) if slot is None else slot)
        for stage, held in self._stages.items():
            held.import_rows(np.asarray(slots, np.int64), stages[stage])

    def _refuse_future(self, batch: ImuBatch, now_ns: int) -> None:
        ahead_ns = int(batch.t_ns.max()) - now_ns
        if ahead_ns > self._limits.max_future_ns:
            raise PayloadError(
                RejectReason.FUTURE,
                f"device {batch.device_id}: a reading lies {ahead_ns / 1e9:.0f} s ahead of the clock; "
                f"expected at most {self._limits.max_future_ns / 1e9:.0f} s",
            )

    def _recognize(self, arrivals: Iterable[ImuBatch | Sent], now_ns: int, result: Result) -> None:
        rounds = _Rounds()
        for arrived in arrivals:
            # Another program's message is heard of once its readings can be used.
            device_id, is_own = arrived.device_id, type(arrived) is ImuBatch
            slot = self.watches.heard(device_id, now_ns) if is_own else self.watches.slot_of(device_id)
            ready = [arrived]
            if slot is None:
                held = self.watches.on_probation(arrived)
                if held is None:
                    continue
                if not self.watches.room_for_one:
                    silent = self.watches.longest_silent(now_ns)
                    if silent is None:
                        self._refuse_newcomer(device_id, len(held), result)
                        continue
                    # The watch that makes room may still have messages in this call.
                    self._run(rounds.take(), result)
                    self._evict(silent, "capacity", result)
                slot = self._new_slot(device_id, now_ns)
                ready = held
            for one in ready:
                if type(one) is ImuBatch:
                    if self._sources and slot in self._sources:
                        self._sources.reset(slot)
                        self._begin_anew(slot, rounds, result)
                    self._count(slot, one, rounds.newest_ns, result.counts)
                    rounds.add(slot, one)
                    result.batches.append(one)
                elif type(one) is Sent:
                    self._take_sent(slot, one, rounds, now_ns, result)
        self._run(rounds.take(), result)

    def _take_sent(self, slot: int, sent: Sent, rounds: _Rounds, now_ns: int, result: Result) -> None:
        """Readings of another program's message; only what can be used lets a watch be heard of."""
        first = slot not in self._sources
        try:
            taken = self._sources.take(slot, sent, now_ns + self._limits.max_future_ns)
        except PayloadError as error:
            result.refuse(sent.message, error)
            return
        if taken.error is not None:
            result.refuse(sent.message, taken.error)
        else:
            result.counts.messages += 1
        if sent.seq is not None and (taken.later or sent.seq > int(self._notes.seq[slot])):
            self._note_seq(slot, sent.seq, result.counts)
        if taken.anew or (first and (slot in rounds or self._preprocessor.has_readings(slot))):
            self._begin_anew(slot, rounds, result)
        if taken.batches:
            self.watches.heard(sent.device_id, now_ns)
        for batch in taken.batches:
            result.counts.readings += len(batch)
            rounds.add(slot, batch)
            result.batches.append(batch)

    def _begin_anew(self, slot: int, rounds: _Rounds, result: Result) -> None:
        """Work off a watch's readings and end its segment: those to come do not go together with them."""
        self._run(rounds.take(), result)
        self._flush([slot], result)
        result.events += self._bouts.end_at_gap(slot, 0)
        self._tracker.reset(slot)
        self._notes.unfit[slot] = WatchNotes.FIT
        self._preprocessor.reset(slot)

    def _refuse_newcomer(self, device_id: str, messages: int, result: Result) -> None:
        error = PayloadError(
            RejectReason.CAPACITY,
            f"device {device_id}: {len(self.watches)} watches are followed and none is silent; expected room for one",
        )
        for _ in range(messages):
            result.counts.reject(error)

    def _count(self, slot: int, batch: ImuBatch, newest_ns: dict[int, list[int]], counts: Counts) -> None:
        counts.messages += 1
        counts.readings += len(batch)
        if batch.seq is not None and self._is_new(slot, batch, batch.seq, newest_ns):
            self._note_seq(slot, batch.seq, counts)

    def _note_seq(self, slot: int, seq: int, counts: Counts) -> None:
        expected = int(self._notes.seq[slot]) + 1
        # A longer jump is a counter that started anew, not a million lost messages.
        if expected > 0 and 0 < seq - expected < _LONGEST_LOSS:
            counts.missing_messages += seq - expected
        self._notes.seq[slot] = seq

    def _is_new(self, slot: int, batch: ImuBatch, seq: int, newest_ns: dict[int, list[int]]) -> bool:
        """Whether a message has readings later than those before it: one that is delivered again counts for nothing.

        Notes the newest times of the call's messages, by slot and sensor, in `newest_ns`.
        """
        newest = newest_ns.get(slot)
        if newest is None:
            newest = newest_ns[slot] = self._preprocessor.intake.timelines.newest_ns[slot].tolist()
        sensors = [i for i, values in enumerate((batch.acc, batch.gyro)[: len(newest)]) if values is not None]
        if not sensors:
            # Of a sensor that the windows are not made of; nothing but the counter tells.
            return seq > int(self._notes.seq[slot])
        last_ns = int(batch.t_ns[-1])
        later = [i for i in sensors if last_ns > newest[i]]
        for i in later:
            newest[i] = last_ns
        return bool(later)

    def _run(self, rounds: Sequence[Mapping[int, Sequence[ImuBatch]]], result: Result) -> None:
        work: list[_Work] = []
        for round_ in rounds:
            slots = list(round_)
            steps = self._preprocessor.push(slots, [joined(batches) for batches in round_.values()])
            work += [self._sort_out(step) for step in steps]
            missing = self._preprocessor.intake.missing_sensor(slots)
            if missing:
                work.append(_Work(missing=missing))
        self._decide(work, result)

    def _flush(self, slots: Sequence[int], result: Result) -> None:
        if slots:
            self._decide([self._sort_out(step) for step in self._preprocessor.flush(slots)], result)

    def _sort_out(self, step: Step) -> _Work:
        """Set aside windows of feeds too slow for the model; to be asked while the step's segments are current."""
        slots = step.windows.slots
        if not len(slots):
            return _Work(closed=step.closed, gap_ns=step.gap_ns)
        slow = self._preprocessor.aligner.slowest_hz(slots) < self._slowest_feed_hz
        if slow.any():
            return _Work(step.windows[~slow], step.windows[slow], step.closed, step.gap_ns)
        return _Work(step.windows, None, step.closed, step.gap_ns)

    def _decide(self, work: Sequence[_Work], result: Result) -> None:
        """Classify all windows in one go, then follow each watch through its windows and gaps in their order."""
        windows = join_windows([w.windows for w in work if w.windows is not None], self.bundle.spec)
        probabilities = self._classifier.predict(windows.samples)
        if len(windows):
            names = self.watches.names
            # By name: a slot may be another watch's before the call is through.
            devices = [names[slot] for slot in windows.slots.tolist()]
            told = probabilities[:, : len(self.bundle.labels)]
            result.windows.append(Scored(devices, windows.start_ns + self.bundle.spec.window_ns, told))
        result.counts.windows += len(windows)
        if self.bundle.spec.optional_sensors:
            result.counts.partial += int(np.count_nonzero(windows.partial))
        self._mark("classify")
        first = 0
        for item in work:
            if item.windows is not None:
                end = first + len(item.windows)
                self._follow(item.windows, probabilities[first:end], result)
                first = end
            if item.slow is not None:
                for slot, start_ns in zip(item.slow.slots.tolist(), item.slow.start_ns.tolist(), strict=True):
                    self._unfit(slot, "feed_rate", start_ns, start_ns + self.bundle.spec.window_ns, result)
            for slot, since_ns in item.missing:
                # The latest window's end may lie before a pause, or ahead of a clock that was set back.
                onset_ns = self._bouts.latest_end_ns(slot, default=since_ns)
                if not since_ns <= onset_ns <= int(self._preprocessor.intake.timelines.newest_ns[slot].max()):
                    onset_ns = since_ns
                self._unfit(slot, "sensor_missing", onset_ns, onset_ns + SENSOR_SKEW_NS, result)
            for slot, gap_ns in zip(item.closed.tolist(), item.gap_ns.tolist(), strict=True):
                result.events += self._bouts.end_at_gap(slot, gap_ns)
                self._tracker.reset(slot)
                self._notes.unfit[slot] = WatchNotes.FIT
        self._mark("track")

    def _follow(self, windows: Windows, probabilities: NDArray[np.float32], result: Result) -> None:
        for rows in _one_each(windows.slots):
            mine = windows[rows]
            self._notes.unfit[mine.slots] = WatchNotes.FIT
            tracked = self._tracker.update(mine.slots, probabilities[rows], mine.start_ns)
            result.events += self._bouts.of_windows(mine, probabilities[rows], tracked)

    def _unfit(self, slot: int, reason: Reason, onset_ns: int, decided_ns: int, result: Result) -> None:
        result.counts.unfit[reason] += 1
        if self._notes.unfit[slot] != WatchNotes.REASONS.index(reason):
            self._notes.unfit[slot] = WatchNotes.REASONS.index(reason)
            result.events += self._bouts.start_unknown(slot, onset_ns, decided_ns, reason)

    def _tick(self, now_ns: int, result: Result) -> None:
        silent = self.watches.fall_silent(now_ns)
        slots = [slot for name in silent if (slot := self.watches.slot_of(name)) is not None]
        self._flush(slots, result)
        for slot in slots:
            self._end_bout(slot, "silence", result)
        for name in self.watches.outdated(now_ns):
            self._evict(name, "age", result)

    def _end_bout(self, slot: int, reason: Reason, result: Result) -> None:
        result.events += self._bouts.end(slot, reason)
        self._tracker.reset(slot)
        self._notes.unfit[slot] = WatchNotes.FIT

    def _evict(self, device_id: str, cause: str, result: Result) -> None:
        slot = self.watches.slot_of(device_id)
        if slot is not None:
            self._end_bout(slot, "evicted", result)
            self.watches.remove(device_id)
            result.counts.evicted[cause] += 1

    def _new_slot(self, device_id: str, now_ns: int) -> int:
        if self.watches.must_grow:
            capacity = min(2 * len(self.watches.names), self._limits.max_watches)
            self.watches.grow(capacity)
            for stage in self._stages.values():
                stage.grow(capacity)
        slot = self.watches.add(device_id, now_ns)
        for stage in self._stages.values():
            stage.reset(slot)
        return slot

    def _take_counts(self, counts: Counts) -> None:
        dropped, aligned = self._preprocessor.intake.take_counts(), self._preprocessor.aligner.take_counts()
        counts.late, counts.duplicate, counts.clock_jumps = dropped.late, dropped.duplicate, dropped.clock_jumps
        counts.bridged, counts.gaps = aligned.bridged, aligned.gaps
        pushed_out = self.watches.take_pushed_out()
        if pushed_out:
            counts.rejects[RejectReason.CAPACITY] += pushed_out
            counts.reject_examples.setdefault(
                RejectReason.CAPACITY,
                f"{pushed_out} messages of names with too few readings for a watch; expected fewer such names",
            )


_NO_SLOTS: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """One step's share of a call's decisions, in this order.

    Attributes:
        windows: to classify.
        slow: windows of feeds too slow for the model.
        closed, gap_ns: slots whose segment ended, and the hole that ended it.
        missing: slots that lack a sensor, and since when their other readings have come without a pause.
    """

    windows: Windows | None = None
    slow: Windows | None = None
    closed: NDArray[np.int64] = field(default_factory=lambda: _NO_SLOTS)
    gap_ns: NDArray[np.int64] = field(default_factory=lambda: _NO_SLOTS)
    missing: Sequence[tuple[int, int]] = ()


def _layout(stages: Mapping[str, SlotState]) -> dict[str, dict[str, tuple[np.dtype[Any], tuple[int, ...]]]]:
    """What each stage keeps of one watch."""
    return {
        stage: {name: (array.dtype, array.shape[1:]) for name, array in state.items()}
        for stage, state in stages.items()
    }


class _Rounds:
    """A call's batches in rounds: at most one of each watch in a round, its next one joining it where that changes
    nothing.

    Attributes:
        newest_ns: by slot the newest times of the call's messages.
    """

    def __init__(self) -> None:
        self._rounds: list[dict[int, list[ImuBatch]]] = []
        self._last: dict[int, int] = {}
        self.newest_ns: dict[int, list[int]] = {}

    def __contains__(self, slot: int) -> bool:
        return slot in self._last

    def add(self, slot: int, batch: ImuBatch) -> None:
        """Put a watch's next batch into its round."""
        number = self._last.get(slot)
        if number is not None and _alike(self._rounds[number][slot][-1], batch):
            self._rounds[number][slot].append(batch)
            return
        number = 0 if number is None else number + 1
        if number == len(self._rounds):
            self._rounds.append({})
        self._rounds[number][slot] = [batch]
        self._last[slot] = number

    def take(self) -> list[dict[int, list[ImuBatch]]]:
        """All rounds so far; the next begin anew."""
        rounds, self._rounds, self._last, self.newest_ns = self._rounds, [], {}, {}
        return rounds


def _alike(one: ImuBatch, other: ImuBatch) -> bool:
    """Whether two messages of a watch may be laid together: same sensors, same declared rate."""
    return (one.acc is None, one.gyro is None, one.rate_hz) == (other.acc is None, other.gyro is None, other.rate_hz)


def _one_each(slots: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Row numbers in turns of at most one row per slot, each slot's rows in their order."""
    if not len(slots):
        return
    order = np.argsort(slots, kind="stable")
    begins = np.flatnonzero(np.concatenate([[True], np.diff(slots[order]) != 0]))
    lengths = np.diff(np.append(begins, len(slots)))
    turn = np.arange(len(slots)) - np.repeat(begins, lengths)
    for number in range(int(lengths.max())):
        yield np.sort(order[turn == number])
