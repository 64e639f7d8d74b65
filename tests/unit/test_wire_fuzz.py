"""Whatever arrives, decode gives sound readings or raises PayloadError, quickly."""

from __future__ import annotations

import random
import time
from collections import Counter

import cbor2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.errors import PayloadError
from streamer.imu import ImuBatch
from streamer.wire.payload import CONTENT_TYPES, decode, encode_cbor, encode_json
from streamer.wire.readings import MAX_MAGNITUDE, MAX_T_NS

T_NS = 1_700_000_000_000_000_000 + np.arange(4, dtype=np.int64) * 20_000_000
VALUES = np.arange(12.0).reshape(4, 3)
GOOD = [
    encode(ImuBatch("w1", times, acc, gyro, rate_hz, seq))
    for encode in (encode_json, encode_cbor, lambda batch: encode_cbor(batch, dtype=np.float32))
    for times, acc, gyro, rate_hz, seq in (
        (T_NS, VALUES, VALUES, 50.0, 7),
        (T_NS, VALUES, None, None, None),
        (T_NS[::-1], None, VALUES, 50.0, 1),
    )
] + [
    b'{"t_ns": 17, "acc_x": 1, "acc_y": 2.0, "acc_z": 3, "device": "w1", "extra": [[{"a": null}], "x", true]}',
    cbor2.dumps(
        {"t_ns": 5, "acc": cbor2.CBORTag(40, [[1, 3], cbor2.CBORTag(84, bytes(6))]), "extra": [1, {"a": [2**70]}]}
    ),
]
#: Pieces that decoders are known to stumble over: huge lengths and numbers, half pairs, tags that act, stray breaks.
NASTY = [
    bytes.fromhex(text)
    for line in (
        "ffffffffffffffff 7fffffffffffffff 8000000000000000 9bffffffffffffffff bb7fffffffffffffff",
        "5b7fffffffffffffff 7b7fffffffffffffff f97e00 f97c01 fb7ff0000000000001 fa7f800001",
        "c249ffffffffffffffffff c4821b7fffffffffffffff01 c5821b000000ffffffffff01 d81c d81c81d81d00 d81d00",
        "d823 6128 d82461 61 d9010081d81900 ff 9f bf 5f 7f f7 f818 e0 dbffffffffffffffff 1c 3c d9d9f7",
    )
    for text in line.split()
] + [b"9" * 30, b"9" * 5000, b"1e400", b"-0", b"NaN", b"[", b"{", b'"', b"\\ud800", b"null", b"\xef\xbb\xbf"]


def check(payload: bytes, content_type: str | None = None) -> str:
    """What became of a payload: ok or the reason of its refusal; anything else fails."""
    try:
        batch = decode("w1", payload, content_type)
    except PayloadError as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) < 400
        return error.reason
    n = len(batch)
    assert n > 0
    assert batch.t_ns.dtype == np.int64
    assert 0 <= batch.t_ns.min() <= batch.t_ns.max() < MAX_T_NS
    assert batch.acc is not None or batch.gyro is not None
    for values in (batch.acc, batch.gyro):
        if values is not None:
            assert values.shape == (n, 3)
            assert values.dtype == np.float64
            assert values.flags.c_contiguous
            assert np.abs(values).max() <= MAX_MAGNITUDE
    return "ok"


def mutated(rng: random.Random) -> bytes:
    payload = bytearray(rng.choice(GOOD))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(payload) + 1)
        match rng.randrange(6):
            case 0:
                payload[at : at + 1] = rng.randbytes(1)
            case 1 if at < len(payload):
                payload[at] ^= 1 << rng.randrange(8)
            case 2:
                del payload[at : at + rng.randrange(1, 9)]
            case 3:
                payload[at : at + rng.randrange(9)] = rng.choice(NASTY)
            case 4:
                other = rng.choice(GOOD)
                start = rng.randrange(len(other))
                payload[at:at] = other[start : start + rng.randrange(1, 40)]
            case _:
                if rng.random() < 0.3:
                    del payload[at:]
    return bytes(payload)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_messages_are_read_or_refused(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    outcomes = Counter(check(mutated(rng), rng.choice((None, None, *CONTENT_TYPES.values()))) for _ in range(10_000))
    # The mutations reach every stage, not only the parsers.
    assert outcomes.keys() >= {"ok", "json", "cbor", "schema", "shape", "time_range", "value_range", "non_finite"}


@given(st.binary(max_size=200))
@example(b"")
def test_random_bytes_are_refused(payload: bytes) -> None:
    for prefix in (b"", b"{", b"\xa1", b"\xbf", b'{"acc_x":', b"\xa1\x63acc"):
        assert check(prefix + payload) != "ok"


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("w1é", max_size=5) | st.binary(max_size=24),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("w1é", max_size=3), inner, max_size=3)
        | st.builds(cbor2.CBORTag, st.sampled_from([0, 1, 2, 4, 28, 29, 35, 40, 64, 79, 80, 85, 86, 87, 258]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["t_ns", "t0_ns", "rate_hz", "seq", "device", "acc", "gyro"]), _json_values))
def test_any_well_formed_map_is_read_or_refused(document: dict[str, object]) -> None:
    check(cbor2.dumps(document))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"extra": ' + b"[" * 990_000,
        b'{"extra": "' + b"\\" * 990_000,
        b'{"acc_x": [' + b"1," * 490_000 + b"1]}",
        b'{"t_ns": ' + b"9" * 990_000 + b"}",
        b"\xa1\x61a\x9f" + b"\x80" * 990_000,
        b"\xa1\x61a" + b"\xd8\x40" * 490_000,
        b"\xa1\x61a\xc2\x5a\x00\x0f\x00\x00" + b"\xff" * 0x0F0000,
        b"\xbf" + b"".join(b"\x64%04d\x00" % (i % 10_000) for i in range(160_000)),
    ],
    ids=["nesting", "backslashes", "long list", "long number", "many arrays", "tags", "bignum", "keys"],
)
def test_the_worst_megabyte_costs_a_fraction_of_a_second(payload: bytes) -> None:
    start = time.process_time()
    assert check(payload) != "ok"
    # Of CPU time, whatever else runs. Linear parsing takes under 0.5 s; quadratic behaviour would take minutes.
    assert time.process_time() - start < 2
