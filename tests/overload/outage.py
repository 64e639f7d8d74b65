"""A broker away for minutes while the watches gather readings, and how fast all of it is caught up on afterwards.

broker    |--- warm ---|                      |-------------------
watches   |- send -----|- gather -------------|- send it all, then on as before ---|
service   |------------|                      |- catches up -|--------------------|
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.chaos.feed import MODEL, SECOND, START_NS
from tests.chaos.world import Verdict, World
from tests.servers import MOSQUITTO_CONF
from tests.soak.churn import Churn

_SILENCE_S = 5.0
#: Watches send faster than the service takes, so that the broker holds nearly all of it: 720 MB for 500 watches and ten
#: minutes, and past its bound Mosquitto acknowledges and drops.
_BROKER_CONF = MOSQUITTO_CONF.replace("max_queued_bytes 536870912", "max_queued_bytes 4000000000")

#: What is caught up on goes through the journal within a few snapshots.
_DISK_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Catching:
    """How an outage was got over.

    Attributes:
        verdict: over all events, of before, during and after the outage.
        outage_s: how long the broker was away.
        reconnected_s: from its return until the service was there again.
        caught_up_s: from then until the last event of the outage had come.
        most_bytes: the most resident memory that the service ever had.
    """

    verdict: Verdict
    outage_s: float
    reconnected_s: float
    caught_up_s: float
    most_bytes: int

    @property
    def speed(self) -> float:
        """Readings' time caught up on per second."""
        return self.outage_s / self.caught_up_s

    def __str__(self) -> str:
        return (
            f"{self.verdict}; {self.outage_s:.0f} s caught up on in {self.caught_up_s:.1f} s, {self.speed:.1f} times "
            f"real time, {self.reconnected_s:.1f} s after the broker's return; {self.most_bytes / 1e6:.0f} MB at most"
        )


def outage(folder: Path, *, watches: int, outage_s: float, around_s: float) -> Catching:
    """Take the broker away from a fleet.

    Args:
        folder: for all files; must not exist.
        watches: how many, one message a second each.
        outage_s: how long.
        around_s: how long all is well before and after.
    """
    churn = Churn(watches, around_s + outage_s + around_s, poison=0.0)
    returns_ns = START_NS + round((around_s + outage_s) * SECOND)
    oracle = churn.oracle()
    # A watch that fell silent meanwhile is told of when it has been silent for a while after the broker's return.
    missed = {e.id for e in oracle.values() if e.decided_ns <= returns_ns - 2 * SECOND and e.reason != "silence"}
    arguments = (f"--model={MODEL}", f"--silence={_SILENCE_S}")
    world = World(folder, churn.messages(), *arguments, speed=1.0, broker_conf=_BROKER_CONF, disk_bytes=_DISK_BYTES)
    with world.running():
        world.play()
        world.until(lambda: False, within_s=around_s)
        world.broker.stop()
        world.until(lambda: world.elapsed_s >= around_s + outage_s, within_s=outage_s + 1)
        world.broker.start()
        returned_s = world.elapsed_s
        world.require(lambda: world.service.metric("har_connected") == 1, "connected", within_s=60)
        connected_s = world.elapsed_s
        world.expect(missed)
        world.require(lambda: not world.awaited, "events of the outage", within_s=outage_s + 60)
        caught_up_s = world.elapsed_s
        status = Path(f"/proc/{world.service.process.pid}/status").read_text()
        most_kb = int(status.split("VmHWM:", 1)[1].split()[0])
        verdict = world.conclude(oracle, within_s=around_s + _SILENCE_S + 30)
    return Catching(verdict, outage_s, connected_s - returned_s, caught_up_s - connected_s, most_kb * 1024)
