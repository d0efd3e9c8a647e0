"""OKX's markets and market data: a contract is its value times a multiplier."""

from __future__ import annotations

from bot.gateways.market_words import MarketWords, Raw, part, positive


class OkxMarketWords(MarketWords):
    """How OKX speaks of its markets. Its inverse options are priced in the coin."""

    def contract_size(self, market: Raw) -> float | None:
        """Return contract value × multiplier: ccxt tells only the value, 1 BTC for options of 0.01 BTC."""
        if market.get("type") == "spot":
            return 1.0
        info = market.get("info")
        value, multiplier = positive(part(info, "ctVal")), positive(part(info, "ctMult"))
        return None if value is None or multiplier is None else value * multiplier

    def price_currency(self, market: Raw) -> str | None:
        """Return what prices are told in: the coin for inverse options."""
        return super().price_currency(market) or str(market["settle"])
