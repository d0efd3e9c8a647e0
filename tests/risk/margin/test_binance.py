"""Binance: tiers of USD-M margin, uniMMR and its states."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from bot.risk.book import OPTION, PERPETUAL, SPOT, Position, build_book
from bot.risk.margin.binance import AccountState, account_state, adjusted_equity, requirement, uni_mmr, updated
from tests.risk.margin.cases import carried, expected, inputs, parameters

P = parameters("binance")
CASE = "binance_unimmr_own"


def test_the_worked_uni_mmr() -> None:
    given = inputs(CASE)
    values = [(given["usdt_equity"], 1.0), (given["btc_equity_usd"], given["btc_collateral_rate"])]
    assert adjusted_equity(values) == expected(CASE, "adjusted_equity")
    assert uni_mmr(values, given["mm_usd"]) == expected(CASE, "unimmr")


def test_what_is_owed_gets_no_haircut() -> None:
    assert adjusted_equity([(1_000.0, 0.9), (-500.0, 0.9)]) == pytest.approx(400.0)
    assert uni_mmr([(1.0, 1.0)], 0.0) == math.inf
    assert uni_mmr([(-1.0, 1.0)], 0.0) == -math.inf


@pytest.mark.parametrize(
    ("ratio", "state"),
    [
        (29.064, AccountState.FREE),
        (1.5000001, AccountState.FREE),
        (1.5, AccountState.REMINDER),
        (1.2, AccountState.REDUCE_ONLY),
        (1.0500001, AccountState.REDUCE_ONLY),
        (1.05, AccountState.LIQUIDATION),
        (1.0, AccountState.CLAIM),
        (-math.inf, AccountState.CLAIM),
        (math.nan, AccountState.CLAIM),
    ],
)
def test_states_by_ratio(ratio: float, state: AccountState) -> None:
    assert account_state(ratio, P) is state


@pytest.mark.parametrize("name", ["BTC", "ETH", "*"])
def test_carried_tiers_are_continuous(name: str) -> None:
    tiers = P.tiers[name]
    for before, after in pairwise(tiers):
        step = after.from_quote * (after.maintenance_rate - before.maintenance_rate)
        assert after.deducted_quote == pytest.approx(before.deducted_quote + step), after.from_quote
        assert after.initial_rate > before.initial_rate
    assert all(tier.initial_rate > tier.maintenance_rate for tier in tiers)


def test_positions_orders_loans_and_options() -> None:
    spot = {"BTC": 100_000.0}
    held = build_book([Position(kind=PERPETUAL, underlying="BTC", qty_base=-10.0, sell_base=10.0)], spot)
    found = requirement(held, P)
    assert found.maintenance == pytest.approx(1_000_000.0 * 0.0065 - 1_500.0)
    assert found.initial == pytest.approx(2_000_000.0 / 75)
    loan = requirement(build_book([Position(kind=SPOT, underlying="BTC", qty_base=-1.0)], spot), P)
    assert (loan.initial, loan.maintenance) == pytest.approx((25_000.0, 8_000.0))
    assert requirement(build_book([Position(kind=SPOT, underlying="BTC", qty_base=1.0)], spot), P).initial == 0.0
    sold = Position(
        kind=OPTION,
        underlying="BTC",
        qty_base=-2.0,
        strike_px=110_000.0,
        tau_years=0.1,
        vol=0.6,
        is_call=True,
        mark_px=3e3,
    )
    found = requirement(build_book([sold], spot), P)
    assert (found.initial, found.maintenance) == pytest.approx((2 * 13_000.0, 2 * 10_500.0))


def test_brackets_that_the_venue_tells_replace_those_of_their_underlying() -> None:
    brackets = [
        {"notionalFloor": 50_000, "notionalCap": 1e9, "maintMarginRatio": 0.01, "cum": 250.0, "initialLeverage": 20},
        {"notionalFloor": 0, "notionalCap": 50_000, "maintMarginRatio": "0.005", "cum": "0.0", "initialLeverage": 50},
    ]
    values = carried("binance").values
    found = updated(values, {"SOL": brackets})
    assert [tier["from_quote"] for tier in found["tiers"]["SOL"]] == [0.0, 50_000.0]
    assert found["tiers"]["SOL"][1] == pytest.approx(
        {"from_quote": 50_000.0, "maintenance_rate": 0.01, "initial_rate": 0.05, "deducted_quote": 250.0}
    )
    assert found["tiers"]["BTC"] == values["tiers"]["BTC"]
    for broken in ([], brackets[:1], [{**brackets[1], "maintMarginRatio": 0}]):
        with pytest.raises(ValueError, match="expected ma"):
            updated(values, {"SOL": broken})
