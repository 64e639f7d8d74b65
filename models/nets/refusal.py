"""Refusal by distance: a factor from 0 to 1 on a window's probabilities, inside the graph.

A softmax divides its whole among the labels, however far a window lies from all that was learned. So the probabilities
are multiplied by a factor that is near 1 where training windows lie and near 0 far from them; what is left of 1 is
"none of these". Windows are looked at twice:

* their *features*, what the network gives its last layer: motion unlike any that was learned lies far off there;
* their *posture*, mean gravity and how strongly the device moves: a network that only ever had to tell sitting from
  standing has no feature for lying.

In each view every activity is a few clusters with a spread of their own in each coordinate:

    distance = min over clusters c of sqrt(mean over coordinates i of ((z_i - c_i) / spread_ci)^2)
    factor   = the smaller of both views' sigmoid((threshold - distance) * steepness)

An activity's spreads are scaled so that of people whom the network did not see, the same share of each activity lies
within 1: one that varies little is not judged by one that varies much.

Source: distances in feature space after Lee et al., A simple unified framework for detecting out-of-distribution
samples and adversarial attacks, 2018, with clusters in place of one mean and one covariance; docs/explanation/
robustness.md has what was compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.nets.networks import Network
from models.nets.worn import posture_channels
from models.windows.data import LabelledWindows, Sitting, joined
from streamer.preprocessing.pipeline import windows_of
from streamer.preprocessing.spec import PreprocessingSpec

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

#: Of known windows of people that the network did not see, about this share is refused (factor below a half).
REFUSED_SHARE: Final = 0.01
#: Coordinates of the features' view, and clusters of each activity.
RANK: Final = 16
CLUSTERS: Final = 8
#: The factor of a known window of median distance, in each view.
_FACTOR_OF_MEDIAN: Final = 0.99
#: Share of an activity's windows whose distance is at most 1.
_WITHIN_ONE: Final = 0.95
#: Of a cluster's mean squared spread, added to each coordinate's: some are nearly constant.
_LEAST_SPREAD: Final = 0.1
#: Windows that a cluster has at least.
_LEAST_WINDOWS: Final = 5
_LLOYD_STEPS: Final = 20
#: Share of the diagonal added to a covariance.
_SHRINKAGE: Final = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Where known windows lie in one view, and from how far off they are refused.

    Attributes:
        projection: (n, d) float32, from the view to its coordinates.
        offset: (d,) float32, added then.
        clusters: (c, d) float32.
        precision: (c, d) float32, 1 / spread².
        owner: (c,) int64, the activity of each cluster.
        threshold: distance at which the factor is a half.
        steepness: of the factor there, per distance.
    """

    projection: Float32
    offset: Float32
    clusters: Float32
    precision: Float32
    owner: NDArray[np.int64]
    threshold: float = 1.0
    steepness: float = 1.0

    def distances(self, x: Float32) -> Float32:
        """(m,) float32, of (m, n) float32."""
        parts = [self.squared(part).min(axis=1) for part in np.array_split(x, len(x) // 4096 + 1)]
        result: Float32 = np.sqrt(np.concatenate(parts))
        return result

    def factors(self, x: Float32) -> Float32:
        """(m,) float32 from 0 to 1, of (m, n) float32."""
        left = (self.threshold - self.distances(x).astype(np.float64)) * self.steepness
        result: Float32 = (1.0 / (1.0 + np.exp(-np.maximum(left, -80.0)))).astype(np.float32)
        return result

    def squared(self, x: Float32) -> Float32:
        """(m, c) float32: squared distances of (m, n) to each cluster."""
        z = x @ self.projection + self.offset
        result: Float32 = (np.square(z[:, None] - self.clusters) * self.precision).mean(axis=2)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Refusal:
    """Both views.

    Attributes:
        features: region of what the network gives its last layer.
        posture: region of what `posture` gives.
        gravity: channels whose means tell where down is.
        motion: channels whose variances add up to how strongly the device moves.
    """

    features: Region
    posture: Region
    gravity: tuple[int, ...]
    motion: tuple[int, ...]

    def factors(self, features: Float32, windows: Float32) -> Float32:
        """(m,) float32 from 0 to 1, of features (m, n) and their windows (m, window_len, channels)."""
        return np.minimum(self.features.factors(features), self.posture.factors(self.posture_of(windows)))

    def distances(self, features: Float32, windows: Float32) -> Float32:
        """(m,) float32: the larger of both views' distances, 1 at the threshold."""
        first = self.features.distances(features) / np.float32(self.features.threshold)
        second = self.posture.distances(self.posture_of(windows)) / np.float32(self.posture.threshold)
        result: Float32 = np.maximum(first, second)
        return result

    def posture_of(self, windows: Float32) -> Float32:
        """The view of windows (m, window_len, channels) that `posture` is of."""
        return posture(windows, self.gravity, self.motion)

    @property
    def parameters(self) -> int:
        """Numbers that it adds to a model."""
        parts = ("projection", "offset", "clusters", "precision")
        return sum(getattr(region, part).size for region in (self.features, self.posture) for part in parts)


class Refuse(nn.Module):
    """The same in torch, for whoever fits through it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self._refusal = refusal

    def forward(self, features: Tensor, windows: Tensor) -> Tensor:
        """(m,) factors of features (m, n) and windows (m, window_len, channels)."""
        chosen = windows[..., list(self._refusal.motion)]
        power = chosen.var(1, correction=0).sum(1, keepdim=True)
        means = windows[..., list(self._refusal.gravity)].mean(1)
        view = torch.cat([means, power.sqrt().sqrt().sqrt()], 1)
        return torch.minimum(_factor(self._refusal.features, features), _factor(self._refusal.posture, view))


def posture(windows: Float32, gravity: Sequence[int], motion: Sequence[int]) -> Float32:
    """(m, len(gravity) + 1) float32: mean gravity, and the eighth root of the variance of acceleration.

    Rest, a fidget and a run are then about as far apart as their names. A logarithm would do as well, but ONNX Runtime
    rounds one by its place in the batch; square roots are exact.

    Args:
        windows: (m, window_len, channels).
        gravity: channels of the former.
        motion: channels of the latter.
    """
    power = windows[..., list(motion)].var(axis=1, dtype=np.float64).sum(axis=1, keepdims=True)
    means = windows[..., list(gravity)].mean(axis=1, dtype=np.float64)
    return np.concatenate([means, power**0.125], axis=1).astype(np.float32)


def fit_region(
    x: Float32, targets: NDArray[np.int64], *, rank: int | None = None, clusters: int = CLUSTERS, seed: int = 0
) -> Region:
    """Clusters of each activity in one view, not yet calibrated.

    Args:
        x: (m, n) float32, the view of training windows.
        targets: (m,) their activities.
        rank: principal components to keep; None for all, each scaled to the activities' own spread.
        clusters: of each activity.
        seed: of the clusters' first centres.
    """
    rng = np.random.default_rng(seed)
    values = x.astype(np.float64)
    centre = values.mean(axis=0)
    if rank is not None and rank < x.shape[1]:
        projection = np.linalg.eigh(np.cov(values, rowvar=False))[1][:, -rank:]
    else:
        projection = _whitening(values, targets)
    z = (values - centre) @ projection
    found = [
        (target, *cluster)
        for target in np.unique(targets).tolist()
        for cluster in _clusters(z[targets == target], clusters, rng)
    ]
    return Region(
        np.ascontiguousarray(projection, np.float32),
        (-centre @ projection).astype(np.float32),
        np.array([middle for _, middle, _ in found], np.float32),
        np.array([1.0 / variance for _, _, variance in found], np.float32),
        np.array([target for target, _, _ in found], np.int64),
    )


def calibrated(region: Region, x: Float32, targets: NDArray[np.int64], *, share: float = REFUSED_SHARE) -> Region:
    """The region with its activities on one scale, and a threshold beyond which a share of known windows lies.

    Args:
        region: as fitted.
        x: (m, n) float32, the view of windows of the same activities by people that the network did not see.
        targets: (m,) their activities.
        share: of them to be refused.
    """
    scale = np.ones(len(region.owner))
    squared = region.squared(x)
    for target in np.unique(targets).tolist():
        own = squared[targets == target][:, region.owner == target]
        if own.size:
            scale[region.owner == target] = np.quantile(own.min(axis=1), _WITHIN_ONE)
    region = replace(region, precision=(region.precision / scale[:, None]).astype(np.float32))
    distances = region.distances(x).astype(np.float64)
    threshold, median = float(np.quantile(distances, 1.0 - share)), float(np.median(distances))
    logit = np.log(_FACTOR_OF_MEDIAN / (1.0 - _FACTOR_OF_MEDIAN))
    return replace(region, threshold=threshold, steepness=float(logit / max(threshold - median, 1e-6)))


def fit_refusal(
    network: Network,
    train: LabelledWindows,
    held_out: LabelledWindows,
    channels: Sequence[str],
    *,
    share: float = REFUSED_SHARE,
) -> Refusal:
    """A refusal for a fitted network.

    Args:
        network: fitted.
        train: `served_windows` of people that it learned from. Varied as in training, a turned watch stays known; the
            further they are turned, the less a posture says.
        held_out: likewise of people that it did not see.
        channels: of the windows.
        share: of the held-out windows to be refused, half of it by each view.
    """
    gravity, motion = posture_channels(channels)
    ours, theirs = features_of(network, train.samples), features_of(network, held_out.samples)
    features = calibrated(fit_region(ours, train.targets, rank=RANK), theirs, held_out.targets, share=share / 2)
    ours, theirs = (posture(windows.samples, gravity, motion) for windows in (train, held_out))
    return Refusal(
        features,
        calibrated(fit_region(ours, train.targets), theirs, held_out.targets, share=share / 2),
        gravity,
        motion,
    )


def served_windows(
    sittings: Iterable[Sitting], spec: PreprocessingSpec, labels: Sequence[str], *, hop_len: int | None = None
) -> LabelledWindows:
    """The windows of each sitting that lie in one labelled stretch for most of their time, as known ones.

    A live stream has windows across changes, too, and the gravity filter takes seconds to settle after one. A refusal
    that has only met windows inside a stretch takes away the first seconds of every bout.

    Args:
        sittings: recordings with their groups.
        spec: what a window is.
        labels: activities by target.
        hop_len: samples between windows where it is to differ from the spec's.
    """
    if hop_len is not None:
        spec = msgspec.structs.replace(spec, hop_len=hop_len)
    parts: list[LabelledWindows] = []
    for sitting in sittings:
        streams = [stream for stream in sitting.recording.streams if spec.uses_gyro or stream.acc is not None]
        windows = windows_of(streams, spec)
        targets = np.full(len(windows), -1, np.int64)
        for span in sitting.recording.spans:
            inside = np.minimum(windows.start_ns + spec.window_ns, span.end_ns) - np.maximum(
                windows.start_ns, span.start_ns
            )
            if span.activity in labels:
                targets[2 * inside > spec.window_ns] = labels.index(span.activity)
        known = targets >= 0
        groups = np.full(int(known.sum()), sitting.group)
        parts.append(LabelledWindows(windows.samples[known], targets[known], groups, windows.start_ns[known]))
    return joined(parts)


def features_of(network: Network, samples: Float32) -> Float32:
    """What the last layer is given, (m, n) float32, in evaluation mode, on the network's device."""
    device = network.scale.device
    network.eval()
    with torch.no_grad():
        parts = [network.features(part.to(device)).cpu() for part in torch.split(torch.from_numpy(samples), 1024)]
    result: Float32 = torch.cat(parts).numpy()
    return result


def _factor(region: Region, x: Tensor) -> Tensor:
    projection, offset, clusters, precision = (
        torch.from_numpy(part).to(x.device)
        for part in (region.projection, region.offset, region.clusters, region.precision)
    )
    z = x @ projection + offset
    distances = ((z[:, None] - clusters).square() * precision).mean(2).amin(1).sqrt()
    return torch.sigmoid((region.threshold - distances) * region.steepness)


def _whitening(x: Float64, targets: NDArray[np.int64]) -> Float64:
    """(n, n) a projection by which the activities' common covariance becomes the identity."""
    own = np.concatenate([x[targets == target] - x[targets == target].mean(axis=0) for target in np.unique(targets)])
    covariance = np.cov(own, rowvar=False)
    diagonal = np.diag(covariance)
    values, vectors = np.linalg.eigh(covariance + np.diag(_SHRINKAGE * (diagonal + diagonal.mean())))
    result: Float64 = vectors / np.sqrt(values)
    return result


def _clusters(z: Float64, count: int, rng: np.random.Generator) -> list[tuple[Float64, Float64]]:
    """Centre and variance of clusters. Source: Lloyd, Least squares quantization in PCM, 1982."""
    centres = z[rng.choice(len(z), min(count, len(z)), replace=False)]
    which = np.zeros(len(z), np.int64)
    for _ in range(_LLOYD_STEPS):
        which = ((z**2).sum(axis=1)[:, None] - 2.0 * z @ centres.T + (centres**2).sum(axis=1)).argmin(axis=1)
        for number in np.unique(which).tolist():
            centres[number] = z[which == number].mean(axis=0)
    members = [z[which == number] for number in range(len(centres))]
    members = [own for own in members if len(own) >= _LEAST_WINDOWS] or [z]
    variances = [own.var(axis=0) for own in members]
    return [
        (own.mean(axis=0), variance + _LEAST_SPREAD * variance.mean() + 1e-6)
        for own, variance in zip(members, variances, strict=True)
    ]
