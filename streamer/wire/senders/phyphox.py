"""phyphox: the network connections `mqtt/json`, `mqtts/json` and `http/post`, and `mqtt/csv`, of an experiment.

    {"acc_x": [0.1, 0.2], "acc_y": [...], "acc_z": [...], "acc_t": [0.00, 0.02], "gyr_x": ..., "gyr_t": ...,
     "time": {"now": 1700000012.5, "events": [{"event": "START", "experimentTime": 0, "systemTime": 1700000000.1}]}}

The experiment's author names the entries; the names known here are in `streams.column_of`. A sensor has x, y, z and a
time, its own (acc_t) or one for all (t), as lists or as single numbers. `accelerometer`, with gravity, is in m/s²,
`linear_acceleration` without it, `gyroscope` in rad/s. Both apps have Android's sign: on iOS all axes are turned round.

Times are seconds since the experiment began. An entry of type `time` says when that was: the latest START before a
reading counts, for a pause takes no experiment time. Without one, times are counted from 1970.

With `mqtt/csv` each entry is a message of its own, `1.0,2.0,3.0`, whose topic is the entry's id:
har/v1/<device>/imu/acc_x. Their order is the app's own, and the same for each sending; `null` stands for NaN. An entry
`utc` of type `time` is the time of sending, in seconds. `streamer.sources` puts the table together.

Sources: phyphox.org/wiki, "Network Connections" and "Phyphox file format: input" (github.com/phyphox/phyphox-docs,
docs/file-format); what an entry of type `time` looks like and how numbers are written is from phyphox-android's
MqttHelper.java, the sign on iOS from phyphox-ios' ExperimentSensorInput.swift (g = -9.81).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.errors import PayloadError, RejectReason
from streamer.wire.message import Message
from streamer.wire.senders.streams import Kind, SensorId, Sent, Stream, column_of, seconds, stream

FORMAT: Final = "phyphox"
_SENSORS: Final[dict[Kind, SensorId]] = {
    "total": SensorId.PHYPHOX,
    "linear": SensorId.PHYPHOX_LINEAR,
    "gravity": SensorId.PHYPHOX_GRAVITY,
    "rate": SensorId.PHYPHOX_GYROSCOPE,
}

#: Values of a column that comes as a message: it waits for the others.
MAX_COLUMN: Final = 4096

_Float64 = NDArray[np.float64]


class _Event(msgspec.Struct, rename="camel"):
    event: str
    experiment_time: float
    system_time: float


class _Time(msgspec.Struct):
    events: list[_Event]


_document = msgspec.json.Decoder(dict[str, msgspec.Raw])
_numbers = msgspec.json.Decoder(float | list[float | None] | None)
_time = msgspec.json.Decoder(_Time)


def decode_phyphox(device_id: str, message: Message) -> Sent | None:
    """The streams in an object of named columns, None where none of its names is known.

    Raises:
        PayloadError: the columns do not fit each other.
    """
    try:
        document = _document.decode(message.payload)
        columns: dict[str, _Float64] = {}
        events: list[_Event] = []
        for name, value in document.items():
            raw = bytes(value)
            if raw.startswith(b"{"):
                if b'"experimentTime"' in raw:
                    events += _time.decode(raw).events
                continue
            column = _column(name)
            if column is not None:
                columns[column] = _array(_numbers.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadError(RejectReason.SCHEMA, f"phyphox: {error!s:.200}") from None
    if columns.keys() <= {"t"}:
        return None
    begun = sorted((e.experiment_time, e.system_time) for e in events if e.event.upper() == "START")
    return Sent(message, device_id, FORMAT, streams_of(columns, begun))


def decode_column(device_id: str, message: Message, name: str) -> Sent | None:
    """One column of a table that comes in several messages, None where its name is not known.

    Raises:
        PayloadError: it isn't a row of numbers.
    """
    column = "utc" if name == "utc" else _column(name)
    if column is None:
        return None
    cells = message.payload.split(b",")
    if len(cells) > MAX_COLUMN:
        raise PayloadError(RejectReason.OVERSIZE, f"{column}: {len(cells)} values, expected at most {MAX_COLUMN}")
    try:
        values = np.array([float(cell) if cell.strip() != b"null" else np.nan for cell in cells if cell.strip()])
    except ValueError:
        raise PayloadError(RejectReason.SCHEMA, f"{column}: expected numbers with commas between them") from None
    return Sent(message, device_id, FORMAT, column=(column, values))


def streams_of(columns: Mapping[str, _Float64], begun: Sequence[tuple[float, float]] = ()) -> tuple[Stream, ...]:
    """Streams from columns.

    Args:
        columns: (n,) numbers each, by a kind with x, y, z or t such as total_x, or t alone; rows with NaN are left out.
        begun: experiment time and seconds since 1970 of each start, in order.

    Raises:
        PayloadError: a sensor lacks an axis or a time, or its columns are not equally long.
    """
    found = []
    for kind, sensor in _SENSORS.items():
        axes = [columns.get(f"{kind}_{axis}") for axis in "xyz"]
        x, y, z = axes
        if x is None and y is None and z is None:
            continue
        t = columns.get(f"{kind}_t", columns.get("t"))
        if x is None or y is None or z is None or t is None:
            raise PayloadError(RejectReason.SCHEMA, f"phyphox: {kind}: expected x, y, z and t, by whatever names")
        if not len(x) == len(y) == len(z) == len(t):
            lengths = f"{len(x)}, {len(y)}, {len(z)} values and {len(t)} times"
            raise PayloadError(RejectReason.SHAPE, f"phyphox: {kind}: {lengths}; expected equal numbers")
        rows = np.stack([t, x, y, z], axis=1)
        rows = rows[np.isfinite(rows).all(axis=1)]
        found.append(stream(sensor, _since_1970(rows[:, 0], begun), rows[:, 1:]))
    return tuple(one for one in found if len(one))


def _column(name: str) -> str | None:
    """The column that an entry's name stands for, see `streams_of`."""
    found = column_of(name)
    if found is None:
        return None
    kind, axis = found
    return axis if kind is None else f"{kind}_{axis}"


def _since_1970(t: _Float64, begun: Sequence[tuple[float, float]]) -> list[int]:
    if not begun:
        return [seconds("phyphox", at_s) for at_s in t.tolist()]
    starts = np.array(begun, np.float64)
    latest = np.clip(np.searchsorted(starts[:, 0], t, side="right") - 1, 0, None)
    # Added as nanoseconds: a double has no room for them behind today's seconds.
    since = [seconds("phyphox", at_s) for at_s in (t - starts[latest, 0]).tolist()]
    return [ns + seconds("phyphox", at_s) for ns, at_s in zip(since, starts[latest, 1].tolist(), strict=True)]


def _array(value: float | list[float | None] | None) -> _Float64:
    if value is None:
        return np.empty(0)
    cells = value if isinstance(value, list) else [value]
    return np.array([np.nan if cell is None else cell for cell in cells], np.float64)
