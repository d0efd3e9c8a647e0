"""Pools as base and quote: prices, ticks and trades mean the same whichever token comes first."""

from __future__ import annotations

import pytest

from tests.chains.anvil import COIN
from tests.chains.contracts import Reverted
from tests.chains.uniswap import MAX_TICK, MIN_TICK, MULTICALL3, MULTICALL3_ABI, NOBODY, Contract
from tests.chains.world import World

BOTH_ORDERS = pytest.mark.parametrize("name", ["WETH/USDC-500", "WETH/USDT-500"])


@BOTH_ORDERS
def test_ticks_of_a_range_are_usable_and_around_it(world: World, name: str) -> None:
    pool = world.pools[name]
    low, high = pool.ticks(2_850.0, 3_150.0)
    assert low < pool.contract.call("slot0").tick < high
    assert (low % 10, high % 10) == (0, 0)
    assert high - low == pytest.approx(1_001, abs=10)  # ln(3150 / 2850) / ln 1.0001
    assert pool.ticks(0.0, float("inf")) == (MIN_TICK + 2, MAX_TICK - 2)


@BOTH_ORDERS
@pytest.mark.parametrize("px", [2_400.0, 2_999.0, 3_700.0])
def test_a_pool_is_moved_to_a_price(world: World, name: str, px: float) -> None:
    pool = world.pools[name]
    world.uniswap.move_to(pool, world.trader, px)
    assert pool.contract.call("slot0").sqrtPriceX96 == pool.sqrt_of(px)
    assert pool.px == pytest.approx(px, rel=1e-12)
    world.uniswap.move_to(pool, world.trader, px)  # where it is already


@BOTH_ORDERS
@pytest.mark.parametrize("sells_base", [True, False])
def test_an_exact_amount_out_is_paid_out_exactly(world: World, name: str, sells_base: bool) -> None:
    pool = world.pools[name]
    bought, amount_out = (pool.quote, 30_000 * 10**6) if sells_base else (pool.base, 10 * COIN)
    before = bought.call("balanceOf", world.trader)
    world.uniswap.swap_for(pool, world.trader, sells_base=sells_base, amount_out=amount_out)
    assert bought.call("balanceOf", world.trader) - before == amount_out
    with pytest.raises(Reverted, match="Too much requested"):
        world.uniswap.swap_for(pool, world.trader, sells_base=sells_base, amount_out=amount_out, most_in=1)


def test_both_routers_and_a_route_over_two_pools(world: World) -> None:
    wbtc, weth, usdc = (world.tokens[symbol] for symbol in ("WBTC", "WETH", "USDC"))
    path = b"".join(
        (bytes.fromhex(wbtc.address[2:]), (3000).to_bytes(3, "big"), bytes.fromhex(weth.address[2:]),
         (500).to_bytes(3, "big"), bytes.fromhex(usdc.address[2:]))
    )  # fmt: skip
    quoted = world.uniswap.quoter.call("quoteExactInput", path, 10**8)
    before = world.balance(world.trader, "USDC")
    world.uniswap.router02.transact("exactInput", (path, world.trader, 10**8, quoted.amountOut), sender=world.trader)
    assert world.balance(world.trader, "USDC") - before == quoted.amountOut
    assert quoted.amountOut == pytest.approx(60_000 * 10**6, rel=0.01)


def test_initialised_ticks_can_be_read(world: World) -> None:
    pool = world.pools["WETH/USDC-500"]
    edges = [pool.ticks(3_000.0 * (1.0 - width), 3_000.0 * (1.0 + width)) for width in (0.05, 0.2)]
    for tick in (tick for pair in edges for tick in pair):
        word = (tick // pool.tick_spacing) >> 8
        found = world.uniswap.tick_lens.call("getPopulatedTicksInWord", pool.address, word)
        assert tick in {entry[0] for entry in found}


def test_multicall_is_where_it_is_everywhere_and_bears_failures(world: World) -> None:
    multicall = Contract(world.anvil, MULTICALL3, MULTICALL3_ABI)
    usdc = world.tokens["USDC"]
    calls = [(usdc.address, True, usdc.encode("decimals")), (usdc.address, True, b"\0\0\0\0"), (NOBODY, True, b"")]
    answers = multicall.call("aggregate3", calls)
    assert [is_success for is_success, _ in answers] == [True, False, True]
    assert usdc.decode("decimals", answers[0][1]) == 6
