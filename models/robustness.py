"""How much a bundle loses where recordings reach it otherwise: turned, slower, with losses, by a wrong clock.

One artefact, nothing retrained: the same windows are scored by the same model, and only what comes before the
streaming code differs. Needs no torch.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from models.data import Sitting, labelled_windows
from models.evaluation import score
from models.subjects import Subjects, sittings_to_meet
from models.variations import VARIATIONS, Variation
from streamer.bundle import ModelBundle
from streamer.classifier import Classifier
from streamer.errors import ConfigError

#: Share of the declared least feed rate that the recognizer still takes.
_RATE_TOLERANCE: Final = 0.9


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """One draw of a variation: windows that came of it, and how many of them were told rightly."""

    windows: int
    accuracy: float
    macro_f1: float


class VariedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle's figures under one variation.

    Attributes:
        name, what: the variation.
        not_supported: why the bundle is not served such a feed, None where it is.
        draws: one or several.
        windows_share: windows that come of it, as a share of the plain recordings'; mean over draws.
        accuracy, macro_f1: mean over draws.
        accuracy_lost, macro_f1_lost: against the plain recordings, percentage points; negative for a gain.
        worst_lost: the larger of both, of the worst draw.
        wanted_points: what may be lost, None where nothing was asked.
    """

    name: str
    what: str
    not_supported: str | None = None
    draws: tuple[Draw, ...] = ()
    windows_share: float | None = None
    accuracy: float | None = None
    macro_f1: float | None = None
    accuracy_lost: float | None = None
    macro_f1_lost: float | None = None
    worst_lost: float | None = None
    wanted_points: float | None = None


class Robustness(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle's figures over varied recordings.

    Attributes:
        bundle, digest, dataset, protocol: what was scored, on what, in words.
        seen_in_training: whether the model learned from these very recordings.
        seed: of all draws.
        plain: the recordings as they are.
        varied: in the order of `VARIATIONS`.
    """

    bundle: str
    digest: str
    dataset: str
    protocol: str
    seen_in_training: bool
    seed: int
    plain: Draw
    varied: tuple[VariedFigures, ...]

    def json(self) -> bytes:
        """One JSON document."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    def rows(self) -> list[tuple[str, ...]]:
        """The table's cells: what, windows, accuracy, macro-F1, points lost of each, worst draw, wanted."""
        plain = self.plain
        rows: list[tuple[str, ...]] = [
            ("as recorded", "100 %", f"{plain.accuracy:.4f}", f"{plain.macro_f1:.4f}", "", "", "", "")
        ]
        for one in self.varied:
            if one.not_supported is not None:
                rows.append((one.what, f"not supported: {one.not_supported}", "", "", "", "", "", ""))
                continue
            wanted = "" if one.wanted_points is None else f"{one.wanted_points:g}"
            rows.append(
                (
                    one.what,
                    f"{one.windows_share:.0%}".replace("%", " %"),
                    f"{one.accuracy:.4f}",
                    f"{one.macro_f1:.4f}",
                    f"{one.accuracy_lost:+.2f}",
                    f"{one.macro_f1_lost:+.2f}",
                    f"{one.worst_lost:+.2f}",
                    wanted,
                )
            )
        return rows

    def text(self) -> str:
        """A table for people."""
        lines = [f"{self.bundle} ({self.digest}) on {self.dataset}: {self.protocol}, seed {self.seed}"]
        if self.seen_in_training:
            lines.append("These recordings were seen in training: the figures flatter the model.")
        lines.append(
            f"{'':46s}{'windows':>8s}{'acc.':>8s}{'F1':>8s}{'acc. lost':>10s}{'F1 lost':>9s}{'worst':>8s}{'wanted':>8s}"
        )
        for what, share, *figures in self.rows():
            cells = "".join(f"{cell:>{width}s}" for cell, width in zip(figures, (8, 8, 10, 9, 8, 8), strict=True))
            lines.append(f"{what:46s}{share:>8s}{cells}".rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """A section of a model card."""
        head = (
            "recordings",
            "windows",
            "accuracy",
            "macro-F1",
            "accuracy lost",
            "macro-F1 lost",
            "worst draw",
            "wanted",
        )
        lines = [
            f"### Varied recordings of {self.dataset}: {self.protocol}",
            "",
            f"`har-models evaluate {self.bundle} --dataset {self.dataset} --variations`; points lost against the plain "
            f"recordings, mean over draws, and of the worst draw the larger of both."
            + (" These recordings were seen in training." if self.seen_in_training else ""),
            "",
            f"| {' | '.join(head)} |",
            "|" + "---|" * len(head),
            *(f"| {' | '.join(row)} |" for row in self.rows()),
        ]
        return "\n".join(lines)


def evaluate_variations(
    bundle: ModelBundle,
    dataset: str,
    *,
    subjects: Subjects = "test",
    variations: Sequence[Variation] = VARIATIONS,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Robustness:
    """A bundle's figures over a data set's recordings, plain and varied.

    Args:
        bundle: what to score.
        dataset: its recordings; of a bundle with an official test split there, those of `subjects`.
        subjects: "train" while a model is being made: the test part is for finished ones.
        variations: which.
        seed: of all draws; a variation's draws do not hang on the others.
        say: takes lines of progress.

    Raises:
        ConfigError: the data set is unknown, missing, or has nothing in common with the bundle.
    """
    meeting = sittings_to_meet(bundle, dataset, subjects=subjects)
    return score_variations(
        bundle,
        meeting.sittings,
        dataset=dataset,
        protocol=meeting.protocol,
        seen_in_training=meeting.seen_in_training,
        variations=variations,
        seed=seed,
        say=say,
    )


def score_variations(
    bundle: ModelBundle,
    sittings: Sequence[Sitting],
    *,
    dataset: str,
    protocol: str,
    seen_in_training: bool,
    variations: Sequence[Variation] = VARIATIONS,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Robustness:
    """As `evaluate_variations`, for given recordings.

    Raises:
        ConfigError: none of them has an activity of the bundle's for as long as a window.
    """
    classifier = Classifier(bundle)
    plain = _draw(bundle, classifier, sittings)
    if plain is None:
        raise ConfigError(
            f"data set {dataset} has no windows for bundle {bundle.manifest.name}; expected its activities"
        )
    say(f"as recorded: accuracy {plain.accuracy:.4f}")
    varied = []
    for variation in variations:
        found = _varied(bundle, classifier, sittings, variation, plain=plain, seed=seed)
        say(f"{variation.what}: {found.not_supported or f'{found.macro_f1_lost:+.2f} points of macro-F1 lost'}")
        varied.append(found)
    return Robustness(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        dataset=dataset,
        protocol=protocol,
        seen_in_training=seen_in_training,
        seed=seed,
        plain=plain,
        varied=tuple(varied),
    )


def _varied(
    bundle: ModelBundle,
    classifier: Classifier,
    sittings: Sequence[Sitting],
    variation: Variation,
    *,
    plain: Draw,
    seed: int,
) -> VariedFigures:
    refused = _not_supported(bundle, variation)
    draws = []
    for number in range(0 if refused else variation.draws):
        found = _draw(bundle, classifier, varied_sittings(sittings, variation, seed=seed, draw=number))
        if found is not None:
            draws.append(found)
    if not draws:
        return VariedFigures(
            name=variation.name,
            what=variation.what,
            not_supported=refused or "no window comes of it",
            wanted_points=variation.wanted_points,
        )
    accuracy, f1 = (float(np.mean([getattr(draw, figure) for draw in draws])) for figure in ("accuracy", "macro_f1"))
    return VariedFigures(
        name=variation.name,
        what=variation.what,
        draws=tuple(draws),
        windows_share=float(np.mean([draw.windows for draw in draws]) / plain.windows),
        accuracy=accuracy,
        macro_f1=f1,
        accuracy_lost=100 * (plain.accuracy - accuracy),
        macro_f1_lost=100 * (plain.macro_f1 - f1),
        worst_lost=100 * max(max(plain.accuracy - d.accuracy, plain.macro_f1 - d.macro_f1) for d in draws),
        wanted_points=variation.wanted_points,
    )


def varied_sittings(
    sittings: Iterable[Sitting], variation: Variation, *, seed: int, draw: int = 0
) -> Iterable[Sitting]:
    """The recordings as one draw of a variation has them; alike for the same seed, whatever else is drawn."""
    # Names, not places in a list: a variation that is added changes no other.
    key = zlib.crc32(variation.name.encode())
    for number, sitting in enumerate(sittings):
        rng = np.random.default_rng([seed, draw, number, key])
        varied = variation.vary(sitting.recording, rng)
        if varied.streams:
            yield Sitting(sitting.group, varied)


def _draw(bundle: ModelBundle, classifier: Classifier, sittings: Iterable[Sitting]) -> Draw | None:
    truth = labelled_windows(sittings, bundle.spec, bundle.labels)
    if not len(truth):
        return None
    figures = score(classifier.predict(truth.samples), truth, bundle.labels)
    return Draw(windows=figures.n, accuracy=figures.accuracy, macro_f1=figures.macro_f1)


def _not_supported(bundle: ModelBundle, variation: Variation) -> str | None:
    """Why such a feed is told as `unknown`, None where it is not."""
    least_hz = bundle.manifest.min_feed_rate_hz
    if variation.rate_hz is not None and variation.rate_hz < _RATE_TOLERANCE * least_hz:
        return f"needs {least_hz:g} Hz"
    needed = set(bundle.spec.sensors) - set(bundle.spec.optional_sensors)
    if variation.lacks in needed:
        return f"needs {variation.lacks}"
    return None
