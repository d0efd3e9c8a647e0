"""Swaps of Uniswap v3 pools: the book's example, rounding, ticks, limits, routes, and the largest amounts.

That they are what the deployed contracts do is shown in test_uniswap_chain.py, and what a
mainnet pool did for a day in test_uniswap_day.py.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import accumulate

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bot.pricing.tick_math import MAX_SQRT_PRICE_X96, MIN_SQRT_PRICE_X96, Q96, sqrt_price_x96_at, tick_at
from bot.pricing.uniswap_v3 import (
    Leg,
    PoolReverts,
    PoolState,
    UnknownTicks,
    amount0_between,
    amount1_between,
    depth_in,
    largest_in,
    largest_out,
    price_after_token0,
    price_of,
    swap,
    swap_in,
    swap_out,
    turned,
)


def pool(
    ranges: dict[tuple[int, int], int], tick: int = 0, *, fee_pips: int = 3000, spacing: int = 60, words: int = 4
) -> PoolState:
    """Return a pool that holds `ranges` (ticks from and to, liquidity), with the words around its price read."""
    nets: dict[int, int] = {}
    for (low, high), liquidity in ranges.items():
        nets[low] = nets.get(low, 0) + liquidity
        nets[high] = nets.get(high, 0) - liquidity
    ticks = sorted(one for one, net in nets.items() if net)
    word = tick // spacing >> 8
    return PoolState(
        sqrt_price_x96=sqrt_price_x96_at(tick) + 12345, tick=tick,
        liquidity=sum(net for one, net in nets.items() if one <= tick),
        fee_pips=fee_pips, tick_spacing=spacing, ticks=tuple(ticks), nets=tuple(nets[one] for one in ticks),
        low_word=word - words, high_word=word + words,
    )  # fmt: skip


STEPPED = pool({(-60_000, 60_000): 10**18, (-600, 600): 5 * 10**18, (-1200, -600): 3 * 10**18, (600, 6000): 10**17})
DEEP = pool({(-120_000, 120_000): 4 * 10**20}, tick=5000, fee_pips=500, spacing=10, words=60)
amounts = st.integers(1, 10**18)
directions = st.booleans()


def test_the_example_of_the_book() -> None:
    # Uniswap V3 Development Book, first swap: 42 USDC into a pool at 5000, without fee.
    price = 5602277097478614198912276234240
    state = PoolState(price, tick_at(price), 1517882343751509868544, 0, 60, (), (), 5, 5)
    done = swap(state, 42 * 10**18, is_zero_for_one=False)
    assert done.amount_out == 8396714242162444
    assert done.after.sqrt_price_x96 == 5604469350942327889444743441197
    assert (done.amount_in, done.fee, done.unfilled, done.ticks_crossed) == (42 * 10**18, 0, 0, 0)
    assert (done.after.tick, done.after.liquidity) == (85184, state.liquidity)


@given(amounts, directions)
def test_what_goes_in_is_all_taken_and_the_pool_never_loses(amount: int, is_zero_for_one: bool) -> None:
    done = swap(STEPPED, amount, is_zero_for_one=is_zero_for_one)
    assert done.amount_in == amount
    back = swap(done.after, done.amount_out, is_zero_for_one=not is_zero_for_one) if done.amount_out else None
    assert back is None or back.amount_out < amount
    assert done.fee * 1_000_000 >= amount * 3000


@given(amounts, directions)
def test_exact_out_is_the_least_that_buys_it(amount: int, is_zero_for_one: bool) -> None:
    done = swap(STEPPED, amount, is_zero_for_one=is_zero_for_one, is_exact_in=False)
    assert done.amount_out == amount
    assert swap(STEPPED, done.amount_in, is_zero_for_one=is_zero_for_one).amount_out >= amount
    # Price and fee are rounded up once or twice in every step, of which there are no more than ten here.
    less = done.amount_in - 10 * (2 + (1 << 1))
    assert less <= 0 or swap(STEPPED, less, is_zero_for_one=is_zero_for_one).amount_out <= amount


@given(amounts, directions)
def test_within_one_range_it_is_the_closed_form(amount: int, is_zero_for_one: bool) -> None:
    done = swap(DEEP, amount, is_zero_for_one=is_zero_for_one)
    root, liquidity = Fraction(DEEP.sqrt_price_x96, Q96), DEEP.liquidity
    net = Fraction(amount * 999_500, 1_000_000)
    after = 1 / (1 / root + net / liquidity) if is_zero_for_one else root + net / liquidity
    exact = liquidity * (root - after) if is_zero_for_one else liquidity * (1 / root - 1 / after)
    assert done.ticks_crossed == 0
    assert exact - 12 < done.amount_out <= exact  # a few words of 256 ticks may end on the way
    assert done.after.sqrt_price_x96 == pytest.approx(after * Q96, rel=1e-15)


def test_liquidity_changes_where_ticks_are_crossed_and_is_back_on_return() -> None:
    # Down through -600 (5 leave, 3 come) and -1200 (3 leave).
    there = swap(STEPPED, 10**20, is_zero_for_one=True, limit_x96=sqrt_price_x96_at(-1300))
    assert there.ticks_crossed == 2
    assert there.after.liquidity == 10**18
    assert there.after.sqrt_price_x96 == sqrt_price_x96_at(-1300)
    assert there.after.tick == -1300
    assert there.unfilled == 10**20 - there.amount_in > 0
    back = swap(there.after, 10**20, is_zero_for_one=False, limit_x96=STEPPED.sqrt_price_x96)
    assert back.after == STEPPED
    # 1,300 ticks down and up again, at each price the same tokens, each way less the fee.
    assert back.amount_in - back.fee == pytest.approx(there.amount_out, abs=20)
    assert back.amount_out == pytest.approx(there.amount_in - there.fee, abs=20)


def test_a_price_that_stops_on_a_tick_has_crossed_it() -> None:
    down = swap(STEPPED, 10**20, is_zero_for_one=True, limit_x96=sqrt_price_x96_at(-600)).after
    assert (down.tick, down.liquidity) == (-601, 4 * 10**18)
    up = swap(STEPPED, 10**20, is_zero_for_one=False, limit_x96=sqrt_price_x96_at(600)).after
    assert (up.tick, up.liquidity) == (600, 10**18 + 10**17)
    # Turned round on the spot, the same tick is crossed back for nothing.
    again = swap(down, 10**6, is_zero_for_one=False)
    assert (again.ticks_crossed, again.after.liquidity) == (1, STEPPED.liquidity)


def test_a_gap_without_liquidity_is_jumped() -> None:
    state = pool({(-600, 600): 10**18, (1200, 1800): 10**18})
    done = swap(state, 4 * 10**16, is_zero_for_one=False)
    assert done.ticks_crossed == 2
    assert 1200 < done.after.tick < 1800
    assert done.unfilled == 0


@given(amounts, directions)
def test_rounding_at_the_ends_of_words_is_at_the_pools_favour(amount: int, is_zero_for_one: bool) -> None:
    # The same liquidity in a pool whose words are longer is rounded less often.
    fine = pool({(-60_000, 60_000): 10**18}, spacing=1, words=240)
    coarse = pool({(-60_000, 60_000): 10**18}, spacing=60, words=4)
    once, often = (swap(state, amount, is_zero_for_one=is_zero_for_one) for state in (coarse, fine))
    words = abs(often.after.tick) // 256 + 2
    assert once.amount_out - 3 * words <= often.amount_out <= once.amount_out + 3


@pytest.mark.parametrize("is_zero_for_one", [True, False])
@pytest.mark.parametrize("is_exact_in", [True, False])
def test_beyond_the_read_ticks_nothing_is_guessed(is_zero_for_one: bool, is_exact_in: bool) -> None:
    narrow = msgspec.structs.replace(STEPPED, low_word=-1, high_word=0)
    last = -256 * 60 if is_zero_for_one else 255 * 60
    fits = swap(
        narrow, 10**20, is_zero_for_one=is_zero_for_one, is_exact_in=is_exact_in, limit_x96=sqrt_price_x96_at(last)
    )
    assert fits.after.tick == (last - 1 if is_zero_for_one else last)
    asked = 10**20 - fits.unfilled
    assert swap(narrow, asked, is_zero_for_one=is_zero_for_one, is_exact_in=is_exact_in).unfilled == 0
    with pytest.raises(UnknownTicks, match="words -1 to 0"):
        swap(narrow, asked + 10**6, is_zero_for_one=is_zero_for_one, is_exact_in=is_exact_in)


@pytest.mark.parametrize("is_zero_for_one", [True, False])
def test_a_tick_that_was_not_read_is_where_knowledge_ends(is_zero_for_one: bool) -> None:
    # The pool without its ticks from 1,200 away on: the same up to there, to the unit, and nothing beyond.
    near = [place for place, tick in enumerate(STEPPED.ticks) if -1200 < tick < 6000]
    partly = msgspec.structs.replace(
        STEPPED, ticks=tuple(STEPPED.ticks[place] for place in near), nets=tuple(STEPPED.nets[place] for place in near),
        unread_below=-1200, unread_above=6000,
    )  # fmt: skip
    end = sqrt_price_x96_at(-1200 if is_zero_for_one else 6000)
    edge = swap(STEPPED, 10**20, is_zero_for_one=is_zero_for_one, limit_x96=end)
    for amount in (1, edge.amount_in // 3, edge.amount_in // 2, edge.amount_in - 10):
        whole, part = (swap(state, amount, is_zero_for_one=is_zero_for_one) for state in (STEPPED, partly))
        assert part.after.sqrt_price_x96 == whole.after.sqrt_price_x96
        assert (part.amount_out, part.fee, part.ticks_crossed) == (whole.amount_out, whole.fee, whole.ticks_crossed)
    for amount in (edge.amount_in, edge.amount_in * 2):
        with pytest.raises(UnknownTicks, match="was not read"):
            swap(partly, amount, is_zero_for_one=is_zero_for_one)


@pytest.mark.parametrize(
    ("amount", "limit", "reason"),
    [
        (0, None, "AS"),
        (-1, None, "AS"),
        (1, STEPPED.sqrt_price_x96, "SPL"),
        (1, STEPPED.sqrt_price_x96 + 1, "SPL"),
        (1, MIN_SQRT_PRICE_X96, "SPL"),
    ],
)
def test_what_the_pool_would_refuse_is_refused(amount: int, limit: int | None, reason: str) -> None:
    with pytest.raises(PoolReverts, match=reason):
        swap(STEPPED, amount, is_zero_for_one=True, limit_x96=limit)


def test_limits_upwards_are_checked_too() -> None:
    for limit in (STEPPED.sqrt_price_x96, STEPPED.sqrt_price_x96 - 1, MAX_SQRT_PRICE_X96):
        with pytest.raises(PoolReverts, match="SPL"):
            swap(STEPPED, 1, is_zero_for_one=False, limit_x96=limit)


@given(st.integers(1, 1 << 128), st.integers(1, 1 << 256), st.integers(MIN_SQRT_PRICE_X96, MAX_SQRT_PRICE_X96 - 1))
def test_amounts_of_256_bits_take_the_other_formula(liquidity: int, amount: int, price: int) -> None:
    after = price_after_token0(price, liquidity, amount, is_in=True)
    exact = Fraction(liquidity << 96) * price / ((liquidity << 96) + Fraction(amount) * price)
    assert after >= exact
    if amount * price + (liquidity << 96) < 1 << 256:
        assert after == math.ceil(exact)
    else:
        assert after == -(-(liquidity << 96) // ((liquidity << 96) // price + amount))


@given(st.integers(-800_000, 800_000), st.integers(1, 80_000), st.integers(1, 1 << 100))
def test_amounts_between_prices_are_rounded_the_way_asked(tick: int, width: int, liquidity: int) -> None:
    low, high = sqrt_price_x96_at(tick), sqrt_price_x96_at(tick + width)
    exact0 = Fraction(liquidity * Q96 * (high - low), high * low)
    exact1 = Fraction(liquidity * (high - low), Q96)
    for between, exact in ((amount0_between, exact0), (amount1_between, exact1)):
        up, down = between(low, high, liquidity, is_up=True), between(low, high, liquidity, is_up=False)
        assert down <= exact <= up
        assert exact - 2 < down
        assert up < exact + 2


FIRST = Leg(STEPPED, is_zero_for_one=True)
SECOND = Leg(DEEP, is_zero_for_one=False)


@given(st.integers(10**4, 10**17))
def test_a_route_is_its_pools_one_after_the_other(amount: int) -> None:
    through = swap_in((FIRST, SECOND), amount)
    middle = swap(STEPPED, amount, is_zero_for_one=True).amount_out
    assert through.amount_out == swap(DEEP, middle, is_zero_for_one=False).amount_out
    assert [one.amount_in for one in through.swaps] == [amount, middle]
    wanted = swap_out((FIRST, SECOND), through.amount_out)
    assert wanted.amount_in <= amount
    assert wanted.amount_in == pytest.approx(amount, rel=1e-3)
    assert wanted.swaps[0].amount_out == wanted.swaps[1].amount_in
    assert through.ticks_crossed == sum(one.ticks_crossed for one in through.swaps)


def test_the_way_back_goes_through_the_same_pools() -> None:
    assert turned((FIRST, SECOND)) == (Leg(DEEP, is_zero_for_one=True), Leg(STEPPED, is_zero_for_one=False))
    route = (FIRST, SECOND)
    assert price_of(route, with_fee=False) * price_of(turned(route), with_fee=False) == pytest.approx(1.0)
    assert price_of(route, with_fee=True) == pytest.approx(price_of(route, with_fee=False) * 0.997 * 0.9995)


def test_a_pool_that_runs_dry_reverts() -> None:
    dry = pool({(-600, 600): 10**18}, words=58)
    assert swap(dry, 10**20, is_zero_for_one=True).unfilled > 0
    with pytest.raises(PoolReverts, match="too much"):
        swap_in((Leg(dry, is_zero_for_one=True),), 10**20)
    with pytest.raises(PoolReverts, match="lacks"):
        swap_out((Leg(dry, is_zero_for_one=True),), 10**20)


routes = st.sampled_from([(FIRST,), (SECOND,), (FIRST, SECOND), turned((FIRST, SECOND))])


@given(routes, st.floats(1e-6, 0.05))
def test_depth_says_what_size_costs(legs: tuple[Leg, ...], fraction: float) -> None:
    legs = tuple(Leg(DEEP, leg.is_zero_for_one) for leg in legs)
    amount = int(depth_in(legs) * fraction)
    average = swap_in(legs, amount).amount_out / amount
    assert price_of(legs, with_fee=True) / average - 1.0 == pytest.approx(fraction, rel=0.06, abs=1e-9)


def test_without_liquidity_there_is_no_depth() -> None:
    empty = Leg(pool({(600, 1200): 10**18}), is_zero_for_one=True)
    assert depth_in((empty,)) == 0.0
    assert largest_in((empty,), 0.5) == 0


@given(routes, st.floats(1e-5, 0.3))
def test_the_largest_amount_in(legs: tuple[Leg, ...], slack: float) -> None:
    least = price_of(legs, with_fee=True) * (1.0 - slack)
    found = largest_in(legs, least)
    assume(found > 10**9)  # below that the last unit counts for more than the precision
    assert swap_in(legs, found).amount_out / found >= least
    more = found + found // 500_000
    assert swap_in(legs, more).amount_out / more < least


@given(routes, st.floats(1e-5, 0.3))
def test_the_largest_amount_out(legs: tuple[Leg, ...], slack: float) -> None:
    most = 1.0 / price_of(legs, with_fee=True) * (1.0 + slack)
    found = largest_out(legs, most)
    assume(found > 10**9)
    assert swap_out(legs, found).amount_in / found <= most
    more = found + found // 500_000
    assert swap_out(legs, more).amount_in / more > most


def test_the_largest_amounts_at_a_price_that_is_not_there() -> None:
    assert largest_in((FIRST,), price_of((FIRST,), with_fee=True) * 1.000001) == 0
    assert largest_out((FIRST,), 1.0 / price_of((FIRST,), with_fee=True) * 0.999999) == 0


def test_the_largest_amount_ends_where_the_read_ticks_do() -> None:
    narrow = Leg(msgspec.structs.replace(STEPPED, low_word=-1, high_word=0), is_zero_for_one=True)
    edge = swap(narrow.state, 10**20, is_zero_for_one=True, limit_x96=sqrt_price_x96_at(-256 * 60)).amount_in
    found = largest_in((narrow,), 0.0001)
    assert 0.985 * edge < found <= edge


def test_every_amount_of_a_sweep_is_worth_its_own_price() -> None:
    # Marginal prices never improve with size, across four ticks: what the search above relies on.
    sizes = list(accumulate([10**16] * 60))
    outs = [swap(STEPPED, size, is_zero_for_one=True).amount_out for size in sizes]
    marginal = [after - before for before, after in zip([0, *outs], outs, strict=False)]
    assert marginal == sorted(marginal, reverse=True)
