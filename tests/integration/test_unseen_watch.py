"""A person and a watch in no training data, replayed from a file as a faster watch sends, to the default model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.scoring.streaming import answers_at, frames_of, told_over_time
from models.windows.variations import at_rate
from simulator.datasets import fitbit
from streamer import write_csv
from streamer.bundle import load_bundle
from tests.programs import HarStream, simulator
from tests.servers import Mosquitto


@pytest.mark.parametrize("rate_hz", [40.0, 104.0])
def test_walking_running_and_sitting_are_told(
    rate_hz: float, mosquitto: Mosquitto, data_dir: Path, tmp_path: Path
) -> None:
    (recorded,) = fitbit.read_recordings(data_dir)
    recording = at_rate(recorded, np.random.default_rng(1), rate_hz=rate_hz)
    write_csv(tmp_path / "watch.csv", [recording])
    address = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
    service = HarStream(tmp_path, *address)
    try:
        service.wait_ready()
        # Three seconds of readings at once, each time some milliseconds off.
        faults = ("--fault", "jitter=0.005", "--batch", str(round(3 * rate_hz)))
        simulator(str(tmp_path / "watch.csv"), *address, "--speed", "max", *faults)
        assert service.stop() == 0
    finally:
        service.kill()
    bundle = load_bundle("wisdm-watch-cnn")
    t_ns, truth, _ = frames_of(recording, bundle.labels)
    told = answers_at(t_ns, truth, told_over_time(service.events, hindsight=True), bundle)
    for activity in ("walking", "running", "sitting"):
        label = bundle.labels.index(activity)
        right = int(((truth == label) & (told == label)).sum())
        f1 = 2 * right / int((truth == label).sum() + ((truth >= 0) & (told == label)).sum())
        assert f1 >= 0.90, activity
