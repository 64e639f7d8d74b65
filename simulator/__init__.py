"""`simulator`: data sets, recordings and synthetic motion, replayed over MQTT as watches would send them."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.library import read_recordings, replay_recordings, synthetic_recordings
    from simulator.replay import Progress
    from simulator.session import Broker

__all__ = [
    "Broker",
    "Progress",
    "read_recordings",
    "replay_recordings",
    "synthetic_recordings",
]

# Imported when asked for: --help must not wait for what it does not need.
_WHERE = {
    "Broker": "simulator.session",
    "Progress": "simulator.replay",
    "read_recordings": "simulator.library",
    "replay_recordings": "simulator.library",
    "synthetic_recordings": "simulator.library",
}


def __getattr__(name: str) -> object:
    """What `__all__` names.

    Raises:
        AttributeError: it does not name this.
    """
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
