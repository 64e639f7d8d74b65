"""POST /ingest/<device> over real sockets: who may push, what is taken, and what is answered."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from streamer.errors import PayloadError
from streamer.http import MOST_CONNECTIONS, http_server
from streamer.imu import ImuBatch
from streamer.ingest import PATH, Ingest
from streamer.wire.payload import MAX_BYTES, Message, Sent, encode_cbor, read

TOKEN = "vhqG4QnYzS1cFZkLr0aW"  # noqa: S105 # of these tests alone
READING = b'{"t_ns": 1700000000000000000, "acc_x": 1, "acc_y": 2, "acc_z": 9}'
SENSOR_LOGGER = json.dumps(
    {
        "messageId": 0,
        "sessionId": "s",
        "deviceId": "another",
        "payload": [
            {"name": "totalacceleration", "time": 1_700_000_000_000_000_000, "values": {"x": 0, "y": 0, "z": 9}}
        ],
    }
).encode()


@dataclass
class Behind:
    """What is behind the door."""

    token: str | None = TOKEN
    room: bool = True
    now_s: float = 0.0
    port: int = 0
    queued: list[Message] = field(default_factory=list)
    refused: list[PayloadError] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def push(self, message: Message) -> bool:
        if self.room:
            self.queued.append(message)
        return self.room

    def ingest(self) -> Ingest:
        return Ingest(
            self.token,
            push=self.push,
            refuse=lambda _message, error: self.refused.append(error),
            count=self.statuses.append,
            now_s=lambda: self.now_s,
        )

    def url(self, path: str = "wrist") -> str:
        return f"http://127.0.0.1:{self.port}/ingest/{path}"


@pytest.fixture
async def behind(request: pytest.FixtureRequest) -> AsyncIterator[Behind]:
    state = Behind(token=getattr(request, "param", TOKEN))
    routes = [web.post(PATH, state.ingest().answer)]
    async with http_server(CollectorRegistry(), lambda: None, port=0, routes=routes) as state.port:
        yield state


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        yield session


async def test_what_is_pushed_is_queued_as_the_message_that_it_would_be(
    behind: Behind, http: aiohttp.ClientSession
) -> None:
    cbor = encode_cbor(read_own(Message("har/v1/wrist/imu", READING)))
    bodies = [
        (READING, {}),
        (READING, {"Content-Type": "application/x-www-form-urlencoded"}),  # which is what curl says of anything
        (cbor, {"Content-Type": "application/cbor"}),
        (SENSOR_LOGGER, {"Content-Type": "application/json"}),
    ]
    for body, headers in bodies:
        async with http.post(behind.url(), data=body, headers=headers) as response:
            assert (response.status, await response.json()) == (202, {"queued": True})
            assert response.headers["Connection"] == "close"
    assert {message.topic for message in behind.queued} == {"har/v1/wrist/imu"}
    *own, sent = map(read, behind.queued)
    assert [type(one) for one in own] == [ImuBatch] * 3
    # The path says who it is, whatever the payload says.
    assert isinstance(sent, Sent)
    assert sent.device_id == "wrist"


def read_own(message: Message) -> ImuBatch:
    got = read(message)
    assert isinstance(got, ImuBatch)
    return got


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 202),
        (f"bearer  {TOKEN}", 202),
        (TOKEN, 202),  # what is entered in Sensor Logger goes out as it is
        (f"Basic {b64encode(f'me:{TOKEN}'.encode()).decode()}", 202),
        (None, 401),
        ("", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN} {TOKEN}", 401),
        ("Basic %%%", 401),
        ("Bearer \u00e9", 401),
    ],
)
async def test_only_who_knows_the_token_pushes(behind: Behind, authorization: str | None, status: int) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(behind.url(), data=READING) as response,
    ):
        answer = await response.text()
        assert response.status == status
    assert "\n" not in answer
    assert TOKEN not in answer
    assert len(behind.queued) == (status == 202)


async def test_an_app_that_sets_no_header_has_the_token_in_its_address(behind: Behind) -> None:
    async with aiohttp.ClientSession() as session:
        for token, status in ((TOKEN, 202), ("guess", 401), ("", 401)):
            async with session.post(behind.url(f"wrist?token={token}"), data=READING) as response:
                assert response.status == status


@pytest.mark.parametrize("behind", [None], indirect=True)
async def test_nobody_pushes_unless_a_token_is_set(behind: Behind, http: aiohttp.ClientSession) -> None:
    async with http.post(behind.url(), data=READING) as response:
        assert response.status == 404
        assert "ingest_token_file" in (await response.json())["error"]
    assert behind.queued == []


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("wrist", b"not a reading", (400, "format: ")),
        ("wrist", b'{"t_ns": 1}', (400, "schema: ")),
        ("wrist", b"", (400, "format: ")),
        ("wrist", b'{"payload": [{"name": "location", "time": 1}]}', (400, "sensors: ")),
        ("..wrist", READING, (400, "device_name: ")),
        ("%23", READING, (400, "device_name: ")),
        ("", READING, (404, "expected /ingest/NAME")),
        ("wrist/imu", READING, (404, "expected /ingest/NAME")),
        ("wrist", b" " * (MAX_BYTES + 1), (413, "expected at most 1000000 bytes")),
    ],
)
async def test_what_cannot_be_used_is_answered_with_a_line_that_says_why(
    behind: Behind, http: aiohttp.ClientSession, path: str, body: bytes, answer: tuple[int, str]
) -> None:
    status, error = answer
    async with http.post(behind.url(path), data=body) as response:
        assert response.status == status
        text = await response.text()
        assert json.loads(text)["error"].startswith(error)
        assert "\n" not in text
    assert behind.queued == []
    assert behind.statuses == [status]


async def test_a_body_without_a_length_is_bounded_too(behind: Behind, http: aiohttp.ClientSession) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 50_000

    async with http.post(behind.url(), data=endless()) as response:
        assert response.status == 413


async def test_full_queue_is_told(behind: Behind, http: aiohttp.ClientSession) -> None:
    behind.room = False
    async with http.post(behind.url(), data=READING) as response:
        assert response.status == 503
    behind.room = True
    async with http.post(behind.url(), data=READING) as response:
        assert response.status == 202


async def test_a_device_that_pushes_without_end_is_slowed_down_and_no_other(
    behind: Behind, http: aiohttp.ClientSession
) -> None:
    async def push(device: str) -> int:
        async with http.post(behind.url(device), data=READING) as response:
            return response.status

    assert [await push("flood") for _ in range(102)] == [202] * 100 + [429] * 2
    assert await push("wrist") == 202
    behind.now_s = 0.04
    assert [await push("flood") for _ in range(3)] == [202] * 2 + [429]


async def test_many_phones_get_their_turn_though_connections_are_few(
    behind: Behind, http: aiohttp.ClientSession
) -> None:
    async def push(number: int) -> int:
        async with http.post(behind.url(f"phone-{number}"), data=READING) as response:
            return response.status

    for first in range(0, 4 * MOST_CONNECTIONS, MOST_CONNECTIONS // 2):
        numbers = range(first, first + MOST_CONNECTIONS // 2)
        assert set(await asyncio.gather(*map(push, numbers))) == {202}
    assert len(behind.queued) == 4 * MOST_CONNECTIONS
