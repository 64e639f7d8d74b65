"""Fitting a recipe's network to its windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.fitting.epoch import Epoch
from models.nets.networks import Network, build
from models.nets.worn import Worn, fit_worn
from models.recipes import Recipe
from models.scoring.evaluation import score
from models.windows.augment import WindowVarier, WindowVariety, varied
from models.windows.data import LabelledWindows, Sitting, joined, labelled_windows, restrict, sittings_of
from models.windows.sensors import other_sensor
from models.windows.unworn import unworn_windows
from simulator.datasets import uci_har
from streamer.errors import ConfigError

#: Windows of worn watches that are looked at to tell them from others, at most.
_WEARERS: Final = 40_000
#: Generated streams of each kind for each recording: many short ones, since each is of one table, one machine.
_UNWORN_STREAMS: Final = 4


def training_sittings(recipe: Recipe) -> list[Sitting]:
    """The recordings that a recipe may learn from: never those of an official test split.

    Raises:
        RecordingError: the data set is missing or not in its published form.
    """
    sittings = sittings_of(recipe.dataset)
    return [s for s in sittings if s.group not in uci_har.TEST_SUBJECTS] if recipe.official_split else sittings


def training_windows(recipe: Recipe, sittings: Iterable[Sitting], *, seed: int) -> LabelledWindows:
    """The windows of all of a recipe's passes over the recordings."""
    sittings = list(sittings)
    parts = []
    for number, one in enumerate(recipe.passes):
        streams = varied(sittings, one.variety, seed=1000 * seed + number)
        parts.append(
            labelled_windows(streams, recipe.spec, recipe.labels, hop_len=one.hop_len, passages=recipe.passages)
        )
    return joined(parts)


def make_network(
    recipe: Recipe,
    sittings: Iterable[Sitting],
    train: LabelledWindows,
    held_out: LabelledWindows | None = None,
    *,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> tuple[Network, list[Epoch]]:
    """`fit`, and where the recipe says so the network taught what nobody wears.

    Args:
        recipe: what to make.
        sittings: the recordings that the training windows are of.
        train: their windows, as `training_windows` makes them.
        held_out: windows that are scored on the way and decide nothing.
        seed: of everything that is drawn.
        on_epoch: takes the epochs.
    """
    network, history = fit(recipe, train, held_out, seed=seed, on_epoch=on_epoch)
    if recipe.unworn_s:
        network.worn = _taught_worn(recipe, sittings, train, seed=seed)
    return network, history


def _taught_worn(recipe: Recipe, sittings: Iterable[Sitting], train: LabelledWindows, *, seed: int) -> Worn:
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng([seed, 1])
    parts = []
    for number, sitting in enumerate(sittings):
        recording, length_ns = sitting.recording, round(recipe.unworn_s * 1e9)
        start_ns = recording.start_ns + int(rng.uniform() * max(recording.end_ns - recording.start_ns - length_ns, 0))
        # A part of it gets a dead axis, the part of every second one in another sensor.
        part = restrict(recording, start_ns, start_ns + length_ns)
        own = Sitting(sitting.group, other_sensor(part, rng) if number % 2 else part)
        parts.append(
            unworn_windows(
                recipe.spec,
                [own],
                seed=1000 * seed + number,
                count=_UNWORN_STREAMS,
                seconds=recipe.unworn_s,
                min_rate_hz=recipe.min_feed_rate_hz,
            )
        )
    chosen = torch.randperm(len(train), generator=generator)[:_WEARERS]
    wearers, nobody = torch.from_numpy(train.samples)[chosen], torch.from_numpy(np.concatenate(parts))
    # Worn turned; what nobody wears lies in any orientation as it is, and a dead axis is one of the sensor's own.
    scale = torch.ones(len(recipe.spec.channels))
    turned = WindowVarier(recipe.variety, recipe.spec.channels, scale)
    lacking = WindowVarier(WindowVariety(without_gyro=recipe.variety.without_gyro), recipe.spec.channels, scale)
    torch.manual_seed(seed)
    worn = Worn.of(recipe.spec.channels, rate_hz=recipe.spec.rate_hz, window_len=recipe.spec.window_len)
    return fit_worn(
        worn,
        torch.cat([wearers, turned(wearers, generator)]),
        torch.cat([nobody, lacking(nobody, generator)]),
        cost_of_doubt=recipe.cost_of_doubt,
        generator=generator,
    )


def fit(
    recipe: Recipe,
    train: LabelledWindows,
    held_out: LabelledWindows | None = None,
    *,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> tuple[Network, list[Epoch]]:
    """A network fitted for the recipe's number of epochs, in evaluation mode on the CPU, and its history.

    The held-out windows are scored on the way and decide nothing. Uses a GPU if there is one.

    Raises:
        ConfigError: there are no training windows.
    """
    if not len(train):
        raise ConfigError(f"recipe {recipe.name} has no training windows; expected labelled recordings")
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    schedule = recipe.schedule
    samples, targets = torch.from_numpy(train.samples), torch.from_numpy(train.targets)
    network = build(recipe.network, channels=samples.shape[2], outputs=len(recipe.labels) + len(recipe.passages))
    network.scale.copy_(triple_scale(samples))
    network.to(device)
    vary = WindowVarier(recipe.variety, recipe.spec.channels, network.scale)
    loss_of = nn.CrossEntropyLoss(label_smoothing=schedule.label_smoothing)
    optimizer = torch.optim.AdamW(network.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay)
    batch_size = min(schedule.batch_size, len(targets))
    steps = max(min(schedule.windows_per_epoch, len(targets)) // batch_size, 1)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, total_steps=steps * schedule.epochs, pct_start=0.1
    )
    history: list[Epoch] = []
    spent_s = 0.0
    for number in range(1, schedule.epochs + 1):
        began = time.perf_counter()
        network.train()
        total = torch.zeros((), device=device)
        order = torch.randperm(len(targets), generator=generator)[: steps * batch_size]
        for rows in torch.split(order, batch_size):
            x = vary(samples[rows].to(device), generator)
            loss = loss_of(network(x), targets[rows].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            # An LSTM's gradients explode now and then.
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            rate.step()
            total += loss.detach()
        spent_s += time.perf_counter() - began
        network.eval()
        figures = None if held_out is None else score(predict(network, held_out.samples), held_out, recipe.labels)
        epoch = Epoch(
            number,
            schedule.epochs,
            float(total) / steps,
            None if figures is None else figures.accuracy,
            None if figures is None else figures.macro_f1,
            number * steps * batch_size / spent_s,
            spent_s / number * (schedule.epochs - number),
        )
        history.append(epoch)
        on_epoch(epoch)
    return network.cpu(), history


def triple_scale(samples: Tensor) -> Tensor:
    """(channels,) root mean square of each sensor's three axes together, so that a rotation leaves it unchanged."""
    squares = samples.square().mean((0, 1)).view(-1, 3).mean(1)
    return squares.sqrt().clamp(min=1e-6).repeat_interleave(3)


def logits(network: Network, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, outputs) float32 in evaluation mode, on the network's device."""
    device = network.scale.device
    network.eval()
    with torch.no_grad():
        parts = [network(part.to(device)).cpu() for part in torch.split(torch.from_numpy(samples), 1024)]
    result: NDArray[np.float32] = torch.cat(parts).numpy()
    return result


def predict(network: Network, samples: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """(n, outputs) float32 probabilities, as an exported model gives them; what a row lacks of 1 is none of these."""
    told = softmax(logits(network, samples), temperature)
    if network.worn is None:
        return told
    with torch.no_grad():
        parts = [network.worn(part) for part in torch.split(torch.from_numpy(samples), 1024)]
    result: NDArray[np.float32] = told * torch.cat(parts).numpy()[:, None]
    return result


def softmax(values: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """(n, labels) float32 probabilities."""
    scaled = values / np.float32(temperature)
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return result


def fit_temperature(values: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """The temperature that gives held-out logits the least log-loss, to 1 %.

    Source: Guo et al., On calibration of modern neural networks, 2017.
    """
    candidates = np.geomspace(0.2, 5.0, 324)
    rows = np.arange(len(targets))
    losses = [-float(np.log(softmax(values, t)[rows, targets] + 1e-12).mean()) for t in candidates]
    return float(candidates[int(np.argmin(losses))])
