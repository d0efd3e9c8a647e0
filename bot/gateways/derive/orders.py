"""Derive's orders: labels, a limit price even at market, and a most one agrees to pay in fees."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import ccxt.pro

from bot.domain.risk import ReportedMargin
from bot.gateways.dead_man import DeadMan, NoProtection
from bot.gateways.derive import margin
from bot.gateways.exchange import VenueSettings
from bot.gateways.gateway import Clock
from bot.gateways.market_words import part
from bot.gateways.order_words import OrderTerms, OrderWords, Raw

_MAX_FEE_USD: Final = 1000  # per unit; a signed limit, not what is charged


class DeriveOrderWords(OrderWords):
    """How Derive speaks of orders. It amends by replacing, so an amend is left to cancel and send anew."""

    can_amend: ClassVar[bool] = False
    trades_need_symbol: ClassVar[bool] = False

    def order_id_of(self, order: Raw) -> str:
        """Return our id of an order: its label."""
        return self.decode(part(order.get("info"), "label") or order.get("clientOrderId"))

    def order_id_of_trade(self, trade: Raw) -> str | None:
        """Return our id of a trade's order: trades carry the label."""
        label = part(trade.get("info"), "label")
        return None if label is None else self.decode(label)

    def dead_man(self, exchange: ccxt.pro.Exchange, clock: Clock, settings: VenueSettings) -> DeadMan:
        """Return no protection: cancel on disconnect there needs a connection of our own, which is not built."""
        del exchange, clock, settings
        return NoProtection("Derive cancels on disconnect only for a WebSocket session of one's own")

    def create_params(self, terms: OrderTerms) -> dict[str, Any]:
        """Return ccxt's params of a new order, with the fee limit that Derive wants signed."""
        return {**super().create_params(terms), "max_fee": _MAX_FEE_USD}

    async def margins_of(self, exchange: ccxt.pro.Exchange, info: object) -> tuple[ReportedMargin, ...]:
        """Return the margin of the account as its balances tell it."""
        del exchange
        return margin.read_margins(info)

    async def create(self, exchange: ccxt.pro.Exchange, terms: OrderTerms) -> Raw:
        """Send an order; one at market takes its reference price as the limit Derive asks for."""
        px = terms.px if terms.px is not None else terms.intent.reference_px
        created = await exchange.create_order(
            terms.symbol, terms.type, terms.side, terms.amount, px, self.create_params(terms)
        )
        return dict(created)
