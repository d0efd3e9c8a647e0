"""Liquidity, tokens and debts as a function of the price, against reference figures and finite differences."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.chain import LpPosition
from bot.engine.chain_legs import ChainLegs

LP = LpPosition("1", "ETH", 1e4, 2500.0, 3600.0, 0.0, 0.0)
LEGS = ChainLegs((LP,))
BELOW_PX, INSIDE_PX, ABOVE_PX = 2000.0, 3000.0, 4000.0


def test_the_reference_position() -> None:
    assert LEGS.delta_base(3000.0) == pytest.approx(15.9075, abs=5e-5)
    assert LEGS.gamma(3000.0) == pytest.approx(-3.0429e-2, abs=5e-7)
    # 15.9075 ETH and L(√3000 − √2500) of money
    assert LEGS.value_quote(3000.0) == pytest.approx(15.9075 * 3000.0 + 47_722.56, abs=0.2)


def test_below_the_range_it_is_all_coin_and_above_it_all_money() -> None:
    coins = 1e4 * (1 / 50.0 - 1 / 60.0)
    assert (LEGS.delta_base(BELOW_PX), LEGS.gamma(BELOW_PX)) == (pytest.approx(coins), 0.0)
    assert LEGS.value_quote(BELOW_PX) == pytest.approx(coins * BELOW_PX)
    assert (LEGS.delta_base(ABOVE_PX), LEGS.gamma(ABOVE_PX)) == (0.0, 0.0)
    assert LEGS.value_quote(ABOVE_PX) == pytest.approx(1e4 * 10.0)


@given(px=st.floats(1500.0, 5000.0), owed=st.floats(0.0, 5.0), qty=st.floats(-30.0, 30.0))
def test_delta_and_gamma_are_the_slopes_of_the_value(px: float, owed: float, qty: float) -> None:
    lps = (msgspec.structs.replace(LP, owed_base=owed), LpPosition("2", "ETH", 3e3, 2900.0, 3100.0, 0.0, 7.0))
    legs = ChainLegs(lps, qty, 0.0, 100.0)
    step = px * 1e-5
    near_an_edge = any(abs(px - edge) <= 2 * step for lp in lps for edge in (lp.low_px, lp.high_px))
    slope = (legs.value_quote(px + step) - legs.value_quote(px - step)) / (2 * step)
    # at an edge the delta bends within the step: it is off by up to half of what gamma makes of one
    assert legs.delta_base(px) == pytest.approx(slope, rel=1e-5, abs=1e-2 if near_an_edge else 1e-4)
    if not near_an_edge:
        bend = (legs.delta_base(px + step) - legs.delta_base(px - step)) / (2 * step)
        assert legs.gamma(px) == pytest.approx(bend, rel=1e-4, abs=1e-9)


def test_delta_is_continuous_where_the_range_ends() -> None:
    for edge in (LP.low_px, LP.high_px):
        assert LEGS.delta_base(edge * (1 - 1e-12)) == pytest.approx(LEGS.delta_base(edge * (1 + 1e-12)), abs=1e-6)


def test_what_is_charged_is_not_counted_on_but_moves_in_full() -> None:
    staked = ChainLegs((), 10.0, 0.5, 0.0)
    assert staked.value_quote(2000.0) == 19_000.0
    assert staked.delta_base(2000.0) == 10.0
    debt = ChainLegs((), -10.0, 0.5, 30_000.0)
    assert debt.value_quote(2000.0) == 30_000.0 - 21_000.0
    assert debt.delta_base(2000.0) == -10.0


def test_before_there_is_a_price_only_money_counts() -> None:
    legs = ChainLegs((LP,), 3.0, 0.0, 50.0)
    assert (legs.value_quote(0.0), legs.delta_base(0.0), legs.gamma(0.0)) == (50.0, 3.0, 0.0)


@given(start_px=st.floats(2600.0, 3500.0), move=st.floats(-0.02, 0.02))
def test_a_move_inside_the_range_is_explained_to_third_order(start_px: float, move: float) -> None:
    legs = ChainLegs((msgspec.structs.replace(LP, owed_base=1.0),), -4.0, 0.2, 10.0)
    px = min(3599.0, max(2501.0, start_px * (1.0 + move)))
    moves = legs.explain(start_px, px)
    change = legs.value_quote(px) - legs.value_quote(start_px)
    assert moves.delta + moves.gamma + moves.rest == pytest.approx(change, abs=1e-6)
    third = 0.5 * 1e4 * 0.5 * abs(px - start_px) ** 3 / min(px, start_px) ** 2.5
    assert abs(moves.rest) <= third + 1e-7
