"""What the doctor makes of what it heard, without a broker; and its page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.bundle import ModelBundle
from streamer.config import Settings
from streamer.doctor import watches
from streamer.doctor.ear import Ear, Nearby
from streamer.doctor.entry import check_client_id
from streamer.doctor.finding import CHECKS
from streamer.doctor.probe import Heard, Login
from streamer.doctor.watches import _ADVICE
from streamer.errors import RejectReason
from streamer.imu import ImuBatch
from streamer.likeness.scale import Scale, scale_of, seconds_of
from streamer.likeness.sensor import stuck_axes
from streamer.wire import topics
from streamer.wire.payload import encode_json
from tests.bundles import POSTURE_SPEC, START_NS, make_bundle
from tests.motion import SECOND, still, times

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "doctor.md"
SETTINGS: Final = Settings()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return make_bundle(tmp_path_factory.mktemp("posture"))


def heard(*batches: ImuBatch, arrived_ns: Callable[[ImuBatch], int] | None = None) -> Ear:
    """An ear that has heard batches, each as it came due."""
    ear = Ear(SETTINGS.topic, "token")
    for batch in batches:
        now_ns = int(batch.t_ns[-1]) if arrived_ns is None else arrived_ns(batch)
        ear.receive(Heard(topics.imu(batch.device_id), encode_json(batch), None, retained=False, arrived_ns=now_ns))
    return ear


def walking(seconds: float, rate_hz: float = 50.0) -> NDArray[np.float64]:
    """(n, 3) accelerations of somebody who walks, in m/s²."""
    t_s = (times(seconds, rate_hz) - START_NS) / 1e9
    steps = np.stack([np.sin(2 * np.pi * 2 * t_s), np.cos(2 * np.pi * 1 * t_s), np.sin(2 * np.pi * 4 * t_s)], axis=1)
    return 4 * steps + [2.0, -3.0, 9.1]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [(1.0, "m/s2"), (1000 / 9.80665, "raw"), (4096 / 9.80665, "raw"), (0.0, "no_gravity")],
)
def test_unit_of_walking_is_told(unit: float, expected: Scale) -> None:
    assert scale_of(seconds_of(times(5, 50.0), unit * walking(5))) == expected


@pytest.mark.parametrize(("unit", "expected"), [(9.81, "m/s2"), (1.0, "g"), (1000.0, "raw"), (0.001, "no_gravity")])
@pytest.mark.parametrize("direction", [(0.0, 0.0, 1.0), (0.6, 0.0, -0.8)])
def test_unit_at_rest_is_told_whichever_way_the_watch_lies(
    unit: float, expected: Scale, direction: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(1)
    acc = unit * (np.array(direction) + 0.005 * rng.normal(size=(200, 3)))
    assert scale_of(seconds_of(times(4, 50.0), acc)) == expected


def test_axis_that_never_changes_is_named_unless_all_stand_still() -> None:
    moving = walking(1)
    moving[:, 1] = 0.0
    assert stuck_axes(moving) == [1]
    assert stuck_axes(np.zeros((50, 3))) == []


def test_another_programs_sender_is_named_with_its_unit(bundle: ModelBundle) -> None:
    ear = Ear(SETTINGS.topic, "token")
    t_ns, acc = times(3, 50.0), walking(3)
    for first in range(0, 150, 25):
        readings = [
            {"name": "totalacceleration", "time": int(at), "values": dict(zip("xyz", xyz, strict=True))}
            for at, xyz in zip(t_ns[first : first + 25].tolist(), acc[first : first + 25].tolist(), strict=True)
        ]
        payload = json.dumps({"messageId": first, "sessionId": "s", "deviceId": "phone", "payload": readings}).encode()
        ear.receive(Heard("sensor-logger", payload, None, retained=False, arrived_ns=int(t_ns[first + 24])))
    heard = watches.recognize(ear, SETTINGS, bundle)
    assert watches.check_decoding(heard).status == "ok"
    found = watches.check_units(heard)
    assert (found.status, "phone: Sensor Logger, totalacceleration in " in found.says) == ("ok", True), found.says


def test_axis_that_is_missing_is_told(bundle: ModelBundle) -> None:
    acc = walking(3)
    acc[:, 2] = 0.0
    ear = heard(ImuBatch("wrist", times(3, 50.0), acc, None))
    found = watches.check_units(watches.recognize(ear, SETTINGS, bundle))
    assert (found.status, found.says) == ("failed", "wrist: acc_z never changes")


def test_turns_that_no_gyroscope_measures_are_degrees(bundle: ModelBundle) -> None:
    ear = heard(ImuBatch("wrist", times(3, 50.0), walking(3), 40 * walking(3)))
    found = watches.check_units(watches.recognize(ear, SETTINGS, bundle))
    assert found.status == "failed"
    assert "degrees per second" in found.says


def test_watch_without_a_gyroscope_is_taken_by_a_model_that_can_do_without(tmp_path: Path) -> None:
    needs = msgspec.structs.replace(POSTURE_SPEC, channels=(*POSTURE_SPEC.channels, "gyro_x"))
    optional = msgspec.structs.replace(needs, optional_sensors=("gyro",))
    whole = ImuBatch("wrist", times(3, 50.0), walking(3), None)
    ear = heard(*(whole[first : first + 25] for first in range(0, 150, 25)))
    for spec, status, says in (
        (needs, "failed", "wrist sends no gyroscope, and posture needs it"),
        (optional, "ok", "posture takes them (50 Hz, 1 watch without a gyroscope) and says: wrist"),
    ):
        model = make_bundle(tmp_path / status, spec=spec)
        found = watches.check_model(watches.recognize(ear, SETTINGS, model), model, 3.0)
        assert (found.status, found.says[: len(says)]) == (status, says)


def test_declared_rate_that_is_wrong_is_told(bundle: ModelBundle) -> None:
    one = still("lying", 2, rate_hz=50.0)
    ear = heard(ImuBatch("wrist", one.t_ns, one.acc, one.gyro, rate_hz=100.0))
    # With `t_ns` for each reading the declared rate contradicts nothing that the decoder looks at.
    found = watches.check_model(watches.recognize(ear, SETTINGS, bundle), bundle, 2.0)
    assert found.status in {"warning", "ok"}


@pytest.mark.parametrize(
    ("behind_s", "status", "says"),
    [
        (0.4, "ok", "readings are 0.4 s old"),
        (-30.0, "warning", "its clock is 30.0 s ahead"),
        (7200.0, "warning", "2 hours old"),
        (3 * 86_400.0, "warning", "3 days old"),
        (START_NS / 1e9 - 5, "warning", "as if it were 1970"),
    ],
)
def test_clocks_are_compared(bundle: ModelBundle, behind_s: float, status: str, says: str) -> None:
    batch = still("lying", 2)
    shifted = ImuBatch("wrist", batch.t_ns - round(behind_s * SECOND), batch.acc, batch.gyro)
    ear = heard(shifted, arrived_ns=lambda _: int(batch.t_ns[-1]))
    found = watches.check_clocks(watches.recognize(ear, SETTINGS, bundle))
    assert (found.status, says in found.says) == (status, True), found.says


def test_ear_is_bounded() -> None:
    ear = Ear(SETTINGS.topic, "token")
    one = Heard("har/v1/wrist/imu", bytes(10_000), None, retained=False, arrived_ns=0)
    for _ in range(5000):
        ear.receive(one)
    assert ear.full
    assert sum(len(heard.payload) for heard in ear.readings) <= 32_000_000
    nearby = Nearby(ear)
    for number in range(10_000):
        nearby.receive(Heard(f"home/{number}", b"21", None, retained=False, arrived_ns=0))
    assert len(nearby.samples) == 500
    nearby.receive(Heard("home/0", b"21", None, retained=False, arrived_ns=0))
    assert nearby.count["home/0"] == 2


def test_a_restart_is_not_taken_for_two_of_a_name() -> None:
    login = Login(host="127.0.0.1", port=1, username=None, password=None)

    def check(*said: str) -> str:
        return check_client_id(SETTINGS, login, mqtt_5=True, statuses={"har-stream": list(said)}).status

    assert check("online", "stopped", "online") == "ok"
    assert check("online", "offline", "online", "offline", "online") == "failed"


def test_every_reason_for_a_refusal_has_its_advice() -> None:
    assert set(_ADVICE) == set(RejectReason)


def test_the_page_explains_every_check() -> None:
    explained = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert explained == list(CHECKS)
