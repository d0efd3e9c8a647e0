"""Derive's words: linear in USDC, fees told; the documented ticker of options and perpetuals."""

from __future__ import annotations

from typing import Any

import ccxt.pro
from hypothesis import given

from bot.domain.instruments import Payoff, Perpetual
from bot.domain.market import IndexPrice, Quote, VolQuote
from bot.gateways.derive.market import DeriveMarketWords
from bot.gateways.market_feed import read_index, read_quote, read_vols
from bot.gateways.markets import Markets
from tests.gateways.listings import listing
from tests.gateways.payloads import heard, maimed

WORDS = DeriveMarketWords()
PERPETUAL = {
    "instrument_type": "perp",
    "instrument_name": "BTC-PERP",
    "base_currency": "BTC",
    "quote_currency": "USD",
    "is_active": True,
    "amount_step": "0.001",
    "minimum_amount": "0.01",
    "tick_size": "0.1",
    "taker_fee_rate": "0.0003",
    "maker_fee_rate": "0.0001",
}
OPTION = listing("option", "BTC-20260327-80000-C", "BTC/USDC:USDC-260327-80000-C")
PRICING = {"i": "0.38273", "f": "89232", "m": "13312", "bi": "0", "ai": "0.41", "d": "-0.43"}


def ticker(name: str, pricing: dict[str, str] | None) -> dict[str, Any]:
    told = {"t": 1_790_879_819_268, "A": "0.278", "a": "84214.6", "B": "0.213", "b": "84205.4", "I": "84210.9"}
    data = {"timestamp": 1_790_879_819_285, "instrument_ticker": {**told, "option_pricing": pricing, "stats": {}}}
    return {"method": "subscription", "params": {"channel": f"ticker_slim.{name}.100", "data": data}}


def test_fees_are_the_venues() -> None:
    assert DeriveMarketWords().fees_bps(listing("swap", "ETH-PERP", "ETH/USDC:USDC", taker=0.0003)) == (3.0, 0.0)


async def test_a_perpetual_and_what_its_ticker_tells() -> None:
    exchange = ccxt.pro.derive()
    async with heard(exchange, [exchange.parse_market(PERPETUAL)], [ticker("BTC-PERP", None)]):
        markets = Markets("derive", frozenset({"BTC"}), WORDS)
        markets.update(exchange.markets.values(), exchange.precisionMode)
        (perpetual,) = markets.instruments
        assert isinstance(perpetual, Perpetual)
        assert (perpetual.payoff, perpetual.lot_size, perpetual.min_lots) == (Payoff.LINEAR, 0.001, 10)
        assert (perpetual.taker_bps, perpetual.maker_bps) == (3.0, 1.0)
        symbol = markets.symbol_of("BTC-PERP")
        quote = read_quote(WORDS.sides(exchange.bidsasks[symbol]), perpetual, markets.base_of, 10**18, 1)
        assert isinstance(quote, Quote)
        assert (quote.bid_px, quote.bid_base, quote.ts_event_ns) == (84205.4, 0.213, 1_790_879_819_268_000_000)
        index = read_index(WORDS.index(exchange.tickers[symbol]), "BTC", 10**18, 1)
        assert isinstance(index, IndexPrice)
        assert index.px == 84210.9


async def test_an_option_tells_its_vols_and_its_forward() -> None:
    async with heard(ccxt.pro.derive(), [OPTION], [ticker("BTC-20260327-80000-C", PRICING)]) as exchange:
        vols = read_vols(WORDS.vols(exchange.tickers[OPTION["symbol"]]), "X", WORDS.vol_unit, 10**18, 1)
    assert isinstance(vols, VolQuote)
    assert (vols.mark_vol, vols.bid_vol, vols.ask_vol, vols.forward_px) == (0.38273, 0.0, 0.41, 89232.0)


@given(maimed({"info": ticker("X", PRICING)["params"]["data"]["instrument_ticker"], "timestamp": 1}))
def test_nothing_makes_the_words_raise(raw: dict[str, Any]) -> None:
    read_vols(WORDS.vols(raw), "X", WORDS.vol_unit, 10**18, 1)
    read_index(WORDS.index(raw), "BTC", 10**18, 1)
