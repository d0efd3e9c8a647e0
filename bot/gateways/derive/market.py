"""Derive's markets and market data."""

from __future__ import annotations

from typing import ClassVar

from bot.gateways.market_words import MarketWords


class DeriveMarketWords(MarketWords):
    """How Derive speaks of its markets: everything is linear in USDC and counted in coins."""

    tells_fees: ClassVar[bool] = True
