"""What other programs send becomes har-stream's own readings, or is refused: unit, sign, gravity, sensor, time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.bundle import ModelBundle
from streamer.errors import RejectReason
from streamer.imu import STANDARD_GRAVITY, ImuBatch
from streamer.preprocessing.pipeline import windows_of
from streamer.recognizer import Recognizer
from streamer.results import Result
from streamer.sources import Source
from streamer.watches import Liveness
from streamer.wire import topics
from streamer.wire.events import ActivityEvent, encode_event
from streamer.wire.payload import Message, encode_cbor
from tests import phones
from tests.bundles import POSTURE_SPEC, START_NS, make_bundle
from tests.motion import MS, SECOND, joined, still, times

NOW_NS: Final = START_NS + 3600 * SECOND


@pytest.fixture(scope="module")
def posture(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """Takes the accelerometer alone; each window decides."""
    return make_bundle(tmp_path_factory.mktemp("posture"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """Needs the gyroscope too."""
    spec = msgspec.structs.replace(POSTURE_SPEC, channels=("total_acc_x", "total_acc_y", "gyro_z"))
    return make_bundle(tmp_path_factory.mktemp("both"), spec=spec)


def postures(*, rate_hz: float = 50.0, device: str = "phone", start_s: float = 0.0) -> ImuBatch:
    """Standing, sitting, lying, eight seconds each, and a hand that trembles a little."""
    batch = joined(
        *(
            still(name, 8.0, start_s=start_s + 8.0 * i, rate_hz=rate_hz, device=device)
            for i, name in enumerate(("standing", "sitting", "lying"))
        )
    )
    assert batch.acc is not None
    assert batch.gyro is not None
    wave = 0.2 * np.sin(np.arange(len(batch)) / 3)[:, None]
    return ImuBatch(device, batch.t_ns, batch.acc + wave, batch.gyro + wave)


def swinging(seconds: float, *, start_s: float = 0.0) -> ImuBatch:
    """Never still: turned by 60 degrees to and fro four times a second, and pushed."""
    t_ns = times(seconds, 50.0, start_s=start_s)
    t = (t_ns - START_NS) / 1e9
    angle, push = np.sin(2 * np.pi * 4 * t), 1 + 0.8 * np.sin(2 * np.pi * 5 * t)
    acc = STANDARD_GRAVITY * push[:, None] * np.stack([np.sin(angle), 0 * t, np.cos(angle)], axis=1)
    return ImuBatch("phone", t_ns, acc, np.zeros_like(acc))


def without_gravity(batch: ImuBatch) -> ImuBatch:
    assert batch.acc is not None
    gravity = STANDARD_GRAVITY * batch.acc / np.linalg.norm(batch.acc, axis=1)[:, None]
    return ImuBatch(batch.device_id, batch.t_ns, batch.acc - gravity, None)


def run(recognizer: Recognizer, messages: Sequence[Message], *, now_ns: int = NOW_NS) -> list[Result]:
    """One call for each message."""
    return [recognizer.process([message], now_ns) for message in messages]


def rejects(results: Sequence[Result]) -> Counter[RejectReason]:
    return sum((result.counts.rejects for result in results), Counter[RejectReason]())


def told(results: Sequence[Result]) -> list[tuple[str, str, int, int]]:
    """Starts and ends with activity, onset and decision in ms since START_NS."""
    events = [event for result in results for event in result.events if event.type in {"start", "end"}]
    return [(e.type, e.activity, (e.onset_ns - START_NS) // MS, (e.decided_ns - START_NS) // MS) for e in events]


def own(batch: ImuBatch) -> list[Message]:
    return [Message(topics.imu(batch.device_id), encode_cbor(piece)) for piece in phones.pieces(batch, 25)]


SENDERS: Final[dict[str, tuple[Callable[[ImuBatch], list[Message]], Source]]] = {
    "Sensor Logger, iPhone": (
        lambda batch: phones.sensor_logger(phones.logged(batch, phones.uncalibrated_of_ios)),
        Source("Sensor Logger", "accelerometeruncalibrated", "gyroscope", "g", "Apple", "included"),
    ),
    "Sensor Logger, Android": (
        lambda batch: phones.sensor_logger(phones.logged(batch, phones.total_of_android)),
        Source("Sensor Logger", "totalacceleration", "gyroscope", "m/s²", "Android", "included"),
    ),
    "Sensor Logger, Apple Watch": (
        lambda batch: phones.sensor_logger(phones.logged(batch, None)),
        Source("Sensor Logger", "wrist motion", "wrist motion", "g", "Apple", "included"),
    ),
    "Sensor Logger, parts of Android": (
        lambda batch: phones.sensor_logger(phones.logged(batch, phones.ANDROID_PARTS)),
        Source("Sensor Logger", "accelerometer and gravity", "gyroscope", "m/s²", "Android", "added"),
    ),
    "Sensor Logger, parts of iOS": (
        lambda batch: phones.sensor_logger(phones.logged(batch, phones.APPLE_PARTS)),
        Source("Sensor Logger", "accelerometer and gravity", "gyroscope", "m/s²", "Apple", "added"),
    ),
    "SensorLog": (
        lambda batch: phones.sensorlog(batch, started_ns=START_NS - 5_000 * SECOND),
        Source("SensorLog", "accelerometer", "gyro", "g", "Apple", "included"),
    ),
    "phyphox": (phones.phyphox, Source("phyphox", "accelerometer", "gyroscope", "m/s²", "Android", "included")),
    "SenML": (phones.senml, Source("SenML", "acceleration", "angular rate", "m/s²", "Android", "included")),
    "SenML, g not stated": (
        lambda batch: phones.senml(batch, unit=None, scale=1 / STANDARD_GRAVITY),
        Source("SenML", "acceleration", "angular rate", "g", "Android", "included"),
    ),
}


@pytest.mark.parametrize("sender", SENDERS)
def test_each_sender_is_recognised_as_its_readings_in_si_are(posture: ModelBundle, sender: str) -> None:
    send, source = SENDERS[sender]
    batch = postures()
    expected = told(run(Recognizer(posture), own(batch)))
    assert [(kind, activity) for kind, activity, _, _ in expected[::2]] == [
        ("start", "standing"),
        ("start", "sitting"),
        ("start", "lying"),
    ]
    recognizer = Recognizer(posture)
    results = run(recognizer, send(batch))
    assert rejects(results) == {}
    assert recognizer.source_of("phone") == source
    found = told(results)
    assert [entry[:2] for entry in found] == [entry[:2] for entry in expected]
    # SensorLog's start is known to its rows' delay of writing, 80 ms here.
    assert np.abs(np.array(found)[:, 2:].astype(int) - np.array(expected)[:, 2:].astype(int)).max() <= 80


def test_movesense_is_recognised_from_its_start_on(posture: ModelBundle) -> None:
    batch = postures()
    # The clock of the sensor counts milliseconds since it was started.
    batch = ImuBatch("phone", batch.t_ns - START_NS, batch.acc, batch.gyro)
    recognizer = Recognizer(posture)
    results = run(recognizer, phones.movesense(batch, 50))
    assert rejects(results) == {}
    assert [(kind, activity) for kind, activity, _, _ in told(results)[::2]] == [
        ("start", "standing"),
        ("start", "sitting"),
        ("start", "lying"),
    ]
    assert recognizer.source_of("phone") == Source("Movesense", "ArrayAcc", "ArrayGyro", "m/s²", "Android", "included")


def out_of_step() -> list[ImuBatch]:
    """Acceleration at 50 Hz, and rate at 100 Hz and 7 ms later."""
    acc = postures()
    turning = np.sin(np.linspace(0, 24, 2400)[:, None] * [0.5, 0.2, 1.0])
    gyro = ImuBatch("phone", times(24, 100.0, start_s=0.007), None, turning)
    return [ImuBatch("phone", acc.t_ns, acc.acc, None), gyro]


@pytest.mark.parametrize("sender", ["Sensor Logger, iPhone", "Sensor Logger, parts of iOS", "phyphox"])
def test_sensors_in_messages_of_their_own_and_out_of_step_meet_on_the_grid(both: ModelBundle, sender: str) -> None:
    streams = out_of_step()
    # In messages of a half and of three tenths of a second.
    cut = [piece for stream, size in zip(streams, (25, 30), strict=True) for piece in phones.pieces(stream, size)]
    cut.sort(key=lambda piece: int(piece.t_ns[-1]))
    if sender == "phyphox":
        arriving = [message for piece in cut for message in phones.phyphox(piece, 100)]
    else:
        form = phones.uncalibrated_of_ios if "iPhone" in sender else phones.APPLE_PARTS
        arriving = [message for piece in cut for message in phones.sensor_logger(phones.logged(piece, form))]
    recognizer, expected = Recognizer(both, every_window=True), Recognizer(both, every_window=True)
    found = [*run(recognizer, arriving), recognizer.finish("shutdown")]
    wanted = [*(expected.recognize([piece], NOW_NS) for piece in cut), expected.finish("shutdown")]
    assert rejects(found) == {}
    assert len(windows(wanted)) == len(windows_of(streams, both.spec)) > 40
    assert [event.window_start_ns for event in windows(found)] == [event.window_start_ns for event in windows(wanted)]
    shares = [np.array([list((e.probabilities or {}).values()) for e in windows(r)]) for r in (found, wanted)]
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-5)


def windows(results: Sequence[Result]) -> list[ActivityEvent]:
    return [event for result in results for event in result.events if event.type == "window"]


# Unit ----------------------------------------------------------------------------------------------------------------


def unstated(batch: ImuBatch, scale: float = 1 / STANDARD_GRAVITY) -> list[Message]:
    return phones.senml(batch, unit=None, scale=scale)


@pytest.mark.parametrize(("scale", "unit"), [(1.0, "m/s²"), (1 / STANDARD_GRAVITY, "g")])
def test_unit_is_told_once_the_watch_lies_still_and_not_before(posture: ModelBundle, scale: float, unit: str) -> None:
    recognizer = Recognizer(posture, every_window=True)
    results = run(recognizer, unstated(swinging(20.0), scale))
    # What is held is no more than five seconds; what comes beyond is refused, and says what to do.
    assert rejects(results) == {RejectReason.UNITS: 38}
    assert "lie still for two seconds" in results[-1].counts.reject_examples[RejectReason.UNITS]
    assert windows(results) == []
    source = recognizer.source_of("phone")
    assert source is not None
    assert (source.unit, source.problem) == (None, RejectReason.UNITS)
    rest = still("sitting", 4.0, start_s=20.0, rate_hz=50.0, device="phone")
    results = run(recognizer, unstated(rest, scale))
    source = recognizer.source_of("phone")
    assert source is not None
    assert (source.unit, source.problem) == (unit, None)
    # The second before the rest was still held, and is let go with it.
    found = windows(results)
    assert (found[0].window_start_ns - START_NS) / 1e9 == pytest.approx(17.2, abs=0.5)
    assert found[-1].activity == "sitting"


def test_stated_unit_flows_at_once_in_motion(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, every_window=True)
    results = run(recognizer, phones.sensor_logger(phones.logged(swinging(4.0), phones.total_of_android)))
    assert rejects(results) == {}
    assert windows(results)[0].window_start_ns == START_NS


def test_documented_unit_that_the_readings_contradict_is_not_believed(posture: ModelBundle) -> None:
    # m/s² stands in the documentation, 1 g is what a watch at rest reads.
    batch = postures()
    assert batch.acc is not None
    small = ImuBatch("phone", batch.t_ns, batch.acc / STANDARD_GRAVITY, batch.gyro)
    recognizer = Recognizer(posture)
    results = run(recognizer, phones.phyphox(small))
    source = recognizer.source_of("phone")
    assert source is not None
    assert source.unit == "g"
    assert [activity for kind, activity, _, _ in told(results) if kind == "start"] == ["standing", "sitting", "lying"]


def test_sender_that_is_set_otherwise_is_followed_and_begins_anew(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture)
    before = still("standing", 8.0, rate_hz=50.0, device="phone")
    after = still("standing", 8.0, start_s=8.0, rate_hz=50.0, device="phone")
    results = run(recognizer, phones.sensor_logger(phones.logged(before, phones.uncalibrated_of_ios)))

    results += run(recognizer, phones.sensor_logger(phones.logged(after, phones.uncalibrated_standardised), first=16))
    source = recognizer.source_of("phone")
    assert source is not None
    assert (source.unit, source.sign) == ("m/s²", "Android")
    assert [(kind, activity) for kind, activity, _, _ in told(results)] == [
        ("start", "standing"),
        ("end", "standing"),
        ("start", "standing"),
    ]
    assert sum(result.counts.missing_messages for result in results) == 0


# Gravity and sign ----------------------------------------------------------------------------------------------------


def test_acceleration_without_gravity_is_refused_whatever_it_is_called(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, every_window=True)
    results = run(recognizer, phones.phyphox(without_gravity(postures())))
    assert rejects(results)[RejectReason.GRAVITY] > 40
    assert windows(results) == []
    source = recognizer.source_of("phone")
    assert source is not None
    assert (source.gravity, source.problem) == ("missing", RejectReason.GRAVITY)
    # The experiment is mended: what comes now has gravity in it.
    results = run(recognizer, phones.phyphox(still("lying", 6.0, start_s=24.0, rate_hz=50.0, device="phone")))
    assert [event.activity for event in windows(results)][-1] == "lying"


def test_gravity_that_does_not_come_is_asked_for(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture)
    form = phones.parts(1)
    logged = [entry for entry in phones.logged(postures(), form) if entry[1] == "accelerometer"]
    results = run(recognizer, phones.sensor_logger(logged))
    assert rejects(results)[RejectReason.GRAVITY] >= 43
    assert "expected Gravity switched on too" in results[-1].counts.reject_examples[RejectReason.GRAVITY]


def test_gravity_in_messages_of_its_own_is_added(posture: ModelBundle) -> None:
    batch = postures()
    logged = phones.logged(ImuBatch("phone", batch.t_ns, batch.acc, None), phones.APPLE_PARTS)
    # Gravity and attitude at a fifth of the rate, half a period later.
    slow = [(t + 10 * MS, name, v) for t, name, v in logged if name != "accelerometer" and t // (20 * MS) % 5 == 0]
    fast = [entry for entry in logged if entry[1] == "accelerometer"]
    arriving = phones.sensor_logger(fast, every_ns=400 * MS) + phones.sensor_logger(slow, every_ns=700 * MS)
    arriving.sort(key=lambda message: max(r["time"] for r in json.loads(message.payload)["payload"]))
    recognizer = Recognizer(posture)
    results = run(recognizer, arriving)
    assert rejects(results) == {}
    assert [activity for kind, activity, _, _ in told(results) if kind == "start"] == ["standing", "sitting", "lying"]


def test_sign_that_nothing_tells_is_refused(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, every_window=True)
    logged = [entry for entry in phones.logged(postures(), phones.APPLE_PARTS) if entry[1] != "orientation"]
    results = run(recognizer, phones.sensor_logger(logged))
    assert rejects(results) == {RejectReason.SIGN: 38}
    assert "expected Orientation switched on in the app" in results[-1].counts.reject_examples[RejectReason.SIGN]
    assert windows(results) == []


# Which sensor --------------------------------------------------------------------------------------------------------


def test_the_wrist_displaces_the_phone_and_brings_its_own_gyroscope(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture)
    pocket = phones.logged(still("lying", 12.0, rate_hz=50.0, device="phone"), phones.total_of_android)
    wrist = phones.logged(still("standing", 8.0, start_s=4.0, rate_hz=50.0, device="phone"), None)
    results = run(recognizer, phones.sensor_logger(pocket + wrist))
    assert [(kind, activity) for kind, activity, _, _ in told(results)] == [
        ("start", "lying"),
        ("end", "lying"),
        ("start", "standing"),
    ]
    assert rejects(results) == {}
    source = recognizer.source_of("phone")
    assert source is not None
    assert (source.sensor, source.gyroscope) == ("wrist motion", "wrist motion")
    # Taken off: half a minute later the phone will do.
    pocket = phones.logged(still("lying", 40.0, start_s=12.0, rate_hz=50.0, device="phone"), phones.total_of_android)
    results = run(recognizer, phones.sensor_logger(pocket, first=24))
    assert [(kind, activity) for kind, activity, _, _ in told(results)] == [("end", "standing"), ("start", "lying")]
    source = recognizer.source_of("phone")
    assert source is not None
    assert (source.sensor, source.gyroscope) == ("totalacceleration", "gyroscope")


def test_another_format_on_the_same_name_begins_anew(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture)
    first = still("standing", 6.0, rate_hz=50.0, device="phone")
    second = still("standing", 6.0, start_s=6.0, rate_hz=50.0, device="phone")
    third = still("standing", 6.0, start_s=12.0, rate_hz=50.0, device="phone")
    results = run(recognizer, own(first))
    assert recognizer.source_of("phone") == Source("har-stream", "acc", "gyro", "m/s²", "Android", "included")
    results += run(recognizer, phones.phyphox(second))
    source = recognizer.source_of("phone")
    assert source is not None
    assert source.format == "phyphox"
    results += run(recognizer, own(third))
    assert recognizer.source_of("phone") == Source("har-stream", "acc", "gyro", "m/s²", "Android", "included")
    assert [kind for kind, _, _, _ in told(results)] == ["start", "end", "start", "end", "start"]
    assert recognizer.source_of("nobody") is None


# Tables and clocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [range(8), (3, 0, 6, 1, 7, 2, 5, 4)])
def test_columns_are_put_together_in_whatever_order_they_come(posture: ModelBundle, order: Sequence[int]) -> None:
    # Sendings of unequal length, as those of a timer are.
    sendings, first = [], 0
    batch = postures()
    for number in range(57):
        size = 20 + number % 3
        sendings += phones.phyphox_csv(
            ImuBatch("phone", batch.t_ns - START_NS, batch.acc, batch.gyro)[first : first + size], size
        )
        first += size
    arriving = [sending[i] for sending in sendings for i in order]
    recognizer = Recognizer(posture)
    # It listens from the midst of a sending on, and a message is lost on the way.
    results = run(recognizer, [*arriving[3:200], *arriving[201:]])
    assert [activity for kind, activity, _, _ in told(results) if kind == "start"][-3:] == [
        "standing",
        "sitting",
        "lying",
    ]
    assert set(rejects(results)) <= {RejectReason.SHAPE, RejectReason.SCHEMA}
    assert rejects(results).total() <= 4


def test_a_phone_that_was_started_anew_is_followed(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture, every_window=True)
    before, after = (still("sitting", 6.0, start_s=s, rate_hz=50.0, device="phone") for s in (0.0, 60.0))
    results = run(recognizer, phones.sensorlog(before, started_ns=START_NS - 100_000 * SECOND))
    results += run(recognizer, phones.sensorlog(after, started_ns=START_NS + 50 * SECOND))
    found = [(event.window_start_ns - START_NS) / 1e9 for event in windows(results)]
    assert found[0] == pytest.approx(0.0, abs=0.1)
    assert found[-1] == pytest.approx(64.7, abs=0.3)
    assert {event.activity for event in windows(results)} == {"sitting"}


def test_reading_of_the_future_is_refused_and_changes_nothing(posture: ModelBundle) -> None:
    recognizer = Recognizer(posture)
    ahead = phones.phyphox(still("sitting", 1.0, start_s=100_000.0, rate_hz=50.0, device="phone"))
    results = run(recognizer, ahead, now_ns=START_NS)
    assert rejects(results) == {RejectReason.FUTURE: len(ahead)}
    results = run(recognizer, phones.phyphox(still("sitting", 4.0, rate_hz=50.0, device="phone")), now_ns=START_NS)
    assert rejects(results) == {}
    assert told(results)[0][:2] == ("start", "sitting")


# What must not matter ------------------------------------------------------------------------------------------------

FORMS: Final[list[Callable[[ImuBatch], list[Message]]]] = [send for send, _ in SENDERS.values()] + [
    lambda batch: [message for sending in phones.phyphox_csv(batch, 30) for message in sending],
    lambda batch: phones.phyphox(without_gravity(batch)),
    lambda batch: unstated(swinging(6.0)) + unstated(batch),
    own,
]


def published(results: Sequence[Result]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for result in results:
        for event in result.events:
            found.setdefault(event.device, []).append(encode_event(event))
    return found


@settings(max_examples=15, deadline=None)
@given(
    stages=st.lists(st.integers(0, len(FORMS) - 1), min_size=1, max_size=3),
    others=st.lists(st.integers(0, len(FORMS) - 1), max_size=2),
    calls=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    handed_over=st.integers(0, 200),
)
def test_events_depend_neither_on_calls_nor_on_other_watches_nor_on_a_restart(
    both: ModelBundle, stages: list[int], others: list[int], calls: list[int], handed_over: int
) -> None:
    """A watch whose sender changes, among others; and in the midst of it all the state goes to another process."""

    def feed(forms: Sequence[int], device: str) -> list[Message]:
        found: list[Message] = []
        for number, form in enumerate(forms):
            batch = postures(rate_hz=25.0, device=device, start_s=30.0 * number)[:400]
            found += [_named(message, device) for message in FORMS[form](batch)]
        return found

    feeds = [feed(stages, "phone"), *(feed([form], f"other-{i}") for i, form in enumerate(others))]
    expected: dict[str, list[bytes]] = {}
    for arriving in feeds:
        alone = Recognizer(both, every_window=True)
        expected |= published([*run(alone, arriving), alone.finish("shutdown")])
    longest = max(map(len, feeds))
    arriving = [arriving[i] for i in range(longest) for arriving in feeds if i < len(arriving)]
    recognizer, first = Recognizer(both, every_window=True), 0
    results: list[Result] = []
    while first < len(arriving):
        if first >= handed_over:
            handed_over = len(arriving)
            liveness, parts = recognizer.export_fleet()
            recognizer = Recognizer(both, every_window=True)
            written = msgspec.msgpack.decode(msgspec.msgpack.encode(liveness), type=Liveness)
            recognizer.import_fleet(written, b"".join(parts))
        size = calls[len(results) % len(calls)]
        results.append(recognizer.process(arriving[first : first + size], NOW_NS))
        first += size
    assert published([*results, recognizer.finish("shutdown")]) == expected


def _named(message: Message, device: str) -> Message:
    """The message of a sender on a topic of its own."""
    if message.topic.startswith("har/"):
        return Message(message.topic.replace("/phone/", f"/{device}/"), message.payload)
    return Message(topics.imu(device), message.payload)
