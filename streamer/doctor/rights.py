"""What the account may do at the broker, tried by doing it, on topics of a device that does not exist.

Neither a granted subscription nor, in MQTT 3.1.1, an acknowledged publication proves anything: Mosquitto's access list
grants the one and then delivers nothing, and swallows the other. Only what comes back proves both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from streamer.clock import now_ns
from streamer.config import Settings
from streamer.doctor.ear import Ear
from streamer.doctor.entry import client_ids
from streamer.doctor.finding import Finding, failed, ok, warning
from streamer.doctor.probe import REFUSED, Probe
from streamer.home_assistant import config_topic, object_id
from streamer.wire import topics

_BACK_S: Final = 2.0


@dataclass(slots=True)
class Trip:
    """What became of a message that was published to one's own subscription.

    Attributes:
        refused: the broker's reason code where it said no.
        took_ms: until it came back, None where it did not.
    """

    refused: int | None = None
    took_ms: float | None = None


@dataclass(slots=True)
class Subscriptions:
    """What became of the service's subscriptions.

    Attributes:
        refused: filters that the broker refused, with its reason code.
        trips: of the others, those on which a message of one's own could be sent.
    """

    refused: dict[str, int] = field(default_factory=dict)
    trips: dict[str, Trip] = field(default_factory=dict)


def round_trip(probe: Probe, ear: Ear, topic: str, payload: bytes) -> Trip:
    """Publish to a topic that is subscribed to, and see whether it comes back.

    Raises:
        ProbeError: the broker does not answer.
    """
    began_ns = now_ns()
    code = probe.publish(topic, payload)
    if code >= REFUSED:
        return Trip(refused=code)
    if probe.wait(lambda: topic in ear.own, _BACK_S):
        return Trip(took_ms=(ear.own[topic] - began_ns) / 1e6)
    return Trip()


def subscribe(settings: Settings, probe: Probe, ear: Ear) -> Subscriptions:
    """Ask for what the service asks for, and send something there where the filter leaves the device's name open.

    Raises:
        ProbeError: the broker does not answer.
    """
    result = Subscriptions()
    for filter_ in (*settings.topic, topics.SYNC_FILTER):
        code = probe.subscribe(filter_, settings.qos)
        if code >= REFUSED:
            result.refused[filter_] = code
        elif (topic := _topic_within(filter_, ear.token)) is not None:
            # One reading: too few for a running service to take it for a watch, and nothing that it would refuse.
            reading = {"t_ns": now_ns(), "acc_x": 0.0, "acc_y": 0.0, "acc_z": 9.81}
            result.trips[filter_] = round_trip(probe, ear, topic, json.dumps(reading).encode())
    return result


def judge_subscriptions(settings: Settings, result: Subscriptions, ear: Ear, *, mqtt_5: bool) -> Finding:
    """What to tell of the subscriptions, once it is known whether readings of others arrive."""
    user = settings.username or "this client"
    # The service goes on without these where a broker refuses them: few senders use them.
    optional = topics.DEFAULT_FILTERS[1:] if settings.topic == topics.DEFAULT_FILTERS else ()
    refused = {filter_: code for filter_, code in result.refused.items() if filter_ not in optional}
    if refused:
        filter_, code = next(iter(refused.items()))
        return failed(
            "subscribe",
            f"the broker refuses {user} the subscription to {filter_} (reason code {code})",
            f"give {user} the right to read {', '.join(refused)} (Mosquitto: `topic read {filter_}`)",
            code=code,
        )
    names = ", ".join(settings.topic)
    trips = {filter_: trip for filter_, trip in result.trips.items() if filter_ in settings.topic}
    back = [trip.took_ms for trip in trips.values() if trip.took_ms is not None]
    if trips and len(back) == len(trips):
        return ok("subscribe", f"{names}: granted, and a message came back in {max(back):.1f} ms", took_ms=max(back))
    if ear.readings:
        return ok("subscribe", f"{names}: granted, and messages arrive")
    lost = [filter_ for filter_, trip in trips.items() if trip.took_ms is None and trip.refused is None]
    if lost and mqtt_5:
        return failed(
            "subscribe",
            f"{lost[0]}: granted, but a message that the broker took for it never came back: an access list withholds "
            "it, as Mosquitto's does without a word",
            f"give {user} the right to read it (Mosquitto: `topic read {lost[0]}`)",
        )
    if lost:
        return warning(
            "subscribe",
            f"{lost[0]}: granted, but a message sent there did not come back: {user} may not read it, or may not write "
            "it, which is no fault",
            f"make sure that {user} may read it (Mosquitto: `topic read {lost[0]}`)",
        )
    return ok("subscribe", f"{names}: granted; whether messages come is seen only when a watch sends some")


def check_publish(settings: Settings, probe: Probe, ear: Ear) -> Finding:
    """Whether events may be published, on the topics of a device of the doctor's own.

    Raises:
        ProbeError: the broker does not answer.
    """
    device = f"doctor-{ear.token}"
    kinds = ["activity", "event", *(["window"] if settings.publish == "windows" else [])]
    kinds += ["health"] if settings.home_assistant else []
    wanted = [topics.output(device, kind) for kind in kinds]
    if settings.home_assistant:
        wanted.append(config_topic(settings.home_assistant_prefix, device))
    own = [f"{topics.synced(name)}" for name in client_ids(settings)]
    user = settings.username or "this client"
    refused: list[str] = []
    silent: list[str] = []
    for topic in wanted:
        # An empty retained message leaves nothing behind, and says nothing to whoever reads along.
        subscribed = probe.subscribe(topic, 1) < REFUSED
        if probe.publish(topic, b"", retain=not topic.endswith(("/event", "/window"))) >= REFUSED:
            refused.append(_general(topic, device))
        elif not probe.mqtt_5 and not (subscribed and probe.wait(lambda: topic in ear.own, _BACK_S)):  # noqa: B023 # called at once
            silent.append(_general(topic, device))
    # Nobody waits for this answer; it is the one topic of a service's own that may be written without lying.
    refused += [topic for topic in own if probe.publish(topic, f"doctor-{ear.token}".encode()) >= REFUSED]
    if refused:
        return failed(
            "publish",
            f"the broker does not let {user} publish {_listed(refused)}",
            f"give {user} the right to write them (Mosquitto: `topic write {refused[0]}`)",
        )
    if silent:
        return warning(
            "publish",
            f"taken, but what was published on {_listed(silent)} did not come back: {user} may not write it, or may "
            "not read it, which is no fault; this broker says neither",
            f"make sure that {user} may write it (Mosquitto: `topic write {silent[0]}`)",
        )
    proof = "the broker says so" if probe.mqtt_5 else "it came back"
    return ok("publish", f"{_listed([_general(topic, device) for topic in wanted])}: allowed ({proof})")


def _topic_within(filter_: str, token: str) -> str | None:
    """A topic of a device of the doctor's own that a filter matches; None where the filter names its topics."""
    levels = filter_.split("/")
    if filter_.startswith("$") or [level for level in levels if level in {"+", "#"}] != ["+"] or levels[-2:-1] != ["+"]:
        return None
    return filter_.replace("+", f"doctor-{token}")


def _general(topic: str, device: str) -> str:
    """A topic of the doctor's device, as an access list would name those of all devices."""
    return topic.replace(object_id(device), "+").replace(device, "+")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
