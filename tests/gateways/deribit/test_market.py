"""Deribit's words: amounts, ticks in steps, combos left out, vols and quotes of recorded feeds."""

from __future__ import annotations

from typing import Any

import ccxt.pro
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.market import IndexPrice, Quote, VolQuote
from bot.gateways.deribit.market import DeribitMarketWords
from bot.gateways.market_feed import read_index, read_quote, read_vols
from bot.gateways.market_words import Sort
from bot.gateways.markets import Markets
from tests.gateways.listings import DERIBIT_COMBO, DERIBIT_INVERSE, DERIBIT_OPTION, Listing, listing, sized
from tests.gateways.payloads import heard, maimed, messages

RECORDED = [m for m in messages("deribit_ws.jsonl") if m["params"]["channel"].startswith("ticker")]
WORDS = DeribitMarketWords()


def test_combos_are_no_instruments_of_ours() -> None:
    assert not DeribitMarketWords().is_plain(DERIBIT_COMBO)
    assert DeribitMarketWords().is_plain(DERIBIT_OPTION)


def test_amounts_are_money_for_inverse_futures() -> None:
    assert DeribitMarketWords().contract_amount(DERIBIT_INVERSE) == 10.0


def test_steps_that_cannot_be_read_leave_no_schedule() -> None:
    assert DeribitMarketWords().tick_schedule({**DERIBIT_OPTION, "info": {"tick_size_steps": "?"}}) is None
    assert DeribitMarketWords().tick_schedule({**DERIBIT_OPTION, "info": {"tick_size_steps": [{}]}}) is None


def recorded_markets() -> list[Listing]:
    """Return the options of the recording as ccxt lists them today: BTC-24SEP21-8000-P and its like."""
    found = {}
    for message in RECORDED:
        name = message["params"]["data"]["instrument_name"]
        coin, _day, strike, side = name.split("-")
        terms: dict[str, Any] = {"strike": float(strike), "optionType": "call" if side == "C" else "put"}
        found[name] = listing("option", name, f"{coin}/USD:{coin}-{name}", **terms, **sized(1.0, 0.1, 0.0005))
    return list(found.values())


async def test_recorded_tickers_become_vol_quotes() -> None:
    markets = Markets("deribit", frozenset({"BTC", "ETH"}), WORDS)
    async with heard(ccxt.pro.deribit(), recorded_markets(), RECORDED) as exchange:
        markets.update(exchange.markets.values(), exchange.precisionMode)
        assert markets.unusable == {}
        events = {
            symbol: read_vols(WORDS.vols(ticker), symbol, WORDS.vol_unit, 10**18, 1)
            for symbol, ticker in exchange.tickers.items()
        }
        assert len(events) == 10
        assert all(isinstance(event, VolQuote) for event in events.values())
        last = [
            m["params"]["data"] for m in RECORDED if m["params"]["data"]["instrument_name"] == "BTC-24SEP21-8000-P"
        ][-1]
        vols = events["BTC/USD:BTC-BTC-24SEP21-8000-P"]
        assert isinstance(vols, VolQuote)
        assert (vols.mark_vol, vols.forward_px) == (round(last["mark_iv"] / 100, 9), last["underlying_price"])
        assert vols.ts_event_ns == last["timestamp"] * 1_000_000
        assert (vols.bid_base, vols.ask_base) == (last["best_bid_amount"], last["best_ask_amount"])


async def test_recorded_tickers_have_the_index_and_the_quote_of_options_in_coins() -> None:
    markets = Markets("deribit", frozenset({"BTC", "ETH"}), WORDS)
    async with heard(ccxt.pro.deribit(), recorded_markets(), RECORDED) as exchange:
        markets.update(exchange.markets.values(), exchange.precisionMode)
        ticker = exchange.tickers["ETH/USD:ETH-ETH-30JUL21-2800-C"]
        option = markets.instrument_of("ETH/USD:ETH-ETH-30JUL21-2800-C")
        assert option is not None
        quote = read_quote(WORDS.sides(ticker), option, markets.base_of, 10**18, 1)
        assert isinstance(quote, Quote)
        assert (quote.bid_px, quote.ask_px) == (0.0015, 0.0025)
        assert quote.bid_base > 4_000  # amounts are coins already
        index = read_index(WORDS.index(ticker), "ETH", 10**18, 1)
        assert isinstance(index, IndexPrice)
        assert 1_990 < index.px < 2_020


@given(maimed({"symbol": "X", "timestamp": 1, "info": RECORDED[0]["params"]["data"]}))
def test_no_ticker_makes_the_words_raise(ticker: dict[str, Any]) -> None:
    read_vols(WORDS.vols(ticker), "X", WORDS.vol_unit, 10**18, 1)
    read_index(WORDS.index(ticker), "ETH", 10**18, 1)
    WORDS.funding_rate(ticker)
    WORDS.tick_schedule({**DERIBIT_OPTION, **ticker})


@given(st.sampled_from([999.0, 1_000.0, None, "", -1.0, float("nan")]))
def test_an_ask_above_any_vol_is_no_ask(ask_iv: object) -> None:
    raw = {"info": {"mark_iv": 60.0, "bid_iv": 59.0, "ask_iv": ask_iv, "underlying_price": 2_000.0, "timestamp": 1}}
    vols = read_vols(WORDS.vols(raw), "X", WORDS.vol_unit, 10**18, 1)
    assert isinstance(vols, VolQuote)
    assert (vols.mark_vol, vols.bid_vol, vols.ask_vol) == (0.6, 0.59, 0.0)


def test_funding_is_that_of_one_hour() -> None:
    assert WORDS.funding_rate({"fundingRate": 8e-5, "timestamp": 5, "info": {"interest_1h": 1e-5}}) == (1e-5, 5)


async def test_everything_is_streamed() -> None:
    exchange = ccxt.pro.deribit()
    methods = {sort: found.method for sort in Sort if (found := WORDS.subscription(sort, exchange))}
    assert methods == {Sort.QUOTES: "watch_bids_asks", Sort.VOLS: "watch_tickers", Sort.INDEX: "watch_tickers"}
