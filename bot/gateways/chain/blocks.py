"""New blocks: one socket of its own for heads, the newest of which is all that waits, and a ring that knows a reorg.

web3's own subscription puts heads in a queue that stops the whole socket when it is full, formats each for half a
millisecond, and logs the address with its key; so this is a plain `eth_subscribe`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final, Never

import aiohttp
import msgspec

from bot.domain.errors import EvenkeelError, Retryable, VenueFatal
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.addresses import masked
from bot.gateways.chain.abi import Undecodable, to_int
from bot.gateways.chain.endpoints import Endpoints, to_block
from bot.gateways.chain.nouns import Block, Reorg
from bot.gateways.chain.rpc import RpcError, Unanswered
from bot.gateways.chain.settings import ChainSettings
from bot.gateways.gateway import Clock

RING_BLOCKS: Final = 64
_SEED_BLOCKS: Final = 16  # known at the start: a reorg deeper than this, before more have come, halts
_AT_ONCE: Final = 8  # headers asked for at the same time
_MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
_HEARTBEAT_S: Final = 10.0
_FIRST_RETRY_S: Final = 0.1
_LONGEST_RETRY_S: Final = 15.0
_LEAST_POLL_NS: Final = 50 * NS_PER_MS
_LONGEST_POLL_NS: Final = NS_PER_S


class ReorgTooDeep(VenueFatal):
    """More blocks were replaced than we remember: what our transactions did cannot be told any more; a person looks."""


class Step(msgspec.Struct, frozen=True):
    """The chain has gone on: `came` are all blocks since the last step, oldest first, `head` is the last of them.

    With `has_gap` we were away for longer than the ring is, and older blocks that came are left out.
    """

    head: Block
    came: tuple[Block, ...]
    reorg: Reorg | None
    ts_recv_ns: int
    has_gap: bool = False


class Ring:
    """The newest blocks we have taken in, each the parent of the next."""

    def __init__(self, size_blocks: int = RING_BLOCKS) -> None:
        self.size_blocks = size_blocks
        self._blocks: list[Block] = []

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All of them, oldest first."""
        return tuple(self._blocks)

    @property
    def newest(self) -> Block | None:
        """The head as we know it."""
        return self._blocks[-1] if self._blocks else None

    def at(self, number: int) -> Block | None:
        """Return the block of that number, None if it is not remembered."""
        index = number - self._blocks[0].number if self._blocks else -1
        return self._blocks[index] if 0 <= index < len(self._blocks) else None

    def above(self, number: int) -> tuple[Block, ...]:
        """Return the blocks higher than that, newest first."""
        return tuple(block for block in reversed(self._blocks) if block.number > number)

    def put(self, came: Sequence[Block]) -> None:
        """Take in linked blocks, oldest first, in place of all that are as high; the first's parent must be there."""
        kept = [block for block in self._blocks if block.number < came[0].number]
        for parent, block in zip([*kept[-1:], *came], came if kept else came[1:], strict=False):
            if block.parent_hash != parent.block_hash or block.number != parent.number + 1:
                raise ValueError(f"expected a block on {parent.block_hash}, found {block}")
        self._blocks = [*kept, *came][-self.size_blocks :]

    def clear(self) -> None:
        """Forget everything."""
        self._blocks = []


class HeadFeed:
    """The newest head, which is all it keeps: pushed over a socket if there is one to subscribe on, else asked for.

    `run` keeps it up; while the socket is down, silent or late, heads are asked for.
    """

    def __init__(self, settings: ChainSettings, endpoints: Endpoints, clock: Clock) -> None:
        self.problem = ""
        self._url = settings.ws_url
        self._chain_id = settings.chain_id
        self._endpoints = endpoints
        self._clock = clock
        self._max_lag_blocks = settings.max_lag_blocks
        self._silence_s = settings.max_silence_ns / NS_PER_S
        self._timeout_s = settings.timeout_ns / NS_PER_S
        self._poll_s = min(max(settings.block_ns // 8, _LEAST_POLL_NS), _LONGEST_POLL_NS) / NS_PER_S
        self._slot: tuple[Block, int] | None = None
        self._last_hash = ""
        self._filled = asyncio.Event()

    async def take(self) -> tuple[Block, int]:
        """Wait for a head that was not taken yet; return the newest, and when we had it."""
        while self._slot is None:
            self._filled.clear()
            await self._filled.wait()
        taken, self._slot = self._slot, None
        return taken

    def give_back(self, head: Block, ts_recv_ns: int) -> None:
        """Put back a head that could not be used now, unless there is a newer one."""
        if self._slot is None:
            self._slot = (head, ts_recv_ns)

    async def run(self) -> Never:
        """Keep heads coming; ends only by cancellation."""
        async with aiohttp.ClientSession() as session:
            retry_s = _FIRST_RETRY_S
            while True:
                since_s = asyncio.get_running_loop().time()
                if self._url:
                    self.problem = await self._listen(session)
                    if asyncio.get_running_loop().time() - since_s > _LONGEST_RETRY_S:
                        retry_s = _FIRST_RETRY_S
                await self._poll_for(retry_s)
                retry_s = min(2 * retry_s, _LONGEST_RETRY_S)

    def _put(self, head: Block) -> None:
        if head.block_hash != self._last_hash:
            self._last_hash = head.block_hash
            self._slot = (head, self._clock.now_ns())
            self._filled.set()
            self._endpoints.saw(head.number)

    async def _listen(self, session: aiohttp.ClientSession) -> str:
        """Take heads from the socket until it fails, and return why it did."""
        try:
            async with asyncio.timeout(self._timeout_s):
                socket = await session.ws_connect(
                    self._url,
                    heartbeat=_HEARTBEAT_S,
                    compress=0,
                    max_msg_size=_MAX_MESSAGE_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                )
        except TimeoutError:
            return f"{masked(self._url)}: no connection within {self._timeout_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"{masked(self._url)}: {_said(error)}"
        try:
            async with asyncio.timeout(self._timeout_s):
                found = to_int(await self._request(socket, "eth_chainId", []))
                if found != self._chain_id:
                    return f"{masked(self._url)}: expected chain {self._chain_id}, found {found}"
                await self._request(socket, "eth_subscribe", ["newHeads"])
            self.problem = ""
            await self._ask()
            while True:
                async with asyncio.timeout(self._silence_s):
                    message = await self._receive(socket)
                self._read_head(message)
        except TimeoutError:
            return f"{masked(self._url)}: silent for {self._silence_s:g} s"
        except (EvenkeelError, Undecodable, aiohttp.ClientError, OSError) as error:
            return f"{masked(self._url)}: {_said(error)}"
        finally:
            await socket.close()

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> Any:  # noqa: ANN401
        message = await socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise Unanswered("the connection was closed")
        try:
            return json.loads(message.data)
        except ValueError:
            raise Undecodable("expected JSON, found something else") from None

    async def _request(self, socket: aiohttp.ClientWebSocketResponse, method: str, params: list[object]) -> Any:  # noqa: ANN401
        """Ask one thing before anything else comes over the socket."""
        await socket.send_json({"jsonrpc": "2.0", "id": method, "method": method, "params": params})
        message = await self._receive(socket)
        if not isinstance(message, dict) or message.get("result") is None:
            raise Unanswered(f"expected an answer to {method}, found {str(message)[:80]!r}")
        return message["result"]

    def _read_head(self, message: Any) -> None:  # noqa: ANN401
        match message:
            case {"method": "eth_subscription", "params": {"result": fields}}:
                head = to_block(fields)
            case _:
                raise Undecodable(f"expected a head, found {str(message)[:80]!r}")
        behind = self._endpoints.height - head.number
        if behind > self._max_lag_blocks:
            raise Unanswered(f"{behind} blocks behind the other nodes")
        self._put(head)

    async def _poll_for(self, duration_s: float) -> None:
        """Ask for heads for a while."""
        until_s = asyncio.get_running_loop().time() + duration_s
        while (left_s := until_s - asyncio.get_running_loop().time()) > 0:
            await self._ask()
            await asyncio.sleep(min(self._poll_s, left_s))

    async def _ask(self) -> None:
        """Ask for the newest head once."""
        try:
            self._put(await self._endpoints.block("latest"))
        except (Retryable, RpcError, Undecodable) as error:
            self.problem = self.problem or str(error)
        else:
            if not self._url:
                self.problem = ""


class BlockStream:
    """The chain as steps from head to head, every block between them filled in and every reorg walked back."""

    def __init__(self, feed: HeadFeed, endpoints: Endpoints, ring: Ring | None = None) -> None:
        self.ring = ring or Ring()
        self._feed = feed
        self._endpoints = endpoints
        self._retry_s = _FIRST_RETRY_S

    async def next(self) -> Step:
        """Wait for the chain to go on.

        Raises Retryable where a head cannot be linked for now (ask again: it has waited a moment), and ReorgTooDeep.
        """
        while True:
            head, ts_recv_ns = await self._feed.take()
            known = self.ring.at(head.number)
            if known is not None and known.block_hash == head.block_hash:
                continue  # from a node that is behind, or told twice
            try:
                step = await self._step_to(head, ts_recv_ns)
            except (Retryable, Undecodable) as error:
                await asyncio.sleep(self._retry_s)
                self._retry_s = min(2 * self._retry_s, 1.0)
                self._feed.give_back(head, ts_recv_ns)
                raise Retryable(f"block {head.number} cannot be linked: {error}") from error
            self._retry_s = _FIRST_RETRY_S
            return step

    async def _step_to(self, head: Block, ts_recv_ns: int) -> Step:
        newest = self.ring.newest
        if newest is None:
            self.ring.put(await self._seeded(head))
            return Step(head, (head,), None, ts_recv_ns)
        if head.number - newest.number > self.ring.size_blocks:
            return await self._jump(head, ts_recv_ns)
        path = [head]
        between = await self._headers(newest.number + 1, head.number - 1)
        while not self._is_linked(path[-1]):
            if path[-1].number <= self.ring.blocks[0].number:
                raise await self._too_deep(head, newest)
            path.append(between.get(path[-1].parent_hash) or await self._parent(path[-1]))
        came = tuple(reversed(path))
        gone = self.ring.above(came[0].number - 1)
        if gone:
            await self._endpoints.confirm(head)
        self.ring.put(came)
        return Step(head, came, Reorg(gone, came) if gone else None, ts_recv_ns)

    async def _too_deep(self, head: Block, newest: Block) -> EvenkeelError:
        """Return what a head is that hangs on nothing we remember: a reorg too deep, or just old."""
        if (await self._endpoints.block(newest.number)).block_hash == newest.block_hash:
            return Retryable(f"it is behind block {newest.number}, which is still there")
        await self._endpoints.confirm(head)
        return ReorgTooDeep(
            f"{self._endpoints.venue}: block {head.number} {head.block_hash} does not descend from any of the "
            f"{len(self.ring.blocks)} blocks we remember, down to {self.ring.blocks[0].number}"
        )

    def _is_linked(self, block: Block) -> bool:
        parent = self.ring.at(block.number - 1)
        return parent is not None and parent.block_hash == block.parent_hash

    async def _jump(self, head: Block, ts_recv_ns: int) -> Step:
        """Go on after a gap longer than the ring: whether what we remember is still there is asked by number."""
        gone: list[Block] = []
        for block in self.ring.above(-1):
            if (await self._endpoints.block(block.number)).block_hash == block.block_hash:
                break
            gone.append(block)
        else:
            raise ReorgTooDeep(f"{self._endpoints.venue}: none of the {len(gone)} blocks we remember is still there")
        came = await self._seeded(head)
        self.ring.clear()
        self.ring.put(came)
        return Step(head, came, Reorg(tuple(gone), came) if gone else None, ts_recv_ns, has_gap=True)

    async def _seeded(self, head: Block) -> tuple[Block, ...]:
        """Return the head and some blocks before it, oldest first."""
        n_blocks = min(self.ring.size_blocks, _SEED_BLOCKS)
        found = await self._headers(max(0, head.number - n_blocks + 1), head.number - 1)
        path = [head]
        while len(path) <= len(found):
            path.append(found.get(path[-1].parent_hash) or await self._parent(path[-1]))
        return tuple(reversed(path))

    async def _headers(self, first: int, last: int) -> dict[str, Block]:
        """Return headers by hash, asked for by number; the walk along parents decides which of them are used."""
        found: dict[str, Block] = {}
        for start in range(first, last + 1, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, last + 1))
            blocks = await asyncio.gather(*(self._endpoints.block(number) for number in numbers))
            found.update((block.block_hash, block) for block in blocks)
        return found

    async def _parent(self, block: Block) -> Block:
        parent = await self._endpoints.block(block.parent_hash)
        if parent.block_hash != block.parent_hash or parent.number != block.number - 1:
            raise Retryable(f"expected block {block.number - 1} {block.parent_hash}, found {parent.number}")
        return parent


def _said(error: BaseException) -> str:
    """Return why a socket failed, without its address."""
    if isinstance(error, EvenkeelError | Undecodable):
        return str(error)
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"HTTP {error.status}"
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return inner.strerror if isinstance(inner, OSError) and inner.strerror else type(error).__name__
