"""What survives a SIGKILL: journal, snapshots, the folder that holds both, and dead letters."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamer.durability.store
from streamer.bundle import ModelBundle
from streamer.durability.dead_letters import DeadLetters
from streamer.durability.journal import Call, Journal, forget_before, read_journal, segments
from streamer.durability.snapshot import SCHEMA, Header, load_snapshot, snapshots, write_snapshot
from streamer.durability.store import StateStore
from streamer.errors import ConfigError, PayloadError, RejectReason
from streamer.metrics import Metrics
from streamer.recognizer import Recognizer
from streamer.watch_state import Piece
from streamer.watches import Limits, Liveness
from streamer.wire.payload import Message, encode_cbor
from tests.bundles import START_NS, make_bundle
from tests.motion import still

DIGEST = "0123456789abcdef"


@pytest.fixture(scope="module")
def posture(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return make_bundle(tmp_path_factory.mktemp("posture"))


def call(number: int, size: int = 10) -> Call:
    return Call(number, 0, number, [Message(f"har/v1/watch-{number}/imu", bytes([number % 256]) * size)])


def written(folder: Path, first: int, end: int) -> Journal:
    journal = Journal(folder, model_digest=DIGEST, first=first)
    for number in range(first, end):
        assert journal.append(call(number)) == number
    journal.write()
    return journal


def read(folder: Path, first: int = 0) -> list[int]:
    found = list(read_journal(folder, model_digest=DIGEST, first=first))
    assert [c for _, c in found] == [call(number) for number, _ in found]
    return [number for number, _ in found]


# Journal ------------------------------------------------------------------------------------------------------------


def test_records_come_back_as_they_were_from_any_number_on(tmp_path: Path) -> None:
    # segments  0 1 2 3 | 4 5 6 | 7 8 9
    journal = written(tmp_path, 0, 4)
    for end in (7, 10):
        journal.skip_to(journal.next)
        while journal.next < end:
            journal.append(call(journal.next))
        journal.write()
    assert journal.durable == 10
    assert len(segments(tmp_path)) == 3
    assert [read(tmp_path, first) for first in (0, 5, 9, 10)] == [list(range(10)), [5, 6, 7, 8, 9], [9], []]
    forget_before(tmp_path, 6)
    assert (len(segments(tmp_path)), read(tmp_path, 6)) == (2, [6, 7, 8, 9])
    assert read(tmp_path, 0) == []


@settings(max_examples=60)
@given(data=st.data())
def test_a_journal_cut_anywhere_gives_its_whole_records_and_goes_on_behind_them(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    written(folder, 0, 6).close()
    (segment,) = segments(folder)
    whole = segment.read_bytes()
    os.truncate(segment, data.draw(st.integers(0, len(whole))))
    survived = read(folder)
    assert survived == list(range(len(survived)))
    # Another process goes on where this one was torn, and is torn itself.
    written(folder, len(survived), 8).close()
    assert read(folder) == list(range(8))


def test_a_damaged_record_ends_the_reading_in_front_of_it(tmp_path: Path) -> None:
    journal = written(tmp_path, 0, 3)
    (segment,) = segments(tmp_path)
    end = segment.stat().st_size
    journal.skip_to(3)
    journal.append(call(3))
    journal.write()
    with segment.open("r+b") as file:
        file.seek(end - 1)
        file.write(b"\xff")
    assert read(tmp_path) == [0, 1]


def test_records_that_the_disk_did_not_take_are_written_by_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = written(tmp_path, 0, 2)
    journal.append(call(2))

    def full(descriptor: int, data: memoryview) -> int:
        real_write(descriptor, data[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real_write = os.write
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        journal.write()
    monkeypatch.undo()
    assert (journal.durable, journal.waiting_bytes, read(tmp_path)) == (2, 10, [0, 1])
    journal.append(call(3))
    journal.write()
    assert (journal.durable, journal.waiting_bytes, read(tmp_path)) == (4, 0, [0, 1, 2, 3])


# Snapshots ----------------------------------------------------------------------------------------------------------


def header(record: int, digest: str = DIGEST) -> Header:
    return Header(
        schema=SCHEMA,
        model_digest=digest,
        workers=1,
        record=record,
        now_ns=7,
        liveness=Liveness(alive=[("a", 1), ("b", 1)], silent=[], probation=[]),
        outbox=[],
        unacknowledged=[],
        farewell=[],
    )


def test_the_newest_whole_snapshot_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    assert load_snapshot(tmp_path) is None
    needed = [write_snapshot(tmp_path, header(record), [b"state ", str(record).encode()]) for record in (0, 5, 9)]
    assert needed == [0, 0, 5]
    newest, older = snapshots(tmp_path)[1], snapshots(tmp_path)[0]
    loaded = load_snapshot(tmp_path)
    assert loaded is not None
    assert (loaded[0], bytes(loaded[1])) == (header(9), b"state 9")
    content = bytearray(newest.read_bytes())
    for damaged in (content[:-1], content[:30], b"", content[:-3] + b"x" + content[-2:]):
        newest.write_bytes(damaged)
        loaded = load_snapshot(tmp_path)
        assert loaded is not None
        assert (loaded[0].record, bytes(loaded[1])) == (5, b"state 5")
    older.write_bytes(b"")
    assert load_snapshot(tmp_path) is None


# Store --------------------------------------------------------------------------------------------------------------


@contextmanager
def store_in(folder: Path, *, digest: str, workers: int = 1) -> Iterator[StateStore]:
    metrics = Metrics(activities=[], model="test", model_digest=digest)
    store = StateStore(folder, model_digest=digest, workers=workers, metrics=metrics)
    try:
        yield store
    finally:
        asyncio.run(store.close())


def state_of(recognizer: Recognizer) -> tuple[Liveness, bytes]:
    liveness, pieces = recognizer.export_fleet()
    return liveness, b"".join(pieces)


def keep(store: StateStore, recognizer: Recognizer) -> None:
    store.take_snapshot(
        recognizer,
        Header(
            schema=SCHEMA,
            model_digest=recognizer.bundle.digest,
            workers=1,
            record=store.next,
            now_ns=0,
            liveness=recognizer.watches.export_liveness(),
            outbox=[],
            unacknowledged=[],
            farewell=[],
        ),
    )
    assert asyncio.run(store.sync())


def calls(seconds: int) -> list[Call]:
    """Two watches, a message a second each."""
    return [
        Call(
            START_NS + second,
            0,
            0,
            [
                Message(f"har/v1/{device}/imu", encode_cbor(still("lying", 1.0, device=device, start_s=second)))
                for device in "ab"
            ],
        )
        for second in range(seconds)
    ]


def test_snapshot_and_journal_together_give_the_state_back(tmp_path: Path, posture: ModelBundle) -> None:
    def run(recognizer: Recognizer, some: list[Call]) -> None:
        for one in some:
            recognizer.process(one.messages, one.now_ns)

    first = Recognizer(posture, limits=Limits())
    with store_in(tmp_path, digest=posture.digest) as store:
        assert store.recover(first).header is None
        keep(store, first)
        for one in calls(4):
            store.append(one)
        run(first, calls(4))
        keep(store, first)
        for one in calls(7)[4:]:
            store.append(one)
        run(first, calls(7)[4:])
        assert asyncio.run(store.sync())
        assert (store.next, store.durable) == (7, 7)
    second = Recognizer(posture, limits=Limits())
    with store_in(tmp_path, digest=posture.digest) as store:
        recovered = store.recover(second)
        assert recovered.header is not None
        assert (recovered.header.record, recovered.of_other) == (4, False)
        replayed = list(store.replay(recovered.header))
        assert [number for number, _ in replayed] == [4, 5, 6]
        run(second, [one for _, one in replayed])
        assert (len(second.watches), state_of(second)) == (2, state_of(first))
        assert store.append(calls(8)[7]) == 7


@pytest.mark.parametrize(("digest", "workers"), [("fedcba9876543210", 1), (None, 2)])
def test_state_of_another_bundle_or_division_is_set_aside(
    tmp_path: Path, posture: ModelBundle, digest: str | None, workers: int
) -> None:
    recognizer = Recognizer(posture, limits=Limits())
    with store_in(tmp_path, digest=posture.digest) as store:
        recognizer.process(calls(1)[0].messages, START_NS)
        keep(store, recognizer)
    fresh = Recognizer(posture, limits=Limits())
    with store_in(tmp_path, digest=digest or posture.digest, workers=workers) as store:
        recovered = store.recover(fresh)
        assert recovered.of_other
        assert recovered.header is not None
        assert [device for device, _ in recovered.header.liveness.alive] == ["a", "b"]
    assert (len(fresh.watches), snapshots(tmp_path)) == (0, [])
    assert [path.name for path in tmp_path.glob("set-aside-*/*")] == ["snapshot-0000000000000000.bin"]


def test_failing_disk_makes_nothing_durable_until_it_recovers(
    tmp_path: Path, posture: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with store_in(tmp_path, digest=posture.digest) as store:
        store.append(calls(1)[0])
        monkeypatch.setattr(os, "fdatasync", full)
        assert not asyncio.run(store.sync())
        assert (store.durable, store.failing) == (0, True)
        monkeypatch.undo()
        assert asyncio.run(store.sync())
        assert (store.durable, store.failing) == (1, False)


def test_a_disk_that_the_journal_has_filled_takes_a_snapshot_and_goes_on(
    tmp_path: Path, posture: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk of 3 MB, of which the journal takes all but the reserve: that is for the snapshot which replaces it."""

    def guarded(descriptor: int, data: memoryview) -> int:
        if sum(path.stat().st_size for path in tmp_path.iterdir()) + len(data) > 3_000_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(descriptor, data)

    real_write = os.write
    recognizer = Recognizer(posture, limits=Limits())
    with store_in(tmp_path, digest=posture.digest) as store:
        keep(store, recognizer)
        monkeypatch.setattr(os, "write", guarded)
        while asyncio.run(store.sync()):
            store.append(call(0, size=100_000))
        assert (store.durable, store.snapshot_due) == (store.next - 1, True)
        keep(store, recognizer)
        assert (store.durable, store.failing) == (store.next, False)
        keep(store, recognizer)
        for one in calls(2):
            store.append(one)
        assert asyncio.run(store.sync())
    with store_in(tmp_path, digest=posture.digest) as store:
        header = store.recover(Recognizer(posture, limits=Limits())).header
        assert header is not None
        assert [one for _, one in store.replay(header)] == calls(2)


def test_the_last_snapshot_is_written_though_one_is_under_way(
    tmp_path: Path, posture: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = (Recognizer(posture, limits=Limits()) for _ in range(2))
    last.process(calls(1)[0].messages, START_NS)
    with store_in(tmp_path, digest=posture.digest) as store:

        def meanwhile(folder: Path, head: Header, pieces: Iterable[Piece]) -> int:
            monkeypatch.undo()
            store.take_snapshot(last, header(0, posture.digest))
            return write_snapshot(folder, head, pieces)

        monkeypatch.setattr(streamer.durability.store, "write_snapshot", meanwhile)
        keep(store, first)
        assert asyncio.run(store.sync())
    recovered = Recognizer(posture, limits=Limits())
    with store_in(tmp_path, digest=posture.digest) as store:
        store.recover(recovered)
    assert list(recovered.watches) == ["a", "b"]


def test_a_folder_serves_one_process_at_a_time(tmp_path: Path, posture: ModelBundle) -> None:
    with (
        store_in(tmp_path, digest=posture.digest),
        pytest.raises(ConfigError, match=f"in use by process {os.getpid()}; expected another --client-id"),
        store_in(tmp_path, digest=posture.digest),
    ):
        pass
    with store_in(tmp_path, digest=posture.digest):
        pass


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path, posture: ModelBundle) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"file/state: cannot be written .*; expected a folder that can"),
        store_in(tmp_path / "file" / "state", digest=posture.digest),
    ):
        pass


# Dead letters -------------------------------------------------------------------------------------------------------


def test_dead_letters_say_what_was_refused_and_are_bounded(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path)
    refused = (Message("har/v1/a/imu", b"{" * 300), PayloadError(RejectReason.JSON, "not JSON"))
    assert letters.add([refused], 1_000_000_000) == 1
    letters.write()
    letter = json.loads((tmp_path / "dead-letters.jsonl").read_text())
    assert (letter["topic"], letter["reason"], letter["bytes"]) == ("har/v1/a/imu", "json", 300)
    for _ in range(100):
        assert letters.add([refused] * 1000, 0) == 100
        letters.write()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert (len(sizes), max(sizes) < 1_100_000) == (2, True)
