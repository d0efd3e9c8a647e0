"""Derive's markets and market data."""

from __future__ import annotations

from typing import ClassVar

import ccxt.pro

from bot.gateways.market_words import Raw, Sort, Subscription, TickerWords, Vols, part


class DeriveMarketWords(TickerWords):
    """How Derive speaks of its markets: everything is linear in USDC and counted in coins."""

    tells_fees: ClassVar[bool] = True

    def subscription(self, sort: Sort, exchange: ccxt.pro.Exchange) -> Subscription | None:
        """Return the ticker channel, which tells everything, one instrument each."""
        if sort is Sort.QUOTES:
            return super().subscription(sort, exchange)
        return Subscription("watch_ticker", "tickers", takes_many=False)

    def vols(self, raw: Raw) -> Vols:
        """Return the vols, as fractions, and the forward, of a ticker's option pricing."""
        info = raw.get("info")
        pricing = part(info, "option_pricing")
        mark, bid, ask, forward = (part(pricing, key) for key in ("i", "bi", "ai", "f"))
        return Vols(mark, bid, ask, forward, part(info, "t"))
