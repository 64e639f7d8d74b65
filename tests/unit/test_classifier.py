"""The classifier around ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from streamer.bundle import Golden, ModelBundle, find_bundle, load_bundle, save_bundle, shipped_bundles
from streamer.classifier import MAX_BATCH, Classifier
from streamer.errors import BundleError
from streamer.recognizer import Recognizer
from tests.bundles import make_bundle
from tests.motion import still


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


def share_of(bundle: ModelBundle, folder: Path, share: float) -> ModelBundle:
    """The bundle with all probabilities multiplied, as refusal inside the graph does."""
    model = onnx.load_from_string(bundle.model)
    model.graph.node[-1].output[0] = "softmax"
    model.graph.initializer.append(numpy_helper.from_array(np.array([share], np.float32), "share"))
    model.graph.node.append(helper.make_node("Mul", ["softmax", "share"], ["probabilities"]))
    golden = bundle.golden
    probabilities = golden.probabilities * np.float32(share)
    made = Golden(golden.t_ns, golden.acc, golden.gyro, golden.windows, probabilities)
    return save_bundle(folder, bundle.manifest, model.SerializeToString(), made)


def test_probabilities_that_leave_room_for_none_of_these_are_served_and_told_as_unknown(tmp_path: Path) -> None:
    """A sure posture of which half is taken away stays below `enter`, 0.6."""
    whole = make_bundle(tmp_path / "whole")
    half = share_of(whole, tmp_path / "half", 0.5)
    for bundle, expected in ((whole, "standing"), (half, "unknown")):
        events = Recognizer(bundle).recognize([still("standing", 10)], 0).events
        assert {event.activity for event in events} == {expected}
    assert Classifier(half).predict(half.golden.windows).sum(axis=1) == pytest.approx(0.5, abs=1e-6)


def test_probabilities_of_a_larger_sum_than_1_are_refused(tmp_path: Path) -> None:
    double = share_of(make_bundle(tmp_path / "whole"), tmp_path / "double", 1.01)
    with pytest.raises(BundleError, match="expected finite values from 0 to 1 of sum 1 or"):
        Classifier(double)
