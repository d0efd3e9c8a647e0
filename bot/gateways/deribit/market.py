"""Deribit's markets and market data: amounts in money or coins, ticks in steps, vols in percent."""

from __future__ import annotations

from typing import ClassVar

from bot.domain.instruments import TickSchedule
from bot.gateways.market_words import MarketWords, Raw, part, tick_schedule


class DeribitMarketWords(MarketWords):
    """How Deribit speaks of its markets. Its inverse options are priced in the coin."""

    tells_fees: ClassVar[bool] = True

    def is_plain(self, market: Raw) -> bool:
        """Tell whether a market is no combo."""
        return super().is_plain(market) and "combo" not in str(part(market.get("info"), "kind"))

    def contract_amount(self, market: Raw) -> float | None:
        """Return a contract's size: amounts are USD for inverse futures, and coins for options and linear contracts."""
        return self.contract_size(market)

    def price_currency(self, market: Raw) -> str | None:
        """Return what prices are told in: the coin for inverse options."""
        return super().price_currency(market) or str(market["settle"])

    def tick_schedule(self, market: Raw) -> TickSchedule | None:
        """Return the finest tick and the steps above it (options: 0.0001 coin, 0.0005 from 0.005 coin upwards)."""
        info = market.get("info")
        found = part(info, "tick_size_steps") or []
        if not isinstance(found, list):
            return None
        steps = tuple((part(step, "above_price"), part(step, "tick_size")) for step in found)
        return tick_schedule(part(market.get("precision"), "price"), steps)
