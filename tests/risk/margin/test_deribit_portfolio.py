"""Deribit's portfolio margin against two recorded answers, to the last digit, and the charges that they do not show."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from bot.risk.book import FUTURE, OPTION, PERPETUAL, Position, RiskBook, build_book
from bot.risk.margin.deribit_portfolio import DeribitPortfolioParameters, pairs_of, requirement, updated
from bot.risk.margin.registry import decode_values
from tests.risk.margin.cases import CASES, carried, expected, inputs, parameters

P: DeribitPortfolioParameters = parameters("deribit_portfolio")
SHORT = "deribit_pm_eth_perp_short"
FAR = "deribit_pm_extended_vector_eth"


def perp(qty: float, underlying: str = "ETH", money: str = "", **told: Any) -> Position:
    return Position(kind=PERPETUAL, underlying=underlying, qty_base=qty, money=money or underlying, **told)


def option(qty: float, strike: float, years: float, *, is_call: bool, money: str = "BTC", vol: float = 0.6) -> Position:
    return Position(
        kind=OPTION,
        underlying="BTC",
        qty_base=qty,
        money=money,
        strike_px=strike,
        tau_years=years,
        vol=vol,
        is_call=is_call,
    )


def with_pairs(**changes: Any) -> DeribitPortfolioParameters:
    pairs = {name: msgspec.structs.replace(terms, **changes) for name, terms in P.currency_pair.items()}
    return msgspec.structs.replace(P, currency_pair=pairs)


def short_eth() -> RiskBook:
    given = inputs(SHORT)
    return build_book([perp(given["position"]["ETH-PERPETUAL"], forward_px=given["mark"])], {"ETH": given["index"]})


def test_the_carried_parameters_are_those_of_the_recorded_answer() -> None:
    given, eth, pair = inputs(SHORT), carried("deribit_portfolio").values["currency"]["eth"], P.currency_pair["eth_usd"]
    for name in (
        "min_annualised_move",
        "annualised_move_risk",
        "pnl_offset",
        "extended_dampener",
        "max_offsetable_pnl",
    ):
        assert eth[name] == given[name], name
    for name in pair.__struct_fields__:
        assert getattr(pair, name) == given[name], name
    assert (P.general.mm_factor, P.general.buckets_count) == (given["mm_factor"], given["buckets_each_side"])


def test_the_recorded_eth_answer_to_the_last_digit() -> None:
    index = inputs(SHORT)["index"]
    found = requirement(short_eth(), P)
    assert found.charge("ETH/ETH worst").initial / index == expected(SHORT, "worst_case")
    assert found.charge("ETH/ETH roll shock").initial / index == expected(SHORT, "roll_shock")
    assert found.initial / index == expected(SHORT, "risk_matrix_margin")
    assert found.initial / index == expected(SHORT, "initial_margin")
    assert found.maintenance / index == expected(SHORT, "maintenance_margin")
    assert found.worst == "+18%, vol down"
    assert found.scenario_pnl[0] / index == expected(SHORT, "standard_vector_minus18")
    offset = P.currency["eth"].pnl_offset * found.scenario_pnl[0] / index
    assert offset == expected(SHORT, "aggregated_minus18")


def test_the_far_tails_of_a_linear_book_are_its_edge_and_the_dampener_swallows_them() -> None:
    undamped = {name: msgspec.structs.replace(terms, extended_dampener=0.0) for name, terms in P.currency.items()}
    [pair] = pairs_of(short_eth(), msgspec.structs.replace(P, currency=undamped))
    assert P.extended_moves == tuple(inputs(FAR)["moves"])
    for number in range(len(CASES[FAR]["expected"])):
        assert float(pair.pnl[27 + number]) == expected(FAR, f"e{number}")
    [damped] = pairs_of(short_eth(), P)
    assert damped.pnl[29:].tolist() == [0.0] * 6
    assert damped.pnl[:29].tolist() == pair.pnl[:29].tolist()


def test_the_recorded_btc_answer_to_the_last_digit() -> None:
    # The example answer of Deribit's API reference, 2024-06-17: a perpetual and a future, MMP and an order beside.
    index = 65_666.19
    book = build_book(
        [
            perp(0.314538364, "BTC", forward_px=65_910.57),
            Position(
                kind=FUTURE,
                underlying="BTC",
                qty_base=-0.001187534,
                money="BTC",
                forward_px=67_371.75,
                tau_years=11 / 365,
            ),
        ],
        {"BTC": index},
    )
    found = requirement(book, P, mmp_quote=0.06 * index, open_orders_quote=0.000018212 * index)
    assert found.charge("BTC/BTC worst").initial / index == pytest.approx(0.05968587238095239, abs=1e-12)
    assert found.charge("BTC/BTC roll shock").initial / index == pytest.approx(0.00315725898, abs=1e-12)
    assert found.initial / index == pytest.approx(0.122861343, abs=1e-9)
    assert found.maintenance / index == pytest.approx(0.050274504784, abs=1e-9)


def test_a_bought_option_in_coin_loses_at_most_its_price_in_coin() -> None:
    book = build_book([option(1.0, 90_000.0, 30 / 365, is_call=True)], {"BTC": 60_000.0})
    [pair] = pairs_of(book, P)
    price_coin = float(book.mark_px[0]) / 60_000.0
    assert -price_coin <= float(pair.pnl.min()) < -0.9 * price_coin
    assert float(pair.pnl[13]) == 0.0  # nothing moves


def test_an_option_deep_in_the_money_is_a_future_less_a_coin_or_dollars() -> None:
    # A call of strike 1 is worth F - 1: in coin 1 - 1/F, which a move barely changes; in dollars it is the perpetual.
    spot = {"BTC": 60_000.0}
    [coin] = pairs_of(build_book([option(1.0, 1.0, 0.1, is_call=True)], spot), P)
    assert np.abs(coin.pnl[:27]).max() < 1e-4
    [dollars] = pairs_of(build_book([option(1.0, 1.0, 0.1, is_call=True, money="USDC")], spot), P)
    [future] = pairs_of(build_book([perp(1.0, "BTC", "USDC")], spot), P)
    assert dollars.pnl[:27] == pytest.approx(future.pnl[:27], abs=1e-6)
    assert future.pnl[:27:3] == pytest.approx([0.04 * step * 60_000.0 for step in range(-4, 5)])


def test_vol_shocks_shrink_with_time_and_are_floored() -> None:
    def vega_loss(years: float, vol: float) -> float:
        book = build_book([option(-1.0, 60_000.0, years, is_call=True, money="USDC", vol=vol)], {"BTC": 60_000.0})
        [pair] = pairs_of(book, P)
        return -float(pair.pnl[14])  # no move, vol up

    from bot.pricing.black76 import greeks

    def value(years: float, vol: float) -> float:
        return float(greeks(60_000.0, 60_000.0, years, vol, True).value)

    up = 0.5 * (30 / 10) ** 0.3
    assert vega_loss(10 / 365, 0.6) == pytest.approx(value(10 / 365, 0.6 * (1 + up)) - value(10 / 365, 0.6))
    late = 0.5 * (30 / 300) ** 0.13
    assert vega_loss(300 / 365, 0.6) == pytest.approx(value(300 / 365, 0.6 * (1 + late)) - value(300 / 365, 0.6))
    assert vega_loss(300 / 365, 0.2) == pytest.approx(value(300 / 365, 0.5) - value(300 / 365, 0.2))


def test_far_tails_decide_for_many_cheap_sold_options() -> None:
    sold = build_book([option(-2_000.0, 100_000.0, 10 / 365, is_call=True, vol=0.5)], {"BTC": 60_000.0})
    found = requirement(sold, P)
    assert found.worst == "+500%, vol up, weight 0.032"
    value = float(sold.mark_px[0])
    at_the_edge = 0.032 * 6.0 / 1.16  # weight, and from coin at six times the price to coin at the edge
    loss = 2_000.0 * (260_000.0 / 6.0 - value) / 60_000.0 * at_the_edge
    forgiven = (5.0 / 0.16 - 1.0) * 100_000.0 / (60_000.0 * 1.16)
    assert found.charge("BTC/BTC worst").initial / 60_000.0 == pytest.approx(loss - forgiven, rel=1e-6)
    few = build_book([option(-20.0, 100_000.0, 10 / 365, is_call=True, vol=0.5)], {"BTC": 60_000.0})
    assert requirement(few, P).worst == "+16%, vol up"  # the dampener forgives the tails of twenty


def test_the_delta_shock_begins_at_its_threshold_and_long_options_only_offset_it() -> None:
    def shock(*positions: Position) -> float:
        return requirement(build_book(positions, {"BTC": 50_000.0}), P).charge("BTC/BTC delta shock").initial / 50_000.0

    assert shock(perp(400.0, "BTC")) == 0.0  # 20 m USD
    assert shock(perp(-600.0, "BTC")) == pytest.approx(600.0 * 5e-5 * 200.0)
    assert shock(perp(9_000.0, "BTC")) == pytest.approx(900.0)  # at most a tenth
    calls = option(1_000.0, 1.0, 0.1, is_call=True)  # delta 1,000
    assert shock(calls) == 0.0
    assert shock(perp(600.0, "BTC"), calls) == shock(perp(600.0, "BTC"))
    assert shock(perp(-600.0, "BTC"), calls) == 0.0


def test_the_roll_shock_is_by_expiry_and_grows_with_time() -> None:
    def future(qty: float, years: float) -> Position:
        return Position(kind=FUTURE, underlying="ETH", qty_base=qty, money="ETH", tau_years=years)

    book = build_book([future(10.0, 0.5), future(-10.0, 0.05), perp(3.0)], {"ETH": 2_000.0})
    roll = requirement(book, P).charge("ETH/ETH roll shock").initial / 2_000.0
    assert roll == pytest.approx(10 * 0.05 * 0.5 + 10 * 0.005 + 3 * 0.005)


def test_gains_offset_within_an_underlying_by_their_share_and_across_only_in_the_correlation_set() -> None:
    cross = msgspec.structs.replace(P, cross=True)
    spot = {"BTC": 50_000.0, "ETH": 2_000.0}
    hedged = build_book([perp(-10.0), perp(10.0, money="USDC")], spot)
    apart = requirement(hedged, P)  # segregated: each settlement currency by itself
    assert apart.charge("ETH/ETH worst").initial == pytest.approx(20_000.0 * 0.18 / 1.18)
    assert apart.charge("ETH/USDC worst").initial == pytest.approx(20_000.0 * 0.18)
    netted = requirement(hedged, cross).charge("ETH/ETH+ETH/USDC worst").initial
    up = 20_000.0 * (0.18 / 1.18 - 0.4 * 0.18)
    down = 20_000.0 * (0.18 - 0.6 * 0.18 / 0.82)
    assert netted == pytest.approx(max(up, down))

    other = build_book([perp(-10.0), perp(0.4, "BTC")], spot)
    alone = requirement(other, cross)
    assert alone.charge("ETH/ETH worst").initial == pytest.approx(20_000.0 * 0.18 / 1.18)
    set_terms = {
        name: msgspec.structs.replace(terms, correlation_set=True, pnl_offset=0.5, max_offsetable_pnl=1_000.0)
        for name, terms in P.currency.items()
    }
    together = msgspec.structs.replace(cross, currency=set_terms, correlation_contingency=0.25)
    found = requirement(other, together)
    down = 20_000.0 * 0.16 / 0.84 - 1_000.0  # half of ETH's gain is more than the cap
    assert found.charge("BTC/BTC+ETH/ETH worst").initial == pytest.approx(max(down, 20_000 * (0.18 / 1.18) - 1_000.0))
    assert found.charge("BTC/BTC+ETH/ETH correlation").initial == pytest.approx(250.0)


def test_open_orders_are_what_filling_the_worse_side_adds() -> None:
    spot = {"ETH": 2_000.0}
    plain = requirement(build_book([perp(1.0)], spot), P)
    closing = requirement(build_book([perp(1.0, sell_base=1.5)], spot), P)
    assert closing.initial == pytest.approx(plain.initial)  # half a coin short is less than one long
    adding = requirement(build_book([perp(1.0, buy_base=2.0, sell_base=1.5)], spot), P)
    assert adding.initial == pytest.approx(3.0 * plain.initial)
    assert adding.maintenance == pytest.approx(plain.maintenance)
    assert adding.charge("open orders").maintenance == 0.0


def test_points_or_shares_is_a_parameter_because_nobody_publishes_it() -> None:
    book = build_book([option(-1.0, 60_000.0, 30 / 365, is_call=True)], {"BTC": 60_000.0})
    points = msgspec.structs.replace(P, vol_shock_in_points=True)
    assert requirement(book, points).initial > requirement(book, P).initial
    assert requirement(book, with_pairs(volatility_range_up=0.0, min_volatility_for_shock_up=0.0)).initial < (
        requirement(book, P).initial
    )


def test_an_empty_book_asks_nothing() -> None:
    found = requirement(build_book([], {"BTC": 60_000.0}), P)
    assert (found.initial, found.maintenance, found.charges) == (0.0, 0.0, ())


def test_what_deribit_tells_replaces_what_it_names_and_nothing_else() -> None:
    values = carried("deribit_portfolio").values
    pair = {name: inputs(SHORT)[name] for name in P.currency_pair["eth_usd"].__struct_fields__}
    told = {
        "general": {"mm_factor": 0.75, "buckets_count": 4, "timestamp": 1},
        "currency": {"eth": {**values["currency"]["eth"], "haircut": 0, "equity_side_impact": "both"}},
        "currency_pair": {"eth_usd": {**pair, "price_range": 0.20}, "xrp_usd": pair},
    }
    found = decode_values("deribit_portfolio", updated(values, told))
    assert (found.general.mm_factor, found.currency_pair["eth_usd"].price_range) == (0.75, 0.20)
    assert found.currency_pair["xrp_usd"].price_range == 0.18
    assert found.currency_pair["btc_usd"] == P.currency_pair["btc_usd"]
    assert found.currency == P.currency
    assert updated(values, {}) == values


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"currency_pair": {"eth_usd": {"price_range": 0.2}}}, "volatility_range_up"),
        ({"currency_pair": {"eth_usd": None}}, "price_range"),
        ({"general": {"mm_factor": "all"}}, "mm_factor"),
        (
            {
                "currency_pair": {
                    "eth_usd": {**carried("deribit_portfolio").values["currency_pair"]["eth_usd"], "price_range": 1.5}
                }
            },
            "price range",
        ),
    ],
)
def test_what_makes_no_parameters_is_refused(told: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        updated(carried("deribit_portfolio").values, told)
