"""Funding and open interest through the real ccxt, from a loopback venue and a page in the venue's shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ccxt.pro
import pytest

from bot.domain.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.series.derivatives import FundingRates, OpenInterest
from bot.gateways.series.fetching import SeriesDown
from tests.gateways.watched import WallClock
from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.faults import http
from tests.venues.pages import Pages

SYMBOL = "ETH/USDT:USDT"
HISTORY = "openInterestHist"


@asynccontextmanager
async def opened(server: BinanceServer, data_url: str = "") -> AsyncIterator[ccxt.pro.Exchange]:
    options: dict[str, Any] = server.options
    options["urls"]["api"]["fapiData"] = data_url or f"http://{server.host}"
    settings = VenueSettings(
        venue="binance", exchange_id="binanceusdm", underlyings=frozenset({"ETH"}), options=options
    )
    exchange = open_exchange(settings, Credentials())
    try:
        yield exchange
    finally:
        await exchange.close()


async def test_funding_since_a_time() -> None:
    book = usdm_book()
    book.set_index("ETH", 2_000.0)
    book.set_quote("ETHUSDT", 2_000.0, 5.0, 2_000.5, 5.0)
    book.place("ETHUSDT", is_buy=True, amount=1.0)
    clock = WallClock()
    async with BinanceServer(book) as server, opened(server) as exchange:
        before_ns = clock.now_ns() - NS_PER_HOUR
        book.pay_funding("ETHUSDT", 0.0001)
        reader = FundingRates(exchange, SYMBOL, "ETH")
        [value] = await reader.read(before_ns, clock.now_ns() + NS_PER_S)
        assert (value.series, value.value, value.as_of_ns) == ("FUNDING-ETH", 0.0001, value.ts_event_ns)
        assert await reader.read(value.as_of_ns + NS_PER_HOUR, clock.now_ns() + NS_PER_S) == []
        server.faults.always("any", http(503))
        with pytest.raises(SeriesDown, match="FUNDING-ETH: "):
            await reader.read(before_ns, clock.now_ns())


async def test_open_interest_in_quote_money_as_the_venue_says_it() -> None:
    now_ns = 1_700_000_000 * NS_PER_S
    rows = [
        {"symbol": "ETHUSDT", "sumOpenInterest": "75.6", "sumOpenInterestValue": value, "timestamp": stamp}
        for value, stamp in (("152000", now_ns // NS_PER_MS - 1), ("150000", now_ns // NS_PER_MS - 3_600_001))
    ]
    async with (
        BinanceServer(usdm_book()) as server,
        Pages({HISTORY: rows}) as pages,
        opened(server, pages.url) as venue,
    ):
        reader = OpenInterest(venue, SYMBOL, "ETH")
        values = await reader.read(0, now_ns)
        assert [(one.series, one.value) for one in values] == [("OI-ETH", 150_000.0), ("OI-ETH", 152_000.0)]
        assert pages.asked[0][1]["period"] == "1h"
        del rows[0]["sumOpenInterestValue"]  # a change of units is no change of open interest
        assert [one.value for one in await reader.read(0, now_ns)] == [150_000.0]


def test_a_timeframe_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a timeframe of 5m"):
        OpenInterest(ccxt.pro.binanceusdm(), SYMBOL, "ETH", timeframe="3m")


async def test_a_venue_that_cannot_be_asked_is_down() -> None:
    venue = ccxt.pro.hyperliquid()
    try:
        with pytest.raises(SeriesDown, match="ccxt cannot ask hyperliquid"):
            await OpenInterest(venue, "ETH/USDC:USDC", "ETH").read(0, 1)
    finally:
        await venue.close()
