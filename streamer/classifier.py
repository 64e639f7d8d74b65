"""Windows to probabilities; the only module that knows ONNX Runtime."""

from __future__ import annotations

import os
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.bundle import ModelBundle
from streamer.errors import BundleError, one_line
from streamer.onnx_file import requirements

# From 1.29 on, official builds of ONNX Runtime report to Microsoft and keep a device identifier and a database below
# ~/.cache; only this variable, set before the import, prevents all of it. Whoever wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

#: Windows per run. Beyond this a run gains nothing and its activations leave the cache.
MAX_BATCH: Final = 256
#: Another processor or runtime release may round differently; a different model does not hide behind this.
GOLDEN_TOLERANCE: Final = 1e-4
#: Golden windows that are also classified alone.
_ALONE: Final = 64
#: Of the sum of a window's probabilities, in float32.
_SUM_TOLERANCE: Final = 1e-3
_INPUT: Final = "windows"
_OUTPUT: Final = "probabilities"


class Classifier:
    """A bundle's model, ready to run: one thread, no spinning, verified against the golden vectors."""

    def __init__(self, bundle: ModelBundle) -> None:
        """Build the session and check it.

        Raises:
            BundleError: the model cannot be run here, or does not give what the bundle says it gives.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Spinning threads burn 18 % of a core at five windows per second; one quiet thread burns 0.2 %.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._name = bundle.manifest.name
        self._check_requirements(bundle.model)
        try:
            self._session = ort.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
            self._outputs = len(bundle.outputs)
            self._check_interface(bundle)
            found = self.predict(bundle.golden.windows)
            first = bundle.golden.windows[:_ALONE]
            one_by_one = [self.predict(first[i : i + 1]) for i in range(len(first))]
        except BundleError:
            raise
        except Exception as error:  # the runtime's exceptions share no base but this
            raise self._refusal(f"not runnable here ({_reason(error, bundle.model)})") from error
        self._check_golden(bundle, found)
        if any(len(alone) != 1 for alone in one_by_one) or not np.array_equal(
            np.concatenate(one_by_one), found[:_ALONE]
        ):
            raise self._refusal(
                "a window's probabilities depend on what else is in its run; expected the same to the last bit, for "
                "events must not depend on how messages are grouped"
            )

    def predict(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (m, labels and passages) float32 of windows (m, window_len, channels) float32.

        A row sums to 1 at most; what is left is the probability of none of these.
        """
        if not len(windows):
            return np.empty((0, self._outputs), np.float32)
        runs = [
            self._session.run([_OUTPUT], {_INPUT: windows[first : first + MAX_BATCH]})[0]
            for first in range(0, len(windows), MAX_BATCH)
        ]
        return runs[0] if len(runs) == 1 else np.concatenate(runs)

    def _check_requirements(self, model: bytes) -> None:
        """Refuse files outside the bundle before the runtime opens them."""
        try:
            external = requirements(model).external_data
        except ValueError as error:
            raise self._refusal(f"not an ONNX model ({error})") from error
        if external:
            raise self._refusal("keeps weights in another file; expected all of them in model.onnx")

    def _check_golden(self, bundle: ModelBundle, found: NDArray[np.float32]) -> None:
        expected = bundle.golden.probabilities
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise self._refusal(f"gives {found.dtype} {found.shape}; expected {expected.dtype} {expected.shape}")
        # What is left of 1 is the model's "none of these".
        if not (np.isfinite(found).all() and found.min() >= 0 and (found.sum(axis=1) < 1 + _SUM_TOLERANCE).all()):
            raise self._refusal(
                "its outputs are no probabilities; expected finite values from 0 to 1 of sum 1 or, where none of the "
                "activities fits, less"
            )
        difference = float(np.abs(found - expected).max())
        if not difference <= GOLDEN_TOLERANCE:
            raise self._refusal(
                f"differs from its golden vectors by {difference:.3g}; expected at most {GOLDEN_TOLERANCE}"
            )

    def _check_interface(self, bundle: ModelBundle) -> None:
        spec = bundle.spec
        inputs = [(i.name, i.type, i.shape[1:]) for i in self._session.get_inputs()]
        outputs = [(o.name, o.type, o.shape[1:]) for o in self._session.get_outputs()]
        expected_in = [(_INPUT, "tensor(float)", [spec.window_len, len(spec.channels)])]
        expected_out = [(_OUTPUT, "tensor(float)", [len(bundle.outputs)])]
        if inputs != expected_in or outputs != expected_out:
            raise self._refusal(
                f"takes {inputs!s:.200} and gives {outputs!s:.200}; "
                f"expected {expected_in} and {expected_out} behind the batch axis"
            )

    def _refusal(self, what: str) -> BundleError:
        return BundleError(f"model of bundle {self._name}: {what}")


def _reason(error: Exception, model: bytes) -> str:
    """The runtime's complaint in one line, with versions where it is about those."""
    text = one_line(error, 2000)
    supported = re.search(r"till opset (\d+)", text)
    if supported:
        versions = ", ".join(f"{domain or 'ai.onnx'} {n}" for domain, n in requirements(model).opsets.items())
        return f"needs operator set {versions:.100}; onnxruntime {ort.__version__} reads ai.onnx up to {supported[1]}"
    # Behind the source file and function that complain.
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : (/onnxruntime_src/\S+ .*?\) )?", r"", text)[:300]
