"""How often a bundle names an activity where there is none: watches that nobody wears, sensors that are broken.

The real recognizer is run over generated streams. What counts is time inside a told bout of one of the bundle's own
activities; a group such as `still` is no such claim, and neither is `unknown`. Needs no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from models.scoring.subjects import Subjects, sittings_to_meet
from models.windows.data import Sitting
from models.windows.unworn import EVALUATION_SEED, HELD_OUT_KINDS, TRAINING_KINDS, Kind, streams_of
from models.windows.variations import without_gyro
from streamer.bundle import ModelBundle
from streamer.classifier import Classifier
from streamer.offline import classify_recording
from streamer.recognizer import Recognizer
from streamer.recording import Recording
from streamer.wire.events import ActivityEvent

#: Generated streams of each kind, and their length.
STREAMS: Final = 20
SECONDS: Final = 180.0
#: The control: real recordings as they are.
WORN: Final = "worn"


class FalseActivity(msgspec.Struct, frozen=True, kw_only=True):
    """What was told of the streams of one kind.

    Attributes:
        kind: of `models.windows.unworn`, or "worn" for real recordings as they are.
        held_out: whether models are never taught this kind.
        streams: how many.
        hours: their length together.
        activity_share: share of the time inside a bout of one of the bundle's activities.
        share_without_gyro: the same where the streams have no angular rates; None where a feed cannot lack them.
        streams_with_activity: streams in which there was any such bout.
        per_hour: such bouts told per hour.
        told: share of all time by activity told, largest first; groups and unknown included.
    """

    kind: str
    held_out: bool
    streams: int
    hours: float
    activity_share: float
    share_without_gyro: float | None = None
    streams_with_activity: int
    per_hour: float
    told: dict[str, float]


class Unworn(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle's figures over streams that nobody wears.

    Attributes:
        bundle, digest: what was scored.
        dataset, protocol: whose recordings those with a dead axis were made of.
        seed: of all draws.
        kinds: in order; the last one is the control.
    """

    bundle: str
    digest: str
    dataset: str
    protocol: str
    seed: int
    kinds: tuple[FalseActivity, ...]

    @property
    def may_lack_gyro(self) -> bool:
        """Whether shares without angular rates stand beside the others."""
        return any(one.share_without_gyro is not None for one in self.kinds)

    def json(self) -> bytes:
        """One JSON document."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    def rows(self) -> list[tuple[str, ...]]:
        """The table's cells: kind, taught, hours, share of time in an activity, streams, bouts per hour, told most.

        Behind the share stands that without the gyroscope, where a feed may lack it.
        """
        return [
            (
                one.kind + (" (as recorded)" if one.kind == WORN else ""),
                "" if one.kind == WORN else "never" if one.held_out else "may be",
                f"{one.hours:.1f}",
                f"{100 * one.activity_share:.1f} %",
                *(() if one.share_without_gyro is None else (f"{100 * one.share_without_gyro:.1f} %",)),
                f"{one.streams_with_activity} of {one.streams}",
                f"{one.per_hour:.1f}",
                ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(one.told.items())[:3]),
            )
            for one in self.kinds
        ]

    def text(self) -> str:
        """A table for people."""
        lacking = ("no gyro",) * self.may_lack_gyro
        head = ("", "taught", "hours", "activity", *lacking, "streams", "per hour", "told most")
        widths = (22, 8, 7, 10, *(10,) * self.may_lack_gyro, 11, 10, 0)
        lines = [
            f"{self.bundle} ({self.digest}), watches that nobody wears; dead axes of {self.dataset}: {self.protocol}"
        ]
        lines += [
            "".join(f"{cell:<{width}s}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (head, *self.rows())
        ]
        return "\n".join(lines)

    def markdown(self) -> str:
        """A section of a model card."""
        head = (
            "stream",
            "taught",
            "hours",
            "time told as an activity",
            *("the same without gyroscope",) * self.may_lack_gyro,
            "streams with one",
            "bouts per hour",
            "told most",
        )
        return "\n".join(
            (
                "### Watches that nobody wears",
                "",
                (
                    f"`har-models evaluate {self.bundle} --dataset {self.dataset} --unworn`; generated, and real "
                    f"recordings ({self.protocol}) with an axis stuck, through the recognizer. The last row is the "
                    "control: a model that never tells anything would be right about all others."
                ),
                "",
                f"| {' | '.join(head)} |",
                "|" + "---|" * len(head),
                *(f"| {' | '.join(row)} |" for row in self.rows()),
            )
        )


def evaluate_unworn(
    bundle: ModelBundle,
    dataset: str,
    *,
    subjects: Subjects = "test",
    seed: int = EVALUATION_SEED,
    kinds: Sequence[Kind] = (*TRAINING_KINDS, *HELD_OUT_KINDS),
    streams: int = STREAMS,
    seconds: float = SECONDS,
    say: Callable[[str], None] = lambda _: None,
) -> Unworn:
    """What a bundle tells of streams that nobody wears, and of real recordings with a dead axis.

    Args:
        bundle: what to score.
        dataset: whose recordings get a dead axis; of a bundle with an official test split there, those of `subjects`.
        subjects: "train" while a model is being made.
        seed: `EVALUATION_SEED` or above: models may be taught those below.
        kinds: of streams, beside the control.
        streams: of each kind.
        seconds: length of generated ones.
        say: takes lines of progress.

    Raises:
        ConfigError: the data set is unknown or missing.
    """
    meeting = sittings_to_meet(bundle, dataset, subjects=subjects)
    rate_hz = max(50.0, bundle.manifest.min_feed_rate_hz)
    classifier = Classifier(bundle)
    found = []
    for kind in kinds:
        made = streams_of(kind, meeting.sittings, seed=seed, count=streams, seconds=seconds, rates_hz=(rate_hz,))
        found.append(told_of(bundle, made, kind, classifier=classifier))
        say(f"{kind}: {100 * found[-1].activity_share:.1f} % of the time told as an activity")
    found.append(told_of(bundle, _some(meeting.sittings, streams), WORN, classifier=classifier))
    return Unworn(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        dataset=dataset,
        protocol=meeting.protocol,
        seed=seed,
        kinds=tuple(found),
    )


def told_of(
    bundle: ModelBundle, recordings: Iterable[Recording], kind: Kind | str, *, classifier: Classifier | None = None
) -> FalseActivity:
    """What the recognizer tells of each recording, as shares of their time.

    Raises:
        ValueError: there are no recordings.
    """

    def told(recording: Recording) -> list[tuple[str, int]]:
        events = list(classify_recording(Recognizer(bundle, classifier=classifier), recording))
        return list(_held(events, recording.end_ns))

    def activities(bouts: Iterable[tuple[str, int]]) -> list[int]:
        return [length_ns for activity, length_ns in bouts if activity in bundle.labels]

    held: Counter[str] = Counter()
    total_ns = bouts = count = streams_with = lacking_ns = 0
    may_lack = "gyro" in bundle.spec.optional_sensors
    for recording in recordings:
        count += 1
        total_ns += recording.end_ns - recording.start_ns
        found = told(recording)
        for activity, length_ns in found:
            held[activity] += length_ns
        claimed = activities(found)
        bouts += len(claimed)
        streams_with += bool(claimed)
        if may_lack:
            lacking_ns += sum(activities(told(without_gyro(recording))))
    if not total_ns:
        raise ValueError(f"no recordings of kind {kind}; expected some")
    return FalseActivity(
        kind=kind,
        held_out=kind in HELD_OUT_KINDS,
        streams=count,
        hours=total_ns / 3.6e12,
        activity_share=sum(held[label] for label in bundle.labels) / total_ns,
        share_without_gyro=lacking_ns / total_ns if may_lack else None,
        streams_with_activity=streams_with,
        per_hour=bouts / (total_ns / 3.6e12),
        told={activity: length_ns / total_ns for activity, length_ns in held.most_common()},
    )


def _held(events: Sequence[ActivityEvent], end_ns: int) -> Iterator[tuple[str, int]]:
    """Each told bout and for how long it was the current one, from its decision to the next or to its end."""
    current: tuple[str, int] | None = None
    for event in events:
        if event.type == "start":
            if current is not None:
                yield current[0], max(event.decided_ns - current[1], 0)
            current = event.activity, event.decided_ns
        elif event.type == "end" and event.reason != "changed" and current is not None:
            yield current[0], max(min(event.window_end_ns, end_ns) - current[1], 0)
            current = None
    if current is not None:
        yield current[0], max(end_ns - current[1], 0)


def _some(sittings: Sequence[Sitting], count: int) -> list[Recording]:
    """At most `count` recordings, spread over all."""
    count = min(count, len(sittings))
    return [sittings[number * len(sittings) // count].recording for number in range(count)]
