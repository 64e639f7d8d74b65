"""When messages are acknowledged, and which of those that come again are known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streamer.bundle import ModelBundle
from streamer.durability.exactly_once import ExactlyOnce
from streamer.durability.store import StateStore
from streamer.metrics import Metrics
from streamer.mqtt.connection import Outgoing
from streamer.outbox import Outbox
from streamer.recognizer import Recognizer
from streamer.session import Session
from streamer.watches import Limits
from streamer.wire.payload import Message, encode_cbor
from tests.bundles import START_NS, make_bundle
from tests.motion import still


@pytest.fixture(scope="module")
def posture(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return make_bundle(tmp_path_factory.mktemp("posture"))


class Acknowledged(Session):
    """A session that only notes what it is to acknowledge."""

    resumed = True

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def acknowledge_through(self, number: int) -> None:
        self.numbers.append(number)


@asynccontextmanager
async def delivering(folder: Path, bundle: ModelBundle) -> AsyncIterator[tuple[ExactlyOnce, Outbox, Acknowledged]]:
    metrics = Metrics(activities=[], model="test", model_digest=bundle.digest)
    store = StateStore(folder, model_digest=bundle.digest, workers=1, metrics=metrics)
    outbox, session = Outbox(limit=100), Acknowledged()
    delivery = ExactlyOnce(Recognizer(bundle, limits=Limits()), store, outbox, metrics, workers=1)
    try:
        await delivery.recover()
        delivery.connected(session, mqtt_5=True)
        yield delivery, outbox, session
    finally:
        await store.close()


def message(second: int) -> Message:
    return Message("har/v1/wrist/imu", encode_cbor(still("lying", 1.0, start_s=second)))


async def test_a_message_is_acknowledged_once_it_is_on_the_disk_and_its_events_are_out(
    tmp_path: Path, posture: ModelBundle
) -> None:
    async with delivering(tmp_path, posture) as (delivery, outbox, session):
        for number in (1, 2):
            _, record = delivery.run_call(START_NS, 0, [message(number)])
            outbox.post(record, Outgoing("event", b""))
            delivery.worked_off(number, [message(number)])
        outbox.confirm(1)
        delivery.settle()
        assert session.numbers == []
        await delivery.flush()
        assert session.numbers == [1]
        outbox.confirm(1)
        delivery.settle()
        assert session.numbers == [1, 2]


async def test_what_comes_again_is_known_by_itself_until_something_new_comes(
    tmp_path: Path, posture: ModelBundle
) -> None:
    async with delivering(tmp_path, posture) as (delivery, _, _):
        delivery.run_call(START_NS, 0, [message(1)])
        delivery.worked_off(1, [message(1)])
        delivery.disconnected([message(2)])
        known = [delivery.is_repeat(message(number)) for number in (1, 1, 2, 3)]
        assert known == [True, False, True, False]
        # It was brought again and the line broke again before it could be acknowledged.
        delivery.worked_off(4, [message(1)])
        delivery.disconnected([])
        assert delivery.is_repeat(message(1))
        delivery.disconnected([])
        delivery.end_repeats()
        assert not delivery.is_repeat(message(1))


@pytest.mark.parametrize("is_killed", [True, False])
async def test_what_comes_again_after_a_restart_is_known(
    tmp_path: Path, posture: ModelBundle, *, is_killed: bool
) -> None:
    async with delivering(tmp_path, posture) as (delivery, outbox, _):
        _, record = delivery.run_call(START_NS, 0, [message(1)])
        outbox.post(record, Outgoing("event", b""))
        delivery.worked_off(1, [message(1)])
        await (delivery.flush() if is_killed else delivery.close(START_NS))
    async with delivering(tmp_path, posture) as (delivery, outbox, _):
        # The broker is away, too: an attempt to reach it must not make this forgotten.
        delivery.disconnected([])
        assert [delivery.is_repeat(message(number)) for number in (1, 2)] == [True, False]


async def test_a_like_message_of_another_watch_is_another_message(tmp_path: Path, posture: ModelBundle) -> None:
    async with delivering(tmp_path, posture) as (delivery, _, _):
        names = [f"{'w' * 63}{end}" for end in "ab"]
        one, other = (Message(f"har/v1/{name}/imu", message(1).payload) for name in names)
        delivery.disconnected([one])
        assert [delivery.is_repeat(other), delivery.is_repeat(one)] == [False, True]
