"""Bybit: the arithmetic of deleveraging, its own grid read, and the local check."""

from __future__ import annotations

import math

import msgspec
import pytest

from bot.domain.risk import MarginGrid
from bot.risk.book import FUTURE, OPTION, PERPETUAL, SPOT, Position, build_book
from bot.risk.margin.bybit import BybitParameters, PoolState, deleveraging, from_grid, requirement
from tests.risk.margin.cases import expected, inputs, parameters

P: BybitParameters = parameters("bybit")


def test_the_first_example_of_deleveraging() -> None:
    given = inputs("bybit_adl_1")
    assert P.adl_pnl_ratio == given["insurancePnlRatio"]
    assert P.adl_stop_ratio == given["adlStopRatio"]
    assert P.adl_balance_threshold_quote == given["adlTriggerThreshold"]
    pool = PoolState(given["balance"], given["max_balance"], given["symbol_pnl"], given["symbol_max_pnl"])
    found = deleveraging(pool, P)
    assert int(found.is_triggered) == expected("bybit_adl_1", "adl")
    assert found.pnl_ratio == expected("bybit_adl_1", "pnlRatio")
    assert found.amount_quote == expected("bybit_adl_1", "adl_usd")
    assert found.most_amount_quote == pytest.approx(100_000.0)


def test_an_empty_pool_deleverages_and_one_that_tells_nothing_does_not() -> None:
    assert int(deleveraging(PoolState(inputs("bybit_adl_3")["balance"]), P).is_triggered) == expected(
        "bybit_adl_3", "adl"
    )
    assert deleveraging(PoolState(math.nan), P).is_triggered
    silent = deleveraging(PoolState(1e6), P)
    assert (silent.is_triggered, silent.reason) == (False, "the pool's P&L is not told")


@pytest.mark.parametrize(("pnl", "is_triggered"), [(-299_999.0, False), (-300_000.0, True)])
def test_the_trigger_itself_counts(pnl: float, is_triggered: bool) -> None:
    assert deleveraging(PoolState(1e6, 1e6, pnl, 0.0), P).is_triggered is is_triggered


def test_the_venues_own_grid_is_held_against_its_own_sum() -> None:
    found = from_grid(MarginGrid("BTC", (120.0, -80.0, -40.0), 7.5, 105.0, 87.5))
    assert (found.initial, found.maintenance) == pytest.approx((105.0, 87.5))
    assert found.charge("BTC grid").maintenance == 80.0
    assert from_grid(MarginGrid("BTC", (5.0,), 0.0, 0.0, 0.0)).maintenance == 0.0


def test_the_local_check_adds_contingencies_to_the_worst_of_the_grid() -> None:
    terms = P.underlyings["BTC"]
    spot = {"BTC": 60_000.0}
    book = build_book([Position(kind=PERPETUAL, underlying="BTC", qty_base=-2.0, money="USDT")], spot)
    found = requirement(book, P)
    assert found.worst == "+15%, vol down"
    assert found.maintenance == pytest.approx(120_000.0 * (0.15 + terms.future_rate))
    assert found.initial == pytest.approx(terms.initial_factor * found.maintenance)

    legs = [
        Position(kind=FUTURE, underlying="BTC", qty_base=1.0, money="USDT", tau_years=0.02),
        Position(kind=FUTURE, underlying="BTC", qty_base=-1.0, money="USDC", tau_years=0.03),
        Position(kind=SPOT, underlying="BTC", qty_base=-50.0),
    ]
    spread = requirement(build_book(legs, spot), P)
    assert spread.charge("BTC grid").maintenance == 0.0
    assert spread.charge("BTC stablecoin spread").maintenance == pytest.approx(60_000.0 * terms.stablecoin_spread_rate)
    assert spread.charge("BTC delta spread").maintenance == pytest.approx(60_000.0 * terms.basis_factor * 0.01)
    legs[1] = msgspec.structs.replace(legs[1], tau_years=3.0)
    far = requirement(build_book(legs, spot), P)
    assert far.charge("BTC delta spread").maintenance == pytest.approx(60_000.0 * terms.most_basis_rate)


def test_sold_options_are_netted_by_expiry_and_sort() -> None:
    def leg(qty: float, years: float, *, is_call: bool) -> Position:
        return Position(
            kind=OPTION, underlying="BTC", qty_base=qty, strike_px=6e4, tau_years=years, vol=0.5, is_call=is_call
        )

    legs = [leg(-3.0, 0.1, is_call=True), leg(1.0, 0.1, is_call=True), leg(5.0, 0.1, is_call=False)]
    found = requirement(build_book([*legs, leg(-1.0, 0.5, is_call=True)], {"BTC": 60_000.0}), P)
    rate = P.underlyings["BTC"].net_short_option_rate
    assert found.charge("BTC net short options").maintenance == pytest.approx(3.0 * 60_000.0 * rate)
    assert found.charge("BTC vega spread").maintenance > 0.0


def test_orders_count_on_the_worse_side_towards_initial_margin() -> None:
    spot = {"BTC": 60_000.0}

    def asked(buy: float, sell: float) -> tuple[float, float]:
        leg = Position(kind=PERPETUAL, underlying="BTC", qty_base=1.0, buy_base=buy, sell_base=sell)
        found = requirement(build_book([leg], spot), P)
        return found.initial, found.maintenance

    assert asked(0.0, 1.5) == asked(0.0, 0.0)
    assert asked(1.0, 1.5) == pytest.approx((2.0 * asked(0.0, 0.0)[0], asked(0.0, 0.0)[1]))
