"""Readings as other programs would send them, from readings in SI: what `streamer.sources` has to undo."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.wire import topics
from streamer.wire.payload import Message

Float64 = NDArray[np.float64]

#: Names of Sensor Logger's readings that one reading of acceleration becomes.
Logged = Callable[[Float64], dict[str, dict[str, float]]]


def _xyz(values: Float64, prefix: str = "") -> dict[str, float]:
    return {f"{prefix}{axis.upper() if prefix else axis}": float(v) for axis, v in zip("xyz", values, strict=True)}


def _attitude(up: Float64) -> tuple[float, float, float, float]:
    """The attitude, w first, in which up lies along a vector of the device."""
    x, y, z = (up / np.linalg.norm(up)).tolist()
    half, side = np.arccos(np.clip(z, -1, 1)) / 2, float(np.hypot(x, y)) or 1.0
    return float(np.cos(half)), float(np.sin(half)) * y / side, -float(np.sin(half)) * x / side, 0.0


def uncalibrated_of_ios(acc: Float64) -> dict[str, dict[str, float]]:
    """In g, gravity the other way round."""
    return {"accelerometeruncalibrated": _xyz(-acc / STANDARD_GRAVITY)}


def uncalibrated_standardised(acc: Float64) -> dict[str, dict[str, float]]:
    """In m/s² with Android's sign, which "Standardise Units & Frames" makes of it."""
    return {"accelerometeruncalibrated": _xyz(acc)}


def total_of_android(acc: Float64) -> dict[str, dict[str, float]]:
    """In m/s²."""
    return {"totalacceleration": _xyz(acc)}


def parts(sign: int) -> Logged:
    """Without gravity, gravity, and the attitude; Android's sign is 1, Apple's -1."""

    def logged(acc: Float64) -> dict[str, dict[str, float]]:
        gravity = STANDARD_GRAVITY * acc / np.linalg.norm(acc)
        w, x, y, z = _attitude(gravity)
        return {
            "accelerometer": _xyz(sign * (acc - gravity)),
            "gravity": _xyz(sign * gravity),
            "orientation": {"qw": w, "qx": x, "qy": y, "qz": z},
        }

    return logged


def wrist_motion(acc: Float64, gyro: Float64) -> dict[str, dict[str, float]]:
    """Everything in one reading, in g with Apple's sign."""
    gravity = acc / np.linalg.norm(acc)
    w, x, y, z = _attitude(gravity)
    quaternion = {"quaternionW": w, "quaternionX": x, "quaternionY": y, "quaternionZ": z}
    user = _xyz(gravity - acc / STANDARD_GRAVITY, "acceleration")
    return {"wrist motion": _xyz(gyro, "rotationRate") | _xyz(-gravity, "gravity") | user | quaternion}


def logged(batch: ImuBatch, form: Logged | None) -> list[tuple[int, str, dict[str, float]]]:
    """Time, name and values of each of Sensor Logger's readings; by default all in one, of the wrist."""
    found: list[tuple[int, str, dict[str, float]]] = []
    for i, t_ns in enumerate(batch.t_ns.tolist()):
        if form is None and batch.acc is not None and batch.gyro is not None:
            found += [(t_ns, name, values) for name, values in wrist_motion(batch.acc[i], batch.gyro[i]).items()]
        elif form is not None and batch.acc is not None:
            found += [(t_ns, name, values) for name, values in form(batch.acc[i]).items()]
        if form is not None and batch.gyro is not None:
            found.append((t_ns, "gyroscope", _xyz(batch.gyro[i])))
    return found


def sensor_logger(
    readings: list[tuple[int, str, dict[str, float]]],
    *,
    topic: str = topics.SENSOR_LOGGER,
    device: str = "phone",
    every_ns: int = 500_000_000,
    first: int = 0,
) -> list[Message]:
    """Messages of a batch period each, by the readings' times."""
    periods: dict[int, list[dict[str, Any]]] = {}
    for t_ns, name, values in sorted(readings, key=lambda reading: reading[0]):
        periods.setdefault(t_ns // every_ns, []).append({"name": name, "time": t_ns, "values": values})
    return [
        Message(topic, json.dumps({"messageId": number, "deviceId": device, "payload": payload}).encode())
        for number, (_, payload) in enumerate(sorted(periods.items()), first)
    ]


def pieces(batch: ImuBatch, size: int) -> Iterator[ImuBatch]:
    """A batch in messages."""
    return (batch[i : i + size] for i in range(0, len(batch), size))


def sensorlog(batch: ImuBatch, size: int = 20, *, device: str = "phone", started_ns: int = 0) -> list[Message]:
    """In g with Apple's sign, times since the device was started, and when each row was written, a bit late."""
    assert batch.acc is not None
    assert batch.gyro is not None
    messages = []
    for number, piece in enumerate(pieces(batch, size)):
        rows = []
        for t_ns, acc, gyro in zip(piece.t_ns.tolist(), piece.acc, piece.gyro, strict=True):  # type: ignore[arg-type]
            since = f"{(t_ns - started_ns) / 1e9:.6f}"
            written = np.datetime64(t_ns + number % 3 * 40_000_000, "ns").astype("datetime64[ms]")
            row = {"loggingTime": f"{written} +0000".replace("T", " "), "deviceID": device}
            row |= {"accelerometerTimestamp_sinceReboot": since, "gyroTimestamp_sinceReboot": since}
            for axis, a, g in zip("XYZ", (-acc / STANDARD_GRAVITY).tolist(), gyro.tolist(), strict=True):
                row |= {f"accelerometerAcceleration{axis}": f"{a:.9f}", f"gyroRotation{axis}": f"{g:.9f}"}
            rows.append(row)
        messages.append(Message("sensorlog", json.dumps(rows).encode()))
    return messages


def columns(batch: ImuBatch, began_ns: int, *, acc: str = "acc") -> dict[str, list[float]]:
    """A batch as phyphox names and counts it."""
    t = [(t_ns - began_ns) / 1e9 for t_ns in batch.t_ns.tolist()]
    found: dict[str, list[float]] = {}
    for name, values in ((acc, batch.acc), ("gyr", batch.gyro)):
        if values is not None:
            found |= {f"{name}_{axis}": column for axis, column in zip("xyz", values.T.tolist(), strict=True)}
            found[f"{name}_t"] = t
    return found


def phyphox(batch: ImuBatch, size: int = 20, *, acc: str = "acc") -> list[Message]:
    """As `mqtt/json`."""
    began_ns = int(batch.t_ns[0]) // 1_000_000_000 * 1_000_000_000
    start = {"event": "START", "experimentTime": 0, "systemTime": began_ns / 1e9}
    return [
        Message(
            topics.imu(batch.device_id),
            json.dumps(columns(piece, began_ns, acc=acc) | {"time": {"now": 0, "events": [start]}}).encode(),
        )
        for piece in pieces(batch, size)
    ]


def phyphox_csv(batch: ImuBatch, size: int = 20) -> list[list[Message]]:
    """As `mqtt/csv`: the messages of each sending."""
    return [
        [
            Message(topics.part(batch.device_id, name), ",".join(map(repr, column)).encode())
            for name, column in columns(piece, 0).items()
        ]
        for piece in pieces(batch, size)
    ]


def movesense(batch: ImuBatch, rate_hz: int, size: int = 8) -> list[Message]:
    """Notifications of IMU6; times are whole milliseconds, float32 everything else."""
    found = []
    for piece in pieces(batch, size):
        assert piece.acc is not None
        assert piece.gyro is not None
        head = struct.pack("<BBI", 2, 99, int(piece.t_ns[0]) // 1_000_000 % 2**32)
        values = np.concatenate([piece.acc, np.degrees(piece.gyro)]).astype("<f4").tobytes()
        found.append(Message(topics.part(batch.device_id, f"Meas/IMU6/{rate_hz}"), head + values))
    return found


def senml(batch: ImuBatch, size: int = 20, *, unit: str | None = "m/s2", scale: float = 1.0) -> list[Message]:
    """Acceleration and rate as records, in a unit that is stated or not."""
    found = []
    for piece in pieces(batch, size):
        base_ns = int(piece.t_ns[0]) // 1_000_000_000 * 1_000_000_000
        records: list[dict[str, object]] = [{"bn": "urn:dev:ow:1:", "bt": base_ns / 1e9}]
        for name, values, stated in (("acc", piece.acc, unit), ("gyro", piece.gyro, "rad/s")):
            if values is None:
                continue
            for t_ns, row in zip(piece.t_ns.tolist(), values * (scale if name == "acc" else 1.0), strict=True):
                for axis, value in zip("xyz", row.tolist(), strict=True):
                    record: dict[str, object] = {"n": f"{name}_{axis}", "t": (t_ns - base_ns) / 1e9, "v": value}
                    records.append(record | ({"u": stated} if stated else {}))
        found.append(Message(topics.imu(batch.device_id), json.dumps(records).encode()))
    return found


ANDROID_PARTS: Final = parts(1)
APPLE_PARTS: Final = parts(-1)
