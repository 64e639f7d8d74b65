"""A Bytewax flow: decode ▶ a watch's state, by key ▶ classify what came due together ▶ publish.

    BROKER_HOST=127.0.0.1 BROKER_PORT=1883 BUNDLE=... python -m bytewax.run bytewax_flow:flow

Written as its operators suggest: filters carry their state from message to message, and the model runs once for all
windows of a batch. Stands alone on purpose: nothing of har-stream is imported, only its bundle is read.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import cbor2
import numpy as np
from bytewax import operators as op  # type: ignore[import-not-found, unused-ignore] # only where peers are compared
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found, unused-ignore] # likewise
from bytewax.inputs import DynamicSource, StatelessSourcePartition  # type: ignore[import-not-found, unused-ignore]
from bytewax.outputs import DynamicSink, StatelessSinkPartition  # type: ignore[import-not-found, unused-ignore]
from numpy.typing import NDArray
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from scipy.signal import butter, sosfilt, sosfilt_zi

# Official builds of ONNX Runtime report to their publisher unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

BUNDLE: Final = Path(os.environ["BUNDLE"])
MANIFEST: Final = json.loads((BUNDLE / "bundle.json").read_text())
LABELS: Final[list[str]] = MANIFEST["labels"]
PREPROCESSING: Final[dict[str, Any]] = MANIFEST["preprocessing"]
PERIOD_NS: Final = 1_000_000_000 // PREPROCESSING["rate_hz"]
WINDOW_LEN: Final[int] = PREPROCESSING["window_len"]
HOP_LEN: Final[int] = PREPROCESSING["hop_len"]
#: Of a window's rows and columns, zeros before and after: a gyroscope's channels are 0 where a watch has none.
LACKING: Final = ((0, 0), (0, len(PREPROCESSING["channels"]) - 6))
SOS: Final = butter(
    PREPROCESSING["gravity"]["order"],
    PREPROCESSING["gravity"]["cutoff_hz"],
    fs=PREPROCESSING["rate_hz"],
    output="sos",
)
SETTLED: Final = sosfilt_zi(SOS)
STANDARD_GRAVITY: Final = 9.80665
#: RFC 8746 typed arrays, little endian.
FLOATS: Final = {85: "<f4", 86: "<f8"}
#: How often the source looks for messages; without it a source that is empty is asked every millisecond.
POLL: Final = timedelta(milliseconds=20)

Float64 = NDArray[np.float64]


@dataclass
class Readings:
    """One message: times (n,) int64 ns, acceleration (n, 3) float64 m/s²."""

    t_ns: NDArray[np.int64]
    acc: Float64


@dataclass
class Window:
    """One window: its start and (window_len, channels) float32 in g."""

    start_ns: int
    samples: NDArray[np.float32]


@dataclass
class Watch:
    """What is carried from message to message.

    Attributes:
        anchor_ns: the first reading.
        next_index: grid points since then that are behind us.
        start_index: grid index of `samples`' first row.
        last_ns, last_acc: the newest reading.
        zi: the gravity filter's state.
        samples: (k, 6) float64, body and gravity acceleration in g not yet behind the windows.
    """

    anchor_ns: int
    next_index: int
    start_index: int
    last_ns: int
    last_acc: Float64
    zi: Float64
    samples: Float64


def decode(message: tuple[str, bytes]) -> tuple[str, Readings]:
    """Device and readings of a message's topic and payload."""
    topic, payload = message
    if payload.startswith(b"{"):
        document = json.loads(payload)
        acc = np.array([document["acc_x"], document["acc_y"], document["acc_z"]]).T
    else:
        document = cbor2.loads(payload)
        acc = np.frombuffer(document["acc"].value, FLOATS[document["acc"].tag]).reshape(-1, 3).astype(np.float64)
    t_ns = document["t0_ns"] + np.arange(len(acc), dtype=np.int64) * round(1e9 / document["rate_hz"])
    return topic.split("/")[2], Readings(t_ns, acc)


def advance(watch: Watch | None, readings: Readings) -> tuple[Watch, Iterable[Window]]:
    """Filter a message's readings on the model's grid; the windows that they complete."""
    t_ns, acc = readings.t_ns, readings.acc / STANDARD_GRAVITY
    if watch is None or t_ns[0] - watch.last_ns > PREPROCESSING["max_gap_ns"]:
        zi = SETTLED[:, None, :] * acc[0][None, :, None]
        watch = Watch(int(t_ns[0]), 0, 0, int(t_ns[0]), acc[0], zi, np.empty((0, 6)))
    end = int(t_ns[-1] - watch.anchor_ns) // PERIOD_NS + 1
    if end > watch.next_index:
        grid = np.arange(watch.next_index, end) * PERIOD_NS
        times = np.append(watch.last_ns, t_ns) - watch.anchor_ns
        known = np.vstack([watch.last_acc, acc])
        total = np.array([np.interp(grid, times, known[:, axis]) for axis in range(3)])
        gravity, watch.zi = sosfilt(SOS, total, zi=watch.zi)
        watch.samples = np.concatenate([watch.samples, np.concatenate([total - gravity, gravity]).T])
        watch.next_index = end
    watch.last_ns, watch.last_acc = int(t_ns[-1]), acc[-1]
    due = []
    while len(watch.samples) >= WINDOW_LEN:
        start_ns = watch.anchor_ns + watch.start_index * PERIOD_NS
        due.append(Window(start_ns, np.pad(watch.samples[:WINDOW_LEN].astype(np.float32), LACKING)))
        watch.samples = watch.samples[HOP_LEN:]
        watch.start_index += HOP_LEN
    return watch, due


def classify(due: list[tuple[str, Window]]) -> Iterator[tuple[str, str]]:
    """Topic and event of each window, from one run of the model."""
    probabilities = SESSION.run(None, {"windows": np.stack([window.samples for _, window in due])})[0]
    best = probabilities.argmax(axis=1)
    for (device, window), row, label in zip(due, probabilities, best.tolist(), strict=True):
        event = {
            "device": device,
            "activity": LABELS[label],
            "confidence": float(row[label]),
            "window_start_ns": window.start_ns,
            "window_end_ns": window.start_ns + WINDOW_LEN * PERIOD_NS,
        }
        yield f"har/v1/{device}/window", json.dumps(event)


class MqttInput(StatelessSourcePartition):  # type: ignore[misc, unused-ignore] # its base is not installed for type checks
    """Messages that paho's own thread has received since the last look."""

    def __init__(self) -> None:
        self._arrived: deque[tuple[str, bytes]] = deque()
        self._client = connected()
        self._client.on_message = lambda _client, _data, message: self._arrived.append(
            (message.topic, bytes(message.payload))
        )
        self._client.subscribe("har/v1/+/imu")

    def next_batch(self) -> list[tuple[str, bytes]]:
        """All that has arrived."""
        return [self._arrived.popleft() for _ in range(len(self._arrived))]

    def next_awake(self) -> datetime:
        """When to look again."""
        return datetime.now(UTC) + POLL


class MqttOutput(StatelessSinkPartition):  # type: ignore[misc, unused-ignore] # likewise
    """Publishes events."""

    def __init__(self) -> None:
        self._client = connected()

    def write_batch(self, items: list[tuple[str, str]]) -> None:
        """Publish each."""
        for topic, event in items:
            self._client.publish(topic, event)


class MqttSource(DynamicSource):  # type: ignore[misc, unused-ignore] # likewise
    """One subscription; the flow runs with one worker."""

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> MqttInput:
        """The worker's."""
        return MqttInput()


class MqttSink(DynamicSink):  # type: ignore[misc, unused-ignore] # likewise
    """One connection to publish by."""

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> MqttOutput:
        """The worker's."""
        return MqttOutput()


def connected() -> Client:
    """A client whose thread runs."""
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect(os.environ["BROKER_HOST"], int(os.environ["BROKER_PORT"]))
    client.loop_start()
    return client


def session() -> ort.InferenceSession:
    """The bundle's model on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(BUNDLE / "model.onnx"), options, providers=["CPUExecutionProvider"])


SESSION: Final = session()

flow = Dataflow("har")
messages = op.input("mqtt", flow, MqttSource())
decoded = op.map("decode", messages, decode)
windows = op.stateful_flat_map("windows", decoded, advance)
events = op.flat_map_batch("classify", windows, classify)
op.output("publish", events, MqttSink())
