"""As much of Home Assistant as har-stream meets: discovery, state and availability of MQTT sensors, the birth message.

Home Assistant itself needs Python 3.13 and some hundred packages, so that its documented rules are written down here
instead, and held to by JSON Schema and Jinja. Source: https://www.home-assistant.io/integrations/mqtt/ ("Discovery
topic", "Device discovery payload", "Supported abbreviations in MQTT discovery messages", "Using availability topics",
"Birth and last will messages") and https://www.home-assistant.io/integrations/sensor.mqtt/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock
from typing import Any, Final

import jinja2
import jsonschema
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

TOPIC: Final = re.compile(r"(?P<prefix>.+)/device/(?P<id>[a-zA-Z0-9_-]+)/config")
#: Those of the documented abbreviations that are used; any other key stands for itself, and the schema knows it or not.
_SHORT: Final = {
    "avty": "availability",
    "avty_mode": "availability_mode",
    "cmps": "components",
    "dev": "device",
    "dev_cla": "device_class",
    "ent_cat": "entity_category",
    "ic": "icon",
    "o": "origin",
    "ops": "options",
    "p": "platform",
    "stat_cla": "state_class",
    "stat_t": "state_topic",
    "sug_dsp_prc": "suggested_display_precision",
    "t": "topic",
    "uniq_id": "unique_id",
    "unit_of_meas": "unit_of_measurement",
    "val_tpl": "value_template",
}
_SHORT_IN_DEVICE: Final = {
    "ids": "identifiers",
    "mdl": "model",
    "mf": "manufacturer",
    "sw": "sw_version",
}
_SHORT_IN_ORIGIN: Final = {"sw": "sw_version", "url": "support_url"}

_TEXT: Final = {"type": "string", "minLength": 1}
_AVAILABILITY: Final = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["topic"],
        "properties": {
            "topic": _TEXT,
            "value_template": _TEXT,
            "payload_available": _TEXT,
            "payload_not_available": _TEXT,
        },
        "additionalProperties": False,
    },
}
_SHARED: Final = {
    "state_topic": _TEXT,
    "availability": _AVAILABILITY,
    "availability_mode": {"enum": ["all", "any", "latest"]},
    "qos": {"enum": [0, 1, 2]},
    "encoding": _TEXT,
}
#: Of the device classes of sensors those that fit here, with their units.
_UNITS: Final[dict[str, list[str]]] = {"frequency": ["Hz", "kHz", "MHz", "GHz"]}
_SENSOR: Final = {
    "type": "object",
    "required": ["platform", "unique_id", "state_topic"],
    "properties": {
        **_SHARED,
        "platform": {"const": "sensor"},
        "unique_id": _TEXT,
        "name": {"type": ["string", "null"]},
        "value_template": _TEXT,
        "device_class": {"enum": ["enum", "timestamp", *_UNITS]},
        "options": {"type": "array", "minItems": 1, "uniqueItems": True, "items": _TEXT},
        "entity_category": {"enum": ["config", "diagnostic"]},
        "icon": {"type": "string", "pattern": "^mdi:[a-z0-9-]+$"},
        "state_class": {"enum": ["measurement", "measurement_angle", "total", "total_increasing"]},
        "unit_of_measurement": _TEXT,
        "suggested_display_precision": {"type": "integer", "minimum": 0},
        "expire_after": {"type": "integer", "minimum": 0},
        "force_update": {"type": "boolean"},
    },
    "additionalProperties": False,
    "allOf": [
        # Options belong to the device class enum, which has neither unit nor state class.
        {
            "if": {"required": ["options"]},
            "then": {
                "required": ["device_class"],
                "properties": {"device_class": {"const": "enum"}},
                "not": {"anyOf": [{"required": ["state_class"]}, {"required": ["unit_of_measurement"]}]},
            },
        },
        *(
            {
                "if": {"properties": {"device_class": {"const": device_class}}, "required": ["device_class"]},
                "then": {"properties": {"unit_of_measurement": {"enum": units}}, "required": ["unit_of_measurement"]},
            }
            for device_class, units in _UNITS.items()
        ),
    ],
}
_DEVICE_DISCOVERY: Final = {
    "type": "object",
    "required": ["device", "origin", "components"],
    "properties": {
        **_SHARED,
        "device": {
            "type": "object",
            "required": ["identifiers", "name"],
            "properties": {
                "identifiers": {"type": "array", "minItems": 1, "items": _TEXT},
                **dict.fromkeys(("name", "manufacturer", "model", "sw_version"), _TEXT),
            },
            "additionalProperties": False,
        },
        "origin": {
            "type": "object",
            "required": ["name"],
            "properties": dict.fromkeys(("name", "sw_version", "support_url"), _TEXT),
            "additionalProperties": False,
        },
        "components": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": "object", "required": ["platform"]},
        },
    },
    "additionalProperties": False,
}


def sensors(topic: str, payload: bytes) -> dict[str, dict[str, Any]]:
    """The sensors that a discovery document sets up, by unique id, each with the options of its device.

    Raises:
        ValueError: Home Assistant would not take it.
    """
    if not TOPIC.fullmatch(topic):
        raise ValueError(f"{topic}: no discovery topic")
    document = _long(json.loads(payload), _SHORT)
    document["device"] = _long(document["device"], _SHORT_IN_DEVICE)
    document["origin"] = _long(document["origin"], _SHORT_IN_ORIGIN)
    document["components"] = {key: _long(part, _SHORT) for key, part in document["components"].items()}
    for part in (document, *document["components"].values()):
        if "availability" in part:
            part["availability"] = [_long(entry, _SHORT) for entry in part["availability"]]
    try:
        jsonschema.validate(document, _DEVICE_DISCOVERY)
        shared = {key: value for key, value in document.items() if key in _SHARED}
        found = {}
        for part in document["components"].values():
            whole = shared | part
            jsonschema.validate(whole, _SENSOR)
            found[whole["unique_id"]] = whole | {"device": document["device"]}
    except jsonschema.ValidationError as error:
        raise ValueError(f"{topic}: {error.message}") from error
    return found


def render(template: str, payload: bytes) -> str:
    """What a template makes of a payload: `value` is its text, `value_json` what that holds as JSON, if it does."""
    text = payload.decode()
    variables: dict[str, Any] = {"value": text}
    with suppress(ValueError):
        variables["value_json"] = json.loads(text)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - no HTML
    return environment.from_string(template).render(variables)


def _long(document: Mapping[str, Any], abbreviations: Mapping[str, str]) -> dict[str, Any]:
    return {abbreviations.get(key, key): value for key, value in document.items()}


@dataclass(slots=True)
class Sensor:
    """An entity: its configuration, state, and what its availability topics said."""

    config: dict[str, Any]
    state: str = "unknown"
    available: dict[str, bool] | None = None

    def take(self, topic: str, payload: bytes) -> None:
        """A message on one of its topics."""
        # An empty state is passed over; availability is compared with two words, any other changes nothing.
        if topic == self.config["state_topic"] and payload:
            new = render(self.config["value_template"], payload)
            if new == "None":
                self.state = "unknown"
            elif "options" not in self.config or new in self.config["options"]:
                self.state = new
        for entry in self.config["availability"]:
            if topic == entry["topic"] and payload:
                said = render(entry["value_template"], payload)
                if said in {"online", "offline"}:
                    self.available = {**(self.available or {}), topic: said == "online"}

    @property
    def shown(self) -> str:
        """What a dashboard shows."""
        heard = [(self.available or {}).get(entry["topic"], False) for entry in self.config["availability"]]
        return self.state if all(heard) else "unavailable"


def _names(unique_id: str, sensor: Sensor) -> tuple[str, str]:
    """Name of the device, and the end of the sensor's unique id."""
    device = sensor.config["device"]
    return device["name"], unique_id.removeprefix(f"{device['identifiers'][0]}_")


class Hub:
    """A Home Assistant at a broker.

    State: the entities of each discovery topic; live discovery messages since `restarted`; what each entity has shown,
    by device and end of unique id; whatever was refused.
    """

    def __init__(self, host: str, port: int, *, prefix: str = "homeassistant") -> None:
        """Connect and ask for discovery messages."""
        self.prefix = prefix
        self.devices: dict[str, dict[str, Sensor]] = {}
        self.told_again: list[str] = []
        self.refused: list[str] = []
        self.history: dict[tuple[str, str], list[str]] = {}
        self._lock = RLock()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, message: self._take(message)
        self._client.connect(host, port)
        self._client.subscribe(f"{prefix}/+/+/config")
        self._client.loop_start()

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()
        # Without a ring of references it is closed for good at once.
        self._client.on_message = None

    def restarted(self) -> None:
        """Say that it has started, as it does each time."""
        with self._lock:
            self.told_again.clear()
        self._client.publish(f"{self.prefix}/status", b"online").wait_for_publish(5)

    def shown(self, device: str) -> dict[str, str]:
        """What a dashboard shows of a watch, by the end of the sensors' unique ids; empty where it is unknown."""
        with self._lock:
            found = [(_names(*item), item[1]) for entities in self.devices.values() for item in entities.items()]
            return {key: sensor.shown for (name, key), sensor in found if name == device}

    def _take(self, message: MQTTMessage) -> None:
        with self._lock:
            if message.topic.endswith("/config"):
                self._discover(message)
            for entities in self.devices.values():
                for unique_id, sensor in entities.items():
                    sensor.take(message.topic, bytes(message.payload))
                    past = self.history.setdefault(_names(unique_id, sensor), [])
                    if past[-1:] != [sensor.shown]:
                        past.append(sensor.shown)

    def _discover(self, message: MQTTMessage) -> None:
        if not message.payload:
            self.devices.pop(message.topic, None)
            return
        if not message.retain:
            self.told_again.append(message.topic)
        try:
            found = sensors(message.topic, bytes(message.payload))
        except ValueError as error:
            self.refused.append(str(error))
            return
        known = self.devices.setdefault(message.topic, {})
        for unique_id, config in found.items():
            if unique_id in known:
                known[unique_id].config = config
                continue
            known[unique_id] = Sensor(config)
            topics = {config["state_topic"], *(entry["topic"] for entry in config["availability"])}
            # Brings what is retained.
            self._client.subscribe([(topic, 0) for topic in sorted(topics)])
