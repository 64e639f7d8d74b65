"""The topics of har-stream; a device's name stands in its topic.

in    har/v1/<device>/imu         readings
har/v1/<device>/imu/<part>  of senders that need several topics
sensor-logger               readings of a sender that names the device in the payload
out   har/v1/<device>/activity    current activity, retained; empty when the watch went silent
har/v1/<device>/event       start and end of bouts
har/v1/<device>/window      every window, on request
har/v1/<device>/health      how the watch is, retained, on request
har/service/<client>/status online | stopped | offline, retained
sync  har/v1/<token>/sync         a sender asks: has everything I sent before this been processed?
har/service/<client>/synced the answer: the token
"""

from __future__ import annotations

import re
from typing import Final

from streamer.errors import PayloadError, RejectReason

PREFIX: Final = "har/v1"
_OWN: Final = f"{PREFIX}/"
IMU_FILTER: Final = f"{PREFIX}/+/imu"
#: Below a device's readings: what comes as several topics, such as phyphox's columns or Movesense's resources.
PARTS_FILTER: Final = f"{PREFIX}/+/imu/+/#"
#: Sensor Logger's own proposal, the same for all its users: the payload names the device.
SENSOR_LOGGER: Final = "sensor-logger"
#: What the service subscribes to unless told otherwise; it goes on without those that a broker refuses but the first.
DEFAULT_FILTERS: Final = (IMU_FILTER, PARTS_FILTER, SENSOR_LOGGER)
HEALTH_FILTER: Final = f"{PREFIX}/+/health"
SYNC_FILTER: Final = f"{PREFIX}/+/sync"
STATUS_FILTER: Final = "har/service/+/status"
SYNCED_FILTER: Final = "har/service/+/synced"

#: What a device may be called: no wildcard, no level separator, short enough for a topic and a log line.
DEVICE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")


def imu(device_id: str) -> str:
    """Topic on which a watch publishes its readings."""
    return f"{PREFIX}/{device_id}/imu"


def part(device_id: str, name: str) -> str:
    """Topic below a watch's readings, for senders that need several."""
    return f"{PREFIX}/{device_id}/imu/{name}"


def output(device_id: str, kind: str) -> str:
    """Topic of a device's `activity`, `event`, `window` or `health` documents."""
    return f"{PREFIX}/{device_id}/{kind}"


def sync(token: str) -> str:
    """Topic on which a sender asks for a sync answer."""
    return f"{PREFIX}/{token}/sync"


def is_sync(topic: str) -> bool:
    """Whether a topic is a sender's question, to be answered behind the events of all that came before it."""
    return topic.endswith("/sync")


def is_health(topic: str) -> bool:
    """Whether a topic is that of a watch's health document."""
    return topic.startswith(f"{PREFIX}/") and topic.endswith("/health")


def token_of(topic: str) -> str:
    """The token in a `sync` topic."""
    return topic.split("/")[-2]


def status(client_id: str) -> str:
    """Topic of a service's retained status."""
    return f"har/service/{client_id}/status"


def synced(client_id: str) -> str:
    """Topic on which a service answers sync requests."""
    return f"har/service/{client_id}/synced"


def device_level(topic: str) -> str | None:
    """The level of an incoming topic that names the device, None where there is none.

    Of har/v1/<device>/imu and what lies below it the third, else the last but one of at least three.

    >>> device_level("har/v1/wrist/imu/acc_x"), device_level("site/2/wrist/imu"), device_level("sensor-logger")
    ('wrist', 'wrist', None)
    """
    if topic.startswith(_OWN):
        return topic.split("/", 3)[2]
    levels = topic.rsplit("/", 2)
    return levels[1] if len(levels) == 3 else None


def device_of(topic: str) -> str:
    """Device named by an incoming topic.

    Raises:
        PayloadError: TOPIC when it names none, DEVICE_NAME when the name is not one a device may have.
    """
    name = device_level(topic)
    if name is None:
        raise PayloadError(RejectReason.TOPIC, f"topic {topic!r:.100}: expected {PREFIX}/<device>/imu")
    return checked_name(name)


def checked_name(name: str) -> str:
    """A device's name as it is.

    Raises:
        PayloadError: no device may be called so.
    """
    if not DEVICE_NAME.fullmatch(name):
        raise PayloadError(RejectReason.DEVICE_NAME, f"device {name!r:.100}: expected 1 to 64 of A-Z a-z 0-9 . _ : @ -")
    return name


def named(device_id: str | None) -> str:
    """The device that a payload names, for a topic that names none.

    Raises:
        PayloadError: it names none either, or no device may be called so.
    """
    if device_id is None:
        raise PayloadError(RejectReason.TOPIC, "neither topic nor payload names a device; expected one of them to")
    return checked_name(device_id)


def below_imu(topic: str) -> str:
    """What follows the `imu` of har/v1/<device>/imu in a topic: a column's name, or a resource; empty for nothing.

    >>> below_imu("har/v1/wrist/imu/Meas/IMU6/52"), below_imu("har/v1/wrist/imu"), below_imu("site/wrist/imu")
    ('Meas/IMU6/52', '', '')
    """
    return topic.partition("/imu/")[2] if topic.startswith(_OWN) else ""
