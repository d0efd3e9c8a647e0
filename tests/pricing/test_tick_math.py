"""Ticks and square-root prices: what the contracts publish about them, the real number beside them, and there and back.

That they agree with the deployed contract is shown in test_uniswap_chain.py.
"""

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pricing.tick_math import (
    MAX_SQRT_PRICE_X96,
    MAX_TICK,
    MIN_SQRT_PRICE_X96,
    MIN_TICK,
    Q96,
    sqrt_price_x96_at,
    tick_at,
)

ticks = st.integers(MIN_TICK, MAX_TICK)


def test_the_ends_are_those_of_the_contracts() -> None:
    assert MIN_SQRT_PRICE_X96 == 4295128739
    assert MAX_SQRT_PRICE_X96 == 1461446703485210103287273052203988822378723970342
    assert sqrt_price_x96_at(0) == Q96


@given(ticks)
def test_it_is_the_root_of_the_power(tick: int) -> None:
    with mpmath.workdps(60):
        exact = mpmath.sqrt(mpmath.mpf("1.0001") ** tick) * Q96
        # Forty roundings of the 128 places at most, on a product that is the smaller the further the tick is.
        product = mpmath.mpf("1.0001") ** (-abs(tick) / mpmath.mpf(2)) * mpmath.mpf(2) ** 128
        assert abs(sqrt_price_x96_at(tick) - exact) < 1 + exact * 40 / product


@given(st.integers(MIN_TICK, MAX_TICK - 1))
def test_there_and_back(tick: int) -> None:
    begins, ends = sqrt_price_x96_at(tick), sqrt_price_x96_at(tick + 1)
    assert begins < ends
    assert tick_at(begins) == tick
    assert tick_at(ends - 1) == tick
    assert tick_at((begins + ends) // 2) == tick


@pytest.mark.parametrize("tick", [MIN_TICK - 1, MAX_TICK + 1])
def test_there_is_no_tick_beyond_the_ends(tick: int) -> None:
    with pytest.raises(ValueError, match=f"found {tick}"):
        sqrt_price_x96_at(tick)


@pytest.mark.parametrize("price", [MIN_SQRT_PRICE_X96 - 1, MAX_SQRT_PRICE_X96])
def test_there_is_no_price_beyond_the_ends(price: int) -> None:
    with pytest.raises(ValueError, match=f"found {price}"):
        tick_at(price)


def test_the_last_prices_have_ticks() -> None:
    assert tick_at(MIN_SQRT_PRICE_X96) == MIN_TICK
    assert tick_at(MAX_SQRT_PRICE_X96 - 1) == MAX_TICK - 1
