"""Pictures of recordings that were streamed: truth against events over time, and how late changes were told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from models.reports.palette import INK, NOTHING, SECOND, WRONG, colour_of
from models.scoring.segments import IGNORED
from models.scoring.streaming import Streamed, StreamingAssessment, Told, told_over_time
from streamer.activities import UNKNOWN

#: Minutes in one line of the timeline, at most.
_LINE_MIN: Final = 8.0
#: Bars, from the top: their name and height.
_ROWS: Final = (("done", 1.0), ("bouts, by onset", 1.0), ("state, as published", 1.0), ("wrong", 0.35))
#: Between them.
_APART: Final = 0.18
#: Bottom of the first one.
_TOP: Final = sum(height + _APART for _, height in _ROWS[1:])


def ordinary(recordings: Sequence[Streamed]) -> Streamed:
    """Of recordings with labels the one whose live accuracy is the median: neither the best nor the worst."""
    labelled = [one for one in recordings if (one.truth != IGNORED).any()]
    return sorted(labelled, key=_live_accuracy)[(len(labelled) - 1) // 2]


def timeline(streamed: Streamed, labels: Sequence[str]) -> Figure:
    """What was done, what was told by onset and by decision, and where the published state was wrong."""
    recording = streamed.recording
    begin_ns, end_ns = recording.start_ns, recording.end_ns
    length_min = (end_ns - begin_ns) / 60e9
    lines = max(1, int(np.ceil(length_min / _LINE_MIN)))
    each_min = length_min / lines
    bouts, published = (
        [
            replace(one, until_ns=min(one.until_ns, end_ns))
            for one in told_over_time(streamed.events, hindsight=by_onset)
        ]
        for by_onset in (True, False)
    )
    done = [Told(span.activity, span.start_ns, span.end_ns) for span in recording.spans if span.activity in labels]
    wrong = list(_wrong(done, published, labels))
    figure = Figure(figsize=(13, 1.1 + 1.75 * lines), layout="constrained")
    grid = figure.subplots(lines, 1, squeeze=False)[:, 0]
    for number, axes in enumerate(grid):
        _line(axes, (done, bouts, published, wrong), begin_ns, each_min)
        axes.add_patch(_neither((0, _TOP), length_min, _ROWS[0][1]))
        axes.set_xlim(number * each_min, (number + 1) * each_min)
    grid[-1].set_xlabel("minutes of the recording; ▼ a bout was decided")
    seen = {one.activity for some in (done, bouts, published) for one in some}
    shown = [label for label in labels if label in seen]
    groups = sorted({one.activity for some in (bouts, published) for one in some} - {*labels, UNKNOWN})
    handles = [Patch(color=colour_of(activity), label=activity) for activity in (*shown, *groups, UNKNOWN)]
    handles += [
        _neither((0, 0), 1, 1),
        Patch(color=WRONG, label="another activity was published"),
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=-(-len(handles) // -(-len(handles) // 9)), fontsize=8
    )
    return figure


def onset_delays(recordings: Sequence[Streamed], figures: StreamingAssessment) -> Figure:
    """Histogram of the times to detection, by activity."""
    onsets = [onset for one in recordings for onset in one.onsets]
    found: dict[str, list[float]] = {activity: [] for activity in sorted({onset.activity for onset in onsets})}
    for onset in onsets:
        if onset.delay_s is not None:
            found[onset.activity].append(onset.delay_s)
    every = [delay for delays in found.values() for delay in delays]
    figure = Figure(figsize=(9.4, 4.2), layout="constrained")
    axes = figure.subplots()
    last_s = max([4.0, *every])
    step_s = 0.25 if last_s <= 12 else last_s / 48
    axes.hist(
        list(found.values()),
        bins=np.arange(0.0, last_s + 2 * step_s, step_s).tolist(),
        stacked=True,
        color=[colour_of(activity) for activity in found],
        label=list(found),
    )
    for name, at_s, colour in (
        ("median", figures.detection_median_s, INK),
        ("95th percentile", figures.detection_p95_s, SECOND),
    ):
        if at_s is not None:
            axes.axvline(at_s, color=colour, linewidth=1.4, label=f"{name} {at_s:.2f} s")
    axes.set(
        xlabel="s from the true onset to the decision for it; 0: decided in the time before it that counts neither way",
        ylabel="changes of activity",
        xlim=(0, last_s + step_s),
        title=f"{len(onsets)} changes, never detected {figures.never_detected:.1%}, decided early {figures.early:.1%}",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _live_accuracy(one: Streamed) -> float:
    counted = one.truth != IGNORED
    return float((one.truth == one.live)[counted].mean())


def _neither(place: tuple[float, float], width: float, height: float) -> Rectangle:
    return Rectangle(
        place,
        width,
        height,
        facecolor="white",
        edgecolor=NOTHING,
        hatch="////",
        lw=0,
        zorder=0,
        label="counts neither way",
    )


def _line(axes: Axes, rows: Sequence[Sequence[Told]], begin_ns: int, each_min: float) -> None:
    bottom, places = _TOP + _ROWS[0][1], []
    for (name, height), told in zip(_ROWS, rows, strict=True):
        bottom -= height
        places.append(bottom + height / 2)
        for one in told:
            since, until = ((t_ns - begin_ns) / 60e9 for t_ns in (one.since_ns, one.until_ns))
            colour = WRONG if name == "wrong" else colour_of(one.activity)
            axes.barh(
                bottom, until - since, height, since, align="edge", color=colour, edgecolor="white", linewidth=0.5
            )
            # What is wide enough is named where it stands.
            if name != "wrong" and until - since > each_min / 20:
                axes.text(
                    (since + until) / 2,
                    bottom + height / 2,
                    one.activity.replace("walking_", "").replace("_", " "),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white",
                    clip_on=True,
                )
            if name.startswith("state"):
                axes.plot(since, bottom + height, marker="v", markersize=4, color=INK, clip_on=True)
        bottom -= _APART
    axes.set_yticks(places, [name for name, _ in _ROWS], fontsize=8)
    axes.set_ylim(-0.05, _TOP + _ROWS[0][1] + 0.15)
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _wrong(done: Iterable[Told], published: Sequence[Told], labels: Sequence[str]) -> Iterable[Told]:
    """Where another activity was published than was done; unknown and groups are not wrong, only little."""
    for one in done:
        for told in published:
            since_ns, until_ns = max(one.since_ns, told.since_ns), min(one.until_ns, told.until_ns)
            if since_ns < until_ns and told.activity in labels and told.activity != one.activity:
                yield Told(told.activity, since_ns, until_ns)
