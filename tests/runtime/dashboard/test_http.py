"""Whoever holds connections without a word is hung up on, and the others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from bot.runtime.cli.dashboard import listening
from bot.runtime.dashboard.http import BUSY, BriefProtocol, DressedSocket
from bot.telemetry.dashboard.gate import plain_headers
from tests.runtime.command_line import PATIENCE_S

HUNG_UP = (ConnectionResetError, asyncio.IncompleteReadError)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nha"


SOCKET = b"GET /s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
OURS = plain_headers(is_secure=True)
MOST = 2  # requests at a time


class Brief(BriefProtocol):
    look_every_s = 0.1
    max_of_one = 3
    dress = OURS


class Socket(DressedSocket):
    dress = OURS


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read all there is, take as long as two looks, and answer; refuse all sockets, and fail at one of them."""
    if scope["type"] == "websocket":
        assert scope["path"] != "/s/broken", "as a fault in a page"
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    while scope["type"] == "http":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message["more_body"]:
            break
    await asyncio.sleep(3 * Brief.look_every_s)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(most: int | None = None) -> AsyncIterator[int]:
    """Serve on a free port for the length of the block; yield the port."""
    config = uvicorn.Config(
        app, http=Brief, ws=Socket, log_config=None, lifespan="off", server_header=False, limit_concurrency=most
    )
    server = uvicorn.Server(config)
    with listening("127.0.0.1", 0) as line:
        running = asyncio.create_task(server._serve([line]))
        while not server.started:  # noqa: ASYNC110 — it has no event for this
            await asyncio.sleep(0.01)
        try:
            yield line.getsockname()[1]
        finally:
            server.should_exit = True
            await running


@pytest.mark.parametrize("said", [b"", GET[:20], POST])
async def test_who_does_not_finish_what_it_says_is_hung_up_on(said: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S), serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        with pytest.raises(HUNG_UP):
            await reader.readexactly(1)
        writer.close()


async def test_who_asks_is_answered_however_long_it_takes_and_may_ask_again() -> None:
    async with asyncio.timeout(PATIENCE_S), serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(GET)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.write(GET[:20])
        with pytest.raises(HUNG_UP):
            await reader.readuntil(b"ok")
        writer.close()


async def test_one_address_has_so_many_connections_and_no_more() -> None:
    async with asyncio.timeout(PATIENCE_S), serving() as port:
        ends = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        with pytest.raises(HUNG_UP):
            await ends[-1][0].readexactly(1)
        ends[0][1].write(GET)
        assert (await ends[0][0].readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        for _, writer in ends:
            writer.close()


def headers_in(answer: bytes) -> dict[str, str]:
    """Return the headers of an answer; a name that is there twice fails."""
    lines = [line.partition(": ") for line in answer.decode().partition("\r\n\r\n")[0].split("\r\n")[1:]]
    names = [name.lower() for name, _, _ in lines]
    assert len(names) == len(set(names)), names
    return {name.lower(): value for name, _, value in lines}


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"what is this\r\n\r\n", b"400"),
        (SOCKET + b"\r\n", b"400"),  # no handshake
        (SOCKET + KEY + b"\r\n", b"403"),
        (SOCKET.replace(b"/s", b"/s/broken") + KEY + b"\r\n", b"500"),
    ],
)
async def test_what_the_server_answers_by_itself_says_no_less_about_itself(said: bytes, status: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S), serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        answer = await reader.read()
        writer.close()
    assert answer.split(b" ")[1] == status
    found = headers_in(answer)
    assert {name: found.get(name.lower()) for name in OURS} == OURS
    assert "server" not in found


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until all is said, or until we are hung up on."""
    said = b""
    while not said.endswith(b"ok") and (part := await reader.read(1_000)):
        said += part
    return said


async def test_when_too_many_ask_at_once_the_last_is_told_so_and_the_others_are_served() -> None:
    async with asyncio.timeout(PATIENCE_S), serving(MOST) as port:
        ends = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST + 1)]
        for _, writer in ends:
            writer.write(GET)
        answers = await asyncio.gather(*(answer_of(reader) for reader, _ in ends))
        for _, writer in ends:
            writer.close()
    busy = [answer for answer in answers if answer.split(b" ")[1] == b"503"]
    assert busy
    assert all(answer.endswith(BUSY.encode()) for answer in busy)
    found = headers_in(busy[0])
    assert {name: found.get(name.lower()) for name in OURS} == OURS
    assert "server" not in found
