"""Good input made bad: seeds and the changes that decoders are known to stumble over."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Final

import cbor2
import numpy as np

from streamer.imu import ImuBatch
from streamer.wire.payload import encode_cbor, encode_json

T_NS: Final = 1_700_000_000_000_000_000 + np.arange(4, dtype=np.int64) * 20_000_000
_VALUES: Final = np.arange(12.0).reshape(4, 3)
_BATCHES: Final = (
    ImuBatch("w1", T_NS, _VALUES, _VALUES, 50.0, 7),
    ImuBatch("w1", T_NS, _VALUES, None),
    ImuBatch("w1", T_NS[::-1], None, _VALUES, 50.0, 1),
)
JSON_SEEDS: Final = [
    *(encode_json(batch) for batch in _BATCHES),
    b'{"t_ns": 17, "acc_x": 1, "acc_y": 2.0, "acc_z": 3, "device": "w1", "extra": [[{"a": null}], "x", true]}',
    b'{"t0_ns": 5, "rate_hz": 1e2, "seq": 0, "acc_x": [1], "acc_y": [2], "acc_z": [3], "device": "w2"}',
]
CBOR_SEEDS: Final = [
    *(encode_cbor(batch) for batch in _BATCHES),
    *(encode_cbor(batch, dtype=np.float32) for batch in _BATCHES),
    cbor2.dumps(
        {"t_ns": 5, "acc": cbor2.CBORTag(40, [[1, 3], cbor2.CBORTag(84, bytes(6))]), "extra": [1, {"a": [2**70]}]}
    ),
    cbor2.dumps({"t_ns": cbor2.CBORTag(67, bytes(16)), "gyro": cbor2.CBORTag(80, bytes(12)), "device": "w1"}),
    b"\xbf\x64t_ns\x05\x63acc\xd8\x55\x4c" + bytes(12) + b"\xff",
]
#: Pieces that decoders are known to stumble over: huge lengths and numbers, half pairs, tags that act, stray breaks.
NASTY: Final = [
    bytes.fromhex(text)
    for line in (
        "ffffffffffffffff 7fffffffffffffff 8000000000000000 9bffffffffffffffff bb7fffffffffffffff",
        "5b7fffffffffffffff 7b7fffffffffffffff f97e00 f97c01 fb7ff0000000000001 fa7f800001",
        "c249ffffffffffffffffff c4821b7fffffffffffffff01 c5821b000000ffffffffff01 d81c d81c81d81d00 d81d00",
        "d823 6128 d82461 61 d9010081d81900 ff 9f bf 5f 7f f7 f818 e0 dbffffffffffffffff 1c 3c d9d9f7",
    )
    for text in line.split()
] + [
    b"9" * 30,
    b"9" * 5000,
    b"1e400",
    b"1e999",
    b"-0",
    b"NaN",
    b"[",
    b"{",
    b"[" * 40,
    b"[]," * 40,
    b'"',
    b"\\ud800",
    b"null",
    b"\xef\xbb\xbf",
    b"\x00",
    b"\n",
    b",",
]


_NUMBERS: Final = (0, 1, -1, 50, 20_000_000, int(T_NS[0]), 2**31, 2**53 + 1, 2**62 - 1, 2**62, 2**63, 2**64, -(2**70))
_FLOATS: Final = (0.0, -0.0, 0.01, 9.81, 1e4, 1e4 + 1, 1e-320, 1e300, 0.009)
_TAGS: Final = (0, 1, 2, 4, 25, 28, 29, 35, 40, 64, 67, 71, 75, 79, 80, 81, 82, 84, 85, 86, 87, 256, 258, 2**63)
_KEYS: Final = ("t_ns", "t0_ns", "rate_hz", "seq", "device")


def composed(rng: random.Random, kind: str) -> bytes:
    """A well-formed message whose fields are present or not and mostly of their own types, but for one or two.

    Args:
        rng: decides everything.
        kind: `json` or `cbor`.
    """
    n = rng.choice((1, 1, 2, 3, 5, 50))
    t0 = rng.choice(_NUMBERS) if rng.random() < 0.2 else int(T_NS[0])
    document: dict[object, object] = {}
    if rng.random() < 0.5:
        document |= {"t0_ns": t0, "rate_hz": rng.choice((50, 20.0, 0.01, 1e4, 1e5, 0))}
    else:
        steps = [t0 + i * rng.choice((1, 20_000_000, 10**9, -5)) for i in range(n)]
        in_range = np.array([t % 2**63 for t in steps], "<i8")
        document["t_ns"] = steps if kind == "json" else cbor2.CBORTag(79, in_range.tobytes())
    for sensor in rng.choice((("acc",), ("gyro",), ("acc", "gyro"))):
        values = np.array([rng.choice(_FLOATS) if rng.random() < 0.02 else rng.gauss(0, 9) for _ in range(3 * n)])
        if kind == "json":
            document |= {f"{sensor}_{axis}": values[i::3].tolist() for i, axis in enumerate("xyz")}
        else:
            tag, code = rng.choice(((80, ">f2"), (81, ">f4"), (82, ">f8"), (84, "<f2"), (85, "<f4"), (86, "<f8")))
            with np.errstate(over="ignore"):
                document[sensor] = cbor2.CBORTag(tag, values.astype(code).tobytes())
    if rng.random() < 0.3:
        document |= {"device": rng.choice(("w1", "w1", "w2", "", "w1\0")), "seq": rng.choice(_NUMBERS)}
    for _ in range(rng.choice((0, 0, 1, 2))):
        key = rng.choice((*_KEYS, *document, "unknown", "é"))
        document[key] = anything(rng, kind)
    if kind == "cbor":
        return cbor2.dumps(document)
    return json.dumps(document, ensure_ascii=rng.random() < 0.5, allow_nan=True).encode()


def anything(rng: random.Random, kind: str, depth: int = 0) -> object:  # noqa: PLR0911 - one for each case
    """A value of any type that the format knows, nested now and then."""
    match rng.randrange(9 if depth < 20 else 5):
        case 0:
            return rng.choice(_NUMBERS)
        case 1:
            return rng.choice((*_FLOATS, float("nan"), float("inf")))
        case 2:
            return rng.choice((None, True, False))
        case 3:
            return rng.choice(("", "w1", "x" * 100, "\u2028"))
        case 4:
            return rng.randbytes(rng.choice((0, 6, 12, 24))) if kind == "cbor" else 1e999
        case 5 | 6:
            return [anything(rng, kind, depth + 1) for _ in range(rng.choice((0, 1, 1, 1, 3)))]
        case 7:
            return {key: anything(rng, kind, depth + 1) for key in rng.sample(("a", "b", "device"), rng.randrange(3))}
        case _:
            inner = anything(rng, kind, depth + 1)
            return cbor2.CBORTag(rng.choice(_TAGS), inner) if kind == "cbor" else [inner]


def mutated(rng: random.Random, seeds: Sequence[bytes], payload: bytes | None = None) -> bytes:
    """A payload, one of the seeds by default, changed in one to sixteen places.

    Args:
        rng: decides everything.
        seeds: good input, whose pieces are also put in.
        payload: what to change.
    """
    changed = bytearray(rng.choice(seeds) if payload is None else payload)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(7):
            case 0:
                changed[at : at + 1] = rng.randbytes(1)
            case 1 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                del changed[at : at + rng.randrange(1, 9)]
            case 3:
                changed[at : at + rng.randrange(9)] = rng.choice(NASTY)
            case 4:
                other = rng.choice(seeds)
                start = rng.randrange(len(other) or 1)
                changed[at:at] = other[start : start + rng.randrange(1, 40)]
            case 5:
                piece = changed[at : at + rng.randrange(1, 40)]
                changed[at:at] = piece * rng.choice((1, 1, 2, 8))
            case _:
                if rng.random() < 0.3:
                    del changed[at:]
    return bytes(changed)
