"""Payloads of readings: what is read, what is refused and under which reason."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.errors import PayloadError, RejectReason
from streamer.imu import ImuBatch
from streamer.wire.payload import CONTENT_TYPES, MAX_BYTES, decode, encode_cbor, encode_json
from streamer.wire.readings import MAX_READINGS, MAX_T_NS, period_ns

T0 = 1_700_000_000_000_000_000
MS = 1_000_000


def motion(n: int = 4) -> NDArray[np.float64]:
    # Five decimals, so that the longest message fits the limit in bytes as JSON too.
    return (np.random.default_rng(n).normal(size=(n, 3)) * 5).round(5)


def batch(
    n: int = 4,
    *,
    acc: bool = True,
    gyro: bool = True,
    t_ns: NDArray[np.int64] | None = None,
    rate_hz: float | None = 50.0,
    seq: int | None = 7,
) -> ImuBatch:
    times = T0 + np.arange(n, dtype=np.int64) * 20 * MS if t_ns is None else t_ns
    return ImuBatch("w1", times, motion(n) if acc else None, -motion(n) if gyro else None, rate_hz, seq)


def assert_same(got: ImuBatch, want: ImuBatch) -> None:
    assert (got.device_id, got.rate_hz, got.seq) == (want.device_id, want.rate_hz, want.seq)
    np.testing.assert_array_equal(got.t_ns, want.t_ns, strict=True)
    for got_values, want_values in ((got.acc, want.acc), (got.gyro, want.gyro)):
        if want_values is None or got_values is None:
            assert got_values is want_values
        else:
            np.testing.assert_array_equal(got_values, want_values, strict=True)


def columns(**fields: object) -> bytes:
    """A JSON message of two readings of acceleration, with fields replaced, added or (None) absent."""
    document = {"t0_ns": T0, "rate_hz": 50, "acc_x": [0.1, 0.2], "acc_y": [1, 2], "acc_z": [9.8, 9.9]} | fields
    return json.dumps(document).encode()


def cbor_map(**fields: object) -> bytes:
    """The same as CBOR."""
    acc = cbor2.CBORTag(86, struct.pack("<6d", 0.1, 1, 9.8, 0.2, 2, 9.9))
    return cbor2.dumps({"t0_ns": T0, "rate_hz": 50, "acc": acc} | fields)


def typed(tag: int, code: str, *values: float) -> cbor2.CBORTag:
    return cbor2.CBORTag(tag, struct.pack(code[0] + str(len(values)) + code[1], *values))


def refusal(payload: bytes, content_type: str | None = None) -> RejectReason:
    with pytest.raises(PayloadError) as caught:
        decode("w1", payload, content_type)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert len(message) < 400
    return caught.value.reason


encoders = pytest.mark.parametrize("encode", [encode_json, encode_cbor], ids=["json", "cbor"])


@encoders
@pytest.mark.parametrize(
    "original",
    [
        batch(),
        batch(1),
        batch(MAX_READINGS),
        batch(gyro=False, seq=None),
        batch(acc=False, rate_hz=None, seq=0),
        batch(rate_hz=104.0),  # the declared rate does not reproduce the times
        batch(t_ns=np.array([T0 + 3, T0, T0, T0 + 20 * MS])),
        batch(seq=2**63 - 1, t_ns=np.array([0, 1, MAX_T_NS - 1, 5])),
    ],
    ids=["both", "one", "longest", "acc only", "gyro only, explicit times", "other rate", "unordered", "extremes"],
)
def test_round_trip_is_exact(encode: Callable[[ImuBatch], bytes], original: ImuBatch) -> None:
    assert_same(decode("w1", encode(original)), original)


@encoders
@given(
    values=st.lists(st.tuples(*[st.floats(-100, 100)] * 6), min_size=1, max_size=20),
    times=st.data(),
    rate_hz=st.one_of(st.none(), st.floats(0.01, 10_000)),
    regular=st.booleans(),
)
def test_round_trip_is_exact_for_any_values(
    encode: Callable[[ImuBatch], bytes],
    values: list[tuple[float, ...]],
    times: st.DataObject,
    rate_hz: float | None,
    regular: bool,  # noqa: FBT001 - drawn by Hypothesis
) -> None:
    both = np.array(values)
    n = len(both)
    if regular:
        t_ns = T0 + np.arange(n) * period_ns(rate_hz or 50.0)
    else:
        t_ns = np.array(times.draw(st.lists(st.integers(0, MAX_T_NS - 1), min_size=n, max_size=n)), dtype=np.int64)
    original = ImuBatch("w1", t_ns, both[:, :3].copy(), both[:, 3:].copy(), rate_hz)
    assert_same(decode("w1", encode(original)), original)


def test_regular_times_travel_as_start_and_rate() -> None:
    for payload in (json.loads(encode_json(batch())), cbor2.loads(encode_cbor(batch()))):
        assert payload["t0_ns"] == T0
        assert "t_ns" not in payload


def test_float32_halves_the_payload_and_keeps_float32_values() -> None:
    original = batch(50)
    assert original.acc is not None
    payload = encode_cbor(original, dtype=np.float32)
    assert len(payload) < 0.6 * len(encode_cbor(original))
    acc = decode("w1", payload).acc
    np.testing.assert_array_equal(acc, original.acc.astype(np.float32).astype(np.float64))


def test_one_json_reading_is_a_batch_of_one() -> None:
    got = decode("w1", b'{"t_ns": 17, "acc_x": 1, "acc_y": -2.5, "acc_z": 9.8}')
    assert_same(got, ImuBatch("w1", np.array([17]), np.array([[1.0, -2.5, 9.8]]), None))


def test_one_reading_may_state_its_time_as_t0_and_rate() -> None:
    got = decode("w1", b'{"t0_ns": 17, "rate_hz": 25, "gyro_x": 1, "gyro_y": 2, "gyro_z": 3}')
    assert_same(got, ImuBatch("w1", np.array([17]), None, np.array([[1.0, 2.0, 3.0]]), 25.0))


@pytest.mark.parametrize(
    ("tag", "code"), [(80, ">e"), (81, ">f"), (82, ">d"), (84, "<e"), (85, "<f"), (86, "<d")], ids=str
)
def test_every_float_array_of_rfc_8746_is_read(tag: int, code: str) -> None:
    got = decode("w1", cbor_map(acc=typed(tag, code, 1, 2, 3, -4, 0.5, 6)))
    np.testing.assert_array_equal(got.acc, np.array([[1, 2, 3], [-4, 0.5, 6]]), strict=True)


@pytest.mark.parametrize(("tag", "code"), [(67, ">Q"), (71, "<Q"), (75, ">q"), (79, "<q")], ids=str)
def test_every_array_of_times_is_read(tag: int, code: str) -> None:
    got = decode("w1", cbor_map(t0_ns=None, t_ns=typed(tag, code, T0, T0 + 1)))
    np.testing.assert_array_equal(got.t_ns, np.array([T0, T0 + 1]), strict=True)


def test_multi_dimensional_array_is_read() -> None:
    got = decode("w1", cbor_map(acc=cbor2.CBORTag(40, [[2, 3], typed(85, "<f", 1, 2, 3, 4, 5, 6)])))
    np.testing.assert_array_equal(got.acc, np.array([[1.0, 2, 3], [4, 5, 6]]), strict=True)


def test_unknown_keys_are_ignored() -> None:
    extra = {"battery": 0.5, "info": {"firmware": ["1.2", None, {"beta": True}]}}
    want = decode("w1", columns())
    assert_same(decode("w1", columns(**extra)), want)
    assert_same(decode("w1", cbor_map(**extra)), want)
    # Tags that a decoder may act upon are extra keys like any other: a regular expression, a cycle, a date.
    dangers = {"r": cbor2.CBORTag(35, "("), "c": cbor2.CBORTag(28, [cbor2.CBORTag(29, 0)]), "d": cbor2.CBORTag(0, "x")}
    assert_same(decode("w1", cbor_map(**dangers)), want)


def test_format_follows_content_type_else_first_byte() -> None:
    want = decode("w1", columns())
    for content_type in (None, "", "application/json", "Application/JSON; charset=utf-8"):
        assert_same(decode("w1", b" \n" + columns(), content_type), want)
    for content_type in (None, "application/cbor"):
        assert_same(decode("w1", cbor_map(), content_type), want)
    assert refusal(columns(), CONTENT_TYPES["cbor"]) is RejectReason.CBOR
    assert refusal(cbor_map(), CONTENT_TYPES["json"]) is RejectReason.JSON
    assert refusal(columns(), "text/plain") is RejectReason.FORMAT


def test_device_in_the_payload_must_be_the_topics() -> None:
    assert decode("w1", columns(device="w1")).device_id == "w1"
    assert refusal(columns(device="w2")) is RejectReason.DEVICE_MISMATCH
    assert refusal(cbor_map(device="w2")) is RejectReason.DEVICE_MISMATCH
    assert refusal(cbor_map(device=1)) is RejectReason.DEVICE_MISMATCH


def test_50_hz_lies_on_the_20_ms_grid() -> None:
    t_ns = decode("w1", encode_json(batch(MAX_READINGS))).t_ns
    np.testing.assert_array_equal(t_ns, T0 + np.arange(MAX_READINGS) * 20 * MS)


@given(rate_hz=st.floats(0.01, 10_000), n=st.integers(2, 50), cut=st.integers(1, 49))
def test_a_batch_cut_in_two_keeps_its_times(rate_hz: float, n: int, cut: int) -> None:
    cut = min(cut, n - 1)

    def times(t0_ns: int, count: int) -> list[int]:
        zeros = [0.0] * count
        message = {"t0_ns": t0_ns, "rate_hz": rate_hz, "acc_x": zeros, "acc_y": zeros, "acc_z": zeros}
        return [int(t) for t in decode("w1", json.dumps(message).encode()).t_ns]

    whole = times(T0, n)
    assert times(whole[0], cut) + times(whole[cut], n - cut) == whole
    assert max(abs(t - T0 - i * 1e9 / rate_hz) for i, t in enumerate(whole)) <= 0.5 * n + 1e-3 * n


@pytest.mark.parametrize("payload", [columns(), cbor_map(), encode_cbor(batch()), encode_json(batch(rate_hz=None))])
def test_arrays_are_contiguous_and_share_no_memory_with_the_payload(payload: bytes) -> None:
    mutable = bytearray(payload)
    got = decode("w1", bytes(mutable))
    assert got.acc is not None
    before = got.acc.copy()
    for array in (got.acc, got.t_ns):
        assert array.flags.c_contiguous
        assert array.dtype.isnative
    view = got.acc.base if got.acc.base is not None else got.acc
    assert not isinstance(view, bytearray | memoryview)
    mutable[:] = bytes(len(mutable))
    np.testing.assert_array_equal(got.acc, before)


NAN, INF = math.nan, math.inf
ROW = (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        # neither format, or broken
        (b"", RejectReason.FORMAT),
        (b"\x00\x01", RejectReason.FORMAT),
        (b"[1, 2]", RejectReason.FORMAT),
        (b"hello", RejectReason.FORMAT),
        (columns()[:-1], RejectReason.JSON),
        (columns() + b"x", RejectReason.JSON),
        (b'{"device": "\xff"}', RejectReason.JSON),
        (b'{"device": "\\ud800"}', RejectReason.JSON),
        (b'{"extra": ' + b"[" * 100_000, RejectReason.JSON),
        (b'{"extra": ' + b'{"a":' * 100_000, RejectReason.JSON),
        (cbor_map()[:-1], RejectReason.CBOR),
        (cbor_map() + b"\x00", RejectReason.CBOR),
        (b"\xa1\x61a" + b"\x81" * 100_000, RejectReason.CBOR),
        (b"\xa1\x61a" + b"\xc6" * 100_000, RejectReason.CBOR),
        (b"\xa2\x61a\x01\x61a\x02", RejectReason.CBOR),  # a key twice
        (b"\xa1\x01\x02", RejectReason.CBOR),  # a key that is no text
        # lengths declared, not sent
        (b"\xbb" + b"\xff" * 8, RejectReason.CBOR),
        (b"\xa1\x61a\x9b\x7f" + b"\xff" * 7, RejectReason.CBOR),
        (b"\xa1\x61a\x5b\x7f" + b"\xff" * 7, RejectReason.CBOR),
        (b"\xa1\x61a\x7b\x7f" + b"\xff" * 7, RejectReason.CBOR),
        # fields
        (b"{}", RejectReason.SCHEMA),
        (b"\xa0", RejectReason.SCHEMA),
        (columns(acc_x="1"), RejectReason.SCHEMA),
        (columns(acc_x=[None, 1]), RejectReason.SCHEMA),
        (columns(acc_x=[[1], [2]]), RejectReason.SCHEMA),
        (columns(acc_z=None), RejectReason.SCHEMA),
        (columns(gyro_x=[1, 2]), RejectReason.SCHEMA),
        (columns(t0_ns=None), RejectReason.SCHEMA),
        (columns(rate_hz=None), RejectReason.SCHEMA),
        (columns(t0_ns=1.7e18), RejectReason.SCHEMA),
        (columns(t_ns=[T0, T0 + 1]), RejectReason.SCHEMA),  # and t0_ns
        (columns().replace(b"50", b"1e999"), RejectReason.SCHEMA),
        (columns().replace(b"50", b"9" * 10_000), RejectReason.SCHEMA),
        (columns(seq=-1), RejectReason.SCHEMA),
        (columns(seq=2**63), RejectReason.SCHEMA),
        (columns(seq=True), RejectReason.SCHEMA),
        (cbor_map(seq=True), RejectReason.SCHEMA),
        (cbor_map(acc=None), RejectReason.SCHEMA),
        (cbor_map(acc=[[0.0, 0.0, 0.0]]), RejectReason.SCHEMA),
        (cbor_map(acc=typed(77, "<h", 1, 2, 3)), RejectReason.SCHEMA),  # an array of integers
        (cbor_map(acc=cbor2.CBORTag(86, "text")), RejectReason.SCHEMA),
        (cbor_map(acc=cbor2.CBORTag(40, 5)), RejectReason.SCHEMA),
        (cbor_map(acc=cbor2.CBORTag(4, [1, 2])), RejectReason.SCHEMA),
        (cbor_map(rate_hz="50"), RejectReason.SCHEMA),
        (cbor_map(t0_ns=float(T0)), RejectReason.SCHEMA),
        (cbor_map(t0_ns=None, t_ns=[T0, T0 + 1]), RejectReason.SCHEMA),
        # shapes
        (columns(acc_x=[1]), RejectReason.SHAPE),
        (columns(acc_x=1), RejectReason.SHAPE),
        (columns(acc_x=[], acc_y=[], acc_z=[]), RejectReason.SHAPE),
        (columns(gyro_x=[1], gyro_y=[1], gyro_z=[1]), RejectReason.SHAPE),
        (columns(t0_ns=None, t_ns=[T0]), RejectReason.SHAPE),
        (columns(t0_ns=None, t_ns=T0), RejectReason.SHAPE),
        (columns(t0_ns=None, t_ns=[]), RejectReason.SHAPE),
        (cbor_map(acc=typed(86, "<d", 1, 2, 3, 4)), RejectReason.SHAPE),
        (cbor_map(acc=cbor2.CBORTag(86, bytes(25))), RejectReason.SHAPE),
        (cbor_map(acc=cbor2.CBORTag(86, b"")), RejectReason.SHAPE),
        (cbor_map(acc=cbor2.CBORTag(40, [[3, 1], typed(86, "<d", *ROW)])), RejectReason.SHAPE),
        (cbor_map(acc=cbor2.CBORTag(40, [[2, 3], typed(86, "<d", *ROW)])), RejectReason.SHAPE),
        (cbor_map(gyro=typed(86, "<d", *ROW)), RejectReason.SHAPE),
        (cbor_map(t0_ns=None, t_ns=cbor2.CBORTag(79, bytes(15))), RejectReason.SHAPE),
        # values
        (columns(acc_x=[NAN, 1]), RejectReason.NON_FINITE),
        (columns(acc_x=[1, -INF]), RejectReason.NON_FINITE),
        (cbor_map(acc=typed(86, "<d", 0, NAN, 0)), RejectReason.NON_FINITE),
        (cbor_map(acc=typed(85, "<f", 0, INF, 0)), RejectReason.NON_FINITE),
        (cbor_map(acc=typed(84, "<e", 0, 0, -INF)), RejectReason.NON_FINITE),
        (cbor_map(acc=cbor2.CBORTag(85, b"\x01\x00\x80\x7f" * 3)), RejectReason.NON_FINITE),  # signalling NaN
        (columns(acc_x=[10_000.1, 0]), RejectReason.VALUE_RANGE),
        (columns(acc_x=[1e200, -1e200]), RejectReason.VALUE_RANGE),
        (cbor_map(gyro=typed(86, "<d", -10_001, *ROW, 0, 0)), RejectReason.VALUE_RANGE),
        (columns(rate_hz=0), RejectReason.VALUE_RANGE),
        (columns(rate_hz=-50), RejectReason.VALUE_RANGE),
        (columns(rate_hz=1e300), RejectReason.VALUE_RANGE),
        (cbor_map(rate_hz=2**64 - 1), RejectReason.VALUE_RANGE),
        (cbor_map(rate_hz=NAN), RejectReason.VALUE_RANGE),
        # times
        (columns(t0_ns=-1), RejectReason.TIME_RANGE),
        (columns(t0_ns=MAX_T_NS - 20 * MS), RejectReason.TIME_RANGE),  # the second reading lies beyond
        (columns(t0_ns=10**30), RejectReason.TIME_RANGE),
        (columns(t0_ns=None, t_ns=[T0, -1]), RejectReason.TIME_RANGE),
        (columns(t0_ns=None, t_ns=[T0, MAX_T_NS]), RejectReason.TIME_RANGE),
        (columns(t0_ns=None, t_ns=[T0, 10**30]), RejectReason.TIME_RANGE),
        (cbor_map(t0_ns=None, t_ns=10**19), RejectReason.TIME_RANGE),
        (cbor_map(t0_ns=None, t_ns=typed(79, "<q", T0, -1)), RejectReason.TIME_RANGE),
        (cbor_map(t0_ns=None, t_ns=typed(71, "<Q", T0, 2**64 - 1)), RejectReason.TIME_RANGE),
        # size
        (columns(**{f"acc_{axis}": [0] * (MAX_READINGS + 1) for axis in "xyz"}), RejectReason.OVERSIZE),
        (b"{" + b" " * MAX_BYTES, RejectReason.OVERSIZE),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else str(value),
)
def test_unusable_payload_is_refused_under_its_own_reason(payload: bytes, reason: RejectReason) -> None:
    assert refusal(payload) is reason


def nested(levels: int) -> object:
    return [nested(levels - 1)] if levels else 0


def with_unknown(kind: str, value: object) -> bytes:
    """A reading with a key that nobody knows."""
    if kind == "json":
        return json.dumps({"t_ns": 1, "acc_x": 1, "acc_y": 2, "acc_z": 3, "unknown": value}).encode()
    return cbor2.dumps({"t_ns": 1, "acc": cbor2.CBORTag(85, bytes(12)), "unknown": value})


@pytest.mark.parametrize("kind", ["json", "cbor"])
def test_sixteen_levels_may_be_nested_and_no_more(kind: str) -> None:
    # The object itself is a level.
    assert len(decode("w1", with_unknown(kind, nested(15)))) == 1
    for levels in (17, 400):
        with pytest.raises(PayloadError) as refused:
            decode("w1", with_unknown(kind, nested(levels)))
        assert refused.value.reason == kind


def test_brackets_beside_each_other_or_in_text_are_not_nested() -> None:
    reading = b'{"t_ns": 1, "acc_x": 1, "acc_y": 2, "acc_z": 3, "unknown": %s}'
    for unknown in (b"[" + b"[]," * 1000 + b"[]]", b'"' + b'[{\\"' * 1000 + b'"', b'["' + b"\\\\" + b'", [{}]]'):
        assert len(decode("w1", reading % unknown)) == 1


def test_limits_are_arguments() -> None:
    payload = encode_cbor(batch(20))
    with pytest.raises(PayloadError, match=r"expected at most 100$"):
        decode("w1", payload, max_bytes=100)
    with pytest.raises(PayloadError, match="20 readings: expected at most 19"):
        decode("w1", payload, max_readings=19)


def test_magnitude_bound_is_inclusive() -> None:
    acc = decode("w1", columns(acc_x=[10_000, -10_000])).acc
    assert acc is not None
    assert acc[:, 0].tolist() == [10_000.0, -10_000.0]


def test_refusal_never_quotes_a_payload_at_length() -> None:
    long_name = "x" * 100_000
    refusal(columns(device=long_name))
    refusal(cbor2.dumps({long_name: 1})[:-1] + cbor2.dumps({long_name: 1}))
    refusal(b"\xa2" + 2 * (cbor2.dumps(long_name) + b"\x01"))
    refusal(columns(), long_name)
