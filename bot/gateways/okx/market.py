"""OKX's markets and market data: a contract is its value times a multiplier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import ccxt.pro

from bot.domain.instruments import Future, Instrument, Option
from bot.domain.units import NS_PER_MS
from bot.gateways.market_words import MarketWords, Raw, Sort, Vols, part, positive, whole


class OkxMarketWords(MarketWords):
    """How OKX speaks of its markets. Its inverse options are priced in the coin."""

    chain_tells_all: ClassVar[bool] = True

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

    def tells(self, sort: Sort, exchange: ccxt.pro.Exchange) -> bool:  # noqa: ARG002
        """Tell that everything can be asked for; vols come with the chain."""
        return True

    async def ask(self, sort: Sort, exchange: ccxt.pro.Exchange, symbol: str) -> Raw:
        """Ask for the index of a market's pair, or for the ticker. Raises what ccxt raises."""
        if sort is Sort.INDEX:
            market = exchange.market(symbol)
            answer = await exchange.publicGetMarketIndexTickers({"instId": f"{market['base']}-{market['quote']}"})
            found = part(part(answer, "data"), 0)
        else:
            found = await exchange.fetch_ticker(symbol)
        return found if isinstance(found, dict) else {}

    def index(self, raw: Raw) -> tuple[object, object]:
        """Return the price of an index ticker and its time."""
        return raw.get("idxPx"), raw.get("ts")

    def vols(self, raw: Raw) -> Vols:
        """Return the vols, as fractions, of a line of the option summary."""
        info = raw.get("info")
        keys = ("markVol", "bidVol", "askVol", "fwdPx", "ts")
        return Vols(*(part(info, key) for key in keys))

    async def chain(self, exchange: ccxt.pro.Exchange, options: Sequence[Raw]) -> dict[str, Raw]:
        """Return the option summary of each underlying: one request each."""
        found: dict[str, Raw] = {}
        for underlying in sorted({str(part(option.get("info"), "uly")) for option in options}):
            found.update(await exchange.fetch_all_greeks(None, {"uly": underlying}))
        return found

    async def settlement_px(self, exchange: ccxt.pro.Exchange, instrument: Instrument, market: Raw) -> object:
        """Return the price of an instrument in the history of deliveries. Raises what ccxt raises."""
        if not isinstance(instrument, Option | Future):
            return None
        kind = "OPTION" if isinstance(instrument, Option) else "FUTURES"
        underlying = part(market.get("info"), "uly") or f"{instrument.base}-{instrument.quote}"
        request = {"instType": kind, "uly": underlying}
        answer = await exchange.publicGetPublicDeliveryExerciseHistory(request)
        for delivery in part(answer, "data") or []:
            if whole(part(delivery, "ts")) == instrument.expiry_ns // NS_PER_MS:
                for detail in part(delivery, "details") or []:
                    # Futures are told the price they settle at, options that of the underlying: the same.
                    if positive(part(detail, "px")):
                        return part(detail, "px")
        return None
