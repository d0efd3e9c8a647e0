"""Hyperliquid's words: prices of five figures, checked against ccxt's own rounding."""

from __future__ import annotations

import ccxt.pro
import pytest

from bot.gateways.hyperliquid.market import HyperliquidMarketWords
from bot.gateways.markets import Markets

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
