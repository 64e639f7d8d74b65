"""Downloads from a server on loopback: resumed, checked, unwrapped; nothing half-done gets the real name."""

from __future__ import annotations

import io
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from simulator.datasets import fitbit, hapt
from simulator.datasets.location import DataSet
from simulator.download import DownloadError, download


def archive_of(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


GOOD = archive_of(("RawData/labels.txt", b"1 1 5 250 1232\n"), ("filler.bin", bytes(300_000)))


class Publisher(ThreadingHTTPServer):
    """Serves one file; `breaks_after` cuts the first answer short, `ranges` says whether parts can be had."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.breaks_after: int | None = None
        self.ranges = True
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/archive.zip"


class Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        first = 0
        if wanted and self.server.ranges:
            match = re.fullmatch(r"bytes=(\d+)-", wanted)
            assert match is not None
            first = int(match[1])
            if first >= len(self.server.content):
                self.send_error(416)
                return
        body = self.server.content[first:]
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut, self.server.breaks_after = self.server.breaks_after, None
        self.wfile.write(body[:cut])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        pass


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    server = Publisher(GOOD)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def published_at(publisher: Publisher) -> DataSet:
    return replace(hapt.DATA_SET, url=publisher.url)


def test_an_archive_arrives_whole_with_progress(publisher: Publisher, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    place = download(published_at(publisher), tmp_path / "new", on_progress=lambda *step: seen.append(step))
    assert place == tmp_path / "new" / "HAPT Data Set.zip"
    assert place.read_bytes() == GOOD
    assert seen[-1] == (len(GOOD), len(GOOD))
    assert [path.name for path in place.parent.iterdir()] == [place.name]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_continued(publisher: Publisher, tmp_path: Path, *, ranges: bool) -> None:
    publisher.ranges = ranges
    publisher.breaks_after = 100_000
    with pytest.raises(DownloadError, match="run the command again to go on"):
        download(published_at(publisher), tmp_path)
    assert (tmp_path / "HAPT Data Set.zip.part").stat().st_size == 100_000
    assert not (tmp_path / "HAPT Data Set.zip").exists()
    assert download(published_at(publisher), tmp_path).read_bytes() == GOOD
    assert publisher.asked == [None, "bytes=100000-"]


def test_a_part_that_is_whole_already_is_taken(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "HAPT Data Set.zip.part").write_bytes(GOOD)
    assert download(published_at(publisher), tmp_path).read_bytes() == GOOD


def test_an_archive_wrapped_in_another_is_unwrapped(publisher: Publisher, tmp_path: Path) -> None:
    publisher.content = archive_of(("HAPT Data Set.zip", GOOD), ("names.txt", b"x"))
    assert download(published_at(publisher), tmp_path).read_bytes() == GOOD
    assert [path.name for path in tmp_path.iterdir()] == ["HAPT Data Set.zip"]


def damaged() -> bytes:
    content = bytearray(GOOD)
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    "content", [b"<html>gone</html>", archive_of(("other.txt", b"x")), damaged()], ids=["page", "other", "damaged"]
)
def test_what_is_not_the_data_set_is_deleted_and_said(publisher: Publisher, tmp_path: Path, content: bytes) -> None:
    publisher.content = content
    with pytest.raises(DownloadError, match="what came is not the archive of hapt"):
        download(published_at(publisher), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_message_says_what_to_put_where(publisher: Publisher, tmp_path: Path) -> None:
    data_set = published_at(publisher)
    publisher.server_close()
    with pytest.raises(DownloadError) as raised:
        download(replace(data_set, url="http://127.0.0.1:9/archive.zip"), tmp_path)
    message = str(raised.value)
    assert "Connection refused" in message
    assert f"put HAPT Data Set.zip from {hapt.DATA_SET.page} into {tmp_path}" in message


def test_a_data_set_without_an_address_says_so(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="data set fitbit cannot be downloaded"):
        download(fitbit.DATA_SET, tmp_path)
