"""A soak: the service under a churning fleet, watched from outside."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from tests.chaos.feed import MODEL
from tests.chaos.world import Verdict, World
from tests.soak.churn import Churn
from tests.soak.trend import Trend, trend

_SILENCE_S: Final = 5
_EVICT_AFTER_S: Final = 10
#: Stalls during the warm-up take this long.
_STALL_S: Final = 3.0
#: Share of its size by which memory may grow in a run: the most that a backlog ever took is not given back, and a busy
#: machine brings a larger one now and then. 200 bytes a message would be more in three minutes.
_NOISE_SHARE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Sample:
    """The service's size at a moment.

    Attributes:
        at_s: since the watches began.
        rss_bytes: resident memory.
        files: open file descriptors.
        threads: threads.
        tasks: asyncio tasks and futures that have not ended.
    """

    at_s: float
    rss_bytes: int
    files: int
    threads: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a soak showed.

    Attributes:
        verdict: of the events.
        events: how many there were.
        refused, rubbish: messages that the service refused, those among them that came again included, and those
            that were rubbish.
        reconnects: of the service.
        samples: all of them.
        warm_s: when the warm-up was over.
    """

    verdict: Verdict
    events: int
    refused: int
    rubbish: int
    reconnects: int
    samples: Sequence[Sample] = field(repr=False)
    warm_s: float

    @property
    def warm(self) -> Sequence[Sample]:
        """The samples after the warm-up."""
        return [sample for sample in self.samples if sample.at_s >= self.warm_s]

    @property
    def memory(self) -> Trend:
        """Resident memory after the warm-up."""
        return trend([s.at_s for s in self.warm], [s.rss_bytes for s in self.warm])

    @property
    def growth(self) -> list[str]:
        """What grew, in words; empty when nothing did.

        Memory: the slope is above zero at 99 % and adds up to 2 % of the whole. Descriptors, threads
        and tasks come and go with connections and messages; what counts are the medians of the first and last third.
        """
        warm, memory = self.warm, self.memory
        found = []
        if memory.grows and memory.slope * memory.over > _NOISE_SHARE * memory.level:
            found.append(f"resident memory, by {memory.slope * 60 / 1024:.0f} kB a minute")
        third = len(warm) // 3
        kinds: list[tuple[str, Callable[[Sample], int], float]] = [
            ("file descriptors", lambda s: s.files, 0.0),
            ("threads", lambda s: s.threads, 0.0),
            # What is under way at the moment of the look, and what of ended connections was not collected yet.
            ("tasks", lambda s: s.tasks, 5.0),
        ]
        for what, of, noise in kinds:
            before, after = median(map(of, warm[:third])), median(map(of, warm[-third:]))
            if after > before + noise:
                found.append(f"{what}, from {before:g} to {after:g}")
        return found

    def __str__(self) -> str:
        memory, warm = self.memory, self.warm
        return "\n".join(
            [
                f"events     {self.events} of the oracle's: {self.verdict}",
                f"rubbish    {self.rubbish} messages, {self.refused} refused",
                f"reconnects {self.reconnects}",
                (
                    f"memory     {memory.level / 1e6:.1f} MB, {memory.slope * 60 / 1024:+.1f} kB a minute "
                    f"(99 %: {memory.low * 60 / 1024:+.1f} to {memory.high * 60 / 1024:+.1f}) "
                    f"over {memory.over:.0f} s after {self.warm_s:.0f} s of warming up"
                ),
                (
                    f"files      {warm[0].files} to {warm[-1].files}, threads {warm[0].threads} to {warm[-1].threads}, "
                    f"tasks {warm[0].tasks} to {warm[-1].tasks}"
                ),
                f"growth     {'; '.join(self.growth) or 'none'}",
            ]
        )


def soak(
    folder: Path,
    churn: Churn,
    *,
    warm_s: float,
    reconnect_s: float = 60.0,
    sample_s: float = 1.0,
    stalls: int = 5,
    sabotage: str | None = None,
) -> Report:
    """Run the service under the fleet for as long as it sends.

    During the warm-up it is stopped for seconds: memory that a backlog once took is not given back, and a
    busy machine makes backlogs at any time, which would look like growth.

    Args:
        folder: for all files; must not exist.
        churn: the fleet.
        warm_s: samples before this are not looked at.
        reconnect_s: the service, the watches and the reader lose their connections in turn, one each third of this.
        sample_s: between samples.
        stalls: how often the service is stopped while it warms up.
        sabotage: what is wrong with the service, see tests.chaos.sabotage.
    """
    world = World(
        folder,
        churn.messages(),
        f"--model={MODEL}",
        f"--silence={_SILENCE_S}",
        f"--evict-after={_EVICT_AFTER_S}",
        speed=1.0,
        sabotage=sabotage,
    )
    samples: list[Sample] = []
    with world.running():
        losses = [world.cable.cut, world.watches.drop, world.reader.drop]
        next_loss_s, next_sample_s = reconnect_s / 3, 0.0
        world.play()
        stalls_s = [warm_s * (i + 0.5) / (stalls + 1) for i in range(stalls)]
        while not world.played or world.elapsed_s < churn.seconds:
            world.step()
            if stalls_s and world.elapsed_s >= stalls_s[0]:
                stalls_s.pop(0)
                _stall(world)
            if world.elapsed_s >= next_loss_s:
                losses.append(losses.pop(0))
                losses[-1]()
                next_loss_s += reconnect_s / 3
            if world.elapsed_s >= next_sample_s:
                samples.append(_sample(world))
                next_sample_s += sample_s
        refused = round(world.service.metric("har_rejects_total"))
        reconnects = round(world.service.metric("har_reconnects_total"))
        oracle = churn.oracle()
        verdict = world.conclude(oracle, within_s=_SILENCE_S + 20.0)
    return Report(verdict, len(oracle), refused, churn.rubbish(), reconnects, samples, warm_s)


def _stall(world: World) -> None:
    """Let work pile up: buffers grow to what a busy machine would make of them later."""
    world.service.process.send_signal(signal.SIGSTOP)
    world.until(lambda: False, within_s=_STALL_S)
    world.service.process.send_signal(signal.SIGCONT)


def _sample(world: World) -> Sample:
    process = Path(f"/proc/{world.service.process.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Sample(
        world.elapsed_s,
        int(status["VmRSS"].split()[0]) * 1024,
        len(list((process / "fd").iterdir())),
        int(status["Threads"]),
        world.control.ask_tasks(meanwhile=world.step),
    )
