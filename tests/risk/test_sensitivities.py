"""Greeks of a book against what it gains when the market is moved a little."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.book import OPTION, PERPETUAL, SPOT, Position, build_book
from bot.risk.sensitivities import sensitivities

STRADDLE = [
    Position(kind=OPTION, underlying="ETH", qty_base=-5.0, strike_px=2_000.0, tau_years=0.1, vol=0.7, is_call=call)
    for call in (True, False)
]


def value(move: float = 0.0, vol: float = 0.0, days: float = 0.0) -> float:
    """Return what the straddle is worth in a market moved by so much."""
    positions = [
        Position(
            kind=OPTION, underlying="ETH", qty_base=-5.0, strike_px=2_000.0, tau_years=0.1 - days / 365, vol=0.7 + vol,
            is_call=one.is_call,
        )
        for one in STRADDLE
    ]  # fmt: skip
    book = build_book(positions, {"ETH": 2_100.0 * (1.0 + move)})
    return float((book.qty_base * book.mark_px).sum())


def test_greeks_are_what_small_moves_cost() -> None:
    found = sensitivities(build_book(STRADDLE, {"ETH": 2_100.0}))
    assert found.delta_quote == pytest.approx((value(1e-4) - value(-1e-4)) / 2e-4, rel=1e-5)
    assert found.delta_base == pytest.approx(found.delta_quote / 2_100.0)
    curvature = (value(1e-3) - 2 * value() + value(-1e-3)) / 1e-6
    assert found.gamma_quote == pytest.approx(curvature * 0.01, rel=1e-3)
    assert found.vega_quote == pytest.approx((value(vol=1e-4) - value(vol=-1e-4)) / 2e-2, rel=1e-5)
    assert found.theta_quote == pytest.approx(value(days=0.01) / 0.01 - value() / 0.01, rel=1e-2)
    assert found.delta_base < 0.0 < found.theta_quote  # a sold straddle above its strike
    assert found.gamma_quote < 0.0 > found.vega_quote


def test_what_is_linear_is_delta_alone() -> None:
    positions = [
        Position(kind=PERPETUAL, underlying="ETH", qty_base=-3.0, mark_px=2_010.0),
        Position(kind=SPOT, underlying="ETH", qty_base=1.0),
    ]
    found = sensitivities(build_book(positions, {"ETH": 2_000.0}))
    assert (found.delta_base, found.delta_quote) == (-2.0, -3.0 * 2_010.0 + 2_000.0)
    assert (found.gamma_quote, found.vega_quote, found.theta_quote) == (0.0, 0.0, 0.0)


def test_a_wrapped_coin_counts_as_what_it_is_worth() -> None:
    wrapped = Position(kind=SPOT, underlying="ETH", qty_base=2.0, instrument_id="wstETH", mark_px=2_500.0)
    assert sensitivities(build_book([wrapped], {"ETH": 2_000.0})).delta_base == pytest.approx(2.5)


def test_an_option_at_expiry_and_at_its_strike_has_finite_greeks() -> None:
    pinned = Position(
        kind=OPTION, underlying="ETH", qty_base=1.0, strike_px=2_000.0, tau_years=0.0, vol=0.5, is_call=True
    )
    found = sensitivities(build_book([pinned], {"ETH": 2_000.0}))
    assert np.isfinite(found.gamma_quote)
