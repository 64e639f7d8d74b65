"""A bundle in integers beside the one in float32: size, accuracy, equal answers, time. Needs no torch."""

from __future__ import annotations

import time
from typing import Final

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from models.scoring.evaluation import Figures, score
from models.scoring.subjects import Subjects, sittings_to_meet
from models.windows.data import labelled_windows
from streamer.bundle import ModelBundle
from streamer.classifier import Classifier
from streamer.errors import ConfigError

Float32 = NDArray[np.float32]

BATCHES: Final = (1, 16, 256)
#: Turns of timing; in each both models take as many windows.
_TURNS: Final = 15
_WINDOWS_PER_TURN: Final = 256


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """Time per window, µs, on one thread; ratio of the median over turns in which both ran."""

    batch: int
    float32_us: float
    int8_us: float
    times_faster: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two bundles on the same windows.

    Attributes:
        bundle, digest: in integers.
        of, of_digest: in float32.
        dataset, protocol: whose windows, in words.
        seen_in_training: whether the model learned from them.
        parameters: numbers in the float32 model's weights.
        float32_bytes, int8_bytes: of model.onnx.
        bytes_per_parameter: of the one in integers.
        windows: how many.
        float32_accuracy, int8_accuracy, float32_macro_f1, int8_macro_f1: of each.
        macro_f1_lost: percentage points.
        equal_labels: share of windows whose most probable activity is the same.
        largest_difference: of a probability.
        timed: by windows per run.
    """

    bundle: str
    digest: str
    of: str
    of_digest: str
    dataset: str
    protocol: str
    seen_in_training: bool
    parameters: int
    float32_bytes: int
    int8_bytes: int
    bytes_per_parameter: float
    windows: int
    float32_accuracy: float
    int8_accuracy: float
    float32_macro_f1: float
    int8_macro_f1: float
    macro_f1_lost: float
    equal_labels: float
    largest_difference: float
    timed: tuple[Timed, ...]

    def json(self) -> bytes:
        """One JSON document."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The table's cells: what, float32, int8, difference."""
        return [
            (
                "model.onnx, kB",
                f"{self.float32_bytes / 1000:.1f}",
                f"{self.int8_bytes / 1000:.1f}",
                f"{self.bytes_per_parameter:.2f} bytes for each of {self.parameters} parameters",
            ),
            ("accuracy", f"{self.float32_accuracy:.4f}", f"{self.int8_accuracy:.4f}", ""),
            (
                "macro-F1",
                f"{self.float32_macro_f1:.4f}",
                f"{self.int8_macro_f1:.4f}",
                f"{self.macro_f1_lost:+.2f} points lost",
            ),
            ("same activity", "", "", f"{100 * self.equal_labels:.2f} % of {self.windows} windows"),
            *(
                (
                    f"µs per window, {one.batch} at a time",
                    f"{one.float32_us:.1f}",
                    f"{one.int8_us:.1f}",
                    f"{one.times_faster:.2f} times as fast",
                )
                for one in self.timed
            ),
        ]

    def text(self) -> str:
        """A table for people."""
        seen = ", seen in training" if self.seen_in_training else ""
        lines = [f"{self.bundle} ({self.digest}) beside {self.of} on {self.dataset}: {self.protocol}{seen}"]
        table = [("", "float32", "int8", ""), *self.rows()]
        lines += [f"{what:30s}{a:>10s}{b:>10s}  {note}".rstrip() for what, a, b, note in table]
        return "\n".join(lines)

    def markdown(self) -> str:
        """A section of a model card."""
        seen = " These recordings were seen in training." if self.seen_in_training else ""
        return "\n".join(
            (
                f"### In integers of 8 bits, beside float32: {self.dataset}, {self.protocol}",
                "",
                (
                    f"`har-models quantize {self.of}`; times on one thread, the ratio is the median of turns in one "
                    f"run.{seen}"
                ),
                "",
                "| | float32 | int8 | |",
                "|---|---|---|---|",
                *(f"| {' | '.join(row)} |" for row in self.rows()),
            )
        )


def card(result: Comparison) -> str:
    """CARD.md of the bundle in integers, as text."""
    of = (
        f"The model of `{result.of}` (digest `{result.of_digest}`) in integers of 8 bits: what that model's card says "
        "of its data, their terms and its limits holds here, too."
    )
    return "\n\n".join((f"# {result.bundle}", of, "## Figures", result.markdown())) + "\n"


def compare(whole: ModelBundle, quantized: ModelBundle, *, subjects: Subjects = "test") -> Comparison:
    """Both bundles over the windows of the data set that they were trained on.

    Args:
        whole: in float32.
        quantized: in integers.
        subjects: where there is an official test split, whose windows; "train" while models are being made.

    Raises:
        ConfigError: the data set has no windows for them.
    """
    dataset = whole.manifest.training["dataset"]
    meeting = sittings_to_meet(whole, dataset, subjects=subjects)
    truth = labelled_windows(meeting.sittings, whole.spec, whole.labels)
    if not len(truth):
        raise ConfigError(f"data set {dataset} has no windows for {whole.manifest.name}; expected its activities")
    classifiers = Classifier(whole), Classifier(quantized)
    answers = [classifier.predict(truth.samples) for classifier in classifiers]
    figures: list[Figures] = [score(one, truth, whole.labels) for one in answers]
    parameters = parameter_count(whole.model)
    return Comparison(
        bundle=quantized.manifest.name,
        digest=quantized.digest,
        of=whole.manifest.name,
        of_digest=whole.digest,
        dataset=dataset,
        protocol=meeting.protocol,
        seen_in_training=meeting.seen_in_training,
        parameters=parameters,
        float32_bytes=len(whole.model),
        int8_bytes=len(quantized.model),
        bytes_per_parameter=len(quantized.model) / parameters,
        windows=len(truth),
        float32_accuracy=figures[0].accuracy,
        int8_accuracy=figures[1].accuracy,
        float32_macro_f1=figures[0].macro_f1,
        int8_macro_f1=figures[1].macro_f1,
        macro_f1_lost=100 * (figures[0].macro_f1 - figures[1].macro_f1),
        equal_labels=float((answers[0].argmax(axis=1) == answers[1].argmax(axis=1)).mean()),
        largest_difference=float(np.abs(answers[0] - answers[1]).max()),
        timed=tuple(timed(*classifiers, truth.samples, batch=batch) for batch in BATCHES),
    )


def timed(whole: Classifier, quantized: Classifier, samples: Float32, *, batch: int) -> Timed:
    """Both in turns over the same windows, so that whatever else the machine does strikes both."""
    samples = np.resize(samples, (_WINDOWS_PER_TURN, *samples.shape[1:]))
    parts = [samples[first : first + batch] for first in range(0, len(samples), batch)]
    spent: list[tuple[float, float]] = []
    for _ in range(_TURNS + 1):
        turn = []
        for classifier in (whole, quantized):
            began = time.perf_counter()
            for part in parts:
                classifier.predict(part)
            turn.append((time.perf_counter() - began) / len(samples) * 1e6)
        spent.append((turn[0], turn[1]))
    # The first one warms up.
    rows = np.array(spent[1:])
    return Timed(
        batch=batch,
        float32_us=float(np.median(rows[:, 0])),
        int8_us=float(np.median(rows[:, 1])),
        times_faster=float(np.median(rows[:, 0] / rows[:, 1])),
    )


def parameter_count(model: bytes) -> int:
    """Numbers in the float32 constants of an ONNX model."""
    graph = onnx.load_from_string(model).graph
    return sum(int(np.prod(t.dims)) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
