"""The parity package rebuilds the published UCI HAR windows from the raw recordings of the same people.

The published files print every value with seven significant digits. Nine of the eighteen come out to the last byte,
by the hash that git gives a file; the other nine differ from the published text by its own rounding at most.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Final, NamedTuple
from zipfile import ZipFile

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.number_text import parse_floats
from streamer.preprocessing import filters
from streamer.preprocessing.pipeline import Preprocessor, windows_of
from streamer.preprocessing.spec import UCI_HAR, PreprocessingSpec

#: The published names of the channels, in the spec's order.
SIGNALS: Final = tuple(f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
#: The files that float64 gives but for rounding; all others it gives to the last byte.
TO_ROUNDING: Final = (
    *(f"body_acc_{axis}_{split}" for split in ("test", "train") for axis in "xyz"),
    *(f"body_gyro_{axis}_train" for axis in "xyz"),
)
T0_NS: Final = 1_500_000_000_000_000_000
#: g to m/s² to g is not exact, so the published numbers come from the recordings' own numbers, unscaled.
IN_G: Final = msgspec.structs.replace(UCI_HAR, acc_unit="m/s2")


class Official(NamedTuple):
    """An official window: which recording, which sample it starts at."""

    experiment: int
    first: int


@pytest.fixture(scope="module")
def recordings(data_dir: Path) -> dict[int, ImuBatch]:
    """The raw recordings, by experiment; accelerations in g, against ImuBatch's custom."""
    values: dict[tuple[str, int], NDArray[np.float64]] = {}
    with ZipFile(data_dir / "HAPT Data Set.zip") as archive:
        for name in archive.namelist():
            sensor, _, rest = Path(name).name.partition("_exp")
            if sensor in {"acc", "gyro"} and rest:
                numbers = parse_floats(archive.read(name))
                assert numbers is not None
                values[sensor, int(rest[:2])] = numbers.reshape(-1, 3)
    return {
        experiment: ImuBatch(
            f"experiment-{experiment}",
            T0_NS + np.arange(len(acc), dtype=np.int64) * UCI_HAR.period_ns,
            acc,
            values["gyro", experiment],
        )
        for (sensor, experiment), acc in values.items()
        if sensor == "acc"
    }


@pytest.fixture(scope="module")
def official(data_dir: Path) -> dict[str, list[Official]]:
    """The official windows of each split, in the files' order."""
    with (data_dir / "uci_har_windows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        split: [
            Official(int(row["hapt_experiment"]), int(row["start_sample_0based"]))
            for row in rows
            if row["split"] == split
        ]
        for split in ("test", "train")
    }


@pytest.fixture(scope="module")
def filtered(recordings: dict[int, ImuBatch]) -> dict[int, NDArray[np.float64]]:
    """Every recording's channels, (n - 1, 9) float64: the centred median holds back the last sample."""
    return {experiment: filter_live(recording, IN_G) for experiment, recording in recordings.items()}


def filter_live(recording: ImuBatch, spec: PreprocessingSpec) -> NDArray[np.float64]:
    """A recording's channels before they are cut into float32 windows, in messages of 1000 readings."""
    stages = Preprocessor(spec)
    return np.concatenate(
        [
            samples.channels[0]
            for first in range(0, len(recording), 1000)
            for chunk in stages.aligner.advance([0], stages.intake.push([0], [recording[first : first + 1000]]))
            for samples in stages.filters.push(chunk)
        ]
    )


def official_column(
    file: str, official: dict[str, list[Official]], filtered: dict[int, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """(windows, 128): what stands in an official file."""
    signal, _, split = file.rpartition("_")
    channel = SIGNALS.index(signal)
    return np.stack(
        [
            filtered[window.experiment][window.first : window.first + UCI_HAR.window_len, channel]
            for window in official[split]
        ]
    )


def published_form(column: NDArray[np.float64]) -> bytes:
    """Numbers as the official files print them: seven digits and a zero, exponents of three digits, 16 wide."""
    line = "%14.6e" * column.shape[1] + "\n"
    text: str = (line * len(column)) % tuple(column.ravel().tolist())
    return text.replace("e-", "0e-0").replace("e+", "0e+0").encode()


def test_recordings_rebuild_the_official_files_whose_hash_float64_can_give(
    data_dir: Path, official: dict[str, list[Official]], filtered: dict[int, NDArray[np.float64]]
) -> None:
    with (data_dir / "uci_har_official_sha1.csv").open(newline="") as file:
        expected = {
            row["file"]: row["git_blob_sha1_lf"]
            for row in csv.DictReader(file)
            if row["float64_second_order_sections_give_it"] == "yes"
        }
    assert {*expected, *TO_ROUNDING} == {f"{signal}_{split}" for split in ("test", "train") for signal in SIGNALS}
    assert len(expected) == len(TO_ROUNDING) == 9
    found = {}
    for name in expected:
        text = published_form(official_column(name, official, filtered))
        found[name] = hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()
    assert found == expected


def test_coefficients_are_rounded_once_on_every_machine() -> None:
    assert UCI_HAR.gravity is not None
    sections, _ = filters._design(UCI_HAR.gravity, 50.0)  # nothing else shows a last digit
    # By series in decimal arithmetic of 60 digits.
    assert [sections[place].hex() for place in ((0, 0), (0, 4), (1, 4), (1, 5))] == [
        "0x1.b0f9ec8d67f8fp-18",
        "-0x1.ed0d8e6625c05p-1",
        "-0x1.f62c3753dd5c4p+0",
        "0x1.ed0f3f60124dbp-1",
    ]


@pytest.mark.parametrize("file", TO_ROUNDING)
def test_recordings_rebuild_the_other_files_numbers(
    data_dir: Path, official: dict[str, list[Official]], filtered: dict[int, NDArray[np.float64]], file: str
) -> None:
    split = file.rpartition("_")[2]
    with ZipFile(data_dir / "UCI HAR Dataset.zip") as archive:
        published = parse_floats(archive.read(f"UCI HAR Dataset/{split}/Inertial Signals/{file}.txt"))
    assert published is not None
    column = official_column(file, official, filtered)
    # Seven digits of numbers up to 2 g and 6 rad/s are good to 5e-7; a tie may fall to either side.
    np.testing.assert_allclose(column.ravel(), published, rtol=0, atol=1e-6)


def test_windows_of_readings_in_si_units_are_the_official_ones(
    recordings: dict[int, ImuBatch], official: dict[str, list[Official]], filtered: dict[int, NDArray[np.float64]]
) -> None:
    # The official windows of a recording lie on a dozen phases of the hop, so only a hop of one meets them all.
    experiment, every_phase = 4, msgspec.structs.replace(UCI_HAR, hop_len=1)
    recording = recordings[experiment][:8000]
    assert recording.acc is not None
    in_si = ImuBatch("watch", recording.t_ns, recording.acc * STANDARD_GRAVITY, recording.gyro)
    windows = windows_of([in_si], every_phase)
    assert windows.completeness.min() == 1.0
    starts = [window.first for split in official.values() for window in split if window.experiment == experiment]
    firsts = [first for first in starts if first < len(windows)]
    assert len(firsts) > 50
    np.testing.assert_array_equal(windows.start_ns[firsts], T0_NS + np.array(firsts) * UCI_HAR.period_ns)
    expected = np.stack([filtered[experiment][first : first + UCI_HAR.window_len] for first in firsts])
    np.testing.assert_allclose(windows.samples[firsts], expected, rtol=0, atol=1e-6)
