"""Binance's markets and market data."""

from __future__ import annotations

from typing import ClassVar

from bot.gateways.market_words import MarketWords


class BinanceMarketWords(MarketWords):
    """How Binance speaks of its markets: ETHUSDT is a spot pair and a perpetual, so the spot pair is ETH/USDT."""

    spot_shares_ids: ClassVar[bool] = True
