"""What every test may ask for: the data sets, a real broker, Prometheus and its tool.

What is not installed or not there skips a test with the reason, and fails it where HAR_REQUIRE_ALL=1 (CI).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from tests.servers import MOSQUITTO_CONF, Mosquitto, find_program

# No deadline: one example's time on a busy machine says nothing. In CI the same examples every time.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("HAR_REQUIRE_ALL") == "1" else "local")


def missing(what: str) -> NoReturn:
    """Skip the test for want of something; fail it where HAR_REQUIRE_ALL=1."""
    if os.environ.get("HAR_REQUIRE_ALL") == "1":
        pytest.fail(f"{what} (HAR_REQUIRE_ALL=1 turns this skip into a failure)", pytrace=False)
    pytest.skip(what)


def _program(name: str, package: str) -> Path:
    found = find_program(name)
    if found is None:
        missing(f"{name} is not installed: apt-get install {package}")
    return found


@pytest.fixture(scope="session", autouse=True)
def own_state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A service that a test starts as it is keeps its state in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder that holds the data sets."""
    value = os.environ.get("HAR_DATA_DIR")
    if not value:
        missing("HAR_DATA_DIR is not set: expected the folder with the data sets")
    folder = Path(value).resolve()
    if not folder.is_dir():
        missing(f"HAR_DATA_DIR={value}: no such folder")
    return folder


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' tool for checking configurations and rules."""
    return _program("promtool", "prometheus")


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The Prometheus server program."""
    return _program("prometheus", "prometheus")


@pytest.fixture
def start_mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Mosquitto]]:
    """Starts any number of brokers, all ended with the test.

    Arguments are further lines of mosquitto.conf, and `template` to take the place of the whole of it.
    """
    program = _program("mosquitto", "mosquitto")
    started: list[Mosquitto] = []

    def start(*extra_conf: str, template: str = MOSQUITTO_CONF) -> Mosquitto:
        broker = Mosquitto(program, tmp_path_factory.mktemp("mosquitto"), *extra_conf, template=template)
        started.append(broker)
        broker.start()
        return broker

    yield start
    for broker in started:
        broker.stop()


@pytest.fixture
def mosquitto(start_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """A running Mosquitto of the test's own, whose limits hold back nothing short of 512 MiB."""
    return start_mosquitto()
