"""Paradex against its documentation's examples and the netting cases' figures of its portfolio margin."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from bot.risk.book import FUTURE, PERPETUAL, SPOT, Position, RiskBook, build_book
from bot.risk.margin.paradex import (
    CrossParameters,
    OptionFractions,
    PortfolioParameters,
    cross_requirement,
    minimum_delta,
    open_size,
    option_groups,
    option_margins,
    portfolio_requirement,
    socialised_loss,
)
from bot.risk.stack import BookStack, StackGroups
from tests.risk.legs import book_of, load, option, perpetual, position, values_of

CASES: list[dict[str, Any]] = load("netting_cases.json")["cases"]
VENUE: dict[str, dict[str, Any]] = {one["id"]: one for one in load("venue_margin_cases.json")}
CARRIED = msgspec.convert(values_of("paradex_portfolio-2026-11-26"), PortfolioParameters)
PORTFOLIO = msgspec.structs.replace(CARRIED, fee_rate=0.0, funding_8h=0.0)
CROSS = msgspec.structs.replace(msgspec.convert(values_of("paradex_cross-2026-11-26"), CrossParameters), fee_rate=0.0)
CALL_FRACTIONS = OptionFractions(long_itm=0.2, short_itm=0.15, short_otm=0.1, premium=1.0, unpaired=1.2)


def cost(book: RiskBook) -> float:
    stack = BookStack(book)
    return float(option_groups(stack, StackGroups(stack), stack.qty_base, [CALL_FRACTIONS]).sum())


def priced(book: RiskBook, *marks: float) -> RiskBook:
    return msgspec.structs.replace(book, mark_px=np.array(marks))


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_portfolio_margin_of_the_netting_cases_alone_and_together(case: dict[str, Any]) -> None:
    legs = case["legs"]
    together = [([leg for one in legs.values() for leg in one], case["combined"])]
    for chosen, expected in [(legs[name], case["standalone"][name]) for name in legs] + together:
        found = portfolio_requirement(book_of(chosen, case["spot"]), PORTFOLIO)
        assert found.initial == pytest.approx(expected["net_im"], rel=1e-9)
        assert found.maintenance == pytest.approx(0.5 * expected["net_im"], rel=1e-9)
        assert found.worst == found.scenario_names[expected["worst_index"]]
        assert found.scenario_pnl[expected["worst_index"]] == pytest.approx(-expected["scan"], rel=1e-9)


def test_minimum_delta_takes_over_where_the_scan_is_small() -> None:
    table = PORTFOLIO.assets["BTC"]
    assert minimum_delta(np.array([1.0] + [-0.3] * 5), 70_000.0, table) == pytest.approx(1_400.0)
    found = portfolio_requirement(book_of([perpetual(3.0), perpetual(-3.0)], 70_000.0), PORTFOLIO)
    assert found.initial == pytest.approx(0.01 * 3.0 * 70_000.0)
    assert found.charge("BTC minimum delta").detail.startswith("more than the scan's 0.00")


def test_provisions_are_whole_in_both_and_funding_that_is_received_is_no_credit() -> None:
    book = book_of([perpetual(1.0), perpetual(-3.0)], 70_000.0)
    parameters = msgspec.structs.replace(CARRIED, fee_rate=0.001)
    found = portfolio_requirement(book, parameters, np.array([0.0004, 0.0004]))
    assert found.charge("funding").initial == pytest.approx(28.0) == found.charge("funding").maintenance
    assert found.charge("fees").initial == pytest.approx(280.0)
    scan = 2.0 * 0.16 * 70_000.0
    assert found.initial == pytest.approx(scan + 308.0)
    assert found.maintenance == pytest.approx(0.5 * scan + 308.0)
    assumed = portfolio_requirement(book, CARRIED)
    assert assumed.charge("funding").initial == pytest.approx(4.0 * 70_000.0 * CARRIED.funding_8h)


def test_open_size_is_the_larger_side_and_orders_ask_for_no_maintenance() -> None:
    case = VENUE["paradex_open_size_imr"]
    told, expected = case["inputs"], case["expected"]
    one = Position(
        kind=PERPETUAL,
        underlying="BTC",
        qty_base=float(told["position"]),
        buy_base=float(told["buy_orders"]),
        sell_base=float(told["sell_orders"]),
    )
    book = build_book([one], {"BTC": float(told["mark"])})
    assert open_size(book.qty_base, book.buy_base, book.sell_base).tolist() == [expected["sell_open"]]
    assert CROSS.assets["BTC"].initial_fraction == told["imf"]
    found = cross_requirement(book, CROSS)
    assert found.initial == pytest.approx(expected["net_imr"])
    assert found.maintenance == pytest.approx(0.5 * 0.02 * 90_000.0)
    with_fees = cross_requirement(book, msgspec.structs.replace(CROSS, fee_rate=0.001))
    assert with_fees.initial - found.initial == pytest.approx(0.001 * 90_000.0 * (1.0 + 2.0 * 5.0))


def test_the_spread_of_the_documentation_costs_what_it_can_lose() -> None:
    spread = book_of([option(1.0, 100_000.0), option(-1.0, 110_000.0)], 100_000.0)
    spread = priced(spread, 4_000.0, 1_500.0)
    assert cost(spread) == pytest.approx(2_500.0)
    apart = msgspec.structs.replace(spread, tau_years=np.array([0.1, 0.2]))
    assert cost(apart) == pytest.approx(14_000.0)
    longs = priced(book_of([option(1.0, 100_000.0), option(1.0, 110_000.0)], 100_000.0), 30_000.0, 1_500.0)
    assert cost(longs) == pytest.approx(20_000.0 + 1_500.0)


def test_net_short_calls_keep_a_reserve_and_puts_count_their_own_way_out_of_the_money() -> None:
    short = priced(book_of([option(1.0, 100_000.0), option(-2.0, 110_000.0)], 100_000.0), 4_000.0, 1_500.0)
    assert cost(short) == pytest.approx(4_000.0 + 20_000.0)
    puts = priced(book_of([option(-1.0, 98_000.0, call=False)], 100_000.0), 900.0)
    assert cost(puts) == pytest.approx(15_000.0 - 2_000.0)


def test_an_order_that_would_break_a_spread_is_margined_as_if_filled() -> None:
    book = priced(book_of([option(1.0, 100_000.0), option(-1.0, 110_000.0)], 100_000.0), 4_000.0, 1_500.0)
    ordered = msgspec.structs.replace(book, sell_base=np.array([1.0, 0.0]))
    initial, maintenance = option_margins(BookStack(ordered), [CALL_FRACTIONS], [CALL_FRACTIONS])
    assert (initial.tolist(), maintenance.tolist()) == ([[pytest.approx(10_000.0)]], [[pytest.approx(2_500.0)]])


def test_coins_are_no_position_futures_are_and_what_has_no_figures_is_named() -> None:
    legs = [
        Position(kind=SPOT, underlying="BTC", qty_base=5.0),
        Position(kind=FUTURE, underlying="BTC", qty_base=1.0, forward_px=101_000.0, tau_years=0.25),
    ]
    found = cross_requirement(build_book(legs, {"BTC": 100_000.0}), CROSS)
    assert found.initial == pytest.approx(0.02 * 101_000.0)
    unknown = build_book([position(option(1.0, 1.0), underlying="DOGE")], {"DOGE": 1.0})
    with pytest.raises(ValueError, match="option fractions of DOGE"):
        cross_requirement(unknown, CROSS)
    with pytest.raises(ValueError, match="expected a scan table of DOGE, found those of BTC, ETH, HYPE"):
        portfolio_requirement(unknown, PORTFOLIO)


def test_socialised_loss_of_the_documentation() -> None:
    case = VENUE["paradex_socialised_loss"]
    told, expected = case["inputs"], case["expected"]
    share = socialised_loss(told["bankrupt"], told["insurance"], told["total_user_balance_after"])
    assert share == pytest.approx(expected["factor"])
    assert told["withdraw"] * (1.0 - share) == pytest.approx(expected["received"])
    assert socialised_loss(500.0, 1_000.0, 3_000.0) == 0.0 == socialised_loss(0.0, 0.0, 0.0)
