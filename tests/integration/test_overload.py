"""More than the service can take: memory stays bounded, what may be lost is counted, what must not be lost is not."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.load_fleet import FIRST_SEQ, Fleet, Motion
from simulator.load_mqtt import Connection
from simulator.session import Broker
from streamer.wire import topics
from tests.chaos.feed import START_NS, recorded_feed
from tests.chaos.world import World
from tests.overload.fairness import measure
from tests.overload.outage import outage
from tests.programs import HarStream
from tests.servers import HOST, Mosquitto, wait_until

#: The least that the setting takes.
_QUEUE_BYTES = 1_000_000


def resident_bytes(service: HarStream) -> int:
    return int(Path(f"/proc/{service.process.pid}/status").read_text().split("VmRSS:", 1)[1].split()[0]) * 1024


def test_a_burst_beyond_the_queue_is_left_with_the_broker_and_nothing_is_lost(tmp_path: Path) -> None:
    feed = recorded_feed(watches=10, seconds=280.0)
    assert sum(len(message.payload) for message in feed.messages) > 2 * _QUEUE_BYTES
    arguments = (f"--model={feed.model}", f"--queue-bytes={_QUEUE_BYTES}")
    world = World(tmp_path / "world", zip(feed.due_s, feed.messages, strict=True), *arguments, speed=1e6)
    oracle = feed.oracle()
    with world.running():
        world.service.process.send_signal(signal.SIGSTOP)
        world.play()
        world.require(lambda: world.played, "all at the broker")
        world.service.process.send_signal(signal.SIGCONT)
        world.require(lambda: world.collected.first.keys() >= oracle.keys(), "events")
        assert world.service.metric("har_left_messages_total") > 0
        assert world.service.metric("har_dropped_messages_total") == 0
        assert world.service.metric("har_queue_bytes") == 0
        verdict = world.conclude(oracle)
    assert verdict.ok, verdict


def test_what_cannot_be_kept_stays_with_the_broker_past_the_receive_maximum(tmp_path: Path) -> None:
    feed = recorded_feed(watches=10, seconds=280.0, batch_s=0.1)
    assert len(feed.messages) > 25_000
    world = World(tmp_path / "world", zip(feed.due_s, feed.messages, strict=True), f"--model={feed.model}", speed=1e6)
    oracle = feed.oracle()
    with world.running():
        world.disk.fill(world.service.process.pid)
        world.play()
        world.require(lambda: world.played, "all at the broker", within_s=60)
        world.require(lambda: world.service.metric("har_messages_total") == 20_000, "the Receive Maximum")
        assert world.service.metric("har_state_failing") == 1
        # All of it comes again to a process that has room, and the rest behind it.
        world.down = True
        world.service.kill()
        world.disk.free(world.service.process.pid)
        world.start_service()
        verdict = world.conclude(oracle)
    assert verdict.ok, verdict


def test_a_burst_of_qos_0_drops_the_oldest_and_counts_them(mosquitto: Mosquitto, tmp_path: Path) -> None:
    fleet = Fleet(devices=20, rate_hz=50, batch=50, name="burst")
    motion = Motion(fleet, "cbor", qos=0)
    address = (f"--broker={HOST}", f"--port={mosquitto.port}", f"--queue-bytes={_QUEUE_BYTES}")
    service = HarStream(tmp_path, *address, output="none", state=tmp_path / "state")
    sender = Connection(Broker(HOST, mosquitto.port), "burst")
    try:
        service.wait_ready()
        before = resident_bytes(service)
        service.process.send_signal(signal.SIGSTOP)
        sent = 60_000
        for number in range(sent):
            device, count = number % fleet.devices, number // fleet.devices
            sender.unsent += motion.template(device, count).stamped(
                topics.imu(fleet.device(device)).encode(), b"", START_NS + count * fleet.period_ns, FIRST_SEQ + count
            )
        while sender.unsent:
            sender.send()
        service.process.send_signal(signal.SIGCONT)

        def accounted() -> float:
            return service.metric("har_messages_total") + service.metric("har_dropped_messages_total")

        wait_until(lambda: accounted() >= sent, "every message processed or counted as dropped", within_s=30)
        assert accounted() == sent
        assert service.metric("har_dropped_messages_total", reason="overload") > 0
        # Gaps, not disorder: the oldest went, and what was left came in its order.
        assert service.metric("har_missing_messages_total") == pytest.approx(
            service.metric("har_dropped_messages_total"), abs=fleet.devices
        )
        assert service.metric("har_late_readings_total") == 0
        assert resident_bytes(service) - before < 40 * _QUEUE_BYTES
    finally:
        sender.close()
        service.kill()


def test_a_flooding_watch_costs_the_others_nothing(start_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> None:
    fairness = measure(tmp_path, start_mosquitto(), per_s=100.0, qos=1, duration_s=9.0)
    assert fairness.flood_messages > 500
    assert fairness.alone.lost == fairness.flooded.lost == fairness.dropped == 0
    # Of a few hundred events the 99th percentile is the worst few, which on a busy machine say little below this.
    assert fairness.flooded.latency_p99_ms is not None
    assert fairness.ratio is not None
    assert fairness.ratio <= 2.0 or fairness.flooded.latency_p99_ms <= 100.0, str(fairness)


def test_an_outage_of_the_broker_is_caught_up_on_at_five_times_real_time(tmp_path: Path) -> None:
    # Longer than the silence after which an activity ends, so that it shows who was deaf and who was silent.
    catching = outage(tmp_path / "outage", watches=40, outage_s=10.0, around_s=3.0)
    assert catching.verdict.ok, catching.verdict
    assert catching.speed >= 5.0, str(catching)
