"""What `har-stream classify FILE --explain` says of each watch in a file: like the training data, or why not."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.bundle import Manifest
from streamer.likeness.finding import Finding, Kind
from streamer.likeness.judge import Judgement, Verdict, judge
from streamer.likeness.orientation import strangeness
from streamer.likeness.profile import CELLS, Profile, Spread
from streamer.likeness.stretch import stretches_of
from streamer.recording import Recording

#: Readings of a message, where a file holds none.
_MESSAGE: Final = 16


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One finding, and in how many of the stretches it was.

    Attributes:
        kind, seen, expected, advice, figures: see `Finding`.
        stretches: that show it.
    """

    kind: Kind
    seen: str
    expected: str
    advice: str
    figures: dict[str, float]
    stretches: int


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What one watch's recording is like; a line of `--output json`.

    Attributes:
        schema: version of this document.
        type: tells it from events.
        device: the watch.
        model: whose training data is meant.
        like_training: nothing was found.
        profile: whether the bundle says what its training data was like.
        seconds: that were looked at.
        stretches: of about twenty seconds each.
        findings: the weightiest first.
        figures: of each quantity the median over the stretches, under names with their units.
        training: of the same quantities what 98 of 100 stretches of the training data had, from and to.
    """

    schema: int = 1
    type: str = "explanation"
    device: str
    model: str
    like_training: bool
    profile: bool
    seconds: float
    stretches: int
    findings: list[Found]
    figures: dict[str, float]
    training: dict[str, tuple[float, float]]


def explain(recording: Recording, manifest: Manifest) -> Explanation:
    """What a recording is like, beside a model's training data."""
    messages = recording.arrivals or recording.messages(_MESSAGE)
    judgements = [judge(stretch, manifest) for stretch in stretches_of(messages)]
    verdict, said = Verdict(), Counter[Kind]()
    told: dict[Kind, Finding] = {}
    directions = np.zeros((2, CELLS), np.int64)
    for judgement in judgements:
        told |= {finding.kind: finding for finding in verdict.take(judgement, manifest.profile)}
        if len(judgements) == 1:
            # Nothing else will ever be known of it.
            told |= {finding.kind: finding for finding in verdict.latest}
        said.update(finding.kind for finding in verdict.latest)
        directions += judgement.directions
    told = {kind: finding for kind, finding in told.items() if kind not in verdict.seeming}
    figures = _medians(judgements) | _familiar(directions, manifest.profile)
    return Explanation(
        device=recording.device_id,
        model=manifest.name,
        like_training=not told,
        profile=manifest.profile is not None,
        seconds=round(sum(judgement.length_ns for judgement in judgements) / 1e9, 1),
        stretches=len(judgements),
        findings=[Found(**msgspec.structs.asdict(finding), stretches=said[kind]) for kind, finding in told.items()],
        figures=figures,
        training=_training(manifest),
    )


def _medians(judgements: list[Judgement]) -> dict[str, float]:
    names = dict.fromkeys(name for judgement in judgements for name in judgement.figures)
    return {name: float(np.median([j.figures[name] for j in judgements if name in j.figures])) for name in names}


def _familiar(directions: NDArray[np.int64], profile: Profile | None) -> dict[str, float]:
    """Shares of the time in which gravity pointed as in training."""
    if profile is None:
        return {}
    still, moving = strangeness(directions, profile)
    found = {"familiar_at_rest": still, "familiar_in_motion": moving}
    return {name: 1 - strange for name, strange in found.items() if strange is not None}


def _training(manifest: Manifest) -> dict[str, tuple[float, float]]:
    profile = manifest.profile
    if profile is None:
        return {}
    spreads: dict[str, Spread | None] = {
        "rate_hz": profile.rate_hz,
        "gravity_ms2": profile.gravity,
        "motion_ms2": profile.motion,
        "turning_rad_s": profile.turning,
    }
    return {name: (spread.low, spread.high) for name, spread in spreads.items() if spread is not None}


#: What the figures are called for people, with their formats.
_LINES: Final = {
    "rate_hz": ("readings a second", "{:.3g}"),
    "missing": ("of the time missing", "{:.1%}"),
    "gravity_ms2": ("m/s² of gravity", "{:.2f}"),
    "motion_ms2": ("m/s² of motion (rms)", "{:.2f}"),
    "turning_rad_s": ("rad/s of turning (rms)", "{:.2f}"),
    "familiar_at_rest": ("of the time at rest gravity points as in training", "{:.0%}"),
    "familiar_in_motion": ("of the time in motion gravity points as in training", "{:.0%}"),
}


def describe(explanation: Explanation) -> str:
    """An explanation for people."""
    name, model = explanation.device, explanation.model
    if not explanation.stretches:
        return f"{name}: too few readings to say whether they are like the training data of {model}"
    looked = f"{explanation.seconds:.0f} s in {_many(explanation.stretches, 'stretch', 'stretches')}"
    if explanation.like_training and explanation.profile:
        lines = [f"{name}: looks like the training data of {model} ({looked})"]
    elif explanation.like_training:
        lines = [f"{name}: nothing wrong found ({looked}); {model} does not say what its training data was like"]
    else:
        lines = [f"{name}: unlike the training data of {model} ({looked})"]
    for found in explanation.findings:
        share = f"in {found.stretches} of {explanation.stretches}"
        lines += [f"  {found.kind} ({share}): {found.seen}; {found.expected}", f"    next: {found.advice}"]
    for figure, (what, form) in _LINES.items():
        if figure in explanation.figures:
            trained = explanation.training.get(figure)
            beside = "" if trained is None else f"  training {form.format(trained[0])} to {form.format(trained[1])}"
            lines.append(f"  {form.format(explanation.figures[figure]):>8} {what}{beside}")
    return "\n".join(lines)


def print_explanations(explanations: Iterable[Explanation], *, as_json: bool) -> None:
    """Print them, a line of JSON or a paragraph each."""
    for explanation in explanations:
        if as_json:
            sys.stdout.buffer.write(msgspec.json.encode(explanation) + b"\n")
            sys.stdout.buffer.flush()
        else:
            print(f"\n{describe(explanation)}", flush=True)  # noqa: T201 # a command line prints


def _many(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
