"""Variety that recordings lack: other starts, tempos, losses and feed rates of streams; other wrists for windows.

Streams are varied before preprocessing, so that a model learns what the streaming code really makes of a late start
or a lost reading. Rotations and scales commute with the linear filters and are applied to windows, afresh each epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.windows.data import Sitting, restrict, stream_slice
from models.windows.sensors import other_sensor
from models.windows.variations import at_rate, bursts_lost
from streamer.imu import ImuBatch
from streamer.preprocessing.spec import Channel
from streamer.recording import ActivitySpan, Recording


@dataclass(frozen=True, slots=True)
class StreamVariety:
    """How the streams of one pass over the training recordings are varied.

    Attributes:
        section_s: shortest and longest stretch after which a stream starts anew; None to leave recordings whole.
        stretch: a section's tempo is drawn from 1 - stretch to 1 + stretch.
        loss: a section loses a share of its readings, drawn from 0 to `loss`.
        halve: share of sections of which only every second reading is kept.
        holes: a section loses a share of its time, drawn from 0 to `holes`, as lost messages do.
        resampled: share of sections that a sensor of another rate tells.
        rates_hz: least and largest of those rates, between which ratios are equally likely.
        other_sensor: share of sections that another sensor reads, with noise, offset and steps of its own.
    """

    section_s: tuple[float, float] | None = None
    stretch: float = 0.0
    loss: float = 0.0
    halve: float = 0.0
    holes: float = 0.0
    resampled: float = 0.0
    rates_hz: tuple[float, float] = (10.0, 50.0)
    other_sensor: float = 0.0


@dataclass(frozen=True, slots=True)
class WindowVariety:
    """How windows are varied each time they are seen.

    Attributes:
        rotation_deg: all sensors are turned together about a random axis by up to this angle.
        scale: standard deviation of a random gain per axis.
        noise: standard deviation of added white noise, in units of the network's scale.
        without_gyro: share of windows whose angular rates are 0, as those of a watch that has no gyroscope.
        worn_otherwise: share of windows of a watch at the other wrist, with its crown to the other side, or both.
    """

    rotation_deg: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    without_gyro: float = 0.0
    worn_otherwise: float = 0.0


def varied(sittings: Iterable[Sitting], variety: StreamVariety, *, seed: int) -> list[Sitting]:
    """Every sitting in its varied sections, in order."""
    rng = np.random.default_rng(seed)
    result = []
    for sitting in sittings:
        for section in _sections(sitting.recording, variety.section_s, rng):
            tempo = 1.0 + variety.stretch * rng.uniform(-1.0, 1.0)
            loss = variety.loss * rng.uniform()
            halved = rng.uniform() < variety.halve
            told = _thinned(_told_otherwise(section, variety, rng), loss, rng, halved=halved)
            if told.streams:
                result.append(Sitting(sitting.group, _stretched(told, tempo)))
    return result


def _sections(recording: Recording, section_s: tuple[float, float] | None, rng: np.random.Generator) -> list[Recording]:
    if section_s is None:
        return [recording]
    sections = []
    start = min(int(stream.t_ns[0]) for stream in recording.streams)
    end = max(int(stream.t_ns[-1]) for stream in recording.streams) + 1
    # The first section is short, so that starts fall anywhere.
    length_s = rng.uniform(0.0, section_s[0])
    while start < end:
        stop = start + int(length_s * 1e9)
        section = restrict(recording, start, stop)
        if section.spans and all(len(stream) for stream in section.streams):
            sections.append(section)
        start, length_s = stop, rng.uniform(*section_s)
    return sections


def _told_otherwise(recording: Recording, variety: StreamVariety, rng: np.random.Generator) -> Recording:
    """As another sensor and a lossy network would have told it."""
    if variety.resampled and rng.uniform() < variety.resampled:
        low_hz, high_hz = variety.rates_hz
        recording = at_rate(recording, rng, rate_hz=low_hz * (high_hz / low_hz) ** rng.uniform())
    if variety.other_sensor and rng.uniform() < variety.other_sensor:
        recording = other_sensor(recording, rng)
    if variety.holes and recording.streams:
        recording = bursts_lost(recording, rng, share=variety.holes * rng.uniform())
    return recording


def _thinned(recording: Recording, loss: float, rng: np.random.Generator, *, halved: bool) -> Recording:
    if not loss and not halved:
        return recording
    streams = []
    for stream in recording.streams:
        kept = rng.uniform(size=len(stream)) >= loss
        if halved:
            kept &= np.arange(len(stream)) % 2 == 0
        kept[:1] = True
        thinned = stream_slice(stream, kept)
        streams.append(replace(thinned, rate_hz=None) if halved else thinned)
    return replace(recording, streams=tuple(streams), rate_hz=None if halved else recording.rate_hz)


def _stretched(recording: Recording, tempo: float) -> Recording:
    """The recording played at another tempo; angular rates follow it, accelerations are left."""
    if tempo == 1.0:
        return recording
    origin = int(recording.streams[0].t_ns[0])

    def moved(t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        return origin + np.rint((t_ns - origin) / tempo).astype(np.int64)

    streams = tuple(
        ImuBatch(stream.device_id, moved(stream.t_ns), stream.acc, None if stream.gyro is None else stream.gyro * tempo)
        for stream in recording.streams
    )
    spans = []
    for span in recording.spans:
        start_ns, end_ns = moved(np.array([span.start_ns, span.end_ns])).tolist()
        spans.append(ActivitySpan(span.activity, start_ns, end_ns))
    return replace(recording, streams=streams, spans=tuple(spans), rate_hz=None)


class WindowVarier:
    """Applies a WindowVariety to batches of windows whose channels come in xyz triples."""

    def __init__(self, variety: WindowVariety, channels: tuple[Channel, ...], scale: Tensor) -> None:
        names = [name.rpartition("_") for name in channels]
        if [axis for _, _, axis in names] != ["x", "y", "z"] * (len(channels) // 3):
            raise ValueError(f"channels are {channels}; expected triples of x, y, z")
        self._variety = variety
        self._scale = scale
        self._gyro = torch.tensor([name.startswith("gyro") for name in channels])

    def __call__(self, windows: Tensor, generator: torch.Generator) -> Tensor:
        """Varied copies of windows (batch, window_len, channels)."""
        n, length, channels = windows.shape
        triples = windows.reshape(n, length, channels // 3, 3)
        if self._variety.worn_otherwise:
            signs = other_wearing(n, self._variety.worn_otherwise, generator)[:, self._gyro[::3].long()]
            triples = triples * signs.to(windows.device)[:, None]
        turned = triples @ rotations(n, self._variety.rotation_deg, generator).to(windows.device)[:, None]
        gain = 1.0 + self._variety.scale * torch.randn(n, 1, channels // 3, 3, generator=generator)
        result = (turned * gain.to(windows.device)).reshape(n, length, channels)
        if self._variety.noise:
            noise = torch.randn(n, length, channels, generator=generator).to(windows.device)
            result = result + self._variety.noise * self._scale * noise
        if self._variety.without_gyro:
            lacks = torch.rand(n, generator=generator) < self._variety.without_gyro
            result = result.masked_fill((lacks[:, None, None] & self._gyro).to(windows.device), 0.0)
        return result


def other_wearing(n: int, share: float, generator: torch.Generator) -> Tensor:
    """(n, 2, 3) signs of the axes of accelerations and of angular rates, of a watch as worn and in three other ways.

    Axes are those of Android and iOS: x to the right of the face, y to its top, z out of it. The other wrist mirrors x;
    a crown to the other side turns x and y about z. A mirror image turns the other way round, so its angular rates have
    the signs of the determinant, too.
    """
    turned = torch.tensor([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, -1.0, 1.0]])
    signs = torch.stack([turned, turned * turned.prod(1, keepdim=True)], 1)
    which = torch.randint(1, 4, (n,), generator=generator)
    return signs[torch.where(torch.rand(n, generator=generator) < share, which, 0)]


def rotations(n: int, max_deg: float, generator: torch.Generator) -> Tensor:
    """(n, 3, 3) rotation matrices about uniformly random axes by angles uniform up to max_deg.

    Source: Rodrigues' rotation formula.
    """
    axis = torch.randn(n, 3, generator=generator)
    axis = axis / axis.norm(dim=1, keepdim=True)
    angle = torch.deg2rad(max_deg * (2.0 * torch.rand(n, generator=generator) - 1.0))[:, None, None]
    cross = torch.zeros(n, 3, 3)
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    cross = cross - cross.transpose(1, 2)
    return torch.eye(3) + torch.sin(angle) * cross + (1.0 - torch.cos(angle)) * (cross @ cross)
