"""The live page's own files and whom they are served to.

Names of watches and labels are text from outside: the page's scripts put them into the document as text only, and the
headers below let the browser run nothing else, load nothing from elsewhere and make no document of a string.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import Final

from aiohttp import web

from streamer.addresses import is_loopback

_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

#: No inline script or style, nothing from another origin, no frame around it, no string made into a document.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "accelerometer=(), camera=(), geolocation=(), gyroscope=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One of the page's files."""

    content: bytes
    content_type: str
    etag: str

    def response(self, request: web.Request) -> web.Response:
        """The file, or that the browser's copy still is the same."""
        headers = {**HEADERS, "ETag": f'"{self.etag}"', "Cache-Control": "no-cache"}
        known = {tag.value for tag in request.if_none_match or ()}
        response = (
            web.Response(status=304, headers=headers)
            if self.etag in known
            else web.Response(body=self.content, content_type=self.content_type, charset="utf-8", headers=headers)
        )
        # A browser would keep six connections for a while, and a few browsers those of the scrapers.
        response.force_close()
        return response


def read_assets() -> dict[str, Asset]:
    """The page's files by name."""
    assets: dict[str, Asset] = {}
    for file in sorted((resources.files("streamer.live") / "page").iterdir(), key=lambda file: file.name):
        content_type = _TYPES.get("." + file.name.rpartition(".")[2])
        if content_type is not None:
            content = file.read_bytes()
            assets[file.name] = Asset(content, content_type, hashlib.sha256(content).hexdigest()[:16])
    return assets


def version_of(assets: dict[str, Asset]) -> str:
    """The same for the same files."""
    tags = "".join(f"{name}={asset.etag}\n" for name, asset in sorted(assets.items()))
    return hashlib.sha256(tags.encode()).hexdigest()[:16]


class Names:
    """By which names the page may be asked for.

    A page of somebody else's, whose name that somebody lets point to this machine, is the browser's way in past its own
    rules (DNS rebinding): its requests carry the other name. An address can't be made to point elsewhere.

    >>> names = Names("127.0.0.1", None)
    >>> [names.admit(host) for host in ("127.0.0.1:9464", "localhost:9464", "[::1]:9464", "rebound.example:9464", "")]
    [True, True, True, False, False]
    """

    def __init__(self, http_host: str, live_host: str | None, more: Iterable[str] = ()) -> None:
        """Who is admitted.

        Args:
            http_host: where the service listens.
            live_host: a further name.
            more: others, such as this machine's own.
        """
        self._loopback = is_loopback(http_host)
        names = {"localhost", http_host.lower(), *(name.lower() for name in more)}
        if live_host is not None:
            names.add(live_host.lower())
        self._names = names

    def admit(self, host: str) -> bool:
        """Whether a request with this Host header may be answered."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.lower().rstrip(".")
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return address.is_loopback or not self._loopback


def machine_names() -> list[str]:
    """This machine's name, alone and in the local network's domain."""
    name = socket.gethostname()
    return [name, f"{name.partition('.')[0]}.local"]


def absent_page(why: str | None) -> web.RouteDef:
    """What stands where the page would be: why it isn't there."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=HTTPStatus.NOT_FOUND, text=f"There is no live page here: {why}.\n", headers=HEADERS)

    return web.get("/", answer)
