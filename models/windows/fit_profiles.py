"""Fit the simulator's motion profiles to WISDM subjects: `python -m models.windows.fit_profiles`.

For each activity every subject gives one candidate profile: posture, cadence with harmonics, and the noise that is
left, as `simulator.synthetic` describes. Motion is generated from each candidate, and those are kept whose windows the
default bundle gives the highest probability of their own activity: typical persons as far as the model can tell.
A kept profile must be recognised in RECOGNISED of the windows, generated anew. Activities with such a profile make the
default playlist; the others keep their best one, for whoever asks for them by name.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

import simulator
from simulator.datasets import wisdm
from simulator.datasets.location import data_root
from simulator.datasets.timeline import EPOCH_NS, NANOSECONDS
from simulator.synthetic import Profile, Profiles, motion
from streamer.bundle import ModelBundle, find_bundle, load_bundle
from streamer.classifier import Classifier
from streamer.config import DEFAULT_MODEL
from streamer.imu import ImuBatch
from streamer.preprocessing.pipeline import windows_of
from streamer.recording import Recording

Float64 = NDArray[np.float64]
Complex128 = NDArray[np.complex128]

RATE_HZ: Final = 20
BAND_EDGES_HZ: Final = (0.0, 0.1, 0.3, 0.7, 1.3, 2.0, 3.0, 4.5, 6.5, 10.0)
HARMONICS: Final = 6
#: Cadences looked for: strides and repetitions of a hand.
CADENCES_HZ: Final = np.arange(0.6, 3.2, 0.02)
#: Stretches over which a cadence is taken as constant.
PIECE_S: Final = 6.0
#: Below this share of the variance a rhythm is not worth having.
RHYTHM_SHARE: Final = 0.3
#: Profiles kept per activity at most.
KEPT: Final = 3
#: Share of windows in which a profile must be recognised: the target is 0.90, and a bout's changes cost some.
RECOGNISED: Final = 0.93
#: Rates at which the profiles are generated for the choice: what a watch may send.
FEED_RATES_HZ: Final = (20, 50)
#: Rounding of the numbers in profiles.json, in significant digits.
DIGITS: Final = 3
#: Gyroscope values (rad/s) are brought to the size of accelerations (m/s²) where both are weighed together.
WEIGHTS: Final[Float64] = np.array([1.0, 1.0, 1.0, 3.0, 3.0, 3.0])


def main() -> None:
    """Write simulator/profiles.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(simulator.__file__).parent / "profiles.json")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    judge = Judge(load_bundle(find_bundle(DEFAULT_MODEL)))
    recordings = wisdm.read_recordings(data_root())
    activities: dict[str, tuple[Profile, ...]] = {}
    playlist: list[str] = []
    for activity in wisdm.LABELS.values():
        candidates = [fit(values) for values in stretches(recordings, activity)]
        scores = [judge.score(profile, activity, seed=arguments.seed) for profile in candidates]
        ranks = sorted(range(len(candidates)), key=lambda index: -scores[index].probability)
        best = [candidates[index] for index in ranks[:KEPT]]
        # Judged on motion that the choice has not seen.
        shares = [judge.score(profile, activity, seed=arguments.seed + 1).recognised for profile in best]
        good = tuple(profile for profile, share in zip(best, shares, strict=True) if share >= RECOGNISED)
        activities[activity] = good or (best[0],)
        if good:
            playlist.append(activity)
        print(f"{activity:20} {' '.join(f'{share:.3f}' for share in shares)}: {len(good)} of {len(candidates)} kept")
    profiles = Profiles(
        source="WISDM Smartphone and Smartwatch Activity and Biometrics Dataset (Weiss 2019), watch; "
        "statistics per activity and person, no readings",
        band_edges_hz=BAND_EDGES_HZ,
        playlist=tuple(playlist),
        activities=activities,
    )
    arguments.out.write_bytes(msgspec.json.encode(profiles) + b"\n")
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes; playlist {', '.join(playlist)}")


@dataclass(frozen=True, slots=True)
class Score:
    """What the bundle makes of generated motion: mean probability and share of windows of the right activity."""

    probability: float
    recognised: float


class Judge:
    """The bundle's opinion of generated motion."""

    def __init__(self, bundle: ModelBundle, *, seconds: float = 90.0) -> None:
        self._bundle = bundle
        self._classifier = Classifier(bundle)
        self._seconds = seconds

    def score(self, profile: Profile, activity: str, *, seed: int) -> Score:
        """Over all feed rates."""
        target = self._bundle.labels.index(activity)
        outputs = []
        for rate_hz in FEED_RATES_HZ:
            rng = np.random.default_rng(seed)
            samples = round(self._seconds * rate_hz)
            values = motion(profile, BAND_EDGES_HZ, samples=samples, rate_hz=rate_hz, rng=rng)
            t_ns = EPOCH_NS + np.arange(samples, dtype=np.int64) * (NANOSECONDS // rate_hz)
            acc, gyro = np.ascontiguousarray(values[:, :3]), np.ascontiguousarray(values[:, 3:])
            windows = windows_of([ImuBatch("fit", t_ns, acc, gyro, float(rate_hz))], self._bundle.spec)
            outputs.append(self._classifier.predict(windows.samples))
        probabilities = np.concatenate(outputs)
        return Score(float(probabilities[:, target].mean()), float((probabilities.argmax(axis=1) == target).mean()))


def stretches(recordings: Iterable[Recording], activity: str) -> Iterator[Float64]:
    """(n, 6) float64 per subject: its readings of an activity, both sensors on one regular grid of RATE_HZ."""
    for recording in recordings:
        for span in recording.spans:
            if span.activity != activity:
                continue
            sensors = [values_between(stream, span.start_ns, span.end_ns) for stream in recording.streams]
            begin_ns, end_ns = max(t[0] for t, _ in sensors), min(t[-1] for t, _ in sensors)
            grid_s = np.arange(0, (end_ns - begin_ns) / NANOSECONDS, 1 / RATE_HZ)
            columns = [
                np.interp(grid_s, (t_ns - begin_ns) / NANOSECONDS, column)
                for t_ns, values in sensors
                for column in values.T
            ]
            yield np.stack(columns, axis=1)


def values_between(stream: ImuBatch, start_ns: int, end_ns: int) -> tuple[NDArray[np.int64], Float64]:
    """Times (n,) and values (n, 3) of the one sensor of a stream."""
    inside = (stream.t_ns >= start_ns) & (stream.t_ns < end_ns)
    values = stream.acc if stream.acc is not None else stream.gyro
    if values is None:
        raise ValueError(f"{stream.device_id}: a stream without sensor")
    return stream.t_ns[inside], values[inside]


def fit(values: Float64) -> Profile:
    """The profile of one person's activity.

    Args:
        values: (n, 6), RATE_HZ.
    """
    # The first and last seconds are spent pressing buttons.
    values = values[3 * RATE_HZ : -3 * RATE_HZ]
    mean = values.mean(axis=0)
    moving = values - mean
    cadence_hz, share = best_cadence(moving)
    if share < RHYTHM_SHARE:
        return Profile(mean=rounded(mean), cadence_hz=None, cadence_spread=0.0, harmonics=(), noise=coloured(moving))
    amplitudes, cadences_hz, rest = rhythm(moving, cadence_hz)
    return Profile(
        mean=rounded(mean),
        cadence_hz=float(np.median(cadences_hz)),
        cadence_spread=round(float(min(np.std(cadences_hz) / np.median(cadences_hz), 0.1)), 4),
        harmonics=tuple(tuple(zip(rounded(row.real), rounded(row.imag), strict=True)) for row in amplitudes),
        noise=coloured(rest),
    )


def pieces(values: Float64) -> Float64:
    """(pieces, samples, 6): consecutive stretches of PIECE_S."""
    samples = round(PIECE_S * RATE_HZ)
    return values[: len(values) // samples * samples].reshape(-1, samples, 6)


def harmonic_basis(cadence_hz: float, samples: int) -> Complex128:
    """(samples, harmonics below half the rate) of a rhythm."""
    orders = np.arange(1, HARMONICS + 1)
    orders = orders[orders * cadence_hz < RATE_HZ / 2]
    basis: Complex128 = np.exp(2j * np.pi * cadence_hz * np.arange(samples)[:, None] / RATE_HZ * orders)
    return basis


def project(values: Float64, cadence_hz: float) -> tuple[Complex128, Float64]:
    """Complex amplitudes (harmonics, 6) by least squares, and what they explain (samples, 6)."""
    basis = harmonic_basis(cadence_hz, len(values))
    columns = np.concatenate([basis.real, -basis.imag], axis=1)
    solution = np.linalg.lstsq(columns, values, rcond=None)[0]
    half = len(solution) // 2
    return solution[:half] + 1j * solution[half:], columns @ solution


def weighed(values: Float64) -> Float64:
    """Both sensors at a comparable size."""
    return values * WEIGHTS


def best_cadence(values: Float64) -> tuple[float, float]:
    """The cadence that explains most over all pieces, and the share of variance it explains."""
    parts = pieces(weighed(values))
    parts = parts - parts.mean(axis=1, keepdims=True)
    stacked = parts.transpose(1, 0, 2).reshape(parts.shape[1], -1)
    total = float((stacked**2).sum())
    shares = []
    for cadence_hz in CADENCES_HZ:
        basis = harmonic_basis(cadence_hz, len(stacked))
        columns, _ = np.linalg.qr(np.concatenate([basis.real, basis.imag], axis=1))
        shares.append(float(((columns.T @ stacked) ** 2).sum()) / total)
    best = int(np.argmax(shares))
    return float(CADENCES_HZ[best]), shares[best]


def rhythm(values: Float64, cadence_hz: float) -> tuple[Complex128, Float64, Float64]:
    """Mean amplitudes (HARMONICS, 6), each piece's cadence, and what the mean rhythm leaves (n, 6).

    Phases are counted from the fundamental of the channel in which it is strongest.
    """
    near = cadence_hz * np.linspace(0.9, 1.1, 41)
    amplitudes, cadences, parts = [], [], pieces(values)
    for part in parts:
        explained = [float((project(weighed(part), candidate)[1] ** 2).sum()) for candidate in near]
        cadences.append(float(near[int(np.argmax(explained))]))
        amplitudes.append(project(part, cadences[-1])[0])
    count = min(len(rows) for rows in amplitudes)
    stack = np.stack([rows[:count] for rows in amplitudes])
    lead = int(weighed(np.abs(stack[:, 0])).mean(axis=0).argmax())
    orders = np.arange(1, count + 1)
    phases = np.angle(stack[:, 0, lead])
    aligned = stack * np.exp(-1j * phases[:, None] * orders)[:, :, None]
    mean = aligned.mean(axis=0)
    rest = []
    for part, piece_hz, phase in zip(parts, cadences, phases, strict=True):
        basis = harmonic_basis(piece_hz, len(part))[:, :count]
        turned = mean[: basis.shape[1]] * np.exp(1j * phase * orders[: basis.shape[1]])[:, None]
        rest.append(part - np.real(basis @ turned))
    return mean, np.array(cadences), np.concatenate(rest)


def coloured(values: Float64) -> tuple[tuple[float, ...], ...]:
    """Per band the lower triangle of a factor of the channels' covariance."""
    spectrum = np.fft.rfft(values - values.mean(axis=0), axis=0) / len(values)
    frequency_hz = np.fft.rfftfreq(len(values), 1 / RATE_HZ)
    factors = []
    for low_hz, high_hz in pairwise(BAND_EDGES_HZ):
        inside = spectrum[(frequency_hz >= low_hz) & (frequency_hz < high_hz) & (frequency_hz > 0)]
        covariance = 2 * np.real(inside.T @ inside.conj())
        factor = np.linalg.cholesky(covariance + 1e-9 * np.eye(6))
        factors.append(rounded(factor[np.tril_indices(6)]))
    return tuple(factors)


def rounded(values: NDArray[np.floating]) -> tuple[float, ...]:
    """To DIGITS significant digits."""
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)


if __name__ == "__main__":
    main()
