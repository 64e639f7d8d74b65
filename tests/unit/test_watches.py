"""Which watches are followed: probation, silence, age and room."""

from __future__ import annotations

from typing import Final

import pytest

from streamer.imu import ImuBatch
from streamer.watches import PROBATION_READINGS, Limits, Watches
from tests.motion import SECOND, noise

LIMITS: Final = Limits(max_watches=3, probation_pool=2, silence_ns=30 * SECOND, evict_after_ns=3600 * SECOND)


def readings(device: str, n: int) -> ImuBatch:
    return noise(n, device=device)


def followed(*devices: str, capacity: int = 3) -> Watches:
    """Watches heard of at second 0, 1, 2 ..."""
    watches = Watches(LIMITS, capacity=capacity)
    for second, device in enumerate(devices):
        watches.add(device, second * SECOND)
    return watches


def test_new_name_is_on_probation_until_it_sent_enough_readings() -> None:
    watches = Watches(LIMITS, capacity=3)
    first, second = readings("wrist", PROBATION_READINGS - 1), readings("wrist", 1)
    assert watches.heard("wrist", 0) is None
    assert watches.on_probation(first) is None
    assert watches.on_probation(second) == [first, second]
    # Nothing of it stays in the pool.
    assert watches.on_probation(second) is None


def test_invented_names_push_each_other_out_of_the_pool_and_nobody_else() -> None:
    watches = followed("wrist")
    for i in range(1000):
        watches.on_probation(readings(f"invented-{i}", 1))
    assert list(watches) == ["wrist"]
    # Two names have room: 998 was pushed out by "late", 999 still lacks but a few readings.
    watches.on_probation(readings("late", 1))
    assert watches.on_probation(readings("invented-998", PROBATION_READINGS - 1)) is None
    held = watches.on_probation(readings("late", PROBATION_READINGS - 1))
    assert [len(batch) for batch in held or []] == [1, PROBATION_READINGS - 1]


def test_name_heard_of_again_stays_longer_in_the_pool() -> None:
    watches = Watches(LIMITS, capacity=3)
    for device in ("a", "b", "a", "c"):
        assert watches.on_probation(readings(device, 1)) is None
    held = watches.on_probation(readings("a", PROBATION_READINGS - 2))
    assert [len(batch) for batch in held or []] == [1, 1, PROBATION_READINGS - 2]


def test_watch_falls_silent_once_and_speaks_again() -> None:
    # second  0    1             30     31     40    70
    #         a    b             a!     b!     a     a!     ! falls silent
    watches = followed("a", "b")
    assert watches.fall_silent(30 * SECOND - 1) == []
    assert watches.fall_silent(30 * SECOND) == ["a"]
    assert watches.fall_silent(31 * SECOND) == ["b"]
    assert watches.fall_silent(39 * SECOND) == []
    slot = watches.slot_of("a")
    assert watches.heard("a", 40 * SECOND) == slot
    assert watches.fall_silent(70 * SECOND) == ["a"]


def test_time_in_which_nobody_listened_excuses_a_watch_and_leaves_when_it_was_heard() -> None:
    # second  0    1    2 ... 102   110    130
    #         a    b    deaf        b      a!     ! falls silent
    watches = followed("a", "b")
    for deaf in (60, 40):
        watches.excuse(deaf * SECOND)
    watches.heard("b", 110 * SECOND)
    assert watches.fall_silent(130 * SECOND - 1) == []
    assert watches.fall_silent(130 * SECOND) == ["a"]
    assert (watches.last_heard("a"), watches.last_heard("b")) == ((0, False), (110 * SECOND, True))
    assert watches.last_heard("nobody") is None
    # Over a restart, too; and forgotten with the watch.
    other = followed("a", "b")
    other.import_liveness(watches.export_liveness())
    assert (other.last_heard("a"), other.alive_by_name()) == ((0, False), {"a": False, "b": True})
    other.remove("a")
    other.add("a", 200 * SECOND)
    assert other.last_heard("a") == (200 * SECOND, True)


def test_silent_watch_is_outdated_after_its_time_and_a_speaking_one_never() -> None:
    watches = followed("a", "b")
    assert watches.outdated(10_000 * SECOND) == []
    watches.fall_silent(30 * SECOND)
    assert watches.outdated(3600 * SECOND - 1) == []
    assert watches.outdated(3600 * SECOND) == ["a"]
    assert watches.heard("a", 3601 * SECOND) == watches.slot_of("a")
    assert watches.outdated(10_000 * SECOND) == []


def test_room_is_made_by_the_watch_longest_silent_and_by_none_that_is_alive() -> None:
    watches = followed("a", "b", "c")
    assert not watches.room_for_one
    assert watches.longest_silent(30 * SECOND - 1) is None
    # Whether a tick has noticed it or not.
    assert watches.longest_silent(30 * SECOND) == "a"
    watches.heard("a", 5 * SECOND)
    assert watches.longest_silent(31 * SECOND) == "b"
    watches.fall_silent(32 * SECOND)
    watches.heard("b", 33 * SECOND)
    watches.heard("a", 34 * SECOND)
    assert watches.longest_silent(34 * SECOND) == "c"


def test_slot_of_a_removed_watch_is_used_again() -> None:
    watches = followed("a", "b", "c")
    slot = watches.remove("b")
    assert watches.slot_of("b") is None
    assert watches.heard("b", 9 * SECOND) is None
    assert watches.room_for_one
    assert watches.add("d", 9 * SECOND) == slot
    assert watches.names[slot] == "d"


def test_growth_keeps_slots_and_names() -> None:
    watches = followed("a", capacity=1)
    assert watches.must_grow
    watches.grow(3)
    assert [watches.add(device, 0) for device in "bc"] == [1, 2]
    assert watches.names == ["a", "b", "c"]
    assert len(watches) == 3


@pytest.mark.parametrize("moment", [29, 30])
def test_time_may_stand_still_or_go_back(moment: int) -> None:
    watches = followed("a")
    watches.heard("a", -5 * SECOND)
    assert watches.fall_silent(moment * SECOND) == ["a"]
