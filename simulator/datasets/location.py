"""Where data sets lie on this machine, and reading them from a publisher's archive or an unpacked folder alike."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import platformdirs
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.number_text import parse_floats


@dataclass(frozen=True, slots=True)
class DataSet:
    """How a published data set is recognised and where it is published.

    Attributes:
        name: what commands call it.
        archives: file names under which its archive is published or passed on.
        folders: names of its unpacked folder.
        marker: a file that only this data set has, relative to its top folder.
        page: the publisher's page, for people.
        url: address of the archive, None where it cannot be fetched by a program.
    """

    name: str
    archives: tuple[str, ...]
    folders: tuple[str, ...]
    marker: str
    page: str
    url: str | None


def data_root() -> Path:
    """The folder that holds data sets: HAR_DATA_DIR, else this user's cache folder."""
    configured = os.environ.get("HAR_DATA_DIR")
    return Path(configured) if configured else platformdirs.user_cache_path("har-stream")


class DataFiles:
    """The files of one data set, named relative to its top folder; in an archive or on disk."""

    def __init__(self, place: Path, top: str, archive: zipfile.ZipFile | None) -> None:
        self.place = place
        self._top = top
        self._archive = archive

    def names(self, folder: str) -> list[str]:
        """Names of the files directly in a folder, sorted, each relative to the data set's top folder."""
        if self._archive is None:
            inside = self.place / folder
            return sorted(f"{folder}/{path.name}" for path in inside.iterdir()) if inside.is_dir() else []
        prefix = f"{self._top}{folder}/"
        names = (name for name in self._archive.namelist() if name.startswith(prefix))
        return sorted(name[len(self._top) :] for name in names if "/" not in name[len(prefix) :] and name != prefix)

    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            RecordingError: there is no such file, or it is damaged.
        """
        try:
            if self._archive is None:
                return (self.place / name).read_bytes()
            return self._archive.read(f"{self._top}{name}")
        except KeyError:
            raise RecordingError(f"{self.place}: has no {self._top}{name}; expected the archive as published") from None
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            raise RecordingError(f"{self.place}: {name} cannot be read ({error})") from error

    def read_table(self, name: str, columns: int) -> NDArray[np.float64]:
        """(n, columns) float64 of a file of numbers only.

        Raises:
            RecordingError: the file is missing or not such a table.
        """
        values = parse_floats(self.read(name))
        if values is None or not len(values) or len(values) % columns:
            found = "something else than numbers" if values is None else f"{len(values)} numbers"
            raise RecordingError(f"{self.place}: {name} holds {found}; expected rows of {columns} numbers")
        return values.reshape(-1, columns)


def find(root: Path, data_set: DataSet) -> Path | None:
    """The archive or unpacked folder of a data set below `root`, None when it is not there.

    Args:
        root: a folder that holds data sets, or the data set itself.
        data_set: what is looked for.
    """
    candidates = [root / name for name in (*data_set.folders, *data_set.archives)]
    for place in (root, *candidates):
        if place.is_dir() and (place / data_set.marker).is_file():
            return place
        if place.is_file() and (place != root or place.suffix == ".zip"):
            return place
    return None


@contextmanager
def open_files(root: Path, data_set: DataSet) -> Iterator[DataFiles]:
    """The files of a data set.

    Raises:
        RecordingError: the data set is not below `root`; the message says where it was looked for and how to get it.
    """
    place = find(root, data_set)
    if place is None:
        names = " or ".join(repr(name) for name in data_set.archives[:1] + data_set.folders[:1])
        raise RecordingError(
            f"data set {data_set.name} is not in {root}: expected {names} there "
            f"(HAR_DATA_DIR names the folder); {how_to_get(data_set)}"
        )
    if place.is_dir():
        yield DataFiles(place, "", None)
        return
    try:
        archive = zipfile.ZipFile(place)
    except (OSError, zipfile.BadZipFile) as error:
        raise RecordingError(f"{place}: cannot be opened ({error}); expected a zip archive") from error
    with archive:
        marker = PurePosixPath(data_set.marker).parts
        for name in archive.namelist():
            parts = PurePosixPath(name).parts
            if parts[-len(marker) :] == marker:
                yield DataFiles(place, "".join(f"{part}/" for part in parts[: -len(marker)]), archive)
                return
    raise RecordingError(f"{place}: has no {data_set.marker}; expected the archive of {data_set.name} as published")


def how_to_get(data_set: DataSet) -> str:
    """One line for people: how a missing data set is got."""
    by_hand = f"get it from {data_set.page}"
    return f"run `simulator download {data_set.name}` or {by_hand}" if data_set.url else by_hand
