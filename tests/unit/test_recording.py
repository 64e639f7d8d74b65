"""Recordings in files: what is read, what is written, and what a wrong file is told."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import sources
from simulator.datasets import fitbit, hapt, wisdm
from streamer.errors import RecordingError
from streamer.imu import ImuBatch
from streamer.number_text import CellTable, parse_floats
from streamer.offline import classify_file
from streamer.recording import ActivitySpan, Recording, read_recordings, write_csv
from streamer.wire.events import encode_event
from tests.motion import noise


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


finite = st.floats(-500, 500, allow_nan=False)  # times 20 still below 10,000


@given(
    t_ns=st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=20, unique=True),
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


@given(st.integers(0, 4_611_686_018), st.integers(0, 10**9 - 1))
def test_decimal_seconds_lose_no_nanosecond(seconds: int, fraction: int) -> None:
    table = CellTable(f"{seconds}.{fraction:09d}\n".encode(), columns=1)
    assert table.column_ns(0).tolist() == [seconds * 10**9 + fraction]


# Other formats -----------------------------------------------------------------------------------------------------


def in_npz(path: Path, recordings: list[Recording], **changes: object) -> Path:
    """The rows of recordings, each of one stream, as arrays."""
    streams = [r.streams[0] for r in recordings]
    arrays: dict[str, object] = {
        "t_ns": np.concatenate([s.t_ns for s in streams]),
        "acc": np.concatenate([s.acc for s in streams if s.acc is not None]),
        "gyro": np.concatenate([s.gyro for s in streams if s.gyro is not None]),
        "device": np.repeat([r.device_id for r in recordings], [len(s) for s in streams]),
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})  # type: ignore[arg-type]
    return path


def in_parquet(path: Path, recordings: list[Recording], **changes: object) -> Path:
    """The rows of recordings as columns."""
    with np.load(in_npz(path.with_suffix(".tmp.npz"), recordings)) as arrays:
        columns: dict[str, object] = {name: arrays[name] for name in ("t_ns", "device")}
        columns |= {f"{s}_{axis}": arrays[s][:, i] for s in ("acc", "gyro") for i, axis in enumerate("xyz")}
    columns |= changes
    table = pa.table({name: column for name, column in columns.items() if column is not None})
    pq.write_table(table, path, row_group_size=100)
    return path


def two_watches() -> list[Recording]:
    left, right = noise(700, seed=1, device="left"), noise(500, seed=2, device="right")
    return [Recording(batch.device_id, None, (batch,), rate_hz=50.0) for batch in (left, right)]


def test_csv_parquet_and_npz_of_one_recording_give_the_same_events_to_the_byte(tmp_path: Path) -> None:
    recordings = two_watches()
    write_csv(tmp_path / "r.csv", recordings)
    files = [tmp_path / "r.csv", in_npz(tmp_path / "r.npz", recordings), in_parquet(tmp_path / "r.parquet", recordings)]
    from_csv, *others = [
        [encode_event(event) for event in classify_file(file, model="uci-har-lstm", every_window=True)]
        for file in files
    ]
    assert len(from_csv) > 20
    for events in others:
        assert events == from_csv


def test_every_format_says_seconds_absent_sensors_labels_and_one_name_for_all(tmp_path: Path) -> None:
    rows = ["0.5,1,2,3,,,,sitting", "0.75,,,,4,5,6,sitting", "1.0,1,2,3,,,,"]
    (tmp_path / "w.csv").write_text("time,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z,label\n" + "\n".join(rows) + "\n")
    nan = np.nan
    acc, gyro = np.array([[1, 2, 3], [nan] * 3, [1, 2, 3]]), np.array([[nan] * 3, [4, 5, 6], [nan] * 3])
    time, label = np.array([0.5, 0.75, 1.0]), np.array(["sitting", "sitting", ""])
    np.savez_compressed(tmp_path / "w.npz", time=time, acc=acc, gyro=gyro, label=label, device=np.array("w"))
    nulls = {f"acc_{axis}": [float(i), None, float(i)] for i, axis in enumerate("xyz", 1)}
    columns = {"time": time, **nulls, **{f"gyro_{a}": gyro[:, i] for i, a in enumerate("xyz")}}
    columns["label"] = pa.array(["sitting", "sitting", None]).dictionary_encode()
    pq.write_table(pa.table(columns), tmp_path / "w.parquet")
    ((from_csv,), *others) = [read_recordings(tmp_path / f"w.{kind}") for kind in ("csv", "npz", "parquet")]
    assert [stream.t_ns.tolist() for stream in from_csv.streams] == [[500_000_000, 1_000_000_000], [750_000_000]]
    for (read,) in others:
        assert_same_readings(from_csv, read)
        assert read.spans == from_csv.spans == (ActivitySpan("sitting", 500_000_000, 1_000_000_000),)


@pytest.mark.parametrize("write", [in_npz, in_parquet])
def test_every_format_can_be_replayed(tmp_path: Path, write: Callable[[Path, list[Recording]], Path]) -> None:
    path = write(tmp_path / "w.npz", two_watches())
    watches = sources.load(str(path), tmp_path, sources.Selection())
    assert [watch.device_id for watch in watches] == ["left", "right"]


def test_timestamps_in_parquet_are_times(tmp_path: Path) -> None:
    stamps = pa.array([1_700_000_000_000_000, 1_700_000_000_020_000], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"t_ns": stamps} | {f"acc_{axis}": [1.0, 2.0] for axis in "xyz"}), tmp_path / "w.parquet")
    (recording,) = read_recordings(tmp_path / "w.parquet")
    assert recording.streams[0].t_ns.tolist() == [1_700_000_000_000_000_000, 1_700_000_000_020_000_000]


T_NS, ACC = np.array([5, 9]), np.ones((2, 3))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"acc": ACC}, "has acc; expected one of t_ns and time"),
        ({"t_ns": T_NS, "time": T_NS, "acc": ACC}, "expected one of t_ns and time"),
        ({"t_ns": T_NS}, "has neither acc nor gyro"),
        ({"t_ns": T_NS / 2, "acc": ACC}, "t_ns is float64 (2,); expected (n,) integers"),
        ({"t_ns": T_NS[:, None], "acc": ACC}, "t_ns is int64 (2, 1); expected (n,) integers"),
        ({"t_ns": T_NS, "acc": ACC.T}, "acc is float64 (3, 2); expected numbers (2, 3)"),
        ({"t_ns": T_NS, "acc": ACC + 1j}, "acc is complex128; expected numbers or text"),
        ({"t_ns": T_NS, "acc": ACC * np.array([[1, 1, 1], [1, np.nan, 1]])}, "row 1, column acc_y is empty; expected"),
        ({"t_ns": T_NS, "acc": ACC * np.inf}, "row 0, column acc_x is inf; expected a finite number"),
        ({"t_ns": T_NS, "gyro": ACC * 10_001}, "row 0, column gyro_x is 10001; expected magnitudes up to 10000"),
        ({"t_ns": -T_NS, "acc": ACC}, "row 0, column t_ns is -5 ns; expected 0 <= t < 2^62 ns"),
        ({"t_ns": T_NS[::-1], "acc": ACC}, "row 1, column t_ns is 5 ns; expected a time from 9 ns on"),
        ({"time": np.array([0, np.nan]), "acc": ACC}, "row 1, column time is nan; expected seconds, zero or more"),
        ({"t_ns": T_NS, "acc": ACC, "device": np.array(["a", "b/c"])}, "row 1, column device is 'b/c'; expected 1 to"),
        ({"t_ns": T_NS, "acc": ACC, "device": T_NS}, "device is int64 (2,); expected text"),
        ({"t_ns": T_NS[:0], "acc": ACC[:0]}, "has no readings; expected one at least"),
        ({"t_ns": T_NS, "acc": np.array([[{}] * 3] * 2)}, "acc is object; expected numbers or text"),
    ],
)
def test_wrong_archive_is_told_what_is_wrong(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(RecordingError) as raised:
        read_recordings(tmp_path / "w.npz")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"acc_x": [1.0]}, "has the columns acc_x; expected one of t_ns and time"),
        ({"t_ns": [1], "acc_x": [1.0]}, "has no column acc_y; expected all three axes of a sensor"),
        ({"t_ns": ["soon", "later"]}, "column t_ns is string; expected integers or timestamps"),
        ({"t_ns": [5, None]}, "row 1, column t_ns is empty; expected a time"),
        ({"t_ns": [9, 5]}, "row 1, column t_ns is 5 ns; expected a time from 9 ns on"),
        ({"acc_y": ["up", "down"]}, "column acc_y is string; expected numbers"),
        ({"acc_y": [None, 1.0]}, "row 0, column acc_y is empty; expected all three axes or none"),
        ({"device": ["a", "b/c"]}, "row 1, column device is 'b/c'; expected 1 to"),
        ({"device": ["a", "b" * 101]}, "row 1, column device is too long; expected at most 100 bytes"),
    ],
)
def test_wrong_parquet_is_told_what_is_wrong(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    if len(columns) == 1 and "acc_x" not in columns:
        columns = {"t_ns": [5, 9]} | {f"acc_{axis}": [1.0, 1.0] for axis in "xyz"} | columns
    pq.write_table(pa.table(columns), tmp_path / "w.parquet")
    with pytest.raises(RecordingError) as raised:
        read_recordings(tmp_path / "w.parquet")
    assert message in str(raised.value)


def test_archive_that_claims_more_than_it_holds_allocates_nothing(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**60, 3)})
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("acc.npy", header.getvalue())
    with pytest.raises(RecordingError, match=r"acc has 0 bytes; expected \d+ for its shape"):
        read_recordings(tmp_path / "w.npz")


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 3), } # \x82",
        b"{'descr': [('x', '<f8')], 'fortran_order': False, 'shape': (1, 3), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 3), }",
        b"(" * 9000,
        b"",
    ],
)
def test_header_of_an_array_that_numpy_would_stumble_over_is_refused(tmp_path: Path, header: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("acc.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24))
    with pytest.raises(RecordingError, match="acc is no plain array of numbers or text"):
        read_recordings(tmp_path / "w.npz")


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RecordingError, match=r"is Parquet, which needs pyarrow: pip install 'har-stream\[parquet\]'"):
        read_recordings(tmp_path / "w.parquet")


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    path = in_parquet(tmp_path / "w.parquet", two_watches())
    whole = path.read_bytes()
    # In the last one, the description of the columns.
    for content in (whole[:4], whole[:-100], whole[:200] + bytes(100) + whole[300:], whole[:-200] + whole[-150:]):
        path.write_bytes(content)
        with pytest.raises(RecordingError) as raised:
            read_recordings(path)
        assert "\n" not in str(raised.value)


def test_one_long_cell_does_not_cost_its_length_in_every_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="line 3, column label is too long; expected at most 100 bytes"):
        read_text(tmp_path, f"time,acc_x,acc_y,acc_z,label\n0,1,2,3,\n1,1,2,3,{'x' * 101}\n")
