"""Captures as JSON lines: a message a line, in the order of arrival; see `streamer.recording`.

    {"arrived_ns": 17…, "device": "wrist", "label": "walking", "t0_ns": 17…, "rate_hz": 50, "acc_x": [0.1, 0.2], …}

A line is the JSON payload of `streamer.wire.json_imu` with three keys more, which services ignore: it may be published
on its watch's topic as it is. Numbers are written in the shortest form that reads back the same double.

Each of the three keys may be absent: the file's name then names the watch, a message came with its last reading, and
nothing is labelled. A last line without its end is what a crash leaves behind; it is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec
import numpy as np
from msgspec import Meta

from streamer.errors import PayloadError, RecordingError, one_line
from streamer.recording import Arrived, Recording
from streamer.recordings.captures import captured_recordings
from streamer.recordings.rows import LONGEST_NAME, device_of_file
from streamer.wire import topics
from streamer.wire.json_imu import decode_json, encode_json
from streamer.wire.readings import MAX_T_NS

#: A message of 10,000 readings with all digits takes 1.3 MB.
LONGEST_LINE: Final = 4_000_000


class _Line(msgspec.Struct):
    arrived_ns: Annotated[int, Meta(ge=0, lt=MAX_T_NS)] | None = None
    device: str | None = None
    label: str | None = None


_decoder = msgspec.json.Decoder(_Line)


def encode_line(message: Arrived, label: str | None) -> bytes:
    """A line with its end."""
    own = {"arrived_ns": message.arrived_ns, "device": message.device_id} | ({"label": label} if label else {})
    return msgspec.json.encode(own)[:-1] + b"," + encode_json(message)[1:] + b"\n"


def read_jsonl(path: Path, file: BinaryIO) -> list[Recording]:
    """The recordings in an opened file of JSON lines.

    Raises:
        RecordingError: it is not in the form; the message names the line.
        OSError: it cannot be read.
    """
    return captured_recordings(path, list(read_messages(path, file)))


def read_messages(path: Path, file: BinaryIO) -> Iterator[tuple[Arrived, str]]:
    """Each message and its label, empty where there is none.

    Raises:
        RecordingError: a line is not in the form.
        OSError: the file cannot be read.
    """
    own_device = device_of_file(path)
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise RecordingError(f"{path}: line {number} has more than {LONGEST_LINE} bytes; expected a message")
        try:
            yield _message(line, own_device)
        except (PayloadError, ValueError, msgspec.DecodeError) as error:
            if not line.endswith(b"\n") and number > 1:
                return
            raise RecordingError(f"{path}: line {number}: {one_line(error)}") from None


def _message(line: bytes, own_device: str) -> tuple[Arrived, str]:
    """A line's message and label.

    Raises:
        PayloadError: it is no message.
        ValueError: or what stands around it is wrong.
    """
    own = _decoder.decode(line)
    device = own_device if own.device is None else own.device
    if not topics.DEVICE_NAME.fullmatch(device):
        raise ValueError(f"device is {device!r:.100}; expected 1 to 64 of A-Z a-z 0-9 . _ : @ -")
    if own.label is not None and len(own.label.encode()) > LONGEST_NAME:
        raise ValueError(f"label is too long; expected at most {LONGEST_NAME} bytes")
    with np.errstate(all="ignore"):
        batch = decode_json(device, line)
    arrived_ns = int(batch.t_ns.max()) if own.arrived_ns is None else own.arrived_ns
    message = Arrived(device, batch.t_ns, batch.acc, batch.gyro, batch.rate_hz, batch.seq, arrived_ns)
    return message, own.label or ""
