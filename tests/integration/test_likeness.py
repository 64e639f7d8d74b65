"""A live watch that is unlike the training data: counted once, logged once, shown; at a real Mosquitto."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.wire import topics
from streamer.wire.payload import encode_cbor
from tests.programs import HarStream
from tests.senders import sending
from tests.servers import Mosquitto, wait_until

RATE_HZ = 25
#: Readings of each message: two seconds, so that twenty seconds come in one.
READINGS = 2 * RATE_HZ


def hurried(device_id: str, unit: float) -> Callable[[], bytes]:
    """Payloads of a watch that lies nearly still and sends two seconds at a time, as if from its memory.

    Args:
        device_id: the watch.
        unit: gravity as it measures it.
    """
    rng = np.random.default_rng(1)
    since_ns = time.time_ns() - 3_600_000_000_000

    def payload() -> bytes:
        nonlocal since_ns
        acc = unit * (np.array([0.6, 0.0, 0.8]) + 0.02 * rng.normal(size=(READINGS, 3)))
        t_ns = since_ns + np.arange(READINGS) * (1_000_000_000 // RATE_HZ)
        since_ns += 2_000_000_000
        return encode_cbor(ImuBatch(device_id, t_ns, acc, None, rate_hz=float(RATE_HZ)))

    return payload


def test_watch_in_g_is_counted_and_logged_once_and_a_good_one_never(tmp_path: Path, mosquitto: Mosquitto) -> None:
    service = HarStream(tmp_path, "--broker", mosquitto.host, "--port", str(mosquitto.port))
    try:
        service.wait_ready()

        def found(**labels: str) -> float:
            return service.metric("har_unlike_training_total", **labels)

        with (
            sending(mosquitto.port, hurried("in-g", 1.0), topic=topics.imu("in-g")),
            sending(mosquitto.port, hurried("good", STANDARD_GRAVITY), topic=topics.imu("good")),
        ):
            wait_until(lambda: found(finding="acceleration_in_g") >= 1, "the finding", within_s=30)
            readings = service.metric("har_readings_total")
            # None of these may count it again.
            wait_until(lambda: service.metric("har_readings_total") > readings + 60 * READINGS, "more", within_s=30)
        assert found() == found(finding="acceleration_in_g") == 1
        lines = [line for line in service.log.splitlines() if "unlike the training data" in line]
        assert len(lines) == 1, service.log
        assert (
            "watch in-g is unlike the training data of wisdm-watch-cnn (acceleration_in_g): |acc| at rest is "
            in lines[0]
        )
        assert "multiply by 9.80665" in lines[0]
    finally:
        service.kill()
