"""A simulated account: what it is worth, when it is liquidated and by how much, and what a venue in trouble refuses."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest

from bot.pricing.black76 import greeks
from bot.risk.book import OPTION, PERPETUAL, SPOT, Position, build_book
from bot.risk.distances import linear_liquidation_px
from bot.simulation.margin_account import LiquidationRule, MarginAccount, Trouble
from tests.risk.legs import values_of

CROSS = values_of("paradex_cross-2026-11-26")
PORTFOLIO = values_of("paradex_portfolio-2026-11-26")
MMF = 0.01 + CROSS["fee_rate"]  # half of the initial 2 %, and the provision of a fee


def perp(qty: float, equity: float, *more: Position, **rule: Any) -> MarginAccount:
    book = build_book([Position(kind=PERPETUAL, underlying="BTC", qty_base=qty), *more], {"BTC": 60_000.0})
    return MarginAccount(book, equity, "paradex_cross", CROSS, LiquidationRule(**rule))


def test_it_is_liquidated_at_the_price_of_the_closed_form() -> None:
    exact = linear_liquidation_px(50_000.0, -10.0, 60_000.0, MMF)
    account = perp(-10.0, 50_000.0)
    assert account.mark(exact / 60_000.0 - 1.0 - 1e-9) is None
    assert account.utilisation_ratio == pytest.approx(1.0, abs=1e-5)
    found = account.mark(2e-9)
    assert found is not None
    assert account.liquidations == [found]


def test_only_as_much_is_closed_as_is_needed_and_its_fee_is_paid() -> None:
    account = perp(-10.0, 50_000.0)
    found = account.mark(linear_liquidation_px(50_000.0, -10.0, 60_000.0, MMF) / 60_000.0 - 1.0 + 1e-9)
    assert found is not None
    px = account.book.mark_px[0]
    assert 0.2 <= found.share < 1.0
    assert account.book.qty_base[0] == pytest.approx(-10.0 * (1.0 - found.share))
    assert found.fee_quote == pytest.approx(0.005 * 10.0 * found.share * px)
    assert account.equity_quote == pytest.approx(50_000.0 - 10.0 * (px - 60_000.0) - found.fee_quote)
    assert account.utilisation_ratio <= 0.9
    less = (found.share - 0.05) * 10.0  # one step less would not have been enough
    left = 50_000.0 - 10.0 * (px - 60_000.0) - 0.005 * less * px
    assert found.share == pytest.approx(0.2) or (10.0 - less) * px * MMF / left > 0.9


def test_a_jump_through_everything_leaves_a_shortfall_and_no_position() -> None:
    account = perp(-10.0, 20_000.0)
    found = account.mark(0.10)
    assert found is not None
    assert (found.share, found.utilisation_ratio) == (1.0, inf)
    assert found.shortfall_quote == pytest.approx(40_000.0 + found.fee_quote)
    assert (account.equity_quote, account.book.qty_base.tolist()) == (0.0, [0.0])
    assert account.mark(0.5) is None


def test_a_venue_with_another_limit_liquidates_earlier() -> None:
    assert perp(-10.0, 6_700.0).look() is None
    assert perp(-10.0, 6_700.0, liquidation_ratio=0.9).look() is not None


def test_coins_are_worth_what_the_haircut_leaves_of_them_and_are_not_closed() -> None:
    book = build_book(
        [
            Position(kind=PERPETUAL, underlying="BTC", qty_base=-1.0),
            Position(kind=SPOT, underlying="BTC", qty_base=1.0),
        ],
        {"BTC": 60_000.0},
    )
    account = MarginAccount(book, 48_000.0, "paradex_cross", CROSS, haircut_fraction=0.2)
    account.mark(-0.5)
    assert account.equity_quote == pytest.approx(48_000.0 + 30_000.0 - 0.8 * 30_000.0)
    account.equity_quote = 100.0
    account.look()
    assert account.book.qty_base[1] == 1.0


class TestOptions:
    def test_moves_vols_and_time_count_as_black_76_says(self) -> None:
        put = Position(kind=OPTION, underlying="BTC", qty_base=-2.0, strike_px=60_000.0, tau_years=0.1, vol=0.6)
        account = MarginAccount(build_book([put], {"BTC": 60_000.0}), 90_000.0, "paradex_portfolio", PORTFOLIO)
        before = account.book.mark_px[0]
        account.mark(-0.03, vol_factor=1.2, years=0.02)
        after = greeks(58_200.0, 60_000.0, 0.08, 0.72, np.array(False)).value
        assert account.book.mark_px[0] == pytest.approx(float(after), rel=1e-9)
        assert account.equity_quote == pytest.approx(90_000.0 - 2.0 * (float(after) - before))
        assert account.book.tau_years[0] == pytest.approx(0.08)

    def test_at_expiry_the_intrinsic_value_is_left(self) -> None:
        call = Position(
            kind=OPTION, underlying="BTC", qty_base=-1.0, strike_px=50_000.0, tau_years=0.01, vol=0.6, is_call=True
        )
        account = MarginAccount(build_book([call], {"BTC": 60_000.0}), 90_000.0, "paradex_portfolio", PORTFOLIO)
        account.mark(0.0, years=0.5)
        assert account.book.mark_px[0] == pytest.approx(10_000.0)


class TestTrouble:
    def test_margin_raised_over_night_liquidates_at_the_next_look(self) -> None:
        account = perp(-10.0, 9_000.0)
        assert account.look() is None
        account.trouble = Trouble(margin_multiple=2.0)
        assert account.look() is not None

    def test_nothing_leaves_a_venue_that_halted_withdrawals_nor_what_initial_margin_needs(self) -> None:
        account = perp(-10.0, 20_000.0)
        account.trouble = Trouble(is_withdrawing_halted=True)
        assert account.withdraw(1_000.0) == 0.0
        account.trouble = Trouble()
        assert account.withdraw(1e9) == pytest.approx(20_000.0 - account.initial_quote)
        assert account.equity_quote == pytest.approx(account.initial_quote)
        assert account.withdraw(-5.0) == 0.0

    def test_what_is_not_credited_counts_only_later(self) -> None:
        account = perp(-10.0, 20_000.0)
        account.trouble = Trouble(is_crediting_halted=True)
        account.deposit(5_000.0)
        assert account.equity_quote == 20_000.0
        account.trouble = Trouble()
        account.thaw()
        account.thaw()
        assert account.equity_quote == 25_000.0


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="expected parameters"):
        MarginAccount(build_book([], {"BTC": 1.0}), 0.0, "paradex_cross", {})
