"""The SPAN-like model against sums done by hand."""

from __future__ import annotations

from math import inf

import msgspec
import pytest

from bot.pricing.black76 import greeks
from bot.risk.book import FUTURE, OPTION, PERPETUAL, Position, RiskBook, build_book
from bot.risk.margin.span import SpanAsset, SpanCredit, SpanParameters, requirement
from tests.risk.legs import values_of

ASSET = SpanAsset(
    price_range=0.12,
    vol_range=0.1,
    extreme_multiple=2.0,
    extreme_cover=0.33,
    spread_rate=0.004,
    spread_per_year=0.04,
    short_option_rate=0.01,
    delivery_days=2.0,
    delivery_rate=0.02,
)
CREDIT = SpanCredit(first="BTC", second="ETH", first_deltas=1.0, second_deltas=20.0, rate=0.5)
PARAMETERS = SpanParameters(assets={"BTC": ASSET, "ETH": ASSET}, credits=(CREDIT,), initial_factor=1.1)
SPOT_PX = {"BTC": 60_000.0, "ETH": 3_000.0}


def linear(qty: float, underlying: str = "BTC", days: float = inf) -> Position:
    return Position(
        kind=PERPETUAL if days == inf else FUTURE, underlying=underlying, qty_base=qty, tau_years=days / 365.0
    )


def call(qty: float, strike: float, days: float = 30.0) -> Position:
    return Position(
        kind=OPTION,
        underlying="BTC",
        qty_base=qty,
        strike_px=strike,
        tau_years=days / 365.0,
        vol=0.6,
        is_call=True,
    )


def book(*positions: Position) -> RiskBook:
    return build_book(positions, SPOT_PX)


def test_sixteen_scenarios_and_a_future_costs_its_range() -> None:
    found = requirement(book(linear(2.0)), PARAMETERS)
    assert len(found.scenario_names) == 16
    assert found.maintenance == pytest.approx(2.0 * 0.12 * 60_000.0)
    assert found.initial == pytest.approx(1.1 * found.maintenance)
    assert found.worst == "-12%, vol up"
    assert found.scenario_pnl[-1] == pytest.approx(-2.0 * 0.24 * 0.33 * 60_000.0)


def test_the_extreme_move_decides_for_far_calls_and_a_minimum_for_calls_out_of_reach() -> None:
    far = call(-10.0, 80_000.0, days=5.0)
    found = requirement(book(far), PARAMETERS)
    before, after = (
        float(greeks(px, 80_000.0, 5.0 / 365.0, 0.6, is_call=True).value) for px in (60_000.0, 60_000.0 * 1.24)
    )
    assert found.worst == "+24%, vol same, weight 0.33"
    assert found.charge("BTC scan").maintenance == pytest.approx(10.0 * 0.33 * (after - before))
    assert found.maintenance == pytest.approx(10.0 * 0.01 * 60_000.0)
    assert "BTC short option minimum" in {one.name for one in found.charges}


def test_a_calendar_costs_by_the_time_between_its_legs_at_least_the_rate() -> None:
    long_gap = requirement(book(linear(3.0, days=73.0), linear(-2.0, days=219.0)), PARAMETERS)
    scan = 0.12 * 60_000.0
    assert long_gap.charge("BTC scan").maintenance == pytest.approx(scan)
    assert long_gap.charge("BTC spread between expiries").maintenance == pytest.approx(2.0 * 60_000.0 * 0.04 * 0.4)
    short_gap = requirement(book(linear(3.0, days=73.0), linear(-2.0, days=80.0)), PARAMETERS)
    assert short_gap.maintenance == pytest.approx(scan + 2.0 * 60_000.0 * 0.004)


def test_what_is_delivered_soon_costs_more_and_a_perpetual_never_is() -> None:
    assert requirement(book(linear(1.0, days=1.5)), PARAMETERS).charge("BTC delivery").maintenance == pytest.approx(
        1_200.0
    )
    assert "BTC delivery" not in {one.name for one in requirement(book(linear(1.0)), PARAMETERS).charges}


def test_opposite_underlyings_are_credited_once_and_only_as_far_as_they_match() -> None:
    found = requirement(book(linear(1.0), linear(-30.0, "ETH")), PARAMETERS)
    scan_btc, scan_eth = 7_200.0, 10_800.0
    assert found.charge("BTC credit between underlyings").maintenance == pytest.approx(-0.5 * scan_btc)
    assert found.charge("ETH credit between underlyings").maintenance == pytest.approx(-0.5 * scan_eth * 20.0 / 30.0)
    assert found.maintenance == pytest.approx(scan_btc + scan_eth - 7_200.0)
    twice = msgspec.structs.replace(PARAMETERS, credits=(CREDIT, CREDIT))
    assert requirement(book(linear(1.0), linear(-30.0, "ETH")), twice).maintenance == pytest.approx(found.maintenance)
    same_side = requirement(book(linear(1.0), linear(30.0, "ETH")), PARAMETERS)
    assert same_side.maintenance == pytest.approx(scan_btc + scan_eth)


def test_the_credit_counts_price_risk_and_not_what_vol_costs() -> None:
    found = requirement(book(call(-1.0, 60_000.0), linear(30.0, "ETH")), PARAMETERS)
    value = {
        (move, vol): float(greeks(60_000.0 * (1.0 + move), 60_000.0, 30.0 / 365.0, vol, is_call=True).value)
        for move in (0.0, 0.12)
        for vol in (0.5, 0.7)
    }
    price_risk = 0.5 * (value[0.12, 0.7] + value[0.12, 0.5] - value[0.0, 0.7] - value[0.0, 0.5])
    assert found.charge("BTC credit between underlyings").maintenance == pytest.approx(-0.5 * price_risk)


def test_an_unknown_underlying_is_named_and_carried_figures_have_a_line_for_it() -> None:
    doge = build_book([linear(1.0, "DOGE")], {"DOGE": 0.2})
    with pytest.raises(ValueError, match="SPAN parameters of DOGE, found those of BTC, ETH"):
        requirement(doge, PARAMETERS)
    carried = msgspec.convert(values_of("span-2026-11-26"), SpanParameters)
    assert requirement(doge, carried).maintenance == pytest.approx(0.2 * 0.3)
    assert requirement(book(), carried).maintenance == 0.0
