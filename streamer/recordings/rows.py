"""Rows of a file, whatever its format, to recordings: the checks and limits that all formats share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.imu import ImuBatch
from streamer.recording import SENSORS, Recording
from streamer.recordings.captures import captured_recordings, messages_of_rows
from streamer.recordings.spans import labelled_spans, nominal_rate_hz
from streamer.recordings.table import Arrivals, Rows, joined
from streamer.wire import topics
from streamer.wire.readings import MAX_MAGNITUDE, MAX_T_NS

#: Longest name of a device or a label, bytes.
LONGEST_NAME: Final = 100


class RowReader:
    """Rows of one file, block by block, to recordings.

    State: the rows so far and the names met in the device and label columns.
    """

    def __init__(
        self, path: Path, *, time_column: str, names_devices: bool, place: Callable[[int], str] = "row {}".format
    ) -> None:
        """Begin with no rows.

        Args:
            path: for messages and, where no column does, to name the watch.
            time_column: for messages.
            names_devices: whether rows say whose they are.
            place: where the row of a number is found, for messages.
        """
        self.path = path
        self.rows = 0
        self._time = time_column
        self._names_devices = names_devices
        self._place = place
        self._blocks: list[Rows] = []
        self._devices: dict[bytes, int] = {}
        self._labels: dict[bytes, int] = {b"": 0}

    def add(
        self,
        t_ns: NDArray[np.int64],
        *,
        device: NDArray[np.bytes_] | None,
        label: NDArray[np.bytes_] | None,
        acc: NDArray[np.float64] | None,
        gyro: NDArray[np.float64] | None,
        arrivals: Arrivals | None = None,
    ) -> None:
        """Take n rows.

        Args:
            t_ns: (n,) int64.
            device: (n,) UTF-8 names, None where the file has no such column.
            label: (n,) likewise.
            acc: (n, 3) float64, m/s², a row of NaN where there is none.
            gyro: (n, 3) float64, rad/s, likewise.
            arrivals: how they came, None where the file does not say.

        Raises:
            RecordingError: a row is beyond the limits of `streamer.wire.readings`, or has a part of its axes.
        """
        n = len(t_ns)
        if n == 0:
            return
        outside = t_ns.view(np.uint64) >= MAX_T_NS
        if outside.any():
            row = int(outside.argmax())
            raise self.wrong(row, self._time, f"{t_ns[row]} ns", "0 <= t < 2^62 ns")
        for sensor, values in (("acc", acc), ("gyro", gyro)):
            if values is not None:
                self._check(sensor, values)
        self._blocks.append(
            Rows(
                t_ns,
                np.zeros(n, np.int32) if device is None else _numbered(device, self._devices),
                np.zeros(n, np.int32) if label is None else _numbered(label, self._labels),
                acc,
                gyro,
                arrivals,
            )
        )
        self.rows += n

    def recordings(self) -> list[Recording]:
        """What the rows so far hold, a recording per device, in the order of their first row.

        Raises:
            RecordingError: no rows, a device that cannot be named so, times that go back.
        """
        if not self._blocks:
            raise RecordingError(f"{self.path}: has no readings; expected one at least")
        rows = joined(self._blocks)
        self._blocks = []
        labels = [name.decode("utf-8", "replace").strip() for name in self._labels]
        if rows.arrivals is not None:
            numbers = [int(np.argmax(rows.device == number)) for number in self._devices.values()] or [0]
            names = [self._device_id(name, row) for name, row in zip(self._devices or [b""], numbers, strict=True)]
            return captured_recordings(self.path, messages_of_rows(rows, names, labels, self._wrong_in_file))
        t_ns, device, label = rows.t_ns, rows.device, rows.label
        recordings = []
        devices = self._devices or {b"": 0}
        for name, number in devices.items():
            # One watch alone needs no copy of a day of readings.
            own = np.flatnonzero(device == number) if len(devices) > 1 else np.s_[:]
            times = t_ns[own]
            back = np.flatnonzero(np.diff(times) < 0)
            if len(back):
                row = int(np.flatnonzero(device == number)[back[0] + 1])
                now_ns, before_ns = times[back[0] + 1], times[back[0]]
                raise self._wrong_in_file(row, self._time, f"{now_ns} ns", f"a time from {before_ns} ns on")
            device_id = self._device_id(name, int(np.argmax(device == number)))
            acc, gyro = (None if values is None else values[own] for values in (rows.acc, rows.gyro))
            streams = _streams(device_id, times, acc, gyro)
            if not streams:
                raise RecordingError(f"{self.path}: device {device_id} has empty cells only; expected readings")
            rate_hz = nominal_rate_hz(streams[0].t_ns)
            spans = labelled_spans(times, label[own], labels, rate_hz)
            recordings.append(Recording(device_id, None, streams, spans, rate_hz))
        return recordings

    def wrong(self, row: int, column: str, value: str, expected: str) -> RecordingError:
        """The error for a value in a row, counted from the first that has not been added yet."""
        return self._wrong_in_file(self.rows + row, column, value, expected)

    def _wrong_in_file(self, row: int, column: str, value: str, expected: str) -> RecordingError:
        return RecordingError(f"{self.path}: {self._place(row)}, column {column} is {value:.100}; expected {expected}")

    def _check(self, sensor: str, values: NDArray[np.float64]) -> None:
        with np.errstate(all="ignore"):
            # NaN fails either comparison.
            if values.max() <= MAX_MAGNITUDE and values.min() >= -MAX_MAGNITUDE:
                return
            beyond = np.abs(values) > MAX_MAGNITUDE
        if beyond.any():
            row, axis = (int(i) for i in np.argwhere(beyond)[0])
            column, value = SENSORS[sensor][axis], float(values[row, axis])
            expected = f"magnitudes up to {MAX_MAGNITUDE:.0f}" if np.isfinite(value) else "a finite number"
            raise self.wrong(row, column, f"{value:g}", expected)
        absent = np.isnan(values)
        partly = np.flatnonzero(absent.any(axis=1) & ~absent.all(axis=1))
        if len(partly):
            column = SENSORS[sensor][int(absent[partly[0]].argmax())]
            raise self.wrong(int(partly[0]), column, "empty", "all three axes or none")

    def _device_id(self, name: bytes, row: int) -> str:
        if not self._names_devices:
            return device_of_file(self.path)
        text = name.decode("utf-8", "replace")
        if not topics.DEVICE_NAME.fullmatch(text):
            expected = "1 to 64 of A-Z a-z 0-9 . _ : @ -, a letter or digit first"
            raise self._wrong_in_file(row, "device", repr(text), expected)
        return text


def device_of_file(path: Path) -> str:
    """The watch's name where a file does not say it: the file's own, as far as a device may be called so."""
    return re.sub(r"[^A-Za-z0-9._:@-]+", "-", path.stem).strip("-._:@")[:64] or "recording"


def _numbered(names: NDArray[np.bytes_], numbers: dict[bytes, int]) -> NDArray[np.int32]:
    """(n,) number of each name; new names get the next numbers. Looked up once per run of equal names."""
    starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
    of_runs = [numbers.setdefault(name, len(numbers)) for name in names[starts].tolist()]
    return np.repeat(np.array(of_runs, np.int32), np.diff(starts, append=len(names)))


def _streams(
    device_id: str, t_ns: NDArray[np.int64], acc: NDArray[np.float64] | None, gyro: NDArray[np.float64] | None
) -> tuple[ImuBatch, ...]:
    """One stream when the rows have the same sensors throughout, else one per sensor."""
    has_acc = np.zeros(len(t_ns), bool) if acc is None else ~np.isnan(acc[:, 0])
    has_gyro = np.zeros(len(t_ns), bool) if gyro is None else ~np.isnan(gyro[:, 0])
    if has_acc.all() and has_gyro.all():
        return (ImuBatch(device_id, t_ns, acc, gyro),)
    streams = []
    if acc is not None and has_acc.any():
        streams.append(ImuBatch(device_id, t_ns[has_acc], acc[has_acc], None))
    if gyro is not None and has_gyro.any():
        streams.append(ImuBatch(device_id, t_ns[has_gyro], None, gyro[has_gyro]))
    return tuple(streams)
