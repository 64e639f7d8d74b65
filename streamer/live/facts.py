"""What is known of a watch's feed, in words: how fast it comes, what was made of its units, if its clock is right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from streamer.errors import RejectReason
from streamer.live.reasons import Why
from streamer.live.traces import WatchTraces
from streamer.preprocessing.spec import Sensor
from streamer.sources.stage import OWN, Source

#: A watch's clock may differ from the service's by this much before that is worth a word.
_CLOCK_NS: Final = 5_000_000_000

#: What stands against readings that another program sends, and what to do.
_PROBLEMS: Final = {
    RejectReason.UNITS: "Its acceleration may be in m/s² or in g: let it lie still for two seconds, which shows which.",
    RejectReason.SIGN: "Its acceleration may have the sign of iOS or of Android: let it send its attitude too, which "
    "Sensor Logger calls Orientation.",
    RejectReason.GRAVITY: "Its acceleration has no gravity in it: let it send one with gravity, or gravity too.",
}
_GRAVITY: Final = {
    "included": "gravity is in it",
    "added": "gravity is added from readings of its own",
    "missing": "gravity is missing",
}


class Fact(NamedTuple):
    """One thing that is known: what, how it is, and what that means."""

    what: str
    value: str
    meaning: str = ""


def trouble(source: Source | None) -> Why | None:
    """What stands against a sender's readings."""
    if source is None or source.problem is None:
        return None
    named = source.problem.value
    return Why(named, _PROBLEMS.get(source.problem, f"Its readings are refused: {named.replace('_', ' ')}."))


def of_source(source: Source | None) -> list[Fact]:
    """What a watch's sender is, and what was inferred of its acceleration."""
    if source is None or source == OWN:
        return [Fact("Sender", OWN.format, "m/s² and rad/s with gravity, by definition")]
    found = [Fact("Sender", source.format)]
    if source.sensor is not None:
        unit = "unit not known yet" if source.unit is None else f"in {source.unit}"
        rest = [f"sign of {source.sign}"] if source.sign else []
        rest += [_GRAVITY[source.gravity]] if source.gravity else []
        found.append(Fact("Acceleration", f"{source.sensor}, {unit}", "; ".join(rest)))
    if source.gyroscope is not None:
        found.append(Fact("Angular rate", source.gyroscope))
    return found


def of_rates(traces: WatchTraces | None, taken_hz: float, grid_hz: int) -> list[Fact]:
    """How fast readings come, as seen and as taken.

    Args:
        traces: what is kept of the watch, if anybody looks at it.
        taken_hz: rate that its feed was taken to have; 0 while that isn't known.
        grid_hz: the model's.
    """
    found: list[Fact] = []
    if traces is not None and (traces.acc.pieces or traces.gyro.pieces):
        for what, trace in (("Accelerometer", traces.acc), ("Gyroscope", traces.gyro)):
            measured = "being measured" if trace.rate_hz is None else f"{trace.rate_hz:.1f} Hz"
            found.append(Fact(what, measured if trace.pieces else "no readings"))
    if taken_hz:
        found.append(Fact("Rate", f"taken as {taken_hz:.3g} Hz", f"put on the model's grid of {grid_hz} Hz"))
    return found


def without(sensors: Iterable[Sensor]) -> list[Fact]:
    """What a watch is recognised without, of what the model can do without."""
    return [
        Fact(
            {"acc": "Accelerometer", "gyro": "Gyroscope"}[sensor],
            "not used",
            "the latest window lacks it; the model can do without",
        )
        for sensor in sensors
    ]


def of_clock(ahead_ns: int) -> Fact:
    """Whether a watch's clock is right.

    Args:
        ahead_ns: its newest reading's time less the service's when that came.
    """
    if abs(ahead_ns) < _CLOCK_NS:
        return Fact("Clock", "right", "by its newest reading, against the service's")
    word = "ahead" if ahead_ns > 0 else "behind"
    return Fact("Clock", f"{_span(abs(ahead_ns))} {word}", "its newest reading, against the service's")


def _span(ns: int) -> str:
    """A span of time, roughly.

    >>> _span(7_000_000_000), _span(200_000_000_000_000), _span(4 * 10**17)
    ('7 seconds', '2.3 days', '12.7 years')
    """
    seconds = ns / 1e9
    for unit, length in (("years", 31_557_600.0), ("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= length * 1.5:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
