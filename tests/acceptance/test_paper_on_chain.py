"""Paper on a real chain: live blocks and prices, a book from holders, hedges that are simulated, and nothing sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bot.domain.chain import ChainReport, GasPaid
from bot.domain.events import SubmitOrder
from bot.domain.market import ExecutionTerms, Quote
from bot.domain.orders import Fill, OrderCanceled
from bot.runtime.configuration.config import load_vaults
from bot.runtime.journal import Commands, Journal
from bot.runtime.live.session import open_live
from bot.runtime.recovery import rebuild
from tests.acceptance.chain_vaults import ChainVault, until
from tests.chains.world import World

HELD_BASE = 4.0
HALF_WIDTH_BASE = 0.5


def paper_vault(world: World, folder: Path, **changes: Any) -> ChainVault:
    """A vault without a wallet or a key whose book is what an address holds."""
    bent = {
        "mode: live": "mode: paper",
        "timeout_s: 5": "timeout_s: 60",
        f'    wallet: {{address: "{world.hedger}", keystore: "{folder / "hedger.json"}"}}\n': "",
    }
    vault = ChainVault(world, folder, half_width_base=HALF_WIDTH_BASE, changes=bent, **changes)
    vault.environ = {}
    world.give(vault.holder, WETH=HELD_BASE)
    return vault


@asynccontextmanager
async def mining(vault: ChainVault) -> AsyncIterator[None]:
    """Run the vault, and let a block come every second, but none before it has seen the one before."""

    async def mine_on() -> None:
        while True:
            await mine(vault)

    vault.world.anvil.set_automine(is_on=False)
    async with vault.running():
        task = asyncio.create_task(mine_on())
        try:
            yield
            assert not task.done(), task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def mine(vault: ChainVault) -> None:
    """Mine a block once it has another second than the one before, and wait until the vault has seen it."""
    anvil = vault.world.anvil
    await until(lambda: int(time.time()) > anvil.timestamp_s, what="for another second", every_s=0.02)
    anvil.mine(1, seconds_apart=int(time.time()) - anvil.timestamp_s)
    number = anvil.block_number

    def is_seen() -> bool:
        report = vault.engine.chains.reports.get("local")
        return report is not None and report.block_number >= number

    await until(is_seen, what=f"for block {number}", every_s=0.005)


def orders_of(vault: ChainVault) -> list[SubmitOrder]:
    with Journal.open(vault.journal_path, for_writing=False) as journal:
        rows = [record for _, record in journal.records() if isinstance(record, Commands)]
    return [one for row in rows for one in row.commands if isinstance(one, SubmitOrder)]


def sent_from(world: World, *addresses: str, since: int) -> list[str]:
    """What these addresses have in the pool of pending transactions or in a block."""
    blocks = [world.anvil.rpc("eth_getBlockByNumber", hex(n), True) for n in range(since, world.anvil.block_number + 1)]
    transactions = [one for block in blocks for one in block["transactions"]] + world.anvil.pending()
    return [one["hash"] for one in transactions if one["from"].lower() in {name.lower() for name in addresses}]


async def test_a_hedge_is_simulated_block_by_block_and_nothing_leaves(world: World, tmp_path: Path) -> None:
    vault = paper_vault(world, tmp_path)
    head = world.anvil.block_number
    async with mining(vault):
        await until(lambda: vault.engine.filled_transactions > 0, what="for the first fill")
        await until(lambda: abs(vault.net_delta) <= HALF_WIDTH_BASE * 1.5, what="for a net delta in its band")
    assert sent_from(world, world.hedger, vault.holder, since=head + 1) == []
    assert world.balance(vault.holder, "WETH") == round(HELD_BASE * 10**18)
    (fill, *_) = [one for one in vault.events(Fill) if isinstance(one, Fill)]
    (order, *_) = orders_of(vault)
    assert fill.qty_lots < 0
    assert fill.order_id == order.intent.order_id
    blocks = [world.anvil.block(n) for n in range(head, world.anvil.block_number + 1)]
    assert fill.ts_event_ns in {int(block["timestamp"], 16) * 10**9 for block in blocks}
    told = {(one.ts_event_ns, one.seq): one for one in vault.events(Quote) if isinstance(one, Quote)}
    at_fill = [one for (ts_ns, _), one in told.items() if ts_ns == fill.ts_event_ns]
    assert any(one.bid_px * 0.999 < fill.px < one.bid_px for one in at_fill), "a block's quote, less our own impact"
    reports = [one for one in vault.events(ChainReport) if isinstance(one, ChainReport)]
    held = [token.qty_base for token in reports[-1].tokens if token.underlying == "ETH" and token.qty_base]
    assert held == [HELD_BASE]


async def test_gas_is_charged_at_the_base_fee_and_tip_of_its_block(world: World, tmp_path: Path) -> None:
    vault = paper_vault(world, tmp_path)
    head = world.anvil.block_number
    async with mining(vault):
        await until(lambda: vault.engine.filled_transactions > 0, what="for the first fill")
    (paid, *_) = [one for one in vault.events(GasPaid) if isinstance(one, GasPaid)]
    terms = [one for one in vault.events(ExecutionTerms) if isinstance(one, ExecutionTerms)]
    at = next(n for n, one in enumerate(terms) if one.ts_event_ns == paid.ts_event_ns)
    (order,) = [one for one in orders_of(vault) if one.intent.order_id == paid.order_id]
    assert order.intent.gas is not None
    base_fee_wei = terms[at - 1].base_fee_wei
    tip_wei = min(order.intent.gas.tip_wei, order.intent.gas.max_fee_wei - base_fee_wei)
    assert paid.gas_coin == terms[at].gas_units * (base_fee_wei + tip_wei) / 10**18
    assert paid.gas_quote == paid.gas_coin * terms[at].coin_px
    blocks = [world.anvil.block(n) for n in range(head, world.anvil.block_number + 1)]
    (block,) = [one for one in blocks if int(one["timestamp"], 16) * 10**9 == paid.ts_event_ns]
    assert int(block["baseFeePerGas"], 16) == base_fee_wei > 0
    assert vault.engine.pnl().gas < 0.0


async def test_no_empty_wallet_bounds_what_is_quoted_and_no_wallet_is_needed(world: World, tmp_path: Path) -> None:
    vault = paper_vault(world, tmp_path)
    async with mining(vault):
        await until(lambda: vault.engine.market.terms, what="for terms")
        (quote,) = vault.engine.market.quotes.values()
        (terms,) = vault.engine.market.terms.values()
    assert quote.bid_base == quote.ask_base > HELD_BASE
    assert abs(quote.bid_base - 0.001 * terms.depth_base) <= 0.001
    delays_s = [tier.delay_mean_s for tier in terms.tiers]
    assert delays_s == sorted(delays_s, reverse=True)


async def test_a_limit_missed_by_the_block_costs_gas_and_fills_nothing(world: World, tmp_path: Path) -> None:
    vault = paper_vault(world, tmp_path)
    world.anvil.set_automine(is_on=False)
    async with vault.running():
        world.anvil.mine()
        await until(lambda: vault.engine.orders.live, what="for an order")
        pool, router, trader = world.pools["WETH/USDC-500"], world.uniswap.router, world.trader
        asked = (
            pool.base.address, pool.quote.address, pool.fee_pips, trader, 2**48, pool.base.call("balanceOf", trader),
            0, pool.sqrt_of(2_950.0),
        )  # fmt: skip
        data = f"0x{router.encode('exactInputSingle', asked).hex()}"
        transaction = {"from": trader, "to": router.address, "data": data, "gas": hex(3_000_000)}
        world.anvil.rpc("eth_sendTransaction", transaction)
        for _ in range(20):
            if vault.engine.paid_transactions:
                break
            await mine(vault)
        await until(lambda: vault.engine.paid_transactions, what="for gas paid")
    (expired, *_) = [one for one in vault.events(OrderCanceled) if isinstance(one, OrderCanceled)]
    assert expired.is_expired
    assert pool.px < 2_960.0
    assert [one for one in vault.events(Fill) if isinstance(one, Fill) and one.order_id == expired.order_id] == []
    assert {one.order_id for one in vault.events(GasPaid) if isinstance(one, GasPaid)} >= {expired.order_id}


async def test_a_restart_rebuilds_the_simulated_chain_from_the_journal(world: World, tmp_path: Path) -> None:
    vault = paper_vault(world, tmp_path)
    async with mining(vault):
        await until(lambda: vault.engine.filled_transactions > 0, what="for the first fill")
    held = vault.engine.desks["ETH"].holdings["local:WETH-USDC"].lots
    async with mining(vault):
        await until(lambda: vault.decision is not None, what="for a decision")
        await until(lambda: abs(vault.net_delta) <= HALF_WIDTH_BASE * 1.5, what="for a net delta in its band")
    assert vault.engine.desks["ETH"].holdings["local:WETH-USDC"].lots <= held < 0
    (loaded,) = load_vaults([vault.path])
    with Journal.open(vault.journal_path, for_writing=True) as journal:
        async with open_live(loaded, vault.path, journal, {}) as session:
            rebuild(session, journal)
            assert session.engine.orders.orders.keys() == {one.intent.order_id for one in orders_of(vault)}
