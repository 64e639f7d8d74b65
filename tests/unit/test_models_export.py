"""The ONNX graph is the network: same numbers, for any batch."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch

from models.fitting.training import predict
from models.nets.export import to_onnx
from models.nets.networks import CnnConfig, ConvLstmConfig, LstmConfig, Network, NetworkConfig, build
from models.nets.worn import Worn

WINDOW_LEN, CHANNELS, LABELS = 32, 6, 5
CONFIGS: dict[str, NetworkConfig] = {
    "lstm": LstmConfig(hidden=8),
    "conv-lstm": ConvLstmConfig(stem=(8, 12), hidden=8, layers=2),
    "cnn": CnnConfig(widths=(8, 12), stem_stride=2),
}
KINDS = (*CONFIGS, "cnn that asks for a wearer")


def session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def network(kind: str) -> Network:
    """A network with random weights, scale and batch statistics."""
    torch.manual_seed(1)
    built = build(CONFIGS[kind.split(maxsplit=1)[0]], channels=CHANNELS, outputs=LABELS)
    if kind.endswith("wearer"):
        built.worn = Worn(((0, 1, 2), (3, 4, 5)), (0, 1, 2), window_len=WINDOW_LEN, smooth_len=5, block_len=8)
    built.scale.copy_(torch.rand(CHANNELS) + 0.5)
    with torch.no_grad():
        for _ in range(5):
            built(3.0 * torch.randn(64, WINDOW_LEN, CHANNELS) + 1.0)
    return built.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_exported_graph_gives_the_networks_probabilities(kind: str) -> None:
    net = network(kind)
    windows = np.random.default_rng(0).normal(size=(50, WINDOW_LEN, CHANNELS)).astype(np.float32)
    found = session(to_onnx(net, window_len=WINDOW_LEN, temperature=1.7)).run(None, {"windows": windows})[0]
    # float32 sums in another order.
    np.testing.assert_allclose(found, predict(net, windows, 1.7), atol=1e-6)
    assert found.shape == (50, LABELS)
    assert (found.sum(axis=1) < 1 - 1e-3).all() == (net.worn is not None)


def test_a_watch_that_says_nothing_is_asked_for_its_wearer_alike_in_both() -> None:
    """Powers of nothing are what a sum was rounded to, which no root may magnify."""
    net = network("cnn that asks for a wearer")
    windows = np.zeros((4, WINDOW_LEN, CHANNELS), np.float32)
    windows[1:] = np.array([0.1, -0.7, 0.7, 0.3, 1.1, -0.2], np.float32)
    windows[2, :, 3:] = 0
    windows[3, ::2] += np.float32(1e-4)
    found = session(to_onnx(net, window_len=WINDOW_LEN)).run(None, {"windows": windows})[0]
    np.testing.assert_allclose(found, predict(net, windows), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_do_not_depend_on_the_batch_bit_for_bit(kind: str) -> None:
    run = session(to_onnx(network(kind), window_len=WINDOW_LEN)).run
    windows = np.random.default_rng(0).normal(size=(60, WINDOW_LEN, CHANNELS)).astype(np.float32)
    whole = run(None, {"windows": windows})[0]
    for size in (1, 2, 3, 7, 32):
        parts = [run(None, {"windows": windows[i : i + size]})[0] for i in range(0, 60, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole, err_msg=f"batches of {size}")


def test_higher_temperature_lowers_confidence_and_keeps_the_order() -> None:
    net = network("cnn")
    windows = np.random.default_rng(0).normal(size=(20, WINDOW_LEN, CHANNELS)).astype(np.float32)
    cold, warm = (
        session(to_onnx(net, window_len=WINDOW_LEN, temperature=t)).run(None, {"windows": windows})[0]
        for t in (1.0, 3.0)
    )
    assert (warm.max(axis=1) < cold.max(axis=1)).all()
    np.testing.assert_array_equal(warm.argmax(axis=1), cold.argmax(axis=1))
