"""SenML, Sensor Measurement Lists (RFC 8428), as JSON and as CBOR: a list of records, one number each.

    [{"bn": "urn:dev:mac:0024befffe804ff1:", "bt": 1700000000.0, "bu": "m/s2", "n": "acc:x", "v": 0.1},
     {"n": "acc:y", "v": 0.2}, {"n": "acc:z", "v": 9.8}, {"n": "acc:x", "t": 0.02, "v": 0.1}, ...]

A name is base name and name together; its end says what is measured, by the names of `streams.column_of`: acc_x, accX,
acc:x, acc/x. x, y and z of one sensor and one time are one reading. Times are seconds since 1970; those below 2^28
count from now (4.5.3), which means nothing to a reader that works by its readings' times, and are refused.

Units: acceleration is `m/s2`; the registry has no unit of angular rate, so `rad/s` and `deg/s` are taken, and a rate
without one is refused. Acceleration without a unit is m/s² or g, which a watch at rest tells. `g` is the registry's
gram, and refused.

Sources: RFC 8428, sections 4 (fields, resolution), 5 (JSON), 6 (CBOR labels); IANA, "SenML Units" and RFC 8798. Sums,
strings and fields unknown here are ignored, but for those whose label ends with _ (4.4), which must be understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from typing import Final

import cbor2
import msgspec

from streamer.errors import PayloadError, RejectReason
from streamer.wire.cbor_imu import INERT
from streamer.wire.message import Message
from streamer.wire.readings import MAX_DEPTH, MAX_READINGS
from streamer.wire.senders.streams import Kind, SensorId, Sent, Stream, column_of, seconds, stream
from streamer.wire.topics import checked_name

FORMAT: Final = "SenML"
#: Labels by their number in CBOR.
_LABELS: Final = {-1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", 0: "n", 1: "u", 2: "v", 6: "t"}
_VERSION: Final = 10
#: Characters of a base name, or of a name: a long one in each of many records would take long to look through.
_LONGEST_NAME: Final = 250
_RELATIVE_NS: Final = 2**28 * 1_000_000_000
_PARTS: Final = re.compile(r"[:/;.]+")
_UNITS: Final[dict[tuple[Kind, str | None], SensorId]] = {
    ("total", "m/s2"): SensorId.SENML,
    ("total", None): SensorId.SENML_UNSTATED,
    ("linear", "m/s2"): SensorId.SENML_LINEAR,
    ("gravity", "m/s2"): SensorId.SENML_GRAVITY,
    ("rate", "rad/s"): SensorId.SENML_RATE,
    ("rate", "deg/s"): SensorId.SENML_RATE_DEG,
}


def _decimal(value: object, _immutable: object) -> object:
    """A decimal fraction (RFC 8949, 3.4.4) as a number; an exponent that no sensor needs makes it none."""
    match value:
        case [int(exponent), int(mantissa)] if abs(exponent) <= 30 and abs(mantissa) < 2**63:
            return mantissa * 10.0**exponent
        case _:
            return None


#: Numbers may be decimal fractions (RFC 8428, section 6).
_TAGS: Final = {**INERT, 4: _decimal}
_json = msgspec.json.Decoder(list[dict[str, object]])


def decode_senml_json(device_id: str | None, message: Message) -> Sent:
    """The streams in a pack written as JSON; see `_decode`."""
    try:
        records = _json.decode(message.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadError(RejectReason.JSON, f"SenML: {error!s:.200}") from None
    return _decode(device_id, message, records)


def decode_senml_cbor(device_id: str | None, message: Message) -> Sent:
    """The streams in a pack written as CBOR; see `_decode`."""
    rest = BytesIO(message.payload)
    decoder = cbor2.CBORDecoder(
        rest, semantic_decoders=_TAGS, max_depth=MAX_DEPTH, allow_duplicate_keys=False, strict_hashable_types=False
    )
    try:
        records = decoder.decode()
    except cbor2.CBORDecodeError as error:
        raise PayloadError(RejectReason.CBOR, f"SenML: {error!s:.200}") from None
    if rest.tell() != len(message.payload):
        raise PayloadError(RejectReason.CBOR, f"SenML: {len(message.payload) - rest.tell()} bytes follow the list")
    if type(records) is not list or not all(isinstance(record, dict) for record in records):
        raise PayloadError(RejectReason.SCHEMA, "SenML: expected a list of records")
    return _decode(
        device_id,
        message,
        [{_LABELS.get(key, key) if type(key) is int else key: value for key, value in r.items()} for r in records],
    )


def _decode(
    device_id: str | None, message: Message, records: list[dict[str, object]] | list[dict[object, object]]
) -> Sent:
    """The streams of some records; without a device given, that of the base name.

    Raises:
        PayloadError: a record is not as documented, or none is of motion.
    """
    if len(records) > 8 * MAX_READINGS:
        raise PayloadError(RejectReason.OVERSIZE, f"SenML: {len(records)} records, expected {8 * MAX_READINGS} at most")
    base: dict[str, object] = {"bn": "", "bt": 0.0, "bu": None, "bv": 0.0}
    found: dict[tuple[Kind, str | None], dict[int, list[float | None]]] = {}
    named = ""
    for record in records:
        for label, value in record.items():
            if label in base:
                base[str(label)] = value
            elif isinstance(label, str) and label.endswith("_"):
                raise PayloadError(RejectReason.SCHEMA, f"SenML: label {label!r:.40} must be understood, and is not")
        version = record.get("bver", _VERSION)
        if type(version) is not int or version > _VERSION:
            raise PayloadError(RejectReason.SCHEMA, f"SenML: version {version!r:.20}, expected {_VERSION}")
        name = _text(base["bn"], "bn") + _text(record.get("n", ""), "n")
        place = _place(name)
        if place is None or "v" not in record:
            continue
        named = named or name
        kind, axis = place
        unit = record.get("u", base["bu"])
        # Added as nanoseconds: a double has no room for them behind today's seconds.
        at_ns = sum(seconds("SenML", _number(time, "t")) for time in (base["bt"], record.get("t", 0.0)))
        if at_ns < _RELATIVE_NS:
            raise PayloadError(RejectReason.TIME_RANGE, f"SenML: {name!r:.60}: expected a time since 1970")
        value = _number(base["bv"], "bv") + _number(record["v"], "v")
        axes = found.setdefault((kind, None if unit is None else _text(unit, "u")), {})
        axes.setdefault(at_ns, [None, None, None])["xyz".index(axis)] = value
    if records and not found:
        raise PayloadError(
            RejectReason.SENSORS, "SenML: no motion; expected names that end with such as acc_x or gyro:z"
        )
    device = device_id if device_id is not None else checked_name(_device(named))
    return Sent(message, device, FORMAT, tuple(_stream(key, readings) for key, readings in found.items()))


def _stream(key: tuple[Kind, str | None], readings: Mapping[int, list[float | None]]) -> Stream:
    kind, unit = key
    sensor = _UNITS.get(key)
    if sensor is None:
        wanted = "rad/s or deg/s" if kind == "rate" else "m/s2"
        raise PayloadError(RejectReason.UNITS, f"SenML: {kind} in {unit!r:.20}; expected the unit {wanted}")
    whole = {t_ns: axes for t_ns, axes in readings.items() if None not in axes}
    if not whole:
        raise PayloadError(RejectReason.SHAPE, f"SenML: {kind}: expected x, y and z of one time")
    return stream(sensor, list(whole), [[axis or 0.0 for axis in axes] for axes in whole.values()])


def _place(name: str) -> tuple[Kind, str] | None:
    """What a name's end says is measured: by its last part, or the last two."""
    parts = [part for part in _PARTS.split(name) if part]
    for end in (parts[-1:], parts[-2:]):
        found = column_of("".join(end))
        if found is not None and found[0] is not None and found[1] != "t":
            return found[0], found[1]
    return None


def _device(name: str) -> str:
    """The device that a name begins with: what stands before the parts that say what is measured."""
    parts = [part for part in _PARTS.split(name) if part]
    last = column_of(parts[-1]) if parts else None
    rest = parts[:-1] if last is not None and last[0] is not None else parts[:-2]
    if not rest:
        raise PayloadError(
            RejectReason.DEVICE_NAME, f"SenML: {name!r:.60} names no device; expected one in its base name"
        )
    return rest[-1]


def _number(value: object, label: str) -> float:
    if type(value) is not float and type(value) is not int:
        raise PayloadError(RejectReason.SCHEMA, f"SenML: {label}: expected a number")
    try:
        return float(value)
    except OverflowError:
        raise PayloadError(RejectReason.VALUE_RANGE, f"SenML: {label}: expected a number of a sensor's size") from None


def _text(value: object, label: str) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        raise PayloadError(RejectReason.SCHEMA, f"SenML: {label}: expected text of at most {_LONGEST_NAME} characters")
    return value
