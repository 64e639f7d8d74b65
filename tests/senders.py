"""A watch that keeps sending to a real broker, from a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import paho.mqtt.client as paho
from numpy.typing import NDArray
from paho.mqtt.enums import CallbackAPIVersion

from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.wire import topics
from streamer.wire.payload import encode_json

_EVERY_S = 0.1


def lying(
    *, rate_hz: float = 50.0, unit: float = STANDARD_GRAVITY, gyro: bool = True, behind_s: float = 0.0
) -> Callable[[], bytes]:
    """Payloads of a watch that lies still, each with the readings since the one before.

    Args:
        rate_hz: of its readings.
        unit: gravity as it measures it.
        gyro: it has one.
        behind_s: how far its clock is behind.
    """
    since_ns = time.time_ns()
    period_ns = round(1e9 / rate_hz)

    def payload() -> bytes:
        nonlocal since_ns
        t_ns = np.arange(since_ns, time.time_ns(), period_ns, dtype=np.int64)
        if not len(t_ns):
            return b""
        since_ns = int(t_ns[-1]) + period_ns
        acc: NDArray[np.float64] = np.zeros((len(t_ns), 3))
        # Never quite still: an axis that does not move at all is not wired.
        acc += 0.01 * unit * np.sin(np.arange(len(t_ns)))[:, None]
        acc[:, 2] += unit
        turn = 0.01 * np.cos(np.arange(len(t_ns)))[:, None] + np.zeros((1, 3))
        return encode_json(ImuBatch("wrist", t_ns - round(behind_s * 1e9), acc, turn if gyro else None))

    return payload


@contextmanager
def sending(port: int, *payloads: Callable[[], bytes], topic: str = topics.imu("wrist")) -> Iterator[None]:
    """Publish what each gives ten times a second for as long as the context lasts; nothing where it gives nothing."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(_EVERY_S):
            for give in payloads:
                if payload := give():
                    client.publish(topic, payload)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        client.disconnect()
        client.loop_stop()
