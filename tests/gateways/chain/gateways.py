"""A chain's gateway with a key, on the test world behind a node that may misbehave; blocks are made by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from eth_account import Account

from bot.domain.events import Event, SubmitOrder
from bot.domain.orders import GasBid, OrderIntent, TimeInForce
from bot.gateways.chain.chain_gateway import ChainGateway
from bot.gateways.chain.settings import ChainSettings, HedgeSection, HolderSettings, WalletSettings
from bot.gateways.chain.signing import KeystoreSigner
from bot.runtime.live.clock import WallClock
from tests.chains.anvil import GWEI
from tests.chains.proxy import ChaosProxy
from tests.chains.world import World
from tests.gateways.chain.nodes import pool_settings, settings_of
from tests.runtime.command_line import PATIENCE_S

INVENTORY_WETH = 50.0
INSTRUMENT = "anvil:WETH-USDC"
T = TypeVar("T")


class Ahead(WallClock):
    """The wall's clock, moved on where a test waits for nothing but time."""

    ahead_ns = 0

    def now_ns(self) -> int:
        """Return the time, as far ahead as it was moved."""
        return super().now_ns() + self.ahead_ns


class Watched:
    """A gateway and everything it said."""

    def __init__(self, world: World, proxy: ChaosProxy, folder: Path, **changes: Any) -> None:
        self.world, self.anvil, self.proxy = world, world.anvil, proxy
        self.clock = Ahead()
        self.events: list[Event] = []
        self.listening: asyncio.Task[None] | None = None
        self.gateway: ChainGateway
        section = HedgeSection(
            name="WETH-USDC", protocol="uniswap_v3", underlying="ETH", base="WETH", quote="USDC", lot_base=0.001,
            tick_px=0.01, contracts={"router": world.uniswap.router.address},
            route=(pool_settings(world, "WETH/USDC-500"),), inventory_base=INVENTORY_WETH,
        )  # fmt: skip
        own = {
            "http_urls": (proxy.http_url,), "ws_url": proxy.ws_url, "hedges": (section,), "state_dir": str(folder),
            "wallet": WalletSettings(address=world.hedger), "final_blocks": 7,
            "holders": (HolderSettings(address=world.hedger, tokens=("WETH", "USDC")),),
        }  # fmt: skip
        self.settings: ChainSettings = settings_of(world, **(own | changes))

    @asynccontextmanager
    async def running(
        self, *, run_id: str = "r", is_keyless: bool = False, listens: bool = True
    ) -> AsyncIterator[None]:
        """Open the gateway and listen to it."""
        signer = None if is_keyless else KeystoreSigner(Account.from_key(self.world.hedger_key))
        async with ChainGateway(self.settings, signer, self.clock, run_id=run_id) as self.gateway:
            if listens:
                self.listen()
                await self.mine(2)
            try:
                yield
            finally:
                if self.listening is not None:
                    self.listening.cancel()
                    await asyncio.gather(self.listening, return_exceptions=True)
                    self.listening = None

    def listen(self) -> None:
        """Begin to listen."""
        self.listening = asyncio.create_task(self.gateway.events(self.events.extend))

    async def mine(self, blocks: int = 1) -> None:
        """Mine blocks, each read before the next."""
        for _ in range(blocks):
            self.anvil.mine(1, seconds_apart=1)
            number = self.anvil.block_number
            await asyncio.to_thread(self.proxy.await_head, number)
            await self.until(lambda number=number: self.block_number >= number)

    @property
    def block_number(self) -> int:
        """The block whose reports were told last."""
        numbers = [event.block_number for event in self.events if hasattr(event, "block_number")]
        return numbers[-1] if numbers else -1

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until something is so that the gateway said or did."""
        deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
        while not (found := condition()):
            assert asyncio.get_running_loop().time() < deadline_s, f"waited in vain; told last: {self.events[-6:]}"
            await asyncio.sleep(0.005)
        return found

    def told(self, *kinds: type[T]) -> list[T]:
        """What was said of some kinds."""
        return [event for event in self.events if isinstance(event, kinds)]

    def order(self, order_id: str, lots: int, limit_px: float, seconds: int = 600) -> SubmitOrder:
        """Return an order for so many lots."""
        gas = GasBid(10 * GWEI, GWEI, 0.5, (self.anvil.timestamp_s + seconds) * 10**9)
        ticks = round(limit_px / 0.01)
        return SubmitOrder(
            OrderIntent(order_id, INSTRUMENT, lots, ticks, TimeInForce.IOC, False, "a test", 3000.0, 1, gas)
        )


@contextmanager
def watched(world: World, folder: Path, **changes: Any) -> Iterator[Watched]:
    """Lend a gateway whose wallet has what it needs; no block comes by itself."""
    with ChaosProxy(world.anvil) as proxy:
        world.give(world.hedger, WETH=INVENTORY_WETH, USDC=500_000)
        for symbol in ("WETH", "USDC"):
            world.tokens[symbol].transact("approve", world.uniswap.router.address, 2**256 - 1, sender=world.hedger)
        world.anvil.set_automine(False)
        yield Watched(world, proxy, folder, **changes)
