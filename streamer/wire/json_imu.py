"""Readings as JSON: one object, one reading (numbers) or a batch in columns (lists of equal length).

    {"t_ns": 1700000000000000000, "acc_x": 0.1, "acc_y": -0.2, "acc_z": 9.8}
    {"t0_ns": 1700000000000000000, "rate_hz": 50, "seq": 7, "acc_x": [0.1, 0.2], "acc_y": [...], ..., "gyro_z": [...]}

Units as in `ImuBatch`. A sensor is there with its three axes or not at all; null means absent. Unknown keys are ignored
so that senders may be newer than the service; of a key that stands twice the last counts. Times are JSON integers:
a number written with a fraction or an exponent has already lost nanoseconds.
"""

from __future__ import annotations

import re
import struct
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.errors import PayloadError, RejectReason
from streamer.imu import ImuBatch
from streamer.wire import readings

_Column = float | list[float] | None

#: How Python, among others, writes what JSON cannot say.
_NON_FINITE: Final = re.compile(rb"[:,\[]\s*-?(?:NaN|Infinity)\b")

#: Strings, to be left out where brackets are counted; possessive, so that no payload makes it look twice.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKET: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEP: Final = np.zeros(256, np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1


class _Document(msgspec.Struct):
    t_ns: int | list[int] | None = None
    t0_ns: int | None = None
    rate_hz: float | None = None
    seq: int | None = None
    device: str | None = None
    acc_x: _Column = None
    acc_y: _Column = None
    acc_z: _Column = None
    gyro_x: _Column = None
    gyro_y: _Column = None
    gyro_z: _Column = None


_decoder = msgspec.json.Decoder(_Document)
_encoder = msgspec.json.Encoder()


def decode_json(device_id: str, payload: bytes, *, max_readings: int = readings.MAX_READINGS) -> ImuBatch:
    """The readings in a JSON payload; see `streamer.wire.payload.decode`.

    Raises:
        PayloadError: with any reason but OVERSIZE in bytes, FORMAT, CBOR and FUTURE.
    """
    document = _parse(payload)
    t_ns = document.t_ns
    return readings.batch(
        device_id,
        device=document.device,
        seq=document.seq,
        rate_hz=document.rate_hz,
        t0_ns=document.t0_ns,
        t_ns=None if t_ns is None else _times(t_ns),
        acc=_sensor("acc", document.acc_x, document.acc_y, document.acc_z),
        gyro=_sensor("gyro", document.gyro_x, document.gyro_y, document.gyro_z),
        max_readings=max_readings,
    )


def encode_json(batch: ImuBatch) -> bytes:
    """A columnar JSON payload that `decode_json` reads back to the same values, times, rate and counter.

    Times are stated as t0_ns and rate_hz when the batch declares a rate that reproduces them, else one by one.
    """
    document: dict[str, object] = {}
    if readings.evenly_spaced(batch):
        document["t0_ns"] = int(batch.t_ns[0])
    else:
        document["t_ns"] = batch.t_ns.tolist()
    if batch.rate_hz is not None:
        document["rate_hz"] = batch.rate_hz
    if batch.seq is not None:
        document["seq"] = batch.seq
    for sensor, values in (("acc", batch.acc), ("gyro", batch.gyro)):
        if values is not None:
            document |= zip((f"{sensor}_x", f"{sensor}_y", f"{sensor}_z"), values.T.tolist(), strict=True)
    return _encoder.encode(document)


def _parse(payload: bytes) -> _Document:
    refuse_depth(payload)
    try:
        return _decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise PayloadError(RejectReason.SCHEMA, f"JSON: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if _NON_FINITE.search(payload):
            raise PayloadError(RejectReason.NON_FINITE, "JSON: NaN or Infinity, expected finite values") from None
        raise PayloadError(RejectReason.JSON, f"JSON: {error!s:.200}") from None


def refuse_depth(payload: bytes) -> None:
    """Refuse JSON that is nested so deeply that it could exhaust a reader's stack.

    Raises:
        PayloadError: it is.
    """
    # Seven brackets open in a message without unknown keys: where there are few, nothing can be nested deeply.
    if payload.count(b"[") + payload.count(b"{") > readings.MAX_DEPTH and _depth(payload) > readings.MAX_DEPTH:
        raise PayloadError(RejectReason.JSON, f"JSON: nested too deeply, expected {readings.MAX_DEPTH} levels at most")


def _depth(payload: bytes) -> int:
    """Levels of arrays and objects, of JSON that is well formed; anything of what is not."""
    brackets = _STRING.sub(b"", payload).translate(None, _NO_BRACKET)
    return int(_STEP[np.frombuffer(brackets, np.uint8)].cumsum(dtype=np.int64).max(initial=0))


def _times(t_ns: int | list[int]) -> NDArray[np.int64]:
    try:
        return np.array(t_ns if isinstance(t_ns, list) else [t_ns], dtype=np.int64)
    except OverflowError:
        raise PayloadError(RejectReason.TIME_RANGE, "t_ns: expected 0 <= t_ns < 2^62 throughout") from None


def _sensor(name: str, x: _Column, y: _Column, z: _Column) -> NDArray[np.float64] | None:
    if isinstance(x, list) and isinstance(y, list) and isinstance(z, list):
        n = len(x)
        if len(y) != n or len(z) != n:
            raise PayloadError(RejectReason.SHAPE, f"{name}: {n}, {len(y)} and {len(z)} values, expected equal numbers")
        # struct packs a list of floats in a third of the time that np.array takes.
        columns = np.frombuffer(struct.pack(f"{3 * n}d", *x, *y, *z)).reshape(3, n)
        return np.ascontiguousarray(columns.T)
    if isinstance(x, float) and isinstance(y, float) and isinstance(z, float):
        return np.array([[x, y, z]])
    if x is None and y is None and z is None:
        return None
    if x is None or y is None or z is None:
        raise PayloadError(RejectReason.SCHEMA, f"{name}: expected all of {name}_x, {name}_y, {name}_z or none")
    raise PayloadError(RejectReason.SHAPE, f"{name}: expected three numbers or three lists")
