"""Funding booked on our positions, asked for: no venue streams it in a form ccxt understands.

A payment is told once, by instrument and time: venues number payments differently, Hyperliquid gives all the same id.
Where ccxt cannot ask (Deribit, whose funding accrues by the second into the equity) nothing is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import ccxt.pro

from bot.domain.instruments import Perpetual
from bot.domain.orders import FundingPayment
from bot.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S
from bot.gateways.exchange import VenueSettings
from bot.gateways.gateway import Clock, Put
from bot.gateways.market_words import number
from bot.gateways.markets import Markets
from bot.gateways.order_words import Raw
from bot.gateways.venue_calls import Failure, VenueCalls, ms_of

_OVERLAP_NS: Final = 10 * NS_PER_MIN  # payments become visible late


class FundingWatch:
    """Asks one account's venue for funding payments since `since_ns`, of the symbols that `symbols` names."""

    def __init__(
        self,
        exchange: ccxt.pro.Exchange,
        markets: Markets,
        clock: Clock,
        settings: VenueSettings,
        put: Put,
        calls: VenueCalls,
        symbols: Callable[[], Iterable[str]],
        since_ns: int = 0,
    ) -> None:
        self._exchange = exchange
        self._markets = markets
        self._clock = clock
        self._pause_s = settings.fills_poll_ns / NS_PER_S
        self._put = put
        self._calls = calls
        self._symbols = symbols
        self._since_ns = since_ns or clock.now_ns()
        self._told: dict[tuple[str, str], None] = {}

    async def run(self) -> None:
        """Ask until cancelled; at once, where ccxt cannot ask."""
        while self._exchange.has.get("fetchFundingHistory") is True:
            await self.poll()
            await asyncio.sleep(self._pause_s)

    async def poll(self) -> None:
        """Ask once for every perpetual."""
        asked_ns = self._clock.now_ns()
        since_ms = ms_of(self._since_ns - _OVERLAP_NS)
        is_whole = True
        for symbol in self._symbols():
            instrument = self._markets.instrument_of(symbol)
            if not isinstance(instrument, Perpetual):
                continue
            rows = await self._calls.read(
                lambda symbol=symbol: self._exchange.fetch_funding_history(symbol, since_ms, 100)  # type: ignore[misc]
            )
            if isinstance(rows, Failure):
                is_whole = False
                continue
            payments = [one for row in rows if (one := self._payment(instrument, row, asked_ns)) is not None]
            if payments:
                self._put(payments)
        if is_whole:
            self._since_ns = max(self._since_ns, asked_ns)
            self._forget(asked_ns)

    def _payment(self, instrument: Perpetual, row: Raw, now_ns: int) -> FundingPayment | None:
        """Return a payment not told yet, None for one that was, or that is not in the instrument's own currency."""
        amount, ts_ms = number(row.get("amount")), number(row.get("timestamp"))
        if amount is None or ts_ms is None or row.get("code") not in (None, instrument.settle):
            return None
        ts_ns = int(ts_ms) * NS_PER_MS
        payment_id = str(int(ts_ms))
        key = (instrument.instrument_id, payment_id)
        if key in self._told or ts_ns < self._since_ns - _OVERLAP_NS:
            return None
        self._told[key] = None
        return FundingPayment(payment_id, instrument.instrument_id, amount, ts_ns, max(now_ns, ts_ns))

    def _forget(self, now_ns: int) -> None:
        """Drop what no poll will bring again."""
        oldest_ms = (now_ns - 2 * _OVERLAP_NS) // NS_PER_MS
        for key in [key for key in self._told if int(key[1]) < oldest_ms]:
            del self._told[key]
