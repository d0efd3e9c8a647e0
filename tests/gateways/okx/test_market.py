"""OKX's words: contracts are value times multiplier; recorded markets and tickers; the documented option summary."""

from __future__ import annotations

import json
from typing import Any

import ccxt.pro
import pytest
from hypothesis import given

from bot.domain.instruments import Future, Option, Payoff, Perpetual, Spot
from bot.domain.market import Quote, VolQuote
from bot.gateways.market_feed import read_index, read_quote, read_vols
from bot.gateways.markets import Markets, market_words_of
from bot.gateways.okx.market import OkxMarketWords
from tests.gateways.listings import Listing, listing, sized
from tests.gateways.payloads import HERE, heard, maimed, messages

WORDS = OkxMarketWords()
LISTED = json.loads((HERE / "okx_instruments.json").read_text())
SUMMARY = {
    "askVol": "0",
    "bidVol": "0.58",
    "fwdPx": "37675.80158694987186",
    "instId": "BTC-USD-240329-32000-C",
    "markVol": "0.5916253554539876",
    "ts": "1699586421976",
    "uly": "BTC-USD",
}


def test_an_option_is_a_hundredth_of_a_coin_whatever_ccxt_says() -> None:
    raw = {"ctVal": "1", "ctMult": "0.01"}
    option: Listing = listing(
        "option", "BTC-USD-230428-19000-C", "BTC/USD:BTC-230428-19000-C", **sized(1.0, 1.0, 0.0005)
    )
    markets = Markets("okx", frozenset({"BTC"}), market_words_of("okx"))
    markets.update([{**option, "info": raw}])
    assert (markets.instruments[0].contract_size, markets.instruments[0].price_currency) == (0.01, "BTC")
    markets.update([{**option, "info": {"ctVal": "1", "ctMult": ""}}])
    assert markets.unusable == {"BTC-USD-230428-19000-C": "expected its contract size, found none"}


async def test_recorded_markets_and_tickers_become_instruments_and_quotes() -> None:
    exchange = ccxt.pro.okx()
    async with heard(exchange, [exchange.parse_market(raw) for raw in LISTED], messages("okx_ws.jsonl")):
        markets = Markets("okx", frozenset({"BTC", "ETH", "UNI"}), WORDS)
        markets.update(exchange.markets.values(), exchange.precisionMode)
        assert markets.unusable == {}
        kinds = {type(i) for i in markets.instruments}
        assert kinds == {Option, Perpetual, Future, Spot}
        option = next(i for i in markets.instruments if isinstance(i, Option) and i.base == "BTC")
        assert (option.contract_size, option.payoff, option.price_currency) == (0.1, Payoff.INVERSE, "BTC")
        future = markets.get("BTC-USD-220527")
        assert future is not None
        assert (future.payoff, future.lot_size) == (Payoff.INVERSE, 100.0)
        quotes = {}
        for symbol, ticker in exchange.tickers.items():
            instrument = markets.instrument_of(symbol)
            assert instrument is not None
            quote = read_quote(WORDS.sides(ticker), instrument, markets.base_of, 10**18, 1)
            assert isinstance(quote, Quote)
            quotes[instrument.instrument_id] = quote
        assert set(quotes) == {"BTC-USD-220527", "UNI-USD-SWAP", "BTC-USDT"}
        last = [m["data"][0] for m in messages("okx_ws.jsonl") if m["arg"]["instId"] == "BTC-USD-220527"][-1]
        worth = float(last["bidSz"]) * 100 / float(last["bidPx"])  # contracts of 100 USD
        assert quotes["BTC-USD-220527"].bid_base == pytest.approx(worth)


async def test_the_option_summary_tells_vols_as_fractions() -> None:
    exchange = ccxt.pro.okx()
    greeks = exchange.parse_greeks(SUMMARY)
    vols = read_vols(WORDS.vols(greeks), "X", WORDS.vol_unit, 10**18, 1)
    assert isinstance(vols, VolQuote)
    assert (vols.mark_vol, vols.bid_vol, vols.ask_vol) == (0.591625355, 0.58, 0.0)
    assert (vols.forward_px, vols.ts_event_ns) == (37675.80158694987, 1_699_586_421_976_000_000)


def test_the_index_has_its_own_ticker() -> None:
    assert WORDS.index({"idxPx": "30000.5", "ts": "1652459223003"}) == ("30000.5", "1652459223003")


@given(maimed({"info": SUMMARY, "idxPx": "1", "ts": "1", "bid": 1.0, "ask": 2.0, "timestamp": 1}))
def test_nothing_makes_the_words_raise(raw: dict[str, Any]) -> None:
    read_vols(WORDS.vols(raw), "X", WORDS.vol_unit, 10**18, 1)
    read_index(WORDS.index(raw), "BTC", 10**18, 1)
    WORDS.contract_size({"type": "option", **raw})
    WORDS.sides(raw)
