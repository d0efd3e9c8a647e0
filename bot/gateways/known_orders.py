"""What the desk remembers of each order, and whose each venue id is; bounded, the oldest that ended go first."""

from __future__ import annotations

import asyncio
from typing import Final

from bot.domain.orders import Fill
from bot.gateways.order_words import OrderTerms

_MAX_ORDERS: Final = 4_096
_MAX_TRADES: Final = 32_768


class KnownOrder:
    """One order: what was sent, and what the venue said since. `terms` is None for one sent before a restart."""

    __slots__ = (
        "absent_times",
        "creating",
        "filled_lots",
        "first_asked_ns",
        "instrument_id",
        "is_accepted",
        "is_asking",
        "is_over",
        "order_id",
        "px",
        "sent_ns",
        "terms",
        "venue_order_id",
    )

    def __init__(self, order_id: str, instrument_id: str, terms: OrderTerms | None = None) -> None:
        self.order_id = order_id
        self.instrument_id = instrument_id
        self.terms = terms
        self.venue_order_id = ""
        self.creating: asyncio.Task[None] | None = None
        self.sent_ns = 0
        self.first_asked_ns = 0
        self.absent_times = 0
        self.filled_lots = 0
        self.px: float | None = None
        self.is_accepted = False
        self.is_asking = False
        self.is_over = False

    @property
    def is_being_created(self) -> bool:
        """Tell whether the answer to its creation is still awaited."""
        return self.creating is not None and not self.creating.done()


class KnownOrders:
    """Every order the desk has to do with, and every trade it has told of."""

    def __init__(self) -> None:
        self._orders: dict[str, KnownOrder] = {}
        self._owners: dict[str, str] = {}  # venue order id → ours, "" for a foreign one
        self._trades: dict[tuple[str, str], None] = {}

    def get(self, order_id: str) -> KnownOrder | None:
        """Return an order, None if it is not known."""
        return self._orders.get(order_id)

    def get_or_add(self, order_id: str, instrument_id: str, terms: OrderTerms | None = None) -> KnownOrder:
        """Return an order, as known or new."""
        order = self._orders.get(order_id)
        if order is None:
            order = self._orders[order_id] = KnownOrder(order_id, instrument_id, terms)
            self._forget_ended()
        return order

    def own(self, venue_order_id: str, order_id: str) -> None:
        """Note whose order a venue's id is, "" for a foreign one."""
        self._owners[venue_order_id] = order_id
        while len(self._owners) > 2 * _MAX_ORDERS:
            self._owners.pop(next(iter(self._owners)))
        order = self._orders.get(order_id)
        if order is not None:
            order.venue_order_id = venue_order_id

    def owner(self, venue_order_id: str) -> str | None:
        """Return our id of a venue's order, "" if it is foreign, None if that is not known yet."""
        return self._owners.get(venue_order_id)

    def take(self, fill: Fill) -> bool:
        """Note a fill; tell whether it is new."""
        key = (fill.instrument_id, fill.trade_id)
        if key in self._trades:
            return False
        self._trades[key] = None
        while len(self._trades) > _MAX_TRADES:
            self._trades.pop(next(iter(self._trades)))
        order = self._orders.get(fill.order_id)
        if order is not None:
            order.filled_lots += abs(fill.qty_lots)
        return True

    def instruments(self) -> set[str]:
        """Return what orders were sent on."""
        return {order.instrument_id for order in self._orders.values()}

    def has_told(self, instrument_id: str, trade_id: str) -> bool:
        """Tell whether a trade was told of already."""
        return (instrument_id, trade_id) in self._trades

    def _forget_ended(self) -> None:
        if len(self._orders) <= _MAX_ORDERS:
            return
        ended = [order_id for order_id, order in self._orders.items() if order.is_over]
        for order_id in ended[: _MAX_ORDERS // 4]:
            del self._orders[order_id]
