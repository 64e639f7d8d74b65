"""Recordings in .npz archives: arrays t_ns or time, acc, gyro, device, label; see `streamer.recording`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.npz import read_npz
from streamer.recording import SENSORS, Recording
from streamer.recordings.rows import LONGEST_NAME, RowReader

_NAMES: Final = ("t_ns", "time", "device", "label", *SENSORS)
#: A float64 of seconds near the present resolves 240 ns.
_NS_PER_S: Final = 1e9


def read_npz_recordings(path: Path, file: BinaryIO) -> list[Recording]:
    """The recordings in an opened .npz archive.

    Raises:
        RecordingError: it is not in the form; the message names row, array and value.
        OSError: it cannot be read.
    """
    try:
        arrays = read_npz(file, _NAMES)
    except ValueError as error:
        raise RecordingError(f"{path}: not an .npz archive of arrays ({error})") from error
    times = [name for name in ("t_ns", "time") if name in arrays]
    if len(times) != 1:
        raise RecordingError(f"{path}: has {', '.join(arrays) or 'none of the arrays'}; expected one of t_ns and time")
    sensors = [sensor for sensor in SENSORS if sensor in arrays]
    if not sensors:
        raise RecordingError(f"{path}: has neither acc nor gyro; expected one of them at least")
    time = arrays[times[0]]
    if time.ndim != 1 or time.dtype.kind not in ("iu" if times[0] == "t_ns" else "iuf"):
        expected = "(n,) integers" if times[0] == "t_ns" else "(n,) seconds"
        raise RecordingError(f"{path}: {times[0]} is {time.dtype} {time.shape}; expected {expected}")
    values = {sensor: _values(path, sensor, arrays[sensor], len(time)) for sensor in sensors}
    rows = RowReader(path, time_column=times[0], names_devices="device" in arrays)
    rows.add(
        nanoseconds(rows, time) if times[0] == "time" else time.astype(np.int64),
        device=_names(path, "device", arrays, len(time)),
        label=_names(path, "label", arrays, len(time)),
        acc=values.get("acc"),
        gyro=values.get("gyro"),
    )
    return rows.recordings()


def nanoseconds(rows: RowReader, seconds: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) int64 ns of (n,) seconds.

    Raises:
        RecordingError: a time is negative, not finite or too far in the future.
    """
    exact = seconds.astype(np.float64)
    outside = ~((exact >= 0) & (exact < 2**62 / _NS_PER_S))
    if outside.any():
        row = int(outside.argmax())
        raise rows.wrong(row, "time", f"{exact[row]:g}", "seconds, zero or more, before 2116")
    return np.rint(exact * _NS_PER_S).astype(np.int64)


def _values(path: Path, sensor: str, array: NDArray[Any], n: int) -> NDArray[np.float64]:
    if array.shape != (n, 3) or array.dtype.kind not in "iuf":
        raise RecordingError(f"{path}: {sensor} is {array.dtype} {array.shape}; expected numbers ({n}, 3)")
    return np.ascontiguousarray(array, np.float64)


def _names(path: Path, name: str, arrays: Any, n: int) -> NDArray[np.bytes_] | None:  # noqa: ANN401 - by name
    array = arrays.get(name)
    if array is None:
        return None
    if array.shape not in {(), (n,)} or array.dtype.kind not in "SU" or array.dtype.itemsize > 4 * LONGEST_NAME:
        raise RecordingError(
            f"{path}: {name} is {array.dtype} {array.shape}; expected text of up to {LONGEST_NAME} letters, "
            f"() or ({n},)"
        )
    encoded = array if array.dtype.kind == "S" else np.strings.encode(array, "utf-8")
    return np.broadcast_to(encoded, (n,))
