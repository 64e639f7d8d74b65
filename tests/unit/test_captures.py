"""Captures: what a file keeps of messages, whatever they are, and what a damaged one is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.captures import CaptureError, open_capture
from simulator.record import Captured, Recorder
from simulator.synthetic import synthetic_watches
from streamer.bundle import find_bundle, load_bundle
from streamer.errors import ConfigError, RecordingError
from streamer.imu import ImuBatch
from streamer.ingress import Arrival
from streamer.offline import classify_file, classify_recording
from streamer.recognizer import Recognizer
from streamer.recording import ActivitySpan, Arrived, Recording, in_order_of_arrival, read_recordings
from streamer.wire import topics
from streamer.wire.events import ActivityEvent
from streamer.wire.payload import Message, decode
from tests import phone
from tests.motion import MS, SECOND, Feed, feeds, messages, noise, turns

FORMATS = (".jsonl", ".csv", ".parquet")
# It does not ask whether anybody wears the watch, so a test may feed it noise.
MODEL = "uci-har-lstm"
ARRIVED_NS = 1_800_000_000_000_000_000


def arrived(batches: list[ImuBatch], *, every_ns: int = 500 * MS) -> list[Arrived]:
    """Messages that come one after the other, by another clock than their readings'."""
    return [
        Arrived(b.device_id, b.t_ns, b.acc, b.gyro, b.rate_hz, b.seq, ARRIVED_NS + i * every_ns)
        for i, b in enumerate(batches)
    ]


def capture(path: Path, captured: list[Arrived], label: str | None = None) -> Path:
    file = open_capture(path, force=True)
    for message in captured:
        file.add(message, label)
    assert file.close() == path
    return path


def assert_same_message(one: Arrived, other: Arrived) -> None:
    assert (one.device_id, one.rate_hz, one.seq) == (other.device_id, other.rate_hz, other.seq)
    assert one.arrived_ns == other.arrived_ns
    assert one.t_ns.tobytes() == other.t_ns.tobytes()
    for left, right in ((one.acc, other.acc), (one.gyro, other.gyro)):
        assert (None if left is None else left.tobytes()) == (None if right is None else right.tobytes())


any_value = st.floats(-10_000, 10_000, allow_nan=False)
any_message = st.builds(
    lambda device, t_ns, values, sensors, rate_hz, seq, at: Arrived(
        device,
        np.array(t_ns, np.int64),
        np.outer(np.linspace(0.1, 1, len(t_ns)), values[:3]) if sensors != "gyro" else None,
        np.outer(np.linspace(1, 0.3, len(t_ns)), values[3:]) if sensors != "acc" else None,
        rate_hz,
        seq,
        at,
    ),
    st.sampled_from(["left", "right:2"]),
    st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=8),
    st.lists(any_value, min_size=6, max_size=6),
    st.sampled_from(["acc", "gyro", "both"]),
    st.none() | st.floats(0.01, 10_000),
    st.none() | st.integers(0, 2**63 - 1),
    st.integers(0, 2**62 - 1),
)


@settings(max_examples=40)
@given(st.lists(any_message, min_size=1, max_size=6))
def test_any_messages_survive_every_format_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, captured: list[Arrived]
) -> None:
    folder = tmp_path_factory.mktemp("captures")
    for suffix in FORMATS:
        recordings = read_recordings(capture(folder / f"any{suffix}", captured))
        by_device = {recording.device_id: list(recording.arrivals) for recording in recordings}
        assert list(by_device) == list(dict.fromkeys(message.device_id for message in captured))
        for message in captured:
            assert_same_message(message, by_device[message.device_id].pop(0))
        assert not any(by_device.values())


def windows_of_messages(batches: list[ImuBatch]) -> list[ActivityEvent]:
    recognizer = Recognizer(load_bundle(find_bundle(MODEL)), every_window=True)
    events = [event for i, b in enumerate(arrived(batches)) for event in recognizer.recognize([b.batch], i).events]
    return events + recognizer.finish("end_of_recording").events


@settings(max_examples=30)
@given(feed=feeds(disorder_ns=300 * MS, most=400), sizes=turns)
def test_capture_of_any_feed_gives_the_live_events_again(
    tmp_path_factory: pytest.TempPathFactory, feed: Feed, sizes: list[int]
) -> None:
    # Late readings, doubles, sensors apart, holes, declared rates: all that sorted rows would lose.
    batches = messages(feed.streams("wrist"), sizes)
    live = windows_of_messages(batches)
    path = tmp_path_factory.mktemp("feed") / "feed.csv"
    assert list(classify_file(capture(path, arrived(batches)), model=MODEL, every_window=True)) == live


async def test_what_a_phones_program_sends_is_recorded_as_it_was_understood(tmp_path: Path) -> None:
    # Acceleration without gravity, gravity, rates and attitude, of which the first say the sign of the others.
    (motion,) = synthetic_watches(1, rate_hz=50)[0].recording(60).streams
    assert motion.acc is not None
    assert motion.gyro is not None
    recognizer = Recognizer(load_bundle(find_bundle(MODEL)), every_window=True)
    file = open_capture(tmp_path / "phone.csv", force=False)
    recorder = Recorder(file, Captured(), filters=topics.DEFAULT_FILTERS)
    live: list[ActivityEvent] = []
    for number, document in enumerate(phone.messages(motion.acc, motion.gyro, ARRIVED_NS)):
        message = Message("sensor-logger", json.dumps(document).encode())
        at_ns = ARRIVED_NS + number * SECOND
        live += recognizer.process([message], at_ns).events
        recorder.take(Arrival(message, at_ns, 1))
    live += recognizer.finish("end_of_recording").events
    assert len([event for event in live if event.type == "window"]) > 40
    assert recorder.captured.readings.keys() == {phone.DEVICE}
    assert list(classify_file(file.close() or tmp_path, model=MODEL, every_window=True)) == live


def test_silence_that_ended_a_bout_live_ends_it_again(tmp_path: Path) -> None:
    # readings   |------------|            |------------|      without a hole in their own times:
    # arrival    |------------|   40 s     |------------|      the watch was out of reach
    batches = [piece for stream in (noise(3000),) for piece in (stream[i : i + 50] for i in range(0, 3000, 50))]
    late = arrived(batches, every_ns=SECOND)
    late = late[:30] + [
        Arrived(m.device_id, m.t_ns, m.acc, m.gyro, m.rate_hz, m.seq, m.arrived_ns + 40 * SECOND) for m in late[30:]
    ]
    events = list(classify_file(capture(tmp_path / "w.jsonl", late), model=MODEL))
    assert [event.reason for event in events if event.type == "end"].count("silence") == 1


def test_several_watches_come_again_in_their_order_of_arrival(tmp_path: Path) -> None:
    both = [batch[i : i + 25] for i in range(0, 100, 25) for batch in (noise(100), noise(100, device="other"))]
    recordings = read_recordings(capture(tmp_path / "w.csv", arrived(both)))
    assert [m.device_id for m in in_order_of_arrival(recordings)] == ["wrist", "other"] * 4


def test_label_covers_the_time_of_the_readings_it_was_recorded_with(tmp_path: Path) -> None:
    batch = noise(100)
    for suffix in FORMATS:
        (recording,) = read_recordings(capture(tmp_path / f"w{suffix}", arrived([batch[50:], batch[:50]]), "waving"))
        period_ns = SECOND // 50
        assert recording.spans == (ActivitySpan("waving", int(batch.t_ns[0]), int(batch.t_ns[-1]) + period_ns),)
        # Streams ascend, for whoever learns from them.
        np.testing.assert_array_equal(recording.streams[0].t_ns, batch.t_ns)


def test_declared_rate_is_the_streams_as_it_was_live(tmp_path: Path) -> None:
    batch = noise(200, rate_hz=104.0)
    declared = [ImuBatch("wrist", batch.t_ns, batch.acc, batch.gyro, 104.0)]
    (recording,) = read_recordings(capture(tmp_path / "w.csv", arrived(declared)))
    assert recording.rate_hz == recording.streams[0].rate_hz == 104.0


def test_line_is_a_payload_that_may_be_published_as_it_is(tmp_path: Path) -> None:
    path = capture(tmp_path / "w.jsonl", arrived([noise(20)]), "walking")
    assert len(decode("wrist", path.read_bytes().strip())) == 20


def test_payloads_alone_are_a_capture_named_by_its_file(tmp_path: Path) -> None:
    # As `mosquitto_sub -t har/v1/wrist/imu > wrist.jsonl` writes them.
    lines = b'{"t_ns":[5,9],"acc_x":[1,1],"acc_y":[2,2],"acc_z":[3,3]}\n{"t_ns":7,"acc_x":1,"acc_y":2,"acc_z":3}\n'
    (tmp_path / "wrist.jsonl").write_bytes(lines)
    (recording,) = read_recordings(tmp_path / "wrist.jsonl")
    assert recording.device_id == "wrist"
    assert [(m.t_ns.tolist(), m.arrived_ns) for m in recording.arrivals] == [([5, 9], 9), ([7], 7)]
    assert recording.streams[0].t_ns.tolist() == [5, 7, 9]


def test_last_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    path = capture(tmp_path / "w.jsonl", arrived([noise(20), noise(20, seed=1)]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert [len(m) for m in read_recordings(path)[0].arrivals] == [20]
    path.write_bytes(whole[:-1])
    assert [len(m) for m in read_recordings(path)[0].arrivals] == [20, 20]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 2: Input data was truncated"),
        (b"[]", "line 2: Expected `object`"),
        (b'{"device":"a/b","t_ns":1,"acc_x":1,"acc_y":1,"acc_z":1}', "line 2: device is 'a/b'; expected 1 to 64"),
        (b'{"arrived_ns":-1,"t_ns":1,"acc_x":1,"acc_y":1,"acc_z":1}', "line 2: Expected `int` >= 0"),
        (b'{"t_ns":1,"acc_x":1,"acc_y":1}', "line 2: acc: expected all of acc_x, acc_y, acc_z or none"),
        (b'{"t_ns":1,"acc_x":1,"acc_y":1,"acc_z":1e9}', "line 2: acc: expected magnitudes up to 10000"),
    ],
)
def test_wrong_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    good = b'{"t_ns":1,"acc_x":1,"acc_y":1,"acc_z":1}\n'
    (tmp_path / "w.jsonl").write_bytes(good + line + b"\n" + good)
    with pytest.raises(RecordingError) as raised:
        read_recordings(tmp_path / "w.jsonl")
    assert str(raised.value).startswith(f"{tmp_path / 'w.jsonl'}: {message}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("5,1,2,3,0,0,,\n5,1,2,3,1,0,,", "line 3, column arrived_ns is unlike the row before; expected one for all"),
        ("5,1,2,3,0,0,,\n5,1,2,3,0,0,,7", "line 3, column seq is unlike the row before; expected one for all"),
        ("5,1,2,3,0,0,,\n5,,,,0,0,,", "line 3, column acc_x is empty, as the gyroscope's are; expected readings"),
        ("5,,,,0,0,,", "line 2, column acc_x is empty, as the gyroscope's are; expected readings of one sensor"),
        ("5,1,2,3,-1,0,,", "line 2, column arrived_ns is out of range; expected 0 <= t < 2^62 ns"),
        ("5,1,2,3,soon,0,,", "line 2, column arrived_ns is 'soon'; expected a whole number in 64 bits"),
        ("5,1,2,3,0,0,fast,", "line 2, column rate_hz is 'fast'; expected a number"),
        ("5,1,2,3,0,0,nan,", "line 2, column rate_hz is out of range; expected 0.01 to 10000, or empty"),
        ("5,1,2,3,0,0,,x", "line 2, column seq is 'x'; expected a whole number in 64 bits"),
        ("\n".join(["5,1,2,3,0,0,,"] * 10_001), "line 2, column message is too long; expected at most 10000 rows"),
    ],
)
def test_rows_that_contradict_their_message_are_named(tmp_path: Path, rows: str, message: str) -> None:
    header = "t_ns,acc_x,acc_y,acc_z,arrived_ns,message,rate_hz,seq\n"
    (tmp_path / "w.csv").write_text(f"{header}{rows}\n")
    with pytest.raises(RecordingError) as raised:
        read_recordings(tmp_path / "w.csv")
    assert message in str(raised.value)


def test_column_called_message_makes_no_capture_by_itself(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("t_ns,acc_x,acc_y,acc_z,message,rate_hz\n5,1,2,3,hello,fast\n9,1,2,3,,\n")
    (recording,) = read_recordings(tmp_path / "w.csv")
    assert recording.arrivals == ()


def test_rows_of_a_capture_are_taken_in_their_order_although_times_go_back(tmp_path: Path) -> None:
    rows = "9,1,2,3,20,0\n5,1,2,3,20,0\n7,1,2,3,30,1\n"
    (tmp_path / "w.csv").write_text(f"t_ns,acc_x,acc_y,acc_z,arrived_ns,message\n{rows}")
    (recording,) = read_recordings(tmp_path / "w.csv")
    assert [m.t_ns.tolist() for m in recording.arrivals] == [[9, 5], [7]]
    assert recording.streams[0].t_ns.tolist() == [5, 7, 9]


# Writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("walk.txt", "expected a name that ends with .jsonl, .csv, .parquet"),
        ("walk.jsnl", "did you mean .jsonl?"),
        (".", "expected a name that ends with"),
        ("absent/walk.csv", "cannot be written; expected a name in a folder that can"),
        ("there.csv", "is there already; expected a new name, or --force to replace it"),
        ("left.parquet", "left.parquet.jsonl is left of a recording that did not end"),
    ],
)
def test_file_that_cannot_be_written_is_refused_before_anything_comes(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "there.csv").touch()
    (tmp_path / "left.parquet.jsonl").touch()
    with pytest.raises(ConfigError) as raised:
        open_capture(tmp_path / name, force=False)
    assert message in str(raised.value)


def test_file_comes_into_being_with_the_first_message_and_forced_ones_stay_until_then(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    assert open_capture(path, force=False).close() is None
    assert not path.exists()
    path.write_text("precious")
    assert open_capture(path, force=True).close() is None
    assert path.read_text() == "precious"


def test_full_disk_leaves_whole_messages_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.jsonl"
    file = open_capture(path, force=False)
    first, second = arrived([noise(20), noise(20, seed=1)])
    file.add(first, None)
    real = os.write

    def full(descriptor: int, content: memoryview) -> int:
        if len(content) > 100:
            return real(descriptor, content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(CaptureError, match=r"cannot be written any further \(No space left on device\); it holds \d+"):
        file.add(second, None)
    file.close()
    assert [len(m) for m in read_recordings(path)[0].arrivals] == [20]
    assert path.read_bytes().endswith(b"\n")


def test_parquet_waits_as_lines_that_a_crash_leaves_readable(tmp_path: Path) -> None:
    path = tmp_path / "w.parquet"
    file = open_capture(path, force=False)
    (message,) = arrived([noise(20)])
    file.add(message, "walking")
    assert not path.exists()
    (left,) = read_recordings(tmp_path / "w.parquet.jsonl")
    assert_same_message(message, left.arrivals[0])
    file.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.parquet"]


def test_recording_without_messages_is_classified_as_before() -> None:
    recording = Recording("wrist", None, (noise(1000),))
    recognizer = Recognizer(load_bundle(find_bundle(MODEL)), every_window=True)
    assert len([e for e in classify_recording(recognizer, recording) if e.type == "window"]) == 14
