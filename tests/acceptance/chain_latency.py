"""How long a block takes through the real parts: from its head to quotes, and to the bytes of a hedge at the node.

`head_to_broadcast` runs a whole live vault on Anvil, journal and transaction log on disk. With every block the book's
owner moves coins in or out, so that every block has a hedge; nothing but stopwatches is put in between.
`requests_per_block` counts at a proxy what a gateway asks with a block.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bot.domain.events import Event
from bot.domain.market import Quote
from bot.domain.orders import OrderState
from bot.domain.units import NS_PER_S
from bot.gateways.chain.blocks import Step
from bot.gateways.chain.chain_gateway import ChainGateway
from bot.gateways.chain.settings import ChainSettings, HedgeSection, PoolSettings, TokenSettings, WalletSettings
from bot.gateways.chain.signing import KeystoreSigner
from bot.runtime.live.clock import WallClock
from tests.acceptance.chain_vaults import PASSWORD, ChainVault, until
from tests.chains.anvil import COIN
from tests.chains.proxy import ChaosProxy
from tests.chains.world import PYTH_ETH, World

WARM_UP = 5
MOVED_BASE = 8.0  # in and out of the book, with every other block
STOCK_BASE = 100.0
ROUTES = (("WETH", "USDC", 500), ("WETH", "USDC", 3000), ("WETH", "USDT", 500), ("WBTC", "WETH", 3000),
          ("wstETH", "WETH", 500))  # fmt: skip


class Took(NamedTuple):
    """What one block took, in ns from having its head: to its quote, to its report, to a hedge's bytes handed over."""

    quote_ns: int
    report_ns: int
    broadcast_ns: int


class Stopwatch:
    """Notes when things happen inside a gateway that is open."""

    def __init__(self, gateway: Any) -> None:
        self.head_ns: dict[int, int] = {}
        self.quote_ns: dict[int, int] = {}
        self.report_ns: dict[int, int] = {}
        self.broadcast_ns: list[int] = []
        self.under_way = 0
        take_step, take, broadcast = gateway._take_step, gateway._take, gateway._endpoints.broadcast

        async def timed_step(step: Any, *, is_again: bool) -> None:
            self.head_ns[step.head.number] = step.ts_recv_ns
            await take_step(step, is_again=is_again)

        def timed_take(events: Sequence[Event]) -> None:
            take(events)
            now_ns = time.time_ns()
            for event in events:
                if isinstance(event, Quote):
                    self.quote_ns.setdefault(event.seq, now_ns)
                elif (number := getattr(event, "block_number", None)) is not None:
                    self.report_ns.setdefault(number, now_ns)

        async def timed_broadcast(method: str, params: Sequence[object]) -> Any:
            self.broadcast_ns.append(time.time_ns())
            self.under_way += 1
            try:
                return await broadcast(method, params)
            finally:
                self.under_way -= 1

        gateway._take_step, gateway._take, gateway._endpoints.broadcast = timed_step, timed_take, timed_broadcast

    def broadcast_of(self, number: int) -> int:
        """Return when the first bytes after a head were handed over, 0 if none were yet."""
        head_ns = self.head_ns.get(number)
        return 0 if head_ns is None else next((one for one in self.broadcast_ns if one > head_ns), 0)


async def head_to_broadcast(world: World, folder: Path, *, blocks: int, pause_s: float = 0.0) -> list[Took]:
    """Return what every block took that had a hedge, `blocks` of them after a few to warm up."""
    often = {"max_orders_per_min: 100,": "max_orders_per_min: 100000,"}
    vault = ChainVault(world, folder, block_s=1.0, inventory_base=STOCK_BASE, changes=often)
    world.give(world.hedger, WETH=STOCK_BASE, USDC=STOCK_BASE * 3_000.0)
    world.give(vault.holder, WETH=20.0)
    vault.grant(world.uniswap.router.address)
    world.freshen()
    anvil, weth = world.anvil, world.tokens["WETH"]
    anvil.set_automine(False)
    took: list[Took] = []
    async with vault.running():
        assert vault.session is not None
        watch = Stopwatch(vault.session.gateways["local"])
        await asyncio.to_thread(anvil.rpc, "evm_mine")
        await until(
            lambda: watch.broadcast_ns or vault.engine.orders.live, what=f"for the first hedge: {vault.decision}"
        )
        live = vault.engine.orders.live
        await until(lambda: all(one.state is OrderState.OPEN for one in live.values()), what="for it at the node")
        for at in range(WARM_UP + blocks):
            owner, other = (vault.holder, world.trader) if at % 2 else (world.trader, vault.holder)
            moved = weth.encode("transfer", other, round(MOVED_BASE * COIN))
            told = world.pyth.encode("set_price", PYTH_ETH, 3_000 * 10**8, 5 * 10**7, -8, anvil.timestamp_s)
            requests = [
                ("eth_sendTransaction", [{"from": who, "to": to, "data": f"0x{data.hex()}", "gas": hex(200_000)}])
                for who, to, data in ((owner, weth.address, moved), (world.deployer, world.pyth.address, told))
            ]
            anvil.batch(requests)
            number = anvil.block_number + 1
            await asyncio.to_thread(anvil.rpc, "evm_mine")
            await until(
                lambda n=number: watch.broadcast_of(n),  # type: ignore[misc]
                what=f"for a hedge after block {number}: {vault.decision}", every_s=0.001,
            )  # fmt: skip
            await until(lambda: not watch.under_way, what="for the node to take the bytes", every_s=0.001)
            head_ns = watch.head_ns[number]
            took.append(
                Took(
                    watch.quote_ns[number] - head_ns,
                    watch.report_ns.get(number, head_ns) - head_ns,
                    watch.broadcast_of(number) - head_ns,
                )
            )
            await asyncio.sleep(0.03 + pause_s)
        anvil.rpc("evm_mine")
    anvil.set_automine(True)
    return took[WARM_UP:]


async def requests_per_block(world: World, folder: Path, n_pools: int, *, blocks: int = 4) -> Counter[str]:
    """Return what a gateway with a key asks its node with a usual block, by method, as it watches so many pools."""
    keystore = ChainVault(world, folder).folder / "hedger.json"
    signer = await KeystoreSigner.open(keystore, PASSWORD, world.hedger)
    with ChaosProxy(world.anvil) as proxy:
        settings = _settings(world, proxy, folder, n_pools)
        counts: list[Counter[str]] = []
        seen: dict[int, set[str]] = {}

        def put(events: Sequence[Event]) -> None:
            for event in events:
                if isinstance(event, Quote):
                    seen.setdefault(event.seq, set()).add(event.instrument_id)

        async with ChainGateway(settings, signer, WallClock(), run_id="reads") as gateway:
            take_step, done = gateway._take_step, set[int]()

            async def noted_step(step: Step, *, is_again: bool) -> None:
                await take_step(step, is_again=is_again)
                done.add(step.head.number)

            gateway._take_step = noted_step  # type: ignore[method-assign]
            running = asyncio.create_task(gateway.events(put))
            for at in range(blocks + 2):
                before = Counter(proxy.faults.asked)
                number = world.anvil.block_number + 1
                await asyncio.to_thread(world.anvil.mine)
                await until(lambda n=number: n in done, what="for all that a block leads to")  # type: ignore[misc]
                assert len(seen[number]) == n_pools
                if at >= 2:  # not what is asked once
                    counts.append(Counter(proxy.faults.asked) - before)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return sorted(counts, key=lambda count: sum(count.values()))[blocks // 2]  # now and then all nodes are looked at


def _settings(world: World, proxy: ChaosProxy, folder: Path, n_pools: int) -> ChainSettings:
    tokens = {
        symbol: TokenSettings(
            symbol=symbol, address=token.address, decimals=token.call("decimals"),
            underlying="" if symbol in {"USDC", "USDT"} else "ETH",
        )
        for symbol, token in world.tokens.items()
    }  # fmt: skip
    hedges = [
        HedgeSection(
            name=f"{base}-{quote}-{fee}", protocol="uniswap_v3", underlying="ETH", base=base, quote=quote,
            lot_base=0.001, tick_px=0.01, contracts={"router": world.uniswap.router.address},
            route=(PoolSettings(
                address=world.pools[f"{base}/{quote}-{fee}"].address, base=base, quote=quote, fee_pips=fee
            ),),
        )
        for base, quote, fee in ROUTES[:n_pools]
    ]  # fmt: skip
    return ChainSettings(
        venue="local", chain_id=world.anvil.chain_id, coin="ETH", http_urls=(proxy.http_url,), ws_url=proxy.ws_url,
        tokens=tokens, hedges=tuple(hedges), wallet=WalletSettings(address=world.hedger), block_ns=600 * NS_PER_S,
        state_dir=str(folder),
    )  # fmt: skip
