"""The state folder of one service: lock, journal, snapshots and dead letters, kept from the event loop's way.

    append ─▶ journal ─ fdatasync ─▶ durable: what the record's messages did survives, they may be acknowledged
                 └─ from time to time ─▶ snapshot, and the journal before it is forgotten

All writing is done by one thread. A disk that doesn't take it makes the store `failing`: nothing more becomes
durable, so nothing more is acknowledged, until an attempt succeeds.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from streamer.durability.dead_letters import DeadLetters
from streamer.durability.journal import Call, Journal, forget_before, read_journal, segments
from streamer.durability.snapshot import Header, load_snapshot, snapshots, write_snapshot
from streamer.errors import ConfigError
from streamer.metrics import Metrics
from streamer.recognizer import Recognizer
from streamer.watch_state import Piece

logger = logging.getLogger(__name__)

#: How long records wait for company on their way to the disk; with MQTT 3.1.1 brokers hold back after 20 messages.
_GATHER_S: Final = 0.1
_GATHER_SHORT_S: Final = 0.002
_RETRY_S: Final = 1.0
_FAILURE_LOG_S: Final = 60.0
#: Work after which a snapshot is due: what a recovery then has to repeat.
_LEAST_WORK_S: Final = 0.25
#: A snapshot takes time as well, of which this is the largest share it may have.
_SNAPSHOT_SHARE: Final = 0.05
#: Payload bytes in the journal behind the last snapshot after which one is due, however little work they took; or this
#: many times the snapshot.
_LEAST_JOURNAL_BYTES: Final = 16_000_000
_JOURNAL_PER_SNAPSHOT: Final = 4
#: The same, past which nothing is written but a snapshot: those that were due could not be taken.
_MOST_JOURNAL_BYTES: Final = 2_000_000_000
#: Room kept for a snapshot where the journal has filled the disk, over the size of the last one.
_RESERVE: Final = 1.25
_LEAST_RESERVE_BYTES: Final = 1_000_000
#: Payload bytes that may wait for the disk.
_MOST_WAITING_BYTES: Final = 64_000_000


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a state folder held.

    Attributes:
        header: of the snapshot that was loaded; None when there was none.
        of_other: that snapshot is of another bundle, setting or release, and was set aside: nothing of it was loaded.
    """

    header: Header | None
    of_other: bool = False


class StateStore:
    """Keeps what a service needs to go on after a SIGKILL.

    State: the lock on the folder, the journal, and how much work lies behind the last snapshot.
    """

    def __init__(self, folder: Path, *, model_digest: str, workers: int, metrics: Metrics) -> None:
        """Make the folder, if need be, and lock it.

        Raises:
            ConfigError: it can't be written, or another process uses it.
        """
        self._folder = folder
        self._model_digest = model_digest
        self._workers = workers
        self._metrics = metrics
        self._lock = _locked(folder)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._journal = Journal(folder, model_digest=model_digest, first=0)
        self._letters = DeadLetters(folder)
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._snapshot: _Snapshot | None = None
        self._snapshot_s = 0.0
        self._snapshot_size = 0
        self._work_s = 0.0
        self._snapshot_bytes = 0
        self._failure_logged_s = float("-inf")
        self.failing = False
        self._gather_s = _GATHER_S
        metrics.journal_bytes.set_function(lambda: self._journal.written_bytes - self._snapshot_bytes)

    @property
    def next(self) -> int:
        """Number of the next record."""
        return self._journal.next

    @property
    def durable(self) -> int:
        """Every record before this one survives the process."""
        return self._journal.durable

    async def room(self) -> None:
        """Return once so little waits for the disk that something may be added."""
        await self._room.wait()

    # --- the past ---------------------------------------------------------------------------------------------------

    def recover(self, recognizer: Recognizer) -> Recovered:
        """Load the newest whole snapshot; `replay` then gives the calls after it.

        Raises:
            ConfigError: the folder can't be read.
        """
        try:
            return self._recover(recognizer)
        except OSError as error:
            raise ConfigError(f"state folder {self._folder}: cannot be used ({error})") from error

    def _recover(self, recognizer: Recognizer) -> Recovered:
        found = load_snapshot(self._folder)
        if found is None:
            if segments(self._folder) or snapshots(self._folder):
                self._set_aside("unreadable")
            return Recovered(None)
        header, fleet = found
        try:
            self._check_owner(header)
            recognizer.import_fleet(header.liveness, fleet)
        except ConfigError as error:
            logger.warning("state in %s: %s; set aside, and every bout ends", self._folder, error)
            at_its_end = all(number < header.record for number, _ in self._records(header))
            self._set_aside(header.model_digest)
            return Recovered(header if at_its_end else msgspec.structs.replace(header, farewell=[]), of_other=True)
        self._journal.next = self._journal.durable = header.record
        return Recovered(header)

    def replay(self, header: Header) -> Iterator[tuple[int, Call]]:
        """The calls after a snapshot, with their numbers; what is appended afterwards follows on them."""
        for number, call in self._records(header):
            self._journal.next = self._journal.durable = number + 1
            yield number, call

    def _check_owner(self, header: Header) -> None:
        if (header.model_digest, header.workers) != (self._model_digest, self._workers):
            raise ConfigError(
                f"of bundle {header.model_digest} and {header.workers} worker(s); "
                f"expected bundle {self._model_digest} and {self._workers}"
            )

    def _records(self, header: Header) -> Iterator[tuple[int, Call]]:
        return read_journal(self._folder, model_digest=header.model_digest, first=header.record)

    def _set_aside(self, name: str) -> None:
        for old in self._folder.glob("set-aside-*"):
            shutil.rmtree(old)
        folder = self._folder / f"set-aside-{name}"
        folder.mkdir()
        for path in (*segments(self._folder), *snapshots(self._folder)):
            path.rename(folder / path.name)

    # --- the present ------------------------------------------------------------------------------------------------

    def append(self, call: Call) -> int:
        """Take a call down, to be written soon; its number."""
        number = self._journal.append(call)
        self._filled.set()
        if self._journal.waiting_bytes > _MOST_WAITING_BYTES:
            self._room.clear()
        return number

    @property
    def letters(self) -> DeadLetters:
        """Where refused messages go; written with the journal."""
        return self._letters

    def worked(self, seconds: float) -> None:
        """Note how long a call took: a recovery would take as long again."""
        self._work_s += seconds

    @property
    def snapshot_due(self) -> bool:
        """Whether a recovery would take long by now, or the journal much room; or whether there is none left for it."""
        journal_bytes = self._journal.written_bytes - self._snapshot_bytes
        return self._snapshot is None and (
            self._work_s > max(_LEAST_WORK_S, self._snapshot_s / _SNAPSHOT_SHARE)
            or journal_bytes > max(_LEAST_JOURNAL_BYTES, _JOURNAL_PER_SNAPSHOT * self._snapshot_size)
            or (self.failing and self._journal.durable < self._journal.next)
        )

    def take_snapshot(self, recognizer: Recognizer, header: Header) -> None:
        """Copy the state as it is before record `next`; it is written soon."""
        began_s = time.perf_counter()
        # A list, as it is written again at each attempt that fails.
        pieces = list(recognizer.export_fleet()[1])
        self._snapshot = _Snapshot(header, pieces, time.perf_counter() - began_s)
        self._work_s = 0.0
        self._filled.set()

    def gather_briefly(self, briefly: bool) -> None:  # noqa: FBT001 # a property of the broker
        """Whether records go to the disk as soon as may be, rather than several in one go."""
        self._gather_s = _GATHER_SHORT_S if briefly else _GATHER_S

    async def run(self, attempted: Callable[[], None]) -> None:
        """Write what is appended, for ever.

        Args:
            attempted: called behind each attempt: `durable` may have moved on, or a snapshot be due as it has not.
        """
        while True:
            await self._filled.wait()
            await asyncio.sleep(self._gather_s)
            if not await self.sync():
                await asyncio.sleep(_RETRY_S)
            attempted()

    async def sync(self) -> bool:
        """Write what has been appended so far; False when the disk doesn't take it."""
        self._filled.clear()
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write)
        except OSError as error:
            self._filled.set()
            self.failing = True
            self._metrics.state_failing.set(1)
            if time.monotonic() - self._failure_logged_s >= _FAILURE_LOG_S:
                self._failure_logged_s = time.monotonic()
                logger.error(  # noqa: TRY400 # no traceback is wanted
                    "state folder %s: cannot be written (%s); messages stay unacknowledged until it can",
                    self._folder,
                    error,
                )
            return False
        self._room.set()
        if self.failing:
            logger.warning("state folder %s: written again", self._folder)
            self.failing = False
            self._metrics.state_failing.set(0)
            self._failure_logged_s = float("-inf")
        return True

    async def close(self) -> None:
        """Let the folder go; what was not written is lost."""
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
        self._journal.close()
        os.close(self._lock)

    def _write(self) -> None:
        try:
            self._write_journal()
        except OSError:
            if self._snapshot is None:
                raise
            # The journal may have filled the disk itself: a snapshot stands for all of it, and has its room kept.
            self._reserve.unlink(missing_ok=True)
            self._write_snapshot(self._snapshot)
            self._write_journal()
        else:
            if self._snapshot is not None:
                self._write_snapshot(self._snapshot)

    def _write_journal(self) -> None:
        if self._journal.written_bytes - self._snapshot_bytes > _MOST_JOURNAL_BYTES:
            raise OSError(f"the journal has grown to {_MOST_JOURNAL_BYTES} bytes without a snapshot")
        began_s = time.perf_counter()
        self._journal.write()
        self._metrics.journal_seconds.observe(time.perf_counter() - began_s)
        self._letters.write()

    def _write_snapshot(self, snapshot: _Snapshot) -> None:
        began_s = time.perf_counter()
        needed = write_snapshot(self._folder, snapshot.header, snapshot.pieces)
        self._journal.skip_to(snapshot.header.record)
        if self._snapshot is snapshot:
            # Else the last one of this process has been taken meanwhile.
            self._snapshot = None
        self._snapshot_bytes = self._journal.written_bytes
        forget_before(self._folder, needed)
        self._snapshot_size = sum(map(len, snapshot.pieces))
        self._snapshot_s = snapshot.copied_s + time.perf_counter() - began_s
        self._metrics.snapshot_seconds.observe(self._snapshot_s)
        self._keep_reserve()

    def _keep_reserve(self) -> None:
        """Keep room on the disk for a snapshot larger than the last one; without it, do without."""
        size = max(_LEAST_RESERVE_BYTES, round(_RESERVE * self._snapshot_size))
        with suppress(OSError), self._reserve.open("ab") as file:
            # Zeros are written, as a file with a hole in it keeps no room.
            file.write(bytes(max(size - os.fstat(file.fileno()).st_size, 0)))

    @property
    def _reserve(self) -> Path:
        return self._folder / "reserve"


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A snapshot that is still to be written, and how long its copying took."""

    header: Header
    pieces: Sequence[Piece]
    copied_s: float


def _locked(folder: Path) -> int:
    """A lock on a folder, which is made where there is none; held until it is closed or the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(
            f"state folder {folder}: cannot be written ({error.strerror}); expected a folder that can, by --state, "
            "or --no-state"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        other = os.read(lock, 20).decode(errors="replace").strip()
        os.close(lock)
        raise ConfigError(
            f"state folder {folder}: in use by process {other or '?'}; expected another --client-id or --state for "
            "each har-stream"
        ) from None
    with suppress(OSError):
        # For people only.
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    return lock
