"""What the watches send, judged by the recognizer itself: decoded, in which unit, how fast, would the model take it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.bundle import ModelBundle, load_bundle, shipped_bundles
from streamer.config import Settings
from streamer.doctor.ear import Ear, Nearby
from streamer.doctor.finding import Finding, failed, ok, skipped, warning
from streamer.doctor.probe import Heard as Arrived
from streamer.doctor.probe import Login
from streamer.errors import PayloadError, RejectReason
from streamer.imu import ImuBatch
from streamer.likeness.scale import Scale, scale_of, seconds_of
from streamer.likeness.sensor import stuck_axes
from streamer.likeness.turning import FASTEST_RAD_S
from streamer.recognizer import Recognizer
from streamer.results import Result
from streamer.sources import Source
from streamer.sources.stage import OWN
from streamer.watches import Limits
from streamer.wire.payload import Message, decode, read

_SECOND_NS: Final = 1_000_000_000
#: A message is sent once its last reading is there; some senders gather for seconds.
_BEHIND_S: Final = 10.0
_AHEAD_S: Final = 2.0
_DAY_S: Final = 86_400.0
#: Share by which a declared rate may differ from that of the readings.
_RATE_TOLERANCE: Final = 0.1
#: Share of the model's least rate that the recognizer still takes: clocks are not exact.
_SHOWN: Final = 5

_AXES: Final = "xyz"
_ADVICE: Final[dict[RejectReason, str]] = {
    RejectReason.TOPIC: "a topic with the watch's name in the last level but one, such as har/v1/NAME/imu",
    RejectReason.DEVICE_NAME: "another name for the watch: 1 to 64 of A-Z a-z 0-9 . _ : @ -",
    RejectReason.DEVICE_MISMATCH: "the same name in topic and payload, or none in the payload",
    RejectReason.OVERSIZE: "fewer readings in a message; a second's worth is plenty",
    RejectReason.FORMAT: "one of the formats of docs/how-to/senders.md",
    RejectReason.JSON: "mend the JSON: numbers without quotes, no NaN, nothing behind the last brace",
    RejectReason.CBOR: "mend the CBOR: one map, typed arrays of RFC 8746 or plain ones",
    RejectReason.SCHEMA: "the fields of docs/how-to/senders.md, all three axes of a sensor, and a time",
    RejectReason.SHAPE: "as many values on each axis as there are times",
    RejectReason.NON_FINITE: "numbers only: leave a reading out rather than send NaN",
    RejectReason.VALUE_RANGE: "m/s² and rad/s; counts of the sensor have to be scaled by the sender",
    RejectReason.TIME_RANGE: "times in nanoseconds since 1970, UTC",
    RejectReason.FUTURE: "set the watch's clock; are its times in nanoseconds?",
    RejectReason.SENSORS: "turn accelerometer, and gyroscope if the model wants it, on in the app",
    RejectReason.UNITS: "let the watch lie still for some seconds, or send one of the units that the app documents",
    RejectReason.SIGN: "hold the watch still for some seconds; docs/how-to/senders.md says which apps need that",
    RejectReason.GRAVITY: "turn on the app's gravity sensor, too, or the acceleration with gravity",
    RejectReason.CAPACITY: "raise max_watches, or keep invented names away by the broker's access list",
}
_UNIT_SAYS: Final[dict[Scale, str]] = {
    "g": "|acc| at rest is 1: accelerations seem to be in g",
    "raw": "no watch is accelerated like this: they seem to be milli-g, or counts of the sensor",
    "no_gravity": "accelerations are far below 9.81: gravity has been taken out, or they are in g",
    "other": "|acc| at rest is far from 9.81: accelerations seem to be scaled wrongly",
    "unclear": "it cannot be told whether its accelerations are in m/s²",
}
_UNIT_NEXT: Final[dict[Scale, str]] = {
    "g": "multiply by 9.80665 in the sender, or switch the app to m/s²",
    "raw": "scale them to m/s² in the sender (milli-g: by 0.00980665)",
    "no_gravity": "send the acceleration with gravity, in m/s² (Android: TYPE_ACCELEROMETER, not linear acceleration)",
    "other": "scale the sensor's counts by its range, to m/s², and once",
    "unclear": "let the watch lie still while the doctor listens; readings are expected in m/s², gravity included",
}


@dataclass(slots=True)
class Watch:
    """What came of one watch.

    Attributes:
        batches: its messages.
        behind_s: by how much the newest reading of each message lay behind its arrival.
    """

    name: str
    batches: list[ImuBatch] = field(default_factory=list)
    behind_s: list[float] = field(default_factory=list)

    @property
    def rate_hz(self) -> float | None:
        """Readings per second of the sensor that sends most, by their own times; None for too few."""
        rates = []
        for sensor in ("acc", "gyro"):
            steps = np.diff(np.unique(self.times(sensor)))
            if len(steps):
                rates.append(_SECOND_NS / float(np.median(steps)))
        return max(rates, default=None)

    @property
    def declared_hz(self) -> float | None:
        """What it says that its rate is."""
        return next((batch.rate_hz for batch in self.batches if batch.rate_hz is not None), None)

    @property
    def sensors(self) -> set[str]:
        """Those that it sends."""
        return {name for name in ("acc", "gyro") if any(getattr(b, name) is not None for b in self.batches)}

    def times(self, sensor: str) -> NDArray[np.int64]:
        """(n,) times of all readings of a sensor."""
        return np.concatenate(
            [np.empty(0, np.int64), *(b.t_ns for b in self.batches if getattr(b, sensor) is not None)]
        )

    def values(self, sensor: str) -> NDArray[np.float64]:
        """(n, 3) all readings of a sensor."""
        found = [values for batch in self.batches if (values := getattr(batch, sensor)) is not None]
        return np.concatenate([np.empty((0, 3)), *found])


@dataclass(slots=True)
class Heard:
    """All that was heard, through the recognizer.

    Attributes:
        watches: those that sent enough readings to be followed.
        result: of all calls.
        sources: of watches that send another program's format, what is known of that.
    """

    watches: dict[str, Watch]
    result: Result
    sources: dict[str, Source]


def recognize(ear: Ear, settings: Settings, bundle: ModelBundle) -> Heard:
    """Run what was heard through a recognizer of its own, message by message, as it came."""
    recognizer = Recognizer(bundle, limits=Limits(lateness_ns=round(settings.lateness * _SECOND_NS)))
    whole = Result()
    watches: dict[str, Watch] = {}
    for heard in ear.readings:
        if heard.retained:
            continue
        result = recognizer.process([Message(heard.topic, heard.payload, heard.content_type)], heard.arrived_ns)
        for batch in result.batches:
            watch = watches.setdefault(batch.device_id, Watch(batch.device_id))
            watch.batches.append(batch)
            watch.behind_s.append((heard.arrived_ns - int(batch.t_ns.max())) / 1e9)
        whole.events += result.events
        whole.refused += result.refused
        whole.counts.messages += result.counts.messages
    sources = {name: source for name in watches if (source := recognizer.source_of(name)) is not None}
    return Heard(watches, whole, {name: one for name, one in sources.items() if one.format != OWN.format})


def check_arrival(ear: Ear, nearby: Nearby, settings: Settings, login: Login, seconds: float) -> Finding:
    """Whether anything arrives on the service's topics."""
    names = ", ".join(settings.topic)
    fresh = [heard for heard in ear.readings if not heard.retained]
    if fresh:
        rate_hz = len(fresh) / seconds
        senders = len({heard.topic for heard in fresh})
        full = "; more came than the doctor looks at" if ear.full else ""
        return ok(
            "readings",
            f"{names}: {_many(len(fresh), 'message')} on {_many(senders, 'topic')} in {seconds:g} s{full}",
            messages=len(fresh),
            messages_per_s=round(rate_hz, 2),
        )
    for topic, heard in nearby.samples.items():
        if (names_device := _is_readable(heard)) is not None:
            elsewhere = f"--topic '{topic}', or " if names_device else ""
            return failed(
                "readings",
                f"{names}: nothing arrived within {seconds:g} s, but what came on {topic} looks like readings",
                f"{elsewhere}let the sender publish to har/v1/NAME/imu",
                messages=0,
            )
    place = f" --broker {login.host} --port {login.port}"
    kept = f"; {_many(len(ear.readings), 'message')} had been kept by the broker" if ear.readings else ""
    return failed(
        "readings",
        f"{names}: nothing arrived within {seconds:g} s{kept}",
        "is the watch's app running, and does it publish there? Try it without a watch: "
        f"`simulator replay synthetic --start now{place}`",
        messages=0,
    )


def check_nearby(nearby: Nearby, *, allowed: bool) -> Finding:
    """What else is sent at the broker: the topic that a sender really uses is often among it."""
    if not allowed:
        return skipped("nearby", "the account may not look at other topics, which is as it should be")
    if not nearby.count:
        return ok("nearby", "nothing is sent on other topics")
    shown = [f"{topic} ({count})" for topic, count in nearby.count.most_common(_SHOWN)]
    more = f" and {len(nearby.count) - _SHOWN} more" if len(nearby.count) > _SHOWN else ""
    return ok("nearby", f"messages on other topics: {', '.join(shown)}{more}", topics=len(nearby.count))


def check_decoding(heard: Heard) -> Finding:
    """Whether the messages can be read."""
    refused = Counter(error.reason for _, error in heard.result.refused)
    good = heard.result.counts.messages
    if not refused and not good:
        return skipped("decoding", "too few readings yet: a watch is followed once it has sent 16")
    if not refused:
        readings = sum(len(batch) for watch in heard.watches.values() for batch in watch.batches)
        return ok(
            "decoding",
            f"all {_many(good, 'message')} can be read: {_many(readings, 'reading')} of "
            f"{_many(len(heard.watches), 'watch', 'watches')}",
            readings=readings,
            watches=len(heard.watches),
        )
    reason, count = refused.most_common(1)[0]
    example = next(str(error) for _, error in heard.result.refused if error.reason is reason)
    says = f"{refused.total()} of {good + refused.total()} messages cannot be read, {count} for `{reason}`: {example}"
    figures: dict[str, float | str | bool | None] = {f"rejects_{name}": n for name, n in refused.items()}
    return (warning if good else failed)("decoding", says, _ADVICE[reason], **figures)


def check_units(heard: Heard) -> Finding:
    """Whether the readings are in m/s² and rad/s, with gravity and all axes."""
    bad: list[tuple[str, str, str]] = []
    told: list[str] = []
    for watch in heard.watches.values():
        for sensor in sorted(watch.sensors):
            if axes := stuck_axes(watch.values(sensor)):
                names = ", ".join(f"{sensor}_{_AXES[axis]}" for axis in axes)
                bad.append((watch.name, f"{names} never changes", "send all three axes as they are measured"))
        if "acc" in watch.sensors:
            scale = scale_of(seconds_of(watch.times("acc"), watch.values("acc")))
            if scale == "m/s2":
                told.append(watch.name)
            else:
                bad.append((watch.name, _UNIT_SAYS[scale], _UNIT_NEXT[scale]))
        if "gyro" in watch.sensors and (fastest := float(np.abs(watch.values("gyro")).max())) > FASTEST_RAD_S:
            says = f"a turn of {fastest:.0f} rad/s: angular rates seem to be in degrees per second"
            bad.append((watch.name, says, "multiply by 0.0174533 in the sender, or switch the app to rad/s"))
    if bad:
        name, says, next_step = bad[0]
        others = len({watch for watch, *_ in bad}) - 1
        also = f" (and {_many(others, 'other watch', 'other watches')})" if others else ""
        tell = warning if says == _UNIT_SAYS["unclear"] else failed
        return tell("units", f"{name}{also}: {says}", next_step, watch=name)
    if not told:
        return ok("units", "no accelerometer came, so nothing can be told of units")
    senders = [f"{name}: {_sender(source)}" for name, source in heard.sources.items()]
    more = f" ({'; '.join(senders[:_SHOWN])})" if senders else ""
    return ok("units", f"|acc| is that of gravity: m/s², gravity included{more}")


def _sender(source: Source) -> str:
    """What another program sends, and what was made of it."""
    gravity = {"added": ", gravity added", "included": "", "missing": ", without gravity", None: ""}[source.gravity]
    sign = ", sign turned" if source.sign == "Apple" else ""
    return f"{source.format}, {source.sensor} in {source.unit}{gravity}{sign}"


def check_model(heard: Heard, bundle: ModelBundle, seconds: float) -> Finding:
    """Whether the model would take it: sensors and rate; and what it says, where it was long enough."""
    spec, least_hz = bundle.spec, bundle.manifest.min_feed_rate_hz
    for watch in heard.watches.values():
        lacking = [sensor for sensor in spec.required_sensors if sensor not in watch.sensors]
        if lacking:
            return failed(
                "model",
                f"{watch.name} sends no {_named(lacking)}, and {bundle.manifest.name} needs it: "
                "its activity is `unknown` (sensor_missing)",
                _sensor_advice(watch.sensors, lacking),
                watch=watch.name,
            )
        rate_hz = watch.rate_hz
        if rate_hz is not None and rate_hz < 0.9 * least_hz:
            return failed(
                "model",
                f"{watch.name} sends {rate_hz:.3g} readings a second, and {bundle.manifest.name} needs {least_hz:g}: "
                "its activity is `unknown` (feed_rate)",
                f"raise the app's rate to {least_hz:g} Hz or more, or choose a model for slower feeds: "
                "`har-models list`",
                watch=watch.name,
                rate_hz=rate_hz,
            )
        declared_hz = watch.declared_hz
        if rate_hz and declared_hz and abs(declared_hz - rate_hz) > _RATE_TOLERANCE * rate_hz:
            return warning(
                "model",
                f"{watch.name} declares {declared_hz:g} Hz, but its readings come {rate_hz:.3g} a second",
                "declare the rate as it is, or none: it decides how readings are filtered",
                watch=watch.name,
                rate_hz=rate_hz,
            )
    rates = [rate for watch in heard.watches.values() if (rate := watch.rate_hz) is not None]
    feeds = f"{min(rates):.3g} Hz" if rates and max(rates) - min(rates) < 1 else "feeds fast enough"
    if rates and max(rates) - min(rates) >= 1:
        feeds = f"{min(rates):.3g} to {max(rates):.3g} Hz"
    without = [watch.name for watch in heard.watches.values() if not watch.sensors.issuperset(spec.optional_sensors)]
    if without:
        feeds += f", {_many(len(without), 'watch', 'watches')} without a {_named(spec.optional_sensors)}"
    told = [event for event in heard.result.events if event.type == "start"]
    window_s = spec.window_ns / _SECOND_NS
    if told:
        shown = ", ".join(f"{event.device} {event.activity} {event.confidence:.2f}" for event in told[:_SHOWN])
        return ok("model", f"{bundle.manifest.name} takes them ({feeds}) and says: {shown}", events=len(told))
    return ok(
        "model",
        f"{bundle.manifest.name} takes them ({feeds}); its windows are {window_s:g} s long, and it was heard for "
        f"{seconds:g} s; --listen {2 * window_s + 5:.0f} shows what it says",
        events=0,
    )


def check_clocks(heard: Heard) -> Finding:
    """Whether the readings' times go with this machine's clock."""
    worst: tuple[float, str] | None = None
    for watch in heard.watches.values():
        behind_s = float(np.median(watch.behind_s))
        if worst is None or abs(behind_s) > abs(worst[0]):
            worst = behind_s, watch.name
    if worst is None:
        return skipped("clocks", "no reading, no time")
    behind_s, name = worst
    if -_AHEAD_S <= behind_s <= _BEHIND_S:
        return ok("clocks", f"readings are {behind_s:.1f} s old when they arrive, at most", behind_s=behind_s)
    says = f"{name}: its readings are {_duration(behind_s)} old when they arrive"
    if behind_s < 0:
        says = f"{name}: its clock is {_duration(-behind_s)} ahead of this machine's"
    next_step = "set the clocks: both by NTP; events carry the watch's times"
    if behind_s > 40 * 365 * _DAY_S:
        says += ", as if it were 1970"
        next_step = "set the watch's clock; are its times in nanoseconds since 1970?"
    elif behind_s > _DAY_S:
        next_step = "a replay of a recording keeps its times unless told otherwise (--start now); else set the clock"
    return warning("clocks", says, next_step, behind_s=round(behind_s, 1), watch=name)


def _is_readable(heard: Arrived) -> bool | None:
    """Whether a message from elsewhere is a watch's: None if it isn't, False where nothing in it names a device."""
    try:
        read(Message(heard.topic, heard.payload, heard.content_type))
    except PayloadError:
        pass
    else:
        return True
    try:
        decode("doctor", heard.payload, heard.content_type)
    except PayloadError:
        return None
    return False


def _sensor_advice(sensors: Iterable[str], lacking: Sequence[str]) -> str:
    able = []
    for name, folder in shipped_bundles().items():
        if set(load_bundle(folder).spec.required_sensors) <= set(sensors):
            able.append(name)
    turn_on = f"turn the {_named(lacking)} on in the app"
    return f"{turn_on}, or --model {' or '.join(able)}, which does without" if able else turn_on


def _named(sensors: Sequence[str]) -> str:
    return " and ".join({"acc": "accelerometer", "gyro": "gyroscope"}[sensor] for sensor in sensors)


def _many(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or f'{one}s'}"


def _duration(seconds: float) -> str:
    for unit, length in (("years", 365 * _DAY_S), ("days", _DAY_S), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"
