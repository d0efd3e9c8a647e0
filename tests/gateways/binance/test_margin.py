"""Binance's margin through the real ccxt: of USD-M futures with the account report, of portfolio margin and options."""

from __future__ import annotations

import pytest

from bot.domain.risk import ReportedMargin
from bot.domain.venues import AccountReport
from bot.gateways.binance.margin import read_margins, read_options, read_portfolio, read_terms
from tests.gateways.answering import answering
from tests.gateways.desks import rigged
from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.binance_payloads import LEVERAGE, MAINTENANCE_RATE


async def test_an_account_report_brings_the_margin_of_usd_m_futures() -> None:
    book = usdm_book()
    book.set_index("ETH", 2_000.0)
    book.set_quote("ETHUSDT", 1_999.99, 5.0, 2_000.01, 5.0)
    async with BinanceServer(book) as server, rigged("binance", "binanceusdm", server) as rig:
        await rig.until(AccountReport)
        rig.send("ETHUSDT", -2_000, 1_999.0)
        await rig.soon(lambda: book.position("ETHUSDT").amount == -2.0)
        rig.got.clear()
        rig.desk.watch.poll_now()
        report = await rig.until(AccountReport)
    (margin,) = report.margins
    notional = 2.0 * (book.mark_px("ETHUSDT") or 0.0)
    assert (margin.scope, margin.initial_quote) == ("", pytest.approx(notional / LEVERAGE))
    assert margin.maintenance_quote == pytest.approx(notional * MAINTENANCE_RATE)
    assert margin.equity_quote == pytest.approx(report.balances["USDT"])


def test_without_sums_it_is_told_by_asset() -> None:
    usdt = {"asset": "USDT", "marginBalance": "100", "initialMargin": "8", "maintMargin": "3"}
    idle = {"asset": "BNB", "marginBalance": "0", "initialMargin": "0", "maintMargin": "0"}
    assert read_margins({"assets": [usdt, idle]}) == (ReportedMargin("USDT", 100.0, 8.0, 3.0),)
    assert read_margins(None) == ()


async def test_portfolio_margin_and_options_tell_their_own() -> None:
    answers = {
        "/account": {"uniMMR": "5167.9", "accountEquity": "122607.35", "accountInitialMargin": "23.72",
                     "accountMaintMargin": "23.70", "accountStatus": "NORMAL"},
        "/marginAccount": {"asset": [{"asset": "USDT", "equity": "910.1", "initialMargin": "67",
                                      "maintMargin": "60.3"}]},
    }  # fmt: skip
    async with answering("binance", answers) as (exchange, _):
        assert await read_portfolio(exchange) == (ReportedMargin("", 122607.35, 23.72, 23.70),)
        assert await read_options(exchange) == (ReportedMargin("options USDT", 910.1, 67.0, 60.3),)


async def test_brackets_in_use_are_those_of_perpetuals_and_of_two_contracts_the_stricter() -> None:
    def line(symbol: str, rate: float) -> dict[str, object]:
        bracket = {"notionalFloor": 0, "maintMarginRatio": rate, "initialLeverage": 50, "cum": 0}
        return {"symbol": symbol, "brackets": [bracket]}

    def market(symbol: str, base: str, *, is_swap: bool) -> dict[str, object]:
        return {"id": symbol, "symbol": symbol, "base": base, "swap": is_swap, "spot": False, "contract": True}

    told = [line("ETHUSDC", 0.004), line("ETHUSDT", 0.006), line("ETHUSDT_260327", 0.02), line("NEWUSDT", 0.1)]
    markets = [
        market("ETHUSDC", "ETH", is_swap=True),
        market("ETHUSDT", "ETH", is_swap=True),
        market("ETHUSDT_260327", "ETH", is_swap=False),
    ]
    async with answering("binanceusdm", {"/leverageBracket": told}, markets) as (exchange, _):
        found = await read_terms(exchange)
    assert [one["maintMarginRatio"] for one in found["ETH"]] == [0.006]
