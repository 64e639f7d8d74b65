"""The model card of a bundle that was taught: where it comes from, what it learned, and what is not known of it."""

from __future__ import annotations

from models.lessons.lesson import Lesson
from models.reports.card import TERMS
from streamer.bundle import ModelBundle


def card(bundle: ModelBundle, lesson: Lesson, base: ModelBundle) -> str:
    """CARD.md as text."""
    new = ", ".join(lesson.new)
    kept = [label for label in base.labels if label not in lesson.activities]
    parts = [
        f"# {bundle.manifest.name}",
        f"{lesson.base}, taught {', '.join(lesson.activities)} by {len(lesson.sources)} recordings of one's own.",
        _facts(bundle, lesson),
        "## Recordings",
        _sources(lesson),
        f"## Figures: {lesson.protocol}",
        _figures(lesson),
        "\n".join(
            (
                "| recording | accuracy before | after | windows |",
                "|---|---|---|---|",
                *(
                    f"| {name} | {lesson.before.per_group[name].accuracy:.3f} | {own.accuracy:.3f} | {own.n} |"
                    for name, own in lesson.after.per_group.items()
                ),
            )
        ),
        "## What it knew before",
        f"The last layer alone was taught; the features before it are those of {lesson.base} to the last bit. It was "
        f"held to the base's answers to made-up motion, with {lesson.keep:g} times the weight of the recordings: of "
        f"{lesson.made_up} windows of other such motion {lesson.kept:.1%} are answered as before"
        + (f" and {lesson.turned_new:.1%} by {new}" if lesson.new else "")
        + f". {len(kept)} activities that were not recorded are still told; how well on the people of the base's own "
        "data was not measured here.",
        "## Limits",
        "\n".join(
            f"* {note}"
            for note in (
                "It learned from few recordings of few people: that others are told as well is not to be expected.",
                "Recordings that were made one after the other resemble one another; the figures flatter it.",
                *lesson.notes(),
                f"What stands under Limits on the card of {base.manifest.name}.",
            )
        ),
        "## Terms of the data",
        "The recordings are their owner's.",
    ]
    terms = TERMS.get(base.manifest.training.get("dataset", ""))  # type: ignore[call-overload] # any text may be asked for
    if terms is not None:
        parts.append(f"Of the data that {base.manifest.name} was trained on:\n\n{terms}")
    return "\n\n".join(parts) + "\n"


def _facts(bundle: ModelBundle, lesson: Lesson) -> str:
    spec = bundle.spec
    facts = {
        "bundle": f"digest `{bundle.digest}`",
        "base": f"{lesson.base}, digest `{lesson.base_digest}`",
        "size": f"{bundle.manifest.training['parameters']} parameters, {len(bundle.model) // 1000} kB of ONNX",
        "windows": f"{spec.window_len} samples ({spec.window_len / spec.rate_hz:g} s) every {spec.hop_len} "
        f"({spec.hop_len / spec.rate_hz:g} s) on a {spec.rate_hz} Hz grid",
        "needs": f"{spec.sensors_in_words}, {bundle.manifest.min_feed_rate_hz:g} Hz or faster",
        "activities": ", ".join(bundle.labels),
        "new": ", ".join(lesson.new) or "none",
        "temperature, smoothing": "the base's",
    }
    return "\n".join(("| | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in facts.items())))


def _sources(lesson: Lesson) -> str:
    lines = ["| file | SHA-256 begins | labelled |", "|---|---|---|"]
    for one in lesson.sources:
        labelled = ", ".join(f"{label} {seconds:.0f} s" for label, seconds in one.seconds.items())
        lines.append(f"| {one.name} | `{one.sha256[:16]}` | {labelled} |")
    return "\n".join(lines)


def _figures(lesson: Lesson) -> str:
    before, after = lesson.before, lesson.after
    lines = [
        "| | before | after |",
        "|---|---|---|",
        f"| accuracy | {before.accuracy:.4f} | **{after.accuracy:.4f}** |",
        f"| macro-F1 | {before.macro_f1:.4f} | **{after.macro_f1:.4f}** |",
        f"| log-loss | {before.log_loss:.4f} | {after.log_loss:.4f} |",
        "",
        "| activity | recall before | recall | precision | F1 | windows |",
        "|---|---|---|---|---|---|",
    ]
    for label in lesson.activities:
        own = after.per_class[label]
        name = f"{label} (new)" if label in lesson.new else label
        lines.append(
            f"| {name} | {before.per_class[label].recall:.3f} | {own.recall:.3f} | {own.precision:.3f} | {own.f1:.3f} "
            f"| {own.support} |"
        )
    return "\n".join(lines)
