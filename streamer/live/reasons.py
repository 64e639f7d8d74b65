"""Why a watch's activity is unknown or not sure, in words, from how it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from streamer.activities import UNKNOWN
from streamer.bouts import NO_WINDOW
from streamer.bundle import Manifest
from streamer.likeness.finding import Finding
from streamer.preprocessing.segments import RATE_READINGS
from streamer.preprocessing.timelines import NEVER
from streamer.standing import Standing
from streamer.tracking import NONE
from streamer.watch_state import WatchNotes

#: Probabilities nearer than this to the first one are in doubt with it.
_NEAR: Final = 0.25
_SURE: Final = 0.8
#: Passages that have more than this together are in progress.
_PASSING: Final = 0.5


class Why(msgspec.Struct, frozen=True, array_like=True):
    """One reason: a word for programs, a sentence for people."""

    code: str
    text: str


def spoken(label: str) -> str:
    """A label as people say it.

    >>> spoken("brushing_teeth")
    'brushing teeth'
    """
    return label.replace("_", " ")


def reasons(
    standing: Standing,
    row: int,
    manifest: Manifest,
    groups: Mapping[str, Sequence[int]],
    *,
    silent_s: float | None,
) -> list[Why]:
    """Why a watch isn't recognised, or not for sure; the weightiest reason first, none where all is well.

    Args:
        standing: of some watches.
        row: the watch's.
        manifest: the model's.
        groups: those that it tells, with the places of their labels.
        silent_s: for how long nothing has been heard of it, where it has been given up; else None.
    """
    if silent_s is not None:
        return [Why("silence", f"Nothing has come from it for {_seconds(silent_s)}, so its activity has ended.")]
    found: list[Why] = []
    unfit = int(standing.unfit[row])
    if unfit != WatchNotes.FIT:
        found.append(_unfit(standing, row, manifest, WatchNotes.REASONS[unfit]))
    elif not (standing.smoothed[row].any() or standing.passing[row].any()):
        found += _waiting(standing, row, manifest)
    else:
        found += _doubt(standing, row, manifest, groups)
    completeness = float(standing.completeness[row])
    if standing.latest_ns[row] != NO_WINDOW and completeness < 1 and unfit == WatchNotes.FIT:
        found.append(
            Why("incomplete", f"{1 - completeness:.0%} of the latest window had to be bridged: readings are missing.")
        )
    return found


def unlike(findings: Sequence[Finding]) -> list[Why]:
    """What in a watch's readings is unlike the training data."""
    return [
        Why(finding.kind, f"{finding.seen[:1].upper()}{finding.seen[1:]}: {finding.advice}.") for finding in findings
    ]


def in_doubt(standing: Standing, row: int) -> list[int]:
    """The labels between which a watch stands, most probable first; empty where it isn't in doubt."""
    smoothed = standing.smoothed[row]
    best = np.argsort(-smoothed, kind="stable")
    top = float(smoothed[best[0]])
    if top <= 0 or (standing.activity[row] == best[0] and top >= _SURE):
        return []
    return [int(label) for label in best[:3] if smoothed[label] >= max(top - _NEAR, 0.1)]


def _doubt(standing: Standing, row: int, manifest: Manifest, groups: Mapping[str, Sequence[int]]) -> list[Why]:
    smoothed, smoothing = standing.smoothed[row], manifest.smoothing
    names = (*manifest.labels, *groups, UNKNOWN)
    activity, challenger = int(standing.activity[row]), int(standing.challenger[row])
    found: list[Why] = []
    top = float(smoothed.max())
    passing = standing.passing[row]
    if passing.sum() > _PASSING:
        likeliest = int(passing.argmax())
        found.append(
            Why(
                "passing",
                f"Between two activities: {spoken(manifest.passages[likeliest])} ({passing[likeliest]:.0%}). "
                "What was told before holds until that is through.",
            )
        )
    if activity == len(names) - 1:
        if top < smoothing.enter:
            found.append(
                Why(
                    "uncertain",
                    f"No activity is probable enough: the first has {top:.0%}, {smoothing.enter:.0%} is needed.",
                )
            )
    elif activity >= len(manifest.labels):
        own = groups[names[activity]]
        found.append(
            Why(
                "group",
                f"No one activity is sure enough: the first has {top:.0%}. The {len(own)} of the group "
                f"{spoken(names[activity])} have {float(standing.confidence[row]):.0%} together.",
            )
        )
    near = in_doubt(standing, row)
    if len(near) > 1:
        named = [f"{spoken(manifest.labels[label])} ({smoothed[label]:.0%})" for label in near]
        found.append(Why("between", f"Between {', '.join(named[:-1])} and {named[-1]}."))
    if challenger not in {NONE, activity}:
        found.append(
            Why(
                "changing",
                f"About to change: {spoken(names[challenger])} has led for {_windows(int(standing.lead[row]))} of "
                f"{smoothing.dwell}.",
            )
        )
    return found


def _waiting(standing: Standing, row: int, manifest: Manifest) -> list[Why]:
    """No window yet, behind a start or a gap."""
    spec = manifest.preprocessing
    found: list[Why] = []
    gap_ns = int(standing.restart_gap_ns[row])
    if gap_ns:
        found.append(
            Why(
                "gap",
                f"A hole of {_seconds(gap_ns / 1e9)} in its readings ended the activity: more than the "
                f"{_seconds(spec.max_gap_ns / 1e9)} that can be bridged.",
            )
        )
    gathered = int(standing.gathered[row])
    newest_by_sensor = zip(spec.sensors, standing.newest_ns[row].tolist(), strict=True)
    lacking = {name for name, newest_ns in newest_by_sensor if newest_ns == NEVER}
    if gathered:
        found.append(
            Why(
                "gathering",
                f"Gathering the first window: {gathered / spec.rate_hz:.1f} of {spec.window_ns / 1e9:.1f} s.",
            )
        )
    elif lacking.isdisjoint(spec.required_sensors):
        found.append(Why("starting", f"Its rate is not known yet: that takes {RATE_READINGS} readings without a hole."))
    else:
        found.append(_missing(standing, row, manifest))
    return found


def _unfit(standing: Standing, row: int, manifest: Manifest, reason: str) -> Why:
    if reason == "feed_rate":
        slowest = standing.slowest_hz(row)
        had = f"It sends {slowest:.3g} readings a second; " if slowest else "It sends too few readings a second; "
        return Why("feed_rate", f"{had}the model needs {manifest.min_feed_rate_hz:g}.")
    return _missing(standing, row, manifest)


def _missing(standing: Standing, row: int, manifest: Manifest) -> Why:
    names = {"acc": "accelerometer", "gyro": "gyroscope"}
    sensors = manifest.preprocessing.required_sensors
    newest_ns = standing.newest_ns[row]
    behind = newest_ns.max() - newest_ns > 1_000_000_000
    lacking = [names[s] for s, is_behind in zip(sensors, behind, strict=False) if is_behind] or [
        names[s] for s in sensors
    ]
    return Why("sensor_missing", f"No readings of the {' and '.join(lacking)}; the model needs them.")


def _seconds(seconds: float) -> str:
    """A duration for people.

    >>> _seconds(3.21), _seconds(75), _seconds(7260)
    ('3.2 seconds', '75 seconds', '2.0 hours')
    """
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds:.1f} seconds" if seconds < 10 else f"{seconds:.0f} seconds"


def _windows(number: int) -> str:
    return "1 window" if number == 1 else f"{number} windows"
