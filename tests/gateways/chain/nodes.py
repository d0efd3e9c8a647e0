"""A node that says what a test tells it to, behind a real socket: for answers no honest node gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from bot.domain.units import NS_PER_S
from bot.gateways.chain.endpoints import to_block
from bot.gateways.chain.nouns import Block, Read
from bot.gateways.chain.settings import ChainSettings, PoolSettings, TokenSettings
from tests.chains.uniswap import Pool
from tests.chains.world import World
from tests.runtime.command_line import PATIENCE_S

ANSWERS_IN_NS = 60 * NS_PER_S  # a time-out that no standstill of the machine makes of an answer

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
        self.chain_id = 1  # as the socket says it
        self.refuses_sockets = False

    def count(self, method: str) -> int:
        """Return how often a method was asked."""
        return sum(name == method for name, _ in self.asked)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or take a WebSocket that subscribes to heads."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return web.Response(status=403) if self.refuses_sockets else await self._listen(request)
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
                is_subscription = asked["method"] == "eth_subscribe"
                result = "0x1" if is_subscription else hex(self.chain_id)
                await socket.send_json({"jsonrpc": "2.0", "id": asked["id"], "result": result})
                if is_subscription:
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


def passed_on(url: str) -> Answer:
    """Return an answer that is another node's: what is asked of it can be counted, held or changed."""

    async def ask(method: str, params: list[Any]) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) as response,
        ):
            answer = await response.json()
        return {"error": answer["error"]} if "error" in answer else answer["result"]

    return ask


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so that has no event of its own."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


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


# The test world as a chain's settings have it.


def settings_of(world: World, **settings: Any) -> ChainSettings:
    """Return the settings of the world's chain, its tokens in it."""
    own = dict.fromkeys(("WETH", "wstETH"), "ETH") | {"WBTC": "BTC", "USDC": "", "USDT": ""}
    tokens = {
        symbol: TokenSettings(
            symbol=symbol,
            address=world.tokens[symbol].address,
            decimals=world.tokens[symbol].call("decimals"),
            underlying=underlying,
        )
        for symbol, underlying in own.items()
    }
    made = {
        "venue": "anvil", "chain_id": 31337, "coin": "ETH", "http_urls": (world.anvil.http_url,), "tokens": tokens,
        "timeout_ns": ANSWERS_IN_NS,
    }  # fmt: skip
    return ChainSettings(**(made | settings))


def pool_settings(world: World, name: str) -> PoolSettings:
    """Return the settings of a pool of the world, named `WETH/USDC-500`."""
    pool: Pool = world.pools[name]
    base, _, quote = name.partition("-")[0].partition("/")
    return PoolSettings(address=pool.address, base=base, quote=quote, fee_pips=pool.fee_pips)


def read_now(world: World, reads: tuple[Read, ...]) -> tuple[Block, list[bytes | None]]:
    """Return the newest block and what each read answers in it, through the world's own Multicall."""
    fields = world.anvil.block()
    calls = [(read.to, True, read.data) for read in reads]
    answers = world.multicall.call("aggregate3", calls, block=fields["hash"])
    return to_block(fields), [data if is_success else None for is_success, data in answers]
