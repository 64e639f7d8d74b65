"""Faults do what they say to message sequences, and the same seed does the same."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.faults import drop, duplicate, garbage, jitter, parse_fault, reorder
from streamer.errors import ConfigError, PayloadError
from streamer.imu import ImuBatch
from streamer.wire.payload import decode


def batches(count: int = 1000) -> list[ImuBatch]:
    names = ("a", "b")
    return [
        ImuBatch(names[index % 2], np.array([index * 1000, index * 1000 + 500]), np.ones((2, 3)), None, seq=index)
        for index in range(count)
    ]


def numbers(sequence: list[ImuBatch]) -> list[int]:
    return [batch.seq for batch in sequence if batch.seq is not None]


def test_drop_loses_about_its_share_and_keeps_the_order() -> None:
    kept = numbers(list(drop(batches(), np.random.default_rng(1), share=0.2)))
    assert kept == sorted(set(kept))
    # Three standard deviations of a binomial of 1000 at 0.2.
    assert abs(len(kept) - 800) < 3 * np.sqrt(1000 * 0.2 * 0.8)


def test_duplicate_sends_a_message_again_at_once() -> None:
    sent = numbers(list(duplicate(batches(), np.random.default_rng(1), share=0.1)))
    assert sent == sorted(sent)
    assert set(sent) == set(range(1000))
    assert 1050 < len(sent) < 1150


def test_reorder_swaps_neighbours_of_a_device_and_loses_nothing() -> None:
    sent = list(reorder(batches(), np.random.default_rng(1), share=0.2))
    assert sorted(numbers(sent)) == list(range(1000))
    for name in "ab":
        own = numbers([batch for batch in sent if batch.device_id == name])
        assert own != sorted(own)
        assert max(abs(a - b) for a, b in zip(own, sorted(own), strict=True)) == 2


def test_jitter_moves_times_within_bounds_and_leaves_values_alone() -> None:
    (before,) = batches(1)
    (after,) = jitter([before], np.random.default_rng(1), sigma_s=0.001)
    assert (np.abs(after.t_ns - before.t_ns) <= 3_000_000).all()
    assert (np.diff(after.t_ns) >= 0).all()
    assert after.acc is before.acc


def test_garbage_is_always_refused() -> None:
    rng = np.random.default_rng(1)
    (batch,) = batches(1)
    for _ in range(500):
        with pytest.raises(PayloadError):
            decode("a", garbage(batch, rng))


@pytest.mark.parametrize("text", ["jitter=0.01", "drop=0.3", "duplicate=0.3", "reorder=0.3"])
def test_the_same_seed_gives_the_same_faults(text: str) -> None:
    first, second = (list(parse_fault(text)(batches(), np.random.default_rng(7))) for _ in range(2))
    assert numbers(first) == numbers(second)
    assert [batch.t_ns.tolist() for batch in first] == [batch.t_ns.tolist() for batch in second]
    assert [batch.t_ns.tolist() for batch in first] != [batch.t_ns.tolist() for batch in batches()]


@pytest.mark.parametrize("text", ["flood", "drop=2", "drop=much", "drop=-0.1"])
def test_a_wrong_fault_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ConfigError, match=r"fault .*expected"):
        parse_fault(text)
