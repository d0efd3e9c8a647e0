"""What a venue says of our account, turned into events: trades, orders, positions and balances.

Whatever cannot be read is counted, never guessed: a fee in a foreign currency, a position in an unknown market.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from bot.domain.instruments import Instrument
from bot.domain.orders import Fill, Liquidity, OrderState
from bot.domain.units import NS_PER_MS
from bot.domain.venues import VenueOrder, VenuePosition
from bot.gateways.gateway import Clock
from bot.gateways.market_words import number, part
from bot.gateways.markets import Markets
from bot.gateways.order_words import OrderWords, Raw

STATES: Final = {
    "open": OrderState.OPEN,
    "closed": OrderState.FILLED,
    "canceled": OrderState.CANCELED,
    "cancelled": OrderState.CANCELED,
    "canceling": OrderState.OPEN,
    "expired": OrderState.EXPIRED,
    "rejected": OrderState.REJECTED,
}


class AccountWords:
    """Reads trades, orders and positions of one venue. `odd_fees` and `unknown_symbols` count what it could not say."""

    def __init__(self, markets: Markets, words: OrderWords, clock: Clock, run_id: str) -> None:
        self.odd_fees = 0
        self.unknown_symbols: set[str] = set()
        self._markets = markets
        self._words = words
        self._clock = clock
        self._run_id = run_id

    def own(self, order_id: str) -> str:
        """Return an order id if it is of this run, else ""."""
        return order_id if order_id.startswith(f"{self._run_id}-") else ""

    def instrument_of(self, raw: Raw) -> Instrument | None:
        """Return the instrument a trade, order or position is on, None (and noted) if it is not one of ours."""
        symbol = str(raw.get("symbol"))
        instrument = self._markets.instrument_of(symbol)
        if instrument is None:
            self.unknown_symbols.add(symbol)
        return instrument

    def fill_of(self, trade: Raw, order_id: str) -> Fill | None:
        """Return the fill of a trade as ccxt parsed it, None if it is on no instrument of ours or makes no sense."""
        instrument = self.instrument_of(trade)
        amount, px = number(trade.get("amount")), number(trade.get("price"))
        if instrument is None or amount is None or px is None or px <= 0:
            return None
        lots = self._markets.lots_of(instrument, abs(amount))
        if lots == 0 or trade.get("side") not in {"buy", "sell"}:
            return None
        stamp_ms = int(number(trade.get("timestamp")) or 0)
        return Fill(
            trade_id=str(trade.get("id") or f"{trade.get('order')}/{stamp_ms}/{px:g}/{amount:g}"),
            order_id=order_id,
            instrument_id=instrument.instrument_id,
            qty_lots=lots if trade["side"] == "buy" else -lots,
            px=px,
            fee_settle=self._fee_settle(trade, instrument),
            liquidity=Liquidity.MAKER if self._words.is_maker(trade) else Liquidity.TAKER,
            ts_event_ns=stamp_ms * NS_PER_MS,
            ts_recv_ns=self._clock.now_ns(),
        )

    def filled_lots(self, order: Raw) -> int | None:
        """Return how many lots of an order the venue says are filled, without sign; None if it does not say."""
        instrument = self._markets.instrument_of(str(order.get("symbol")))
        filled = number(order.get("filled"))
        return None if instrument is None or filled is None else self._markets.lots_of(instrument, filled)

    def state_of(self, order: Raw) -> OrderState | None:
        """Return an order's state, None if the venue does not say one we know.

        ccxt calls some orders closed that were filled in part and canceled, and some rejected that were filled.
        """
        state = STATES.get(self._words.status_of(order))
        filled, amount = number(order.get("filled")), number(order.get("amount"))
        if state is OrderState.FILLED and filled is not None and amount is not None and filled < amount * (1 - 1e-9):
            return OrderState.CANCELED
        if state is OrderState.REJECTED and filled:
            return OrderState.CANCELED
        return state

    def stamp_ns(self, order: Raw) -> int:
        """Return the venue's time of an order's last change, ours if it does not tell."""
        for name in ("lastUpdateTimestamp", "lastTradeTimestamp", "timestamp"):
            stamp_ms = number(order.get(name))
            if stamp_ms:
                return int(stamp_ms) * NS_PER_MS
        return self._clock.now_ns()

    def open_orders(self, orders: Iterable[Raw]) -> tuple[VenueOrder, ...]:
        """Return the open orders on our instruments."""
        found = []
        for order in orders:
            instrument = self.instrument_of(order)
            amount = number(order.get("amount"))
            if instrument is None or amount is None:
                continue
            left = number(order.get("remaining"))
            left = amount - (number(order.get("filled")) or 0.0) if left is None else left
            lots = self._markets.lots_of(instrument, left)
            found.append(
                VenueOrder(
                    venue_order_id=str(order.get("id")),
                    order_id=self.own(self._words.order_id_of(order)),
                    instrument_id=instrument.instrument_id,
                    left_lots=-lots if order.get("side") == "sell" else lots,
                    limit_px=number(order.get("price")) or 0.0,
                )
            )
        return tuple(found)

    def positions(self, positions: Iterable[Raw]) -> tuple[VenuePosition, ...]:
        """Return the positions in our instruments that are not flat."""
        found = []
        for position in positions:
            amount = self._words.position_amount(position)
            if not amount:
                continue
            instrument = self.instrument_of(position)
            if instrument is None:
                continue
            entry_px = number(position.get("entryPrice")) or 0.0
            found.append(
                VenuePosition(
                    instrument.instrument_id,
                    self._markets.lots_of(instrument, amount),
                    entry_px if math.isfinite(entry_px) else 0.0,
                )
            )
        return tuple(found)

    def _fee_settle(self, trade: Raw, instrument: Instrument) -> float:
        """Return the fee in settlement currency, positive is paid; 0.0, and counted, if it was taken in another."""
        fee = trade.get("fee")
        cost = number(part(fee, "cost"))
        if cost is None or cost == 0.0:
            return 0.0
        if part(fee, "currency") != instrument.settle:
            self.odd_fees += 1
            return 0.0
        return cost
