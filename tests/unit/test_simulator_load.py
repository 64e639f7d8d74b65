"""The load generator's parts: schedule, packets, and which events must come of what it sends."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.load_expectation import TYPES, Published, expectation
from simulator.load_fleet import FIRST_SEQ, KINDS, NANOSECONDS, Fleet, Format, Motion
from simulator.load_packets import packets, publish_header, published
from simulator.load_run import Tally
from streamer.bundle import ModelBundle, find_bundle, load_bundle
from streamer.config import DEFAULT_MODEL
from streamer.imu import ImuBatch
from streamer.recognizer import Recognizer
from streamer.watches import Limits
from streamer.wire import topics
from streamer.wire.payload import Message, decode

EPOCH_NS = 1_750_000_000_123_456_789
LATENESS_NS = 100_000_000

fleets = st.builds(
    Fleet,
    devices=st.integers(1, 300),
    rate_hz=st.sampled_from([1, 10, 20, 50, 100]),
    batch=st.sampled_from([1, 3, 50, 128]),
    name=st.just("w"),
)


def _fleet(devices: int, payload_format: Format) -> Fleet:
    return Fleet(devices=devices, rate_hz=50, batch=1 if payload_format == "single" else 50, name="load-test")


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return load_bundle(find_bundle(DEFAULT_MODEL))


@given(fleets, st.integers(0, 20 * NANOSECONDS))
def test_slots_until_a_time_are_those_due_before_it(fleet: Fleet, end_ns: int) -> None:
    slots = fleet.slots_until(end_ns)
    assert slots == 0 or fleet.due_ns(slots - 1) < end_ns
    assert fleet.due_ns(slots) >= end_ns


@given(fleets, st.integers(0, 3000))
def test_a_watch_has_sent_as_many_messages_as_it_had_slots_since_it_joined(fleet: Fleet, slots: int) -> None:
    joins = fleet.joins()
    counted = np.zeros(fleet.devices, np.int64)
    for slot in range(slots):
        round_, device = divmod(slot, fleet.devices)
        counted[device] += round_ >= joins[device]
    assert fleet.sent(slots).tolist() == counted.tolist()


@given(fleets)
def test_messages_of_the_fleet_lie_evenly_over_the_period(fleet: Fleet) -> None:
    due_ns = [fleet.due_ns(slot) for slot in range(2 * fleet.devices + 1)]
    steps_ns = {after - before for before, after in pairwise(due_ns)}
    assert max(steps_ns) - min(steps_ns) <= 1
    assert due_ns[fleet.devices] == fleet.period_ns


def test_windows_of_the_fleet_do_not_fall_due_together(bundle: ModelBundle) -> None:
    fleet = Fleet(devices=2000, rate_hz=50, batch=50, name="w")
    spec = bundle.spec
    hop_ns = spec.hop_len * spec.period_ns
    phases = fleet.joined_ns() % hop_ns
    share = np.histogram(phases, bins=20, range=(0, hop_ns))[0] / fleet.devices
    # All at once would be 1 in one of them; a fleet in lockstep with its messages 0.125 in eight.
    assert share.max() < 1.2 / 20


@given(st.binary(max_size=200), st.integers(0, 1), st.integers(0, 40_000))
def test_a_publish_packet_says_its_length(topic: bytes, qos: int, payload_bytes: int) -> None:
    header = publish_header(len(topic), payload_bytes, qos)
    packet = header + topic + bytes(2 if qos else 0) + bytes(payload_bytes)
    (found,) = packets(bytearray(packet))
    assert found == (0x30 | qos << 1, packet[len(header) - 2 :])


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_packets_are_found_however_the_stream_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(publish_header(3, len(p), 0) + b"a/b" + p for p in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    buffer, found = bytearray(), []
    for first, end in pairwise([0, *cuts, len(stream)]):
        buffer += stream[first:end]
        found += [published(body) for _, body in packets(buffer)]
    assert found == payloads
    assert not buffer


@pytest.mark.parametrize("payload_format", ["cbor", "json", "single"])
@pytest.mark.parametrize("qos", [0, 1])
def test_stamped_packets_hold_the_motion_at_the_time_of_sending(payload_format: Format, qos: int) -> None:
    fleet = _fleet(3, payload_format)
    motion = Motion(fleet, payload_format, qos=qos)
    topic = topics.imu(fleet.device(2))
    batches: list[ImuBatch] = []
    for number in range(3):
        packet = motion.template(2, number).stamped(
            topic.encode(), b"\0\7" if qos else b"", EPOCH_NS + number * fleet.period_ns, FIRST_SEQ + number
        )
        ((first, body),) = packets(bytearray(packet))
        assert first == 0x30 | qos << 1
        assert body[2 : 2 + len(topic)] == topic.encode()
        payload = body[2 + len(topic) + 2 * qos :]
        assert payload == motion.template(2, number).payload(EPOCH_NS + number * fleet.period_ns, FIRST_SEQ + number)
        batches.append(decode("x", payload))
    times = np.concatenate([batch.t_ns for batch in batches])
    assert times.tolist() == [EPOCH_NS + i * fleet.reading_ns for i in range(3 * fleet.batch)]
    assert [batch.seq for batch in batches] == [FIRST_SEQ, FIRST_SEQ + 1, FIRST_SEQ + 2]
    for batch in batches:
        assert batch.acc is not None
        assert batch.gyro is not None
        assert 5 < np.linalg.norm(batch.acc.mean(axis=0)) < 20  # gravity is in it


def test_payloads_have_the_size_of_real_ones() -> None:
    sizes = {}
    formats: tuple[Format, ...] = ("cbor", "json", "single")
    for payload_format in formats:
        motion = Motion(_fleet(8, payload_format), payload_format, qos=0)
        sizes[payload_format] = np.mean([len(motion.template(k, 0).payload(EPOCH_NS, FIRST_SEQ)) for k in range(8)])
    assert 1200 < sizes["cbor"] < 1300
    assert 1900 < sizes["json"] < 2500
    assert 100 < sizes["single"] < 200


@pytest.mark.parametrize("published_", ["windows", "changes"])
@pytest.mark.parametrize(("payload_format", "devices"), [("cbor", KINDS + 6), ("json", 5), ("single", 3)])
@pytest.mark.parametrize("lateness_ns", [0, LATENESS_NS])
def test_expected_events_are_those_the_recognizer_gives_for_the_same_messages_one_by_one(
    bundle: ModelBundle, payload_format: Format, devices: int, published_: Published, lateness_ns: int
) -> None:
    fleet = _fleet(devices, payload_format)
    motion = Motion(fleet, payload_format, qos=0)
    slots = fleet.slots_until(14 * NANOSECONDS)
    expected = expectation(
        fleet,
        motion,
        bundle,
        rounds=-(-slots // devices),
        published=published_,
        lateness_ns=lateness_ns,
    )
    joins, joined_ns = fleet.joins(), fleet.joined_ns()

    recognizer = Recognizer(bundle, limits=Limits(lateness_ns=lateness_ns), every_window=published_ == "windows")
    found = set()
    for slot in range(slots):
        round_, device = divmod(slot, devices)
        number = round_ - int(joins[device])
        if number >= 0:
            t_ns = EPOCH_NS + fleet.due_ns(slot) - fleet.span_ns
            payload = motion.template(device % KINDS, number).payload(t_ns, FIRST_SEQ + number)
            for event in recognizer.process([Message(topics.imu(fleet.device(device)), payload)], t_ns).events:
                if event.type in TYPES[published_]:
                    found.add((device, event.type, event.decided_ns, number))

    sent = fleet.sent(slots)
    said = set()
    for device in range(devices):
        kind = expected[device % KINDS]
        for (what, decided_ns), index in kind.which.items():
            if kind.closing[index] < sent[device]:
                first_reading_ns = EPOCH_NS + int(joined_ns[device]) - fleet.span_ns
                said.add((device, what, first_reading_ns + decided_ns, int(kind.closing[index])))
    assert len(found) >= devices
    assert said == found
    tally = Tally(fleet, expected, published_, EPOCH_NS)
    assert tally.expected(slots) == len(found)


class _Heard:
    """Events of a small fleet for a tally."""

    def __init__(self, bundle: ModelBundle) -> None:
        self.fleet = _fleet(2, "cbor")
        motion = Motion(self.fleet, "cbor", qos=0)
        self.expected = expectation(self.fleet, motion, bundle, rounds=12, published="windows", lateness_ns=LATENESS_NS)
        self.tally = Tally(self.fleet, self.expected, "windows", EPOCH_NS)

    def document(self, watch: int, number: int, **changes: object) -> bytes:
        (kind, decided_ns), _ = list(self.expected[watch].which.items())[number]
        first_reading_ns = EPOCH_NS + int(self.fleet.joined_ns()[watch]) - self.fleet.span_ns
        event = {"type": kind, "device": self.fleet.device(watch), "decided_ns": first_reading_ns + decided_ns}
        return msgspec.json.encode(event | changes)

    def due_ns(self, device: int, number: int) -> int:
        closing = int(self.expected[device].closing[number])
        return int(self.fleet.joined_ns()[device]) + closing * self.fleet.period_ns


def test_latency_runs_from_when_the_deciding_message_was_due(bundle: ModelBundle) -> None:
    heard = _Heard(bundle)
    heard.tally.hear(heard.document(1, 0), heard.due_ns(1, 0) + 7_000_000)
    heard.tally.hear(heard.document(0, 1), heard.due_ns(0, 1) + 9_500_000)
    assert heard.tally.latencies_ms.tolist() == [7.0, 9.5]


def test_events_of_the_warm_up_count_but_not_their_latency(bundle: ModelBundle) -> None:
    heard = _Heard(bundle)
    first, second = heard.due_ns(0, 0), heard.due_ns(0, 1)
    tally = Tally(heard.fleet, heard.expected, "windows", EPOCH_NS, counted_from_ns=second)
    tally.hear(heard.document(0, 0), first + 900_000_000)
    tally.hear(heard.document(0, 1), second + 7_000_000)
    assert tally.came == 2
    assert tally.latencies_ms.tolist() == [7.0]


def test_events_are_told_apart_as_expected_double_unexpected_and_foreign(bundle: ModelBundle) -> None:
    heard = _Heard(bundle)
    heard.tally.hear(heard.document(0, 0), 0)
    heard.tally.hear(heard.document(0, 0), 0)
    heard.tally.hear(heard.document(0, 1, decided_ns=EPOCH_NS), 0)
    heard.tally.hear(heard.document(0, 1, device="wrist"), 0)
    heard.tally.hear(heard.document(0, 1, device="load-test-x"), 0)
    heard.tally.hear(heard.document(0, 1, device="load-test-000002"), 0)
    heard.tally.hear(heard.document(0, 1, type="state"), 0)
    assert (heard.tally.came, heard.tally.duplicate, heard.tally.unexpected) == (1, 1, 1)


def test_only_events_whose_message_was_sent_are_expected(bundle: ModelBundle) -> None:
    heard = _Heard(bundle)
    for slots in range(24):
        sent = heard.fleet.sent(slots)
        by_hand = sum(sum(c < sent[i] for c in heard.expected[i].closing) for i in range(2))
        assert heard.tally.expected(slots) == by_hand
    assert by_hand > 0


def test_a_name_of_another_run_is_not_taken_for_one_of_this() -> None:
    fleet = Fleet(devices=10, rate_hz=50, batch=50, name="load-a")
    names = (fleet.device(7), "load-b-000007", "load-a-00000x", "load-a-000010", "000007")
    assert [fleet.index(name) for name in names] == [7, None, None, None, None]
