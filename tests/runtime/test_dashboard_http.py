"""Whoever holds connections without a word is hung up on, and the others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from bot.runtime.dashboard_cli import listening
from bot.runtime.dashboard_http import BriefProtocol

HUNG_UP = (ConnectionResetError, asyncio.IncompleteReadError)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nha"


class Brief(BriefProtocol):
    look_every_s = 0.1
    max_of_one = 3


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read all there is, take as long as two looks, and answer."""
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
async def serving() -> AsyncIterator[int]:
    """Serve on a free port for the length of the block; yield the port."""
    config = uvicorn.Config(app, http=Brief, log_config=None, lifespan="off")
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
    async with asyncio.timeout(20), serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        with pytest.raises(HUNG_UP):
            await reader.readexactly(1)
        writer.close()


async def test_who_asks_is_answered_however_long_it_takes_and_may_ask_again() -> None:
    async with asyncio.timeout(20), serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(GET)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.write(GET[:20])
        with pytest.raises(HUNG_UP):
            await reader.readuntil(b"ok")
        writer.close()


async def test_one_address_has_so_many_connections_and_no_more() -> None:
    async with asyncio.timeout(20), serving() as port:
        ends = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        with pytest.raises(HUNG_UP):
            await ends[-1][0].readexactly(1)
        ends[0][1].write(GET)
        assert (await ends[0][0].readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        for _, writer in ends:
            writer.close()
