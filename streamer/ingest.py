"""Readings pushed over HTTP, for senders that speak no MQTT: POST /ingest/<device> with a token.

202 queued; 400 unusable, with the reason; 401 no token, or a wrong one; 404 switched off, or no such path; 413 too
large; 429 too many of a device; 503 no room, or stopping. All with one line of JSON.

The body is what a message on har/v1/<device>/imu would be, and is queued as one. A connection is closed behind its
answer: there are few, and phones would keep them. Only who holds the token has anything read, and it is compared in
constant time. It comes in the header, or as ?token= from apps that let nobody set one.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from aiohttp import web

from streamer.errors import PayloadError
from streamer.wire import topics
from streamer.wire.payload import MAX_BYTES, Message, read

PATH: Final = "/ingest/{device:.*}"
#: Messages of one device per second, in the long run and at once.
_RATE: Final = 50.0
_BURST: Final = 100.0
#: Devices whose rate is known; the one longest unheard of makes room.
_MOST_DEVICES: Final = 4096
#: What clients call a body of which they know nothing.
_UNKNOWN: Final = frozenset({"", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"})


class _RefusedError(Exception):
    """A status and the reason for it."""


class Ingest:
    """Answers pushes.

    State: how much each device has sent of late.
    """

    def __init__(
        self,
        token: str | None,
        *,
        push: Callable[[Message], bool],
        refuse: Callable[[Message, PayloadError], None],
        count: Callable[[int], None],
        now_s: Callable[[], float],
    ) -> None:
        """Nothing was pushed yet.

        Args:
            token: what a sender must know; None where nobody may push.
            push: queues a message; False where there is no room.
            refuse: takes a message that is unusable, to be counted.
            count: takes each answer's status.
            now_s: a clock that only goes on.
        """
        self._token = token
        self._push = push
        self._refuse = refuse
        self._count = count
        self._now_s = now_s
        self._allowances: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a POST to PATH."""
        status, error = HTTPStatus.ACCEPTED, None
        try:
            await self._take(request)
        except _RefusedError as refused:
            status, error = refused.args
        self._count(status)
        response = web.json_response({"error": error} if error else {"queued": True}, status=status)
        if status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        response.force_close()
        return response

    async def _take(self, request: web.Request) -> None:
        """Queue what a request brings.

        Raises:
            _RefusedError: it is not to be.
        """
        if self._token is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "no readings are taken here; expected ingest_token_file")
        given = request.headers.get("Authorization") or request.query.get("token", "")
        if not is_token(given, self._token):
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "expected the token, as Authorization: Bearer TOKEN")
        device = request.match_info["device"]
        if not device or "/" in device:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "expected /ingest/NAME")
        try:
            topic = topics.imu(topics.checked_name(device))
        except PayloadError as error:
            raise _unusable(error) from None
        if not self._has_allowance(device):
            raise _RefusedError(HTTPStatus.TOO_MANY_REQUESTS, f"expected at most {_RATE:.0f} messages per second")
        body = await _body(request)
        message = Message(topic, body, _content_type(request, body))
        try:
            read(message)
        except PayloadError as error:
            self._refuse(message, error)
            raise _unusable(error) from None
        if not self._push(message):
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too much is waiting, or the service stops; try again")

    def _has_allowance(self, device: str) -> bool:
        now_s = self._now_s()
        left, since_s = self._allowances.pop(device, (_BURST, now_s))
        left = min(left + (now_s - since_s) * _RATE, _BURST)
        self._allowances[device] = (max(left - 1, 0.0), now_s)
        if len(self._allowances) > _MOST_DEVICES:
            self._allowances.popitem(last=False)
        return left >= 1


def is_token(authorization: str, token: str) -> bool:
    """Whether a header carries the token: by itself, as Sensor Logger sends it, as Bearer, or as Basic's password.

    >>> [is_token(header, "a token") for header in ("a token", "Bearer a token", "Basic bmFtZTphIHRva2Vu", "other", "")]
    [True, True, True, False, False]
    """
    scheme, _, credentials = authorization.strip().partition(" ")
    found = authorization.strip()
    if scheme.lower() == "bearer":
        found = credentials.strip()
    elif scheme.lower() == "basic":
        try:
            found = b64decode(credentials, validate=True).decode().partition(":")[2]
        except (Base64Error, UnicodeDecodeError):
            found = ""
    # Both are encoded, for only bytes may hold anything.
    return hmac.compare_digest(found.encode("utf-8", "surrogateescape"), token.encode())


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) <= MAX_BYTES:
        with suppress(web.HTTPRequestEntityTooLarge):
            return await request.read()
    raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MAX_BYTES} bytes")


def _unusable(error: PayloadError) -> _RefusedError:
    return _RefusedError(HTTPStatus.BAD_REQUEST, f"{error.reason}: {error}")


def _content_type(request: web.Request, body: bytes) -> str | None:
    """The content type, None where it says nothing: curl calls everything a form."""
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_form = media_type == "application/x-www-form-urlencoded" and body.lstrip()[:1] not in {b"{", b"["}
    return request.headers["Content-Type"] if media_type not in _UNKNOWN or is_form else None
