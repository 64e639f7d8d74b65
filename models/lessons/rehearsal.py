"""Made-up motion by which a model that learns something new keeps what it knew.

The data of a shipped model are not shipped. What is, are the simulator's profiles: how wrists move, as statistics of 18
activities. The answers that a model gives to motion made from them are what it is held to while it learns
(rehearsal by pseudo-items: A. Robins, Catastrophic forgetting, rehearsal and pseudorehearsal, Connection Science 7,
1995; targets as in Li and Hoiem, Learning without forgetting, 2016).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.windows.augment import rotations
from simulator.synthetic import motion, shipped_profiles
from streamer.imu import ImuBatch
from streamer.preprocessing.pipeline import windows_of
from streamer.preprocessing.spec import PreprocessingSpec

#: Of each activity and each modelled person.
_LENGTH_S: Final = 60.0
_RATE_HZ: Final = 50
#: Each window as it is and turned so many times: nobody wears a watch quite as the modelled people did.
_TURNED: Final = 2
_TURN_DEG: Final = 45.0


def made_up_windows(spec: PreprocessingSpec, *, seed: int, without: Collection[str] = ()) -> NDArray[np.float32]:
    """(n, window_len, channels) float32, in the spec's units: windows of made-up motion.

    Args:
        spec: what a window is.
        seed: of the motion.
        without: activities to leave out.
    """
    profiles = shipped_profiles()
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    n = round(_LENGTH_S * _RATE_HZ)
    t_ns = np.arange(n, dtype=np.int64) * (1_000_000_000 // _RATE_HZ)
    parts = []
    for activity, people in profiles.activities.items():
        for profile in people:
            values = motion(profile, profiles.band_edges_hz, samples=n, rate_hz=_RATE_HZ, rng=rng)
            if activity not in without:
                batch = ImuBatch("made-up", t_ns, values[:, :3].copy(), values[:, 3:].copy(), float(_RATE_HZ))
                parts.append(windows_of([batch], spec).samples)
    windows = np.concatenate(parts)
    return np.concatenate([windows, *(_turned(windows, generator) for _ in range(_TURNED))])


def _turned(windows: NDArray[np.float32], generator: torch.Generator) -> NDArray[np.float32]:
    """Each window with all its sensors turned together; its channels come in triples of axes."""
    n, length, channels = windows.shape
    triples = torch.from_numpy(windows).view(n, length, channels // 3, 3)
    turned: NDArray[np.float32] = (
        (triples @ rotations(n, _TURN_DEG, generator)[:, None]).reshape(n, length, channels).numpy()
    )
    return turned
