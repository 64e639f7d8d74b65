"""The queue in front of the core: order, its bound in bytes, and whom it costs."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from streamer.ingress import Arrival, Ingress
from streamer.wire.payload import Message


def arrival(name: str, size: int = 1, *, qos: int = 0) -> Arrival:
    return Arrival(Message(f"har/v1/{name}/imu", b"x" * size), 0, qos)


def names(arrivals: list[Arrival]) -> list[str]:
    return [one.message.topic.split("/")[2] for one in arrivals]


def test_messages_come_out_in_the_order_they_came_in() -> None:
    ingress = Ingress(limit_bytes=100)
    for name in "abcd":
        ingress.put(arrival(name))
    assert (names(ingress.take(3)), names(ingress.take(3)), ingress.take(3)) == (["a", "b", "c"], ["d"], [])


def test_past_the_bound_the_oldest_of_qos_0_is_dropped_first() -> None:
    # queue of 40 bytes   a1 b0 c1 d0     + e1  b0 makes room
    #                     a1 c1 d0 e1     + f0  d0 makes room
    #                     a1 c1 e1 f0     + g1  f0 makes room
    #                     a1 c1 e1 g1     + h0  nothing of QoS 0 is older: a1 makes room
    #                     c1 e1 g1 h0
    ingress = Ingress(limit_bytes=40)
    for name, qos in zip("abcdefgh", (1, 0, 1, 0, 1, 0, 1, 0), strict=True):
        ingress.put(arrival(name, 10, qos=qos))
    assert names(ingress.take(10)) == ["c", "e", "g", "h"]
    assert ingress.dropped == 4


def test_message_larger_than_the_bound_is_kept_alone() -> None:
    ingress = Ingress(limit_bytes=10)
    ingress.put(arrival("small"))
    ingress.put(arrival("huge", 1000))
    assert (len(ingress), ingress.waiting_bytes, ingress.dropped) == (1, 1000, 1)
    assert names(ingress.take(5)) == ["huge"]


def test_batch_is_bounded_in_bytes_but_never_empty() -> None:
    ingress = Ingress(limit_bytes=1000)
    for name in "abc":
        ingress.put(arrival(name, 60))
    assert names(ingress.take(10, most_bytes=100)) == ["a", "b"]
    assert names(ingress.take(10, most_bytes=1)) == ["c"]


@given(
    puts=st.lists(st.tuples(st.integers(0, 50), st.sampled_from([0, 1])), max_size=60),
    takes=st.lists(st.integers(1, 5), min_size=1, max_size=20),
)
def test_every_message_is_taken_dropped_or_waiting_and_bytes_add_up(
    puts: list[tuple[int, int]], takes: list[int]
) -> None:
    ingress = Ingress(limit_bytes=100)
    taken: list[Arrival] = []
    for i, (size, qos) in enumerate(puts):
        ingress.put(arrival(f"watch-{i}", size, qos=qos))
        if i % 3 == 0:
            taken += ingress.take(takes[i % len(takes)])
        assert ingress.waiting_bytes <= 100
        assert len(taken) + ingress.dropped + len(ingress) == i + 1
    waiting = ingress.take(1000)
    numbers = [int(name.removeprefix("watch-")) for name in names(taken + waiting)]
    assert numbers == sorted(numbers)
    assert ingress.waiting_bytes == 0


async def test_waiting_ends_with_the_first_message_and_emptying_with_the_last() -> None:
    ingress = Ingress(limit_bytes=100)
    filled = asyncio.ensure_future(ingress.wait())
    await ingress.emptied()
    await asyncio.sleep(0)
    assert not filled.done()
    ingress.put(arrival("a"))
    ingress.put(arrival("b"))
    await filled
    emptied = asyncio.ensure_future(ingress.emptied())
    ingress.take(1)
    await asyncio.sleep(0)
    assert not emptied.done()
    ingress.take(1)
    await emptied


def test_qos_1_that_comes_again_is_refused_instead_of_dropped() -> None:
    # queue of 30 bytes   a1 b0 c1    + d1  b0 makes room    + e1  nothing of QoS 0 is left: refused
    #                                                        + f0  likewise: dropped
    ingress = Ingress(limit_bytes=30, keep_qos_1=True)
    taken = [ingress.put(arrival(name, 10, qos=qos)) for name, qos in zip("abcdef", (1, 0, 1, 1, 1, 0), strict=True)]
    assert (taken, names(ingress.take(10)), ingress.dropped) == ([True] * 4 + [False, True], ["a", "c", "d"], 2)


def test_the_number_of_messages_is_bounded_as_well() -> None:
    ingress = Ingress(limit_bytes=1000, limit_messages=2)
    for name in "abc":
        ingress.put(arrival(name))
    assert (names(ingress.take(10)), ingress.dropped) == (["b", "c"], 1)
