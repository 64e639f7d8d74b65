"""What may befall a service, each as a generator that yields while it waits and leaves the world whole.

Faults of the service and faults of the link run in two lanes of their own, so that one of each may coincide.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Final

from tests.chaos.cable import DIRECTIONS
from tests.chaos.program import MOMENTS
from tests.chaos.world import World

Fault = Callable[[World, random.Random], Iterator[None]]

_HOUR_NS: Final = 3_600_000_000_000
#: The moment to die at comes this soon, else the process is killed at any.
_MOMENT_WITHIN_S: Final = 3.0
_EXIT_WITHIN_S: Final = 15.0
#: How long the service may be stopped.
_STOPS_S: Final = (3.0, 3.0, 3.0, 3.0, 10.0, 30.0)


def kill(world: World, rng: random.Random) -> Iterator[None]:
    """SIGKILL, then a new process."""
    _end(world, signal.SIGKILL)
    yield from _gone(world)
    yield from _pause(rng.uniform(0.0, 0.5))
    world.start_service(after="kill")


def kill_writing(world: World, rng: random.Random) -> Iterator[None]:
    """SIGKILL in the middle of writing journal or snapshot, then a new process."""
    world.down = True
    world.control.die_at = rng.choice(MOMENTS[1:])
    yield from _until(lambda: world.service.process.poll() is not None, within_s=_MOMENT_WITHIN_S)
    world.control.die_at = "never"
    world.died_writing += world.service.process.poll() is not None
    _end(world, signal.SIGKILL)
    yield from _gone(world)
    world.start_service(after="kill")


def terminate(world: World, rng: random.Random) -> Iterator[None]:
    """SIGTERM, then a new process."""
    _end(world, signal.SIGTERM)
    yield from _gone(world)
    yield from _pause(rng.uniform(0.0, 0.5))
    world.start_service(after="terminate")


def stop(world: World, rng: random.Random) -> Iterator[None]:
    """SIGSTOP: a zombie, to the broker; then SIGCONT."""
    process = world.service.process
    process.send_signal(signal.SIGSTOP)
    yield from _pause(min(rng.choice(_STOPS_S), world.longest_stop_s))
    process.send_signal(signal.SIGCONT)


def fill_disk(world: World, rng: random.Random) -> Iterator[None]:
    """No more room for the state, for a while; it must be told of, and end by itself."""
    pid = world.service.process.pid
    world.disk.fill(pid)
    yield from _pause(rng.uniform(0.5, 2.0))
    world.disk.free(pid)


def kill_on_full_disk(world: World, rng: random.Random) -> Iterator[None]:
    """SIGKILL while nothing can be written; then a new process, with room."""
    pid = world.service.process.pid
    world.disk.fill(pid)
    yield from _pause(rng.uniform(0.3, 0.6))
    _end(world, signal.SIGKILL)
    yield from _gone(world)
    world.disk.free(pid)
    world.start_service(after="kill")


def step_clock(world: World, rng: random.Random) -> Iterator[None]:
    """The wall clock leaps by an hour, and stays there; half the time a new process finds it so."""
    world.control.clock_offset_ns += rng.choice([-_HOUR_NS, _HOUR_NS])
    yield from _pause(rng.uniform(0.0, 0.5))
    if rng.random() < 0.5:
        yield from (kill if rng.random() < 0.5 else terminate)(world, rng)


def restart_broker(world: World, rng: random.Random) -> Iterator[None]:
    """SIGTERM to the broker, which saves what it holds; then a new one."""
    world.disturb_link()
    world.broker.stop()
    yield from _pause(rng.uniform(0.0, 1.0))
    world.broker.start()
    world.mend_link()


def cut_cable(world: World, rng: random.Random) -> Iterator[None]:
    """Nothing passes between service and broker, in one direction or both, and nobody is told; then all, or an end."""
    world.disturb_link()
    world.cable.stall(rng.choice([DIRECTIONS, DIRECTIONS[:1], DIRECTIONS[1:]]))
    yield from _pause(rng.choice([0.3, 1.0, 3.0, 8.0]))
    if rng.random() < 0.5:
        world.cable.heal()
    else:
        world.cable.cut()
    world.mend_link()


def lose_answers(world: World, rng: random.Random) -> Iterator[None]:
    """What the service acknowledges and publishes is lost on the way, while messages reach it; then an end."""
    world.disturb_link()
    world.cable.stall(DIRECTIONS[:1])
    yield from _pause(rng.uniform(0.3, 0.6))
    world.cable.cut()
    world.mend_link()


def kill_both(world: World, rng: random.Random) -> Iterator[None]:
    """Service and broker end at once, one by SIGKILL, the other by SIGTERM."""
    _end(world, signal.SIGKILL)
    world.disturb_link()
    world.broker.stop()
    yield from _gone(world)
    yield from _pause(rng.uniform(0.0, 0.5))
    service_first = rng.random() < 0.5
    if service_first:
        world.start_service()
        yield from _pause(rng.uniform(0.0, 0.3))
    world.broker.start()
    world.mend_link()
    if not service_first:
        yield from _pause(rng.uniform(0.0, 0.3))
        world.start_service()


SERVICE_FAULTS: Final[tuple[Fault, ...]] = (
    kill,
    kill_writing,
    kill_on_full_disk,
    terminate,
    stop,
    fill_disk,
    step_clock,
)
LINK_FAULTS: Final[tuple[Fault, ...]] = (restart_broker, cut_cable, lose_answers)


def _end(world: World, number: signal.Signals) -> None:
    world.down = True
    if world.service.process.poll() is None:
        world.service.process.send_signal(number)


def _gone(world: World) -> Iterator[None]:
    """Wait until the process has ended; one that does not is a finding, and killed."""
    process = world.service.process
    yield from _until(lambda: process.poll() is not None, within_s=_EXIT_WITHIN_S)
    if process.poll() is None:
        world.problems.append("the service does not end after SIGTERM")
        world.service.kill()


def _pause(seconds: float) -> Iterator[None]:
    yield from _until(lambda: False, within_s=seconds)


def _until(condition: Callable[[], bool], *, within_s: float) -> Iterator[None]:
    deadline_s = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline_s:
        yield
