"""Hyperliquid's markets and market data: five significant figures, coins by name."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from bot.domain.instruments import TickSchedule
from bot.gateways.market_words import MarketWords, Raw, part, positive, tick_schedule

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
