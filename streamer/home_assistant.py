"""Home Assistant's MQTT discovery: what makes each watch a device with its sensors there.

    homeassistant/device/<id>/config     a device's sensors, retained; empty when the watch is forgotten
    homeassistant/status                 Home Assistant says online when it has started

The sensors read `har/v1/<device>/health` and nothing else: Home Assistant passes empty messages over, so that it would
show for ever what a watch did before it fell silent, were it to read `har/v1/<device>/activity`.

Source: "MQTT", sections on discovery, availability and birth messages, and "MQTT Sensor" of Home Assistant's
documentation, https://www.home-assistant.io/integrations/mqtt/ and .../sensor.mqtt/ (device discovery: 2024.12 or
newer). Keys are written in the abbreviated form that the former lists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from streamer.activities import UNKNOWN
from streamer.mqtt.connection import Outgoing
from streamer.wire import topics

DEFAULT_PREFIX: Final = "homeassistant"
#: What Home Assistant's birth message says.
ONLINE: Final = b"online"
#: Letters of watches' names that an id there may not have, and the one that takes their place.
_ESCAPED: Final = re.compile(r"[^A-Za-z0-9-]")
#: The service says online, stopped or, by its last will, offline. Any but the first means: not available.
_SERVICE_IS_UP: Final = "{{ 'online' if value == 'online' else 'offline' }}"
_WATCH_IS_ALIVE: Final = "{{ 'online' if value_json.alive else 'offline' }}"


def object_id(device: str) -> str:
    """A watch's id in Home Assistant: letters, digits, - and _ only, another one for each name.

    >>> object_id("watch-7"), object_id("nurse@ward.3")
    ('har_watch-7', 'har_nurse_40ward_2e3')
    """
    # `_` is escaped, too: no two names can meet.
    return "har_" + _ESCAPED.sub(lambda found: f"_{ord(found[0]):02x}", device)


def config_topic(prefix: str, device: str) -> str:
    """Topic of a watch's discovery document."""
    return f"{prefix}/device/{object_id(device)}/config"


def birth_topics(prefix: str) -> tuple[str, ...]:
    """Topics on which Home Assistant may say that it has started: another prefix doesn't change the default one."""
    return tuple(dict.fromkeys((f"{prefix}/status", f"{DEFAULT_PREFIX}/status")))


def discovery(
    device: str, *, prefix: str, client_id: str, model: str, activities: Sequence[str], version: str
) -> Outgoing:
    """What makes a watch known to Home Assistant; the same for the same watch, so it may be said again at any time.

    Args:
        device: the watch.
        prefix: of discovery topics.
        client_id: of the service, whose status says whether the watch's sensors are available.
        model: the bundle's name.
        activities: the bundle's labels, and the groups of them that it tells.
        version: of this program.
    """
    own, health = object_id(device), topics.output(device, "health")
    service = {"t": topics.status(client_id), "val_tpl": _SERVICE_IS_UP}
    document = {
        "dev": {"ids": [own], "name": device, "mf": "har-stream", "mdl": model, "sw": version},
        "o": {"name": "har-stream", "sw": version},
        "stat_t": health,
        "avty": [service, {"t": health, "val_tpl": _WATCH_IS_ALIVE}],
        "avty_mode": "all",
        "cmps": {
            "activity": {
                **_sensor(own, "activity", "Activity", "{{ value_json.activity }}"),
                "dev_cla": "enum",
                "ops": [*activities, UNKNOWN],
                "ic": "mdi:walk",
            },
            "confidence": {
                **_sensor(own, "confidence", "Confidence", _percent("confidence")),
                **_measured("%", precision=0),
                "ic": "mdi:percent",
            },
            "rate": {
                **_sensor(own, "rate", "Rate of readings", "{{ value_json.rate_hz }}"),
                **_measured("Hz", precision=1),
                "dev_cla": "frequency",
                "ent_cat": "diagnostic",
            },
            "completeness": {
                **_sensor(own, "completeness", "Completeness", _percent("completeness")),
                **_measured("%", precision=0),
                "ent_cat": "diagnostic",
                "ic": "mdi:check-network",
            },
            "last_seen": {
                **_sensor(own, "last_seen", "Last seen", "{{ value_json.last_seen }}"),
                "dev_cla": "timestamp",
                "ent_cat": "diagnostic",
                # When a watch was last heard of is of most interest while it is silent.
                "avty": [service],
            },
        },
    }
    return Outgoing(config_topic(prefix, device), msgspec.json.encode(document), retain=True)


def removal(device: str, *, prefix: str) -> list[Outgoing]:
    """What makes a watch unknown again, its sensors before what they read."""
    return [
        Outgoing(config_topic(prefix, device), b"", retain=True),
        Outgoing(topics.output(device, "health"), b"", retain=True),
    ]


def _sensor(own: str, key: str, name: str, template: str) -> dict[str, Any]:
    return {"p": "sensor", "uniq_id": f"{own}_{key}", "name": name, "val_tpl": template}


def _measured(unit: str, *, precision: int) -> dict[str, Any]:
    return {"unit_of_meas": unit, "stat_cla": "measurement", "sug_dsp_prc": precision}


def _percent(key: str) -> str:
    """A share of 1 in percent; what renders to None makes a sensor's state unknown."""
    return f"{{{{ (100 * value_json.{key}) | round(1) if value_json.{key} is not none else none }}}}"
