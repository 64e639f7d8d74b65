"""One stretch of readings against what a model expects and what its training data was like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.bundle import Manifest
from streamer.likeness.feed import LONGEST_NS, Feed, feed_of, judge_times
from streamer.likeness.finding import Finding, Kind
from streamer.likeness.orientation import directions_of, gravity_says, judge_orientation
from streamer.likeness.profile import Profile
from streamer.likeness.scale import Seconds, calm_gravity, judge_scale, seconds_of
from streamer.likeness.sensor import judge_sensor
from streamer.likeness.stretch import Stretch, Track
from streamer.likeness.turning import judge_turning
from streamer.preprocessing.timelines import SENSOR_SKEW_NS

Int64 = NDArray[np.int64]

#: What only seems to be so, where another thing is.
_SEEMING: Final[dict[Kind, tuple[Kind, ...]]] = {"acceleration_in_g": ("gravity_missing",)}
_NAMES: Final = {"acc": "accelerometer", "gyro": "gyroscope"}


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What one stretch shows.

    Attributes:
        findings: what is unlike training, orientation excepted: that takes more time, see `Verdict`.
        figures: what the readings are like, under names with their units; what can't be told is left out.
        directions: (2, CELLS) int64, seconds by gravity's direction, at rest and in motion.
        length_ns: time that was looked at, by the readings' own times.
    """

    findings: tuple[Finding, ...]
    figures: dict[str, float]
    directions: Int64
    length_ns: int


def judge(stretch: Stretch, manifest: Manifest) -> Judgement:
    """What a stretch shows."""
    spec, profile = manifest.preprocessing, manifest.profile
    rates = None if profile is None else f"{profile.rate_hz.low:.3g} to {profile.rate_hz.high:.3g}"
    least_hz, max_gap_ns = manifest.min_feed_rate_hz, spec.max_gap_ns
    found = _missing(stretch, manifest)
    if not spec.uses_gyro:
        # What the model does not take may be as it likes.
        stretch = replace(stretch, gyro=None)
    tracks = stretch.tracks.items()
    feeds = {name: feed_of(track, least_hz=least_hz, max_gap_ns=max_gap_ns) for name, track in tracks}
    found += judge_times(stretch, feeds, least_hz=least_hz, max_gap_ns=max_gap_ns, trained=rates)
    stretch = _in_ns(stretch, {name: 1 if feed is None else feed.unit for name, feed in feeds.items()})
    for name, track in stretch.tracks.items():
        found += judge_sensor(name, track.in_order()[1], _extreme(profile, name))
    seconds = Seconds(np.empty((0, 3)), np.empty(0))
    # Of a sensor that does not measure nothing else is told; at rest that shows in no finding.
    is_whole = not any((np.ptp(track.values, axis=0) == 0).any() for track in stretch.tracks.values())
    if stretch.acc is not None and is_whole:
        seconds = seconds_of(*stretch.acc.in_order())
        found += judge_scale(seconds, gravity_says(profile))
    if spec.uses_gyro and is_whole:
        agreed = None if profile is None or profile.agreement is None else profile.agreement.median
        found += judge_turning(stretch, trained=agreed)
    figures = figures_of(stretch, feeds.get("acc") or feeds.get("gyro"), seconds)
    return Judgement(tuple(found), figures, directions_of(seconds), stretch.length_ns)


def _missing(stretch: Stretch, manifest: Manifest) -> list[Finding]:
    needed = manifest.preprocessing.required_sensors
    lacking = [name for name in needed if name not in stretch.tracks]
    if not lacking or not stretch.tracks or stretch.length_ns < SENSOR_SKEW_NS:
        return []
    named = " and ".join(_NAMES[name] for name in lacking)
    return [
        Finding(
            kind="sensor_missing",
            seen=f"no readings of the {named} come",
            expected=f"{manifest.name} needs the {' and the '.join(_NAMES[name] for name in needed)}",
            advice="turn it on in the app, or choose a model that does without",
            figures=dict.fromkeys(lacking, 0.0),
        )
    ]


def _in_ns(stretch: Stretch, units: dict[str, int]) -> Stretch:
    """The stretch with times in ns, where they seem to be in another unit."""
    if all(unit == 1 for unit in units.values()):
        return stretch

    origin_ns = min(int(track.t_ns[0]) for track in stretch.tracks.values())

    def mended(track: Track | None, unit: int) -> Track | None:
        if track is None:
            return None
        return replace(track, t_ns=np.clip(track.t_ns - origin_ns, 0, LONGEST_NS // unit) * unit)

    return replace(
        stretch, acc=mended(stretch.acc, units.get("acc", 1)), gyro=mended(stretch.gyro, units.get("gyro", 1))
    )


def _extreme(profile: Profile | None, name: str) -> float | None:
    if profile is None:
        return None
    return profile.acc_extreme if name == "acc" else profile.gyro_extreme


def figures_of(stretch: Stretch, feed: Feed | None, seconds: Seconds) -> dict[str, float]:
    """What readings are like, under names with their units; what can't be told is left out."""
    found: dict[str, float] = {}
    if feed is not None:
        found |= {"rate_hz": feed.rate_hz, "missing": feed.missing}
    if stretch.acc is not None and len(seconds):
        gravity = calm_gravity(seconds)
        found["gravity_ms2"] = float(np.median(seconds.length)) if gravity is None else gravity
        found["motion_ms2"] = float(np.sqrt((seconds.spread**2).mean()))
        found["acc_extreme_ms2"] = float(np.abs(stretch.acc.values).max())
    if stretch.gyro is not None and len(stretch.gyro):
        values = stretch.gyro.values
        found["turning_rad_s"] = float(np.sqrt((values**2).sum(axis=1).mean()))
        found["gyro_extreme_rad_s"] = float(np.abs(values).max())
    return found


#: What nearly every watch has of either.
_NO_KINDS: Final[frozenset[Kind]] = frozenset()
_NO_FINDINGS: Final[Mapping[Kind, Finding]] = MappingProxyType({})

#: Seconds of directions after which they count half.
_MEMORY_S: Final = 3600


class Verdict:
    """What is held of one watch, judgement after judgement.

    A finding holds once two judgements in a row have it, until two in a row don't.

    State: what holds, what has been told, what the latest judgement found, and seconds by gravity's direction. Nearly
    always nothing of it is there, and that is one nothing for all watches.
    """

    __slots__ = ("_directions", "_latest", "_told", "holds", "seeming")

    def __init__(self) -> None:
        self.holds: Mapping[Kind, Finding] = _NO_FINDINGS
        #: What seemed to hold, and was something else.
        self.seeming = _NO_KINDS
        self._told = _NO_KINDS
        self._latest: Mapping[Kind, Finding] = _NO_FINDINGS
        self._directions: Int64 | None = None

    @property
    def latest(self) -> tuple[Finding, ...]:
        """What the latest judgement found, whether it holds or not."""
        return tuple(self._latest.values())

    @property
    def is_in_doubt(self) -> bool:
        """Whether another look would tell more."""
        return self._latest.keys() != self.holds.keys()

    def take(self, judgement: Judgement, profile: Profile | None) -> list[Finding]:
        """Take a judgement; what holds from now on and never did before."""
        found = list(judgement.findings)
        if profile is not None and (profile.still or profile.moving):
            known = judgement.directions if self._directions is None else self._directions + judgement.directions
            found += judge_orientation(known, profile)
            # What was long ago counts less: a watch may be worn otherwise tomorrow.
            self._directions = (known if int(known.sum()) < _MEMORY_S else known // 2).astype(np.uint16)
        before, self._latest = self._latest, {finding.kind: finding for finding in found} or _NO_FINDINGS
        held = {kind: finding for kind, finding in self.holds.items() if kind in before or kind in self._latest}
        holds = held | {kind: finding for kind, finding in self._latest.items() if kind in before or kind in held}
        self.seeming = self.seeming.union(*(_SEEMING.get(real, ()) for real in holds)) or _NO_KINDS
        self.holds = {kind: finding for kind, finding in holds.items() if kind not in self.seeming} or _NO_FINDINGS
        new = [finding for kind, finding in self.holds.items() if kind not in self._told]
        self._told = self._told.union(self.holds) or _NO_KINDS
        return new
