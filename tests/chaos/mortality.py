"""Moments at which a process must be able to die: in the middle of writing what is to survive it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from streamer.durability import journal, snapshot, store
from streamer.watch_state import Piece
from tests.chaos.program import Control


def be_mortal(control: Control) -> None:
    """Let the store's writing die of SIGKILL at the moment that `control` names."""

    def die_at(moment: str) -> None:
        if control.die_at == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    _mortal_journal(control, die_at)
    _mortal_snapshot(die_at)


def take_snapshots_often(least_work_s: float) -> None:
    """Have a snapshot taken after that much work, whatever share of the time that is."""
    store._LEAST_WORK_S = least_work_s  # type: ignore[misc]
    store._SNAPSHOT_SHARE = 1.0  # type: ignore[misc]


def _mortal_journal(control: Control, die_at: Callable[[str], None]) -> None:
    append, forget = journal.Journal._append_to_file, journal.forget_before

    def append_to_file(self: journal.Journal, frames: bytes) -> None:
        if control.die_at == "half of a record written" and self._file is not None:
            os.lseek(self._file, self._whole, os.SEEK_SET)
            os.write(self._file, frames[: len(frames) // 2])
            die_at("half of a record written")
        append(self, frames)

    def forget_before(folder: Path, number: int) -> None:
        forget(folder, number)
        die_at("journal forgotten")

    journal.Journal._append_to_file = append_to_file  # type: ignore[method-assign]
    store.forget_before = forget_before  # type: ignore[attr-defined]


def _mortal_snapshot(die_at: Callable[[str], None]) -> None:
    write = snapshot.write_snapshot

    class MortalPath(type(Path())):  # type: ignore[misc] # the platform's own class
        def replace(self, target: Path) -> Path:
            die_at("snapshot without its name")
            replaced: Path = super().replace(target)
            die_at("snapshot with its name")
            return replaced

    def write_snapshot(folder: Path, header: snapshot.Header, pieces: Iterable[Piece]) -> int:
        def cut_short() -> Iterator[Piece]:
            for piece in pieces:
                yield piece
                die_at("half of a snapshot written")

        return write(MortalPath(folder), header, cut_short())

    store.write_snapshot = write_snapshot  # type: ignore[attr-defined]
