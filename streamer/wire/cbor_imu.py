"""Readings as CBOR (RFC 8949): a map whose numbers are typed arrays (RFC 8746).

    {"t0_ns": 1700000000000000000, "rate_hz": 50.0, "seq": 7, "acc": 85(h'...'), "gyro": 85(h'...')}

`acc` and `gyro` hold x, y, z of the first reading, then of the second: a typed array of float16, float32 or float64 in
either byte order, or that as a row-major array of the shape [n, 3] (tag 40). `t_ns` is an integer or a typed array of
int64 or uint64. Units as in `ImuBatch`; null means absent. Keys are text strings; unknown ones are ignored so that
senders may be newer than the service, one that stands twice makes the map invalid (RFC 8949, 5.6).
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

import cbor2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamer.errors import PayloadError, RejectReason
from streamer.imu import ImuBatch
from streamer.wire import readings

# RFC 8746, section 2.1: tags of typed arrays.
_FLOATS: Final = {
    tag: np.dtype(code) for tag, code in {80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8"}.items()
}
_TIMES: Final = {tag: np.dtype(code) for tag, code in {67: ">u8", 71: "<u8", 75: ">i8", 79: "<i8"}.items()}
_MULTI_DIMENSIONAL: Final = 40  # row-major, section 3.1.1

#: Tags that cbor2 would turn into dates, regular expressions, mails, cycles and the like, at the sender's choice.
INERT: Final = dict.fromkeys(
    (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799),
    lambda _value, _immutable: ...,
)


def decode_cbor(device_id: str, payload: bytes, *, max_readings: int = readings.MAX_READINGS) -> ImuBatch:
    """The readings in a CBOR payload; see `streamer.wire.payload.decode`.

    Raises:
        PayloadError: with any reason but OVERSIZE in bytes, FORMAT, JSON and FUTURE.
    """
    document = _parse(payload)
    get = document.get
    return readings.batch(
        device_id,
        device=get("device"),
        seq=get("seq"),
        rate_hz=get("rate_hz"),
        t0_ns=get("t0_ns"),
        t_ns=_times(get("t_ns")),
        acc=_sensor("acc", get("acc")),
        gyro=_sensor("gyro", get("gyro")),
        max_readings=max_readings,
    )


def encode_cbor(batch: ImuBatch, *, dtype: DTypeLike = np.float64) -> bytes:
    """A CBOR payload; with float64 `decode_cbor` reads back the same values, times, rate and counter.

    Times are stated as t0_ns and rate_hz when the batch declares a rate that reproduces them, else one by one.

    Args:
        batch: the readings.
        dtype: np.float64, or np.float32 for half the size and 7 digits.
    """
    tag, code = {np.dtype(np.float64): (86, "<f8"), np.dtype(np.float32): (85, "<f4")}[np.dtype(dtype)]
    document: dict[str, object] = {}
    if readings.evenly_spaced(batch):
        document["t0_ns"] = int(batch.t_ns[0])
    else:
        document["t_ns"] = cbor2.CBORTag(79, batch.t_ns.astype("<i8").tobytes())
    if batch.rate_hz is not None:
        document["rate_hz"] = batch.rate_hz
    if batch.seq is not None:
        document["seq"] = batch.seq
    for sensor, values in (("acc", batch.acc), ("gyro", batch.gyro)):
        if values is not None:
            document[sensor] = cbor2.CBORTag(tag, values.astype(code).tobytes())
    return cbor2.dumps(document)


def _parse(payload: bytes) -> dict[object, object]:
    stream = BytesIO(payload)
    decoder = cbor2.CBORDecoder(
        stream,
        semantic_decoders=INERT,
        max_depth=readings.MAX_DEPTH,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )
    try:
        document = decoder.decode()
    except cbor2.CBORDecodeError as error:
        raise PayloadError(RejectReason.CBOR, f"CBOR: {error!s:.200}") from None
    if stream.tell() != len(payload):
        raise PayloadError(RejectReason.CBOR, f"CBOR: {len(payload) - stream.tell()} bytes follow the map")
    if type(document) is not dict:
        raise PayloadError(RejectReason.SCHEMA, "CBOR: expected a map")
    return document


def _times(field: object) -> NDArray[np.int64] | None:
    if field is None:
        return None
    if type(field) is int:
        if not 0 <= field < readings.MAX_T_NS:
            raise PayloadError(RejectReason.TIME_RANGE, "t_ns: expected 0 <= t_ns < 2^62")
        return np.array([field], dtype=np.int64)
    if isinstance(field, cbor2.CBORTag) and field.tag in _TIMES and type(field.value) is bytes:
        dtype = _TIMES[field.tag]
        if len(field.value) % 8:
            raise PayloadError(RejectReason.SHAPE, f"t_ns: {len(field.value)} bytes, expected a multiple of 8")
        # uint64 from 2^63 on becomes negative, which is as much out of range.
        return np.frombuffer(field.value, dtype).astype(np.int64)
    raise PayloadError(RejectReason.SCHEMA, "t_ns: expected an integer or a typed array of int64 or uint64")


def _sensor(name: str, field: object) -> NDArray[np.float64] | None:
    if field is None:
        return None
    shape: object = None
    if isinstance(field, cbor2.CBORTag) and field.tag == _MULTI_DIMENSIONAL:
        if not isinstance(field.value, list | tuple) or len(field.value) != 2:  # cbor2 freezes what stands in a tag
            raise PayloadError(RejectReason.SCHEMA, f"{name}: expected tag 40 to hold [[n, 3], typed array]")
        shape, field = field.value
    if not isinstance(field, cbor2.CBORTag) or field.tag not in _FLOATS or type(field.value) is not bytes:
        raise PayloadError(RejectReason.SCHEMA, f"{name}: expected a typed array of floats (tags 80-82, 84-86)")
    dtype = _FLOATS[field.tag]
    n, rest = divmod(len(field.value), 3 * dtype.itemsize)
    if rest or (shape is not None and shape not in ([n, 3], (n, 3))):
        raise PayloadError(
            RejectReason.SHAPE,
            f"{name}: {len(field.value)} bytes of {dtype}, expected n rows of 3 and the shape [n, 3]",
        )
    return np.frombuffer(field.value, dtype).astype(np.float64).reshape(n, 3)
