"""Netting layer by layer, each charge by hand, and on random books: nothing is matched twice or lost."""

from __future__ import annotations

from math import inf, sqrt

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.risk.book import FUTURE, PERPETUAL, SPOT, Position, RiskBook, build_book
from bot.risk.netting import NettingParameters, net_exposure
from tests.risk.legs import load, option, position, values_of

PARAMETERS = msgspec.convert(values_of("netting-2026-11-26"), NettingParameters)
SPOT_PX = {"BTC": 60_000.0, "ETH": 3_000.0, "WSTETH": 3_600.0}
HOURLY = 2.33 * 0.8 * sqrt(1.0 / 8_760.0)


def linear(
    qty: float, underlying: str = "BTC", *, account: str = "a", money: str = "USD", days: float = inf
) -> Position:
    kind = PERPETUAL if days == inf else FUTURE
    return Position(
        kind=kind, underlying=underlying, qty_base=qty, account=account, money=money, tau_years=days / 365.0
    )


def book(*positions: Position) -> RiskBook:
    return build_book(positions, SPOT_PX)


def charges(*positions: Position, stressed: bool = False) -> dict[str, tuple[float, float]]:
    found = net_exposure(book(*positions), PARAMETERS, {"WSTETH": 1.2}, stressed=stressed)
    return {one.name: (one.matched_quote, one.charge_quote) for one in found.exposures[0].layers if one.matched_quote}


def test_gross_and_net_stand_side_by_side_and_one_account_offsets_itself_freely() -> None:
    found = net_exposure(book(linear(3.0), linear(-2.0), linear(-0.5, account="b")), PARAMETERS).of("BTC")
    assert (found.gross_base, found.net_base) == (5.5, 0.5)
    assert (found.gross_quote, found.net_quote) == (330_000.0, 30_000.0)
    assert found.by_account == (("a", 1.0), ("b", -0.5))
    layers = {one.name: one for one in found.layers}
    assert layers["same expiry"].matched_quote == pytest.approx(120_000.0)
    assert layers["same expiry"].charge_quote == 0.0
    assert layers["other account"].matched_quote == pytest.approx(30_000.0)
    assert found.charge_quote == pytest.approx(30_000.0 * HOURLY)


def test_another_expiry_costs_the_roll_of_the_later_one() -> None:
    assert charges(linear(1.0), linear(-1.0, days=73.0)) == {
        "other expiry": (pytest.approx(60_000.0), pytest.approx(600.0))
    }
    assert charges(linear(1.0), linear(-1.0, days=1.0))["other expiry"][1] == pytest.approx(300.0)


def test_another_money_costs_by_slices_and_in_stress_what_the_stable_may_fall() -> None:
    tether, circle = linear(20.0, money="USDT"), linear(-20.0, money="USDC")
    slices = 1e6 * 0.0075 + 0.2e6 * 0.0175
    assert charges(tether, circle)["other money"] == (pytest.approx(1.2e6), pytest.approx(slices))
    assert charges(tether, circle, stressed=True)["other money"][1] == pytest.approx(0.13 * 1.2e6)
    assert charges(linear(1.0, money="USD"), linear(-1.0, money="BTC"))["other money"][1] == 0.0
    ten_million = next(one for one in load("venue_margin_cases.json") if one["id"] == "okx_mr9_tier")
    assert PARAMETERS.money_charge(ten_million["inputs"]["hedge_usd"]) == pytest.approx(ten_million["expected"]["MR9"])
    assert PARAMETERS.money_charge(2e8) == pytest.approx(202_500.0 + 4e7 * 0.05 + 1.5e8 * 0.4)


def test_slices_go_on_where_one_money_is_matched_with_several() -> None:
    found = charges(
        linear(-20.0, money="USDT"), linear(10.0, money="USDC"), linear(10.0, money="USD"), linear(0.0, money="USDE")
    )
    assert found["other money"][1] == pytest.approx(1e6 * 0.0075 + 0.2e6 * 0.0175)


def test_a_staked_form_counts_at_its_redemption_rate_and_costs_its_basis() -> None:
    staked = Position(kind=SPOT, underlying="WSTETH", qty_base=10.0, account="a")
    short = linear(-12.0, "ETH")
    assert charges(staked, short) == {"other form": (pytest.approx(36_000.0), pytest.approx(720.0))}
    assert charges(staked, short, stressed=True)["other form"][1] == pytest.approx(0.07 * 36_000.0)
    found = net_exposure(book(staked, short), PARAMETERS, {"WSTETH": 1.2})
    assert [one.underlying for one in found.exposures] == ["ETH"]
    assert found.of("ETH").net_base == pytest.approx(0.0)
    assert found.notes == ()
    with pytest.raises(KeyError):
        found.of("WSTETH")


def test_without_a_redemption_rate_the_price_ratio_stands_in_and_is_named() -> None:
    dear = build_book([Position(kind=SPOT, underlying="WSTETH", qty_base=10.0)], SPOT_PX | {"WSTETH": 3_300.0})
    found = net_exposure(dear, PARAMETERS)
    assert found.of("ETH").net_base == pytest.approx(11.0)
    assert found.notes == ("WSTETH counts as 1.1 ETH, the ratio of their prices: no redemption rate is known",)
    with pytest.raises(ValueError, match="expected a spot price of ETH, of which WSTETH is a form"):
        net_exposure(build_book([Position(kind=SPOT, underlying="WSTETH", qty_base=1.0)], {"WSTETH": 1.0}), PARAMETERS)


def test_accounts_wait_for_the_slower_transfer() -> None:
    slow = msgspec.structs.replace(PARAMETERS, transfer_hours={"b": 4.0, "c": 0.25})
    between = net_exposure(book(linear(1.0), linear(-1.0, account="b")), slow)
    assert between.charge_quote == pytest.approx(60_000.0 * HOURLY * 2.0)
    quick = net_exposure(book(linear(1.0, account="c"), linear(-1.0, account="b")), slow)
    assert quick.charge_quote == between.charge_quote
    assert slow.venue_charge("c") == pytest.approx(HOURLY / 2.0)


def test_correlated_underlyings_offset_in_part_and_only_when_opposite() -> None:
    found = net_exposure(book(linear(1.0), linear(-10.0, "ETH")), PARAMETERS)
    assert found.correlated[0].name == "BTC against ETH"
    assert found.correlated[0].matched_quote == pytest.approx(36_000.0)
    assert found.correlated[0].charge_quote == pytest.approx(36_000.0 * 0.16 * 0.6)
    assert found.charge_quote == found.correlated[0].charge_quote
    assert net_exposure(book(linear(1.0), linear(10.0, "ETH")), PARAMETERS).correlated == ()


def test_options_bring_their_delta_and_curvature() -> None:
    legs = [position(option(-2.0, 60_000.0), "a"), position(option(1.0, 60_000.0, call=False), "a")]
    found = net_exposure(build_book(legs, SPOT_PX), PARAMETERS).of("BTC")
    at_the_money = 0.5 * 0.5 * sqrt(30.0 / 365.0) * 0.39894
    assert found.net_base == pytest.approx(-2.0 * (0.5 + at_the_money) - 0.5 + at_the_money, rel=1e-3)
    assert found.vega_gross_quote == pytest.approx(3.0 * -found.vega_net_quote)
    assert found.vega_net_quote < 0.0
    assert found.gamma_net < 0.0


def test_what_cannot_be_priced_is_gross_offsets_nothing_and_is_noted() -> None:
    legs = [position(option(-2.0, 60_000.0), "a"), linear(3.0), linear(-1.0)]
    made = build_book(legs, SPOT_PX)
    gap = msgspec.structs.replace(made, vol=np.array([np.nan, np.nan, np.nan]))
    found = net_exposure(gap, PARAMETERS)
    assert found.notes == ("BTC row 0 cannot be priced: it is gross, and offsets nothing",)
    assert (found.of("BTC").gross_base, found.of("BTC").net_base) == (6.0, 2.0)
    assert found.of("BTC").layers[0].matched_quote == pytest.approx(60_000.0)
    with pytest.raises(ValueError, match="expected a spot price of BTC, found nan"):
        net_exposure(msgspec.structs.replace(made, spot_px=np.array([np.nan, 3_000.0, 1.0])), PARAMETERS)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([-3.0, -1.0, 0.25, 1.0, 5.0]),
            st.sampled_from("abc"),
            st.sampled_from(["USD", "USDT", "USDC"]),
            st.sampled_from([inf, 7.0, 90.0]),
            st.sampled_from(["ETH", "WSTETH"]),
        ),
        max_size=12,
    )
)
def test_what_all_layers_match_is_what_gross_is_above_net(
    rows: list[tuple[float, str, str, float, str]],
) -> None:
    made = book(*(linear(q, u, account=a, money=m, days=d) for q, a, m, d, u in rows))
    found = net_exposure(made, PARAMETERS, {"WSTETH": 1.2})
    for one in found.exposures:
        matched = sum(layer.matched_quote for layer in one.layers)
        assert matched == pytest.approx(0.5 * (one.gross_quote - abs(one.net_quote)), abs=1e-6)
        assert sum(delta for _, delta in one.by_account) == pytest.approx(one.net_base, abs=1e-9)
        assert one.charge_quote >= 0.0
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    assert net_exposure(made.where(order), PARAMETERS, {"WSTETH": 1.2}).charge_quote == pytest.approx(
        found.charge_quote, rel=1e-9, abs=1e-6
    )


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_redemption_rate_that_is_none_is_not_believed_and_named(rate: float) -> None:
    legs = [
        Position(kind=SPOT, underlying="STETH", qty_base=10.0, account="a"),
        Position(kind=PERPETUAL, underlying="ETH", qty_base=-10.0, account="a"),
    ]
    book = build_book(legs, {"ETH": 4_000.0, "STETH": 3_960.0})
    found, untold = net_exposure(book, PARAMETERS, {"STETH": rate}), net_exposure(book, PARAMETERS)
    assert found.exposures == untold.exposures
    assert found.of("ETH").net_base == pytest.approx(-0.1)
    assert f"a redemption rate of {rate:g} is none" in found.notes[0]
