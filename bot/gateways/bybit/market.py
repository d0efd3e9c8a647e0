"""Bybit's markets and market data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import ccxt.pro

from bot.domain.instruments import Future, Instrument, Option
from bot.gateways.market_words import MarketWords, Raw, Sort, Subscription, Vols, part


class BybitMarketWords(MarketWords):
    """How Bybit speaks of its markets: ETHUSDT is a spot pair and a perpetual, so the spot pair is ETH/USDT."""

    chain_tells_all: ClassVar[bool] = True
    spot_shares_ids: ClassVar[bool] = True

    def subscription(self, sort: Sort, exchange: ccxt.pro.Exchange) -> Subscription | None:
        """Return the book of one level for quotes; tickers tell vols, forward and index."""
        return super().subscription(sort, exchange) if sort is Sort.QUOTES else Subscription("watch_tickers", "tickers")

    def tells(self, sort: Sort, exchange: ccxt.pro.Exchange) -> bool:  # noqa: ARG002
        """Tell that everything can be asked for."""
        return True

    async def ask(self, sort: Sort, exchange: ccxt.pro.Exchange, symbol: str) -> Raw:
        """Ask for an option's Greeks, for the ticker with its index, or for the book. Raises what ccxt raises."""
        if sort is Sort.QUOTES:
            return await super().ask(sort, exchange, symbol)
        found = await (exchange.fetch_greeks(symbol) if sort is Sort.VOLS else exchange.fetch_ticker(symbol))
        return found if isinstance(found, dict) else {}

    def vols(self, raw: Raw) -> Vols:
        """Return the vols, as fractions; the stream and the request name them differently."""
        info = raw.get("info")
        mark = part(info, "markPriceIv") or part(info, "markIv")
        bid, ask = (part(info, f"{side}Iv") or part(info, f"{side}1Iv") for side in ("bid", "ask"))
        return Vols(mark, bid, ask, part(info, "underlyingPrice"), raw.get("timestamp"))

    def index(self, raw: Raw) -> tuple[object, object]:
        """Return the index of a ticker and the ticker's time."""
        return part(raw.get("info"), "indexPrice"), raw.get("timestamp")

    async def chain(self, exchange: ccxt.pro.Exchange, options: Sequence[Raw]) -> dict[str, Raw]:
        """Return the option tickers of each coin: one request each."""
        found: dict[str, Raw] = {}
        for coin in sorted({str(option["base"]) for option in options}):
            found.update(await exchange.fetch_all_greeks(None, {"baseCoin": coin}))
        return found

    async def settlement_px(self, exchange: ccxt.pro.Exchange, instrument: Instrument, market: Raw) -> object:
        """Return the delivery price of an instrument. Raises what ccxt raises."""
        if not isinstance(instrument, Option | Future):
            return None
        category = "option" if isinstance(instrument, Option) else str(instrument.payoff)
        name = market.get("id") or instrument.instrument_id.rpartition(":")[2]
        answer = await exchange.publicGetV5MarketDeliveryPrice({"category": category, "symbol": name})
        return part(part(part(part(answer, "result"), "list"), 0), "deliveryPrice")
