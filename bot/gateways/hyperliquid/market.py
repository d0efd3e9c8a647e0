"""Hyperliquid's markets and market data: five significant figures, coins by name."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import ccxt.pro

from bot.domain.instruments import TickSchedule
from bot.gateways.market_words import MarketWords, Raw, Sort, Subscription, part, positive, tick_schedule

SIGNIFICANT_FIGURES: Final = 5
PERPETUAL_DECIMALS: Final = 6
SPOT_DECIMALS: Final = 8


class HyperliquidMarketWords(MarketWords):
    """How Hyperliquid speaks of its markets. Whole prices are always valid, however many figures they have."""

    def native_id(self, market: Raw) -> str:
        """Return the coin of a perpetual (ccxt's id is its place in a list), the pair's name for spot."""
        if market.get("type") == "spot":
            return str(market["id"])
        return str(part(market.get("info"), "name") or market["id"])

    def tick_schedule(self, market: Raw) -> TickSchedule | None:
        """Return the ticks of five significant figures and at most 6 (spot: 8) less the size's decimals."""
        lot = positive(part(market.get("precision"), "amount"))
        if lot is None:
            return None
        size_decimals = max(0, -round(Decimal(str(lot)).log10()))
        decimals = (SPOT_DECIMALS if market.get("type") == "spot" else PERPETUAL_DECIMALS) - size_decimals
        if decimals < 0:
            return None
        # From 10^figures upwards a price of five figures has one decimal less, until prices are whole.
        steps = tuple(
            (10.0 ** (SIGNIFICANT_FIGURES - d), float(Decimal(10) ** (1 - d))) for d in range(decimals, 0, -1)
        )
        return tick_schedule(float(Decimal(10) ** -decimals), steps)

    def subscription(self, sort: Sort, exchange: ccxt.pro.Exchange) -> Subscription | None:
        """Return the book, whose every message is whole, and the asset's context for its oracle price."""
        if sort is Sort.INDEX:
            return Subscription("watch_ticker", "tickers", takes_many=False)
        return super().subscription(sort, exchange)

    async def ask(self, sort: Sort, exchange: ccxt.pro.Exchange, symbol: str) -> Raw:
        """Ask for the contexts of all assets, or for the book. Raises what ccxt raises."""
        if sort is Sort.INDEX:
            found = (await exchange.fetch_funding_rates([symbol])).get(symbol)
            return found if isinstance(found, dict) else {}
        return await super().ask(sort, exchange, symbol)

    def index(self, raw: Raw) -> tuple[object, object]:
        """Return the oracle price; the venue gives no time for it."""
        return part(raw.get("info"), "oraclePx"), None
