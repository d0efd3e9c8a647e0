"""Watching a pool on the real contracts: what is read, what is known of it, and where that ends."""

from __future__ import annotations

import msgspec
import pytest

from bot.gateways.chain.protocols.pool_watch import TICKS_AROUND, TICKS_READ, PoolWatch
from bot.pricing.uniswap_v3 import PoolState, UnknownTicks, swap
from tests.chains.anvil import COIN
from tests.chains.pool_states import read_pool
from tests.chains.uniswap import Pool
from tests.chains.world import World

NAME = "WETH/USDC-500"


def look(world: World, watch: PoolWatch) -> PoolState | None:
    calls = [(read.to, True, read.data) for read in watch.reads]
    answers = world.multicall.call("aggregate3", calls, block=world.anvil.block()["hash"])
    watch.update([answer if is_success else None for is_success, answer in answers])
    return watch.state


def settled(world: World, watch: PoolWatch) -> PoolState:
    while True:
        before = watch.reads
        state = look(world, watch)
        if watch.reads == before:
            assert state is not None
            return state


def mint(world: World, pool: Pool, low_px: float, high_px: float) -> None:
    world.uniswap.mint(
        pool, world.deployer, base_wei=10 * COIN, quote_wei=30_000 * 10**6, low_px=low_px, high_px=high_px
    )


def test_in_three_blocks_all_is_known_that_the_lens_sees(world: World) -> None:
    pool = world.pools[NAME]
    mint(world, pool, 2990.0, 3010.0)
    watch = PoolWatch(pool.address, 500)
    assert look(world, watch) is None  # the price
    first = look(world, watch)  # the words
    assert first is not None
    assert first.ticks == ()
    assert first.unread_below < first.tick < first.unread_above
    with pytest.raises(UnknownTicks, match="not read"):
        swap(first, 400 * COIN, is_zero_for_one=False)
    assert swap(first, COIN // 1000, is_zero_for_one=False).unfilled == 0  # what ends before an unread tick is known
    state = look(world, watch)  # the ticks
    words = (msgspec.structs.asdict(state)[name] for name in ("low_word", "high_word"))
    low_word, high_word = words
    lens = read_pool(world.uniswap, pool, words=(high_word - low_word) // 2)
    assert state == lens
    assert len(watch.reads) == 3 + (high_word - low_word + 1) + len(lens.ticks)


def test_three_rounds_find_every_tick_of_the_words_around_the_price(world: World) -> None:
    for name in ("WETH/USDC-500", "WETH/USDC-3000", "WETH/USDT-500", "WBTC/WETH-3000"):
        pool = world.pools[name]
        watch = PoolWatch(pool.address, pool.fee_pips)
        state = settled(world, watch)
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


def test_it_follows_the_price_into_other_words(world: World) -> None:
    pool = world.pools["WETH/USDC-500"]
    watch = PoolWatch(pool.address, pool.fee_pips)
    before = settled(world, watch)
    world.uniswap.move_to(pool, world.trader, 2_400.0)
    assert look(world, watch) is not None  # what is known around the new price will do until the words beyond are read
    after = settled(world, watch)
    assert (after.low_word, after.high_word) != (before.low_word, before.high_word)
    quoted = world.uniswap.quote(pool, sells_base=True, amount_in=300 * COIN)
    sold = swap(after, 300 * COIN, is_zero_for_one=pool.is_base_first)
    assert sold.amount_out == quoted.amountOut
    assert sold.after.sqrt_price_x96 == quoted.sqrtPriceX96After


def test_ticks_are_read_only_near_the_price_and_the_window_follows_it(world: World) -> None:
    pool = world.pools[NAME]
    for n in range(12):
        mint(world, pool, 3000.0 * (1.0 - 0.002 * (n + 1)), 3000.0 * (1.0 + 0.002 * (n + 1)))
    watch = PoolWatch(pool.address, 500, ticks_read=4)
    state = settled(world, watch)
    assert len(state.ticks) == 8
    whole = read_pool(world.uniswap, pool)
    near = whole.ticks.index(state.ticks[0])
    assert state.ticks == whole.ticks[near : near + 8]
    assert state.nets == whole.nets[near : near + 8]
    assert (state.unread_below, state.unread_above) == (whole.ticks[near - 1], whole.ticks[near + 8])
    assert state.ticks[3] <= state.tick < state.ticks[4]
    inside = swap(whole, 150 * COIN, is_zero_for_one=False)
    assert 0 < inside.ticks_crossed < 4
    assert swap(state, 150 * COIN, is_zero_for_one=False).amount_out == inside.amount_out
    with pytest.raises(UnknownTicks):
        swap(state, 900 * COIN, is_zero_for_one=False)
    # Three per cent away, past all that was read: nothing is claimed until it was read anew.
    world.uniswap.move_to(pool, world.trader, 2910.0)
    moved = look(world, watch)
    assert moved is not None
    lens = read_pool(world.uniswap, pool)
    assert moved.unread_below <= moved.tick < moved.unread_above
    assert settled(world, watch).ticks == tuple(
        tick for place, tick in enumerate(lens.ticks) if abs(place - sum(t <= lens.tick for t in lens.ticks) + 0.5) < 4
    )


def test_a_tick_that_was_set_since_is_not_known_before_it_is_read(world: World) -> None:
    pool = world.pools[NAME]
    watch = PoolWatch(pool.address, 500)
    before = settled(world, watch)
    mint(world, pool, 2997.0, 3003.0)
    after = look(world, watch)
    assert after is not None
    assert before.liquidity < after.liquidity
    assert after.tick - 20 < after.unread_below < after.tick < after.unread_above < after.tick + 20
    assert after.ticks == ()
    known = settled(world, watch)
    assert len(known.ticks) == len(before.ticks) + 2


@pytest.mark.parametrize("px", [1500.0, 6000.0])
def test_a_price_beyond_the_words_that_were_read_is_found_again(world: World, px: float) -> None:
    pool = world.pools[NAME]
    watch = PoolWatch(pool.address, 500)
    settled(world, watch)
    world.uniswap.move_to(pool, world.trader, px)
    assert look(world, watch) is None
    state = settled(world, watch)
    assert state.sqrt_price_x96 == pool.contract.call("slot0").sqrtPriceX96


def test_reads_do_not_grow_with_the_pools_ticks(world: World) -> None:
    pool = world.pools[NAME]
    for n in range(2 * TICKS_READ):
        mint(world, pool, 3000.0 - 3.1 * (n + 1), 3000.0 + 3.1 * (n + 1))
    watch = PoolWatch(pool.address, 500)
    settled(world, watch)
    n_reads = len(watch.reads)
    assert n_reads <= 3 + 7 + 2 * TICKS_READ
    reads = watch.reads
    look(world, watch)
    assert watch.reads is reads  # not even made anew while nothing moves


def test_what_is_no_pool_has_no_state(world: World) -> None:
    watch = PoolWatch(world.tokens["USDC"].address, 500)
    assert look(world, watch) is None
    assert look(world, watch) is None
    assert len(watch.reads) == 3


def test_an_answer_that_is_missing_leaves_no_state(world: World) -> None:
    watch = PoolWatch(world.pools[NAME].address, 500)
    settled(world, watch)
    watch.update([None] * len(watch.reads))
    assert watch.state is None
    assert look(world, watch) is not None


def test_a_pool_without_a_price_has_no_state(world: World) -> None:
    tokens = world.tokens["WBTC"].address, world.tokens["USDT"].address
    world.uniswap.factory.transact("createPool", *tokens, 500)
    watch = PoolWatch(world.uniswap.factory.call("getPool", *tokens, 500), 500)
    assert look(world, watch) is None
