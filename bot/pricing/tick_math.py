"""Ticks and square-root prices of Uniswap v3, to the bit as the contracts have them.

Tick i stands for the price 1.0001^i of token0 in token1, both in smallest units. A pool keeps the square root of its
price in 96 binary places ("X96"), and that of a tick is the contracts' own product of rounded powers, not the nearest
number: everything here is whole numbers with their rounding. This module must never know decimals or tokens.

Source: Uniswap v3 Core whitepaper (Adams et al. 2021), section 6.1, and the rounding of the deployed TickMath: powers
1.0001^(-2^i/2) rounded to 128 places, multiplied and cut one by one, turned over for ticks above 0, and rounded up at
the end. The powers are derived, not copied: repeated squaring of one root in 600 binary places.
"""

from functools import lru_cache
from math import floor, isqrt, log

MIN_TICK = -887272
MAX_TICK = 887272
Q96 = 1 << 96
_PLACES = 600
_LOG_OF_TICK = log(1.0001) / 2.0


def _powers() -> tuple[int, ...]:
    """Return 1.0001^(-2^i/2) in 128 binary places for every bit i of a tick."""
    power = isqrt((10_000 << (2 * _PLACES)) // 10_001)
    found = []
    for _ in range(MAX_TICK.bit_length()):
        found.append((power + (1 << (_PLACES - 129))) >> (_PLACES - 128))
        power = power * power >> _PLACES
    return tuple(found)


_POWERS = _powers()


@lru_cache(maxsize=16384)
def sqrt_price_x96_at(tick: int) -> int:
    """Return the square-root price at which `tick` begins. Raises ValueError beyond MIN_TICK and MAX_TICK."""
    if not MIN_TICK <= tick <= MAX_TICK:
        raise ValueError(f"expected a tick from {MIN_TICK} to {MAX_TICK}, found {tick}")
    steps = abs(tick)
    ratio = 1 << 128
    for bit, power in enumerate(_POWERS):
        if steps >> bit & 1:
            ratio = ratio * power >> 128
    if tick > 0:
        ratio = ((1 << 256) - 1) // ratio
    return -(-ratio >> 32)


MIN_SQRT_PRICE_X96 = sqrt_price_x96_at(MIN_TICK)
MAX_SQRT_PRICE_X96 = sqrt_price_x96_at(MAX_TICK)


def tick_at(sqrt_price_x96: int) -> int:
    """Return the highest tick that begins at or below a square-root price. Raises ValueError where no pool can be."""
    if not MIN_SQRT_PRICE_X96 <= sqrt_price_x96 < MAX_SQRT_PRICE_X96:
        raise ValueError(
            f"expected a square-root price from {MIN_SQRT_PRICE_X96} to below {MAX_SQRT_PRICE_X96}, "
            f"found {sqrt_price_x96}"
        )
    tick = min(max(floor((log(sqrt_price_x96) - log(Q96)) / _LOG_OF_TICK), MIN_TICK), MAX_TICK - 1)
    while sqrt_price_x96_at(tick) > sqrt_price_x96:  # the logarithm is right to a tick, the powers decide
        tick -= 1
    while sqrt_price_x96_at(tick + 1) <= sqrt_price_x96:
        tick += 1
    return tick
