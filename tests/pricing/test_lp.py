"""Liquidity positions: worked figures, slopes against differences, both token orders, and fees that wrap around.

What the deployed contracts pay for them is in test_uniswap_chain.py and, from a recorded
day, in test_uniswap_day.py.
"""

from __future__ import annotations

from itertools import pairwise

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pricing.lp import (
    amounts_held,
    delta_base,
    fee_growth_inside,
    fees_owed,
    gamma_base_per_px,
    held_quote,
    px_of,
    px_range,
    value_quote,
    whole_liquidity,
)
from bot.pricing.tick_math import Q96, sqrt_price_x96_at

lows = st.floats(0.01, 50_000.0)
widths = st.floats(1.0001, 4.0)
places = st.floats(-0.5, 1.5)  # where in the range the price is, 0 and 1 being the ends


def test_worked_figures() -> None:
    # L = 10,000 from 2,500 to 3,600, at 3,000.
    assert delta_base(1e4, 2500.0, 3600.0, 3000.0) == pytest.approx(15.9075, abs=5e-5)
    assert gamma_base_per_px(1e4, 2500.0, 3600.0, 3000.0) == pytest.approx(-3.0429e-2, abs=5e-7)


@given(lows, widths, places)
def test_closed_form_against_many_digits(low_px: float, width: float, place: float) -> None:
    high_px = low_px * width
    px = low_px + place * (high_px - low_px)
    with mpmath.workdps(40):
        P, a, b = (mpmath.mpf(one) for one in (px, low_px, high_px))
        root = mpmath.sqrt
        if a > P:
            value, delta = P * (1 / root(a) - 1 / root(b)), 1 / root(a) - 1 / root(b)
        elif b < P:
            value, delta = root(b) - root(a), mpmath.mpf(0)
        else:
            value, delta = 2 * root(P) - P / root(b) - root(a), 1 / root(P) - 1 / root(b)
    assert value_quote(2.0, low_px, high_px, px) == pytest.approx(float(2 * value), rel=1e-11)
    assert delta_base(2.0, low_px, high_px, px) == pytest.approx(float(2 * delta), rel=1e-11)


@given(lows, widths, st.floats(0.01, 0.99))
def test_delta_and_gamma_are_the_slopes(low_px: float, width: float, place: float) -> None:
    high_px = low_px * width
    px = low_px + place * (high_px - low_px)
    with mpmath.workdps(40):
        value = lambda P: 2 * mpmath.sqrt(P) - P / mpmath.sqrt(high_px) - mpmath.sqrt(low_px)  # noqa: E731
        slope, bend = mpmath.diff(value, px), mpmath.diff(value, px, 2)
    assert delta_base(1.0, low_px, high_px, px) == pytest.approx(float(slope), rel=1e-9)
    assert gamma_base_per_px(1.0, low_px, high_px, px) == pytest.approx(float(bend), rel=1e-9)


def test_value_and_delta_have_no_jumps_and_the_ends_are_all_of_one() -> None:
    low, high = 2500.0, 3600.0
    for end in (low, high):
        for what in (value_quote, delta_base, held_quote):
            before, after = (what(1e4, low, high, end * factor) for factor in (1 - 1e-9, 1 + 1e-9))
            assert before == pytest.approx(after, rel=1e-6, abs=1e-3)
    assert held_quote(1e4, low, high, low) == 0.0
    assert delta_base(1e4, low, high, high) == 0.0
    assert [gamma_base_per_px(1e4, low, high, px) for px in (2000.0, low, high, 4000.0)] == [0.0] * 4
    assert delta_base(1e4, low, high, 2000.0) == delta_base(1e4, low, high, 1000.0) > 0.0
    assert value_quote(1e4, low, high, 4000.0) == value_quote(1e4, low, high, 5000.0)


@pytest.mark.parametrize("is_base_token0", [True, False])
def test_the_contracts_amounts_are_the_models(is_base_token0: bool) -> None:
    decimals = (18, 6) if is_base_token0 else (6, 18)
    middle = -196_000 if is_base_token0 else 196_000
    low_tick, high_tick, amount = middle - 600, middle + 1200, 10**17
    low_px, high_px = px_range(low_tick, high_tick, *decimals, is_base_token0=is_base_token0)
    assert low_px < high_px
    liquidity = whole_liquidity(amount, *decimals)
    for tick in range(middle - 1000, middle + 1600, 170):
        price = sqrt_price_x96_at(tick)
        px = px_of(price, *decimals, is_base_token0=is_base_token0)
        assert 2000.0 < px < 4000.0
        token0, token1 = amounts_held(price, low_tick, high_tick, amount)
        base, quote = (token0 / 1e18, token1 / 1e6) if is_base_token0 else (token1 / 1e18, token0 / 1e6)
        assert delta_base(liquidity, low_px, high_px, px) == pytest.approx(base, rel=1e-9, abs=1e-16)
        assert held_quote(liquidity, low_px, high_px, px) == pytest.approx(quote, rel=1e-7, abs=2e-6)
        taken = amounts_held(price, low_tick, high_tick, amount, is_up=True)
        assert all(0 <= more - less <= 2 for more, less in zip(taken, (token0, token1), strict=True))


def test_px_follows_the_token_order() -> None:
    assert px_of(Q96, 18, 6, is_base_token0=True) == pytest.approx(1e12)
    assert px_of(2 * Q96, 6, 18, is_base_token0=False) == pytest.approx(0.25e12)


def test_growth_inside_counts_only_what_was_earned_in_the_range() -> None:
    """A pool that earns 5, 7 and 11 below, inside and above a range, whose ticks were initialised before."""
    low, high, growth = 100, 200, 3
    outside = {low: 3, high: 0}  # at tick 150 all growth so far counts as below
    inside, tick = [], 150
    for where, earned in ((50, 5), (150, 7), (250, 11), (150, 13), (50, 17)):
        for end in (low, high):
            if (tick >= end) != (where >= end):  # crossing turns the outside round
                outside[end] = growth - outside[end]
        tick = where
        growth += earned
        inside.append(fee_growth_inside(tick, low, high, growth, outside[low], outside[high]))
    assert [(after - before) % (1 << 256) for before, after in pairwise(inside)] == [7, 0, 13, 0]


@given(st.integers(0, (1 << 256) - 1), st.integers(0, (1 << 140)), st.integers(1, (1 << 100)))
def test_growth_wraps_around(before: int, earned: int, liquidity: int) -> None:
    after = (before + earned) % (1 << 256)
    assert fees_owed(liquidity, after, before, 5) == (5 + (earned * liquidity >> 128)) % (1 << 128)
