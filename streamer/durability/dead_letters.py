"""Refused messages, kept where somebody can look at them: JSON lines in two files that take turns.

{"time": "2026-03-01T12:00:00.000+00:00", "topic": "har/v1/wrist/imu", "reason": "json", "error": "...",
 "bytes": 7, "begins_base64": "eyJ0IjpbMQ=="}
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from streamer.errors import PayloadError
from streamer.wire.payload import Message

_FILE: Final = "dead-letters.jsonl"
#: Of both files together twice this.
_MOST_BYTES: Final = 1_000_000
_BEGINNING: Final = 200
#: A flood of rubbish must not become a flood of writing.
_MOST_WAITING: Final = 100


class DeadLetters:
    """Takes refused messages at any time, writes them when told; the newest of a flood are passed over.

    State: the letters not yet written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._waiting: deque[bytes] = deque()

    def add(self, refused: Iterable[tuple[Message, PayloadError]], now_ns: int) -> int:
        """Remember refused messages for the next `write`; how many there was room for."""
        room = _MOST_WAITING - len(self._waiting)
        taken = list(refused)[: max(room, 0)]
        for message, error in taken:
            self._waiting.append(
                msgspec.json.encode(
                    {
                        "time": datetime.fromtimestamp(now_ns / 1e9, UTC).isoformat(timespec="milliseconds"),
                        "topic": message.topic,
                        "reason": error.reason.value,
                        "error": str(error)[:1000],
                        "bytes": len(message.payload),
                        "begins_base64": base64.b64encode(message.payload[:_BEGINNING]).decode(),
                    }
                )
            )
        return len(taken)

    def write(self) -> None:
        """Append what was remembered.

        Raises:
            OSError: the disk does not take it.
        """
        letters = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if letters:
            if self._path.exists() and self._path.stat().st_size > _MOST_BYTES:
                self._path.replace(self._path.with_suffix(".1.jsonl"))
            with self._path.open("ab") as file:
                file.write(b"\n".join(letters) + b"\n")
