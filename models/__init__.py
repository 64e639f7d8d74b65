"""`har-models`: data sets to windows, networks, training, evaluation; and the shipped bundles."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.lessons.lesson import Lesson
    from models.lessons.teaching import teach
    from models.library import evaluate, windows_of_recordings
    from models.scoring.evaluation import Figures
    from models.windows.data import LabelledWindows

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
    "Figures": "models.scoring.evaluation",
    "LabelledWindows": "models.windows.data",
    "Lesson": "models.lessons.lesson",
    "evaluate": "models.library",
    "teach": "models.lessons.teaching",
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
