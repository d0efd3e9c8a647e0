"""Bybit's orders: client ids as they are; what it offers against a dead client is no countdown."""

from __future__ import annotations

from typing import ClassVar

import ccxt.pro

from bot.domain.risk import ReportedMargin
from bot.gateways.bybit import margin
from bot.gateways.dead_man import DeadMan, NoProtection
from bot.gateways.exchange import VenueSettings
from bot.gateways.gateway import Clock
from bot.gateways.market_words import part
from bot.gateways.order_words import OrderWords, Permissions, Raw


class BybitOrderWords(OrderWords):
    """How Bybit speaks of orders."""

    amends_price_alone: ClassVar[bool] = True
    trades_need_symbol: ClassVar[bool] = False

    def order_id_of_trade(self, trade: Raw) -> str | None:
        """Return our id of a trade's order: executions carry the client id."""
        client_id = part(trade.get("info"), "orderLinkId")
        return None if client_id is None else self.decode(client_id)

    def dead_man(self, exchange: ccxt.pro.Exchange, clock: Clock, settings: VenueSettings) -> DeadMan:
        """Return no protection: Bybit watches a private connection of institutional clients, not a clock."""
        del exchange, clock, settings
        return NoProtection("Bybit cancels on disconnect for institutional clients only")

    async def fetch_by_id(
        self, exchange: ccxt.pro.Exchange, symbol: str, order_id: str, venue_order_id: str
    ) -> Raw | None:
        """Return an order among the open and the recently closed ones; both lists take either id."""
        asked = {"orderId": venue_order_id} if venue_order_id else {"orderLinkId": self.encode(order_id)}
        for fetch in (exchange.fetch_open_orders, exchange.fetch_closed_orders, exchange.fetch_canceled_orders):
            for order in await fetch(symbol, None, None, asked):
                if self.order_id_of(order) == order_id or str(order.get("id")) == venue_order_id:
                    return dict(order)
        return None

    async def cancel(self, exchange: ccxt.pro.Exchange, symbol: str, order_id: str, venue_order_id: str) -> Raw:
        """Cancel by the venue's id where it is known, else by ours."""
        if venue_order_id:
            return await super().cancel(exchange, symbol, order_id, venue_order_id)
        return dict(await exchange.cancel_order(None, symbol, {"orderLinkId": self.encode(order_id)}))

    async def margins_of(self, exchange: ccxt.pro.Exchange, info: object) -> tuple[ReportedMargin, ...]:
        """Return the margin of the account as its balances tell it."""
        del exchange
        return margin.read_margins(info)

    async def permissions(self, exchange: ccxt.pro.Exchange) -> Permissions:
        """Return what the key may do, which Bybit lists per product."""
        key = part(await exchange.privateGetV5UserQueryApi(), "result")
        granted = part(key, "permissions")
        if not isinstance(granted, dict):
            return Permissions(None, None)
        can_trade = str(part(key, "readOnly")) == "0" and bool(
            granted.get("ContractTrade") or granted.get("Derivatives") or granted.get("Options")
        )
        return Permissions(can_trade, "Withdraw" in (granted.get("Wallet") or []))
