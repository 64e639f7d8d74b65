"""What other programs send: decoded to known values, and told apart."""

from __future__ import annotations

import json
import time
from math import cos, sin
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from streamer.errors import PayloadError, RejectReason
from streamer.imu import ImuBatch
from streamer.wire.payload import Message, Sent, device_in, read
from streamer.wire.senders.streams import SENSORS, SensorId, column_of
from streamer.wire.topics import SENSOR_LOGGER, imu, part

CAPTURES: Final = Path(__file__).resolve().parents[1] / "captures"
TOPIC: Final = imu("wrist")


def payload(name: str) -> bytes:
    """A capture's bytes."""
    file = CAPTURES / name
    return bytes.fromhex(file.read_text()) if file.suffix == ".hex" else file.read_bytes()


def sent(message: Message) -> Sent:
    got = read(message)
    assert isinstance(got, Sent)
    return got


def told(got: Sent) -> dict[str, list[Any]]:
    """By sensor: times, values, unit and sign."""
    return {
        SENSORS[stream.sensor].name + f" {SENSORS[stream.sensor].kind}": [
            [t_ns + (got.start_ns or 0) for t_ns in stream.t_ns.tolist()],
            stream.values.round(9).tolist(),
            stream.unit,
            stream.sign,
        ]
        for stream in got.streams
    }


AT: Final = 1698501144_401773000
S: Final = 1_000_000_000

GOLDEN: Final[dict[str, tuple[str, str, dict[str, list[Any]]]]] = {
    "sensor-logger/iphone-uncalibrated.json": (
        SENSOR_LOGGER,
        "Sensor Logger",
        {
            "accelerometeruncalibrated total": [
                [AT, AT + 10_000_000],
                [[0.125, -0.015, -0.985], [0.13, -0.02, -0.99]],
                None,
                None,
            ],
            "gyroscope rate": [[AT + 1_227_000], [[0.125, -0.5, 0.25]], "rad/s", 1],
        },
    ),
    "sensor-logger/apple-watch.json": (
        SENSOR_LOGGER,
        "Sensor Logger",
        {
            "wrist motion total": [[AT], [[0.252421, -0.008922, -1.499957]], "g", -1],
            "wrist motion rate": [[AT], [[0.125, -0.5, 0.25]], "rad/s", 1],
            "gyroscope rate": [[AT + 227_000], [[9.0, 9.0, 9.0]], "rad/s", 1],
        },
    ),
    "sensor-logger/android.json": (
        TOPIC,
        "Sensor Logger",
        {
            "totalacceleration total": [[AT - 1_773_000], [[0.207958, 4.302971, 9.680758]], "m/s²", 1],
            "accelerometer and gravity linear": [[AT - 1_773_000], [[0.5, -0.25, 1.0]], "m/s²", 1],
            "gravity gravity": [[AT - 1_773_000], [[-0.292042, 4.552971, 8.680758]], "m/s²", 1],
            "gyroscope rate": [[AT + 227_000], [[0.125, -0.5, 0.25]], "rad/s", 1],
        },
    ),
    "sensor-logger/test-publish.json": (TOPIC, "Sensor Logger", {}),
    # The second reading came after a pause, which takes no experiment time.
    "phyphox/json.json": (
        TOPIC,
        "phyphox",
        {
            "accelerometer total": [
                [1700000000_260000000, 1700000002_010000000],
                [[0.1, 0.0, 9.81], [0.2, -0.5, 9.7]],
                "m/s²",
                1,
            ],
            "gyroscope rate": [[1700000002_000000000], [[0.125, -0.5, 0.25]], "rad/s", 1],
        },
    ),
    "sensorlog/version-5.json": (
        TOPIC,
        "SensorLog",
        {
            "accelerometer total": [[1634863426_925910000], [[0.002167, -0.008759, -1.002243]], "g", -1],
            "gyro rate": [[1634863427_013000000], [[-0.011401, 0.01059, 0.003113]], "rad/s", 1],
        },
    ),
    "sensorlog/motion.json": (
        TOPIC,
        "SensorLog",
        {
            "motion total": [[1767035586_981000000], [[0.252421, -0.008922, -1.499957]], "g", -1],
            "motion rate": [[1767035586_981000000], [[0.125, -0.5, 0.25]], "rad/s", 1],
        },
    ),
    # 605 ms after the start, and a period of 52 Hz later.
    "movesense/meas-imu6-52.hex": (
        part("wrist", "Meas/IMU6/52"),
        "Movesense",
        {
            "ArrayAcc total": [[605_000_000, 624_230_769], [[0.5, -1.25, 9.75], [0.625, -1.5, 9.5]], "m/s²", 1],
            "ArrayGyro rate": [[605_000_000, 624_230_769], [[45.0, -90.0, 0.0], [0.0, 0.0, 180.0]], "deg/s", 1],
        },
    ),
    "senml/records.json": (
        TOPIC,
        "SenML",
        {
            "acceleration total": [
                [1_700_000_000 * S, 1700000000_020000000],
                [[0.1, -0.2, 9.8], [0.2, -0.3, 9.7]],
                "m/s²",
                1,
            ],
            "angular rate rate": [[1700000000_010000000], [[90.0, -45.0, 0.0]], "deg/s", 1],
        },
    ),
    "senml/records.cbor.hex": (
        TOPIC,
        "SenML",
        {"acceleration total": [[1_700_000_000 * S], [[0.1, -0.2, 9.8]], "m/s²", 1]},
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_capture_is_decoded_to_known_values(name: str) -> None:
    topic, program, streams = GOLDEN[name]
    got = sent(Message(topic, payload(name)))
    assert got.format == program
    assert told(got) == streams


def test_every_capture_is_decoded_and_described() -> None:
    files = {str(f.relative_to(CAPTURES)) for f in CAPTURES.rglob("*") if f.is_file() and f.parent != CAPTURES}
    assert files == {*GOLDEN, "phyphox/csv.txt"}
    described = (CAPTURES / "README.md").read_text()
    assert [name for name in sorted(files) if f"`{name}`" not in described] == []


def test_columns_of_phyphox_csv_are_read_each() -> None:
    lines = (CAPTURES / "phyphox" / "csv.txt").read_text().splitlines()
    got = [sent(Message(topic, text.encode())).column for topic, text in map(str.split, lines)]
    assert [(column[0], column[1].tolist()) for column in got if column] == [
        ("total_x", [0.1, 0.2]),
        ("total_y", [0.0, -0.5]),
        ("total_z", [9.81, 9.7]),
        ("total_t", [0.01, 0.03]),
    ]
    column = sent(Message(part("wrist", "acc_x"), b"1, null,3")).column
    assert column is not None
    assert np.isnan(column[1]).tolist() == [False, True, False]


def test_the_experiment_of_the_documentation_sends_what_is_read() -> None:
    experiment = ET.parse(CAPTURES.parents[1] / "docs" / "how-to" / "har-stream.phyphox").getroot()  # noqa: S314 # ours
    containers = {container.text for container in experiment.iter("container")}
    filled = {
        output.text: (sensor.get("type"), output.get("component"))
        for sensor in experiment.iter("sensor")
        for output in sensor.iter("output")
    }
    assert filled.keys() == containers
    (connection,) = experiment.iter("connection")
    assert connection.get("service") == "mqtt/json"
    assert connection.get("sendTopic") == imu("NAME")
    buffers = {
        send.get("id", ""): filled[send.text] for send in connection.iter("send") if send.get("type") == "buffer"
    }
    document = {name: [1.0] for name in buffers}
    got = sent(Message(TOPIC, json.dumps(document).encode()))
    assert [stream.sensor for stream in got.streams] == [SensorId.PHYPHOX, SensorId.PHYPHOX_GYROSCOPE]
    kinds = {"total": "accelerometer", "rate": "gyroscope"}
    for name, (sensor, component) in buffers.items():
        column = column_of(name)
        assert column is not None
        assert (kinds[str(column[0])], column[1]) == (sensor, component)


# Sign ----------------------------------------------------------------------------------------------------------------


def test_androids_attitude_says_where_up_is_as_its_pitch_and_roll_do() -> None:
    # A published row: both describe the same attitude; gravity from one must fit the other.
    document = json.loads(payload("sensor-logger/android.json"))["payload"]
    values = {reading["name"]: reading["values"] for reading in document}
    pitch, roll = values["orientation"]["pitch"], values["orientation"]["roll"]
    up = 9.80665 * np.array([-sin(roll) * cos(pitch), -sin(pitch), cos(roll) * cos(pitch)])
    assert np.allclose(up, list(values["gravity"].values()), atol=1e-6)


def turned_round(name: str, *sensors: str) -> bytes:
    """A capture with the vectors of some sensors turned round, as the other system has them."""
    document = json.loads(payload(name))
    for reading in document["payload"]:
        if reading["name"] in sensors:
            vectors = [key for key in reading["values"] if key in "xyz" or key.startswith(("gravity", "acceleration"))]
            reading["values"] |= {key: -reading["values"][key] for key in vectors}
    return json.dumps(document).encode()


def test_attitude_tells_apples_sign_from_androids() -> None:
    of = {stream.sensor: stream for stream in sent(Message(TOPIC, payload("sensor-logger/apple-watch.json"))).streams}
    assert of[SensorId.WRIST].sign == -1
    watch = turned_round("sensor-logger/apple-watch.json", "wrist motion")
    assert sent(Message(TOPIC, watch)).streams[0].sign == 1
    phone = sent(Message(TOPIC, turned_round("sensor-logger/android.json", "gravity", "accelerometer")))
    assert {s.sign for s in phone.streams if s.sensor in {SensorId.GRAVITY, SensorId.ACCELEROMETER}} == {-1}


@pytest.mark.parametrize("wrong", [{"qw": 0, "qx": 0, "qy": 0, "qz": 0}, {"qw": 0.7, "qx": 0.7, "qy": 0, "qz": 0}])
def test_attitude_that_contradicts_gravity_tells_nothing(wrong: dict[str, float]) -> None:
    document = json.loads(payload("sensor-logger/android.json"))
    document["payload"][0]["values"] |= wrong
    got = sent(Message(TOPIC, json.dumps(document).encode()))
    assert {stream.sign for stream in got.streams if stream.sensor == SensorId.GRAVITY} == {None}


def test_standardised_wrist_motion_says_so_by_its_gravity() -> None:
    document = json.loads(payload("sensor-logger/apple-watch.json"))
    values = document["payload"][0]["values"]
    values |= {k: -9.80665 * v for k, v in values.items() if k.startswith(("gravity", "acceleration"))}
    stream = sent(Message(TOPIC, json.dumps(document).encode())).streams[0]
    assert (stream.unit, stream.sign) == ("m/s²", 1)
    assert stream.values[0] == pytest.approx([-2.475404, 0.087495, 14.709553], abs=1e-6)


# Who, and which program ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in GOLDEN if "movesense" not in name])
def test_the_topic_names_the_device_whatever_the_payload_says(name: str) -> None:
    assert sent(Message(TOPIC, payload(name))).device_id == "wrist"


@pytest.mark.parametrize(
    ("topic", "name", "device"),
    [
        ("sensor-logger", "sensor-logger/android.json", "9e7b"),
        ("anything", "sensorlog/version-5.json", "my_iOS_device"),
        ("anything", "senml/records.json", "0024befffe804ff1"),
        ("anything", "senml/records.cbor.hex", "0024befffe804ff1"),
    ],
)
def test_without_a_device_in_the_topic_the_payload_names_it(topic: str, name: str, device: str) -> None:
    message = Message(topic, payload(name))
    assert sent(message).device_id == device
    assert device_in(message) == device


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        ("sensor-logger", b'{"payload": []}', RejectReason.TOPIC),
        ("sensor-logger", b'{"deviceId": "a/b", "payload": []}', RejectReason.DEVICE_NAME),
        ("sensor-logger", b'{"deviceId": 7, "payload": []}', RejectReason.SCHEMA),
        ("sensor-logger", b'{"t_ns": 1, "acc_x": 1, "acc_y": 2, "acc_z": 3}', RejectReason.TOPIC),
        ("sensor-logger", b'{"acc_x": [1], "acc_y": [1], "acc_z": [1], "acc_t": [1]}', RejectReason.TOPIC),
        ("anything", b'[{"bn": "acc_x", "bt": 1.7e9, "v": 1}]', RejectReason.DEVICE_NAME),
        ("har/v1/+/imu", b'{"deviceId": "w", "payload": []}', RejectReason.DEVICE_NAME),
    ],
)
def test_nobody_is_guessed(topic: str, body: bytes, reason: RejectReason) -> None:
    with pytest.raises(PayloadError) as refused:
        read(Message(topic, body))
    assert refused.value.reason == reason
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("content_type", "name"),
    [
        ("application/json", "sensor-logger/android.json"),
        ("application/json; charset=utf-8", "phyphox/json.json"),
        ("text/plain", "sensorlog/version-5.json"),
        ("application/senml+json", "senml/records.json"),
        ("application/json", "senml/records.json"),
        ("application/senml+cbor", "senml/records.cbor.hex"),
        ("application/sensml+cbor", "senml/records.cbor.hex"),
        ('application/x-movesense-gsp; resource="/Meas/IMU6/52"', "movesense/meas-imu6-52.hex"),
    ],
)
def test_content_type_and_content_tell_the_program(content_type: str, name: str) -> None:
    assert sent(Message(TOPIC, payload(name), content_type)).format == GOLDEN[name][1]


def test_own_formats_are_own_on_any_topic_that_names_a_device() -> None:
    own = b'{"t_ns": 1700000000000000000, "acc_x": 1, "acc_y": 2, "acc_z": 9, "payload": "mine"}'
    assert isinstance(read(Message(TOPIC, own)), ImuBatch)
    assert isinstance(read(Message(part("wrist", "left"), own)), ImuBatch)


# What is refused -----------------------------------------------------------------------------------------------------


def sensor_logger(*readings: dict[str, object]) -> bytes:
    return json.dumps({"deviceId": "w", "messageId": 1, "payload": readings}).encode()


XYZ: Final = {"x": 1.0, "y": 2.0, "z": 3.0}
SENML: Final = {"bn": "urn:dev:ow:1:", "bt": 1.7e9}
IMU6: Final = payload("movesense/meas-imu6-52.hex")


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        (TOPIC, sensor_logger({"name": "location", "time": 1, "values": {}}), RejectReason.SENSORS),
        (TOPIC, sensor_logger({"name": "gyroscope", "time": 1, "values": {"x": 1}}), RejectReason.SCHEMA),
        (TOPIC, sensor_logger({"name": "gyroscope", "time": 1}), RejectReason.SCHEMA),
        (TOPIC, sensor_logger({"name": "gyroscope", "values": XYZ}), RejectReason.SCHEMA),
        (TOPIC, sensor_logger({"name": "gyroscope", "time": -1, "values": XYZ}), RejectReason.TIME_RANGE),
        (TOPIC, sensor_logger({"name": "gyroscope", "time": 2**62, "values": XYZ}), RejectReason.TIME_RANGE),
        (TOPIC, sensor_logger({"name": "gyroscope", "time": 1, "values": XYZ | {"x": 1e5}}), RejectReason.VALUE_RANGE),
        (TOPIC, sensor_logger(*[{"name": "gravity", "time": 1, "values": XYZ}] * 10_001), RejectReason.OVERSIZE),
        (TOPIC, b'{"acc_x": [1, 2], "acc_y": [1], "acc_z": [1], "acc_t": [1]}', RejectReason.SHAPE),
        (TOPIC, b'{"acc_x": [1], "acc_y": [1], "acc_z": [1]}', RejectReason.SCHEMA),
        (TOPIC, b'{"acc_x": ["a"], "acc_t": [1]}', RejectReason.SCHEMA),
        (TOPIC, b'{"acc_x": [1], "acc_y": [1], "acc_z": [1], "acc_t": [-5]}', RejectReason.TIME_RANGE),
        (part("wrist", "acc_x"), b"1,two,3", RejectReason.SCHEMA),
        (part("wrist", "acc_x"), b"1," * 4097, RejectReason.OVERSIZE),
        (part("wrist", "pressure"), b"1,2,3", RejectReason.FORMAT),
        (TOPIC, b'{"motionUserAccelerationX": "1"}', RejectReason.SENSORS),
        (TOPIC, b'{"gyroRotationX": "fast"}', RejectReason.SCHEMA),
        (part("wrist", "Meas/IMU6/52"), IMU6[:-1], RejectReason.SHAPE),
        (part("wrist", "Meas/IMU6/52"), b"\x03" + IMU6[1:], RejectReason.FORMAT),
        (part("wrist", "Meas/IMU6/52"), b"", RejectReason.FORMAT),
        (part("wrist", "Meas/IMU6/0"), IMU6, RejectReason.VALUE_RANGE),
        (part("wrist", "Meas/HR"), IMU6, RejectReason.FORMAT),
        (TOPIC, json.dumps([SENML | {"n": "acc_x", "u": "g", "v": 1}]).encode(), RejectReason.UNITS),
        (TOPIC, json.dumps([SENML | {"n": "gyro_x", "v": 1}]).encode(), RejectReason.UNITS),
        (TOPIC, json.dumps([SENML | {"n": "acc_x", "u": "m/s2", "v": 1}]).encode(), RejectReason.SHAPE),
        (TOPIC, json.dumps([SENML | {"n": "acc_x", "bt": -5, "v": 1}]).encode(), RejectReason.TIME_RANGE),
        (TOPIC, json.dumps([SENML | {"n": "acc_x", "v": 1, "must_": 1}]).encode(), RejectReason.SCHEMA),
        (TOPIC, json.dumps([SENML | {"bver": 11, "n": "acc_x", "v": 1}]).encode(), RejectReason.SCHEMA),
        (TOPIC, json.dumps([SENML | {"n": "temperature", "v": 1}]).encode(), RejectReason.SENSORS),
        (TOPIC, b"[1]", RejectReason.JSON),
        (TOPIC, b"\x81\x01", RejectReason.SCHEMA),
        (TOPIC, b"\x9f\xff\x00", RejectReason.CBOR),
    ],
)
def test_message_that_is_not_as_documented_is_refused_for_its_reason(
    topic: str, body: bytes, reason: RejectReason
) -> None:
    with pytest.raises(PayloadError) as refused:
        read(Message(topic, body))
    assert refused.value.reason == reason
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "body",
    [
        b'[{"bn":"' + b"a:" * 100_000 + b'","bt":1e9},' + b'{"n":"acc_x","v":1},' * 30_000 + b'{"v":1}]',
        b'[{"bn":"a","bt":1e9},' + b'{"n":"acc_x","v":1},' * 45_000 + b"{}]",
        b'[{"gyroRotationX":"1"},' + b"{}," * 300_000 + b"{}]",
        b"{" + b"".join(b'"%x":1,' % i for i in range(90_000)) + b'"acc_x":1}',
        b'{"payload":[' + b'{"name":"gravity","time":1},' * 30_000 + b'{"name":"","time":1}]}',
    ],
    ids=["long base name", "records", "rows", "columns", "readings"],
)
def test_the_worst_megabyte_of_another_program_costs_a_fraction_of_a_second(body: bytes) -> None:
    start = time.process_time()
    with pytest.raises(PayloadError):
        read(Message(TOPIC, body))
    # Of CPU time, whatever else runs: a fifth of a second at most, where nothing is quadratic.
    assert time.process_time() - start < 2
