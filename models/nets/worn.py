"""Does anybody wear this? A small look at each window, beside the network that tells activities.

A network that only ever saw worn watches calls one on a table sitting or lying, and a machine's vibration walking.
Taught in the same network, "none of these" costs it a point on what it is for. So the question is asked apart, of what
tells a living wearer from a sensor's own noise, a motor, or a broken axis: how strong motion is in each band, how
evenly it is spread over axes, frequencies and time, and whether gravity is one. The answer multiplies the
probabilities; what is left of 1 is "none of these".

    windows ─ activities ──────────── softmax ─ x ─ probabilities
            ─ statistics ─ 32 ─ 1 ─ sigmoid ─┘

Of the worn watches that it learns from some are turned and some read by other sensors (`windows.sensors.other_sensor`),
so that it does not come to know the noise of the one device that a data set was recorded with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Motion slower than this counts as slow, s.
SMOOTH_S: Final = 0.16
#: Motion is told by its strength in parts of a window of this length, too, s.
BLOCK_S: Final = 0.5
HIDDEN: Final = 32
#: Added to a power before its root, which would magnify how a sum of nothing was rounded; a twentieth of the power of
#: the least noise that an accelerometer has, in g².
QUIET: Final = 1e-8
#: Bands of the spectrum, evenly spaced by the logarithm of frequency.
BANDS: Final = 7
_EPOCHS: Final = 25
_BATCH_SIZE: Final = 512
_LEARNING_RATE: Final = 1e-2
_WEIGHT_DECAY: Final = 1e-2
#: What it costs to take a wearer away, where to believe in one costs 1.
COST_OF_DOUBT: Final = 3.0
#: Statistics of each sensor, and of gravity.
_OF_SENSOR, _OF_GRAVITY = 18 + BANDS, 3


class Worn(nn.Module):
    """The probability that somebody wears the watch, from statistics of a window.

    Attributes:
        sensors: for each sensor the places of its three channels: acceleration without gravity, then angular rate.
        gravity: places of the channels whose means tell gravity.
        window_len: samples of a window.
        smooth_len: samples that are averaged for slow motion.
        block_len: samples of a part of a window.
        hidden, last: layers; `hidden` takes the statistics as they are.
    """

    def __init__(
        self,
        sensors: Sequence[Sequence[int]],
        gravity: Sequence[int],
        *,
        window_len: int,
        smooth_len: int,
        block_len: int,
    ) -> None:
        super().__init__()
        self.sensors = tuple(tuple(one) for one in sensors)
        self.gravity = tuple(gravity)
        self.window_len = window_len
        self.smooth_len = smooth_len
        self.block_len = block_len
        self.hidden = nn.Linear(_OF_SENSOR * len(self.sensors) + _OF_GRAVITY, HIDDEN)
        self.last = nn.Linear(HIDDEN, 1)

    @classmethod
    def of(cls, channels: Sequence[str], *, rate_hz: int, window_len: int) -> Worn:
        """An untaught one for windows of these channels."""
        gravity, motion = posture_channels(channels)
        gyro = tuple(place for place, name in enumerate(channels) if name.startswith("gyro"))
        return cls(
            [motion, gyro] if gyro else [motion],
            gravity,
            window_len=window_len,
            smooth_len=max(2, round(SMOOTH_S * rate_hz)),
            block_len=max(4, round(BLOCK_S * rate_hz)),
        )

    def statistics(self, windows: Tensor) -> Tensor:
        """(batch, statistics) of windows (batch, window_len, channels), in the spec's units.

        Of each sensor: the least, mean and largest over its axes of the strength of all, of fast and of slow motion,
        and its peak; of all axes together the strength in each band of the spectrum, over how many frequencies it
        spreads, the least, mean and largest strength of a part of the window and how much they differ, and how much of
        the power comes at once. Of the acceleration the size and least component of gravity, and how far the rest is
        from 0 in the mean.
        """
        series = windows.transpose(1, 2)
        x = series[:, [place for places in self.sensors for place in places]]
        mean = x.mean(2, keepdim=True)
        off = x - mean
        squares = off.square()
        fast, slow = x[:, :, 1:] - x[:, :, :-1], functional.avg_pool1d(off, self.smooth_len)
        by_axis = [squares.mean(2), fast.square().mean(2), slow.square().mean(2)]
        strength = _strength(self._by_sensor(torch.stack(by_axis, 2)))
        found = [strength.amin(2), strength.mean(2), strength.amax(2)]

        cosines, sines = fourier(self.window_len)
        spectrum = self._by_sensor((off @ cosines).square() + (off @ sines).square()).mean(2)
        peak = self._by_sensor(squares).amax((2, 3))[:, :, None]
        found.append(_strength(torch.cat([peak, spectrum @ bands(self.window_len)], 2)))
        relative = _relative(spectrum)
        found += [_mean(relative.sqrt()), _root_mean_square(relative), relative.amax(2, keepdim=True).sqrt()]

        averages = functional.avg_pool1d(off, self.block_len)
        parts = self._by_sensor(functional.avg_pool1d(squares, self.block_len) - averages.square()).mean(2)
        strength = _strength(torch.relu(parts))
        found += [strength.amin(2, keepdim=True), _mean(strength), strength.amax(2, keepdim=True)]
        found.append(_root_mean_square(strength - _mean(strength)))
        found.append(_root_mean_square(_relative(self._by_sensor(squares).mean(2))))

        gravity = series[:, list(self.gravity)].mean(2)
        of_gravity = [gravity.square().mean(1).sqrt(), gravity.abs().amin(1), mean[:, :3, 0].abs().amax(1)]
        return torch.cat([torch.cat(found, 2).flatten(1), torch.stack(of_gravity, 1)], 1)

    def _by_sensor(self, x: Tensor) -> Tensor:
        """(batch, sensors, axes, ...) of x (batch, sensors x axes, ...)."""
        return x.reshape(len(x), len(self.sensors), 3, -1)

    def logits(self, statistics: Tensor) -> Tensor:
        """(batch,) of (batch, statistics)."""
        return cast("Tensor", self.last(torch.relu(self.hidden(statistics))))[:, 0]

    def forward(self, windows: Tensor) -> Tensor:
        """(batch,) probability of a wearer, of windows (batch, window_len, channels)."""
        return torch.sigmoid(self.logits(self.statistics(windows)))

    def __call__(self, windows: Tensor) -> Tensor:
        """As `forward`."""
        return cast("Tensor", super().__call__(windows))


def fit_worn(
    worn: Worn,
    wearers: Tensor,
    nobody: Tensor,
    *,
    cost_of_doubt: float = COST_OF_DOUBT,
    generator: torch.Generator,
) -> Worn:
    """The same, taught; the two kinds count alike, however many there are of each.

    Args:
        worn: as `Worn.of` makes it.
        wearers: (n, window_len, channels) windows of worn watches, varied.
        nobody: (m, window_len, channels) windows of watches that nobody wears.
        cost_of_doubt: of taking a wearer away, where to believe in one costs 1.
        generator: of the order.
    """
    with torch.no_grad():
        x = torch.cat([torch.cat([worn.statistics(part) for part in torch.split(w, 1024)]) for w in (wearers, nobody)])
    is_worn = torch.cat([torch.ones(len(wearers)), torch.zeros(len(nobody))])
    weights = torch.where(is_worn > 0, cost_of_doubt, len(wearers) / len(nobody))
    mean, scale = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / scale
    steps = _EPOCHS * -(-len(x) // _BATCH_SIZE)
    optimizer = torch.optim.AdamW(worn.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    for _ in range(_EPOCHS):
        for rows in torch.split(torch.randperm(len(x), generator=generator), _BATCH_SIZE):
            loss = functional.binary_cross_entropy_with_logits(
                worn.logits(x[rows]), is_worn[rows], weight=weights[rows]
            )
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            rate.step()
    with torch.no_grad():
        # So that it takes statistics as they are.
        worn.hidden.weight.div_(scale)
        worn.hidden.bias.sub_(worn.hidden.weight @ mean)
    return worn.requires_grad_(requires_grad=False)


def fourier(window_len: int) -> tuple[Tensor, Tensor]:
    """(window_len, window_len // 2) float32 cosines and sines, under a Hann window, for a spectrum without its mean.

    Their squares' sum is the power at 1, 2, ... cycles in a window, in units of the samples' power.
    """
    steps = torch.arange(window_len, dtype=torch.float32)[:, None]
    angles = steps * torch.arange(1, window_len // 2 + 1, dtype=torch.float32) * (2 * math.pi / window_len)
    hann = (0.5 - 0.5 * torch.cos(steps * (2 * math.pi / window_len))) / math.sqrt(window_len)
    return torch.cos(angles) * hann, torch.sin(angles) * hann


def bands(window_len: int) -> Tensor:
    """(window_len // 2, BANDS) float32: what takes the mean of a spectrum in each band."""
    n = window_len // 2
    edges = [round((n + 1) ** (band / BANDS)) - 1 for band in range(BANDS + 1)]
    means = torch.zeros(n, BANDS)
    for band, (first, end) in enumerate(pairwise(edges)):
        means[first : max(end, first + 1), band] = 1.0 / max(end - first, 1)
    return means


def posture_channels(channels: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which of a spec's channels tell where down is, and which how strongly the device moves.

    The accelerometer's only: a gyroscope may be missing.

    >>> posture_channels(("body_acc_x", "gyro_x", "gravity_x"))
    ((2,), (0,))
    """

    def of(*kinds: str) -> tuple[int, ...]:
        for kind in kinds:
            found = tuple(i for i, channel in enumerate(channels) if channel.startswith(kind))
            if found:
                return found
        raise ValueError(f"channels are {', '.join(channels)}; expected some of {', '.join(kinds)}")

    return of("gravity", "total_acc"), of("body_acc", "total_acc")


def _mean(x: Tensor) -> Tensor:
    return x.mean(2, keepdim=True)


def _root_mean_square(x: Tensor) -> Tensor:
    return _mean(x.square()).sqrt()


def _relative(power: Tensor) -> Tensor:
    """Power over its mean along the last axis."""
    return (power + QUIET) / _mean(power + QUIET)


def _strength(power: Tensor) -> Tensor:
    """The eighth root: a sensor's noise and a run are then about as far apart as their names."""
    return (power + QUIET).sqrt().sqrt().sqrt()
