"""Messages as they came, to recordings, whichever format kept them; see `streamer.recording`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.imu import ImuBatch
from streamer.recording import Arrived, Recording
from streamer.recordings.spans import labelled_spans, nominal_rate_hz
from streamer.recordings.table import Rows
from streamer.wire.readings import MAX_RATE_HZ, MAX_READINGS, MAX_T_NS, MIN_RATE_HZ

#: Columns by which the rows of a file are a capture, and those that say what was declared.
REQUIRED: Final = ("arrived_ns", "message")
OPTIONAL: Final = ("rate_hz", "seq")

#: Says what is wrong with a row: its number, a column, what is there, and what was expected.
Wrong = Callable[[int, str, str, str], RecordingError]


def captured_recordings(path: Path, messages: Sequence[tuple[Arrived, str]]) -> list[Recording]:
    """A recording per device, in the order of their first message.

    Args:
        path: for messages.
        messages: in their order of arrival, each with its label, empty for none.

    Raises:
        RecordingError: there are no messages.
    """
    if not messages:
        raise RecordingError(f"{path}: has no readings; expected one at least")
    by_device: dict[str, list[tuple[Arrived, str]]] = {}
    for entry in messages:
        by_device.setdefault(entry[0].device_id, []).append(entry)
    return [_recording(device_id, own) for device_id, own in by_device.items()]


def messages_of_rows(
    rows: Rows, devices: Sequence[str], labels: Sequence[str], wrong: Wrong
) -> list[tuple[Arrived, str]]:
    """The messages that a file's rows came in, with their labels.

    Args:
        rows: in the order of arrival; they say how they came.
        devices: names by number.
        labels: likewise.
        wrong: makes the error.

    Raises:
        RecordingError: a message's rows contradict one another, or are beyond the limits of `streamer.wire.readings`.
    """
    arrivals = rows.arrivals
    if arrivals is None:
        return []
    n = len(rows)
    first = np.flatnonzero(np.diff(arrivals.message, prepend=arrivals.message[0] - 1) != 0)
    end = np.append(first[1:], n)
    acc, gyro = _there(rows.acc, n), _there(rows.gyro, n)
    rate = arrivals.rate_hz
    beyond = (arrivals.arrived_ns < 0) | (arrivals.arrived_ns >= MAX_T_NS)
    undeclarable = (rate != 0) & ~((rate >= MIN_RATE_HZ) & (rate <= MAX_RATE_HZ))
    long = np.repeat(end - first > MAX_READINGS, end - first)
    for name, mask, found, expected in (
        ("arrived_ns", beyond, "out of range", "0 <= t < 2^62 ns"),
        ("rate_hz", undeclarable, "out of range", f"{MIN_RATE_HZ} to {MAX_RATE_HZ:.0f}, or empty"),
        ("acc_x", ~(acc | gyro), "empty, as the gyroscope's are", "readings of one sensor at least"),
        ("message", long, "too long", f"at most {MAX_READINGS} rows of a message"),
    ):
        if mask.any():
            raise wrong(int(mask.argmax()), name, found, expected)
    alike: dict[str, NDArray[np.generic]] = {
        "device": rows.device,
        "arrived_ns": arrivals.arrived_ns,
        "rate_hz": arrivals.rate_hz,
        "seq": arrivals.seq,
        "label": rows.label,
        "acc_x": acc,
        "gyro_x": gyro,
    }
    for name, column in alike.items():
        other = np.flatnonzero(column != np.repeat(column[first], end - first))
        if len(other):
            raise wrong(int(other[0]), name, "unlike the row before", "one for all rows of a message")
    return [
        (
            Arrived(
                devices[rows.device[a]],
                rows.t_ns[a:b],
                rows.acc[a:b] if rows.acc is not None and acc[a] else None,
                rows.gyro[a:b] if rows.gyro is not None and gyro[a] else None,
                float(rate[a]) or None,
                None if arrivals.seq[a] < 0 else int(arrivals.seq[a]),
                int(arrivals.arrived_ns[a]),
            ),
            labels[rows.label[a]],
        )
        for a, b in zip(first.tolist(), end.tolist(), strict=True)
    ]


def _there(values: NDArray[np.float64] | None, n: int) -> NDArray[np.bool_]:
    return np.zeros(n, np.bool_) if values is None else ~np.isnan(values[:, 0])


def _recording(device_id: str, own: Sequence[tuple[Arrived, str]]) -> Recording:
    arrivals = tuple(message for message, _ in own)
    declared = {message.rate_hz for message in arrivals}
    declared_hz = declared.pop() if len(declared) == 1 else None
    streams = _streams(device_id, arrivals, declared_hz)
    rate_hz = declared_hz or nominal_rate_hz(streams[0].t_ns)
    names = list(dict.fromkeys(label for _, label in own))
    label = np.repeat([names.index(name) for _, name in own], [len(message) for message in arrivals])
    t_ns = np.concatenate([message.t_ns for message in arrivals])
    order = np.argsort(t_ns, kind="stable")
    spans = labelled_spans(t_ns[order], label[order].astype(np.int32), names, rate_hz)
    return Recording(device_id, None, streams, spans, rate_hz, arrivals)


def _streams(device_id: str, arrivals: Sequence[Arrived], rate_hz: float | None) -> tuple[ImuBatch, ...]:
    """One stream when every message has the same sensors, else one for each sensor."""
    kinds = {(message.acc is not None, message.gyro is not None) for message in arrivals}
    streams = []
    for acc, gyro in kinds if len(kinds) == 1 else ((True, False), (False, True)):
        own = [m for m in arrivals if (m.acc is not None or not acc) and (m.gyro is not None or not gyro)]
        t_ns = np.concatenate([message.t_ns for message in own])
        order = np.argsort(t_ns, kind="stable")
        # Of two readings of one time the first counts, as it does live.
        order = order[np.diff(t_ns[order], prepend=-1) != 0]
        streams.append(
            ImuBatch(
                device_id,
                t_ns[order],
                np.concatenate([m.acc for m in own if m.acc is not None])[order] if acc else None,
                np.concatenate([m.gyro for m in own if m.gyro is not None])[order] if gyro else None,
                rate_hz,
            )
        )
    return tuple(streams)
