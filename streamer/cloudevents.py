"""Events as CloudEvents 1.0, for programs that route and store those whatever is in them.

With MQTT 5 in binary mode: the payload stays what it was, the attributes are user properties, and the content type says
what the payload is. MQTT 3.1.1 has neither, so that there an envelope of JSON holds both.

Source: CloudEvents 1.0.2, https://github.com/cloudevents/spec: spec.md (attributes, types), formats/json-format.md and
bindings/mqtt-protocol-binding.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from streamer.mqtt.connection import Outgoing
from streamer.wire.events import EventType

SPEC_VERSION: Final = "1.0"
#: Of the envelope; MQTT 3.1.1 cannot say it, and it is implied there.
ENVELOPE_TYPE: Final = "application/cloudevents+json"
_DATA_TYPE: Final = "application/json"
TYPES: Final[dict[EventType, str]] = {
    "start": "har.v1.bout.start",
    "end": "har.v1.bout.end",
    "state": "har.v1.state",
    "window": "har.v1.window",
}
#: Last levels of the topics that carry events.
_EVENTS: Final = ("/event", "/activity", "/window")


class _Event(msgspec.Struct):
    """What the attributes are made of; of the same names and types as in `ActivityEvent`."""

    id: str
    type: EventType
    device: str
    decided_ns: int


class _Envelope(msgspec.Struct):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    data: msgspec.Raw


_decoder = msgspec.json.Decoder(_Event)
_encoder = msgspec.json.Encoder()


def as_cloud_events(client_id: str, *, mqtt_5: bool) -> Callable[[Outgoing], Outgoing]:
    """What makes CloudEvents of publications that tell of events, and leaves the others as they are.

    Args:
        client_id: of the service; names the source.
        mqtt_5: the session speaks it.
    """
    source = f"/har/service/{client_id}"

    def dress(outgoing: Outgoing) -> Outgoing:
        # An empty message takes a retained one back; an envelope around nothing would be kept.
        if not outgoing.payload or not outgoing.topic.endswith(_EVENTS):
            return outgoing
        attributes = _attributes(outgoing.payload, source)
        if mqtt_5:
            properties = (*attributes.items(), *outgoing.user_properties)
            return replace(outgoing, content_type=_DATA_TYPE, user_properties=properties)
        envelope = _Envelope(**attributes, datacontenttype=_DATA_TYPE, data=msgspec.Raw(outgoing.payload))
        # Extensions, such as traceparent, stand beside the attributes.
        members = msgspec.structs.asdict(envelope) | dict(outgoing.user_properties)
        return replace(outgoing, payload=_encoder.encode(members), user_properties=())

    return dress


def _attributes(payload: bytes, source: str) -> dict[str, str]:
    """Of one event: the same whenever it is published, as `source` and `id` tell repeats."""
    event = _decoder.decode(payload)
    second, rest_ns = divmod(event.decided_ns, 1_000_000_000)
    # To the microsecond, which is as far as most libraries read.
    time = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"
    return {
        "specversion": SPEC_VERSION,
        "id": event.id,
        "source": source,
        "type": TYPES[event.type],
        "subject": event.device,
        "time": time,
    }
