"""A message as it came, whatever its format."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One MQTT message: its topic names the device, its content type (MQTT 5) the format.

    What comes over HTTP is given the topic that it would have had.
    """

    topic: str
    payload: bytes
    content_type: str | None = None
