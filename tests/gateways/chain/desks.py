"""A transaction desk on a chain of its own: real node, real pool rules, real log, and blocks made by the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from eth_account import Account

from bot.domain.orders import GasBid
from bot.gateways.chain.broadcasting import Node
from bot.gateways.chain.endpoints import Endpoints, to_block
from bot.gateways.chain.nouns import Block, Reorg, TransactionNews, TransactionRequest, TransactionState
from bot.gateways.chain.rpc import Endpoint
from bot.gateways.chain.settings import ChainSettings, FeeSettings
from bot.gateways.chain.signing import KeystoreSigner
from bot.gateways.chain.transaction_log import TransactionLog, log_path
from bot.gateways.chain.transactions import TransactionDesk
from tests.chains.anvil import GWEI, Anvil
from tests.chains.proxy import ChaosProxy
from tests.gateways.chain.nodes import ANSWERS_IN_NS, ManualClock

BLOCK_S = 12
FEES = FeeSettings(max_fee_wei=300 * GWEI, min_tip_wei=GWEI // 100)
INSTRUMENT = "local:WETH-USDC"


class Stage:
    """What a test of transactions has at hand."""

    def __init__(self, anvil: Anvil, proxy: ChaosProxy, folder: Path, **changes: Any) -> None:
        self.anvil = anvil
        self.proxy = proxy
        self.clock = ManualClock()
        self.account = Account.from_key(anvil.accounts[0].key)
        self.friend = anvil.accounts[1].address
        self.news: list[TransactionNews] = []
        self.blocks: list[Block] = []
        self.desk: TransactionDesk
        self.log: TransactionLog
        settings = ChainSettings(
            venue="local",
            chain_id=anvil.chain_id,
            coin="ETH",
            http_urls=(proxy.http_url,),
            fees=FEES,
            state_dir=str(folder),
            timeout_ns=ANSWERS_IN_NS,
        )
        self.settings = msgspec.structs.replace(settings, **changes)

    @property
    def path(self) -> Path:
        """The log's file."""
        return log_path(self.settings.state_dir, self.settings.chain_id, self.account.address)

    @asynccontextmanager
    async def running(
        self, signer: Any = None, between: Callable[[Node], Node] = lambda node: node
    ) -> AsyncIterator[TransactionDesk]:
        """Run a desk from what the log knows, as after any end of one before; `between` may change what it hears."""
        async with AsyncExitStack() as stack:
            self.log = stack.enter_context(TransactionLog.open(self.path, for_writing=True))
            nodes = between(await stack.enter_async_context(Endpoints(self.settings, self.clock)))
            relay = None
            if self.settings.relay_url:
                relay = await stack.enter_async_context(Endpoint(self.settings.relay_url, ANSWERS_IN_NS))
            signer = signer or KeystoreSigner(self.account)
            self.desk = TransactionDesk(self.settings, signer, self.log, nodes, self.clock, self.news.append, relay)
            self.desk.coin_px = 3000.0
            await self.desk.recover()
            head = self.anvil.block_number
            self.blocks = [self.block(number) for number in range(max(0, head - 8), head + 1)]
            yield self.desk

    # the chain

    def block(self, which: int | str = "latest") -> Block:
        """Return a block as the node has it."""
        return to_block(self.anvil.block(which))

    def mine(self, count: int = 1) -> None:
        """Let blocks be mined that nobody is told of yet."""
        for _ in range(count):
            self.anvil.mine(1, seconds_apart=BLOCK_S)
            self.clock.ns += BLOCK_S * 10**9
            self.proxy.await_head(self.anvil.block_number)

    async def tell(self) -> None:
        """Tell the desk of every block it has not seen, and of a reorg before."""
        gone: list[Block] = []
        while self.blocks and self.block(self.blocks[-1].number).block_hash != self.blocks[-1].block_hash:
            gone.append(self.blocks.pop())
        came = [self.block(n) for n in range(self.blocks[-1].number + 1, self.anvil.block_number + 1)]
        if gone:
            await self.desk.on_reorg(Reorg(tuple(gone), tuple(came)))
        for block in came:
            self.blocks.append(block)
            if not gone or block is came[-1]:
                await self.desk.on_block(block)

    async def step(self, count: int = 1) -> None:
        """Mine blocks and tell the desk of each."""
        for _ in range(count):
            self.mine()
            await self.tell()

    # transactions

    def request(self, key: str, value_wei: int = 1, **changes: Any) -> TransactionRequest:
        """Return a transfer to the friend, bidding 10 gwei with a tip of 1."""
        gas = {"max_fee_wei": 10 * GWEI, "tip_wei": GWEI, "gas_quote": 0.5, "deadline_ns": 0}
        gas |= {name: changes.pop(name) for name in list(changes) if name in gas}
        fields = {"instrument_id": INSTRUMENT, "to": self.friend, "data": b"", "gas_limit": 60_000}
        return TransactionRequest(key=key, value_wei=value_wei, gas=GasBid(**gas), **(fields | changes))

    def sign(self, nonce: int, max_fee_wei: int = 20 * GWEI, tip_wei: int = 5 * GWEI) -> str:
        """Return a transaction that another wallet with our key signed."""
        fields = {
            "type": 2, "chainId": self.settings.chain_id, "nonce": nonce, "to": self.friend, "value": 5, "data": b"",
            "gas": 21_000, "maxFeePerGas": max_fee_wei, "maxPriorityFeePerGas": tip_wei,
        }  # fmt: skip
        return "0x" + bytes(self.account.sign_transaction(fields).raw_transaction).hex()

    def states(self, key: str) -> list[TransactionState]:
        """Return the states told of a key, repeats left out."""
        told = [news.state for news in self.news if news.key == key]
        return [state for at, state in enumerate(told) if at == 0 or told[at - 1] is not state]

    def reasons(self, key: str) -> list[str]:
        """Return the reasons told of a key."""
        return [news.reason for news in self.news if news.key == key and news.reason]

    def last(self, key: str) -> TransactionNews:
        """Return the newest news of a key."""
        return [news for news in self.news if news.key == key][-1]

    def hashes(self, key: str) -> list[str]:
        """Return the hashes of every version signed for a key, as the log has them."""
        life = self.log.life(key)
        return [] if life is None else [attempt.tx_hash for attempt in life.attempts]

    def fees(self, key: str) -> list[tuple[int, int]]:
        """Return both fees of every version signed for a key."""
        life = self.log.life(key)
        return [] if life is None else [(one.max_fee_wei, one.tip_wei) for one in life.attempts]

    @property
    def gained_wei(self) -> int:
        """What the friend got so far."""
        return self.anvil.balance(self.friend) - 10_000 * 10**18


class Liar:
    """A node that answers as the real one does, but for the methods whose answers are changed."""

    def __init__(self, inner: Node, **changes: Callable[[Any], Any]) -> None:
        self.inner, self.changes = inner, changes

    async def call(self, method: str, params: Sequence[object] = ()) -> Any:
        answer = await self.inner.call(method, params)
        return self.changes.get(method, lambda found: found)(answer)

    async def broadcast(self, method: str, params: Sequence[object]) -> Mapping[str, Any]:
        return await self.inner.broadcast(method, params)


Staged = Callable[..., Stage]


@asynccontextmanager
async def staged(folder: Path, **changes: Any) -> AsyncIterator[Stage]:
    """Set a stage on which nothing is mined but by the test."""
    with ExitStack() as stack:
        anvil = stack.enter_context(Anvil(is_mining=False, base_fee_wei=GWEI))
        proxy = stack.enter_context(ChaosProxy(anvil))
        if changes.pop("is_private", False):
            changes["relay_url"] = proxy.relay_url
        yield Stage(anvil, proxy, folder, **changes)
