"""The naive peer of tests/benchmarks/peers does the work that it is compared by."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.synthetic import synthetic_watches
from streamer.bundle import find_bundle, load_bundle
from streamer.config import DEFAULT_MODEL
from streamer.preprocessing.pipeline import windows_of
from tests.benchmarks.peers import naive as naive_script
from tests.benchmarks.peers.drive import Outcome, drive
from tests.benchmarks.peers.load import Format, make_load
from tests.benchmarks.peers.measure import faults
from tests.benchmarks.peers.programs import Running, naive
from tests.servers import Mosquitto


@pytest.mark.parametrize("payload", ["json", "cbor"])
def test_naive_script_gives_every_window_at_its_time_and_most_of_the_labels(
    payload: Format, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    bundle = find_bundle(DEFAULT_MODEL).resolve()
    # Eight watches for 12 s: windows of 5 s every 2.5 s, two or three for each.
    load = make_load(bundle, watches=8, seconds=12, batch=50, payload=payload)
    program = naive(tmp_path)
    running = Running(program, mosquitto, bundle, tmp_path / "naive.log")
    try:
        outcome = asyncio.run(drive(mosquitto, load, marks={}, patience_s=10))
    finally:
        running.stop()
    assert faults(outcome, least_agreeing=program.least_agreeing, ended=None) == [], running.log.read_text()
    assert outcome.windows >= len(load.needed) >= 16


def test_naive_windows_differ_from_har_streams_in_nothing_but_the_filter() -> None:
    # At the model's own rate neither interpolates, and body + gravity is the reading itself.
    spec = load_bundle(find_bundle(DEFAULT_MODEL)).spec
    recording = synthetic_watches(1, seed=3, rate_hz=spec.rate_hz)[0].recording(30)
    (stream,) = recording.streams
    assert stream.acc is not None
    cutter = naive_script.Windows(msgspec.to_builtins(spec))
    found = [
        window
        for t_ns, acc in zip(stream.t_ns.tolist(), stream.acc.tolist(), strict=True)
        for window in cutter.push(t_ns, *acc)
    ]
    expected = windows_of([dataclasses.replace(stream, gyro=None)], spec)
    assert [start_ns for start_ns, _ in found] == expected.start_ns.tolist()
    samples = np.stack([samples for _, samples in found])
    # float32: one rounding for each of the two parts.
    np.testing.assert_allclose(_total(samples), _total(expected.samples), atol=1e-6)


def _total(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    assert not samples[:, :, 6:].any()
    return samples[:, :, :3] + samples[:, :, 3:6]


def test_a_program_that_loses_or_invents_windows_or_falls_behind_is_not_comparable() -> None:
    def told(**changes: float) -> list[str]:
        sound = {"windows": 10, "missing": 0, "doubled": 0, "unexpected": 0, "agreeing": 1.0, "behind_s": 0.1}
        return faults(msgspec.convert(sound | changes, Outcome), least_agreeing=0.9, ended=None)

    assert told() == []
    assert told(missing=2) == ["2 windows missing"]
    assert told(doubled=1, unexpected=3) == ["1 windows twice", "3 windows where none belongs"]
    assert told(behind_s=2.5) == ["2.5 s behind the load"]
    assert told(agreeing=0.5) == ["50.0% of the labels are har-stream's, expected 90%"]
