"""Hyperliquid's margin through the real ccxt."""

from __future__ import annotations

import pytest

from bot.domain.venues import AccountReport
from bot.gateways.hyperliquid.margin import read_margins
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
