"""A phone at the waist with Sensor Logger: a walk of HAPT's, in the app's own messages, as its documentation has them.

python -m tests.phone --port 1883 --username phone        the password in HAR_STREAM_PASSWORD
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import paho.mqtt.client as mqtt
from numpy.typing import NDArray
from paho.mqtt.enums import CallbackAPIVersion

from simulator.datasets import hapt
from simulator.datasets.location import data_root
from tests.servers import HOST

ACTIVITY: Final = "walking"
DEVICE: Final = "3c9a01be-52f4-4d6e-9a70-0d1f5a9c7b21"
#: Of the walk, and how much of it is sent at once.
_LENGTH_S: Final = 14.0
_RATE_HZ: Final = 50
Float64 = NDArray[np.float64]


def walk() -> tuple[Float64, Float64]:
    """(n, 3) acceleration, m/s², gravity included, and (n, 3) angular rate, rad/s, both at 50 Hz."""
    recording = hapt.read_recordings(data_root(), subjects={"2"})[0]
    (stream,) = recording.streams
    assert stream.acc is not None
    assert stream.gyro is not None
    span = max(
        (span for span in recording.spans if span.activity == ACTIVITY), key=lambda span: span.end_ns - span.start_ns
    )
    inside = (stream.t_ns >= span.start_ns) & (stream.t_ns < span.start_ns + _LENGTH_S * 1e9)
    return stream.acc[inside], stream.gyro[inside]


def messages(acc: Float64, gyro: Float64, start_ns: int) -> Iterator[dict[str, Any]]:
    """What the app sends, a second of readings to a message: acceleration and gravity apart, and the attitude."""
    # Any split will do that adds up; the app's is that of the phone's system.
    gravity = np.cumsum(acc, axis=0) / np.arange(1, len(acc) + 1)[:, None]
    up = gravity / np.linalg.norm(gravity, axis=1, keepdims=True)
    qw = np.sqrt((1 + up[:, 2]) / 2)
    attitude = np.stack([qw, up[:, 1] / (2 * qw), -up[:, 0] / (2 * qw), np.zeros(len(qw))], axis=1)
    columns = {
        "accelerometer": (("x", "y", "z"), acc - gravity),
        "gravity": (("x", "y", "z"), gravity),
        "gyroscope": (("x", "y", "z"), gyro),
        "orientation": (("qw", "qx", "qy", "qz"), attitude),
    }
    for number, first in enumerate(range(0, len(acc), _RATE_HZ)):
        payload = [
            {
                "name": name,
                "time": start_ns + row * (1_000_000_000 // _RATE_HZ),
                "values": dict(zip(axes, values[row].tolist(), strict=True)),
            }
            for name, (axes, values) in columns.items()
            for row in range(first, min(first + _RATE_HZ, len(acc)))
        ]
        yield {"messageId": number, "sessionId": "a walk", "deviceId": DEVICE, "payload": payload}


def main() -> None:
    """Send the walk as one that has just been walked, and stay connected."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--username", required=True)
    given = parser.parse_args()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(given.username, os.environ["HAR_STREAM_PASSWORD"])
    client.connect(HOST, given.port)
    client.loop_start()
    for message in messages(*walk(), time.time_ns() - round(_LENGTH_S * 1e9)):
        client.publish("sensor-logger", json.dumps(message), qos=0).wait_for_publish(10)
    client.loop_stop()


if __name__ == "__main__":
    main()
