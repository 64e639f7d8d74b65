"""Fetching a data set's archive from its publisher: resumed where it broke off, checked before it is taken for good."""

from __future__ import annotations

import http.client
import io
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from simulator.datasets.location import DataSet, how_to_get
from streamer.errors import HarError

_BLOCK_BYTES: Final = 1 << 16
_TIMEOUT_S: Final = 30.0

#: Called with the bytes so far and the bytes in all, None when the server does not say.
OnProgress = Callable[[int, int | None], None]


class DownloadError(HarError):
    """An archive could not be fetched, or is not what was expected."""


def download(data_set: DataSet, folder: Path, *, on_progress: OnProgress = lambda _done, _total: None) -> Path:
    """The archive, fetched into a folder under its published name.

    A broken download leaves NAME.part, which the next one continues. The archive is taken over only when every member's
    checksum is right and the data set's own files are in it; where the publisher wraps it in a second archive, the
    inner one is kept.

    Raises:
        DownloadError: nothing can be fetched, or what came is not the data set; the message says what to do.
    """
    if data_set.url is None:
        raise DownloadError(f"data set {data_set.name} cannot be downloaded: {how_to_get(data_set)}")
    target = folder / data_set.archives[0]
    part = target.with_name(f"{target.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(data_set.url, part, on_progress)
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DownloadError(
            f"{data_set.url}: {reason}; run the command again to go on, or put {target.name} from {data_set.page} "
            f"into {folder}"
        ) from error
    try:
        content = _inner_archive(part, data_set)
    except (zipfile.BadZipFile, OSError) as error:
        part.unlink()
        raise DownloadError(
            f"{data_set.url}: what came is not the archive of {data_set.name} ({error}); it was deleted, try again or "
            f"get {target.name} from {data_set.page}"
        ) from error
    if content is None:
        return part.replace(target)
    # Written beside and renamed, so that a half-written archive never has the real name.
    inner = target.with_name(f"{target.name}.inner")
    inner.write_bytes(content)
    part.unlink()
    return inner.replace(target)


def _fetch(url: str, part: Path, on_progress: OnProgress) -> None:
    """Write what is missing of `url` to `part`."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "har-stream"})  # noqa: S310 (our own addresses)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310 (likewise)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # it is all there already; the checks tell whether it is right
        raise
    with response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        done = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                done += len(block)
                on_progress(done, total)
    if total is not None and done != total:
        raise OSError(f"broke off after {done} of {total} bytes")


def _inner_archive(path: Path, data_set: DataSet) -> bytes | None:
    """The archive inside the publisher's archive; None when `path` is the data set's archive itself.

    Raises:
        BadZipFile: a member is damaged, or neither has the data set's files.
    """
    with zipfile.ZipFile(path) as archive:
        _check(archive)
        if _has_marker(archive, data_set):
            return None
        for name in archive.namelist():
            if name.endswith(".zip"):
                content = archive.read(name)
                with zipfile.ZipFile(io.BytesIO(content)) as inner:
                    if _has_marker(inner, data_set):
                        _check(inner)
                        return content
    raise zipfile.BadZipFile(f"it has no {data_set.marker}")


def _check(archive: zipfile.ZipFile) -> None:
    damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is damaged")


def _has_marker(archive: zipfile.ZipFile, data_set: DataSet) -> bool:
    return any(name == data_set.marker or name.endswith(f"/{data_set.marker}") for name in archive.namelist())
