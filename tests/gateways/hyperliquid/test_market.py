"""Hyperliquid's words: prices of five figures, checked against ccxt's own rounding."""

from __future__ import annotations

from typing import Any

import ccxt.pro
import pytest
from hypothesis import given

from bot.domain.market import IndexPrice, Quote
from bot.gateways.hyperliquid.market import HyperliquidMarketWords
from bot.gateways.market_feed import read_index, read_quote
from bot.gateways.markets import Markets
from tests.gateways.payloads import heard, maimed
from tests.gateways.watched import watching
from tests.venues.hyperliquid import HyperliquidServer, hyperliquid_book

WORDS = HyperliquidMarketWords()
LISTED = {"name": "ETH", "szDecimals": "4", "markPx": "2369.6", "maxLeverage": "50", "baseId": 1}
BOOK = {
    "channel": "l2Book",
    "data": {
        "coin": "ETH",
        "time": 1_710_131_872_708,
        "levels": [
            [{"px": "2369.5", "sz": "1.5", "n": 1}, {"px": "2369.4", "sz": "2.0", "n": 1}],
            [{"px": "2369.6", "sz": "0.5", "n": 1}],
        ],
    },
}
CONTEXT = {
    "channel": "activeAssetCtx",
    "data": {
        "coin": "ETH",
        "ctx": {"markPx": "2369.6", "midPx": "2369.55", "oraclePx": "2370.1", "funding": "0.0000125"},
    },
}

COINS = [("BTC", "5", "64250"), ("ETH", "4", "2369.6"), ("SOL", "2", "108.04"), ("kPEPE", "0", "0.012345")]


@pytest.mark.parametrize(("coin", "decimals", "px"), COINS)
async def test_ticks_are_those_ccxt_rounds_to(coin: str, decimals: str, px: str) -> None:
    exchange = ccxt.pro.hyperliquid()
    raw = {"name": coin, "szDecimals": decimals, "markPx": px, "maxLeverage": "50", "baseId": 7}
    exchange.set_markets([exchange.parse_market(raw)])
    (market,) = exchange.markets.values()
    markets = Markets("hyperliquid", frozenset({market["base"]}), HyperliquidMarketWords())
    markets.update([market], exchange.precisionMode)
    (perpetual,) = markets.instruments
    assert perpetual.instrument_id == coin
    assert perpetual.min_quote == 10.0
    for scale in (0.1, 0.99999, 1.0, 1.00001, 3.7, 10.0, 100.0):
        wanted_px = float(px) * scale
        schedule = perpetual.tick_schedule
        for ticks in (schedule.floor_ticks(wanted_px), schedule.ceil_ticks(wanted_px)):
            our_px = schedule.px(ticks)
            assert float(exchange.price_to_precision(market["symbol"], our_px)) == pytest.approx(our_px, rel=1e-12)
            assert abs(our_px / wanted_px - 1) < 1e-3 if ticks else True
    await exchange.close()


async def test_the_book_and_the_context_become_quote_and_index() -> None:
    exchange = ccxt.pro.hyperliquid()
    async with heard(exchange, [exchange.parse_market(LISTED)], [BOOK, CONTEXT]):
        markets = Markets("hyperliquid", frozenset({"ETH"}), WORDS)
        markets.update(exchange.markets.values(), exchange.precisionMode)
        symbol = markets.symbol_of("ETH")
        quote = read_quote(WORDS.sides(exchange.orderbooks[symbol]), markets.instruments[0], markets.base_of, 10**18, 7)
        assert quote == Quote("ETH", 2369.5, 1.5, 2369.6, 0.5, 1_710_131_872_708_000_000, 10**18, 7)
        index = read_index(WORDS.index(exchange.tickers[symbol]), "ETH", 10**18, 8)
        assert index == IndexPrice("ETH", 2370.1, 10**18, 10**18, 8)  # the venue gives no time for it


@given(maimed({"bids": [[2369.5, 1.5]], "asks": [[2369.6, 0.5]], "timestamp": 1, "info": {"oraclePx": "1"}}))
def test_nothing_makes_the_words_raise(raw: dict[str, Any]) -> None:
    WORDS.sides(raw)
    read_index(WORDS.index(raw), "ETH", 10**18, 1)


async def test_the_feed_on_a_loopback_hyperliquid() -> None:
    book = hyperliquid_book()
    book.set_index("ETH", 2_000.0)
    book.set_quote("ETH", 1_999.9, 5.0, 2_000.1, 4.0)
    async with (
        HyperliquidServer(book) as server,
        watching(server, "ETH", exchange_id="hyperliquid") as seen,
    ):
        await seen.soon(lambda: seen.of(Quote, "ETH") and seen.of(IndexPrice))
        quote = seen.of(Quote, "ETH")[0]
        assert (quote.bid_px, quote.bid_base, quote.ask_px, quote.ask_base) == (1_999.9, 5.0, 2_000.1, 4.0)
        assert seen.of(IndexPrice)[0].px == 2_000.0
        server.freeze()
        book.set_quote("ETH", 1_990.0, 5.0, 1_990.1, 4.0)
        await seen.soon(lambda: seen.of(Quote, "ETH")[-1].bid_px == 1_990.0)
        await seen.soon(seen.feed.reconnects.total)
        book.set_quote("ETH", 1_991.0, 5.0, 1_991.1, 4.0)
        await seen.soon(lambda: seen.of(Quote, "ETH")[-1].bid_px == 1_991.0)
        # A book that has crossed is dropped, and asked for anew.
        book.set_quote("ETH", 2_010.0, 5.0, 1_991.1, 4.0)
        await seen.soon(lambda: seen.feed.dropped["quotes: crossed"])
        book.set_quote("ETH", 1_992.0, 5.0, 1_992.1, 4.0)
        await seen.soon(lambda: seen.of(Quote, "ETH")[-1].bid_px == 1_992.0)
