"""How far a training has come: a bar per fit on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.fitting.epoch import Epoch
from streamer.progress import bar, on_terminal

Say = Callable[[str], None]


@contextmanager
def told(say: Say) -> Iterator[tuple[Say, Callable[[Epoch], None]]]:
    """What takes lines, and what takes epochs.

    Args:
        say: prints a line.
    """
    if not on_terminal():
        yield say, lambda epoch: say(f"  {epoch.line()}")
        return
    from rich.progress import BarColumn, TaskID, TimeElapsedColumn  # noqa: PLC0415 - for whom it shows something

    columns = ("{task.description}", BarColumn(), "{task.fields[state]}", TimeElapsedColumn())
    with bar(*columns) as shown:
        # Making windows takes minutes, too, and nobody knows how many.
        waiting = shown.add_task("preparing", total=None, state="")
        fitting: TaskID | None = None

        def show(epoch: Epoch) -> None:
            nonlocal fitting
            if fitting is None or epoch.number == 1:
                shown.update(waiting, visible=False)
                fitting = shown.add_task("fitting", total=epoch.of, state="")
            shown.update(fitting, completed=epoch.number, description=f"epoch {epoch.number:3d}/{epoch.of}")
            shown.update(fitting, state=epoch.state())
            if epoch.number == epoch.of:
                shown.reset(waiting, visible=True)

        yield lambda line: shown.console.print(line, markup=False, highlight=False), show
