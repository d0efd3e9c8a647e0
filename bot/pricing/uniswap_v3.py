"""Swaps of Uniswap v3 pools, predicted to the last unit: one pool or a route of several, exact in or exact out.

All amounts are whole smallest units and all prices square roots in 96 binary places, rounded step by step as the
contracts round, so what comes out is what the pool pays. A pool's state holds the ticks around its price as far as
they were read; a swap that would leave them is refused (`UnknownTicks`), never estimated. Only depths and prices that
guide a search are floats. This module must never know decimals, lots, or what a transaction is.

Source: Uniswap v3 Core whitepaper (Adams et al. 2021), sections 6.2 and 6.3; the rounding is that of the deployed
SqrtPriceMath and SwapMath, and of the pool's loop: a swap goes from tick to tick, and it is also rounded where a word
of the tick bitmap ends, every 256 tick spacings.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from math import inf

import msgspec

from bot.pricing.tick_math import (
    MAX_SQRT_PRICE_X96,
    MAX_TICK,
    MIN_SQRT_PRICE_X96,
    MIN_TICK,
    Q96,
    sqrt_price_x96_at,
    tick_at,
)

PIPS = 1_000_000
_UINT256 = 1 << 256
_MAX_SEARCH = 40
UNREAD = -1
_BEYOND = 1 << 24  # more than any tick, and any end of a word


class UnknownTicks(Exception):
    """A swap would leave the ticks that were read: what it pays is not known."""


class PoolReverts(Exception):
    """The pool's contract would revert; the text says why."""


class PoolState(msgspec.Struct, frozen=True, gc=False):
    """A pool as of one block, with its initialised ticks in the bitmap words `low_word` to `high_word`, ends included.

    `tick` is the pool's own: at a price that is exactly a tick's it may be that tick or, arriving from above, the one
    before. `ticks` are sorted, and `nets` the liquidity that each adds where it is crossed upwards. Where not every
    tick of those words was read, `unread_below` and `unread_above` are the nearest that were not.
    """

    sqrt_price_x96: int
    tick: int
    liquidity: int
    fee_pips: int
    tick_spacing: int
    ticks: tuple[int, ...]
    nets: tuple[int, ...]
    low_word: int
    high_word: int
    unread_below: int = -_BEYOND
    unread_above: int = _BEYOND


class Swap(msgspec.Struct, frozen=True, gc=False):
    """What a swap moves: `amount_in` includes the fee; `unfilled` of the amount asked for was stopped by the limit."""

    amount_in: int
    amount_out: int
    fee: int
    unfilled: int
    ticks_crossed: int
    after: PoolState


class Leg(msgspec.Struct, frozen=True, gc=False):
    """One pool of a route, and which way it is gone through: token0 in and token1 out, or the other way."""

    state: PoolState
    is_zero_for_one: bool


class RouteSwap(msgspec.Struct, frozen=True, gc=False):
    """What goes into the first pool of a route and comes out of its last, and each pool's swap in that order."""

    amount_in: int
    amount_out: int
    swaps: tuple[Swap, ...]

    @property
    def ticks_crossed(self) -> int:
        """How many initialised ticks the pools cross together."""
        return sum(swap.ticks_crossed for swap in self.swaps)


def divide_up(numerator: int, denominator: int) -> int:
    """Return the quotient of two whole numbers, rounded up."""
    return -(-numerator // denominator)


def amount0_between(low_x96: int, high_x96: int, liquidity: int, *, is_up: bool) -> int:
    """Return the token0 between two square-root prices, L (1/s_low - 1/s_high), rounded twice as the contracts do."""
    numerator = (liquidity << 96) * (high_x96 - low_x96)
    if is_up:
        return divide_up(divide_up(numerator, high_x96), low_x96)
    return numerator // high_x96 // low_x96


def amount1_between(low_x96: int, high_x96: int, liquidity: int, *, is_up: bool) -> int:
    """Return the token1 between two square-root prices, L (s_high - s_low)."""
    numerator = liquidity * (high_x96 - low_x96)
    return divide_up(numerator, Q96) if is_up else numerator >> 96


def price_after_token0(sqrt_price_x96: int, liquidity: int, amount: int, *, is_in: bool) -> int:
    """Return the square-root price after token0 came in or went out, L s/(L ± a s), rounded up.

    Where the product would not fit in 256 bits the contracts add to L/s instead, which rounds otherwise.
    """
    if not amount:
        return sqrt_price_x96
    numerator = liquidity << 96
    product = amount * sqrt_price_x96
    if not is_in:
        return divide_up(numerator * sqrt_price_x96, numerator - product)
    if product < _UINT256 and numerator + product < _UINT256:
        return divide_up(numerator * sqrt_price_x96, numerator + product)
    return divide_up(numerator, numerator // sqrt_price_x96 + amount)


def price_after_token1(sqrt_price_x96: int, liquidity: int, amount: int, *, is_in: bool) -> int:
    """Return the square-root price after token1 came in or went out, s ± a/L, rounded down."""
    if is_in:
        return sqrt_price_x96 + (amount << 96) // liquidity
    return sqrt_price_x96 - divide_up(amount << 96, liquidity)


def step(
    current_x96: int, target_x96: int, liquidity: int, remaining: int, fee_pips: int, *, is_exact_in: bool
) -> tuple[int, int, int, int]:
    """Return price after, amount in without fee, amount out and fee of a swap inside one range, at most to the target.

    `remaining` is what is left of the amount asked for: with the fee if that comes in, else what must come out.
    """
    is_zero_for_one = current_x96 >= target_x96
    low, high = (target_x96, current_x96) if is_zero_for_one else (current_x96, target_x96)
    between_in, between_out = (
        (amount0_between, amount1_between) if is_zero_for_one else (amount1_between, amount0_between)
    )
    price_after_in, price_after_out = (
        (price_after_token0, price_after_token1) if is_zero_for_one else (price_after_token1, price_after_token0)
    )
    if is_exact_in:
        budget = remaining * (PIPS - fee_pips) // PIPS
        amount_in = between_in(low, high, liquidity, is_up=True)
        if budget >= amount_in:
            amount_out = between_out(low, high, liquidity, is_up=False)
            return target_x96, amount_in, amount_out, divide_up(amount_in * fee_pips, PIPS - fee_pips)
        after = price_after_in(current_x96, liquidity, budget, is_in=True)
    else:
        amount_out = between_out(low, high, liquidity, is_up=False)
        if remaining >= amount_out:
            amount_in = between_in(low, high, liquidity, is_up=True)
            return target_x96, amount_in, amount_out, divide_up(amount_in * fee_pips, PIPS - fee_pips)
        after = price_after_out(current_x96, liquidity, remaining, is_in=False)
    low, high = (after, current_x96) if is_zero_for_one else (current_x96, after)
    amount_in = between_in(low, high, liquidity, is_up=True)
    amount_out = between_out(low, high, liquidity, is_up=False)
    if is_exact_in and after != target_x96:
        return after, amount_in, amount_out, remaining - amount_in  # what the price does not need is fee
    return (
        after,
        amount_in,
        amount_out if is_exact_in else min(amount_out, remaining),
        divide_up(amount_in * fee_pips, PIPS - fee_pips),
    )


def next_tick(state: PoolState, tick: int, *, is_down: bool) -> tuple[int, int | None]:
    """Return where the next step from `tick` may end, and the place of that tick in `ticks`, None if it holds nothing.

    That is the nearest initialised tick in the same word of the bitmap (upwards in the word of the tick after), or the
    word's end. Its place is UNREAD if nobody knows what it holds. Raises UnknownTicks where that word was not read.
    """
    spacing = state.tick_spacing
    compressed = tick // spacing if is_down else tick // spacing + 1
    word = compressed >> 8
    if not state.low_word <= word <= state.high_word:
        raise UnknownTicks(
            f"expected the swap to stay in the words {state.low_word} to {state.high_word} of the pool's ticks, "
            f"found it in {word}; hint: less, or read more words around the price"
        )
    if is_down:
        place = bisect_right(state.ticks, tick) - 1
        end = (word << 8) * spacing
        if place >= 0 and state.ticks[place] >= end:
            return state.ticks[place], place
        return (max(end, MIN_TICK), None) if end > state.unread_below else (state.unread_below, UNREAD)
    place = bisect_left(state.ticks, compressed * spacing)
    end = ((word << 8) + 255) * spacing
    if place < len(state.ticks) and state.ticks[place] <= end:
        return state.ticks[place], place
    return (min(end, MAX_TICK), None) if end < state.unread_above else (state.unread_above, UNREAD)


def swap(
    state: PoolState, amount: int, *, is_zero_for_one: bool, is_exact_in: bool = True, limit_x96: int | None = None
) -> Swap:
    """Return what swapping moves: `amount` is what goes in, fee included, or what comes out.

    The swap ends early at the square-root price `limit_x96`, by default where prices end. Raises UnknownTicks where
    the pool's read ticks end first, PoolReverts where the contract would.
    """
    limit = limit_x96 or (MIN_SQRT_PRICE_X96 + 1 if is_zero_for_one else MAX_SQRT_PRICE_X96 - 1)
    price = state.sqrt_price_x96
    if amount <= 0:
        raise PoolReverts(f"AS: expected an amount above 0, found {amount}")
    if not (MIN_SQRT_PRICE_X96 < limit < price if is_zero_for_one else price < limit < MAX_SQRT_PRICE_X96):
        raise PoolReverts(
            f"SPL: expected a price limit {'below' if is_zero_for_one else 'above'} the price {price}, found {limit}"
        )
    tick, liquidity, fee_pips = state.tick, state.liquidity, state.fee_pips
    remaining, total_in, total_out, total_fee, crossed = amount, 0, 0, 0, 0
    while remaining and price != limit:
        end, place = next_tick(state, tick, is_down=is_zero_for_one)
        end_x96 = sqrt_price_x96_at(end)
        target = max(end_x96, limit) if is_zero_for_one else min(end_x96, limit)
        start = price
        price, amount_in, amount_out, fee = step(start, target, liquidity, remaining, fee_pips, is_exact_in=is_exact_in)
        remaining -= amount_in + fee if is_exact_in else amount_out
        total_in += amount_in + fee
        total_out += amount_out
        total_fee += fee
        if price == end_x96:
            if place == UNREAD:
                raise UnknownTicks(f"expected the swap to end before the tick {end}, which was not read; hint: less")
            if place is not None:
                crossed += 1
                liquidity += -state.nets[place] if is_zero_for_one else state.nets[place]
            tick = end - 1 if is_zero_for_one else end
        elif price != start:
            tick = tick_at(price)
    after = PoolState(
        price,
        tick,
        liquidity,
        fee_pips,
        state.tick_spacing,
        state.ticks,
        state.nets,
        state.low_word,
        state.high_word,
        state.unread_below,
        state.unread_above,
    )
    return Swap(total_in, total_out, total_fee, remaining, crossed, after)


def swap_in(legs: Sequence[Leg], amount_in: int) -> RouteSwap:
    """Return what a route gives for `amount_in`. Raises PoolReverts where a pool runs dry, and as `swap` does."""
    swaps, amount = [], amount_in
    for leg in legs:
        done = swap(leg.state, amount, is_zero_for_one=leg.is_zero_for_one)
        if done.unfilled:
            raise PoolReverts(f"expected the pool to take {amount}, found that {done.unfilled} is too much for it")
        swaps.append(done)
        amount = done.amount_out
    return RouteSwap(amount_in, amount, tuple(swaps))


def swap_out(legs: Sequence[Leg], amount_out: int) -> RouteSwap:
    """Return what a route takes for `amount_out`. Raises PoolReverts where a pool runs dry, and as `swap` does."""
    swaps, amount = [], amount_out
    for leg in reversed(legs):
        done = swap(leg.state, amount, is_zero_for_one=leg.is_zero_for_one, is_exact_in=False)
        if done.unfilled:
            raise PoolReverts(f"expected the pool to give {amount}, found that it lacks {done.unfilled}")
        swaps.append(done)
        amount = done.amount_in
    return RouteSwap(amount, amount_out, tuple(reversed(swaps)))


def turned(legs: Sequence[Leg]) -> tuple[Leg, ...]:
    """Return the way back through the same pools."""
    return tuple(Leg(leg.state, not leg.is_zero_for_one) for leg in reversed(legs))


def price_of(legs: Sequence[Leg], *, with_fee: bool) -> float:
    """Return what the first unit into a route gives, in smallest units out per unit in, at the pools' prices."""
    price = 1.0
    for leg in legs:
        root = leg.state.sqrt_price_x96 / Q96
        price *= root * root if leg.is_zero_for_one else 1.0 / (root * root)
        if with_fee:
            price *= (PIPS - leg.state.fee_pips) / PIPS
    return price


def depth_in(legs: Sequence[Leg]) -> float:
    """Return how much in would move a route's price by about 100 %, from the liquidity at its pools' prices.

    Of one pool the virtual reserve of what goes in, L/√P or L √P, so that x in costs the fraction x/depth beyond the
    first unit's price; along a route the fractions add up. 0 where a pool has no liquidity at its price.
    """
    resistance, price = 0.0, 1.0  # of the route so far: 1/depth, and units reached per unit in
    for leg in legs:
        root = leg.state.sqrt_price_x96 / Q96
        reserve = leg.state.liquidity / root if leg.is_zero_for_one else leg.state.liquidity * root
        if not reserve:
            return 0.0
        resistance += price / reserve
        price *= root * root if leg.is_zero_for_one else 1.0 / (root * root)
    return 1.0 / resistance


def largest_in(legs: Sequence[Leg], least_price: float, *, precision: float = 1e-6) -> int:
    """Return the largest amount in for which a route gives at least `least_price` out per unit in, on average.

    Right to the fraction `precision`, and never too large: the amount returned was swapped exactly. Where the read
    ticks end or a pool runs dry before the price does, the largest amount known to be good.
    """
    best = price_of(legs, with_fee=True)

    def shortfall(amount: int) -> float:
        return (least_price - swap_in(legs, amount).amount_out / amount) / best

    return _largest(shortfall, depth_in(legs), (best - least_price) / best, precision)


def largest_out(legs: Sequence[Leg], most_price: float, *, precision: float = 1e-6) -> int:
    """Return the largest amount out for which a route takes at most `most_price` in per unit out, on average.

    The same promises as `largest_in`.
    """
    best = 1.0 / price_of(legs, with_fee=True)

    def excess(amount: int) -> float:
        return (swap_out(legs, amount).amount_in / amount - most_price) / best

    depth_out = depth_in(legs) * price_of(legs, with_fee=False)
    return _largest(excess, depth_out, (most_price - best) / best, precision)


def _largest(excess: Callable[[int], float], depth: float, slack: float, precision: float) -> int:
    """Return the largest amount whose `excess` of price is not above 0, from the amount one endless range would take.

    Average prices only get worse with the amount, save for the rounding of a few units, so this is a root between the
    largest amount known to be good and the smallest known to be too large: the secant, with the old end's weight halved
    where it stays (the Illinois method), and probes a `precision` away once that is close. An amount that cannot be
    swapped is too large by nobody knows how much; there the search halves, to a hundredth.
    """
    if slack <= 0.0 or depth <= 0.0:
        return 0
    good, bad = 0, 0  # bad 0: none yet
    at_good, at_bad = -slack, 0.0  # at_bad 0: too large, and nobody knows by how much
    amount = max(int(depth * slack), 1)
    for _ in range(_MAX_SEARCH):
        try:
            over = excess(amount)
        except (UnknownTicks, PoolReverts):
            over = inf
        if over <= 0.0:
            at_bad *= 0.5 if good else 1.0
            good, at_good = amount, over
        else:
            at_good *= 0.5 if bad else 1.0
            bad, at_bad = amount, 0.0 if over == inf else over
        near = max(1, int(good * precision))
        if bad and bad - good <= (near if at_bad else max(near, good // 100)):
            break
        if not bad:
            amount = good * 2
        elif not at_bad:
            amount = (good + bad) // 2
        else:
            root = good + int((bad - good) * (at_good / (at_good - at_bad)))
            amount = min(max(root, good + near), max(bad - near, good + 1))
    return good
