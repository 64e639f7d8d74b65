"""Recordings in CSV: what is read, what is written, and what a wrong file is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.datasets import fitbit, hapt, wisdm
from streamer.errors import RecordingError
from streamer.imu import ImuBatch
from streamer.number_text import CellTable, parse_floats
from streamer.recording import ActivitySpan, Recording, read_recordings, write_csv


def read_text(folder: Path, text: str | bytes) -> list[Recording]:
    path = folder / "walk.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_recordings(path)


def assert_same_readings(one: Recording, other: Recording) -> None:
    assert one.device_id == other.device_id
    assert len(one.streams) == len(other.streams)
    for first, second in zip(one.streams, other.streams, strict=True):
        np.testing.assert_array_equal(first.t_ns, second.t_ns)
        for left, right in ((first.acc, second.acc), (first.gyro, second.gyro)):
            assert (left is None) == (right is None)
            if left is not None and right is not None:
                np.testing.assert_array_equal(left, right)


def test_every_data_set_survives_the_way_through_csv_bit_for_bit(data_dir: Path, tmp_path: Path) -> None:
    recordings = [
        *hapt.read_recordings(data_dir, subjects={"2"}),
        *fitbit.read_recordings(data_dir),
        *wisdm.read_recordings(data_dir, subjects={"1610"}),
    ]
    write_csv(tmp_path / "all.csv", recordings)
    for written, read in zip(recordings, read_recordings(tmp_path / "all.csv"), strict=True):
        assert_same_readings(written, read)
        assert read.rate_hz == written.rate_hz
        assert [span.activity for span in read.spans] == [span.activity for span in written.spans]
        if len(written.streams) == 1:
            assert read.spans == written.spans


finite = st.floats(-1e4, 1e4, allow_nan=False)


@given(
    t_ns=st.lists(st.integers(0, 2**62), min_size=1, max_size=20, unique=True),
    values=st.lists(finite, min_size=6, max_size=6),
    with_gyro=st.booleans(),
)
def test_any_readings_survive_the_way_through_csv(
    tmp_path_factory: pytest.TempPathFactory, t_ns: list[int], values: list[float], *, with_gyro: bool
) -> None:
    times = np.array(sorted(t_ns), np.int64)
    acc = np.outer(np.arange(1, len(times) + 1), values[:3]).astype(np.float64)
    gyro = np.outer(np.ones(len(times)), values[3:]) if with_gyro else None
    recording = Recording("w-1", None, (ImuBatch("w-1", times, acc, gyro),))
    path = tmp_path_factory.mktemp("csv") / "any.csv"
    write_csv(path, [recording])
    (read,) = read_recordings(path)
    assert_same_readings(recording, read)


def test_seconds_become_nanoseconds_exactly(tmp_path: Path) -> None:
    (recording,) = read_text(
        tmp_path, "time,acc_x,acc_y,acc_z\n1700000000.123456789,0,0,9.8\n1700000000.2,0,0,9.8\n1700000001,0,0,9.8\n"
    )
    assert recording.streams[0].t_ns.tolist() == [
        1_700_000_000_123_456_789,
        1_700_000_000_200_000_000,
        1_700_000_001_000_000_000,
    ]
    assert recording.device_id == "walk"


def test_several_devices_in_a_file_are_several_recordings(tmp_path: Path) -> None:
    one, two = read_text(
        tmp_path, "t_ns,device,acc_x,acc_y,acc_z\n5,left,1,2,3\n1,right,4,5,6\n9,left,1,2,3\n7,right,4,5,6\n"
    )
    assert (one.device_id, one.streams[0].t_ns.tolist()) == ("left", [5, 9])
    assert (two.device_id, two.streams[0].t_ns.tolist()) == ("right", [1, 7])


def test_quotes_carriage_returns_byte_order_mark_and_other_columns_do_no_harm(tmp_path: Path) -> None:
    (recording,) = read_text(
        tmp_path,
        b'\xef\xbb\xbf"note","t_ns","acc_x","acc_y","acc_z","label"\r\nhm,0,1,2,3,"sitting"\r\n,20,1,2,3,"sitting"\r\n\r\n',
    )
    assert recording.streams[0].t_ns.tolist() == [0, 20]
    assert recording.spans == (ActivitySpan("sitting", 0, 40),)


def test_labels_become_spans_that_end_at_changes_holes_and_empty_labels(tmp_path: Path) -> None:
    # t/s        0.0 0.1 0.2 0.3 0.4 0.5      3.0 3.1
    # label       A   A   B   -   B   B   hole  B   B
    rows = ["0.0,A", "0.1,A", "0.2,B", "0.3,", "0.4,B", "0.5,B", "3.0,B", "3.1,B"]
    (recording,) = read_text(tmp_path, "time,label,acc_x,acc_y,acc_z\n" + "".join(f"{row},0,0,9.8\n" for row in rows))
    tenth_ns = 100_000_000
    assert recording.spans == (
        ActivitySpan("A", 0, 2 * tenth_ns),
        ActivitySpan("B", 2 * tenth_ns, 3 * tenth_ns),
        ActivitySpan("B", 4 * tenth_ns, 6 * tenth_ns),
        ActivitySpan("B", 30 * tenth_ns, 32 * tenth_ns),
    )


def test_rows_without_one_sensor_make_streams_of_their_own(tmp_path: Path) -> None:
    (recording,) = read_text(
        tmp_path, "t_ns,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z\n0,1,2,3,,,\n3,,,,4,5,6\n10,1,2,3,,,\n"
    )
    acc, gyro = recording.streams
    assert (acc.t_ns.tolist(), acc.gyro) == ([0, 10], None)
    assert (gyro.t_ns.tolist(), gyro.acc) == ([3], None)


HEADER = "time,acc_x,acc_y,acc_z\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 is ''; expected column names with one of t_ns and time"),
        ("a,b\n1,2\n", "line 1 is 'a,b'; expected column names"),
        ("time,t_ns,acc_x,acc_y,acc_z\n", "expected column names with one of t_ns and time"),
        ("time,acc_x,acc_y\n1,2,3\n", "line 1 has no acc_z; expected all three axes of a sensor"),
        ("time,label\n1,2\n", "line 1 has no acc_x; expected all three axes of a sensor"),
        (HEADER, "has no lines after its header; expected readings"),
        (HEADER + "0,1,2,3\n1,2,3\n", "line 3 is '1,2,3'; expected 4 cells"),
        (HEADER + "0,1,2,3\n\n1,1,2,3\n", "line 3 is ''; expected 4 cells"),
        (HEADER + "0,1,2,3\n1,1,up,3\n", "line 3, column acc_y is 'up'; expected a number"),
        (HEADER + "0,1,inf,3\n", "line 2, column acc_y is 'inf'; expected a finite number"),
        (HEADER + "0,1,nan,3\n", "line 2, column acc_y is 'nan'; expected a finite number"),
        (HEADER + "0,1,,3\n", "line 2, column acc_y is empty; expected all three axes or none"),
        (HEADER + "0,,,\n", "has empty cells only; expected readings"),
        (HEADER + "soon,1,2,3\n", "line 2, column time is 'soon'; expected seconds"),
        (HEADER + ",1,2,3\n", "line 2, column time is ''; expected seconds"),
        (HEADER + "-0.5,1,2,3\n", "line 2, column time is '-0.5'; expected seconds"),
        (HEADER + "2,1,2,3\n1,1,2,3\n", "line 3, column time is 1000000000 ns; expected a time from 2000000000 ns on"),
        ("t_ns,acc_x,acc_y,acc_z\n1.5,1,2,3\n", "line 2, column t_ns is '1.5'; expected whole nanoseconds"),
        ("t_ns,acc_x,acc_y,acc_z\n9999999999999999999,1,2,3\n", "column t_ns is '9999999999999999999'; expected whole"),
        ("t_ns,device,acc_x,acc_y,acc_z\n0,a/b,1,2,3\n", "line 2, column device is 'a/b'; expected 1 to 64 of"),
        (HEADER + "0,1,2," + "3" * 2000 + "\n", "line 2 is "),
    ],
)
def test_a_wrong_file_is_refused_with_line_column_value_and_expectation(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(RecordingError) as raised:
        read_text(tmp_path, text)
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(tmp_path / "walk.csv"))
    assert "\n" not in str(raised.value)


def test_an_error_beyond_the_first_block_names_the_right_line(tmp_path: Path) -> None:
    line = "0,1.2345678901234567,1.2345678901234567,1.2345678901234567\n"
    good = (1 << 24) // len(line) + 1000
    with pytest.raises(RecordingError, match=f"line {good + 2}, column acc_z is 'x'"):
        read_text(tmp_path, HEADER + line * good + "0,1,2,x\n" + line)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"gone\.csv: cannot be read \(No such file or directory\)"):
        read_recordings(tmp_path / "gone.csv")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50))
def test_parsed_floats_are_the_doubles_that_python_reads(values: list[float]) -> None:
    text = " \n".join(repr(value) for value in values).encode()
    parsed = parse_floats(text)
    assert parsed is not None
    assert parsed.tolist() == values


def test_text_that_is_not_all_numbers_is_none() -> None:
    assert parse_floats(b"1 2 three 4") is None


@given(st.integers(0, 9_000_000_000), st.integers(0, 10**9 - 1))
def test_decimal_seconds_lose_no_nanosecond(seconds: int, fraction: int) -> None:
    table = CellTable(f"{seconds}.{fraction:09d}\n".encode(), columns=1)
    assert table.column_ns(0).tolist() == [seconds * 10**9 + fraction]
