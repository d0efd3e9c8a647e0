"""A node that says what a test tells it to, behind a real socket: for answers no honest node gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

Answer = Callable[[str, list[Any]], Any]


class Scripted:
    """One scripted endpoint: `answer(method, params)` gives a result, an `{"error": …}`, or a whole web.Response."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, list[Any]]] = []
        self.url = ""
        self.ws_url = ""
        self.sockets: list[web.WebSocketResponse] = []
        self.subscribed = asyncio.Event()

    def count(self, method: str) -> int:
        """Return how often a method was asked."""
        return sum(name == method for name, _ in self.asked)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or take a WebSocket that subscribes to heads."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._listen(request)
        asked = await request.json()
        self.asked.append((asked["method"], asked["params"]))
        result = self.answer(asked["method"], asked["params"])
        if callable(result):  # an answer that is made anew each time
            result = result()
        if asyncio.iscoroutine(result):
            result = await result
        if isinstance(result, web.StreamResponse):
            return result
        body = result if isinstance(result, dict) and "error" in result else {"result": result}
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], **body})

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                asked = message.json()
                await socket.send_json({"jsonrpc": "2.0", "id": asked["id"], "result": "0x1"})
                self.subscribed.set()
        return socket

    async def push(self, header: dict[str, Any]) -> None:
        """Send a head to whoever listens."""
        params = {"subscription": "0x1", "result": header}
        for socket in self.sockets:
            if not socket.closed:
                await socket.send_json({"jsonrpc": "2.0", "method": "eth_subscription", "params": params})


@asynccontextmanager
async def scripted(answer: Answer, path: str = "/") -> AsyncIterator[Scripted]:
    """Serve a scripted node on a port of its own."""
    node = Scripted(answer)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", node.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
    host, port = runner.addresses[0][:2]
    node.url, node.ws_url = f"http://{host}:{port}{path}", f"ws://{host}:{port}{path}"
    try:
        yield node
    finally:
        await site.stop()
        for socket in node.sockets:
            await socket.close()
        await runner.cleanup()


class ManualClock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, now_ns: int = 1_700_000_000 * 10**9) -> None:
        self.ns = now_ns

    def now_ns(self) -> int:
        """Return the time it was set to."""
        return self.ns


def block_hash(number: int, fork: str = "a") -> str:
    """Return a hash that tells block and fork apart."""
    return f"0x{fork.encode().hex():0>32}{number:032x}"


def header(number: int, fork: str = "a", parent_fork: str = "") -> dict[str, Any]:
    """Return a header as nodes give it; `parent_fork` is where it branches off."""
    return {
        "number": hex(number),
        "hash": block_hash(number, fork),
        "parentHash": block_hash(number - 1, parent_fork or fork),
        "timestamp": hex(1_700_000_000 + 12 * number),
        "baseFeePerGas": hex(10**9),
        "gasUsed": hex(15_000_000),
        "gasLimit": hex(30_000_000),
    }
