"""The classifier around ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from streamer.bundle import find_bundle, load_bundle, shipped_bundles
from streamer.classifier import MAX_BATCH, Classifier


def test_every_shipped_bundle_gives_the_same_bits_for_any_batch() -> None:
    rng = np.random.default_rng(0)
    for folder in shipped_bundles().values():
        bundle = load_bundle(folder)
        classifier = Classifier(bundle)
        shape = (MAX_BATCH + 44, bundle.spec.window_len, len(bundle.spec.channels))
        windows = rng.normal(size=shape).astype(np.float32)
        together = classifier.predict(windows)
        for size in (1, 3, 100):
            parts = [classifier.predict(windows[i : i + size]) for i in range(0, len(windows), size)]
            assert np.concatenate(parts).tobytes() == together.tobytes(), (bundle.manifest.name, size)


def test_no_windows_give_no_probabilities() -> None:
    bundle = load_bundle(find_bundle("wisdm-watch-cnn"))
    windows = np.empty((0, bundle.spec.window_len, len(bundle.spec.channels)), np.float32)
    assert Classifier(bundle).predict(windows).shape == (0, len(bundle.labels))


def test_the_runtime_keeps_nothing_about_the_user(tmp_path: Path) -> None:
    code = (
        "from streamer.bundle import find_bundle, load_bundle\n"
        "from streamer.classifier import Classifier\n"
        "Classifier(load_bundle(find_bundle('wisdm-watch-cnn')))"
    )
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], env=environment | home, check=True)
    assert list(tmp_path.rglob("*")) == []
