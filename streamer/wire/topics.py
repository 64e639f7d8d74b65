"""The topics of har-stream; a device's name stands in its topic.

in    har/v1/<device>/imu         readings
out   har/v1/<device>/activity    current activity, retained; empty when the watch went silent
har/v1/<device>/event       start and end of bouts
har/v1/<device>/window      every window, on request
har/service/<client>/status online | stopped | offline, retained
sync  har/v1/<token>/sync         a sender asks: has everything I sent before this been processed?
har/service/<client>/synced the answer: the token
"""

from __future__ import annotations

import re
from typing import Final

from streamer.errors import PayloadError, RejectReason

PREFIX: Final = "har/v1"
IMU_FILTER: Final = f"{PREFIX}/+/imu"
SYNC_FILTER: Final = f"{PREFIX}/+/sync"
STATUS_FILTER: Final = "har/service/+/status"
SYNCED_FILTER: Final = "har/service/+/synced"

#: What a device may be called: no wildcard, no level separator, short enough for a topic and a log line.
DEVICE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")


def imu(device_id: str) -> str:
    """Topic on which a watch publishes its readings."""
    return f"{PREFIX}/{device_id}/imu"


def output(device_id: str, kind: str) -> str:
    """Topic of a device's `activity`, `event` or `window` documents."""
    return f"{PREFIX}/{device_id}/{kind}"


def sync(token: str) -> str:
    """Topic on which a sender asks for a sync answer."""
    return f"{PREFIX}/{token}/sync"


def is_sync(topic: str) -> bool:
    """Whether a topic is a sender's question, to be answered behind the events of all that came before it."""
    return topic.endswith("/sync")


def token_of(topic: str) -> str:
    """The token in a `sync` topic."""
    return topic.split("/")[-2]


def status(client_id: str) -> str:
    """Topic of a service's retained status."""
    return f"har/service/{client_id}/status"


def synced(client_id: str) -> str:
    """Topic on which a service answers sync requests."""
    return f"har/service/{client_id}/synced"


def device_of(topic: str) -> str:
    """Device named by an incoming topic: its second level from the end.

    Raises:
        PayloadError: TOPIC when there is no such level, DEVICE_NAME when the name is not one a device may have.
    """
    levels = topic.rsplit("/", 2)
    if len(levels) != 3:
        raise PayloadError(RejectReason.TOPIC, f"topic {topic!r:.100}: expected {PREFIX}/<device>/imu")
    if not DEVICE_NAME.fullmatch(levels[1]):
        raise PayloadError(
            RejectReason.DEVICE_NAME, f"device {levels[1]!r:.100}: expected 1 to 64 of A-Z a-z 0-9 . _ : @ -"
        )
    return levels[1]
