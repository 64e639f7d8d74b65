"""Refusal by distance in feature space: a factor from 0 to 1 on a window's probabilities, inside the graph.

A softmax divides its whole among the labels, however far a window lies from all that was learned. The features before
the last layer know better: known windows lie near others of their activity. So the probabilities are multiplied by

    factor   = sigmoid((threshold - distance) * steepness)
    distance = min over prototypes p of |W (x - centre) - p| / sqrt(d)

which is near 1 where training windows lie and near 0 far from them; what is left of 1 is "none of these".

`fit_gaussian`: one prototype per activity, its mean, in coordinates in which the activities' common covariance is the
identity, so that distances are Mahalanobis'. Source: Lee et al., A simple unified framework for detecting
out-of-distribution samples and adversarial attacks, 2018.

`fit_prototypes`: several per activity, centres of clusters of features of unit length. They stand in for the nearest
neighbours among all training windows, which no small model can carry along. Source: Sun et al., Out-of-distribution
detection with deep nearest neighbors, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.data import LabelledWindows
from models.networks import Network

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

#: Of known windows of people that the network did not see, this share is refused (factor below a half).
REFUSED_SHARE: Final = 0.01
#: The factor of a known window of median distance.
_FACTOR_OF_MEDIAN: Final = 0.998
#: Added to squared lengths.
_LEAST: Final = 1e-12
#: Share of the diagonal in the covariance: some features are nearly constant.
_SHRINKAGE: Final = 0.05
_LLOYD_STEPS: Final = 20


class Graph(Protocol):
    """What nodes are added to: see `models.export`."""

    def constant(self, value: NDArray[np.float32] | NDArray[np.int64]) -> str:
        """Name of a constant."""
        ...

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: int | list[int]) -> str:
        """Name of a new node's output."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Refusal:
    """Where known windows lie, and from how far off a window is refused.

    Attributes:
        unit: whether features are brought to length 1 first.
        centre: (features,) float32, subtracted then.
        projection: (features, d) float32.
        prototypes: (p, d) float32.
        threshold: distance at which the factor is a half.
        steepness: of the factor there, per distance.
    """

    unit: bool
    centre: Float32
    projection: Float32
    prototypes: Float32
    threshold: float = 1.0
    steepness: float = 1.0

    def distances(self, features: Float32) -> Float32:
        """(n,) float32: distance of features (n, features) to the nearest prototype."""
        with torch.no_grad():
            result: Float32 = Refuse(self).distances(torch.from_numpy(features)).numpy()
        return result

    def factors(self, features: Float32) -> Float32:
        """(n,) float32 from 0 to 1."""
        with torch.no_grad():
            result: Float32 = Refuse(self)(torch.from_numpy(features)).numpy()
        return result

    @property
    def parameters(self) -> int:
        """Numbers that it adds to a model."""
        return self.centre.size + self.projection.size + self.prototypes.size + 2


class Refuse(nn.Module):
    """The same in torch."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.unit = refusal.unit
        self.threshold, self.steepness = refusal.threshold, refusal.steepness
        self.centre: Tensor
        self.projection: Tensor
        self.prototypes: Tensor
        for name in ("centre", "projection", "prototypes"):
            self.register_buffer(name, torch.from_numpy(getattr(refusal, name)))

    def distances(self, features: Tensor) -> Tensor:
        """(n,) of features (n, features)."""
        if self.unit:
            features = features / (features.square().mean(1, keepdim=True) + _LEAST).sqrt()
        z = (features - self.centre) @ self.projection
        return (z[:, None] - self.prototypes).square().mean(2).amin(1).sqrt()

    def forward(self, features: Tensor) -> Tensor:
        """(n,) factors of features (n, features)."""
        return torch.sigmoid((self.threshold - self.distances(features)) * self.steepness)


def refusal_nodes(graph: Graph, features: str, refusal: Refusal) -> str:
    """Add the factor (batch, 1) of `features` (batch, features) to a graph; the name of its output.

    The probabilities are to be multiplied by it. Sums run within one window only, by convolution and pooling: those of
    MatMul and ReduceSum may be added up in another order for a batch of one.
    """
    # (batch, features, 1): a window's features are channels.
    x = graph.add("Unsqueeze", features, graph.constant(np.array([2], np.int64)))
    if refusal.unit:
        flat = graph.add("Transpose", graph.add("Mul", x, x), perm=[0, 2, 1])
        mean = graph.add("GlobalAveragePool", flat)
        x = graph.add("Div", x, graph.add("Sqrt", graph.add("Add", mean, graph.constant(_scalar(_LEAST)))))
    # The centre goes into the convolution's bias.
    weight = np.ascontiguousarray(refusal.projection.T[:, :, None])
    bias = -(refusal.centre.astype(np.float64) @ refusal.projection.astype(np.float64)).astype(np.float32)
    z = graph.add("Conv", x, graph.constant(weight), graph.constant(bias), kernel_shape=[1])
    z = graph.add("Transpose", z, perm=[0, 2, 1])
    off = graph.add("Sub", z, graph.constant(np.ascontiguousarray(refusal.prototypes[None])))
    squared = graph.add("GlobalAveragePool", graph.add("Mul", off, off))
    # A minimum does not depend on order.
    nearest = graph.add("ReduceMin", squared, axes=[1, 2], keepdims=0)
    distance = graph.add("Sqrt", graph.add("Unsqueeze", nearest, graph.constant(np.array([1], np.int64))))
    left = graph.add("Sub", graph.constant(_scalar(refusal.threshold)), distance)
    return graph.add("Sigmoid", graph.add("Mul", left, graph.constant(_scalar(refusal.steepness))))


def fit_gaussian(
    features: Float32, targets: NDArray[np.int64], *, rank: int | None = None, unit: bool = False
) -> Refusal:
    """Class means under one covariance, not yet calibrated.

    Args:
        features: (n, features) of training windows.
        targets: (n,) their activities.
        rank: coordinates to keep, those in which the activities' means are most apart; None for all.
        unit: whether features are brought to length 1 first.
    """
    x = _normed(features, unit=unit).astype(np.float64)
    means = np.stack([x[targets == target].mean(axis=0) for target in np.unique(targets)])
    which = np.searchsorted(np.unique(targets), targets)
    covariance = np.cov(x - means[which], rowvar=False, bias=True)
    diagonal = np.diag(covariance)
    covariance += np.diag(_SHRINKAGE * (diagonal + diagonal.mean()))
    values, vectors = np.linalg.eigh(covariance)
    projection = vectors / np.sqrt(values)
    if rank is not None and rank < projection.shape[1]:
        # Of whitened coordinates, those in which the windows vary most beyond their activity's own spread.
        apart = np.linalg.eigh(np.cov((x - x.mean(axis=0)) @ projection, rowvar=False))[1]
        projection = projection @ apart[:, -rank:]
    return _refusal(x.mean(axis=0), projection, (means - x.mean(axis=0)) @ projection, unit=unit)


def fit_prototypes(
    features: Float32, targets: NDArray[np.int64], *, per_label: int = 8, rank: int = 32, seed: int = 0
) -> Refusal:
    """Centres of clusters of each activity's features of unit length, not yet calibrated.

    Args:
        features: (n, features) of training windows.
        targets: (n,) their activities.
        per_label: clusters of each activity.
        rank: principal components to keep.
        seed: of the clusters' first centres.
    """
    rng = np.random.default_rng(seed)
    x = _normed(features, unit=True).astype(np.float64)
    centre = x.mean(axis=0)
    components = np.linalg.eigh(np.cov(x, rowvar=False))[1][:, -rank:]
    z = (x - centre) @ components
    # So that distances are about 1.
    scale = float(np.sqrt((z**2).mean()))
    parts = [_clusters(z[targets == target] / scale, per_label, rng) for target in np.unique(targets)]
    return _refusal(centre, components / scale, np.concatenate(parts), unit=True)


def calibrated(refusal: Refusal, known: Float32, *, share: float = REFUSED_SHARE) -> Refusal:
    """The refusal with a threshold beyond which a share of known windows lies.

    Args:
        refusal: fitted.
        known: (n, features) of windows of known activities by people that the network did not see.
        share: of them to be refused.
    """
    distances = refusal.distances(known).astype(np.float64)
    threshold, median = float(np.quantile(distances, 1.0 - share)), float(np.median(distances))
    logit = np.log(_FACTOR_OF_MEDIAN / (1.0 - _FACTOR_OF_MEDIAN))
    return replace(refusal, threshold=threshold, steepness=float(logit / max(threshold - median, 1e-6)))


def features_of(network: Network, samples: Float32) -> Float32:
    """What the last layer is given, (n, features) float32, in evaluation mode, on the network's device."""
    device = network.scale.device
    network.eval()
    with torch.no_grad():
        parts = [network.features(part.to(device)).cpu() for part in torch.split(torch.from_numpy(samples), 1024)]
    result: Float32 = torch.cat(parts).numpy()
    return result


def fit_refusal(
    network: Network,
    train: LabelledWindows,
    held_out: LabelledWindows,
    *,
    rank: int | None = 32,
    share: float = REFUSED_SHARE,
) -> Refusal:
    """A Gaussian refusal for a fitted network.

    Args:
        network: fitted.
        train: windows that it learned from.
        held_out: windows of the same activities by people that it did not see.
        rank: coordinates to keep.
        share: of the held-out windows to be refused.
    """
    fitted = fit_gaussian(features_of(network, train.samples), train.targets, rank=rank)
    return calibrated(fitted, features_of(network, held_out.samples), share=share)


def _refusal(centre: Float64, projection: Float64, prototypes: Float64, *, unit: bool) -> Refusal:
    return Refusal(
        unit,
        centre.astype(np.float32),
        np.ascontiguousarray(projection.astype(np.float32)),
        np.ascontiguousarray(prototypes.astype(np.float32)),
    )


def _normed(features: Float32, *, unit: bool) -> Float32:
    if not unit:
        return features
    result: Float32 = features / np.sqrt(np.square(features).mean(axis=1, keepdims=True) + np.float32(_LEAST))
    return result


def _clusters(z: Float64, count: int, rng: np.random.Generator) -> Float64:
    """(count, d) centres of clusters. Source: Lloyd, Least squares quantization in PCM, 1982."""
    centres = z[rng.choice(len(z), min(count, len(z)), replace=False)]
    for _ in range(_LLOYD_STEPS):
        squared = (z**2).sum(axis=1)[:, None] - 2.0 * z @ centres.T + (centres**2).sum(axis=1)
        which = squared.argmin(axis=1)
        for number in np.unique(which).tolist():
            centres[number] = z[which == number].mean(axis=0)
    return centres


def _scalar(value: float) -> Float32:
    return np.array([value], np.float32)
