"""Deribit's standard margin: the worked put, perpetuals that rise with size, and that nothing nets."""

from __future__ import annotations

import pytest

from bot.risk.book import OPTION, PERPETUAL, Position, build_book
from bot.risk.margin.deribit import requirement
from tests.risk.margin.cases import expected, inputs, parameters

CASE = "deribit_sm_short_put_own"
P = parameters("deribit")


def option(qty: float, strike: float, mark: float, *, is_call: bool, **orders: float) -> Position:
    return Position(
        kind=OPTION,
        underlying="BTC",
        qty_base=qty,
        money="BTC",
        strike_px=strike,
        tau_years=0.1,
        vol=0.6,
        is_call=is_call,
        mark_px=mark,
        **orders,
    )


def test_the_worked_put_comes_out_in_coin() -> None:
    given = inputs(CASE)
    book = build_book(
        [option(-1.0, given["strike"], given["mark_coin"] * given["spot"], is_call=False)], {"BTC": given["spot"]}
    )
    found = requirement(book, P)
    assert found.initial / given["spot"] == expected(CASE, "IM")
    assert found.maintenance / given["spot"] == expected(CASE, "MM")


def test_a_perpetual_asks_more_the_larger_it_is() -> None:
    def margin(qty: float) -> tuple[float, float]:
        book = build_book([Position(kind=PERPETUAL, underlying="BTC", qty_base=qty, money="BTC")], {"BTC": 50_000.0})
        found = requirement(book, P)
        return found.initial, found.maintenance

    assert margin(-100.0) == pytest.approx((0.025 * 5e6, 0.025 * 5e6 * 2 / 3))
    assert margin(100.0) == margin(-100.0)
    assert margin(1e6)[0] == pytest.approx(1e6 * 50_000.0)  # never more than all of it


def test_nothing_nets_and_bought_options_ask_nothing() -> None:
    sold, bought = option(-2.0, 60_000.0, 3_000.0, is_call=True), option(2.0, 61_000.0, 2_800.0, is_call=True)
    alone = requirement(build_book([sold], {"BTC": 60_000.0}), P)
    both = requirement(build_book([sold, bought], {"BTC": 60_000.0}), P)
    assert both.initial == alone.initial == pytest.approx(2 * (9_000.0 + 3_000.0))
    assert both.maintenance == alone.maintenance == pytest.approx(2 * (4_500.0 + 3_000.0))


def test_orders_ask_initial_margin_only() -> None:
    held = requirement(build_book([option(1.0, 60_000.0, 3_000.0, is_call=True)], {"BTC": 60_000.0}), P)
    assert (held.initial, held.maintenance) == (0.0, 0.0)
    ordered = [option(1.0, 60_000.0, 3_000.0, is_call=True, buy_base=2.0, sell_base=3.0)]
    found = requirement(build_book(ordered, {"BTC": 60_000.0}), P)
    assert found.charge("BTC options to buy").initial == pytest.approx(6_000.0)
    assert found.charge("BTC sold options").initial == pytest.approx(2 * 12_000.0)  # one of the three closes
    assert found.maintenance == 0.0
