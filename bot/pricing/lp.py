"""Liquidity positions of Uniswap v3: worth, delta and gamma in closed form, what they hold and earn to the unit.

Two kinds of functions. The first group is the model: floats in whole units, with L in sqrt(base x quote), prices and
ranges in quote per base, one position each; a position is short gamma inside its range, and worth base alone below it
and quote alone above. The second group is the contracts: whole numbers in smallest units, ticks, token0 and token1,
rounded as deployed. `whole_liquidity`, `px_of` and `px_range` lead from the second to the first. This module must never
decide what a position is hedged with.

Formulas: Uniswap v3 Core whitepaper (Adams et al. 2021), sections 2 and 6.2 to 6.4; loss versus rebalancing from
Milionis, Moallemi, Roughgarden and Zhang (2022), rate sigma^2 P^2 |V''| / 2.
"""

from math import pow as power
from math import sqrt

from bot.pricing.tick_math import Q96, sqrt_price_x96_at
from bot.pricing.uniswap_v3 import amount0_between, amount1_between

_UINT256 = 1 << 256
_UINT128 = 1 << 128


def value_quote(liquidity: float, low_px: float, high_px: float, px: float) -> float:
    """Return what a position is worth in quote at `px`: base at the price and quote, fees not counted.

    Inside the range L (2 sqrt P - P/sqrt P_high - sqrt P_low), taken as what is held: narrow ranges lose no digits.
    """
    return delta_base(liquidity, low_px, high_px, px) * px + held_quote(liquidity, low_px, high_px, px)


def held_quote(liquidity: float, low_px: float, high_px: float, px: float) -> float:
    """Return the quote in a position at `px`, L (sqrt P - sqrt P_low) with P held to the range."""
    inside_px = min(max(px, low_px), high_px)
    return liquidity * (inside_px - low_px) / (sqrt(inside_px) + sqrt(low_px))


def delta_base(liquidity: float, low_px: float, high_px: float, px: float) -> float:
    """Return dV/dP, which is the base in a position at `px`: L (1/sqrt P - 1/sqrt P_high) with P held to the range."""
    inside_px = min(max(px, low_px), high_px)
    roots = sqrt(inside_px), sqrt(high_px)
    return liquidity * (high_px - inside_px) / (roots[0] * roots[1] * (roots[0] + roots[1]))


def gamma_base_per_px(liquidity: float, low_px: float, high_px: float, px: float) -> float:
    """Return d2V/dP2, -L/(2 P^(3/2)) inside the range and 0 outside; it jumps at the ends, where the delta is whole."""
    return -0.5 * liquidity / (px * sqrt(px)) if low_px < px < high_px else 0.0


def whole_liquidity(liquidity: int, decimals0: int, decimals1: int) -> float:
    """Return L in whole units from L in smallest ones: whichever token is base, it is the root of their product."""
    return liquidity / power(10.0, (decimals0 + decimals1) / 2)


def px_of(sqrt_price_x96: int, decimals0: int, decimals1: int, *, is_base_token0: bool) -> float:
    """Return the price in whole quote per whole base of a pool's square-root price."""
    root = sqrt_price_x96 / Q96
    px = root * root * 10.0 ** (decimals0 - decimals1)
    return px if is_base_token0 else 1.0 / px


def px_range(
    low_tick: int, high_tick: int, decimals0: int, decimals1: int, *, is_base_token0: bool
) -> tuple[float, float]:
    """Return the lower and upper price of a range of ticks, in whole quote per whole base."""
    low, high = (
        px_of(sqrt_price_x96_at(tick), decimals0, decimals1, is_base_token0=is_base_token0)
        for tick in (low_tick, high_tick)
    )
    return (low, high) if is_base_token0 else (high, low)


def amounts_held(
    sqrt_price_x96: int, low_tick: int, high_tick: int, liquidity: int, *, is_up: bool = False
) -> tuple[int, int]:
    """Return token0 and token1 of a position at a price: what burning it gives, or (`is_up`) what minting it takes."""
    low, high = sqrt_price_x96_at(low_tick), sqrt_price_x96_at(high_tick)
    price = min(max(sqrt_price_x96, low), high)
    return (
        amount0_between(price, high, liquidity, is_up=is_up) if price < high else 0,
        amount1_between(low, price, liquidity, is_up=is_up) if low < price else 0,
    )


def fee_growth_inside(
    tick: int, low_tick: int, high_tick: int, growth: int, outside_low: int, outside_high: int
) -> int:
    """Return the fees of one token per unit of liquidity ever earned inside a range, times 2^128.

    `tick` and `growth` are the pool's, the other two those of the range's ticks, which count from whenever a tick was
    initialised: only differences mean something, and they are taken modulo 2^256 as the contracts do.
    """
    below = outside_low if tick >= low_tick else growth - outside_low
    above = outside_high if tick < high_tick else growth - outside_high
    return (growth - below - above) % _UINT256


def fees_owed(liquidity: int, inside: int, inside_before: int, owed_before: int = 0) -> int:
    """Return what a position can collect of one token: what was owed, and what its liquidity earned since."""
    earned = ((inside - inside_before) % _UINT256 * liquidity >> 128) % _UINT128
    return (owed_before + earned) % _UINT128
