"""What is fed with generated input, and what must hold of the outcome whatever comes."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import cbor2
import numpy as np

from streamer.activities import ACTIVITIES, UNKNOWN
from streamer.bundle import GOLDEN_FILE, MANIFEST_FILE, MODEL_FILE, read_bundle
from streamer.errors import ConfigError, PayloadError, RejectReason
from streamer.imu import ImuBatch
from streamer.onnx_file import requirements
from streamer.recognizer import Recognizer
from streamer.recordings.csv import read_csv
from streamer.recordings.jsonl import read_jsonl
from streamer.recordings.npz import read_npz_recordings
from streamer.sources import Sources
from streamer.watches import Limits
from streamer.wire import topics
from streamer.wire.payload import CONTENT_TYPES, Message, Sent, decode, encode_cbor, encode_json, read
from streamer.wire.readings import MAX_MAGNITUDE, MAX_T_NS
from tests import phones
from tests.bundles import START_NS, make_bundle
from tests.fuzz.mutation import CBOR_SEEDS, JSON_SEEDS, composed
from tests.motion import noise, still

OK: Final = "ok"
#: Ends a part of an input that is made of several.
SEPARATOR: Final = b"\xff\xfe--\xfe\xff"
CAPTURES: Final = Path(__file__).resolve().parents[1] / "captures"


@dataclass(frozen=True, slots=True)
class Target:
    """One reader of outside input.

    Attributes:
        seeds: good input to start from.
        compose: makes an input from nothing, None where that isn't worth it.
        check: what became of an input, out of `outcomes`; raises AssertionError, or anything else, where a property
            breaks.
        outcomes: the closed set of what may become of it.
    """

    seeds: Sequence[bytes]
    check: Callable[[bytes], str]
    outcomes: frozenset[str]
    compose: Callable[[random.Random], bytes] | None = None


def check_payload(payload: bytes, content_type: str | None = None) -> str:
    """`ok` or the reason for which a message is refused."""
    try:
        batch = decode("w1", payload, content_type)
    except PayloadError as error:
        _check_line(str(error))
        return error.reason
    _check_batch(batch)
    return OK


def _check_batch(batch: ImuBatch) -> None:
    n = len(batch)
    assert n > 0
    assert batch.device_id == "w1"
    assert batch.t_ns.dtype == np.int64
    assert 0 <= batch.t_ns.min() <= batch.t_ns.max() < MAX_T_NS
    assert batch.acc is not None or batch.gyro is not None
    for values in (batch.acc, batch.gyro):
        if values is not None:
            assert values.shape == (n, 3)
            assert values.dtype == np.float64
            assert values.flags.c_contiguous
            assert np.abs(values).max() <= MAX_MAGNITUDE


def _check_line(text: str) -> None:
    """What is said of bad input fits on a line and repeats none of it at length."""
    assert "\n" not in text
    assert len(text) < 600


def _payloads(seeds: Sequence[bytes], kind: str) -> Target:
    def check(payload: bytes) -> str:
        # Every other payload has to be told apart by its first byte.
        return check_payload(payload, CONTENT_TYPES[kind] if len(payload) % 2 else None)

    return Target(seeds, check, frozenset({OK, *RejectReason}), partial(composed, kind=kind))


def _senders(seeds: Sequence[bytes], tails: Sequence[str] = ("",), content_type: str | None = None) -> Target:
    """What other programs send, and what comes of it: on the topics below a watch's in turn."""

    def check(content: bytes) -> str:
        outcome, sources = OK, Sources()
        for number, part in enumerate(content.split(SEPARATOR)[:16]):
            topic = f"{topics.imu('w1')}{tails[number % len(tails)]}"
            try:
                got = read(Message(topic, part, content_type))
                batches = [got] if isinstance(got, ImuBatch) else _taken(sources, got)
            except PayloadError as error:
                _check_line(str(error))
                outcome = error.reason
            else:
                for batch in batches:
                    _check_batch(batch)
        return outcome

    return Target(seeds, check, frozenset({OK, *RejectReason}))


def _taken(sources: Sources, sent: Sent) -> list[ImuBatch]:
    """What is let go; the state is written and read on the way."""
    rows = np.zeros(1, np.int64)
    if 0 in sources:
        sources.import_rows(rows, sources.export_rows(rows))
    taken = sources.take(0, sent)
    if taken.error is not None:
        _check_line(str(taken.error))
    return taken.batches


def _capture(name: str) -> bytes:
    file = CAPTURES / name
    return bytes.fromhex(file.read_text()) if file.suffix == ".hex" else file.read_bytes()


def _captures(folder: str, *more: Message) -> list[bytes]:
    """Of a program, and several messages of it."""
    single = [
        _capture(f"{folder}/{file.name}") for file in sorted((CAPTURES / folder).iterdir()) if file.suffix != ".txt"
    ]
    return [*single, *([SEPARATOR.join(message.payload for message in more)] if more else [])]


def _senml_cbor() -> bytes:
    """Records of both sensors, labels as numbers."""
    labels = {"bn": -2, "bt": -3, "n": 0, "u": 1, "v": 2, "t": 6}
    records = json.loads(phones.senml(noise(10))[0].payload)
    return cbor2.dumps([{labels[label]: value for label, value in record.items()} for record in records])


def _phyphox_csv() -> Target:
    sendings = phones.phyphox_csv(noise(60, device="w1"), 20)
    names = [message.topic.removeprefix(topics.imu("w1")) for message in sendings[0]]
    return _senders([SEPARATOR.join(m.payload for sending in sendings[:2] for m in sending), b"1,2,null"], names)


def _files(seeds: Sequence[bytes], read: Callable[[bytes], object], allowed: type[Exception] = ConfigError) -> Target:
    def check(content: bytes) -> str:
        try:
            read(content)
        except allowed as error:
            _check_line(str(error))
            return "refused"
        return OK

    return Target(seeds, check, frozenset({OK, "refused"}))


def _csv() -> Target:
    header = b"t_ns,device,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z,label\n"
    seeds = [
        header + b"5,a,1,2,3,4,5,6,walking\n9,a,1,2,3,4,5,6,walking\n",
        header + b"5,a,1,2,3,,,,\n7,b,,,,1,2,3,x\n9,a,1e0,-2.5,3,,,,\n",
        b"\xef\xbb\xbftime,acc_x,acc_y,acc_z\r\n1700000000.123456789,0,0,9.8\r\n1.7e9,0,0,9.8\r\n\r\n",
        b'"note","time","gyro_x","gyro_y","gyro_z"\n"hm",0.5,1,2,3\n,1,1,2,3\n',
        b"t_ns,device,acc_x,acc_y,acc_z,arrived_ns,message,rate_hz,seq\n9,a,1,2,3,5,0,50.0,\n5,a,1,2,3,5,0,50.0,\n",
    ]
    return _files(seeds, lambda content: read_csv(Path("x.csv"), io.BytesIO(content)))


def _jsonl() -> Target:
    line = b'{"arrived_ns":5,"device":"a","label":"x","t0_ns":1,"rate_hz":50,"acc_x":[1],"acc_y":[1],"acc_z":[1]}\n'
    seeds = [line * 2, *(seed + b"\n" + line for seed in JSON_SEEDS)]
    return _files(seeds, lambda content: read_jsonl(Path("x.jsonl"), io.BytesIO(content)))


def _npz() -> Target:
    t_ns = START_NS + np.arange(4) * 20_000_000
    values = np.arange(12.0).reshape(4, 3)
    return _files(
        [
            _saved(t_ns=t_ns, acc=values, gyro=values.astype(np.float32)),
            _saved(time=t_ns / 1e9, gyro=values, device=np.array("w1"), label=np.array(["a", "a", "", "b"])),
            _saved(t_ns=t_ns, acc=np.where(values > 5, values, np.nan), device=np.array(["a", "b", "a", "b"])),
        ],
        lambda content: read_npz_recordings(Path("x.npz"), io.BytesIO(content)),
    )


def _saved(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stubs confuse arrays with allow_pickle
    return buffer.getvalue()


def _bundle() -> Target:
    """Manifest, model and golden vectors, under digests that vouch for whatever they became."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_bundle(folder)
        parts = [(folder / file).read_bytes() for file in (MANIFEST_FILE, MODEL_FILE, GOLDEN_FILE)]

    def read(content: bytes) -> None:
        manifest, model, golden = [*content.split(SEPARATOR), b"", b""][:3]
        for digest, part in ((b"model_sha256", model), (b"golden_sha256", golden)):
            at = manifest.find(digest)
            if at >= 0:
                start = at + len(digest) + 4
                manifest = manifest[:start] + hashlib.sha256(part).hexdigest().encode() + manifest[start + 64 :]
        read_bundle(Path("-"), manifest, model, golden)

    return _files([SEPARATOR.join(parts)], read)


def _onnx() -> Target:
    """The reader of what a model asks for; the runtime itself is fed no generated models."""
    with tempfile.TemporaryDirectory() as name:
        model = make_bundle(Path(name)).model
    return _files([model], requirements, ValueError)


def _state() -> Target:
    """States of watches, and of the watch whose state they take."""
    with tempfile.TemporaryDirectory() as name:
        recognizer = Recognizer(make_bundle(Path(name)), limits=Limits(max_watches=4))
    motion = still("lying", 3.0)
    recognizer.recognize([motion], START_NS)
    parts = phones.sensor_logger(phones.logged(motion, phones.APPLE_PARTS), device="phone")
    uncertain = phones.senml(motion, unit=None)
    recognizer.process([*parts, *(Message(topics.imu("gateway"), m.payload) for m in uncertain[:2])], START_NS)
    states = [recognizer.export_watch(name) for name in ("wrist", "phone", "gateway")]

    def read(content: bytes) -> None:
        recognizer.import_watch(content, START_NS)

    return _files([state for state in states if state is not None], read)


def _events() -> Target:
    """Messages of an attacker where a victim lives: nothing breaks, and no event is the victim's."""
    with tempfile.TemporaryDirectory() as name:
        recognizer = Recognizer(
            make_bundle(Path(name)), limits=Limits(max_watches=8, probation_pool=4), every_window=True
        )
    seeds = (
        [
            SEPARATOR.join([encode(batch)] * 2)
            for encode in (encode_json, encode_cbor)
            for batch in (noise(20), still("lying", 2.0), noise(40, rate_hz=1000.0))
        ]
        + JSON_SEEDS
        + CBOR_SEEDS
    )
    victim = still("lying", 60.0, device="victim")
    recognizer.recognize([victim], START_NS)

    def check(content: bytes) -> str:
        messages = [Message(topics.imu("w1"), part) for part in content.split(SEPARATOR)[:8]]
        result = recognizer.process(messages, START_NS)
        for event in result.events:
            assert event.device == "w1"
            assert 0.0 <= event.confidence <= 1.0
            assert event.activity in {*ACTIVITIES, UNKNOWN}
            assert 0.0 <= event.completeness <= 1.0
            assert event.gap_ns >= 0
        if result.events:
            # The next input meets a fresh watch.
            recognizer.finish("shutdown")
        outcome = next(iter(result.counts.rejects), None)
        return OK if outcome is None else outcome

    def compose(rng: random.Random) -> bytes:
        return SEPARATOR.join(composed(rng, rng.choice(("json", "cbor"))) for _ in range(rng.randrange(1, 5)))

    return Target(seeds, check, frozenset({OK, *RejectReason}), compose)


TARGETS: Final[dict[str, Callable[[], Target]]] = {
    "json": lambda: _payloads(JSON_SEEDS, "json"),
    "cbor": lambda: _payloads(CBOR_SEEDS, "cbor"),
    "sensor-logger": lambda: _senders(
        _captures("sensor-logger", *phones.sensor_logger(phones.logged(noise(40), phones.APPLE_PARTS)))
    ),
    "phyphox": lambda: _senders(_captures("phyphox", *phones.phyphox(noise(40)))),
    "phyphox-csv": _phyphox_csv,
    "sensorlog": lambda: _senders(_captures("sensorlog", *phones.sensorlog(noise(40)))),
    "movesense": lambda: _senders(_captures("movesense"), ["/Meas/IMU6/52", "/Meas/Acc/52", "/Meas/IMU9/104"]),
    "senml-json": lambda: _senders([_capture("senml/records.json"), phones.senml(noise(20), unit=None)[0].payload]),
    "senml-cbor": lambda: _senders([_capture("senml/records.cbor.hex"), _senml_cbor()]),
    "csv": _csv,
    "jsonl": _jsonl,
    "npz": _npz,
    "bundle": _bundle,
    "onnx": _onnx,
    "state": _state,
    "events": _events,
}
