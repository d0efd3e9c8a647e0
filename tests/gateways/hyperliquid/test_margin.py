"""Hyperliquid's margin through the real ccxt."""

from __future__ import annotations

import pytest

from bot.domain.venues import AccountReport
from bot.gateways.hyperliquid.margin import read_margins, read_terms
from tests.gateways.answering import answering
from tests.gateways.desks import rigged
from tests.venues.hyperliquid import HyperliquidServer, hyperliquid_book
from tests.venues.hyperliquid_payloads import LEVERAGE


async def test_an_account_report_brings_the_margin_of_cross_positions() -> None:
    book = hyperliquid_book()
    book.set_index("ETH", 2_000.0)
    book.set_quote("ETH", 1_999.9, 5.0, 2_000.1, 5.0)
    async with HyperliquidServer(book) as server, rigged("hyperliquid", "hyperliquid", server) as rig:
        await rig.until(AccountReport)
        (instrument,) = [each for each in rig.markets.instruments if each.base == "ETH"]
        rig.send(instrument.instrument_id, -20_000, 1_999.0)
        await rig.soon(lambda: book.position("ETH").amount == -2.0)
        rig.got.clear()
        rig.desk.watch.poll_now()
        report = await rig.until(AccountReport)
    (margin,) = report.margins
    notional = 2.0 * (book.mark_px("ETH") or 0.0)
    assert margin.equity_quote == pytest.approx(report.balances["USDC"])
    assert margin.initial_quote == pytest.approx(notional / LEVERAGE)
    assert margin.maintenance_quote == pytest.approx(notional / LEVERAGE / 2)


def test_an_answer_without_it_is_nothing() -> None:
    assert read_margins({"balances": []}) == ()


async def test_tiers_in_use_are_of_the_margin_table_else_of_the_greatest_leverage() -> None:
    told = {
        "universe": [
            {"name": "BTC", "maxLeverage": 40, "marginTableId": 56},
            {"name": "ATOM", "maxLeverage": 5, "marginTableId": 5},
            {"name": "ODD", "maxLeverage": None, "marginTableId": 7},
        ],
        "marginTables": [
            [56, {"description": "tiered 40x", "marginTiers": [
                {"lowerBound": "0.0", "maxLeverage": 40}, {"lowerBound": "150000000.0", "maxLeverage": 20}]}],
        ],
    }  # fmt: skip
    async with answering("hyperliquid", {"/info": told}) as (exchange, venue):
        found = await read_terms(exchange)
    assert found == {
        "BTC": told["marginTables"][0][1]["marginTiers"],  # type: ignore[index]
        "ATOM": [{"lowerBound": 0.0, "maxLeverage": 5}],
    }
    assert venue.asked[-1][2] == {"type": "meta"}
