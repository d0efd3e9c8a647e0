"""Hyperliquid: slices by leverage, resting orders, and the ratio of portfolio margin."""

from __future__ import annotations

import math

import msgspec
import pytest

from bot.risk.book import PERPETUAL, Position, build_book
from bot.risk.margin.hyperliquid import (
    LeverageTier,
    PortfolioToken,
    maintenance_quote,
    portfolio_ratio,
    requirement,
    updated,
)
from tests.risk.margin.cases import carried, parameters

P = parameters("hyperliquid")


def test_maintenance_is_half_of_the_greatest_leverage_slice_by_slice() -> None:
    tiers = (LeverageTier(0.0, 40.0), LeverageTier(150e6, 20.0))
    assert maintenance_quote(100e6, tiers) == pytest.approx(100e6 / 80)
    assert maintenance_quote(200e6, tiers) == pytest.approx(150e6 / 80 + 50e6 / 40)
    for broken in ((), (LeverageTier(1.0, 40.0),), (LeverageTier(0.0, 0.0),)):
        with pytest.raises(ValueError, match="expected leverage tiers from 0 on"):
            maintenance_quote(1.0, broken)


def test_positions_and_resting_orders() -> None:
    leg = Position(kind=PERPETUAL, underlying="BTC", qty_base=-1.0, buy_base=0.5, sell_base=1.0, money="USDC")
    book = build_book([leg], {"BTC": 80_000.0})
    found = requirement(book, P)
    assert found.maintenance == pytest.approx(1_000.0)
    assert found.initial == pytest.approx(160_000.0 / 40 + 0.01 * 120_000.0)
    calmer = msgspec.structs.replace(P, leverage={"BTC": 10.0})
    assert requirement(book, calmer).charge("BTC perpetuals").initial == pytest.approx(16_000.0)


def test_the_portfolio_ratio_by_hand() -> None:
    usdc = PortfolioToken(
        name="USDC", balance=-2_000.0, px=1.0, borrowed=2_000.0, is_borrowable=True, cross_maintenance_quote=380.0
    )
    hype = PortfolioToken(name="HYPE", balance=200.0, px=40.0, ltv=0.5)
    # (20 + 380 + 2,000) / (-2,000 + 8,000 × 0.75)
    assert portfolio_ratio([usdc, hype], P) == pytest.approx(0.6)
    capped = msgspec.structs.replace(hype, supply_cap=150.0)
    assert portfolio_ratio([usdc, capped], P) == pytest.approx(2_400.0 / 2_500.0)
    assert portfolio_ratio([usdc, capped], P) > P.portfolio_liquidation_ratio
    scarce = msgspec.structs.replace(usdc, borrow_cap=3_000.0)
    assert portfolio_ratio([scarce, hype], P) == pytest.approx(2.4)


def test_a_debt_without_collateral_is_beyond_every_ratio_and_the_worst_token_decides() -> None:
    bare = PortfolioToken(name="USDC", balance=-1.0, px=1.0, borrowed=1.0, is_borrowable=True)
    assert portfolio_ratio([bare], P) == math.inf
    rich = PortfolioToken(name="USDH", balance=1_000.0, px=1.0, is_borrowable=True)
    assert portfolio_ratio([rich], P) == pytest.approx(0.02)
    assert portfolio_ratio([rich, bare], P) == math.inf
    assert portfolio_ratio([], P) == 0.0


def test_tiers_that_the_venue_tells_replace_those_of_their_coin() -> None:
    told = {"SOL": [{"lowerBound": "40000000.0", "maxLeverage": 10}, {"lowerBound": "0.0", "maxLeverage": 20}]}
    values = carried("hyperliquid").values
    found = updated(values, told)
    assert found["tiers"]["SOL"] == [
        {"from_quote": 0.0, "max_leverage": 20.0},
        {"from_quote": 40e6, "max_leverage": 10.0},
    ]
    assert found["tiers"]["BTC"] == values["tiers"]["BTC"]
    with pytest.raises(ValueError, match="expected leverage tiers from 0 on"):
        updated(values, {"SOL": told["SOL"][:1]})


@pytest.mark.parametrize("leverage", [0.0, -5.0, float("nan"), float("inf")])
def test_a_leverage_that_is_none_is_refused(leverage: float) -> None:
    book = build_book([Position(kind=PERPETUAL, underlying="BTC", qty_base=1.0)], {"BTC": 60_000.0})
    with pytest.raises(ValueError, match="expected a leverage above 0 of BTC"):
        requirement(book, msgspec.structs.replace(parameters("hyperliquid"), leverage={"BTC": leverage}))
