"""Seeded schedules of faults, and the run of one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamer.wire.events import ActivityEvent
from tests.chaos.faults import LINK_FAULTS, SERVICE_FAULTS, Fault, kill_both, kill_on_full_disk, lose_answers
from tests.chaos.feed import Feed
from tests.chaos.world import Verdict, World

#: Recorded seconds per second.
SPEED: Final = 20.0
#: A snapshot a few times a second.
_OFTEN_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault.

    Attributes:
        at_s: when it begins at the earliest, seconds since the watches began.
        fault: see tests.chaos.faults.
        seed: of what it draws.
        when_at_work: not before the service has come up from the last fault.
    """

    at_s: float
    fault: Fault
    seed: int
    when_at_work: bool = True

    def __str__(self) -> str:
        return f"{self.fault.__name__} at {self.at_s:.2f}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Faults of the service and of the link, each lane one after the other.

    Attributes:
        service, link: the lanes.
        least_work_s: work after which the service takes a snapshot; None for its own.
    """

    service: tuple[Planned, ...]
    link: tuple[Planned, ...] = ()
    least_work_s: float | None = None

    def __str__(self) -> str:
        faults = ", ".join(map(str, sorted((*self.service, *self.link), key=lambda planned: planned.at_s)))
        return f"{faults}; snapshots {'often' if self.least_work_s else 'as usual'}"


def draw(seed: int, *, duration_s: float) -> Schedule:
    """The schedule of a seed: one to three faults of the service, up to two of the link, at random times."""
    rng = random.Random(seed)  # noqa: S311 # reproducible on purpose

    def plan(faults: Sequence[Fault], number: int) -> tuple[Planned, ...]:
        drawn = [Planned(rng.uniform(0.0, duration_s), rng.choice(faults), rng.randrange(2**32)) for _ in range(number)]
        return tuple(sorted(drawn, key=lambda planned: planned.at_s))

    least_work_s = rng.choice([None, _OFTEN_S, _OFTEN_S])
    # Both at once takes both lanes.
    if rng.random() < 0.15:
        return Schedule(plan([kill_both], rng.randint(1, 2)), least_work_s=least_work_s)
    return Schedule(plan(SERVICE_FAULTS, rng.randint(1, 3)), plan(LINK_FAULTS, rng.randint(0, 2)), least_work_s)


#: By sabotage, see tests.chaos.sabotage, faults that must bring it out.
CONTROLS: Final = {
    "acknowledge-early": Schedule((Planned(0.3, kill_on_full_disk, 0), Planned(1.2, kill_on_full_disk, 1))),
    "skip-duplicate-check": Schedule((), (Planned(0.3, lose_answers, 0), Planned(1.2, lose_answers, 1))),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a schedule.

    Attributes:
        verdict: against the oracle.
        repeats: events that came more than once.
        died_writing: times that the service was killed in the middle of writing its state.
        first_start_s: from the first process's start until it was ready.
        recoveries_s: by cause, from a process's start to its first new event.
    """

    verdict: Verdict
    repeats: int
    died_writing: int
    first_start_s: float
    recoveries_s: Mapping[str, Sequence[float]]


def run(
    schedule: Schedule,
    folder: Path,
    feed: Feed,
    oracle: Mapping[str, ActivityEvent],
    *,
    speed: float = SPEED,
    longest_stop_s: float = 30.0,
    patience_s: float = 25.0,
    sabotage: str | None = None,
) -> Outcome:
    """Play the feed under the schedule's faults.

    Args:
        schedule: see there.
        folder: for all files; must not exist.
        feed: what the watches send.
        oracle: what must come of it.
        speed: recorded seconds per second.
        longest_stop_s: longest SIGSTOP.
        patience_s: how long events are waited for that do not come.
        sabotage: what is wrong with the service, see tests.chaos.sabotage.
    """
    world = World(
        folder,
        zip(feed.due_s, feed.messages, strict=True),
        f"--model={feed.model}",
        speed=speed,
        longest_stop_s=longest_stop_s,
        least_work_s=schedule.least_work_s,
        sabotage=sabotage,
    )
    with world.running():
        world.play()
        lanes = [_lane(world, schedule.service), _lane(world, schedule.link)]
        while lanes:
            world.step()
            lanes = [lane for lane in lanes if next(lane, True) is None]
        verdict = world.conclude(oracle, within_s=patience_s)
    return Outcome(verdict, world.collected.repeats, world.died_writing, world.first_start_s, world.recoveries_s)


def _lane(world: World, planned: Sequence[Planned]) -> Iterator[None]:
    for fault in planned:
        while world.elapsed_s < fault.at_s or (fault.when_at_work and world.recovering):
            yield
        yield from fault.fault(world, random.Random(fault.seed))  # noqa: S311 # reproducible on purpose
