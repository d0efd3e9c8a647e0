"""Deribit's orders: labels, amounts in money or coins, and what can rest only over our own connection.

A label is no unique key there: the same order sent twice is two orders. Positions are signed in `size` already.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import ccxt.pro

from bot.domain.errors import Retryable
from bot.domain.orders import TimeInForce
from bot.domain.risk import ReportedMargin, SupposedMargin, SupposedPosition
from bot.gateways.dead_man import DeadMan
from bot.gateways.deribit import margin
from bot.gateways.deribit.session import DeribitSession, signed_login
from bot.gateways.exchange import VenueSettings
from bot.gateways.gateway import Clock
from bot.gateways.market_words import number, part
from bot.gateways.order_words import PAGE_TRADES, OrderTerms, OrderWords, Permissions, Raw, answered, paged
from bot.gateways.outcomes import Outcome, outcome_of

_CODE: Final = re.compile(r'"code":\s*(-?\d+)')
# Answers that say nothing about whether the order was carried out.
_VAGUE: Final = frozenset({"10001", "10040", "10041", "11031", "11051", "11094", "13008"})
# PermissionDenied to ccxt, but only limits of an account: 10013 to 10018.
_LIMITS: Final = frozenset(str(code) for code in range(10013, 10019))
_UNAUTHORIZED: Final = frozenset({"13004", "13009"})
# Rate limits of the matching engine, which refuses before it executes.
_BUSY: Final = frozenset({"10028", "10047"})


class DeribitOrderWords(OrderWords):
    """How Deribit speaks of orders."""

    trades_need_symbol: ClassVar[bool] = False
    needs_unique_ms: ClassVar[bool] = True

    def __init__(self) -> None:
        self._session: DeribitSession | None = None

    def order_id_of(self, order: Raw) -> str:
        """Return our id of an order: its label."""
        return self.decode(part(order.get("info"), "label"))

    def order_id_of_trade(self, trade: Raw) -> str | None:
        """Return our id of a trade's order: trades carry the label where the order has one, and ours all have."""
        return self.decode(part(trade.get("info"), "label"))

    def dead_man(self, exchange: ccxt.pro.Exchange, clock: Clock, settings: VenueSettings) -> DeadMan:
        """Return our own connection, whose orders Deribit cancels when it breaks."""
        self._session = DeribitSession(exchange, clock, settings.timeout_ns, settings.dead_man_ns)
        return self._session

    def create_params(self, terms: OrderTerms) -> dict[str, Any]:
        """Return ccxt's params of a new order; our id is its label."""
        params = super().create_params(terms)
        params["label"] = params.pop("clientOrderId")
        return params

    async def create(self, exchange: ccxt.pro.Exchange, terms: OrderTerms) -> Raw:
        """Send an order: over our own connection if it can rest, over REST if it cannot."""
        if not terms.may_rest:
            return await super().create(exchange, terms)
        params: dict[str, Any] = {
            "instrument_name": exchange.market(terms.symbol)["id"],
            "amount": number(exchange.amount_to_precision(terms.symbol, terms.amount)),
            "type": "limit",
            "price": number(exchange.price_to_precision(terms.symbol, terms.px)),
            "label": self.encode(terms.intent.order_id),
            "time_in_force": "good_til_cancelled",
        }
        if terms.intent.time_in_force is TimeInForce.POST_ONLY:
            params |= {"post_only": True, "reject_post_only": True}
        if terms.intent.reduce_only:
            params["reduce_only"] = True
        return self._parse(exchange, await self._armed_session().call(f"private/{terms.side}", params))

    async def amend(self, exchange: ccxt.pro.Exchange, terms: OrderTerms, venue_order_id: str, px: float) -> Raw:
        """Move a resting order's limit; the amount told is the whole of it, filled part included."""
        params: dict[str, Any] = {
            "order_id": venue_order_id,
            "amount": number(exchange.amount_to_precision(terms.symbol, terms.amount)),
            "price": number(exchange.price_to_precision(terms.symbol, px)),
        }
        if terms.intent.time_in_force is TimeInForce.POST_ONLY:
            params |= {"post_only": True, "reject_post_only": True}
        return self._parse(exchange, await self._armed_session().call("private/edit", params))

    async def cancel(self, exchange: ccxt.pro.Exchange, symbol: str, order_id: str, venue_order_id: str) -> Raw:
        """Cancel over our own connection if it is up and answers, else over REST; by label without the venue's id."""
        session = self._session if self._session is not None and self._session.is_armed else None
        if session is not None:
            try:
                return await self._cancel_over(session, exchange, order_id, venue_order_id)
            except ccxt.RateLimitExceeded:
                raise
            except (ccxt.NetworkError, Retryable):
                pass  # perhaps half open, which only missing heartbeats would tell; canceling twice does no harm
        if venue_order_id:
            return await super().cancel(exchange, symbol, order_id, venue_order_id)
        label = {"label": self.encode(order_id)}
        return _canceled(part(await exchange.privateGetCancelByLabel(label), "result"), label["label"])

    async def _cancel_over(
        self, session: DeribitSession, exchange: ccxt.pro.Exchange, order_id: str, venue_order_id: str
    ) -> Raw:
        if venue_order_id:
            return answered(exchange.parse_order(await session.call("private/cancel", {"order_id": venue_order_id})))
        label = {"label": self.encode(order_id)}
        return _canceled(await session.call("private/cancel_by_label", label), label["label"])

    async def fetch_by_id(
        self, exchange: ccxt.pro.Exchange, symbol: str, order_id: str, venue_order_id: str
    ) -> Raw | None:
        """Return an order by the venue's id, else by its label."""
        if venue_order_id:
            return await super().fetch_by_id(exchange, symbol, order_id, venue_order_id)
        currency = self._currency(exchange, symbol)
        asked = {"currency": currency, "label": self.encode(order_id)}
        found = part(await exchange.privateGetGetOrderStateByLabel(asked), "result")
        orders = [exchange.parse_order(order) for order in found] if isinstance(found, list) else []
        return next((answered(order) for order in orders if self.order_id_of(order) == order_id), None)

    async def fetch_order_trades(
        self, exchange: ccxt.pro.Exchange, symbol: str, venue_order_id: str, since_ms: int | None
    ) -> list[Raw]:
        """Return every trade of one order, which Deribit looks up by itself."""
        del since_ms
        return list(await exchange.fetch_order_trades(venue_order_id, symbol))

    async def fetch_trades(self, exchange: ccxt.pro.Exchange, symbol: str | None, since_ms: int | None) -> list[Raw]:
        """Return our trades on one symbol, newest first asked unless a time is given."""
        order = {"sorting": "desc" if since_ms is None else "asc"}
        return await paged(lambda since: exchange.fetch_my_trades(symbol, since, PAGE_TRADES, order), since_ms)

    async def fetch_all_trades(
        self, exchange: ccxt.pro.Exchange, symbols: Sequence[str], currencies: frozenset[str], since_ms: int
    ) -> list[Raw]:
        """Return the account's trades since a time, asked once per currency that contracts settle in."""
        found: list[Raw] = []
        for currency in await self._currencies(exchange, symbols, currencies):
            asked = {"code": currency, "sorting": "asc"}
            found += await paged(lambda since, asked=asked: _trades_of_currency(exchange, asked, since), since_ms)
        return found

    async def fetch_open_orders(self, exchange: ccxt.pro.Exchange, currencies: frozenset[str]) -> list[Raw]:
        """Return every open order of the account, of any currency."""
        del currencies
        found = part(await exchange.privateGetGetOpenOrders(), "result")
        if not isinstance(found, list):
            raise ccxt.BadResponse(f"deribit: expected open orders, found {str(found)[:100]}")
        return [exchange.parse_order(order) for order in found]

    async def margins_of(self, exchange: ccxt.pro.Exchange, info: object) -> tuple[ReportedMargin, ...]:
        """Return the margin by currency, and of the pool where there is one, in USD."""
        return await margin.read_margins(exchange, info)

    async def margin_terms(self, exchange: ccxt.pro.Exchange, currencies: frozenset[str]) -> dict[str, Any]:
        """Return `model_params` of portfolio margin. Raises what ccxt raises, as for an account without it."""
        return await margin.read_terms(exchange, currencies)

    async def suppose(
        self, exchange: ccxt.pro.Exchange, changes: Sequence[tuple[str, SupposedPosition]]
    ) -> SupposedMargin | None:
        """Return what Deribit would ask, of the pool of an account that has one, else by settlement currency."""
        pool = "CROSS" if await margin.is_cross(exchange) else ""
        by_currency: dict[str, dict[str, float]] = {}
        for symbol, change in changes:
            named = by_currency.setdefault(pool or self._currency(exchange, symbol), {})
            name = str(exchange.market(symbol)["id"])
            named[name] = named.get(name, 0.0) + change.qty_base
        answers = [await margin.simulate(exchange, currency, named) for currency, named in by_currency.items()]
        items = {name: amount for answer in answers for name, amount in answer.items_quote.items()}
        return SupposedMargin(tuple(one for answer in answers for one in answer.margins), items)

    def position_amount(self, position: Raw) -> float | None:
        """Return a position's size, which Deribit signs itself."""
        return number(part(position.get("info"), "size"))

    async def permissions(self, exchange: ccxt.pro.Exchange) -> Permissions:
        """Return what the key may do: Deribit lists the scopes of a login."""
        login = signed_login(exchange, exchange.milliseconds(), "permissions")
        scopes = str(part(part(await exchange.publicGetAuth(login), "result"), "scope") or "")
        if not scopes:
            return Permissions(None, None)
        return Permissions("trade:read_write" in scopes, "wallet:read_write" in scopes)

    def outcome_of(self, error: BaseException, *, may_have_left: bool = True) -> Outcome:
        """Return what an error means: a JSON-RPC error is a no, but for a few codes that say nothing."""
        if not isinstance(error, ccxt.ExchangeError | ccxt.NetworkError):
            return outcome_of(error, may_have_left=may_have_left)
        found = _CODE.search(str(error))
        code = found.group(1) if found else ""
        if code in _BUSY or (code in _UNAUTHORIZED and "nonce" in str(error)):
            return Outcome.RETRYABLE  # ccxt's nonce is the millisecond: two requests in one, and the second is refused
        if code in _LIMITS:
            return Outcome.REJECTED
        meaning = outcome_of(error, may_have_left=may_have_left)
        if type(error) is ccxt.ExchangeError and code and code not in _VAGUE:
            return Outcome.REJECTED
        return meaning

    def _armed_session(self) -> DeribitSession:
        if self._session is None:
            raise Retryable("not sent: there is no order connection")
        return self._session

    def _parse(self, exchange: ccxt.pro.Exchange, result: object) -> Raw:
        order = part(result, "order")
        if not isinstance(order, dict):
            raise ccxt.NullResponse(f"deribit: expected an order, found {str(result)[:100]}")
        return answered(exchange.parse_order({**order, "trades": part(result, "trades") or []}))

    def _currency(self, exchange: ccxt.pro.Exchange, symbol: str) -> str:
        market = exchange.market(symbol)
        return str(market["settleId"] or market["quoteId"])

    async def _currencies(
        self, exchange: ccxt.pro.Exchange, symbols: Sequence[str], currencies: frozenset[str]
    ) -> list[str]:
        settles = {self._currency(exchange, symbol) for symbol in symbols if symbol in exchange.markets}
        return sorted(settles or currencies)


def _canceled(count: object, label: str) -> Raw:
    """Return the answer to a cancel by label. Raises OrderNotFound if it canceled nothing."""
    if not number(count):
        raise ccxt.OrderNotFound(f"deribit: no open order with label {label}")
    return {"status": "canceled", "info": {}}


async def _trades_of_currency(exchange: ccxt.pro.Exchange, asked: dict[str, str], since_ms: int | None) -> list[Raw]:
    request = {
        "currency": asked["code"],
        "sorting": asked["sorting"],
        "start_timestamp": since_ms,
        "count": PAGE_TRADES,
    }
    found = part(part(await exchange.privateGetGetUserTradesByCurrencyAndTime(request), "result"), "trades")
    if not isinstance(found, list):
        raise ccxt.BadResponse(f"deribit: expected trades, found {str(found)[:100]}")
    return [exchange.parse_trade(trade) for trade in found]
