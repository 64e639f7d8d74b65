"""A bundle is read whole or refused with one clear line."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx
import onnx.external_data_helper
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnxruntime import __version__ as ort_version

from streamer.bundle import find_bundle, load_bundle, shipped_bundles
from streamer.classifier import MAX_BATCH, Classifier
from streamer.config import DEFAULT_MODEL
from streamer.errors import BundleError
from tests.bundles import POSTURE_SPEC, POSTURES, make_bundle, mean_softmax, mean_softmax_onnx

MODEL, GOLDEN, MANIFEST = "model.onnx", "golden.npz", "bundle.json"
FILES: Final = (MODEL, GOLDEN, MANIFEST)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a good bundle."""
    folder = tmp_path_factory.mktemp("whole")
    make_bundle(folder)
    return {name: (folder / name).read_bytes() for name in FILES}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def manifest(whole: dict[str, bytes], **changes: object) -> bytes:
    """The manifest with fields replaced, added or (None) absent; `a__b` stands for b inside a."""
    document: dict[str, Any] = msgspec.json.decode(whole[MANIFEST])
    for path, value in changes.items():
        *outer, name = path.split("__")
        inside = document
        for key in outer:
            inside = inside[key]
        inside[name] = value
        if value is None:
            del inside[name]
    return msgspec.json.encode(document)


def vouched(whole: dict[str, bytes], **contents: bytes) -> dict[str, bytes]:
    """The files with model or golden vectors replaced, and a manifest that vouches for them."""
    files = whole | {{"model": MODEL, "golden": GOLDEN}[kind]: content for kind, content in contents.items()}
    digests = {f"{kind}_sha256": hashlib.sha256(content).hexdigest() for kind, content in contents.items()}
    return files | {MANIFEST: manifest(whole, **digests)}


def golden(whole: dict[str, bytes], **changes: object) -> bytes:
    """The golden vectors with arrays replaced or (None) absent."""
    with np.load(io.BytesIO(whole[GOLDEN])) as arrays:
        replaced = {name: changes.get(name, arrays[name]) for name in arrays.files}
    buffer = io.BytesIO()
    kept: dict[str, Any] = {name: array for name, array in replaced.items() if array is not None}
    np.savez(buffer, **kept)
    return buffer.getvalue()


def refusal(folder: Path) -> str:
    """What is said about a bundle, with its folder as `-`."""
    with pytest.raises(BundleError) as caught:
        Classifier(load_bundle(folder))
    message = str(caught.value).replace(f"{folder}/", "-/")
    assert "\n" not in message
    return message


# Whole ones --------------------------------------------------------------------------------------------------------


def test_saved_bundle_reads_back_the_same(tmp_path: Path) -> None:
    saved = make_bundle(tmp_path)
    loaded = load_bundle(find_bundle(str(tmp_path)))
    assert loaded.manifest == saved.manifest
    assert (loaded.labels, loaded.spec, loaded.digest) == (POSTURES, POSTURE_SPEC, saved.digest)
    assert loaded.digest == hashlib.sha256((tmp_path / MANIFEST).read_bytes()).hexdigest()[:16]
    np.testing.assert_array_equal(loaded.golden.windows, saved.golden.windows)


def test_digest_changes_with_anything_that_changes_an_event(tmp_path: Path, whole: dict[str, bytes]) -> None:
    digests = {load_bundle(write(tmp_path, whole)).digest}
    for change in (
        {"smoothing__dwell": 2},
        {"preprocessing__hop_len": 5},
        {"labels": ["sitting", "standing", "lying"]},
        {"min_feed_rate_hz": 9.0},
    ):
        digests.add(load_bundle(write(tmp_path, whole | {MANIFEST: manifest(whole, **change)})).digest)
    other_golden = vouched(whole, golden=golden(whole, t_ns=np.arange(100)))
    digests.add(load_bundle(write(tmp_path, other_golden)).digest)
    assert len(digests) == 6


def test_default_bundle_is_shipped_and_every_shipped_bundle_runs() -> None:
    assert DEFAULT_MODEL in shipped_bundles()
    for name, folder in shipped_bundles().items():
        bundle = load_bundle(find_bundle(name))
        assert (bundle.manifest.name, find_bundle(str(folder))) == (name, folder)
        Classifier(bundle)


@pytest.mark.parametrize("name", [*shipped_bundles(), "posture"])
def test_probabilities_depend_neither_on_the_batch_nor_on_the_place_in_it(name: str, tmp_path: Path) -> None:
    # The law that grouping does not matter hangs on this; another processor or runtime might break it.
    bundle = make_bundle(tmp_path) if name == "posture" else load_bundle(find_bundle(name))
    classifier = Classifier(bundle)
    rng = np.random.default_rng(0)
    windows = np.resize(bundle.golden.windows, (300, *bundle.golden.windows.shape[1:]))
    windows = (windows + rng.normal(scale=0.1, size=windows.shape)).astype(np.float32)
    alone = np.concatenate([classifier.predict(windows[i : i + 1]) for i in range(len(windows))])
    for size in (2, 3, 5, 16, 17, 64, 100, MAX_BATCH - 1, MAX_BATCH, MAX_BATCH + 1, 300):
        found = [classifier.predict(windows[first : first + size]) for first in range(0, 300, size)]
        np.testing.assert_array_equal(np.concatenate(found), alone)
    # What a row lacks of 1 is none of these: this is nobody's motion, and some models ask for a wearer.
    assert 0.1 < alone.sum(axis=1).max() < 1 + 1e-5


def test_classifier_computes_what_the_model_says(tmp_path: Path) -> None:
    classifier = Classifier(make_bundle(tmp_path))
    windows = np.random.default_rng(0).normal(size=(50, 20, 3)).astype(np.float32)
    np.testing.assert_allclose(classifier.predict(windows), mean_softmax(windows, 3), atol=1e-6)
    assert classifier.predict(windows[:0]).shape == (0, 3)


# Damaged ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(tmp_path: Path, whole: dict[str, bytes], name: str) -> None:
    (write(tmp_path, whole) / name).unlink()
    assert refusal(tmp_path) == f"-/{name}: cannot be read (No such file or directory)"


@pytest.mark.parametrize("name", [MODEL, GOLDEN])
def test_altered_file_is_named(tmp_path: Path, whole: dict[str, bytes], name: str) -> None:
    altered = whole[name][:-1] + bytes([whole[name][-1] ^ 1])
    expected, found = (hashlib.sha256(content).hexdigest() for content in (whole[name], altered))
    write(tmp_path, whole | {name: altered})
    assert refusal(tmp_path) == f"-/{name}: SHA-256 is {found}; bundle.json expects {expected}"


@pytest.mark.parametrize("name", FILES)
def test_oversize_file_is_not_read(tmp_path: Path, whole: dict[str, bytes], name: str) -> None:
    with (write(tmp_path, whole) / name).open("wb") as file:
        file.truncate(16_000_001)
    assert refusal(tmp_path) == f"-/{name}: 16000001 bytes; expected at most 16000000"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schema": 2, "of_later": 1}, "schema is 2; this release reads 1"),
        ({"schema": None}, "Object missing required field `schema`"),
        ({"surprise": 1}, "Object contains unknown field `surprise`"),
        ({"sur\nprise": 1}, "Object contains unknown field `sur prise`"),
        ({"s" * 1000: 1}, f"Object contains unknown field `{'s' * 269}"),
        ({"smoothing": None}, "Object missing required field `smoothing`"),
        ({"name": "No Name"}, r"Expected `str` matching regex '^[a-z0-9][a-z0-9-]{0,63}$' - at `$.name`"),
        ({"min_feed_rate_hz": 0}, "Expected `float` > 0.0 - at `$.min_feed_rate_hz`"),
        ({"model_sha256": "ab"}, "Expected `str` matching regex '^[0-9a-f]{64}$' - at `$.model_sha256`"),
        ({"smoothing__weight": 0}, "Expected `float` > 0.0 - at `$.smoothing.weight`"),
        ({"smoothing__enter": 1.1}, "Expected `float` <= 1.0 - at `$.smoothing.enter`"),
        ({"smoothing__dwell": 0}, "Expected `int` >= 1 - at `$.smoothing.dwell`"),
        ({"preprocessing__rate_hz": 60}, "preprocessing.rate_hz is 60; expected a divisor of 10^9 from 1 to 1000"),
        ({"preprocessing__channels": ["nose_x"]}, "Invalid enum value 'nose_x' - at `$.preprocessing.channels[0]`"),
        ({"preprocessing__surprise": 1}, "Object contains unknown field `surprise` - at `$.preprocessing`"),
        ({"labels": []}, "labels [] are not 1 to 256 distinct names of activities; expected names such as walking_up"),
        ({"labels": ["standing"] * 3}, "labels ['standing', 'standing', 'standing'] are not 1 to 256 distinct names"),
        ({"labels": ["Flying high", "unknown"]}, "labels ['Flying high', 'unknown'] are not 1 to 256 distinct"),
        ({"labels": [f"a{i}" for i in range(257)]}, "labels ['a0', 'a1'"),
    ],
)
def test_manifest_that_says_something_else_is_refused(
    tmp_path: Path, whole: dict[str, bytes], changes: dict[str, object], expected: str
) -> None:
    write(tmp_path, whole | {MANIFEST: manifest(whole, **changes)})
    assert refusal(tmp_path).startswith(f"-/{MANIFEST}: {expected}")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "Input data was truncated"),
        (b"model: posture", "JSON is malformed"),
        (b"[1]", "Expected `object`, got `array`"),
        (b'{"schema": 1, "name": "\xff"}', ("'utf-8' codec can't decode byte 0xff", "Invalid UTF-8")),
    ],
)
def test_manifest_that_is_no_json_object_is_refused(
    tmp_path: Path, whole: dict[str, bytes], content: bytes, expected: str | tuple[str, ...]
) -> None:
    write(tmp_path, whole | {MANIFEST: content})
    told = refusal(tmp_path)
    assert told.startswith(f"-/{MANIFEST}: ")
    # What msgspec says of it differs by its version.
    assert told.removeprefix(f"-/{MANIFEST}: ").startswith(expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"windows": None}, "not golden vectors (no array windows)"),
        ({"windows": np.zeros((8, 20, 3))}, "windows is float64 (8, 20, 3); expected float32 (8, 20, 3), not empty"),
        (
            {"windows": np.zeros((8, 19, 3), np.float32)},
            "windows is float32 (8, 19, 3); expected float32 (8, 20, 3), not empty",
        ),
        (
            {"windows": np.zeros((0, 20, 3), np.float32)},
            "windows is float32 (0, 20, 3); expected float32 (0, 20, 3), not empty",
        ),
        ({"windows": np.float32(0)}, "windows is float32 (); expected float32 (0, 20, 3), not empty"),
        ({"acc": np.zeros((99, 3))}, "acc is float64 (99, 3); expected float64 (100, 3), not empty"),
        (
            {"probabilities": np.zeros((9, 2), np.float32)},
            "probabilities is float32 (9, 2); expected float32 (9, 3), not empty",
        ),
    ],
)
def test_golden_vectors_of_another_form_are_refused(
    tmp_path: Path, whole: dict[str, bytes], changes: dict[str, object], expected: str
) -> None:
    write(tmp_path, vouched(whole, golden=golden(whole, **changes)))
    assert refusal(tmp_path) == f"-/{GOLDEN}: {expected}"


def test_golden_vectors_are_never_unpickled(tmp_path: Path, whole: dict[str, bytes]) -> None:
    objects = np.empty(100, object)
    objects[:] = "anything at all"
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, t_ns=objects)
    write(tmp_path, vouched(whole, golden=buffer.getvalue()))
    assert refusal(tmp_path) == f"-/{GOLDEN}: not golden vectors (t_ns is object; expected numbers or text)"


@settings(max_examples=60)
@given(data=st.data())
def test_no_damage_to_golden_vectors_raises_anything_but_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, bytes], data: st.DataObject
) -> None:
    content = bytearray(whole[GOLDEN])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    write(folder, vouched(whole, golden=bytes(content[: data.draw(st.integers(0, len(content)))])))
    told = ""
    try:
        load_bundle(folder)
    except BundleError as error:
        told = str(error)
    assert "\n" not in told


def plain_array(whole: dict[str, bytes]) -> dict[str, bytes]:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return vouched(whole, golden=buffer.getvalue())


def truncated_model(whole: dict[str, bytes]) -> dict[str, bytes]:
    return vouched(whole, model=whole[MODEL][:100])


def model_of_other_output(whole: dict[str, bytes]) -> dict[str, bytes]:
    return vouched(whole, model=mean_softmax_onnx(POSTURE_SPEC, 3, output="scores"))


def model_of_other_window(whole: dict[str, bytes]) -> dict[str, bytes]:
    return vouched(whole, model=mean_softmax_onnx(msgspec.structs.replace(POSTURE_SPEC, window_len=21), 3))


def model_of_other_weights(whole: dict[str, bytes]) -> dict[str, bytes]:
    model = onnx.load_from_string(whole[MODEL])
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]) + np.float32(0.01) * np.eye(3, dtype=np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "weight"))
    return vouched(whole, model=model.SerializeToString())


def model_that_gives_nan(whole: dict[str, bytes]) -> dict[str, bytes]:
    model = onnx.load_from_string(whole[MODEL])
    weight = np.full((3, 3), np.nan, np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "weight"))
    return vouched(whole, model=model.SerializeToString())


def model_of_one_window_a_run(whole: dict[str, bytes]) -> dict[str, bytes]:
    model = onnx.load_from_string(whole[MODEL])
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return vouched(whole, model=model.SerializeToString())


def model_whose_sums_depend_on_the_batch(whole: dict[str, bytes]) -> dict[str, bytes]:
    # ONNX Runtime sums a batch of one in another order.
    model = onnx.load_from_string(whole[MODEL])
    channels = next(i for i, node in enumerate(model.graph.node) if node.op_type == "GlobalAveragePool")
    mean = helper.make_node("ReduceMean", ["windows"], ["mean"], axes=[1], keepdims=0)
    kept = [node for node in model.graph.node if node.op_type in {"MatMul", "Softmax"}]
    assert channels == 1
    del model.graph.node[:]
    model.graph.node.extend([mean, *kept])
    return vouched(whole, model=model.SerializeToString())


def model_of_a_later_operator_set(whole: dict[str, bytes]) -> dict[str, bytes]:
    model = onnx.load_from_string(whole[MODEL])
    model.opset_import[0].version = 99
    return vouched(whole, model=model.SerializeToString())


def model_of_a_later_format(whole: dict[str, bytes]) -> dict[str, bytes]:
    model = onnx.load_from_string(whole[MODEL])
    model.ir_version = 99
    return vouched(whole, model=model.SerializeToString())


def model_of_own_operators(whole: dict[str, bytes]) -> dict[str, bytes]:
    model = onnx.load_from_string(whole[MODEL])
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return vouched(whole, model=model.SerializeToString())


def model_with_weights_elsewhere(whole: dict[str, bytes]) -> dict[str, bytes]:
    model = onnx.load_from_string(whole[MODEL])
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../../secret")
    model.graph.initializer[0].ClearField("raw_data")
    return vouched(whole, model=model.SerializeToString())


def model_with_weights_elsewhere_in_a_branch(whole: dict[str, bytes]) -> dict[str, bytes]:
    model = onnx.load_from_string(whole[MODEL])
    weight = onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32), "hidden")
    onnx.external_data_helper.set_external_data(weight, "../../secret")
    branch = helper.make_graph([], "branch", [], [], [weight])
    model.graph.node.append(helper.make_node("If", ["windows"], ["x"], then_branch=branch, else_branch=branch))
    return vouched(whole, model=model.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (plain_array, f"-/{GOLDEN}: not golden vectors"),
        (truncated_model, "model of bundle posture: not an ONNX model (it is cut short)"),
        (
            model_of_other_output,
            (
                "model of bundle posture: takes [('windows', 'tensor(float)', [20, 3])] and gives "
                "[('scores', 'tensor(float)', [3])]; expected [('windows', 'tensor(float)', [20, 3])] and "
                "[('probabilities', 'tensor(float)', [3])] behind the batch axis"
            ),
        ),
        (model_of_other_window, "model of bundle posture: takes [('windows', 'tensor(float)', [21, 3])] and gives "),
        (model_of_other_weights, "model of bundle posture: differs from its golden vectors by 0.0"),
        (model_that_gives_nan, "model of bundle posture: its outputs are no probabilities; expected finite"),
        (model_of_one_window_a_run, "model of bundle posture: not runnable here ("),
        (
            model_whose_sums_depend_on_the_batch,
            "model of bundle posture: a window's probabilities depend on what else is in its run; expected the same",
        ),
        (
            model_of_a_later_operator_set,
            (
                "model of bundle posture: not runnable here (needs operator set ai.onnx 99; "
                f"onnxruntime {ort_version} reads ai.onnx up to "
            ),
        ),
        (model_of_a_later_format, "model of bundle posture: not runnable here (Unsupported model IR version: 99, max "),
        (
            model_of_own_operators,
            "model of bundle posture: not runnable here (Fatal error: com.example:Transpose(-1) is not a registered",
        ),
        (
            model_with_weights_elsewhere,
            "model of bundle posture: keeps weights in another file; expected all of them in model.onnx",
        ),
        (
            model_with_weights_elsewhere_in_a_branch,
            "model of bundle posture: keeps weights in another file; expected all of them in model.onnx",
        ),
    ],
)
def test_damage_that_the_manifest_vouches_for_is_found_before_serving(
    tmp_path: Path, whole: dict[str, bytes], damage: Callable[[dict[str, bytes]], dict[str, bytes]], expected: str
) -> None:
    write(tmp_path, damage(whole))
    assert refusal(tmp_path).startswith(expected)


def test_link_out_of_the_folder_is_refused_and_one_inside_is_followed(tmp_path: Path, whole: dict[str, bytes]) -> None:
    inside, outside = tmp_path / "bundle", tmp_path / "elsewhere"
    inside.mkdir()
    outside.write_bytes(whole[MODEL])
    write(inside, whole)
    (inside / MODEL).unlink()
    (inside / MODEL).symlink_to("../elsewhere")
    assert refusal(inside) == f"-/{MODEL}: leads out of the bundle to {outside}; expected a file in its folder"
    # The way that Kubernetes mounts a volume.
    (inside / "..data").mkdir()
    (inside / "..data" / MODEL).write_bytes(whole[MODEL])
    (inside / MODEL).unlink()
    (inside / MODEL).symlink_to(f"..data/{MODEL}")
    Classifier(load_bundle(inside))


def test_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path, whole: dict[str, bytes]) -> None:
    write(tmp_path, whole)
    (tmp_path / MODEL).unlink()
    os.mkfifo(tmp_path / MODEL)
    assert refusal(tmp_path) == f"-/{MODEL}: is no file; expected one"


def test_golden_vectors_that_swell_are_not_decompressed(tmp_path: Path, whole: dict[str, bytes]) -> None:
    swollen = io.BytesIO()
    np.savez_compressed(swollen, windows=np.zeros((70_000, 256), np.float32))
    assert len(swollen.getvalue()) < 100_000
    write(tmp_path, vouched(whole, golden=swollen.getvalue()))
    expected = "not golden vectors (71680128 bytes; expected at most 64000000)"
    assert refusal(tmp_path) == f"-/{GOLDEN}: {expected}"


def test_name_that_is_neither_shipped_nor_a_folder_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        find_bundle(str(tmp_path))
    shipped = ", ".join(shipped_bundles())
    assert str(caught.value) == (
        f"model {str(tmp_path)!r} is neither a shipped bundle ({shipped}) nor a folder with a bundle.json"
    )
