"""Whatever arrives, decode gives sound readings or raises PayloadError, quickly."""

from __future__ import annotations

import random
import time
from collections import Counter

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.wire.payload import CONTENT_TYPES
from tests.fuzz.mutation import CBOR_SEEDS, JSON_SEEDS, composed, mutated
from tests.fuzz.targets import check_payload


@pytest.mark.parametrize("kind", ["json", "cbor"])
def test_mutated_messages_are_read_or_refused(kind: str) -> None:
    rng = random.Random(0)  # noqa: S311 - not for secrets
    seeds = {"json": JSON_SEEDS, "cbor": CBOR_SEEDS}[kind]
    outcomes: Counter[str] = Counter()
    for _ in range(10_000):
        payload = composed(rng, kind) if rng.random() < 0.5 else mutated(rng, seeds)
        outcomes[check_payload(payload, rng.choice((None, *CONTENT_TYPES.values())))] += 1
    # The mutations reach every stage, not only the parsers.
    stages = {"ok", kind, "schema", "shape", "time_range", "value_range", "non_finite", "device_mismatch", "format"}
    assert outcomes.keys() >= stages


@given(st.binary(max_size=200))
@example(b"")
def test_random_bytes_are_refused(payload: bytes) -> None:
    for prefix in (b"", b"{", b"\xa1", b"\xbf", b'{"acc_x":', b"\xa1\x63acc"):
        assert check_payload(prefix + payload) != "ok"


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
    check_payload(cbor2.dumps(document))


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
    assert check_payload(payload) != "ok"
    # Of CPU time, whatever else runs. Linear parsing takes under 0.5 s; quadratic behaviour would take minutes.
    assert time.process_time() - start < 2
