"""Binance's words: spot pairs share their ids with perpetuals; recorded markets and best bids and asks."""

from __future__ import annotations

import json
from typing import Any

import ccxt.pro
import pytest
from hypothesis import given

from bot.domain.instruments import Payoff
from bot.domain.market import IndexPrice, Quote
from bot.gateways.binance.market import BinanceMarketWords
from bot.gateways.market_feed import read_index, read_quote
from bot.gateways.markets import Markets
from tests.gateways.listings import listing, sized
from tests.gateways.payloads import HERE, heard, maimed, messages
from tests.gateways.watched import watching
from tests.venues.binance import BinanceServer, usdm_book

WORDS = BinanceMarketWords()
LISTED = json.loads((HERE / "binance_futures_symbols.json").read_text())
MARK = {
    "e": "markPriceUpdate",
    "E": 1_562_305_380_000,
    "s": "BTCUSDT",
    "p": "11794.15000000",
    "i": "11784.62659091",
    "P": "11784.25641265",
    "r": "0.00038167",
    "T": 1_562_306_400_000,
}


def test_a_spot_pair_has_a_name_of_its_own() -> None:
    assert BinanceMarketWords().native_id(listing("spot", "ETHUSDT", "ETH/USDT")) == "ETH/USDT"
    assert BinanceMarketWords().native_id(listing("swap", "ETHUSDT", "ETH/USDT:USDT")) == "ETHUSDT"


async def test_recorded_linear_markets_and_best_bids_and_asks() -> None:
    exchange = ccxt.pro.binanceusdm()
    said = [m["data"] for m in messages("binance_futures_ws.jsonl")]
    async with heard(exchange, [exchange.parse_market(raw) for raw in LISTED], said):
        coins = frozenset({"BTC", "ETH", "SUSHI", "AKRO", "KEEP", "CTK"})
        markets = Markets("binance", coins, WORDS)
        markets.update(exchange.markets.values(), exchange.precisionMode)
        assert markets.unusable == {}
        bitcoin = markets.get("BTCUSDT")
        assert bitcoin is not None
        assert (bitcoin.payoff, bitcoin.lot_size, bitcoin.tick_schedule.tick_px) == (Payoff.LINEAR, 0.001, 0.01)
        assert (bitcoin.min_lots, bitcoin.taker_bps) == (1, None)
        assert len(exchange.bidsasks) == 4
        for symbol, ticker in exchange.bidsasks.items():
            instrument = markets.instrument_of(symbol)
            assert instrument is not None
            quote = read_quote(WORDS.sides(ticker), instrument, markets.base_of, 10**18, 1)
            assert isinstance(quote, Quote)
            last = [m for m in said if m["s"] == instrument.instrument_id][-1]
            assert (quote.bid_px, quote.ask_base) == (float(last["b"]), pytest.approx(float(last["A"])))
            assert quote.ts_event_ns == last["E"] * 1_000_000


async def test_recorded_inverse_contracts_are_of_ten_or_a_hundred_dollars() -> None:
    exchange = ccxt.pro.binancecoinm()
    said = [m["data"] for m in messages("binance_delivery_ws.jsonl") if m["data"]["s"].endswith("PERP")]
    names = sorted({m["s"] for m in said})
    coins = {name: name.removesuffix("USD_PERP") for name in names}
    listed = [listing("swap", name, f"{coin}/USD:{coin}", **sized(10.0, 1.0, 0.0001)) for name, coin in coins.items()]
    async with heard(exchange, listed, said):
        markets = Markets("binance", frozenset(coins.values()), WORDS)
        markets.update(exchange.markets.values(), exchange.precisionMode)
        assert len(exchange.bidsasks) == len(names) > 3
        for symbol, ticker in exchange.bidsasks.items():
            instrument = markets.instrument_of(symbol)
            assert instrument is not None
            quote = read_quote(WORDS.sides(ticker), instrument, markets.base_of, 10**18, 1)
            assert isinstance(quote, Quote)
            last = [m for m in said if m["s"] == instrument.instrument_id][-1]
            assert quote.bid_base * quote.bid_px == pytest.approx(float(last["B"]) * 10.0)


async def test_the_mark_price_stream_tells_the_index() -> None:
    exchange = ccxt.pro.binanceusdm()
    async with heard(exchange, [exchange.parse_market(raw) for raw in LISTED], [MARK]):
        index = read_index(WORDS.index(exchange.tickers["BTC/USDT:USDT"]), "BTC", 10**18, 1)
    assert index == IndexPrice("BTC", 11784.62659091, 1_562_305_380_000_000_000, 10**18, 1)


@given(maimed({"bid": 1.0, "bidVolume": 1.0, "ask": 2.0, "askVolume": 1.0, "timestamp": 1, "indexPrice": 1.0}))
def test_nothing_makes_the_words_raise(raw: dict[str, Any]) -> None:
    WORDS.sides(raw)
    read_index(WORDS.index(raw), "BTC", 10**18, 1)


async def test_the_feed_on_a_loopback_binance() -> None:
    book = usdm_book()
    book.set_index("ETH", 2_000.0)
    book.set_quote("ETHUSDT", 1_999.99, 5.0, 2_000.01, 4.0)
    async with (
        BinanceServer(book) as server,
        watching(server, "b:ETHUSDT", exchange_id="binanceusdm", prefix="b:") as seen,
    ):
        await seen.soon(lambda: seen.of(Quote, "b:ETHUSDT") and seen.of(IndexPrice))
        quote = seen.of(Quote, "b:ETHUSDT")[0]
        assert (quote.bid_px, quote.bid_base, quote.ask_px, quote.ask_base) == (1_999.99, 5.0, 2_000.01, 4.0)
        assert seen.of(IndexPrice)[0].px == 2_000.0
        server.freeze()
        book.set_quote("ETHUSDT", 1_990.0, 5.0, 1_990.01, 4.0)
        await seen.soon(lambda: seen.of(Quote, "b:ETHUSDT")[-1].bid_px == 1_990.0)
        await seen.soon(seen.feed.reconnects.total)
        book.set_quote("ETHUSDT", 1_991.0, 5.0, 1_991.01, 4.0)
        await seen.soon(lambda: seen.of(Quote, "b:ETHUSDT")[-1].bid_px == 1_991.0)
