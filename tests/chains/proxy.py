"""A node as the world has them, good and bad: a proxy in front of Anvil, over HTTP and WebSocket on one port.

    with ChaosProxy(anvil) as proxy:                    # give proxy.http_url and proxy.ws_url to who is under test
        proxy.hold(), proxy.drop_next(), proxy.delay_next(blocks=2)          # what becomes of the next transaction
        proxy.release(), proxy.forget(tx_hash)
        proxy.lag_blocks = 5                            # answers as of five blocks ago
        proxy.fork_from(number)                         # other hashes from there on: a node on another branch
        proxy.state_lag_blocks = 1                      # says it is at the head, answers with older state
        proxy.falsify["eth_call"] = lambda params, result: ...
        proxy.faults.next("eth_call", http(429))        # or silence(), delay(0.5), drop_reply(), reject("boom")
        with proxy.answer_held("eth_call") as held: ... # the next one's answer: until the block ends
        proxy.die(), proxy.revive(), proxy.cut_websockets()
        proxy.faults.asked                              # how often each method was asked for

Left alone it is a well-behaved Geth: its pool's rules (`tests/chains/geth_pool.py`), logs with `removed` after a reorg.
Operations of the fault script are the methods' names; streams are newHeads, logs and newPendingTransactions, and
replies. `relay_url` is a private relay: `eth_sendPrivateTransaction`, `eth_cancelPrivateTransaction`, and
`eth_sendRawTransaction` that nobody sees. Several proxies may stand in front of one node: endpoints that disagree.

It runs in a thread of its own, so that tests may be of any kind; what is called from tests returns when it is done.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp import WSMsgType, web

from tests.chains.anvil import Anvil, RpcError
from tests.chains.geth_pool import Fate, GethPool, Place, Refused
from tests.runtime.command_line import PATIENCE_S
from tests.venues.faults import FaultScript, Pipe, RequestFault, answer_http
from tests.venues.listening import HOST, bound_socket

REMEMBERED_HEADS: Final = 256
MAX_MESSAGE_BYTES: Final = 2**26

# Where a method's block is among its parameters.
BLOCK_AT: Final = {
    "eth_call": 1, "eth_getBalance": 1, "eth_getCode": 1, "eth_getTransactionCount": 1, "eth_getStorageAt": 2,
    "eth_getBlockByNumber": 0, "eth_getBlockReceipts": 0, "eth_feeHistory": 1, "eth_estimateGas": 1, "eth_getProof": 2,
    "eth_createAccessList": 1, "eth_simulateV1": 1, "eth_getBlockTransactionCountByNumber": 0,
}  # fmt: skip
OPTIONAL_BLOCK: Final = {"eth_estimateGas", "eth_call", "eth_createAccessList", "eth_simulateV1"}
OF_STATE: Final = {
    "eth_call", "eth_getBalance", "eth_getCode", "eth_getTransactionCount", "eth_getStorageAt", "eth_getProof",
}  # fmt: skip
HEAD_TAGS: Final = ("latest", "pending")  # beside which a block may be an object, which no set would take
STREAMS: Final = {"newHeads", "logs", "newPendingTransactions"}


@dataclass(eq=False)
class _Link:
    """One WebSocket connection: the way out, and what is subscribed to."""

    pipe: Pipe
    transport: asyncio.Transport | None
    subscriptions: dict[str, _Subscription] = field(default_factory=dict)


class HeldAnswer:
    """An answer that is known and not given yet."""

    def __init__(self) -> None:
        self.is_known = False  # the request was carried out
        self.gate = asyncio.Event()


@dataclass(eq=False)
class _Subscription:
    """What a client wants to hear of; logs it was told, so that they can be taken back."""

    stream: str
    wanted: dict[str, Any]
    told: deque[tuple[str, dict[str, Any]]] = field(default_factory=lambda: deque(maxlen=10_000))


class ChaosProxy:
    """The proxy. It listens once entered, on a port the operating system picks unless one is given."""

    def __init__(self, anvil: Anvil | str, *, port: int = 0) -> None:
        self.faults = FaultScript()
        self.falsify: dict[str, Callable[[list[Any], Any], Any]] = {}
        self._held_answers: dict[str, HeldAnswer] = {}
        self.lag_blocks = 0
        self.state_lag_blocks = 0
        self.tells_removed = True
        self.round_trips = 0  # HTTP requests and WebSocket messages, whatever number of calls is in them
        self.port = port
        self._upstream_url = anvil if isinstance(anvil, str) else anvil.http_url
        self._lie_from: int | None = None
        self._heads: dict[int, dict[str, Any]] = {}  # by number, of the chain as it is
        self._newest = -1  # block it has heard of
        self._told = -1  # block its subscribers have heard of
        self._settled = -1  # block after which the pool was seen to
        self._links: set[_Link] = set()
        self._ids = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="chaos-proxy", daemon=True)
        self._failures: list[Exception] = []
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._closing = asyncio.Event()
        self._news = threading.Condition()
        self._site: web.TCPSite | None = None
        self._kept: socket.socket | None = None  # the port is ours also while it is dead
        self._runner: web.AppRunner
        self._session: aiohttp.ClientSession
        self._pool = GethPool(self._node)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.result(PATIENCE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(PATIENCE_S)
        if self._failures and error is None:
            raise ExceptionGroup("the proxy could not follow the chain", self._failures)

    # For tests: addresses

    @property
    def http_url(self) -> str:
        """Where it answers HTTP."""
        return f"http://{HOST}:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where it answers WebSockets."""
        return f"ws://{HOST}:{self.port}"

    @property
    def relay_url(self) -> str:
        """Where the private relay is."""
        return f"{self.http_url}/relay"

    # For tests: transactions

    def hold(self, *, is_on: bool = True) -> None:
        """Hold every transaction from now on: accepted and shown as pending, but not mined. Or stop doing so."""
        self._pool.holds_all = is_on

    def hold_next(self, count: int = 1) -> None:
        """Hold the next transactions until released."""
        self._pool.fates.extend([(Fate.HOLD, 0)] * count)

    def delay_next(self, blocks: int, count: int = 1) -> None:
        """Keep the next transactions from the node until so many blocks have passed."""
        self._pool.fates.extend([(Fate.DELAY, blocks)] * count)

    def drop_next(self, count: int = 1) -> None:
        """Accept the next transactions and lose them."""
        self._pool.fates.extend([(Fate.DROP, 0)] * count)

    def hide_next(self, count: int = 1) -> None:
        """Let the next transactions be mined, but do not know them by their hash before."""
        self._pool.fates.extend([(Fate.HIDE, 0)] * count)

    def release(self, tx_hash: str | None = None) -> None:
        """Let a held transaction go on, or all of them."""
        self._do(self._pool.release(tx_hash))

    def forget(self, tx_hash: str) -> None:
        """Lose a transaction that is not mined yet, in the node's pool too."""
        self._do(self._pool.drop(tx_hash))

    @property
    def keeps_reorged(self) -> bool:
        """Whether transactions of blocks that a reorg took away go back into the pool, as with Geth."""
        return self._pool.keeps_reorged

    @keeps_reorged.setter
    def keeps_reorged(self, is_on: bool) -> None:
        self._pool.keeps_reorged = is_on

    @property
    def relay_lands(self) -> bool:
        """Whether the relay's transactions get into blocks at all."""
        return self._pool.relay_lands

    @relay_lands.setter
    def relay_lands(self, is_on: bool) -> None:
        self._pool.relay_lands = is_on

    @property
    def sent(self) -> list[str]:
        """Hashes of all transactions that were accepted, in order, private ones too."""
        return list(self._pool.sent)

    def places(self) -> dict[str, Place]:
        """Return where each known transaction is: held, waiting for the base fee, passed on to the node, mined."""
        return self._pool.places()

    # For tests: what it says of the chain

    def fork_from(self, number: int | None) -> None:
        """Give blocks from `number` on other hashes, consistently: a node on another branch. None ends it."""
        self._lie_from = number

    @property
    def head(self) -> int:
        """Number of the newest block it has heard of, whatever it tells."""
        return self._newest

    def await_head(self, number: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until it has heard of a block and seen to its pool."""
        with self._news:
            if not self._news.wait_for(lambda: self._settled >= number, timeout_s):
                raise TimeoutError(f"expected block {number} in {timeout_s:g} s, found {self._settled}")

    @contextlib.contextmanager
    def answer_held(self, method: str) -> Iterator[HeldAnswer]:
        """Carry the next request of a method out at once, and answer it only when the block ends."""
        held = self._held_answers[method] = HeldAnswer()
        try:
            yield held
        finally:
            self._held_answers.pop(method, None)
            self._loop.call_soon_threadsafe(held.gate.set)

    # For tests: connections

    def die(self) -> None:
        """Cut every connection and refuse new ones."""
        self._do(self._die())

    def revive(self) -> None:
        """Listen again, on the same port."""
        self._do(self._listen())

    def cut_websockets(self) -> None:
        """Drop every WebSocket as a failing network does, without a closing handshake."""
        self._do(self._cut())

    def freeze_websockets(self, *, is_frozen: bool = True) -> None:
        """Let every open WebSocket fall silent while TCP stays up, or speak again."""
        self._do(self._freeze(is_frozen))

    @property
    def websockets(self) -> int:
        """How many WebSockets are open."""
        return len(self._links)

    def subscriptions(self) -> list[str]:
        """Return which streams are subscribed to, over all WebSockets."""
        return sorted(wanted.stream for link in list(self._links) for wanted in list(link.subscriptions.values()))

    # Its thread

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001 - whoever entered must hear of it
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=MAX_MESSAGE_BYTES)
        app.router.add_post("/", self._on_post)
        app.router.add_post("/relay", self._on_post)
        app.router.add_get("/", self._on_websocket)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        connector = aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(connector=connector) as self._session:
            following = asyncio.Event()
            follower = asyncio.create_task(self._follow(following))
            try:
                ready = asyncio.create_task(following.wait())
                await asyncio.wait({ready, follower}, return_when=asyncio.FIRST_COMPLETED)
                ready.cancel()
                if follower.done():
                    follower.result()
                await self._listen()
                self._ready.set_result(None)
                await self._closing.wait()
            finally:
                follower.cancel()
                await asyncio.gather(follower, return_exceptions=True)
                await self._die()
                await self._runner.cleanup()
                if self._kept is not None:
                    self._kept.close()
        for _ in range(3):  # sockets are closed by the loop, after all else
            await asyncio.sleep(0)

    async def _listen(self) -> None:
        if self._kept is None:
            self._kept = bound_socket(self.port)
            self.port = int(self._kept.getsockname()[1])
        if self._site is None:
            self._site = web.TCPSite(self._runner, HOST, self.port, reuse_address=True)
            await self._site.start()

    async def _die(self) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None
        await self._cut()
        if self._runner.server is not None:
            for kept_alive in self._runner.server.connections:
                if kept_alive.transport is not None:
                    kept_alive.transport.abort()

    async def _cut(self) -> None:
        for link in tuple(self._links):
            if link.transport is not None:
                link.transport.abort()

    async def _freeze(self, is_frozen: bool) -> None:
        for link in self._links:
            link.pipe.is_frozen = is_frozen

    # HTTP and WebSocket

    async def _on_post(self, request: web.Request) -> web.StreamResponse:
        self.round_trips += 1
        calls = json.loads(await request.read())
        is_relay = request.path == "/relay"
        several = calls if isinstance(calls, list) else [calls]
        faults = [fault for call in several if (fault := self.faults.request(call["method"]))]

        async def execute() -> web.Response:
            answers = [await self._answer(call, is_relay=is_relay) for call in several]
            return web.json_response(answers if isinstance(calls, list) else answers[0])

        def refuse(words: str) -> web.Response:
            return web.json_response(error_of(several[0], {"code": -32000, "message": words}))

        return await answer_http(request, faults[0] if faults else None, execute, refuse)

    async def _on_websocket(self, request: web.Request) -> web.StreamResponse:
        fault = self.faults.request("connect")
        if fault is not None:
            return await answer_http(request, fault, _nothing, lambda words: web.Response(status=503, text=words))
        line = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, autoping=True)
        await line.prepare(request)
        link = _Link(Pipe(line, self.faults), request.transport)
        writing = asyncio.create_task(link.pipe.run())
        answering: set[asyncio.Task[None]] = set()
        self._links.add(link)
        try:
            async for message in line:
                if message.type is not WSMsgType.TEXT:
                    continue
                self.round_trips += 1
                task = asyncio.create_task(self._on_message(json.loads(message.data), link))
                answering.add(task)
                task.add_done_callback(answering.discard)
        finally:
            self._links.discard(link)
            for task in (*answering, writing):
                task.cancel()
            await asyncio.gather(*answering, writing, return_exceptions=True)
        return line

    async def _on_message(self, calls: Any, link: _Link) -> None:
        answers = []
        for call in calls if isinstance(calls, list) else [calls]:
            fault = self.faults.request(call["method"])
            answer = await self._answer_faulty(call, link, fault)
            if answer is None:
                return
            answers.append(answer)
        link.pipe.send("replies", json.dumps(answers if isinstance(calls, list) else answers[0]))

    async def _answer_faulty(self, call: dict[str, Any], link: _Link, fault: RequestFault | None) -> Any:
        """Return what is answered over a WebSocket; None for nothing at all."""
        if fault is None:
            return await self._answer(call, link=link)
        await asyncio.sleep(fault.delay_before_s)
        answer = await self._answer(call, link=link) if fault.is_executed else None
        await asyncio.sleep(fault.delay_s)
        if fault.is_dropped and link.transport is not None:
            link.transport.abort()
        if fault.is_dropped or fault.is_silent:
            return None
        if fault.refusal:
            return error_of(call, {"code": -32000, "message": fault.refusal})
        if fault.status is not None:
            return error_of(call, {"code": -32005, "message": f"{fault.status}: too many requests"})
        return answer

    async def _answer(self, call: dict[str, Any], *, link: _Link | None = None, is_relay: bool = False) -> Any:
        try:
            result = await self._result(call["method"], list(call.get("params") or []), link, is_relay=is_relay)
        except Refused as refusal:
            return error_of(call, refusal.error)
        except RpcError as error:
            data = {} if error.data is None else {"data": error.data}
            return error_of(call, {"code": error.code, "message": error.message} | data)
        except (aiohttp.ClientError, TimeoutError) as error:
            return error_of(call, {"code": -32603, "message": f"upstream: {error!r}"})
        if (held := self._held_answers.pop(call["method"], None)) is not None:
            held.is_known = True
            await held.gate.wait()
        return {"jsonrpc": "2.0", "id": call.get("id"), "result": result}

    # What is answered

    async def _result(self, method: str, params: list[Any], link: _Link | None, *, is_relay: bool) -> Any:
        if method in {"eth_subscribe", "eth_unsubscribe"} and link is not None:
            return self._subscribe(params, link) if method == "eth_subscribe" else self._unsubscribe(params, link)
        own = self._own_methods(is_relay=is_relay).get(method)
        if own is not None:
            result = await own(params)
        else:
            result = await self._seen(method, params)
        if (transform := self.falsify.get(method)) is not None:
            result = transform(params, result)
        return result

    def _own_methods(self, *, is_relay: bool) -> dict[str, Callable[[list[Any]], Awaitable[Any]]]:
        if is_relay:
            return {
                "eth_sendRawTransaction": self._send_private,
                "eth_sendPrivateTransaction": self._send_private,
                "eth_cancelPrivateTransaction": self._cancel_private,
            }
        return {
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_blockNumber": self._block_number,
        }

    async def _send(self, params: list[Any]) -> str:
        tx_hash = await self._pool.send(params[0])
        if not self._pool.is_secret(tx_hash):
            self._tell("newPendingTransactions", lambda _: [tx_hash])
        return tx_hash

    async def _send_private(self, params: list[Any]) -> str:
        wanted = params[0] if isinstance(params[0], dict) else {"tx": params[0]}
        until = wanted.get("maxBlockNumber")
        return await self._pool.send(wanted["tx"], is_private=True, until_block=int(until, 16) if until else None)

    async def _cancel_private(self, params: list[Any]) -> bool:
        return await self._pool.cancel_private(params[0]["txHash"])

    async def _block_number(self, _params: list[Any]) -> str:
        return hex(await self._told_head())

    async def _transaction(self, params: list[Any]) -> Any:
        found = await self._node("eth_getTransactionByHash", *params)
        if found is not None and found["blockNumber"] is not None:
            if int(found["blockNumber"], 16) <= await self._told_head():
                return self._distorted(found)
            found |= {"blockNumber": None, "blockHash": None, "transactionIndex": None}
            return found
        if self._pool.is_secret(params[0]):
            return None
        pooled = self._pool.find(params[0])
        return pooled.shown if found is None and pooled is not None else found

    async def _receipt(self, params: list[Any]) -> Any:
        found = await self._node("eth_getTransactionReceipt", *params)
        if found is None or int(found["blockNumber"], 16) > await self._told_head():
            return None
        return self._distorted(found)

    async def _seen(self, method: str, params: list[Any]) -> Any:
        """Answer as this node sees the chain: late, on its branch, with the state it has."""
        head = await self._told_head() if self.lag_blocks or self.state_lag_blocks else None
        wants_pending = method == "eth_getTransactionCount" and params[1:2] == ["pending"]
        if method in BLOCK_AT:
            params = await self._with_block(method, params, head)
        elif method == "eth_getLogs":
            params = [await self._filter_until(dict(params[0]), head)]
        elif method == "eth_getBlockByHash":
            params = [await self._true_hash(params[0]), *params[1:]]
        result = await self._node(method, *params)
        if wants_pending:
            return hex(self._pool.next_nonce(params[0], int(result, 16)))
        if isinstance(result, dict) and head is not None and "number" in result and int(result["number"], 16) > head:
            return None
        return self._distorted(result)

    async def _with_block(self, method: str, params: list[Any], head: int | None) -> list[Any]:
        """Return parameters that ask for the block this node would take."""
        at = BLOCK_AT[method]
        if len(params) == at and method in OPTIONAL_BLOCK:
            params = [*params, "latest"]
        if len(params) <= at:
            return params
        where = params[at]
        if isinstance(where, dict) and "blockHash" in where:
            where = {**where, "blockHash": await self._true_hash(where["blockHash"])}
        if head is not None:
            where = await self._late_block(method, where, head)
        return [*params[:at], where, *params[at + 1 :]]

    async def _late_block(self, method: str, where: Any, head: int) -> Any:
        number: int | None = None
        if where in HEAD_TAGS:
            if where == "pending" and method == "eth_getTransactionCount" and not self.lag_blocks:
                return where
            number = head
        elif isinstance(where, str) and where.startswith("0x"):
            number = int(where, 16)
        elif isinstance(where, dict) and "blockHash" in where:
            block = await self._node("eth_getBlockByHash", where["blockHash"], False)
            number = None if block is None else int(block["number"], 16)
        elif isinstance(where, dict) and "blockNumber" in where:
            number = int(where["blockNumber"], 16)
        if number is None:
            return where
        if number > head and method != "eth_getBlockByNumber":
            raise Refused("header not found")
        if method in OF_STATE and self.state_lag_blocks:
            return hex(max(0, number - self.state_lag_blocks))
        return hex(number) if where in HEAD_TAGS else where

    async def _filter_until(self, wanted: dict[str, Any], head: int | None) -> dict[str, Any]:
        if "blockHash" in wanted:
            wanted["blockHash"] = await self._true_hash(wanted["blockHash"])
        elif head is not None:
            for end in ("fromBlock", "toBlock"):
                where = wanted.get(end, "latest")
                number = int(where, 16) if where.startswith("0x") else head
                wanted[end] = hex(min(number, head))
        return wanted

    async def _told_head(self) -> int:
        return max(0, int(await self._node("eth_blockNumber"), 16) - self.lag_blocks)

    # Another branch: hashes with their first bytes turned around

    def _distorted(self, found: Any) -> Any:
        if self._lie_from is None:
            return found
        if isinstance(found, list):
            return [self._distorted(item) for item in found]
        if not isinstance(found, dict):
            return found
        number = found.get("number", found.get("blockNumber"))
        if not isinstance(number, str) or int(number, 16) < self._lie_from:
            return found
        names = {"blockHash"}
        if "parentHash" in found:
            names = {"hash"} | ({"parentHash"} if int(number, 16) > self._lie_from else set())
        turned = {name: turned_around(found[name]) for name in names if found.get(name)}
        inside = {name: self._distorted(found[name]) for name in ("logs", "transactions") if name in found}
        return found | turned | inside

    async def _true_hash(self, block_hash: str) -> str:
        if self._lie_from is None:
            return block_hash
        block = await self._node("eth_getBlockByHash", block_hash, False)
        if block is None:
            return turned_around(block_hash)
        is_lied_about = int(block["number"], 16) >= self._lie_from
        return turned_around(block_hash) if is_lied_about else block_hash  # of our branch, that one does not exist

    # Streams

    def _subscribe(self, params: list[Any], link: _Link) -> str:
        if not params or params[0] not in STREAMS:
            raise Refused(f"no {params[:1]} subscription in eth namespace", -32601)
        self._ids += 1
        name = f"0x{self._ids:032x}"
        link.subscriptions[name] = _Subscription(params[0], params[1] if len(params) > 1 else {})
        return name

    @staticmethod
    def _unsubscribe(params: list[Any], link: _Link) -> bool:
        if link.subscriptions.pop(params[0], None) is None:
            raise Refused("subscription not found")
        return True

    def _tell(self, stream: str, what: Callable[[_Subscription], list[Any]]) -> None:
        """Send everybody who subscribed to a stream what is new for him."""
        for link in tuple(self._links):
            for name, wanted in tuple(link.subscriptions.items()):
                if wanted.stream == stream:
                    for result in what(wanted):
                        told = {"subscription": name, "result": result}
                        link.pipe.send(
                            stream, json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": told})
                        )

    async def _follow(self, following: asyncio.Event) -> None:
        """Follow the node's heads, and tell subscribers of them as Geth does: what is gone, logs, the head."""
        url = self._upstream_url.replace("http", "ws", 1)
        with contextlib.suppress(aiohttp.ClientError):
            async with self._session.ws_connect(url, max_msg_size=MAX_MESSAGE_BYTES) as upstream:
                await upstream.send_json({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]})
                await upstream.receive_json()
                head = await self._node("eth_getBlockByNumber", "latest", False)
                self._newest = self._told = self._settled = int(head["number"], 16)
                self._heads[self._newest] = head
                following.set()
                async for message in upstream:
                    told = json.loads(message.data)
                    if told.get("method") == "eth_subscription":
                        await self._on_head_safely(told["params"]["result"])

    async def _on_head_safely(self, head: dict[str, Any]) -> None:
        try:
            await self._on_head(head)
        except (RpcError, Refused, aiohttp.ClientError):  # a block that is gone already, or the node is
            return
        except Exception as error:  # noqa: BLE001 - whoever leaves must hear of it
            self._failures.append(error)

    async def _on_head(self, head: dict[str, Any]) -> None:
        number = int(head["number"], 16)
        parent = self._heads.get(number - 1)
        is_reorg = number <= self._newest or (parent is not None and parent["hash"] != head["parentHash"])
        gone = await self._take_back(number) if is_reorg else set()
        for missed in range(self._newest + 1, number):
            header = await self._node("eth_getBlockByNumber", hex(missed), False)
            if header is not None:
                self._remember(missed, header)
        self._remember(number, head)
        for late in range(self._told + 1, number - self.lag_blocks + 1):
            if (header := self._heads.get(late)) is not None:
                self._told = late
                await self._tell_head(header)
        await self._pool.on_head(number, gone)
        with self._news:
            self._settled = number
            self._news.notify_all()

    async def _take_back(self, number: int) -> set[str]:
        """Forget the blocks that are not in the chain any more, take back the logs of them; return their hashes."""
        gone: set[str] = set()
        for old in sorted((n for n in self._heads if n >= number), reverse=True):
            gone.add(self._heads.pop(old)["hash"])
        lowest = number - 1
        while (known := self._heads.get(lowest)) is not None:  # heads may come only from above the fork
            now = await self._node("eth_getBlockByNumber", hex(lowest), False)
            if now is not None and now["hash"] == known["hash"]:
                break
            gone.add(self._heads.pop(lowest)["hash"])
            lowest -= 1
        self._newest, self._told, self._settled = (
            min(known, lowest) for known in (self._newest, self._told, self._settled)
        )
        if self.tells_removed:
            self._tell("logs", lambda wanted: taken_back(wanted, gone))
        return gone

    def _remember(self, number: int, head: dict[str, Any]) -> None:
        self._heads[number] = head
        self._heads.pop(number - REMEMBERED_HEADS, None)
        self._newest = number

    async def _tell_head(self, head: dict[str, Any]) -> None:
        await self._tell_logs(head["hash"])
        shown = self._distorted(head)
        self._tell("newHeads", lambda _: [shown])

    async def _tell_logs(self, block_hash: str) -> None:
        for link in tuple(self._links):
            for name, wanted in tuple(link.subscriptions.items()):
                if wanted.stream != "logs":
                    continue
                asked = {key: value for key, value in wanted.wanted.items() if key in {"address", "topics"}}
                try:
                    logs = await self._node("eth_getLogs", asked | {"blockHash": block_hash})
                except RpcError:  # the block is gone already
                    return
                for log in logs:
                    shown = {"removed": False} | self._distorted(log)
                    wanted.told.append((block_hash, shown))
                    told = {"subscription": name, "result": shown}
                    link.pipe.send("logs", json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": told}))

    # The node behind

    async def _node(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        async with self._session.post(self._upstream_url, json=body) as response:
            answer = json.loads(await response.read())
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]


async def _nothing() -> web.Response:
    return web.Response(status=503)


def error_of(call: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    """Return a refusal of a call."""
    return {"jsonrpc": "2.0", "id": call.get("id"), "error": error}


def turned_around(block_hash: str) -> str:
    """Return another hash, from which this one comes back the same way."""
    return "0x" + bytes(byte ^ 0xFF for byte in bytes.fromhex(block_hash[2:])).hex()


def taken_back(wanted: _Subscription, gone: set[str]) -> list[dict[str, Any]]:
    """Return the logs of blocks that are gone, as removed, newest first, and forget them."""
    removed = [log | {"removed": True} for block_hash, log in wanted.told if block_hash in gone]
    kept = [pair for pair in wanted.told if pair[0] not in gone]
    wanted.told.clear()
    wanted.told.extend(kept)
    return removed[::-1]
