"""What the integration tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deployed import Deployed, deploy
from tests.servers import Mosquitto


@pytest.fixture
def deployed(start_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> Deployed:
    """The shipped broker with the accounts har-stream, watch-1, watch-2, reader and simulator."""
    return deploy(start_mosquitto, tmp_path)
