"""A market of the published Perpetual Protocol v2 as it is read: found from the clearing house and the base token."""

from __future__ import annotations

import pytest

from bot.gateways.chain.protocols.perp_market import MarketWatch
from tests.chains.perp import EXCHANGE_FEE_PIPS, MAX_TICKS_PER_BLOCK, POOL_FEE_PIPS, Perp
from tests.chains.world import World

ETH = 10**18
ROUNDS = 6


def watch_of(world: World, perp: Perp) -> MarketWatch:
    return MarketWatch(perp.clearing_house.address, perp.base.address, world.hedger)


def read(world: World, watch: MarketWatch, rounds: int = ROUNDS) -> None:
    for _ in range(rounds):
        calls = [(one.to, True, one.data) for one in watch.reads]
        answers = world.multicall.call("aggregate3", calls)
        watch.update([answer if is_success else None for is_success, answer in answers])


def test_six_rounds_find_everything(full_world: World) -> None:
    perp = full_world.part("perp")
    perp.deposit(full_world.hedger, 50_000)
    perp.open(full_world.hedger, -12 * ETH)
    watch = watch_of(full_world, perp)
    read(full_world, watch, ROUNDS - 2)
    assert watch.pool is None
    read(full_world, watch, 1)
    assert watch.pool is not None
    assert watch.pool.ticks == ()  # so far only between which ticks the price is
    read(full_world, watch, 1)
    market, pool = watch.market, watch.pool
    assert market is not None
    assert pool is not None
    assert (market.fee_pips, pool.fee_pips, market.max_ticks) == (EXCHANGE_FEE_PIPS, POOL_FEE_PIPS, MAX_TICKS_PER_BLOCK)
    assert (market.initial_pips, market.maintenance_pips, market.max_spread_pips) == (100_000, 62_500, 100_000)
    assert market.is_open
    assert market.index_px_wei == 3000 * ETH
    assert market.mark_px_wei == perp.account_balance.call("getMarkPrice", perp.base.address)
    assert market.account.position_wei == -12 * ETH
    assert market.account.open_notional_wei == perp.account_balance.call(
        "getTakerOpenNotional", full_world.hedger, perp.base.address
    )
    assert market.account.value_wei == perp.clearing_house.call("getAccountValue", full_world.hedger)
    assert market.account.collateral_wei == pytest.approx(50_000 * ETH, rel=1e-6)
    assert market.free_wei == perp.vault.call("getFreeCollateralByRatio", full_world.hedger, 100_000) * 10**12
    assert pool.sqrt_price_x96 == perp.pool.call("slot0").sqrtPriceX96
    assert len(pool.ticks) >= 2


def test_somebody_who_never_traded_has_an_empty_account(full_world: World) -> None:
    perp = full_world.part("perp")
    watch = watch_of(full_world, perp)
    read(full_world, watch)
    assert watch.market is not None
    account = watch.market.account
    assert (account.position_wei, account.open_notional_wei, account.value_wei, watch.market.free_wei) == (0, 0, 0, 0)


def test_new_terms_count_from_the_block_that_has_them(full_world: World) -> None:
    perp = full_world.part("perp")
    watch = watch_of(full_world, perp)
    read(full_world, watch)
    perp.registry.transact("setFeeRatio", perp.base.address, 2_500)
    perp.config.transact("setTwapInterval", 600)
    read(full_world, watch, 1)
    assert watch.market is not None
    assert watch.market.fee_pips == 2_500


def test_free_collateral_of_an_old_ratio_is_not_believed(full_world: World) -> None:
    perp = full_world.part("perp")
    perp.deposit(full_world.hedger, 50_000)
    watch = watch_of(full_world, perp)
    read(full_world, watch)
    ratio = [one.data == perp.config.encode("getImRatio") for one in watch.reads].index(True)
    calls = [(one.to, True, one.data) for one in watch.reads]
    answers = [answer for _, answer in full_world.multicall.call("aggregate3", calls)]
    answers[ratio] = (200_000).to_bytes(32)  # these contracts have no way to set it; other versions have
    watch.update(answers)
    assert watch.market is None
    assert perp.vault.encode("getFreeCollateralByRatio", full_world.hedger, 200_000) in {
        one.data for one in watch.reads
    }


def test_what_reverts_leaves_nothing_usable(full_world: World) -> None:
    perp = full_world.part("perp")
    nowhere = MarketWatch(full_world.tokens["USDC"].address, perp.base.address, full_world.hedger)
    read(full_world, nowhere)
    assert nowhere.market is None
    watch = watch_of(full_world, perp)
    read(full_world, watch)
    watch.update([None] * len(watch.reads))
    assert watch.market is None
    assert watch.pool is None
