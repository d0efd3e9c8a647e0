"""Binance's markets and market data."""

from __future__ import annotations

from typing import ClassVar

import ccxt.pro

from bot.gateways.market_words import MarketWords, Raw, Sort, Subscription


class BinanceMarketWords(MarketWords):
    """How Binance speaks of its markets: ETHUSDT is a spot pair and a perpetual, so the spot pair is ETH/USDT."""

    spot_shares_ids: ClassVar[bool] = True

    def subscription(self, sort: Sort, exchange: ccxt.pro.Exchange) -> Subscription | None:
        """Return the mark price stream for the index; it tells every second."""
        if sort is Sort.INDEX:
            return Subscription("watch_mark_prices", "tickers")
        return super().subscription(sort, exchange)

    async def ask(self, sort: Sort, exchange: ccxt.pro.Exchange, symbol: str) -> Raw:
        """Ask for the premium index, which has the index price, or for the quote. Raises what ccxt raises."""
        if sort is Sort.INDEX:
            found = await exchange.fetch_mark_price(symbol)
        else:
            found = (await exchange.fetch_bids_asks([symbol])).get(symbol)
        return found if isinstance(found, dict) else {}
