"""What tells a wearer from a machine of the same strength: how motion is spread over frequencies and over time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from models.nets.worn import Worn, fit_worn
from models.nets.worn_graph import worn_nodes, worn_of

CHANNELS = ("body_acc_x", "body_acc_y", "body_acc_z", "gravity_x", "gravity_y", "gravity_z")
RATE_HZ, WINDOW_LEN = 20, 100
Motion = NDArray[np.float64]
Make = Callable[[np.random.Generator], Motion]


def windows(motion: Make, n: int, seed: int) -> Tensor:
    """(n, WINDOW_LEN, 6) of motion of one strength in each axis about gravity along z, in g."""
    rng = np.random.default_rng(seed)
    made = np.zeros((n, WINDOW_LEN, 6), np.float32)
    for window in made:
        own = motion(rng)
        own -= own.mean(axis=0)
        window[:, :3] = 0.3 * own / own.std(axis=0)
        window[:, 5] = 1.0
    return torch.from_numpy(made)


def of_many_frequencies(rng: np.random.Generator) -> Motion:
    return tones(rng, np.arange(4.0, 6.0, 0.2))


def of_a_few(rng: np.random.Generator) -> Motion:
    return tones(rng, rng.uniform(4.0, 6.0, 3))


def tones(rng: np.random.Generator, frequencies_hz: Motion) -> Motion:
    t_s = np.arange(WINDOW_LEN)[:, None, None] / RATE_HZ
    waves = np.sin(2 * np.pi * (frequencies_hz[:, None] * t_s + rng.uniform(size=(len(frequencies_hz), 3))))
    total: Motion = waves.sum(axis=1)
    return total


def steady(rng: np.random.Generator) -> Motion:
    return rng.standard_normal((WINDOW_LEN, 3))


def now_and_then(rng: np.random.Generator) -> Motion:
    own = rng.standard_normal((WINDOW_LEN, 3))
    own[rng.integers(10, 50) :] *= 0.3
    return np.roll(own, rng.integers(WINDOW_LEN), axis=0)


@pytest.mark.parametrize(
    ("worn", "nobody"), [(of_many_frequencies, of_a_few), (now_and_then, steady)], ids=["frequencies", "time"]
)
def test_motion_as_strong_is_told_by_how_it_is_spread(
    worn: Make,
    nobody: Make,
) -> None:
    torch.manual_seed(0)
    asked = fit_worn(
        Worn.of(CHANNELS, rate_hz=RATE_HZ, window_len=WINDOW_LEN),
        windows(worn, 600, seed=1),
        windows(nobody, 600, seed=2),
        cost_of_doubt=1.0,
        generator=torch.Generator().manual_seed(0),
    )
    assert (asked(windows(worn, 200, seed=3)) > 0.5).float().mean() > 0.95
    assert (asked(windows(nobody, 200, seed=4)) < 0.5).float().mean() > 0.95


def test_what_another_release_wrote_is_told_from_faults() -> None:
    graph, _ = worn_nodes(Worn.of(CHANNELS, rate_hz=RATE_HZ, window_len=WINDOW_LEN), "windows")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.constants}
    assert worn_of(graph.nodes, constants).window_len == WINDOW_LEN
    # Up to version 3 of the default model there were no parts of a window.
    of_before = [node for node in graph.nodes if node.op_type != "AveragePool"]
    with pytest.raises(ValueError, match="as another release wrote it"):
        worn_of(of_before, constants)
