"""The broker that the other integration tests rely on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers import Mosquitto, accepts_connections


def test_broker_accepts_connections_and_keeps_its_port_over_stop_kill_and_restart(mosquitto: Mosquitto) -> None:
    port, first = mosquitto.port, mosquitto.pid
    assert accepts_connections(port)
    mosquitto.kill()
    assert not accepts_connections(port)
    mosquitto.start()
    assert (mosquitto.port, accepts_connections(port)) == (port, True)
    mosquitto.restart()
    assert mosquitto.pid != first
    assert accepts_connections(port)


def test_a_broker_that_cannot_start_says_why(start_mosquitto: Callable[..., Mosquitto]) -> None:
    with pytest.raises(RuntimeError, match="Unknown configuration variable"):
        start_mosquitto("no_such_setting true")
