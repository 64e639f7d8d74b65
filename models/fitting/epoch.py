"""What one epoch of a training brought, as a value that can be shown without importing torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch brought.

    Attributes:
        number: from 1.
        of: epochs in all.
        loss: mean training loss.
        accuracy: on held-out groups, None without any.
        macro_f1: likewise.
        windows_per_s: training speed.
        remaining_s: at this speed.
    """

    number: int
    of: int
    loss: float
    accuracy: float | None
    macro_f1: float | None
    windows_per_s: float
    remaining_s: float

    def line(self) -> str:
        """One line of progress."""
        return f"epoch {self.number:3d}/{self.of}  {self.state()}"

    def state(self) -> str:
        """How well it does, how fast, and how long it takes yet."""
        held_out = (
            ""
            if self.accuracy is None or self.macro_f1 is None
            else f"  held-out accuracy {self.accuracy:.4f} macro-F1 {self.macro_f1:.4f}"
        )
        minutes, seconds = divmod(round(self.remaining_s), 60)
        return f"loss {self.loss:.4f}{held_out}  {self.windows_per_s:,.0f} windows/s  {minutes}:{seconds:02d} left"
