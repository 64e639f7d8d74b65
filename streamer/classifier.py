"""Windows to probabilities; the only module that knows ONNX Runtime."""

from __future__ import annotations

import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.bundle import ModelBundle
from streamer.errors import BundleError

# From 1.29 on, official builds of ONNX Runtime report to Microsoft and keep a device identifier and a database below
# ~/.cache; only this variable, set before the import, prevents all of it. Whoever wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

#: Windows per run. Beyond this a run gains nothing and its activations leave the cache.
MAX_BATCH: Final = 256
#: Another processor or runtime release may round differently; a different model does not hide behind this.
GOLDEN_TOLERANCE: Final = 1e-4
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
        try:
            self._session = ort.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
            self._labels = len(bundle.labels)
            self._check_interface(bundle)
            found = self.predict(bundle.golden.windows)
        except BundleError:
            raise
        except Exception as error:  # the runtime's exceptions share no base but this
            reason = str(error).splitlines()[0]
            raise BundleError(f"model of bundle {bundle.manifest.name}: not runnable here ({reason})") from error
        difference = float(np.abs(found - bundle.golden.probabilities).max())
        if not difference <= GOLDEN_TOLERANCE:
            raise BundleError(
                f"model of bundle {bundle.manifest.name}: differs from its golden vectors by {difference:.3g}; "
                f"expected at most {GOLDEN_TOLERANCE}"
            )

    def predict(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (m, labels) float32 of windows (m, window_len, channels) float32."""
        if not len(windows):
            return np.empty((0, self._labels), np.float32)
        runs = [
            self._session.run([_OUTPUT], {_INPUT: windows[first : first + MAX_BATCH]})[0]
            for first in range(0, len(windows), MAX_BATCH)
        ]
        return runs[0] if len(runs) == 1 else np.concatenate(runs)

    def _check_interface(self, bundle: ModelBundle) -> None:
        spec = bundle.spec
        inputs = [(i.name, i.type, i.shape[1:]) for i in self._session.get_inputs()]
        outputs = [(o.name, o.type, o.shape[1:]) for o in self._session.get_outputs()]
        expected_in = [(_INPUT, "tensor(float)", [spec.window_len, len(spec.channels)])]
        expected_out = [(_OUTPUT, "tensor(float)", [len(bundle.labels)])]
        if inputs != expected_in or outputs != expected_out:
            raise BundleError(
                f"model of bundle {bundle.manifest.name}: takes {inputs} and gives {outputs}; "
                f"expected {expected_in} and {expected_out} behind the batch axis"
            )
