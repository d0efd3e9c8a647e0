from __future__ import annotations

from math import inf, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pricing.costs import (
    CostCurve,
    impact_root,
    order_book_curve,
    pool_curve,
    spread_curve,
    with_carry,
)
from bot.pricing.tick_math import Q96
from bot.pricing.uniswap_v3 import Leg, PoolState, swap_in, swap_out

PX = 60_000.0
LEVELS = [(60_001.0, 0.4), (60_004.0, 0.8), (60_009.0, 1.1), (60_015.0, 2.0)]


def pool_state(liquidity: int, sqrt_price_x96: int, fee_pips: int, tick: int) -> PoolState:
    """Return a pool of one endless range."""
    return PoolState(sqrt_price_x96, tick, liquidity, fee_pips, 10, (), (), -4000, 4000)


def curves() -> list[CostCurve]:
    root = impact_root(PX, 0.8, 0.03, 12_000.0)
    return [
        order_book_curve(PX, LEVELS, 3e-4, is_buy=True),
        order_book_curve(PX, [(2 * PX - px, size) for px, size in LEVELS], 3e-4, is_buy=False, root_coefficient=root),
        spread_curve(PX, 1e-4, 2e-4, root_coefficient=root, fixed_quote=1.0),
        pool_curve(PX, 12.0, 5e-4, is_buy=True, gas_quote=6.0),
        pool_curve(PX, 12.0, 5e-4, is_buy=False, gas_quote=6.0),
        with_carry(
            pool_curve(PX, 12.0, 5e-4, is_buy=False), PX, 5.0, is_buy=False, borrow_rate_per_year=0.1, held_base=1.5
        ),
        CostCurve(depth_base=9.0, depth_px=PX, root_coefficient=root, steps=((1.0, 0.0), (2.0, 40.0)), max_base=5.0),
    ]


def test_the_walk_of_a_book_is_summed_level_by_level() -> None:
    buy = order_book_curve(PX, LEVELS, 3e-4, is_buy=True)
    by_hand = sum(size * (px * 1.0003 - PX) for px, size in [(60_001.0, 0.4), (60_004.0, 0.8), (60_009.0, 0.3)])
    assert buy.cost_quote(1.5) == pytest.approx(by_hand, rel=1e-12)
    assert buy.max_base == pytest.approx(4.3)
    assert buy.cost_quote(4.4) == inf
    sell = order_book_curve(PX, [(59_999.0, 0.4), (59_990.0, 1.0)], 3e-4, is_buy=False)
    assert sell.cost_quote(1.0) == pytest.approx(0.4 * (PX - 59_999 * 0.9997) + 0.6 * (PX - 59_990 * 0.9997), rel=1e-12)
    endless = order_book_curve(PX, LEVELS, 3e-4, is_buy=True, is_endless=True)
    assert endless.cost_quote(10.0) - endless.cost_quote(9.0) == pytest.approx(60_015 * 1.0003 - PX)
    assert order_book_curve(PX, [], 3e-4, is_buy=True, is_endless=True).cost_quote(0.1) == inf


def test_levels_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="expected prices from the best one on"):
        order_book_curve(PX, [(60_004.0, 1.0), (60_001.0, 1.0)], 0.0, is_buy=True)


@pytest.mark.parametrize("curve", curves())
@given(qty_base=st.floats(0.01, 4.0))
def test_marginal_is_the_slope_of_the_cost_and_never_falls(curve: CostCurve, qty_base: float) -> None:
    h = 1e-6
    slope = (curve.cost_quote(qty_base + h) - curve.cost_quote(qty_base)) / h
    assert curve.marginal_quote(qty_base) - 0.01 <= slope <= curve.marginal_quote(qty_base + h) + 0.01
    assert curve.marginal_quote(qty_base + 0.1) >= curve.marginal_quote(qty_base)


@pytest.mark.parametrize("curve", curves())
@given(marginal_quote=st.floats(-50.0, 400.0))
def test_size_at_is_the_inverse_of_marginal(curve: CostCurve, marginal_quote: float) -> None:
    size_base = curve.size_at(marginal_quote)
    if size_base > 0.0:
        assert curve.marginal_quote(size_base * (1 - 1e-9)) <= marginal_quote + 1e-6
    if size_base < curve.max_base:
        assert curve.marginal_quote(size_base * (1 + 1e-9) + 1e-12) >= marginal_quote - 1e-6


def test_the_pool_matches_the_golden_swap_of_the_uniswap_v3_book() -> None:
    """42 USDC into a pool without fee; the price is USDC per ETH, of 18 decimals both in the book."""
    root = 5602277097478614198912276234240 / Q96
    liquidity = 1517882343751509868544 / 1e18
    curve = pool_curve(root * root, liquidity / root, 0.0, is_buy=True)
    bought = 0.008396714242162444
    assert root * root * bought + curve.cost_quote(bought) == pytest.approx(42.0, rel=1e-12)


@pytest.mark.parametrize("fee_pips", [0, 500, 3000])
@pytest.mark.parametrize("size_share", [1e-4, 0.02, 0.3])
def test_the_pool_is_what_the_contract_pays(fee_pips: int, size_share: float) -> None:
    root, liquidity = 40.0, 10**24
    state = pool_state(liquidity, int(root * Q96), fee_pips, 73781)
    depth = liquidity / root
    size = int(depth * size_share)
    paid = swap_out([Leg(state, False)], size).amount_in
    buy = pool_curve(root * root, depth, fee_pips / 1e6, is_buy=True)
    assert root * root * size + buy.cost_quote(size) == pytest.approx(paid, rel=1e-12)
    got = swap_in([Leg(state, True)], size).amount_out
    sell = pool_curve(root * root, depth, fee_pips / 1e6, is_buy=False)
    assert root * root * size - sell.cost_quote(size) == pytest.approx(got, rel=1e-12)


def test_a_small_swap_keeps_its_digits() -> None:
    """1e-9 of the reserve: the naive L(1/s − 1/s') has lost half of its digits there."""
    curve = pool_curve(2500.0, 1e6, 0.0, is_buy=True)
    assert curve.cost_quote(1e-3) == pytest.approx(2500.0 * 1e-3 * 1e-9 / (1 - 1e-9), rel=1e-12)
    assert curve.size_at(curve.marginal_quote(1e-3)) == pytest.approx(1e-3, rel=1e-6)


def test_no_more_than_the_reserve_can_be_bought() -> None:
    curve = pool_curve(PX, 12.0, 5e-4, is_buy=True)
    assert curve.cost_quote(12.0) == inf
    assert curve.marginal_quote(12.5) == inf
    assert pool_curve(PX, inf, 5e-4, is_buy=True).marginal_quote(50.0) == pytest.approx(PX * 5e-4, rel=1e-3)


def test_impact_is_stated_by_its_peak_and_the_average_is_two_thirds_of_it() -> None:
    root = impact_root(PX, 0.8, 0.03, 12_000.0)
    curve = spread_curve(PX, 0.0, 0.0, root_coefficient=root)
    peak = PX * 0.8 * 0.03 * sqrt(3.0 / 12_000.0)
    assert curve.marginal_quote(3.0) == pytest.approx(peak, rel=1e-12)
    assert curve.cost_quote(3.0) / 3.0 == pytest.approx(2.0 / 3.0 * peak, rel=1e-12)
    with pytest.raises(ValueError, match="daily_volume_base: expected more than 0"):
        impact_root(PX, 0.8, 0.03, 0.0)


def test_a_long_pays_positive_funding_and_a_short_receives_it() -> None:
    plain = spread_curve(PX, 1e-4, 5e-4)
    buy, sell = (with_carry(plain, PX, 4.0, is_buy=is_buy, funding_rate_per_day=3e-4) for is_buy in (True, False))
    assert buy.cost_quote(2.0) - plain.cost_quote(2.0) == pytest.approx(2.0 * PX * 12e-4)
    assert sell.cost_quote(2.0) - plain.cost_quote(2.0) == pytest.approx(-2.0 * PX * 12e-4)


def test_the_basis_closes_until_expiry_and_no_further() -> None:
    plain = spread_curve(PX, 0.0, 0.0)
    half = with_carry(plain, PX, 15.0, is_buy=True, basis_px=90.0, expiry_days=30.0)
    whole = with_carry(plain, PX, 60.0, is_buy=True, basis_px=90.0, expiry_days=30.0)
    short = with_carry(plain, PX, 60.0, is_buy=False, basis_px=90.0, expiry_days=30.0)
    assert (half.cost_quote(1.0), whole.cost_quote(1.0), short.cost_quote(1.0)) == pytest.approx((45.0, 90.0, -90.0))
    assert with_carry(plain, PX, 5.0, is_buy=True, basis_px=90.0).cost_quote(1.0) == 0.0


@pytest.mark.parametrize(
    ("is_buy", "held_base", "borrowed_base"),
    [(False, 0.0, 2.0), (False, 1.5, 0.5), (False, 9.0, 0.0), (False, -1.0, 2.0),
     (True, 0.0, 0.0), (True, -0.5, -0.5), (True, -9.0, -2.0), (True, 3.0, 0.0)],
)  # fmt: skip
def test_only_what_is_short_is_borrowed(is_buy: bool, held_base: float, borrowed_base: float) -> None:
    levels = [(2 * PX - px, size) for px, size in LEVELS] if not is_buy else LEVELS
    for plain in (order_book_curve(PX, levels, 0.0, is_buy=is_buy), spread_curve(PX, 1e-4, 0.0)):
        loaned = with_carry(plain, PX, 3.65, is_buy=is_buy, borrow_rate_per_year=0.1, held_base=held_base)
        assert loaned.cost_quote(2.0) - plain.cost_quote(2.0) == pytest.approx(borrowed_base * PX * 0.001, abs=1e-9)
        extras = [extra for _, extra in loaned.steps]
        assert extras == sorted(extras)


def test_buying_nothing_costs_nothing_not_even_gas() -> None:
    assert pool_curve(PX, 12.0, 5e-4, is_buy=True, gas_quote=6.0).cost_quote(0.0) == 0.0
