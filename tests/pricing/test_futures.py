"""Futures and perpetuals: signs and sizes, the slopes, and an inverse contract beside the linear one it equals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pricing.futures import (
    inverse_delta_base,
    inverse_gamma_settle,
    inverse_profit_settle,
    linear_profit_quote,
)

pxs = st.floats(1.0, 100_000.0)
moves = st.floats(0.5, 2.0)
amounts = st.floats(-1e6, 1e6).filter(lambda contracts: abs(contracts) > 1e-3)


def test_a_linear_contract() -> None:
    assert linear_profit_quote(-30.0, 0.1, 1900.0, 2000.0) == pytest.approx(-300.0)


def test_an_inverse_contract() -> None:
    # Long 6,000 contracts of 10 USD from 60,000 to 75,000: a whole coin becomes 0.8 coins' worth, 0.2 coins earned.
    assert inverse_profit_settle(6000.0, 10.0, 60_000.0, 75_000.0) == pytest.approx(0.2)
    assert inverse_delta_base(6000.0, 10.0, 75_000.0) == pytest.approx(0.8)
    assert inverse_gamma_settle(6000.0, 10.0, 60_000.0) == pytest.approx(-2.0 / 60_000.0**2)


def test_arrays_go_through_as_numbers_do() -> None:
    contracts, entry_px, px = np.array([10.0, -20.0]), np.array([1900.0, 2000.0]), np.array([2000.0, 1900.0])
    for several, one in (
        (linear_profit_quote(contracts, 0.1, entry_px, px), lambda n, e, p: linear_profit_quote(n, 0.1, e, p)),
        (inverse_profit_settle(contracts, 10.0, entry_px, px), lambda n, e, p: inverse_profit_settle(n, 10.0, e, p)),
        (inverse_delta_base(contracts, 10.0, px), lambda n, _e, p: inverse_delta_base(n, 10.0, p)),
        (inverse_gamma_settle(contracts, 10.0, px), lambda n, _e, p: inverse_gamma_settle(n, 10.0, p)),
    ):
        expected = [one(*row) for row in zip(contracts.tolist(), entry_px.tolist(), px.tolist(), strict=True)]
        assert several == pytest.approx(expected, rel=1e-14)


@given(contracts=amounts, entry_px=pxs, move=moves)
def test_inverse_coins_at_the_new_price_are_the_linear_profit_of_the_coins_at_entry(
    contracts: float, entry_px: float, move: float
) -> None:
    px = entry_px * move
    in_quote = px * inverse_profit_settle(contracts, 10.0, entry_px, px)
    coins_at_entry = inverse_delta_base(contracts, 10.0, entry_px)
    assert in_quote == pytest.approx(linear_profit_quote(coins_at_entry, 1.0, entry_px, px), rel=1e-12)


@given(contracts=amounts, entry_px=pxs, move=moves)
def test_inverse_delta_and_gamma_are_the_slopes_of_the_coins(contracts: float, entry_px: float, move: float) -> None:
    px = entry_px * move
    step = 1e-4 * px
    down, middle, up = (inverse_profit_settle(contracts, 10.0, entry_px, at) for at in (px - step, px, px + step))
    assert px * (up - down) / (2.0 * step) == pytest.approx(inverse_delta_base(contracts, 10.0, px), rel=1e-7)
    bend = (up - 2.0 * middle + down) / step**2
    assert bend == pytest.approx(inverse_gamma_settle(contracts, 10.0, px), rel=1e-5)


@given(contracts=amounts, entry_px=pxs, move=moves)
def test_in_quote_money_the_delta_is_the_contract_and_the_coins_it_has_earned(
    contracts: float, entry_px: float, move: float
) -> None:
    px = entry_px * move
    step = 1e-3 * px
    up, down = (at * inverse_profit_settle(contracts, 10.0, entry_px, at) for at in (px + step, px - step))
    with_coins = inverse_delta_base(contracts, 10.0, px) + inverse_profit_settle(contracts, 10.0, entry_px, px)
    assert (up - down) / (2.0 * step) == pytest.approx(with_coins, rel=1e-9)


@given(contracts=amounts, entry_px=pxs)
def test_a_small_move_loses_no_digits(contracts: float, entry_px: float) -> None:
    px = np.nextafter(entry_px, np.inf).item()
    earned = inverse_profit_settle(contracts, 10.0, entry_px, px)
    assert earned == pytest.approx(contracts * 10.0 * (px - entry_px) / entry_px**2, rel=1e-12)
