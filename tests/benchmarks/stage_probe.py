"""The work whose instructions `tests.benchmarks.stages` counts; runs under valgrind, or without it to no end.

Between two calls of `getppid`, at which valgrind writes its counters down, lies one stage's work. The names of the
stages are written to standard output in the same order.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final

import cbor2
import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from simulator.load_packets import packets, publish_header
from streamer.bundle import find_bundle, load_bundle
from streamer.classifier import Classifier
from streamer.config import DEFAULT_MODEL
from streamer.ingress import Arrival, Ingress
from streamer.mqtt import by_gmqtt
from streamer.mqtt.connection import Link, Outgoing
from streamer.recognizer import Recognizer
from streamer.wire import topics
from streamer.wire.events import ActivityEvent, encode_event
from streamer.wire.payload import Message, decode

#: Later than any reading.
_NOW_NS: Final = 2**61
_NOTHING: Final = ""
#: Windows of the runtime's floor. Few, for valgrind takes a tenth of a second for one.
_FLOOR_WINDOWS: Final = 8


class Probe(msgspec.Struct):
    """What is worked on.

    Attributes:
        rounds: for each second the messages of all watches, as topic and CBOR payload.
        measured: this many of the last rounds count, the others warm up.
        payloads: those of one second in the other formats.
    """

    rounds: list[list[tuple[str, bytes]]]
    measured: int
    payloads: dict[str, list[bytes]]


class Marks:
    """Divides the instructions among names.

    State: the names so far.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.is_on = False

    def __call__(self, name: str) -> None:
        """What was done since the last mark belongs to this name."""
        if self.is_on:
            self.names.append(name)
            os.getppid()

    def begin(self) -> None:
        """Let valgrind count from now; before, it only runs."""
        with subprocess.Popen(
            ["callgrind_control", "-i", "on", str(os.getpid())], stdout=subprocess.DEVNULL
        ) as control:
            # A process that waits inside the kernel could not be told.
            while control.poll() is None:
                pass
        self.is_on = True
        self(_NOTHING)


def work(probe: Probe, marks: Marks) -> None:
    """Every stage, and the floors."""
    bundle = load_bundle(find_bundle(DEFAULT_MODEL))
    recognizer = Recognizer(bundle, every_window=True, mark=marks)
    classifier = Classifier(bundle)
    rounds = [[Message(topic, payload) for topic, payload in messages] for messages in probe.rounds]
    for messages in rounds[: -probe.measured]:
        recognizer.process(messages, _NOW_NS)
    # Once before it counts: what is done at a first call only is done here.
    _floors(probe, classifier, bundle.golden.windows[:1], marks)
    _decode(probe, marks)
    asyncio.run(_client(rounds[0], [Outgoing("har/v1/watch/window", b"{}")], marks))
    marks.begin()
    events: list[ActivityEvent] = []
    for messages in rounds[-probe.measured :]:
        marks(_NOTHING)
        events += recognizer.process(messages, _NOW_NS).events
    _floors(probe, classifier, bundle.golden.windows[:_FLOOR_WINDOWS], marks)
    _decode(probe, marks)
    encoded = [encode_event(event) for event in events]
    marks("encode")
    asyncio.run(_client(rounds[0], [Outgoing("har/v1/watch/window", payload) for payload in encoded], marks))


def _decode(probe: Probe, marks: Marks) -> None:
    for name in ("json", "single"):
        for payload in probe.payloads[name]:
            decode("watch", payload)
        marks(f"decode {name}")


def _floors(probe: Probe, classifier: Classifier, windows: NDArray[np.float32], marks: Marks) -> None:
    """What the libraries need for a second of all watches, without any of this project's code."""
    signal = np.random.default_rng(0).standard_normal((len(probe.payloads["cbor"]), 3, 50))
    sos: NDArray[np.float64] = butter(3, 0.3, fs=50, output="sos")
    state = np.zeros((len(sos), *signal.shape[:2], 2))
    marks(_NOTHING)
    for payload in probe.payloads["cbor"]:
        cbor2.loads(payload)
    for payload in probe.payloads["json"]:
        msgspec.json.decode(payload)
    for _ in range(10):
        sosfilt(sos, signal, axis=-1, zi=state)
    marks("floor: libraries")
    classifier.predict(windows)
    marks("floor: runtime")


async def _client(messages: list[Message], outgoing: list[Outgoing], marks: Callable[[str], None]) -> None:
    """The client's share: messages from a socket into the queue, publications until they are acknowledged."""
    ingress = Ingress(limit_bytes=100_000_000)
    arrived = asyncio.Event()

    def receive(arrival: Arrival) -> None:
        ingress.put(arrival)
        if len(ingress) == len(messages):
            arrived.set()

    server = await asyncio.get_running_loop().create_server(_Broker, "127.0.0.1", 0)
    async with server:
        link = Link(
            host="127.0.0.1",
            port=server.sockets[0].getsockname()[1],
            client_id="probe",
            username=None,
            password=None,
            tls=None,
            keepalive_s=60,
            timeout_s=120,
            will=Outgoing("will", b""),
            persistent=False,
            numbers=count(1),
        )
        async with by_gmqtt.connect(link, True, receive) as connection:  # noqa: FBT003 - a `Connect`
            await connection.subscribe(topics.IMU_FILTER, 0)
            flood = b"".join(
                # An MQTT 5 packet has a length of properties, here 0, before the payload.
                publish_header(len(m.topic), 1 + len(m.payload), 0) + m.topic.encode() + b"\0" + m.payload
                for m in messages
            )
            marks(_NOTHING)
            _Broker.client.write(flood)
            await arrived.wait()
            marks("receive")
            await connection.publish(outgoing)
            marks("publish")


class _Broker(asyncio.Protocol):
    """Says yes to one MQTT 5 client."""

    client: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        _Broker.client = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for first, body in packets(self._buffer):
            match first >> 4:
                case 1:  # CONNECT: CONNACK, no session, no error, no properties
                    self.client.write(bytes([0x20, 3, 0, 0, 0]))
                case 8:  # SUBSCRIBE: SUBACK of its identifier, no properties, QoS 0 granted
                    self.client.write(bytes([0x90, 4, *body[:2], 0, 0]))
                case 3:  # PUBLISH of QoS 1: PUBACK of the identifier behind the topic
                    end = 2 + int.from_bytes(body[:2], "big")
                    self.client.write(bytes([0x40, 2, *body[end : end + 2]]))


def main() -> None:
    """Work on the probe in a file, and print the marks' names."""
    gc.disable()  # a collection would count for whichever stage it happened to fall into
    probe = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=Probe)
    marks = Marks()
    work(probe, marks)
    print(json.dumps(marks.names))  # noqa: T201 - read by the parent


if __name__ == "__main__":
    main()
