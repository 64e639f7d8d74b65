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

from models.scoring.evaluation import Figures, score
from models.scoring.past import own_pasts, past_figures
from models.scoring.subjects import Subjects, sittings_to_meet
from models.windows.data import Sitting
from models.windows.variations import VARIATIONS, Variation
from streamer.bundle import ModelBundle
from streamer.classifier import Classifier
from streamer.errors import ConfigError

#: Share of the declared least feed rate that the recognizer still takes.
_RATE_TOLERANCE: Final = 0.9


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of windows told rightly."""

    accuracy: float
    macro_f1: float


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """One draw of a variation.

    Attributes:
        windows: that came of it.
        alone: windows by themselves.
        with_past: each with those before it, by the bundle's chain; None for a bundle without one.
    """

    windows: int
    alone: Rates
    with_past: Rates | None = None


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What a variation costs.

    Attributes:
        accuracy, macro_f1: mean over draws.
        accuracy_lost, macro_f1_lost: against the plain recordings, percentage points; negative for a gain.
        worst_lost: the larger of both, of the worst draw.
    """

    accuracy: float
    macro_f1: float
    accuracy_lost: float
    macro_f1_lost: float
    worst_lost: float


class VariedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle's figures under one variation.

    Attributes:
        name, what: the variation.
        not_supported: why the bundle is not served such a feed, None where it is.
        draws: one or several.
        windows_share: windows that come of it, as a share of the plain recordings'; mean over draws.
        alone: of windows by themselves; None where the bundle is not served such a feed.
        with_past: of windows with those before them; None without a chain, too.
        wanted_points: what may be lost, None where nothing was asked.
    """

    name: str
    what: str
    not_supported: str | None = None
    draws: tuple[Draw, ...] = ()
    windows_share: float | None = None
    alone: Loss | None = None
    with_past: Loss | None = None
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
        """The table's cells: what, wanted, windows; accuracy, macro-F1, points lost of each, and of the worst draw.

        The latter five of windows alone and, of a bundle with a chain, of windows with their past.
        """
        pasts = self.plain.with_past is not None
        rows: list[tuple[str, ...]] = [
            ("as recorded", "", "100 %", *_plain(self.plain.alone), *(_plain(self.plain.with_past) if pasts else ()))
        ]
        for one in self.varied:
            if one.alone is None:
                rows.append((one.what, "", f"not supported: {one.not_supported}", *([""] * (len(rows[0]) - 3))))
                continue
            wanted = "" if one.wanted_points is None else f"{one.wanted_points:g}"
            share = f"{one.windows_share:.0%}".replace("%", " %")
            rows.append((one.what, wanted, share, *_lost(one.alone), *(_lost(one.with_past) if pasts else ())))
        return rows

    def text(self) -> str:
        """A table for people."""
        lines = [f"{self.bundle} ({self.digest}) on {self.dataset}: {self.protocol}, seed {self.seed}"]
        if self.seen_in_training:
            lines.append("These recordings were seen in training: the figures flatter the model.")
        pasts = self.plain.with_past is not None
        if pasts:
            lines.append(f"{'':64s}{'windows alone':<40s}{'with their past'}")
        head = ("acc.", "F1", "acc. lost", "F1 lost", "worst") * (1 + pasts)
        widths = (8, 8, 10, 9, 8) * (1 + pasts)
        lines.append(
            f"{'':46s}{'wanted':>8s}{'windows':>8s}"
            + "".join(f"{cell:>{width}s}" for cell, width in zip(head, widths, strict=True))
        )
        for what, wanted, share, *figures in self.rows():
            cells = "".join(f"{cell:>{width}s}" for cell, width in zip(figures, widths, strict=True))
            lines.append(f"{what:46s}{wanted:>8s}{share:>8s}{cells}".rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """A section of a model card."""
        head = ["recordings", "wanted", "windows", *_HEAD]
        lines = [
            f"### Varied recordings of {self.dataset}: {self.protocol}",
            "",
            f"`har-models evaluate {self.bundle} --dataset {self.dataset} --variations`; points lost against the plain "
            f"recordings, mean over draws, and of the worst draw the larger of both."
            + (" These recordings were seen in training." if self.seen_in_training else ""),
        ]
        if self.plain.with_past is not None:
            head += [f"{name}, with past" for name in _HEAD]
            lines.append(
                "`with past`: each window with those before it, through the bundle's chain, as it is when served."
            )
        lines += [
            "",
            f"| {' | '.join(head)} |",
            "|" + "---|" * len(head),
            *(f"| {' | '.join(row)} |" for row in self.rows()),
        ]
        return "\n".join(lines)


_HEAD: Final = ("accuracy", "macro-F1", "accuracy lost", "macro-F1 lost", "worst draw")


def _plain(rates: Rates | None) -> tuple[str, ...]:
    return () if rates is None else (f"{rates.accuracy:.4f}", f"{rates.macro_f1:.4f}", "", "", "")


def _lost(loss: Loss | None) -> tuple[str, ...]:
    if loss is None:
        return ()
    points = (loss.accuracy_lost, loss.macro_f1_lost, loss.worst_lost)
    return (f"{loss.accuracy:.4f}", f"{loss.macro_f1:.4f}", *(f"{value:+.2f}" for value in points))


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
    say(f"as recorded: accuracy {plain.alone.accuracy:.4f}")
    varied = []
    for variation in variations:
        found = _varied(bundle, classifier, sittings, variation, plain=plain, seed=seed)
        lost = found.with_past or found.alone
        said = found.not_supported if lost is None else f"{lost.macro_f1_lost:+.2f} points of macro-F1 lost"
        say(f"{variation.what}: {said}")
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
    pasts = [draw.with_past for draw in draws if draw.with_past is not None]
    return VariedFigures(
        name=variation.name,
        what=variation.what,
        draws=tuple(draws),
        windows_share=float(np.mean([draw.windows for draw in draws]) / plain.windows),
        alone=_loss(plain.alone, [draw.alone for draw in draws]),
        with_past=None if plain.with_past is None else _loss(plain.with_past, pasts),
        wanted_points=variation.wanted_points,
    )


def _loss(plain: Rates, draws: Sequence[Rates]) -> Loss:
    accuracy, f1 = (float(np.mean([getattr(draw, figure) for draw in draws])) for figure in ("accuracy", "macro_f1"))
    return Loss(
        accuracy=accuracy,
        macro_f1=f1,
        accuracy_lost=100 * (plain.accuracy - accuracy),
        macro_f1_lost=100 * (plain.macro_f1 - f1),
        worst_lost=100 * max(max(plain.accuracy - d.accuracy, plain.macro_f1 - d.macro_f1) for d in draws),
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
    chain = bundle.manifest.smoothing.chain
    pasts, truth = own_pasts(sittings, bundle.spec, bundle.labels, classifier.predict)
    if not len(truth):
        return None
    past = None if chain is None else past_figures(pasts, truth, bundle.labels, chain, shuffled=False).in_order
    figures = score(classifier.predict(truth.samples), truth, bundle.labels)
    return Draw(windows=figures.n, alone=_rates(figures), with_past=None if past is None else _rates(past))


def _rates(figures: Figures) -> Rates:
    return Rates(accuracy=figures.accuracy, macro_f1=figures.macro_f1)


def _not_supported(bundle: ModelBundle, variation: Variation) -> str | None:
    """Why such a feed is told as `unknown`, None where it is not."""
    least_hz = bundle.manifest.min_feed_rate_hz
    if variation.rate_hz is not None and variation.rate_hz < _RATE_TOLERANCE * least_hz:
        return f"needs {least_hz:g} Hz"
    needed = set(bundle.spec.sensors) - set(bundle.spec.optional_sensors)
    if variation.lacks in needed:
        return f"needs {variation.lacks}"
    return None
