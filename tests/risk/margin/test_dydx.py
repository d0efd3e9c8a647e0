"""dYdX: its three worked examples, and a book."""

from __future__ import annotations

import math

import msgspec
import pytest

from bot.risk.book import PERPETUAL, Position, build_book
from bot.risk.margin.dydx import effective_initial_fraction, insurance_payment, liquidation_px, requirement
from tests.risk.margin.cases import expected, inputs, parameters

P = parameters("dydx")


def test_the_worked_fraction_and_its_ends() -> None:
    given = inputs("dydx_oi_imf_35")
    base, lower, upper = given["base_imf"], given["lower"], given["upper"]
    found = effective_initial_fraction(base, given["open_notional"], lower, upper)
    assert found == expected("dydx_oi_imf_35", "effective_imf")
    assert effective_initial_fraction(base, lower, lower, upper) == base
    assert effective_initial_fraction(base, 9e7, lower, upper) == 1.0
    assert effective_initial_fraction(base, 9e7, math.inf, math.inf) == base
    assert (P.markets["*"].lower_quote, P.markets["*"].upper_quote) == (lower, upper)


def test_the_worked_liquidation_price_is_where_equity_is_maintenance() -> None:
    given = inputs("dydx_cross_liq")
    size, px, share = given["size"], given["price"], given["mmf"]
    found = liquidation_px(given["equity"], size, px, share, given["other_mmr"])
    assert found == expected("dydx_cross_liq", "liq_price")
    equity = given["equity"] + size * (found - px)
    assert equity == pytest.approx(abs(size) * found * share + given["other_mmr"])
    assert math.isnan(liquidation_px(1.0, 0.0, 1.0, 0.05, 0.0))


def test_the_worked_insurance_payment() -> None:
    given = inputs("dydx_insurance_price")
    deposit, size, entry = given["deposit"], given["size"], given["entry"]
    assert deposit + size * (given["oracle"] - entry) == expected("dydx_insurance_price", "equity")
    paid = insurance_payment(deposit, size, entry, given["fill"])
    assert paid == expected("dydx_insurance_price", "insurance_payment")
    assert insurance_payment(deposit, size, entry, given["oracle"]) == 0.0


def test_a_book_asks_more_where_open_interest_is_high() -> None:
    spot = {"SOL": 200.0, "BTC": 60_000.0}
    legs = [
        Position(kind=PERPETUAL, underlying="SOL", qty_base=10.0, money="USDC"),
        Position(kind=PERPETUAL, underlying="BTC", qty_base=-1.0, sell_base=1.0, money="USDC"),
    ]
    book = build_book(legs, spot)
    found = requirement(book, P)
    assert found.initial == pytest.approx(200.0 + 0.05 * 120_000.0)
    assert found.maintenance == pytest.approx(100.0 + 0.03 * 60_000.0)
    crowded = msgspec.structs.replace(P.markets["SOL"], open_interest_quote=70e6)
    raised = requirement(book, msgspec.structs.replace(P, markets={**P.markets, "SOL": crowded}))
    assert raised.charge("SOL perpetuals").initial == pytest.approx(2_000.0 * 0.55)
    assert raised.charge("SOL perpetuals").detail == "open interest raises 10.00%"
    assert raised.maintenance == found.maintenance
