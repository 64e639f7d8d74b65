"""Pacing, fleets and summaries, on a clock that only the replay moves."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.command import parse_speed, parse_start
from simulator.replay import MARK_EVERY, MARKS_OUTSTANDING, Format, Pacer, Progress
from simulator.replay import replay as replay_messages
from simulator.session import Session
from simulator.watches import fleet, in_time_order
from streamer.errors import ConfigError
from streamer.imu import ImuBatch
from streamer.recording import Arrived, Recording
from streamer.recordings.captures import captured_recordings
from streamer.wire import topics
from streamer.wire.payload import MAX_BYTES, decode
from tests.motion import noise


def walk(
    device_id: str = "w", *, start_ns: int = 1_000_000_000, readings: int = 100, rate_hz: int = 50, seed: int = 0
) -> Recording:
    rng = np.random.default_rng(seed)
    t_ns = start_ns + np.arange(readings, dtype=np.int64) * (1_000_000_000 // rate_hz)
    stream = ImuBatch(device_id, t_ns, rng.normal(size=(readings, 3)), rng.normal(size=(readings, 3)), float(rate_hz))
    return Recording(device_id, None, (stream,), (), float(rate_hz))


@dataclass
class FakeClock:
    """Wall time that sleeping and publishing take."""

    now_s: float = 1000.0
    naps_s: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.naps_s.append(seconds)
        self.now_s += seconds


class FakeSession(Session):
    """A broker and a service that take a set time per message; answers come when waited for."""

    def __init__(self, clock: FakeClock, costs_s: list[float] | None = None, *, services: int = 1) -> None:
        self.clock = clock
        self.costs_s = itertools.chain(costs_s or [], itertools.repeat(0.0))
        self.sent: list[tuple[float, str, bytes]] = []
        self.unanswered: list[int] = []
        self.most_unanswered = 0
        self._services = {f"service-{number}" for number in range(services)}

    async def publish(self, topic: str, payload: bytes, *, content_type: str | None = None) -> None:
        assert content_type is not None
        self.clock.now_s += next(self.costs_s)
        self.sent.append((self.clock.now_s, topic, payload))

    async def mark(self) -> None:
        if self._services:
            self.unanswered.append(len(self.sent))
            self.most_unanswered = max(self.most_unanswered, len(self.unanswered))

    async def wait_answers(self, *, outstanding: int = 0) -> None:
        self.unanswered = self.unanswered[-outstanding:] if outstanding else []


def run(
    recording: Recording,
    *,
    speed: float | None = 1.0,
    preroll_s: float = 0.0,
    batch: int | None = 10,
    duration_s: float | None = None,
    costs_s: list[float] | None = None,
    services: int = 1,
    payload_format: Format = "json",
) -> tuple[FakeSession, Progress]:
    clock = FakeClock()
    session = FakeSession(clock, costs_s, services=services)
    progress = Progress(devices=1)
    watches = fleet([recording], devices=None, start_ns=None)
    asyncio.run(
        replay_messages(
            session,
            in_time_order(watches, batch),
            Pacer(speed, preroll_s, clock=clock, sleep=clock.sleep),
            progress,
            start_ns=watches[0].first_due_ns,
            duration_s=duration_s,
            payload_format=payload_format,
        )
    )
    return session, progress


def test_a_message_leaves_when_its_last_reading_is_due() -> None:
    session, progress = run(walk(), batch=10)
    # 10 readings at 50 Hz: the last of the first message is 9 periods after the start.
    assert [at - 1000 for at, _, _ in session.sent] == pytest.approx([0.18 + 0.2 * index for index in range(10)])
    assert progress.summary()["late_share"] == 0.0
    assert (progress.readings, progress.messages, progress.interrupted) == (100, 10, False)


def captured(*messages: tuple[float, ImuBatch]) -> Recording:
    """Messages that came at these seconds, whatever their readings' times."""
    arrivals = tuple(
        Arrived(b.device_id, b.t_ns, b.acc, b.gyro, b.rate_hz, b.seq, 10**18 + round(at_s * 1e9))
        for at_s, b in messages
    )
    return captured_recordings(Path("w.jsonl"), [(message, "") for message in arrivals])[0]


def test_capture_leaves_in_its_own_messages_when_they_came() -> None:
    (stream,) = walk().streams
    cuts = {7: slice(30), 3: slice(30, 31), 9: slice(31, None)}
    late, first, last = (replace(stream[part], seq=seq) for seq, part in cuts.items())
    session, progress = run(captured((0.0, first), (0.5, late), (2.25, last)), speed=2.0, batch=None)
    assert [at - 1000 for at, _, _ in session.sent] == pytest.approx([0.0, 0.25, 1.125])
    sent = [decode("w", payload) for _, _, payload in session.sent]
    assert [(len(b), b.seq) for b in sent] == [(1, 3), (30, 7), (69, 9)]
    np.testing.assert_array_equal(sent[1].t_ns, late.t_ns)
    assert progress.readings == 100
    assert progress.recorded_s == pytest.approx(2.25)


def test_watches_may_be_called_otherwise() -> None:
    assert [copy.device_id for copy in fleet([walk()], devices=3, start_ns=None, name="left")] == [
        "left",
        "left-2",
        "left-3",
    ]


def test_batch_option_cuts_a_capture_anew() -> None:
    (stream,) = walk().streams
    session, _ = run(captured((0.0, stream[50:]), (0.5, stream[:50])), batch=20)
    sent = [decode("w", payload) for _, _, payload in session.sent]
    assert [len(b) for b in sent] == [20] * 5
    np.testing.assert_array_equal(np.concatenate([b.t_ns for b in sent]), stream.t_ns)


def test_message_too_large_as_json_leaves_as_cbor() -> None:
    session, _ = run(captured((0.0, noise(10_000, device="w"))), batch=None)
    ((_, _, payload),) = session.sent
    assert len(payload) <= MAX_BYTES
    assert len(decode("w", payload)) == 10_000


def test_speed_divides_time() -> None:
    session, _ = run(walk(), speed=4.0)
    assert session.sent[-1][0] - 1000 == pytest.approx(1.98 / 4)


def test_slow_messages_cost_no_drift_and_are_counted_as_late_as_they_were() -> None:
    # The second message takes a second: five others come due meanwhile and are late by what is left of it.
    session, progress = run(walk(readings=1000), costs_s=[0.0, 1.0])
    due_s = [0.18 + 0.2 * index for index in range(100)]
    lags_s = [at - 1000 - due for (at, _, _), due in zip(session.sent, due_s, strict=True)]
    assert lags_s[1:7] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    assert lags_s[7:] == pytest.approx([0.0] * 93)
    assert progress.late == 5
    assert progress.max_lag_s == pytest.approx(1.0)


@given(costs_s=st.lists(st.floats(0, 0.3), max_size=50), batch=st.integers(1, 60))
def test_no_message_leaves_early_whatever_the_others_cost(costs_s: list[float], batch: int) -> None:
    session, progress = run(walk(readings=120), costs_s=costs_s, batch=batch)
    for number, (at, _, _) in enumerate(session.sent):
        last = min((number + 1) * batch, 120) - 1
        assert at - 1000 >= last * 0.02 - 1e-9
    assert progress.readings == 120


def test_a_preroll_is_sent_at_once_and_is_not_late() -> None:
    session, progress = run(walk(readings=1000), preroll_s=10.0)
    at_once = [at for at, _, _ in session.sent if at == 1000.0]
    assert len(at_once) == 50
    assert session.sent[-1][0] - 1000 == pytest.approx(19.98 - 10.0)
    assert progress.late == 0
    assert progress.achieved_hz == pytest.approx(50, rel=0.02)


def test_full_speed_never_sleeps_and_keeps_few_markers_unanswered() -> None:
    session, progress = run(walk(readings=50 * MARK_EVERY), speed=None, batch=10)
    assert session.clock.naps_s == []
    assert progress.messages == 5 * MARK_EVERY
    assert session.most_unanswered == MARKS_OUTSTANDING
    assert progress.processed is True


def test_without_a_service_full_speed_warns_and_claims_nothing(caplog: pytest.LogCaptureFixture) -> None:
    _, progress = run(walk(), speed=None, services=0)
    assert "no har-stream service is online" in caplog.text
    assert progress.processed is None


def test_duration_counts_recorded_time() -> None:
    session, progress = run(walk(readings=1000), speed=10.0, duration_s=2.0)
    assert progress.messages == 10
    assert len(session.sent) == 10


@pytest.mark.parametrize("payload_format", ["json", "cbor"])
def test_what_is_sent_decodes_to_the_very_same_readings(payload_format: Format) -> None:
    recording = walk(seed=3)
    session, _ = run(recording, payload_format=payload_format, batch=7)
    decoded = [decode(topics.device_of(topic), payload) for _, topic, payload in session.sent]
    (stream,) = recording.streams
    assert stream.acc is not None
    assert stream.gyro is not None
    np.testing.assert_array_equal(np.concatenate([batch.t_ns for batch in decoded]), stream.t_ns)
    np.testing.assert_array_equal(np.concatenate([batch.acc for batch in decoded if batch.acc is not None]), stream.acc)
    np.testing.assert_array_equal(
        np.concatenate([batch.gyro for batch in decoded if batch.gyro is not None]), stream.gyro
    )
    assert [batch.seq for batch in decoded] == list(range(len(decoded)))


def test_sensors_with_times_of_their_own_go_in_messages_of_their_own() -> None:
    (both,) = walk().streams
    acc = ImuBatch("w", both.t_ns, both.acc, None)
    gyro = ImuBatch("w", both.t_ns + 3, None, both.gyro)
    session, _ = run(Recording("w", None, (acc, gyro), (), 50.0), batch=50)
    decoded = [decode("w", payload) for _, _, payload in session.sent]
    assert [(batch.acc is None, batch.gyro is None) for batch in decoded] == [(False, True), (True, False)] * 2
    assert {topic for _, topic, _ in session.sent} == {topics.imu("w")}


def test_messages_of_a_fleet_come_in_the_order_of_their_last_readings() -> None:
    recordings = [walk("a"), walk("b", start_ns=1_000_000_500), walk("c", rate_hz=20, start_ns=900_000_000)]
    last = [int(batch.t_ns[-1]) for batch in in_time_order(recordings, None)]
    assert last == sorted(last)


def test_copies_have_names_of_their_own_and_start_later_by_whole_periods() -> None:
    copies = fleet([walk("a"), walk("b")], devices=5, start_ns=None)
    assert [copy.device_id for copy in copies] == ["a", "b", "a-2", "b-2", "a-3"]
    assert [copy.shift_ns for copy in copies[:2]] == [0, 0]
    shifts = [copy.shift_ns for copy in copies[2:]]
    assert all(0 < shift < 5_000_000_000 and shift % 20_000_000 == 0 for shift in shifts)
    assert len(set(shifts)) == 3


def test_fewer_devices_than_recordings_are_the_first_ones() -> None:
    assert [copy.device_id for copy in fleet([walk("a"), walk("b")], devices=1, start_ns=None)] == ["a"]


def test_moved_times_keep_their_phase_on_the_grid() -> None:
    moved_to_ns = 1_700_000_000_123_456_789
    (copy,) = fleet([walk(start_ns=1_000_000_007)], devices=None, start_ns=moved_to_ns)
    assert copy.shift_ns % 20_000_000 == 0
    assert 0 <= moved_to_ns - copy.start_ns < 20_000_000
    first = next(copy.messages(10))
    assert first.t_ns[0] == copy.start_ns
    assert (np.diff(first.t_ns) == 20_000_000).all()


def test_the_starts_of_a_moved_fleet_stay_apart_as_recorded() -> None:
    early, late = fleet([walk("a"), walk("b", start_ns=4_000_000_000)], devices=None, start_ns=10**18)
    assert late.start_ns - early.start_ns == 3_000_000_000


def test_speed_and_start_are_read_or_refused_with_what_was_expected() -> None:
    assert parse_speed("max") is None
    assert parse_speed("2.5") == 2.5
    for wrong in ("0", "-1", "fast", "nan", "inf"):
        with pytest.raises(ConfigError, match=f"--speed {wrong}: expected a positive number or max"):
            parse_speed(wrong)
    assert parse_start("recorded", 5, 0.0) is None
    assert parse_start("now", 10**10, 2.0) == 8 * 10**9
    assert parse_start("2026-01-31T12:00:00.000001Z", 0, 0.0) == 1_769_860_800_000_001_000
    assert parse_start("2026-01-31T12:00:00", 0, 0.0) == 1_769_860_800_000_000_000
    with pytest.raises(ConfigError, match="--start yesterday: expected recorded, now or a time"):
        parse_start("yesterday", 0, 0.0)
