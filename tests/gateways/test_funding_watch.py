"""Funding on our positions: told once, whoever books it, and never of a position that is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bot.domain.orders import Fill, FundingPayment
from bot.domain.units import NS_PER_MS
from tests.gateways.desks import Rig, rigged
from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.faults import http
from tests.venues.hyperliquid import HyperliquidServer, hyperliquid_book
from tests.venues.loopback import LoopbackServer


@asynccontextmanager
async def holding(venue: str) -> AsyncIterator[tuple[Rig, LoopbackServer, str]]:
    """A tenth of a coin, bought on a venue that books funding; asked for every 50 ms."""
    name = "ETHUSDT" if venue == "binanceusdm" else "ETH"
    book = usdm_book() if venue == "binanceusdm" else hyperliquid_book()
    book.set_index("ETH", 2_000.0)
    book.set_quote(name, 2_000.0, 5.0, 2_000.5, 5.0)
    server = BinanceServer(book) if venue == "binanceusdm" else HyperliquidServer(book)
    async with server, rigged(venue, venue, server, fills_poll_ns=50 * NS_PER_MS) as rig:
        instrument = rig.markets.get(name)
        assert instrument is not None
        rig.send(name, round(0.1 / instrument.lot_size), 2_001.0)
        await rig.until(Fill)
        yield rig, server, name


@pytest.mark.parametrize("venue", ["binanceusdm", "hyperliquid"])
async def test_a_payment_is_told_once(venue: str) -> None:
    async with holding(venue) as (rig, server, name):
        paid = server.book.pay_funding(name, 0.0001)
        payment = await rig.until(FundingPayment)
        assert payment.instrument_id == name
        assert payment.amount_settle == pytest.approx(paid.amount, abs=1e-6)
        assert payment.amount_settle < 0  # longs pay
        assert payment.payment_id == str(payment.ts_event_ns // NS_PER_MS)
        await asyncio.sleep(0.2)
        assert len(rig.of(FundingPayment)) == 1
        await asyncio.sleep(0.002)
        server.book.pay_funding(name, -0.0002)
        second = await rig.until(FundingPayment, 2)
        assert second.amount_settle > 0


async def test_a_failure_loses_no_payment() -> None:
    async with holding("binanceusdm") as (rig, server, name):
        server.faults.always("any", http(502))
        server.book.pay_funding(name, 0.0001)
        await asyncio.sleep(0.15)
        assert not rig.of(FundingPayment)
        server.faults.clear()
        await rig.until(FundingPayment)
