"""har-stream's service: readings of motion sensors in, activity events out.

From Python, five lines classify arrays (see docs/how-to/python.md):

    from streamer import Recognizer, load_bundle

    recognizer = Recognizer(load_bundle("wisdm-watch-cnn"))
    for bout in recognizer.classify(t_ns, acc, gyro):
        print(bout.activity, bout.start_ns, bout.end_ns, bout.confidence)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamer.arrays import Bout, ClassifiedWindows
    from streamer.bundle import ModelBundle, load_bundle
    from streamer.imu import ImuBatch
    from streamer.recognizer import Recognizer
    from streamer.recording import Recording, read_recordings, write_csv
    from streamer.wire.events import ActivityEvent

__all__ = [
    "ActivityEvent",
    "Bout",
    "ClassifiedWindows",
    "ImuBatch",
    "ModelBundle",
    "Recognizer",
    "Recording",
    "load_bundle",
    "read_recordings",
    "write_csv",
]

# Imported when asked for: `har-stream --help` must not wait for NumPy, SciPy and ONNX Runtime.
_WHERE = {
    "ActivityEvent": "streamer.wire.events",
    "Bout": "streamer.arrays",
    "ClassifiedWindows": "streamer.arrays",
    "ImuBatch": "streamer.imu",
    "ModelBundle": "streamer.bundle",
    "Recognizer": "streamer.recognizer",
    "Recording": "streamer.recording",
    "load_bundle": "streamer.bundle",
    "read_recordings": "streamer.recording",
    "write_csv": "streamer.recording",
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
