"""`har-models`: data sets to windows, networks, training, evaluation; and the shipped bundles."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.data import LabelledWindows
    from models.evaluation import Figures
    from models.lesson import Lesson
    from models.library import evaluate, windows_of_recordings
    from models.teaching import teach

__all__ = [
    "Figures",
    "LabelledWindows",
    "Lesson",
    "evaluate",
    "teach",
    "windows_of_recordings",
]

# Imported when asked for: --help must not wait for what it does not need.
_WHERE = {
    "Figures": "models.evaluation",
    "LabelledWindows": "models.data",
    "Lesson": "models.lesson",
    "evaluate": "models.library",
    "teach": "models.teaching",
    "windows_of_recordings": "models.library",
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
