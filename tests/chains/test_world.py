"""The world as tests get it: real contracts, prices where they should be, and nothing that stays."""

from __future__ import annotations

import pytest

from tests.chains.anvil import COIN
from tests.chains.contracts import Reverted
from tests.chains.uniswap import NEVER
from tests.chains.world import World


def test_pools_are_at_their_prices_in_both_orders(world: World) -> None:
    assert {name: pytest.approx(pool.px, rel=1e-9) for name, pool in world.pools.items()} == {
        "WETH/USDC-500": 3000.0,
        "WETH/USDC-3000": 3000.0,
        "WETH/USDT-500": 3000.0,
        "WBTC/WETH-3000": 20.0,
        "wstETH/WETH-500": 1.2,
    }
    assert not world.pools["WETH/USDC-500"].is_base_first
    assert world.pools["WETH/USDT-500"].is_base_first


@pytest.mark.parametrize("name", ["WETH/USDC-500", "WETH/USDT-500"])
@pytest.mark.parametrize("sells_base", [True, False])
def test_a_swap_pays_what_the_quoter_says(world: World, name: str, sells_base: bool) -> None:
    pool = world.pools[name]
    amount_in = COIN if sells_base else 3_000 * 10**6
    bought = pool.quote if sells_base else pool.base
    quoted = world.uniswap.quote(pool, sells_base=sells_base, amount_in=amount_in)
    before = bought.call("balanceOf", world.trader)
    receipt = world.uniswap.swap(pool, world.trader, sells_base=sells_base, amount_in=amount_in)
    assert bought.call("balanceOf", world.trader) - before == quoted.amountOut
    (swap,) = pool.contract.events(receipt, "Swap")
    assert swap.args["sqrtPriceX96"] == quoted.sqrtPriceX96After


def test_averages_of_the_last_hour_can_be_observed(world: World) -> None:
    then, now = world.pools["WETH/USDT-500"].contract.call("observe", [3600, 0]).tickCumulatives
    assert 1.0001 ** ((now - then) / 3600) * 1e12 == pytest.approx(3000.0, rel=1e-4)


def test_a_move_of_the_market_moves_feeds_and_pools(world: World) -> None:
    world.set_px(2700.0)
    assert world.feeds["ETH/USD"].call("latestRoundData")[1] == 2700 * 10**8
    assert world.pools["WETH/USDC-500"].px == pytest.approx(2700.0, rel=1e-9)
    assert world.pools["WETH/USDT-500"].px == pytest.approx(2700.0, rel=1e-9)
    assert world.pools["WBTC/WETH-3000"].px == pytest.approx(20.0, rel=1e-9)


def test_liquidity_earns_fees_and_can_be_taken_out(world: World) -> None:
    pool = world.pools["WETH/USDC-3000"]
    owner = world.hedger
    world.give(owner, WETH=100.0, USDC=300_000.0)
    world.uniswap.approve(owner, [pool.base, pool.quote])
    minted = world.uniswap.mint(
        pool, owner, base_wei=100 * COIN, quote_wei=300_000 * 10**6, low_px=2850.0, high_px=3150.0
    )
    world.uniswap.swap(pool, world.trader, sells_base=True, amount_in=10 * COIN)
    owed = world.uniswap.fees_owed(owner, minted.token_id)
    assert owed[0] == 0
    assert 0 < owed[1] < 10 * COIN * 3 // 1000
    assert world.uniswap.collect(owner, minted.token_id) == owed
    world.uniswap.remove(owner, minted.token_id)
    paid = world.uniswap.collect(owner, minted.token_id)
    assert paid[0] < minted.amount0  # USDC was bought by the swap
    assert paid[1] > minted.amount1


def test_a_revert_tells_its_reason_and_what_it_cost(world: World) -> None:
    pool = world.pools["WETH/USDC-500"]
    with pytest.raises(Reverted, match="Too little received") as failed:
        world.uniswap.swap(pool, world.trader, sells_base=True, amount_in=COIN, least_out=3001 * 10**6)
    assert failed.value.receipt is not None
    assert int(failed.value.receipt["gasUsed"], 16) > 50_000
    with pytest.raises(Reverted, match="Transaction too old"):
        world.uniswap.router.transact(
            "exactInputSingle",
            (pool.base.address, pool.quote.address, 500, world.trader, NEVER // 2**40, COIN, 0, 0),
            sender=world.trader,
        )


def test_reads_of_one_block_go_through_multicall(world: World) -> None:
    calls = [(pool.address, True, pool.contract.encode("slot0")) for pool in world.pools.values()]
    answers = world.multicall.call("aggregate3", calls, block=world.anvil.block()["hash"])
    for pool, (is_success, data) in zip(world.pools.values(), answers, strict=True):
        assert is_success
        assert pool.contract.decode("slot0", data) == pool.contract.call("slot0")


@pytest.mark.parametrize("attempt", [1, 2])
def test_nothing_of_a_test_stays(world: World, attempt: int) -> None:
    assert world.balance(world.hedger, "USDC") == 0, attempt
    assert world.anvil.nonce(world.hedger) == 0
    world.give(world.hedger, USDC=1.0)
    world.tokens["USDC"].transact("approve", world.trader, 1, sender=world.hedger)
    assert world.balance(world.hedger, "USDC") == 10**6
