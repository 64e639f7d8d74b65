"""Readings pushed over HTTP, for senders that speak no MQTT: POST /ingest/<device> with a token.

202 queued; 400 unusable, with the reason; 401 no token, or a wrong one; 404 switched off, or no such path; 413 too large;
429 too many of a device; 503 no room, or stopping. All with one line of JSON.

The body is what a message on har/v1/<device>/imu would be, and is queued as one. A connection is closed behind its answer:
there are few, and phones would keep them. Only who holds the token has anything read, and it is compared in constant time.
"""

from __future__ import annotations

import hmac
import logging
from base64 import b64decode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from streamer.errors import PayloadError
from streamer.wire import topics
from streamer.wire.payload import MAX_BYTES, Message, read

logger = logging.getLogger(__name__)

PATH: Final = "/ingest/{device:.*}"
#: Messages of one device per second, in the long run and at once.
_RATE: Final = 20.0
_BURST: Final = 40.0
#: Devices whose rate is known; the one longest unheard of makes room.
_MOST_DEVICES: Final = 4096
#: What clients call a body of which they know nothing.
_UNKNOWN: Final = frozenset({"", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"})


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
        status, error = await self._take(request)
        self._count(status)
        response = web.json_response({"error": error} if error else {"queued": True}, status=status)
        if status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        response.force_close()
        return response

    async def _take(self, request: web.Request) -> tuple[HTTPStatus, str | None]:
        """What becomes of a request, and why nothing does."""
        if self._token is None:
            return HTTPStatus.NOT_FOUND, "nobody may push readings here; expected the setting ingest_token_file"
        if not is_token(request.headers.get("Authorization", ""), self._token):
            return HTTPStatus.UNAUTHORIZED, "expected the token, as Authorization: Bearer TOKEN"
        device = request.match_info["device"]
        if "/" in device:
            return HTTPStatus.NOT_FOUND, "expected /ingest/NAME"
        try:
            topic = topics.imu(topics.checked_name(device))
        except PayloadError as error:
            return HTTPStatus.BAD_REQUEST, f"{error.reason}: {error}"
        if not self._has_allowance(device):
            return HTTPStatus.TOO_MANY_REQUESTS, f"expected {_RATE:.0f} messages of a device per second at most"
        too_large = f"expected at most {MAX_BYTES} bytes"
        if (request.content_length or 0) > MAX_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large
        message = Message(topic, body, _content_type(request, body))
        try:
            read(message)
        except PayloadError as error:
            self._refuse(message, error)
            return HTTPStatus.BAD_REQUEST, f"{error.reason}: {error}"
        if not self._push(message):
            return HTTPStatus.SERVICE_UNAVAILABLE, "too much is waiting, or the service is stopping; try again"
        return HTTPStatus.ACCEPTED, None

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


def _content_type(request: web.Request, body: bytes) -> str | None:
    """The content type, None where it says nothing: curl calls everything a form."""
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_form = media_type == "application/x-www-form-urlencoded" and not body.lstrip()[:1] in {b"{", b"["}
    return request.headers["Content-Type"] if media_type not in _UNKNOWN or is_form else None
