"""Teaching a finished model somebody's own way of moving, or an activity that it does not know.

Only the last layer learns: the features before it stay as thousands of minutes of other people's motion made them. It
learns from the recordings, each activity counting the same, and is held to the base's answers to made-up motion,
without which a few minutes of one person drive out everything else (models/lessons/tuning_study.py measures it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.nets.networks import Network
from models.windows.data import LabelledWindows

#: Recordings are held out one by one up to this many, then in as many parts.
MOST_FOLDS: Final = 10


@dataclass(frozen=True, slots=True)
class Teaching:
    """How the last layer learns: Adam over all windows at once.

    Attributes:
        steps, learning_rate: of Adam.
        keep: weights of the base's answers to made-up motion against that of the recordings, the next one where an
            activity could not be learned with the one before. More keeps more of what was known, less learns more.
        learned: share of its windows by which an activity is told for it to count as learned.
        label_smoothing: share of the target spread over all labels.
    """

    steps: int = 200
    learning_rate: float = 0.02
    keep: tuple[float, ...] = (16.0, 4.0, 1.0)
    learned: float = 0.5
    label_smoothing: float = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """A last layer, and the weight of what it keeps."""

    head: nn.Linear
    keep: float


class Pupil:
    """A base network whose last layer is to be taught; its features of all windows are computed once."""

    def __init__(
        self, network: Network, made_up: NDArray[np.float32], *, new: int, teaching: Teaching = Teaching()
    ) -> None:
        """Compute what is to be kept.

        Args:
            network: the base, which stays as it is.
            made_up: (n, window_len, channels) float32, motion whose answers are kept.
            new: activities to be added.
            teaching: how.
        """
        self.network = network
        self._teaching = teaching
        self._kept = self.features(made_up)
        with torch.no_grad():
            answers = torch.softmax(network.head(self._kept), dim=1)
        self._answers = functional.pad(answers, (0, new))
        self._new = new

    @property
    def labels(self) -> int:
        """Activities once it is taught."""
        return self.network.head.out_features + self._new

    def features(self, windows: NDArray[np.float32]) -> Tensor:
        """(n, features) of windows (n, window_len, channels)."""
        # Golden vectors and others may not be written to, which torch warns of.
        parts = torch.split(torch.from_numpy(np.array(windows)), 1024)
        with torch.no_grad():
            return torch.cat([self.network.features(part) for part in parts])

    def taught(self, features: Tensor, targets: NDArray[np.int64]) -> Taught:
        """What is learned from windows' features and what they are, (n,) int64.

        The same windows give the same layer: nothing is drawn.
        """
        taught = None
        for keep in self._teaching.keep:
            taught = Taught(self._head(features, targets, keep), keep)
            told = probabilities(taught.head, features).argmax(axis=1) == targets
            if all(told[targets == target].mean() >= self._teaching.learned for target in np.unique(targets)):
                break
        if taught is None:
            raise ValueError("keep is empty; expected one weight at least")
        return taught

    def _head(self, features: Tensor, targets: NDArray[np.int64], keep: float) -> nn.Linear:
        teaching, old = self._teaching, self.network.head
        head = nn.Linear(old.in_features, old.out_features + self._new)
        with torch.no_grad():
            # A new activity begins as the mean of all others, and less likely than they.
            head.weight.copy_(torch.cat([old.weight, old.weight.mean(0, keepdim=True).expand(self._new, -1)]))
            head.bias.copy_(torch.cat([old.bias, (old.bias.mean() - 2.0).expand(self._new)]))
        truth = torch.from_numpy(targets)
        share = 1.0 / torch.bincount(truth)[truth].to(torch.float32)
        share /= share.sum()
        optimizer = torch.optim.Adam(head.parameters(), teaching.learning_rate)
        for _ in range(teaching.steps):
            own = functional.cross_entropy(
                head(features), truth, reduction="none", label_smoothing=teaching.label_smoothing
            )
            kept = functional.kl_div(
                functional.log_softmax(head(self._kept), dim=1), self._answers, reduction="batchmean"
            )
            loss = (share * own).sum() + keep * kept
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
        return head.requires_grad_(requires_grad=False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: layers so small take ten times as long where two wait for one another at every step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def probabilities(head: nn.Linear, features: Tensor) -> NDArray[np.float32]:
    """(n, labels) float32 of (n, features)."""
    with torch.no_grad():
        found: NDArray[np.float32] = torch.softmax(head(features), dim=1).numpy()
    return found


def reordered(head: nn.Linear, order: Sequence[int]) -> nn.Linear:
    """A last layer whose output i is the other's output order[i]."""
    found = nn.Linear(head.in_features, len(order))
    with torch.no_grad():
        found.weight.copy_(head.weight[list(order)])
        found.bias.copy_(head.bias[list(order)])
    return found.requires_grad_(requires_grad=False)


def held_out_answers(
    pupil: Pupil,
    dense: LabelledWindows,
    plain: LabelledWindows,
    *,
    on_fold: Callable[[int, int], None] = lambda _done, _of: None,
) -> NDArray[np.float32]:
    """(n, labels) float32: what a model taught without a window's recording says of it.

    Args:
        pupil: who learns.
        dense: windows to learn from, closer together than those served.
        plain: windows as they are served, of the same recordings.
        on_fold: called with how many of how many parts are through.
    """
    folds = deal(plain)
    learned, asked = pupil.features(dense.samples), pupil.features(plain.samples)
    answers = np.zeros((len(plain), pupil.labels), np.float32)
    for number, held in enumerate(folds, start=1):
        mine, rows = np.isin(dense.groups, held), np.isin(plain.groups, held)
        head = pupil.taught(learned[torch.from_numpy(~mine)], dense.targets[~mine]).head
        answers[rows] = probabilities(head, asked[torch.from_numpy(rows)])
        on_fold(number, len(folds))
    return answers


def deal(windows: LabelledWindows) -> list[list[str]]:
    """The groups in parts to be held out in turn, one each while there are few.

    No part holds all groups of an activity that is in two of them or more.
    """
    labelled = sorted(
        {(int(target), str(group)) for target, group in zip(windows.targets, windows.groups, strict=True)}
    )
    # In the order of activities, so that one's groups go to different parts.
    groups = list(dict.fromkeys(group for _, group in labelled))
    folds = min(len(groups), MOST_FOLDS)
    return [groups[number::folds] for number in range(folds)]
