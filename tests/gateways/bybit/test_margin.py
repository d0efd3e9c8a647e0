"""Bybit's margin through the real ccxt: of the unified account, and the stress grid it shows."""

from __future__ import annotations

from typing import Any

import ccxt
import pytest

from bot.domain.risk import MarginGrid, ReportedMargin
from bot.gateways.bybit.margin import read_grids, read_margins
from bot.gateways.bybit.orders import BybitOrderWords
from bot.risk.margin.bybit import from_grid
from tests.gateways.answering import answering


def answered(result: dict[str, Any]) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1700000000000}


def account(**told: str) -> dict[str, Any]:
    coin = {"coin": "USDC", "equity": "3000", "walletBalance": "3000", "usdValue": "3000"}
    return {"list": [{"accountType": "UNIFIED", "coin": [coin], **told}]}


# Names as documented for v5/asset/portfolio-margin; own numbers.
LINE = {
    "baseCoin": "BTC",
    "totalPnlRanges": {
        "ALL": {
            "pnlRanges": [
                {"priceScale": "-0.1", "pnls": ["-70.5", "-80", "-75"]},
                {"priceScale": "0", "pnls": ["-5", "0", "5"]},
                {"priceScale": "0.1", "pnls": ["60", "65", "70"]},
            ]
        }
    },
    "contingency": {"optionContingency": "5", "futureContingency": "2.5", "contingencyComponents": "7.5"},
    "asset": {"coin": "BTC", "assetIM": "105", "assetMM": "87.5"},
    "maxLossPriceMove": "-0.1",
}


async def test_margin_of_the_unified_account_comes_with_its_balances() -> None:
    told = account(totalMarginBalance="3003.26", totalInitialMargin="120.5", totalMaintenanceMargin="90.25")
    unified = answered({"unifiedMarginStatus": 6, "marginMode": "PORTFOLIO_MARGIN"})
    answers = {
        "account/wallet-balance": answered(told),
        "user/query-api": answered({"uta": 1}),
        "account/info": unified,
    }
    async with answering("bybit", answers) as (exchange, _):
        equity, margins = await BybitOrderWords().fetch_account(exchange)
    assert equity == {"USDC": 3_000.0}
    assert margins == (ReportedMargin("", 3_003.26, 120.5, 90.25),)


def test_isolated_positions_have_no_margin_of_the_account() -> None:
    told = account(totalMarginBalance="", totalInitialMargin="", totalMaintenanceMargin="")
    assert read_margins({"result": told}) == read_margins({}) == ()


async def test_the_grid_it_shows_adds_up_to_what_it_asks() -> None:
    broken = {**LINE, "baseCoin": "ETH", "asset": {"assetIM": "", "assetMM": "1"}}
    holed = {**LINE, "baseCoin": "SOL", "totalPnlRanges": {"ALL": {"pnlRanges": [{"pnls": ["1", ""]}]}}}
    told = answered({"wallet": {}, "assetPnlRange": [LINE, broken, holed]})
    async with answering("bybit", {"asset/portfolio-margin": told}) as (exchange, venue):
        (grid,) = await read_grids(exchange, "BTC")
    assert grid == MarginGrid("BTC", (-70.5, -80.0, -75.0, -5.0, 0.0, 5.0, 60.0, 65.0, 70.0), 7.5, 105.0, 87.5)
    assert venue.asked[-1][1] == {"baseCoin": "BTC"}
    assert from_grid(grid).maintenance == grid.maintenance_quote


async def test_an_answer_without_lines_is_refused() -> None:
    async with answering("bybit", {"asset/portfolio-margin": answered({})}) as (exchange, _):
        with pytest.raises(ccxt.BadResponse, match="expected portfolio margin"):
            await read_grids(exchange)
