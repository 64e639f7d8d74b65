"""An activity of nobody's, made up by hand: one that no shipped model knows, to teach it."""

from __future__ import annotations

from typing import Final

from simulator.synthetic import Profile, shipped_profiles

#: Waving: the forearm upright, so that gravity lies along it, and turning to and fro about the elbow. By person: turns
#: per second, and how far.
_WAVES: Final = ((1.5, 1.0), (1.6, 0.9), (1.45, 1.15))
#: Root mean square of what trembles besides, in each band: m/s² and rad/s.
_TREMBLE: Final = (0.15, 0.04)


def _waving(cadence_hz: float, width: float) -> Profile:
    # Across the forearm the hand swings, along it it is held in its arc, and twice in each turn; the gyroscope sees the
    # turning itself. Amplitudes in m/s² and rad/s, as real and imaginary parts.
    swing = (
        (0.0, 0.0),
        (7.0 * width, 1.0),
        (0.8, 0.4),
        (0.3, 0.1),
        (0.2, 0.0),
        (0.5, -4.0 * width),
    )
    arc = ((2.0 * width, 0.3), (0.4, 0.0), (0.3, 0.2), (0.0, 0.1), (0.1, 0.0), (0.2, 0.3))
    bands = len(shipped_profiles().band_edges_hz) - 1
    triangle = tuple(
        (_TREMBLE[row >= len("xyz")] if row == column else 0.0) for row in range(6) for column in range(row + 1)
    )
    return Profile(
        mean=(-9.4, 0.6, 2.2, 0.0, 0.0, 0.0),
        cadence_hz=cadence_hz,
        cadence_spread=0.05,
        harmonics=(swing, arc),
        noise=(triangle,) * bands,
    )


def gestures() -> dict[str, tuple[Profile, ...]]:
    """Profiles by activity, one for each made-up person."""
    return {"waving": tuple(_waving(cadence_hz, width) for cadence_hz, width in _WAVES)}
