"""Nothing lost, nothing wrong, nothing out of order: the service under faults against one uninterrupted run.

`python -m tests.chaos --schedules N` runs any number of the random schedules; here are a few of each kind.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from streamer.wire.events import ActivityEvent
from tests.chaos.faults import kill, kill_writing, terminate
from tests.chaos.feed import Feed, recorded_feed
from tests.chaos.schedule import CONTROLS, SPEED, Planned, Schedule, draw, run
from tests.chaos.world import World
from tests.servers import MOSQUITTO_CONF

Oracle = dict[str, ActivityEvent]


@pytest.fixture(scope="module")
def feed() -> Feed:
    """Two seconds and a half of six watches."""
    return recorded_feed(watches=6, seconds=50.0)


@pytest.fixture(scope="module")
def oracle(feed: Feed) -> Oracle:
    """What must come of it."""
    events = feed.oracle()
    assert len({event.device for event in events.values()}) == 6
    return events


@pytest.mark.parametrize("seed", [3, 5])
def test_random_faults_change_nothing(tmp_path: Path, feed: Feed, oracle: Oracle, seed: int) -> None:
    schedule = draw(seed, duration_s=feed.due_s[-1] / SPEED)
    outcome = run(schedule, tmp_path / "world", feed, oracle, longest_stop_s=3.0)
    assert outcome.verdict.ok, f"{outcome.verdict}: {schedule}"


def test_a_process_killed_again_and_again_goes_on_within_two_seconds(
    tmp_path: Path, feed: Feed, oracle: Oracle
) -> None:
    schedule = Schedule(
        (Planned(0.0, kill, 0), Planned(0.8, kill_writing, 1), Planned(0.9, terminate, 2)), least_work_s=0.01
    )
    outcome = run(schedule, tmp_path / "world", feed, oracle)
    assert outcome.verdict.ok, outcome.verdict
    assert outcome.died_writing == 1
    assert outcome.repeats > 0
    # On a busy machine a start takes longer by itself.
    assert max(outcome.recoveries_s["kill"]) <= max(2.0, 2.0 * outcome.first_start_s)


# --- controls: a service that gets it wrong is found out -------------------------------------------------------------


def test_acknowledging_early_is_found_out(tmp_path: Path, feed: Feed, oracle: Oracle) -> None:
    schedule = CONTROLS["acknowledge-early"]
    outcome = run(schedule, tmp_path / "world", feed, oracle, patience_s=3.0, sabotage="acknowledge-early")
    assert outcome.verdict.lost
    assert not outcome.verdict.problems


def test_skipping_the_duplicate_check_is_found_out(tmp_path: Path, feed: Feed, oracle: Oracle) -> None:
    schedule = CONTROLS["skip-duplicate-check"]
    outcome = run(schedule, tmp_path / "world", feed, oracle, patience_s=3.0, sabotage="skip-duplicate-check")
    assert outcome.verdict.wrong
    assert not outcome.verdict.problems
    # Without the sabotage the same faults change nothing.
    assert run(schedule, tmp_path / "sound", feed, oracle).verdict.ok


# --- single faults, looked at closely --------------------------------------------------------------------------------


def test_nothing_is_acknowledged_while_the_disk_is_full(tmp_path: Path, feed: Feed, oracle: Oracle) -> None:
    world = World(tmp_path / "world", zip(feed.due_s, feed.messages, strict=True), f"--model={feed.model}", speed=SPEED)
    with world.running():
        world.play()
        world.require(lambda: len(world.collected.first) > 10, "events")
        world.disk.fill(world.service.process.pid)
        world.require(lambda: world.service.metric("har_state_failing") == 1, "the failure is told")
        owed = world.service.metric("har_unacknowledged_messages")
        world.require(lambda: world.service.metric("har_unacknowledged_messages") > owed + 20, "more unacknowledged")
        # What was not acknowledged comes again, to a process that starts on a full disk as to one that did not end.
        world.service.kill()
        world.disk.free(world.service.process.pid)
        world.start_service()
        world.service.wait_ready()
        world.disk.fill(world.service.process.pid)
        world.require(lambda: world.service.metric("har_state_failing") == 1, "the failure is told")
        world.disk.free(world.service.process.pid)
        world.require(lambda: world.service.metric("har_state_failing") == 0, "it recovers by itself")
        verdict = world.conclude(oracle)
    assert verdict.ok, verdict


def test_a_second_process_is_kept_out_while_the_first_is_a_zombie(tmp_path: Path, feed: Feed, oracle: Oracle) -> None:
    world = World(tmp_path / "world", zip(feed.due_s, feed.messages, strict=True), f"--model={feed.model}", speed=SPEED)
    with world.running():
        world.play()
        world.require(lambda: len(world.collected.first) > 10, "events")
        first = world.service
        first.process.send_signal(signal.SIGSTOP)
        second = world.another_service()
        world.require(lambda: second.process.poll() is not None, "the second ends")
        first.process.send_signal(signal.SIGCONT)
        verdict = world.conclude(oracle)
    assert second.process.returncode == 2
    assert f"in use by process {first.process.pid}" in second.log
    assert len(second.log.splitlines()) == 1, second.log
    assert verdict.ok, verdict


def test_workers_whose_supervisor_is_killed_leave_their_state_to_the_next(
    tmp_path: Path, feed: Feed, oracle: Oracle
) -> None:
    arguments = (f"--model={feed.model}", "--workers=2")
    world = World(tmp_path / "world", zip(feed.due_s, feed.messages, strict=True), *arguments, speed=SPEED)
    with world.running():
        world.require(lambda: world.service.log.count("subscribed") == 2, "both workers")
        world.play()
        world.require(lambda: len(world.collected.first) > 10, "events")
        pid = world.service.process.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        world.down = True
        world.service.kill()
        world.require(lambda: not any(map(is_running, workers)), "the workers end")
        world.start_service()
        verdict = world.conclude(oracle)
    assert verdict.ok, verdict


def is_running(pid: str) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_what_a_killed_broker_forgot_is_counted_and_stamped(tmp_path: Path, feed: Feed) -> None:
    #   broker    |---- saves ----------- killed X |------------------
    #   cable     |--------------| stalled       X |------------------
    #   readings  |-- a third ---|--- 4 s, lost ---|---- the rest ----
    first = next(i for i, due_s in enumerate(feed.due_s) if due_s > 15.0)
    after = next(i for i, due_s in enumerate(feed.due_s) if due_s > 19.0)
    conf = MOSQUITTO_CONF.replace("autosave_interval 1\n", "autosave_interval 3600\n")
    world = World(tmp_path / "world", (), f"--model={feed.model}", speed=SPEED, broker_conf=conf)

    def send(messages: range) -> None:
        for i in messages:
            message = feed.messages[i]
            world.watches.publish(message.topic, message.payload, message.content_type)
        world.require(lambda: not world.watches.unacknowledged, "the broker's acknowledgement")

    with world.running():
        send(range(first))
        world.require(lambda: world.service.metric("har_messages_total") == first, "processed")
        world.require(lambda: world.service.metric("har_unacknowledged_messages") == 0, "acknowledged")
        os.kill(world.broker.pid, signal.SIGUSR1)
        world.require((world.folder / "mosquitto.db").exists, "the broker's state on the disk")
        world.cable.stall()
        send(range(first, after))
        world.broker.kill()
        world.cable.cut()
        world.broker.start()
        send(range(after, len(feed.messages)))
        oracle = feed.oracle(leave_out=frozenset(range(first, after)))
        world.require(lambda: world.collected.first.keys() >= oracle.keys(), "events")
        missing = world.service.metric("har_missing_messages_total")
        gaps = world.service.metric("har_gaps_total")
        verdict = world.conclude(oracle)
    assert verdict.ok, verdict
    assert missing == after - first
    assert gaps == 6
    stamped = {event.device for event in world.collected.first.values() if event.gap_ns > 3_500_000_000}
    assert len(stamped) == 6
