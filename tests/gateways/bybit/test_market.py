"""Bybit's words: spot pairs share their ids with perpetuals; the documented tickers of options and perpetuals."""

from __future__ import annotations

from typing import Any

import ccxt.pro
from hypothesis import given

from bot.domain.market import IndexPrice, VolQuote
from bot.gateways.bybit.market import BybitMarketWords
from bot.gateways.market_feed import read_index, read_vols
from tests.gateways.listings import listing
from tests.gateways.payloads import heard, maimed

WORDS = BybitMarketWords()
OPTION = listing("option", "BTC-6JAN23-17500-C", "BTC/USDC:USDC-230106-17500-C")
PERPETUAL = listing("swap", "BTCUSDT", "BTC/USDT:USDT")
OPTION_TICKER = {
    "topic": "tickers.BTC-6JAN23-17500-C",
    "ts": 1_672_917_511_074,
    "type": "snapshot",
    "data": {
        "symbol": "BTC-6JAN23-17500-C",
        "bidPrice": "0",
        "bidSize": "0",
        "bidIv": "0",
        "askPrice": "10",
        "askSize": "5.1",
        "askIv": "0.514",
        "lastPrice": "10",
        "indexPrice": "16823.73",
        "markPriceIv": "0.4896",
        "underlyingPrice": "16815.1",
    },
}
PERPETUAL_TICKERS = [
    {
        "topic": "tickers.BTCUSDT",
        "type": "snapshot",
        "ts": 1_673_272_861_000,
        "data": {"symbol": "BTCUSDT", "lastPrice": "17216.00", "indexPrice": "17227.36", "fundingRate": "-0.000212"},
    },
    {
        "topic": "tickers.BTCUSDT",
        "type": "delta",
        "ts": 1_673_272_862_000,
        "data": {"symbol": "BTCUSDT", "indexPrice": "17228.00"},
    },
]
GREEKS = {
    "symbol": "BTC-6JAN23-17500-C",
    "bid1Iv": "0.5478",
    "ask1Iv": "0.5638",
    "markIv": "0.5577",
    "underlyingPrice": "37649.67",
}


def test_a_spot_pair_has_a_name_of_its_own() -> None:
    assert BybitMarketWords().native_id(listing("spot", "ETHUSDT", "ETH/USDT")) == "ETH/USDT"
    assert BybitMarketWords().native_id(listing("swap", "ETHUSDT", "ETH/USDT:USDT")) == "ETHUSDT"


async def test_the_stream_of_an_option_tells_vols_as_fractions() -> None:
    async with heard(ccxt.pro.bybit(), [OPTION, PERPETUAL], [OPTION_TICKER]) as exchange:
        vols = read_vols(WORDS.vols(exchange.tickers[OPTION["symbol"]]), "X", WORDS.vol_unit, 10**18, 1)
    assert vols == VolQuote("X", 0.4896, 0.0, 0.514, 16815.1, 1_672_917_511_074_000_000, 10**18, 1)


async def test_the_greeks_tell_them_by_other_names() -> None:
    exchange = ccxt.pro.bybit()
    exchange.set_markets([OPTION])
    vols = read_vols(WORDS.vols(exchange.parse_greeks(GREEKS)), "X", WORDS.vol_unit, 10**18, 1)
    assert vols == VolQuote("X", 0.5577, 0.5478, 0.5638, 37649.67, 10**18, 10**18, 1)


async def test_differences_keep_what_they_do_not_name() -> None:
    async with heard(ccxt.pro.bybit(), [OPTION, PERPETUAL], PERPETUAL_TICKERS) as exchange:
        index = read_index(WORDS.index(exchange.tickers[PERPETUAL["symbol"]]), "BTC", 10**18, 1)
    assert index == IndexPrice("BTC", 17228.0, 1_673_272_862_000_000_000, 10**18, 1)


@given(maimed({"info": {**GREEKS, **OPTION_TICKER["data"]}, "timestamp": 1}))
def test_nothing_makes_the_words_raise(raw: dict[str, Any]) -> None:
    read_vols(WORDS.vols(raw), "X", WORDS.vol_unit, 10**18, 1)
    read_index(WORDS.index(raw), "BTC", 10**18, 1)
