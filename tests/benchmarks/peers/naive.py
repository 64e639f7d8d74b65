"""The naive script: aiomqtt, json, a deque for each watch, filtfilt for each window, one run for each window.

    BROKER_HOST=127.0.0.1 BROKER_PORT=1883 BUNDLE=models/bundles/wisdm-watch-cnn python naive.py

Stands alone on purpose: nothing of har-stream is imported, only its bundle is read.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiomqtt
import cbor2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, filtfilt

# Official builds of ONNX Runtime report to their publisher unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

STANDARD_GRAVITY: Final = 9.80665
#: RFC 8746 typed arrays, little endian.
FLOATS: Final = {85: "<f4", 86: "<f8"}


class Windows:
    """Cuts one watch's windows.

    State: the readings from the next window's start on, and that start.
    """

    def __init__(self, preprocessing: dict[str, Any]) -> None:
        self._period_ns = 1_000_000_000 // preprocessing["rate_hz"]
        self._window_len, self._hop_len = preprocessing["window_len"], preprocessing["hop_len"]
        self._max_gap_ns = preprocessing["max_gap_ns"]
        # Channels of a gyroscope are 0, as the model knows them of a watch that has none.
        self._lacking = len(preprocessing["channels"]) - 6
        gravity = preprocessing["gravity"]
        self._b, self._a = butter(gravity["order"], gravity["cutoff_hz"], fs=preprocessing["rate_hz"])
        self._readings: deque[tuple[int, float, float, float]] = deque()
        self._start_ns = 0

    def push(self, t_ns: int, x: float, y: float, z: float) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Take a reading (ns, m/s²); start and samples (window_len, channels) in g of each window that it completes."""
        readings = self._readings
        if not readings or t_ns - readings[-1][0] > self._max_gap_ns:
            readings.clear()
            self._start_ns = t_ns
        readings.append((t_ns, x, y, z))
        while t_ns >= self._start_ns + (self._window_len - 1) * self._period_ns:
            yield self._start_ns, self._cut()
            self._start_ns += self._hop_len * self._period_ns
            # The reading before the window stays for the interpolation.
            while len(readings) > 1 and readings[1][0] <= self._start_ns:
                readings.popleft()

    def _cut(self) -> NDArray[np.float32]:
        readings = np.array([(t_ns - self._start_ns, x, y, z) for t_ns, x, y, z in self._readings])
        grid = np.arange(self._window_len) * self._period_ns
        axes = [np.interp(grid, readings[:, 0], readings[:, 1 + axis]) for axis in range(3)]
        total = np.array(axes) / STANDARD_GRAVITY
        gravity = filtfilt(self._b, self._a, total)
        none = np.zeros((self._lacking, self._window_len))
        return np.concatenate([total - gravity, gravity, none]).T.astype(np.float32)


def decode(payload: bytes) -> Iterator[tuple[int, float, float, float]]:
    """The readings in a message: time in ns, acceleration in m/s²."""
    if payload.startswith(b"{"):
        document = json.loads(payload)
        columns = [document["acc_x"], document["acc_y"], document["acc_z"]]
    else:
        document = cbor2.loads(payload)
        acc = document["acc"]
        columns = np.frombuffer(acc.value, FLOATS[acc.tag]).reshape(-1, 3).T.tolist()
    t0_ns, period_ns = document["t0_ns"], round(1e9 / document["rate_hz"])
    for i, (x, y, z) in enumerate(zip(*columns, strict=True)):
        yield t0_ns + i * period_ns, x, y, z


async def main() -> None:
    """Recognise until killed."""
    bundle = Path(os.environ["BUNDLE"])
    manifest = json.loads((bundle / "bundle.json").read_text())
    labels, preprocessing = manifest["labels"], manifest["preprocessing"]
    window_ns = preprocessing["window_len"] * 1_000_000_000 // preprocessing["rate_hz"]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(bundle / "model.onnx"), options, providers=["CPUExecutionProvider"])
    watches: defaultdict[str, Windows] = defaultdict(lambda: Windows(preprocessing))

    async with aiomqtt.Client(os.environ["BROKER_HOST"], int(os.environ["BROKER_PORT"])) as client:
        await client.subscribe("har/v1/+/imu")
        async for message in client.messages:
            device = message.topic.value.split("/")[2]
            for reading in decode(bytes(message.payload)):
                for start_ns, samples in watches[device].push(*reading):
                    probabilities = session.run(None, {"windows": samples[None]})[0][0]
                    best = int(probabilities.argmax())
                    event = {
                        "device": device,
                        "activity": labels[best],
                        "confidence": float(probabilities[best]),
                        "window_start_ns": start_ns,
                        "window_end_ns": start_ns + window_ns,
                    }
                    await client.publish(f"har/v1/{device}/window", json.dumps(event))


if __name__ == "__main__":
    asyncio.run(main())
