"""What teaching a model by somebody's own recordings brought, in figures and in words."""

from __future__ import annotations

import msgspec

from models.scoring.evaluation import Figures


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A recording that was learned from: its file, the SHA-256 of that, and labelled seconds by activity."""

    name: str
    sha256: str
    seconds: dict[str, float]


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """What teaching brought.

    Attributes:
        base, base_digest: the model that was taught.
        activities: those taught, in the order of the recordings.
        new: of them those that the base did not know.
        sources: the recordings.
        folds: parts in which they were held out in turn.
        before, after: figures of their windows, each answered by the base, and by a model that was taught without the
            window's recording.
        keep: weight of the base's answers to made-up motion; the recordings' is 1.
        made_up: windows of made-up motion, other than was learned from.
        kept: share of these that are answered as by the base.
        turned_new: share of these that are answered by a new activity.
    """

    base: str
    base_digest: str
    activities: tuple[str, ...]
    new: tuple[str, ...]
    sources: tuple[Source, ...]
    folds: int
    before: Figures
    after: Figures
    keep: float
    made_up: int
    kept: float
    turned_new: float

    def json(self) -> bytes:
        """One JSON document."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    @property
    def protocol(self) -> str:
        """How recordings were held out, in words."""
        if self.folds == len(self.sources):
            return "each recording held out once, told by what was learned from the others"
        return f"recordings held out in {self.folds} parts, told by what was learned from the others"

    def notes(self) -> list[str]:
        """What these figures cannot say."""
        notes = []
        if len(self.activities) == 1:
            notes.append(
                f"All recordings are of {self.activities[0]}: how often it is told where it is not done was seen on "
                "made-up motion only. Recordings of other activities would show it, and teach it."
            )
        elif self.new:
            notes.append("How often a new activity is told during what was not recorded is not known.")
        return notes

    def text(self) -> str:
        """A table for people."""
        names = {label: f"{label} (new)" if label in self.new else label for label in self.activities}
        width = min(max(map(len, [*names.values(), *self.after.per_group])) + 2, 60)
        lines = [f"{self.base} ({self.base_digest}) taught by {len(self.sources)} recordings; {self.protocol}", ""]
        lines.append(f"{'activity':{width}}  windows  recall before  after  precision after")
        for label, name in names.items():
            was, is_now = self.before.per_class[label], self.after.per_class[label]
            lines.append(
                f"{name:{width}}{is_now.support:9}{was.recall:15.3f}{is_now.recall:7.3f}{is_now.precision:17.3f}"
            )
        lines += ["", f"{'recording':{width}}  windows   right before  after"]
        for name, own in self.after.per_group.items():
            lines.append(f"{name:{width}}{own.n:9}{self.before.per_group[name].accuracy:15.3f}{own.accuracy:7.3f}")
        before, after = self.before, self.after
        turned = f", {self.turned_new:.1%} by {' or '.join(self.new)}" if self.new else ""
        accuracy = f"accuracy {before.accuracy:.3f} before, {after.accuracy:.3f} after"
        lines += [
            "",
            f"all windows: {accuracy}; macro-F1 {before.macro_f1:.3f} before, {after.macro_f1:.3f} after",
            f"what it knew: {self.kept:.1%} of {self.made_up} windows of made-up motion are answered as before{turned}",
            *self.notes(),
        ]
        return "\n".join(lines)
