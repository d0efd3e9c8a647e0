"""OKX's portfolio margin against its position-builder example, and each part by itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.pricing.black76 import greeks
from bot.risk.book import FUTURE, OPTION, PERPETUAL, SPOT, Position, RiskBook, build_book
from bot.risk.margin.okx import OkxParameters, Parts, Slice, by_slices, parts_of, requirement
from tests.risk.margin.cases import expected, inputs, parameters

P: OkxParameters = parameters("okx")
LTC = "okx_pm_LTC"


def example() -> RiskBook:
    # -10 and 10 contracts; the example's moves are of 9,703.42 and 1,019.48 USD, its deltas of 9,704.90 and 1,019.53.
    return build_book(
        [
            Position(kind=PERPETUAL, underlying="BTC", qty_base=-0.1, money="USDT", forward_px=97_034.2437060),
            Position(kind=PERPETUAL, underlying="LTC", qty_base=10.0, money="USDT", forward_px=101.948182254),
        ],
        {"BTC": 97_049.036898, "LTC": inputs(LTC)["delta"] / 10.0},
    )


def ltc() -> Parts:
    return parts_of(example().of_underlying("LTC"), P.units["LTC"], P)


def test_the_parts_of_the_example_to_a_millionth() -> None:
    found, given = ltc(), inputs(LTC)
    for name in ("mr1", "mr2", "mr3", "mr4", "mr5", "mr7", "mr9"):
        assert getattr(found, name) == pytest.approx(given[name], abs=given["_tol"]), name
    assert found.mr6 == expected(LTC, "mr6")
    assert found.mmr == expected(LTC, "mmr")
    assert found.worst in {"-18%, vol down", "-36%, vol same"}
    btc = parts_of(example().of_underlying("BTC"), P.units["BTC"], P)
    assert (btc.mr1, btc.mr4, btc.mr7) == pytest.approx((1164.4109244719994, 19.4098073796, 43.6720666041), abs=1e-6)


def test_the_account_of_the_example_to_a_millionth() -> None:
    found = requirement(example(), P, borrow_initial=7855.32188898, borrow_maintenance=1571.064377796)
    assert found.charge("LTC risk unit").initial == expected(LTC, "imr")
    assert found.charge("BTC risk unit").maintenance == pytest.approx(1183.8207318516002, abs=1e-6)
    assert found.charge("BTC risk unit").initial == pytest.approx(1538.9669514070802, abs=1e-6)
    assert found.maintenance == pytest.approx(2946.5480841048, abs=1e-6)
    assert found.initial == pytest.approx(9643.45070718144, abs=1e-6)
    assert "mr4 19.4098" in found.charge("BTC risk unit").detail


def test_the_case_of_stablecoins_and_that_slices_add_up() -> None:
    given = inputs("okx_mr9_tier")
    ends, slices = 0.0, []
    for size, factor in given["tiers"]:
        ends += size
        slices.append(Slice(ends, factor))
    assert by_slices(given["hedge_usd"], slices) == expected("okx_mr9_tier", "MR9")
    assert by_slices(given["hedge_usd"], P.stablecoin_slices) == expected("okx_mr9_tier", "MR9")
    assert by_slices(2e7, slices) == pytest.approx(202_500.0 + 1e7 * 0.025)  # the last one holds on


def test_a_hedge_across_stablecoins_is_charged_and_spot_is_not_part_of_it() -> None:
    def mr9(*moneys: tuple[float, str], spot: float = 0.0) -> float:
        legs = [Position(kind=PERPETUAL, underlying="BTC", qty_base=qty, money=money) for qty, money in moneys]
        legs.append(Position(kind=SPOT, underlying="BTC", qty_base=spot))
        return parts_of(build_book(legs, {"BTC": 100_000.0}), P.units["BTC"], P).mr9

    assert mr9((5.0, "USDT"), (-3.0, "USDT")) == 0.0
    assert mr9((5.0, "USDT"), (-3.0, "USDC")) == pytest.approx(300_000.0 * 0.0075)
    assert mr9((5.0, "USDT"), spot=-5.0) == 0.0


def test_spot_nets_with_derivatives_in_the_grid() -> None:
    legs = [
        Position(kind=PERPETUAL, underlying="ETH", qty_base=-10.0, money="USDT"),
        Position(kind=SPOT, underlying="ETH", qty_base=10.0),
    ]
    found = parts_of(build_book(legs, {"ETH": 2_000.0}), P.units["ETH"], P)
    assert (found.mr1, found.mr6) == (0.0, 0.0)
    assert found.mr4 == pytest.approx(20_000.0 * 0.002)


def options(*legs: tuple[float, float, float]) -> Parts:
    """Parts of BTC calls and puts: quantity, years, strike; a strike above spot is a call."""
    book = build_book(
        [
            Position(
                kind=OPTION,
                underlying="BTC",
                qty_base=qty,
                money="BTC",
                strike_px=strike,
                tau_years=years,
                vol=0.6,
                is_call=strike >= 60_000.0,
            )
            for qty, years, strike in legs
        ],
        {"BTC": 60_000.0},
    )
    return parts_of(book, P.units["BTC"], P)


def value(years: float, vol: float = 0.6, forward: float = 60_000.0) -> float:
    return float(greeks(forward, 60_000.0, years, vol, True).value)


def test_time_takes_from_who_bought() -> None:
    assert options((2.0, 0.1, 60_000.0)).mr2 == pytest.approx(2 * (value(0.1) - value(0.1 - 1 / 365)))
    assert options((-2.0, 0.1, 60_000.0)).mr2 == 0.0


def test_vol_points_of_the_grid_are_by_days() -> None:
    years = 15 / 365  # half way between 50 and 35 points
    sold = options((-1.0, years, 60_000.0))
    assert sold.mr1 == pytest.approx(value(years, 0.6 + 0.425, 60_000.0 * 1.12) - value(years))
    assert sold.worst == "+12%, vol up"


def test_expiries_that_offset_each_other_are_charged_a_share() -> None:
    alone = options((1.0, 0.1, 60_000.0))
    spread = options((1.0, 0.1, 60_000.0), (-1.0, 0.5, 60_000.0))
    assert alone.mr3 == 0.0
    points = 0.25 + 0.1 * (60 - 36.5) / 30
    near = max(abs(value(0.1, 0.6 + sign * points) - value(0.1)) for sign in (-1.0, 1.0))
    assert spread.mr3 == pytest.approx(P.term_structure_share * near)


def test_basis_is_by_expiry_and_by_time() -> None:
    def future(qty: float, years: float) -> Position:
        return Position(kind=FUTURE, underlying="BTC", qty_base=qty, money="USDT", tau_years=years)

    book = build_book([future(1.0, 0.5), future(-1.0, 0.01)], {"BTC": 60_000.0})
    assert parts_of(book, P.units["BTC"], P).mr4 == pytest.approx(60_000.0 * (0.05 * 0.5 + 0.002))


def test_the_minimum_charge_decides_for_a_hedged_book_and_rises_in_slices() -> None:
    legs = [Position(kind=PERPETUAL, underlying="BTC", qty_base=qty, money="USDT") for qty in (100.0, -100.0)]
    found = parts_of(build_book(legs, {"BTC": 60_000.0}), P.units["BTC"], P)
    raw = 0.0045 * 200 * 60_000.0
    assert found.mr7 == pytest.approx(10_000.0 + 2 * (raw - 10_000.0))
    assert (found.mr1, found.mmr) == (0.0, found.mr7)
    sold = options((-1.0, 0.01, 90_000.0))
    assert sold.mr7 == pytest.approx(0.0045 * 60_000.0)
    assert options((1.0, 0.01, 90_000.0)).mr7 == 0.0


def test_open_orders_and_others() -> None:
    def asked(**orders: Any) -> tuple[float, float]:
        legs = [Position(kind=PERPETUAL, underlying="BTC", qty_base=1.0, money="USDT", **orders)]
        found = requirement(build_book(legs, {"BTC": 60_000.0}), P)
        return found.initial, found.maintenance

    assert asked(sell_base=2.0) == asked()
    assert asked(buy_base=1.0) == pytest.approx((2 * asked()[0], asked()[1]))
    only = msgspec.structs.replace(P, units={"ETH": P.units["ETH"]})
    with pytest.raises(ValueError, match="expected margin parameters of BTC, found those of ETH"):
        requirement(example(), only)
    assert requirement(build_book([], {"BTC": 1.0}), P).initial == 0.0
