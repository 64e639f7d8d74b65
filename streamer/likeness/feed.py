"""Whether readings come as often and as regularly as they should, and whether their times are times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.likeness.finding import Finding
from streamer.likeness.stretch import PAUSE_NS, SensorName, Stretch, Track
from streamer.preprocessing.interpolation import HOLE_PERIODS

Int64 = NDArray[np.int64]

#: Readings without which nothing is said.
LEAST: Final = 16
#: Longer steps count as this much, so that in any unit they stay in 64 bits: a year.
LONGEST_NS: Final = 31_536_000_000_000_000
#: No watch is faster; a feed that seems to be has its times in another unit.
_FASTEST_HZ: Final = 1500.0
#: What a wrong unit of time makes of a rate: times in us, ms or s where ns are expected.
_UNITS: Final = {1_000: "microseconds", 1_000_000: "milliseconds", 1_000_000_000: "seconds"}
#: Rates that a feed may have, for telling which unit it was.
_LIKELY_HZ: Final = (2.0, 500.0)
#: Share of the least rate that the recognizer still takes: clocks are not exact.
RATE_TOLERANCE: Final = 0.9
#: Share by which a declared rate may be off.
_DECLARED_TOLERANCE: Final = 0.1
#: Messages without which their spacing says nothing.
_LEAST_MESSAGES: Final = 6
#: Shares of readings with a time that another has, and of time that is missing, which are too much.
_SHARED: Final = 0.2
_MISSING: Final = 0.15
_MOST_PAUSES: Final = 3
#: Readings that come in bursts: steps this much shorter than the average.
_BURST: Final = 3.0


@dataclass(frozen=True, slots=True)
class Feed:
    """One sensor's times.

    Attributes:
        rate_hz: readings per second, by the median step.
        mean_hz: readings per second altogether, pauses left out.
        missing: share of the time that lies in holes short enough to be bridged.
        hole_ns: the longest hole short enough to be bridged, 0 for none.
        pauses: steps too long to be bridged.
        pause_ns: the longest of these.
        shared: share of readings that have another one's time, but other values.
        unit: ns of the unit in which the times seem to be; 1 for ns.
    """

    rate_hz: float
    mean_hz: float
    missing: float
    hole_ns: int
    pauses: int
    pause_ns: int
    shared: float
    unit: int


def feed_of(track: Track, *, least_hz: float, max_gap_ns: int) -> Feed | None:
    """What a sensor's times are like; None for too few.

    Args:
        track: the sensor's readings.
        least_hz: slowest feed that the model takes: what comes that often leaves no hole.
        max_gap_ns: longest hole that is bridged.
    """
    t_ns = np.sort(track.t_ns)
    steps = t_ns[1:] - t_ns[:-1]
    steps = steps[steps > 0]
    if len(track) < LEAST or not len(steps):
        return None
    typical = float(np.median(steps))
    unit = _unit_of(1e9 / typical, len(steps) * 1e9 / float(np.minimum(steps, PAUSE_NS).sum()))
    steps = np.minimum(steps, LONGEST_NS // unit) * unit
    typical *= unit
    whole_ns = float(np.minimum(steps, PAUSE_NS).sum())
    is_hole = (steps > HOLE_PERIODS * max(typical, 1e9 / least_hz)) & (steps <= max_gap_ns)
    missing_ns = float((steps[is_hole] - typical).sum())
    return Feed(
        rate_hz=1e9 / typical,
        mean_hz=len(steps) * 1e9 / whole_ns,
        missing=missing_ns / whole_ns,
        hole_ns=int(steps[is_hole].max(initial=0)),
        pauses=int((steps > max_gap_ns).sum()),
        pause_ns=int(steps[steps > max_gap_ns].max(initial=0)),
        shared=_shared(track),
        unit=unit,
    )


def _unit_of(typical_hz: float, mean_hz: float) -> int:
    """Ns of the unit that times seem to be in."""
    if typical_hz <= _FASTEST_HZ or mean_hz <= _FASTEST_HZ:
        return 1
    for unit in _UNITS:
        if _LIKELY_HZ[0] <= mean_hz / unit <= _LIKELY_HZ[1]:
            return unit
    return 1


def _shared(track: Track) -> float:
    """Share of readings that have the time of the one before, and other values: one that came twice has the same."""
    order = np.argsort(track.t_ns, kind="stable")
    t_ns, values = track.t_ns[order], track.values[order]
    return float(((t_ns[1:] == t_ns[:-1]) & (values[1:] != values[:-1]).any(axis=1)).mean())


def judge_times(
    stretch: Stretch, feeds: Mapping[SensorName, Feed | None], *, least_hz: float, max_gap_ns: int, trained: str | None
) -> list[Finding]:
    """What is wrong with when readings come; of the sensor where most is.

    Args:
        stretch: of a watch.
        feeds: what each sensor's times are like.
        least_hz: slowest feed that the model takes.
        max_gap_ns: longest hole that is bridged.
        trained: the rates of its training data, for people; None where nobody knows them.
    """
    expected = f"the model takes {least_hz:g} and more" + (f", its training data had {trained}" if trained else "")
    for name, track in stretch.tracks.items():
        feed = feeds[name]
        if feed is None:
            if len(track) >= LEAST:
                return [_one_time(name, track)]
            continue
        found = _wrong_times(name, feed)
        if found is None:
            found = _wrong_declaration(name, track, feed, stretch.declared_hz)
        if found is None:
            found = _too_slow(name, feed, least_hz, expected)
        if found is None:
            found = _holes(name, feed, max_gap_ns)
        if found is not None:
            return [found]
    return []


def _one_time(name: str, track: Track) -> Finding:
    return Finding(
        kind="timestamps",
        seen=f"all {len(track)} readings of {name} have the same time",
        expected="each reading has its own",
        advice="send the time at which the sensor measured, in ns since 1970",
        figures={"readings": float(len(track))},
    )


def _wrong_times(name: str, feed: Feed) -> Finding | None:
    figures = {"rate_hz": feed.rate_hz, "mean_hz": feed.mean_hz, "shared": feed.shared, "unit_ns": float(feed.unit)}
    if feed.unit > 1:
        return Finding(
            kind="timestamps",
            seen=f"readings of {name} are {1e9 / feed.rate_hz / feed.unit:.0f} ns apart: no sensor is that fast; in "
            f"{_UNITS[feed.unit]} that would be {feed.rate_hz:.3g} a second",
            expected="times are nanoseconds",
            advice=f"multiply the times by {feed.unit}",
            figures=figures,
        )
    if feed.shared > _SHARED:
        return Finding(
            kind="timestamps",
            seen=f"{feed.shared:.0%} of the readings of {name} have the same time as the one before, and other values",
            expected="each reading has its own time, and of several with one time the first counts",
            advice="send times in ns, not rounded, or t0_ns with rate_hz for the whole message",
            figures=figures,
        )
    if feed.rate_hz > _BURST * feed.mean_hz and feed.rate_hz > _LIKELY_HZ[1]:
        return Finding(
            kind="timestamps",
            seen=f"readings of {name} come in bursts {1e6 / feed.rate_hz:.0f} us apart, "
            f"{feed.mean_hz:.3g} a second in all",
            expected="a reading's time is when it was measured",
            advice="take the sensor's own times, not those at which readings were handed over",
            figures=figures,
        )
    return None


def _wrong_declaration(name: str, track: Track, feed: Feed, declared_hz: float | None) -> Finding | None:
    """Whether the rate that a watch declares is another than that of its readings, or of its messages."""
    if declared_hz is None:
        return None
    spaced_hz = _spaced_hz(track)
    measured_hz = feed.rate_hz if spaced_hz is None else spaced_hz
    if abs(measured_hz - declared_hz) <= _DECLARED_TOLERANCE * measured_hz:
        return None
    return Finding(
        kind="feed_rate",
        seen=f"the watch declares {declared_hz:.4g} readings a second, but {measured_hz:.3g} of {name} come",
        expected="a declared rate decides how readings are filtered",
        advice="declare the rate as it is, or none",
        figures={"rate_hz": feed.rate_hz, "measured_hz": measured_hz, "declared_hz": declared_hz},
    )


def _too_slow(name: str, feed: Feed, least_hz: float, expected: str) -> Finding | None:
    if feed.rate_hz >= RATE_TOLERANCE * least_hz:
        return None
    slow = " (or are its times in another unit?)" if feed.rate_hz < 1 else ""
    return Finding(
        kind="feed_rate",
        seen=f"{feed.rate_hz:.3g} readings of {name} come a second{slow}",
        expected=expected,
        advice=f"raise the sender's rate to {least_hz:g} Hz or more, or choose a model for slower feeds",
        figures={"rate_hz": feed.rate_hz, "mean_hz": feed.mean_hz, "least_hz": least_hz},
    )


def _spaced_hz(track: Track) -> float | None:
    """Readings a second by how far the messages' first readings are apart; None where messages are too irregular."""
    begin_ns, sizes = track.t_ns[track.starts], np.diff(track.starts)
    apart_ns = np.diff(begin_ns)
    if len(apart_ns) < _LEAST_MESSAGES or (apart_ns <= 0).any():
        return None
    each_hz = sizes * 1e9 / apart_ns
    low, middle, high = np.quantile(each_hz, (0.2, 0.5, 0.8)).tolist()
    return float(middle) if high - low < _DECLARED_TOLERANCE * middle else None


def _holes(name: str, feed: Feed, max_gap_ns: int) -> Finding | None:
    if feed.missing <= _MISSING and feed.pauses < _MOST_PAUSES:
        return None
    seen = f"{feed.missing:.0%} of the readings of {name} are missing, in holes of up to {feed.hole_ns / 1e9:.2f} s"
    if feed.pauses >= _MOST_PAUSES:
        seen = f"{feed.pauses} pauses in twenty seconds of readings of {name}, of up to {feed.pause_ns / 1e9:.1f} s"
    return Finding(
        kind="holes",
        seen=seen,
        expected=f"holes up to {max_gap_ns / 1e9:g} s are bridged, longer ones end the activity",
        advice="look at the radio link, at what the phone's battery saver stops, and send fewer, longer messages",
        figures={"missing": feed.missing, "pauses": float(feed.pauses), "hole_s": feed.hole_ns / 1e9},
    )
