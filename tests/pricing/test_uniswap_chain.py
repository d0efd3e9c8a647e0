"""The formulas beside the deployed contracts: ticks, some hundred random swaps, routes, and liquidity positions.

Nothing is read again between two swaps: each is predicted from what the one before was predicted to leave.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any, NamedTuple

import msgspec
import pytest
from numpy.polynomial import Polynomial

from bot.pricing.lp import (
    amounts_held,
    delta_base,
    fee_growth_inside,
    fees_owed,
    gamma_base_per_px,
    px_of,
    px_range,
    value_quote,
    whole_liquidity,
)
from bot.pricing.tick_math import MAX_TICK, MIN_TICK, sqrt_price_x96_at, tick_at
from bot.pricing.uniswap_v3 import Leg, PoolState, Swap, swap, swap_in, swap_out
from tests.chains.anvil import COIN
from tests.chains.pool_states import read_pool
from tests.chains.uniswap import NEVER, Minted, Pool
from tests.chains.world import World

SEED = 20240105
FIRST, SECOND = "WETH/USDC-500", "WETH/USDT-500"  # WETH is token1 of the one and token0 of the other


def crowd(world: World, pool: Pool, rng: random.Random, positions: int = 60) -> None:
    """Provide liquidity in many narrow ranges around the price, so that a swap of any size crosses ticks."""
    px = pool.px
    for _ in range(positions):
        middle, width = px * math.exp(rng.gauss(0.0, 0.01)), math.exp(rng.uniform(-7.0, -4.0))
        world.uniswap.mint(
            pool, world.deployer, base_wei=rng.randrange(1, 20) * COIN, quote_wei=rng.randrange(1, 60_000) * 10**6,
            low_px=middle * (1.0 - width), high_px=middle * (1.0 + width),
        )  # fmt: skip


def state_of(pool: Pool) -> tuple[int, int, int]:
    slot0 = pool.contract.call("slot0")
    return slot0.sqrtPriceX96, slot0.tick, pool.contract.call("liquidity")


def told(pool: Pool, receipt: dict[str, Any]) -> tuple[int, int, int, int, int]:
    """Return what the pool's log says that its swap moved for the trader, as base and quote, and what it left."""
    (done,) = pool.contract.events(receipt, "Swap")
    base, quote = pool.sorted(-done.args["amount0"], -done.args["amount1"])
    return base, quote, done.args["sqrtPriceX96"], done.args["tick"], done.args["liquidity"]


def outcome(state: PoolState) -> tuple[int, int, int]:
    return state.sqrt_price_x96, state.tick, state.liquidity


class Asked(NamedTuple):
    """A swap to be made, and what it should do."""

    sells_base: bool
    is_exact_in: bool
    amount: int
    limit_x96: int
    predicted: Swap


def random_swap(pool: Pool, state: PoolState, rng: random.Random) -> Asked:
    is_dear = pool.px_of(state.sqrt_price_x96) > 3000.0  # prices come home to where the liquidity is
    sells_base, is_exact_in = rng.random() < (0.75 if is_dear else 0.25), rng.random() < 0.6
    is_in_base = sells_base == is_exact_in
    amount = round(math.exp(rng.uniform(-3.0, 6.8)) * (COIN if is_in_base else 3_000 * 10**6)) + 1
    is_zero_for_one = sells_base == pool.is_base_first
    limit = 0
    if rng.random() < 0.2:  # a price limit a little away, which large swaps meet
        away = math.exp(rng.uniform(-9.0, -4.0)) * (-1 if is_zero_for_one else 1)
        limit = int(state.sqrt_price_x96 * (1.0 + away))
    predicted = swap(state, amount, is_zero_for_one=is_zero_for_one, is_exact_in=is_exact_in, limit_x96=limit or None)
    return Asked(sells_base, is_exact_in, amount, limit, predicted)


def send(world: World, pool: Pool, asked: Asked) -> dict[str, Any]:
    token_in, token_out = (pool.base, pool.quote) if asked.sells_base else (pool.quote, pool.base)
    bound = 0 if asked.is_exact_in else 2**255
    return world.uniswap.router.transact(
        "exactInputSingle" if asked.is_exact_in else "exactOutputSingle",
        (token_in.address, token_out.address, pool.fee_pips, world.trader, NEVER, asked.amount, bound, asked.limit_x96),
        sender=world.trader,
    )


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_random_swaps_come_out_to_the_unit(world: World, name: str) -> None:
    rng = random.Random(f"{SEED} {name}")
    pool = world.pools[name]
    crowd(world, pool, rng)
    state = read_pool(world.uniswap, pool)
    kinds, crossed = Counter[tuple[bool, bool]](), Counter[int]()
    held = [token.call("balanceOf", world.trader) for token in (pool.base, pool.quote)]
    for _ in range(130):
        asked = random_swap(pool, state, rng)
        receipt = send(world, pool, asked)
        done = asked.predicted
        moved = (-done.amount_in, done.amount_out) if asked.sells_base else (done.amount_out, -done.amount_in)
        held = [has + change for has, change in zip(held, moved, strict=True)]
        state = done.after
        assert told(pool, receipt) == (*moved, *outcome(state))
        kinds[asked.sells_base, asked.is_exact_in] += 1
        crossed[done.ticks_crossed] += 1
    assert held == [token.call("balanceOf", world.trader) for token in (pool.base, pool.quote)]
    found = read_pool(world.uniswap, pool)
    assert state == msgspec.structs.replace(found, low_word=state.low_word, high_word=state.high_word)
    assert min(kinds.values()) >= 15
    assert len(kinds) == 4
    assert sum(count for ticks, count in crossed.items() if ticks) >= 30
    assert max(crossed) >= 10


def test_a_limit_of_the_price_fills_in_part(world: World) -> None:
    pool = world.pools[SECOND]
    state = read_pool(world.uniswap, pool)
    limit = state.sqrt_price_x96 * 995 // 1000
    predicted = swap(state, 1_000 * COIN, is_zero_for_one=True, limit_x96=limit)
    assert 0 < predicted.unfilled < 1_000 * COIN
    send(world, pool, Asked(True, True, 1_000 * COIN, limit, predicted))
    assert state_of(pool) == (limit, tick_at(limit), predicted.after.liquidity)
    assert predicted.amount_in == 1_000 * COIN - predicted.unfilled


def path_of(tokens: list[Any], fees: list[int]) -> bytes:
    parts = [bytes.fromhex(tokens[0].address[2:])]
    for fee, token in zip(fees, tokens[1:], strict=True):
        parts += [fee.to_bytes(3, "big"), bytes.fromhex(token.address[2:])]
    return b"".join(parts)


def test_routes_of_two_pools_come_out_to_the_unit(world: World) -> None:
    """WBTC by way of WETH to USDC and back, exact in and exact out."""
    rng = random.Random(SEED)
    first, second = world.pools["WBTC/WETH-3000"], world.pools[FIRST]
    crowd(world, second, rng)
    states = [read_pool(world.uniswap, pool) for pool in (first, second)]
    crossed = Counter[int]()
    for _ in range(60):
        is_dear = second.px_of(states[1].sqrt_price_x96) > 3000.0
        sells, is_exact_in = rng.random() < (0.75 if is_dear else 0.25), rng.random() < 0.5
        legs = [
            Leg(states[0], sells == first.is_base_first),
            Leg(states[1], sells == second.is_base_first),
        ]  # fmt: skip
        tokens, fees = [first.base, second.base, second.quote], [3000, 500]
        if not sells:
            legs, tokens, fees = legs[::-1], tokens[::-1], fees[::-1]
        in_base = sells == is_exact_in
        amount = round(math.exp(rng.uniform(-5.0, 4.0)) * (10**8 if in_base else 60_000 * 10**6)) + 1
        predicted = (swap_in if is_exact_in else swap_out)(legs, amount)
        if is_exact_in:
            asked = (path_of(tokens, fees), world.trader, NEVER, amount, predicted.amount_out)
        else:
            asked = (path_of(tokens[::-1], fees[::-1]), world.trader, NEVER, amount, predicted.amount_in)
        receipt = world.uniswap.router.transact(
            "exactInput" if is_exact_in else "exactOutput", asked, sender=world.trader
        )
        swaps = predicted.swaps if sells else predicted.swaps[::-1]
        assert (predicted.swaps[0].amount_in, predicted.swaps[-1].amount_out) == (
            predicted.amount_in, predicted.amount_out
        )  # fmt: skip
        states = [one.after for one in swaps]
        for pool, done in zip((first, second), swaps, strict=True):
            moved = (-done.amount_in, done.amount_out) if sells else (done.amount_out, -done.amount_in)
            assert told(pool, receipt) == (*moved, *outcome(done.after))
        crossed[predicted.ticks_crossed] += 1
    assert sum(count for ticks, count in crossed.items() if ticks) >= 10


def test_ticks_are_those_of_the_deployed_library(world: World) -> None:
    """A pool initialised at the price where a tick begins has that tick, and one unit below it the tick before.

    The contract's logarithm is not exact; so close to a tick it asks for the tick's own price, to the bit.
    """
    rng = random.Random(SEED)
    powers = [sign << bit for bit in range(20) for sign in (1, -1) if sign << bit <= MAX_TICK]
    powers = [tick for tick in powers if MIN_TICK < tick < MAX_TICK]
    ticks = [MIN_TICK + 1, MAX_TICK - 1, 0, *powers, *(rng.randrange(MIN_TICK + 1, MAX_TICK) for _ in range(60))]
    tokens = world.tokens["WBTC"], world.tokens["USDT"]
    world.uniswap.factory.transact("createPool", tokens[0].address, tokens[1].address, 500)
    address = world.uniswap.factory.call("getPool", tokens[0].address, tokens[1].address, 500)
    contract = world.pools[FIRST].contract
    prices = [price for tick in ticks for price in (sqrt_price_x96_at(tick), sqrt_price_x96_at(tick) - 1)]
    found = []
    for start in range(0, len(prices), 50):
        calls = [
            {
                "stateOverrides": {address: {"stateDiff": {"0x" + 64 * "0": "0x" + 64 * "0"}}},
                "calls": [{"to": address, "data": "0x" + contract.encode("initialize", price).hex()}],
            }
            for price in prices[start : start + 50]
        ]  # fmt: skip
        for block in world.anvil.rpc("eth_simulateV1", {"blockStateCalls": calls}, "latest"):
            (log,) = block["calls"][0]["logs"]
            tick = int(log["data"][66:130], 16)
            found.append(tick - (1 << 256) if tick >> 255 else tick)
    assert found == [tick - below for tick in ticks for below in (0, 1)]
    assert [tick_at(price) for price in prices] == found


def hold(world: World, name: str) -> tuple[Pool, Minted, tuple[int, int]]:
    """Return a pool, a position of ours in it from 2,850 to 3,150, and the ticks of its ends."""
    pool = world.pools[name]
    ends = pool.ticks(2850.0, 3150.0)
    minted = world.uniswap.mint(
        pool, world.deployer, base_wei=4_000 * COIN, quote_wei=12_000_000 * 10**6, low_px=2850.0, high_px=3150.0
    )
    return pool, minted, ends


def would_pay(world: World, pool: Pool, minted: Minted) -> tuple[int, int]:
    """Return what the contracts say that taking the whole position out would pay now, as base and quote."""
    asked = (minted.token_id, minted.liquidity, 0, 0, NEVER)
    paid = world.uniswap.position_manager.call("decreaseLiquidity", asked, sender=world.deployer)
    base, quote = pool.sorted(paid.amount0, paid.amount1)
    return base, quote


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_position_value_delta_and_gamma_are_the_differences_of_real_ones(world: World, name: str) -> None:
    pool, minted, ends = hold(world, name)
    decimals = (18, 6) if pool.is_base_first else (6, 18)
    is_base_token0 = pool.is_base_first
    low_px, high_px = px_range(*ends, *decimals, is_base_token0=is_base_token0)
    liquidity = whole_liquidity(minted.liquidity, *decimals)
    for middle_px in (2750.0, 2900.0, 3000.0, 3100.0, 3250.0):
        points = []
        for step in (-2, -1, 0, 1, 2):
            world.uniswap.move_to(pool, world.trader, middle_px * (1.0 + step * 1e-3))
            base, quote = would_pay(world, pool, minted)
            sqrt_price = pool.contract.call("slot0").sqrtPriceX96
            assert pool.sorted(base, quote) == amounts_held(sqrt_price, *ends, minted.liquidity)
            px = px_of(sqrt_price, *decimals, is_base_token0=is_base_token0)
            points.append((px, base / COIN * px + quote / 10**6, base / COIN))
        px1, v1, base = points[2]
        curve = Polynomial.fit([px - px1 for px, _, _ in points], [value - v1 for _, value, _ in points], 4)
        slope, bend = curve.deriv(1)(0.0), curve.deriv(2)(0.0)
        assert value_quote(liquidity, low_px, high_px, px1) == pytest.approx(v1, rel=1e-6)
        delta = delta_base(liquidity, low_px, high_px, px1)
        assert delta == pytest.approx(base, rel=1e-6, abs=1e-9)
        assert delta == pytest.approx(slope, rel=1e-6, abs=1e-6)
        gamma = gamma_base_per_px(liquidity, low_px, high_px, px1)
        assert gamma == pytest.approx(bend, rel=1e-6, abs=1e-9)
        assert (gamma < 0.0) == (low_px < px1 < high_px)
    # And taken out for good: what it held, and the fees of all those moves.
    held = amounts_held(pool.contract.call("slot0").sqrtPriceX96, *ends, minted.liquidity)
    fees = owed_by(world, pool, minted.token_id, ends)
    world.uniswap.remove(world.deployer, minted.token_id)
    paid = world.uniswap.collect(world.deployer, minted.token_id)
    # The pool keeps one account for all positions of one range and owner, and rounds it by itself.
    assert all(0 <= due + fee - got <= 1 for due, fee, got in zip(held, fees, paid, strict=True))


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_fees_owed_are_what_collecting_pays(world: World, name: str) -> None:
    pool, minted, ends = hold(world, name)
    rng = random.Random(SEED)
    state = read_pool(world.uniswap, pool)
    paid_at_all = Counter[int]()
    for _ in range(25):
        for _ in range(rng.randrange(1, 4)):
            asked = random_swap(pool, state, rng)
            send(world, pool, asked)
            state = asked.predicted.after
        owed = owed_by(world, pool, minted.token_id, ends)
        assert world.uniswap.fees_owed(world.deployer, minted.token_id) == owed
        if rng.random() < 0.3:
            assert world.uniswap.collect(world.deployer, minted.token_id) == owed
        paid_at_all[sum(1 for one in owed if one)] += 1
    assert paid_at_all[2] >= 5


def owed_by(world: World, pool: Pool, token_id: int, ends: tuple[int, int]) -> tuple[int, ...]:
    """Return the fees of a position from what can be read of pool and position."""
    position = world.uniswap.position_manager.call("positions", token_id)
    tick = pool.contract.call("slot0").tick
    low, high = (pool.contract.call("ticks", end) for end in ends)
    owed = []
    for n in (0, 1):
        inside = fee_growth_inside(
            tick, *ends, pool.contract.call(f"feeGrowthGlobal{n}X128"),
            getattr(low, f"feeGrowthOutside{n}X128"), getattr(high, f"feeGrowthOutside{n}X128"),
        )  # fmt: skip
        before, already = getattr(position, f"feeGrowthInside{n}LastX128"), getattr(position, f"tokensOwed{n}")
        owed.append(fees_owed(position.liquidity, inside, before, already))
    return tuple(owed)
