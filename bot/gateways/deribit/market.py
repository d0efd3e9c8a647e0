"""Deribit's markets and market data: amounts in money or coins, ticks in steps, vols in percent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final

import ccxt.pro

from bot.domain.instruments import Future, Instrument, Option, TickSchedule
from bot.domain.units import NS_PER_S
from bot.gateways.market_words import Raw, Sort, Subscription, TickerWords, Vols, number, part, tick_schedule

NO_VOL_PERCENT: Final = 999.0  # what Deribit says where an ask is above any vol it can show
DELIVERIES: Final = 10  # of the last days, to find an expiry in


class DeribitMarketWords(TickerWords):
    """How Deribit speaks of its markets. Its inverse options are priced in the coin."""

    vol_unit: ClassVar[float] = 0.01
    chain_tells_all: ClassVar[bool] = True
    tells_fees: ClassVar[bool] = True
    settlement_window_s: ClassVar[float] = 1800.0

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

    def subscription(self, sort: Sort, exchange: ccxt.pro.Exchange) -> Subscription | None:
        """Return the quote channel for quotes; the ticker channel tells vols, forward and index."""
        return super().subscription(sort, exchange) if sort is Sort.QUOTES else Subscription("watch_tickers", "tickers")

    def vols(self, raw: Raw) -> Vols:
        """Return the vols, in percent, of a ticker or of a line of the book summary."""
        info = raw.get("info")
        stamp = part(info, "timestamp") or part(info, "creation_timestamp")
        mark, bid, ask = (part(info, key) for key in ("mark_iv", "bid_iv", "ask_iv"))
        sizes = (part(info, "best_bid_amount"), part(info, "best_ask_amount"))  # coins, as all amounts of options are
        return Vols(mark, _shown(bid), _shown(ask), part(info, "underlying_price"), stamp, *sizes)

    def index(self, raw: Raw) -> tuple[object, object]:
        """Return the index of a ticker and the ticker's time."""
        info = raw.get("info")
        return part(info, "index_price"), part(info, "timestamp")

    async def chain(self, exchange: ccxt.pro.Exchange, options: Sequence[Raw]) -> dict[str, Raw]:
        """Return the book summary of each currency these options settle in: one request each."""
        found: dict[str, Raw] = {}
        for currency in sorted({str(option["settle"]) for option in options}):
            found.update(await exchange.fetch_option_chain(currency))
        return found

    def funding_rate(self, raw: Raw) -> tuple[object, object]:
        """Return the rate of one hour: ccxt takes the average over eight, which would count it eight times."""
        return part(raw.get("info"), "interest_1h"), raw.get("timestamp")

    async def settlement_px(self, exchange: ccxt.pro.Exchange, instrument: Instrument, market: Raw) -> object:  # noqa: ARG002
        """Return the delivery price of the day of expiry. Raises what ccxt raises."""
        if not isinstance(instrument, Option | Future):
            return None
        request = {"index_name": f"{instrument.base}_{instrument.quote}".lower(), "count": DELIVERIES}
        answer = await exchange.publicGetGetDeliveryPrices(request)
        day = datetime.fromtimestamp(instrument.expiry_ns // NS_PER_S, UTC).date().isoformat()
        deliveries = part(part(answer, "result"), "data") or []
        return next((part(one, "delivery_price") for one in deliveries if part(one, "date") == day), None)


def _shown(percent: object) -> object:
    found = number(percent)
    return 0.0 if found is None or found >= NO_VOL_PERCENT else found
