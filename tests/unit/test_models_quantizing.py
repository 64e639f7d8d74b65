"""A model in integers gives nearly the same probabilities, in a quarter of the bytes, the same bits for any batch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from models.nets.export import to_onnx
from models.nets.networks import CnnConfig, ConvLstmConfig, LstmConfig, Network, NetworkConfig, build
from models.nets.quantizing import quantize
from models.nets.refusal import fit_refusal
from models.nets.refusal_graph import with_refusal
from models.scoring.quantized import parameter_count
from models.windows.data import LabelledWindows
from streamer.errors import ConfigError
from tests.bundles import POSTURE_SPEC, mean_softmax_onnx
from tests.unit.test_models_export import session

WINDOW_LEN, CHANNELS, LABELS = 64, 6, 5
CONFIGS: dict[str, NetworkConfig] = {
    "cnn": CnnConfig(widths=(16, 24), stem_stride=2),
    "lstm": LstmConfig(hidden=24),
    "conv-lstm": ConvLstmConfig(stem=(16, 24), hidden=24),
}


def windows(n: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return (3.0 * np.random.default_rng(seed).normal(size=(n, WINDOW_LEN, CHANNELS))).astype(np.float32)


@pytest.fixture(scope="module", params=CONFIGS)
def models(request: pytest.FixtureRequest) -> tuple[bytes, bytes]:
    """The same network in float32 and in integers."""
    torch.manual_seed(1)
    net: Network = build(CONFIGS[request.param], channels=CHANNELS, outputs=LABELS)
    with torch.no_grad():
        for seed in range(5):
            net(torch.from_numpy(windows(64, seed)))
        net.head.weight *= 5.0
    whole = to_onnx(net.eval(), window_len=WINDOW_LEN)
    return whole, quantize(whole, windows(256, 10))


def test_probabilities_are_nearly_those_of_float32(models: tuple[bytes, bytes]) -> None:
    x = windows(200, 11)
    whole, packed = (session(model).run(["probabilities"], {"windows": x})[0] for model in models)
    assert np.abs(whole - packed).max() < 0.1
    assert (whole.argmax(axis=1) == packed.argmax(axis=1)).mean() > 0.95
    # It is not the same model once more.
    assert (whole != packed).any()


def test_probabilities_do_not_depend_on_the_batch_bit_for_bit(models: tuple[bytes, bytes]) -> None:
    run, x = session(models[1]).run, windows(100, 12)
    whole = run(None, {"windows": x})[0]
    for size in (1, 2, 3, 7, 32):
        parts = [run(None, {"windows": x[i : i + size]})[0] for i in range(0, 100, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole, err_msg=f"batches of {size}")


def test_weights_take_a_byte_each_and_leave_room_in_16_bit_sums(models: tuple[bytes, bytes]) -> None:
    whole, packed = (onnx.load_from_string(model) for model in models)
    weights = [numpy_helper.to_array(t) for t in packed.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    weights = [weight for weight in weights if weight.ndim > 1]
    assert sum(weight.size for weight in weights) > 0.85 * parameter_count(models[0])
    in_integers = {node.input[0] for node in packed.graph.node if node.op_type == "DequantizeLinear"}
    multiplied = [
        numpy_helper.to_array(t)
        for t in packed.graph.initializer
        if t.name in in_integers and t.data_type == onnx.TensorProto.INT8
    ]
    # Recurrent layers run in float32.
    assert bool(multiplied) == any(node.op_type == "Conv" for node in whole.graph.node)
    # 2 * 255 * 64 < 2^15.
    assert max((int(np.abs(weight.astype(int)).max()) for weight in multiplied), default=0) <= 64


def test_refusal_inside_the_graph_stays_as_it_is() -> None:
    """Its distances are in float32: the factors of both models differ by what the features do."""
    torch.manual_seed(1)
    net = build(CONFIGS["cnn"], channels=CHANNELS, outputs=LABELS).eval()
    x, targets = windows(400, 1), np.arange(400) % LABELS
    known = LabelledWindows(x, targets, np.full(400, "a"), np.arange(400))
    channels = ("body_acc_x", "body_acc_y", "body_acc_z", "gravity_x", "gravity_y", "gravity_z")
    model = with_refusal(to_onnx(net, window_len=WINDOW_LEN), fit_refusal(net, known, known, channels))
    packed = quantize(model, x)
    nodes = [node.op_type for node in onnx.load_from_string(packed).graph.node]
    assert nodes[-1] == "Mul"
    assert "QuantizeLinear" in nodes
    samples = np.concatenate([x[:100], 3.0 * x[:100]])
    whole, small = (session(m).run(["probabilities"], {"windows": samples})[0].sum(axis=1) for m in (model, packed))
    assert np.median(whole[:100]) > 0.95
    assert whole[100:].max() < 0.05
    np.testing.assert_allclose(small, whole, atol=0.15)


def test_a_model_without_a_last_layer_is_refused() -> None:
    model = onnx.load_from_string(mean_softmax_onnx(POSTURE_SPEC, 3))
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.op_type = "Sigmoid"
    del softmax.attribute[:]
    with pytest.raises(ConfigError, match="no last layer before a softmax"):
        quantize(model.SerializeToString(), np.zeros((1, 20, 3), np.float32))
