"""A pool's state as it is read from the chain, with every initialised tick around its price."""

from __future__ import annotations

from bot.gateways.chain.protocols.pool_watch import TICKS_AROUND, PoolWatch
from bot.pricing.uniswap_v3 import swap
from tests.chains.world import World

ETH = 10**18
ROUNDS = 3


def read(world: World, watch: PoolWatch, rounds: int = ROUNDS) -> None:
    for _ in range(rounds):
        calls = [(one.to, True, one.data) for one in watch.reads]
        answers = world.multicall.call("aggregate3", calls)
        watch.update([answer if is_success else None for is_success, answer in answers])


def test_three_rounds_find_every_tick_of_the_words_around_the_price(world: World) -> None:
    for name in ("WETH/USDC-500", "WETH/USDC-3000", "WETH/USDT-500", "WBTC/WETH-3000"):
        pool = world.pools[name]
        watch = PoolWatch(pool.address, pool.fee_pips)
        read(world, watch)
        state = watch.state
        assert state is not None
        slot = pool.contract.call("slot0")
        assert (state.sqrt_price_x96, state.tick) == (slot.sqrtPriceX96, slot.tick)
        assert state.liquidity == pool.contract.call("liquidity")
        assert (state.fee_pips, state.tick_spacing) == (pool.fee_pips, pool.tick_spacing)
        told = [
            (tick, net)
            for word in range(state.low_word, state.high_word + 1)
            for tick, net, _ in world.uniswap.tick_lens.call("getPopulatedTicksInWord", pool.address, word)
        ]
        assert sorted(told) == list(zip(state.ticks, state.nets, strict=True))
        assert len(state.ticks) >= 2
        assert state.low_word * 256 * pool.tick_spacing <= state.tick - TICKS_AROUND
        assert (state.high_word + 1) * 256 * pool.tick_spacing > state.tick + TICKS_AROUND


def test_nothing_is_known_before_the_ticks_are(world: World) -> None:
    pool = world.pools["WETH/USDC-500"]
    watch = PoolWatch(pool.address, pool.fee_pips)
    for n_reads in (3, 8):
        assert len(watch.reads) == n_reads
        read(world, watch, rounds=1)
        assert watch.state is None
    read(world, watch, rounds=1)
    assert watch.state is not None


def test_it_follows_the_price_into_other_words(world: World) -> None:
    pool = world.pools["WETH/USDC-500"]
    watch = PoolWatch(pool.address, pool.fee_pips)
    read(world, watch)
    before = watch.state
    world.uniswap.move_to(pool, world.trader, 2_400.0)
    read(world, watch, rounds=1)
    assert watch.state is not None  # what is known around the new price will do until the words beyond are read
    read(world, watch)
    after = watch.state
    assert before is not None
    assert after is not None
    assert (after.low_word, after.high_word) != (before.low_word, before.high_word)
    quoted = world.uniswap.quote(pool, sells_base=True, amount_in=300 * ETH)
    sold = swap(after, 300 * ETH, is_zero_for_one=pool.is_base_first)
    assert sold.amount_out == quoted.amountOut
    assert sold.after.sqrt_price_x96 == quoted.sqrtPriceX96After


def test_a_new_tick_near_the_price_is_read_before_it_is_quoted_over(world: World) -> None:
    pool = world.pools["WETH/USDC-500"]
    watch = PoolWatch(pool.address, pool.fee_pips)
    read(world, watch)
    ticks = pool.ticks(2_950.0, 3_050.0)
    world.uniswap.mint(
        pool, world.deployer, base_wei=100 * ETH, quote_wei=300_000 * 10**6, low_px=2_950.0, high_px=3_050.0
    )
    read(world, watch, rounds=1)
    state = watch.state
    assert state is None or not set(ticks) & set(range(state.low_word * 2560, (state.high_word + 1) * 2560))
    read(world, watch)
    assert watch.state is not None
    quoted = world.uniswap.quote(pool, sells_base=True, amount_in=1_000 * ETH)
    assert swap(watch.state, 1_000 * ETH, is_zero_for_one=pool.is_base_first).amount_out == quoted.amountOut


def test_an_address_without_a_pool_has_no_state(world: World) -> None:
    watch = PoolWatch(world.uniswap.factory.address, 500)
    read(world, watch)
    assert watch.state is None
    pool = world.pools["WETH/USDC-500"]
    watch = PoolWatch(pool.address, 500)
    read(world, watch)
    watch.update([None] * len(watch.reads))
    assert watch.state is None
