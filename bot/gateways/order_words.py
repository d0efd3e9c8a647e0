"""What a venue's orders, trades and account say, and how it wants to be told: ccxt's unified words.

They fit any exchange; a venue's own class (`bot.gateways.deribit.orders` and its like) overrides where it differs. A
client order id must be reversible, so that whatever comes back from the venue is known to be ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import ccxt.pro

from bot.domain.instruments import Instrument
from bot.domain.orders import OrderIntent, TimeInForce
from bot.domain.risk import ReportedMargin, SupposedMargin, SupposedPosition
from bot.gateways.dead_man import DeadMan, NoProtection
from bot.gateways.exchange import VenueSettings
from bot.gateways.gateway import Clock
from bot.gateways.market_words import number, part
from bot.gateways.outcomes import Outcome, outcome_of

Raw = Mapping[str, Any]
ORDER_ID: Final = re.compile(r"[0-9a-f]{10}-[0-9]{1,18}")
RESTING: Final = frozenset({TimeInForce.GTC, TimeInForce.POST_ONLY})
_CROSSING: Final = re.compile(r"post.?only", re.IGNORECASE)  # in the refusals of every venue known here
PAGE_TRADES: Final = 100
MAX_PAGES: Final = 50


class OrderTerms:
    """One order as ccxt wants it: symbol, side, amount and price, beside our intent."""

    __slots__ = ("amount", "intent", "px", "symbol")

    def __init__(self, intent: OrderIntent, instrument: Instrument, symbol: str, amount: float) -> None:
        self.intent = intent
        self.symbol = symbol
        self.amount = amount
        is_market = intent.time_in_force is TimeInForce.MARKET
        self.px = None if is_market else instrument.tick_schedule.px(intent.limit_ticks)

    @property
    def side(self) -> str:
        """Buy or sell."""
        return "buy" if self.intent.qty_lots > 0 else "sell"

    @property
    def type(self) -> str:
        """Limit or market."""
        return "limit" if self.px is not None else "market"

    @property
    def may_rest(self) -> bool:
        """Tell whether the order can stay in the book, where a dead client would leave it."""
        return self.intent.time_in_force in RESTING


class Permissions:
    """What a key may do; None where the venue does not tell."""

    __slots__ = ("can_trade", "can_withdraw")

    def __init__(self, can_trade: bool | None, can_withdraw: bool | None) -> None:
        self.can_trade = can_trade
        self.can_withdraw = can_withdraw


class OrderWords:
    """The unified words of ccxt for orders, trades and the account of any exchange."""

    can_amend: ClassVar[bool] = True  # only where an amend keeps the order's filled part: else cancel and send anew
    amends_price_alone: ClassVar[bool] = False  # else the whole quantity has to be told again
    cancels_by_client_id: ClassVar[bool] = True
    trades_need_symbol: ClassVar[bool] = True
    needs_unique_ms: ClassVar[bool] = False  # its signatures carry the millisecond as a nonce

    # --- ids -------------------------------------------------------------------------------------------------------

    def encode(self, order_id: str) -> str:
        """Return the client order id the venue is given for ours."""
        return order_id

    def decode(self, client_id: object) -> str:
        """Return our order id of a venue's client order id, "" if it is not one that we made."""
        text = str(client_id or "")
        return text if ORDER_ID.fullmatch(text) else ""

    def order_id_of(self, order: Raw) -> str:
        """Return our id of an order as ccxt parsed it, "" if it is not ours."""
        return self.decode(order.get("clientOrderId"))

    def order_id_of_trade(self, trade: Raw) -> str | None:
        """Return our id of a trade's order, "" if it is not ours, None if the trade does not say."""
        del trade
        return None

    def status_of(self, order: Raw) -> str:
        """Return ccxt's word for an order's state: open, closed, canceled, expired or rejected, or the venue's own."""
        return str(order.get("status"))

    def is_maker(self, trade: Raw) -> bool:
        """Tell whether a trade took our resting order."""
        return trade.get("takerOrMaker") == "maker"

    # --- commands --------------------------------------------------------------------------------------------------

    def prepare(self, exchange: ccxt.pro.Exchange) -> None:
        """Set the options without which ccxt would do more, or other, than it is asked."""

    def dead_man(self, exchange: ccxt.pro.Exchange, clock: Clock, settings: VenueSettings) -> DeadMan:
        """Return what cancels resting orders when we fall silent."""
        del exchange, clock
        return NoProtection(f"{settings.venue} offers nothing against a dead client that ccxt could arm")

    def create_params(self, terms: OrderTerms) -> dict[str, Any]:
        """Return ccxt's params of a new order."""
        params: dict[str, Any] = {"clientOrderId": self.encode(terms.intent.order_id)}
        if terms.intent.time_in_force is TimeInForce.POST_ONLY:
            params["postOnly"] = True
        elif terms.intent.time_in_force is not TimeInForce.MARKET:
            params["timeInForce"] = terms.intent.time_in_force.value.upper()
        if terms.intent.reduce_only:
            params["reduceOnly"] = True
        return params

    async def create(self, exchange: ccxt.pro.Exchange, terms: OrderTerms) -> Raw:
        """Send an order; return it as ccxt parsed the answer."""
        created = await exchange.create_order(
            terms.symbol, terms.type, terms.side, terms.amount, terms.px, self.create_params(terms)
        )
        return answered(created)

    async def amend(self, exchange: ccxt.pro.Exchange, terms: OrderTerms, venue_order_id: str, px: float) -> Raw:
        """Move the limit of a resting order to `px`."""
        amount = None if self.amends_price_alone else terms.amount
        edited = await exchange.edit_order(
            venue_order_id, terms.symbol, "limit", terms.side, amount, px, self.amend_params(terms)
        )
        return answered(edited)

    def amend_params(self, terms: OrderTerms) -> dict[str, Any]:
        """Return ccxt's params of an amend."""
        del terms
        return {}

    async def cancel(self, exchange: ccxt.pro.Exchange, symbol: str, order_id: str, venue_order_id: str) -> Raw:
        """Cancel an order, by the venue's id where it is known, else by ours. Raises OrderNotFound if there is none."""
        if venue_order_id or not self.cancels_by_client_id:
            return answered(await exchange.cancel_order(venue_order_id, symbol))
        return answered(await exchange.cancel_order(None, symbol, {"clientOrderId": self.encode(order_id)}))

    # --- the truth -------------------------------------------------------------------------------------------------

    async def find_order(
        self, exchange: ccxt.pro.Exchange, symbol: str, order_id: str, venue_order_id: str
    ) -> Raw | None:
        """Return an order as the venue has it; None if neither its orders, open or closed, nor its trades know it.

        A venue without a look-up by client id is searched: open orders, closed orders, recent trades.
        """
        if exchange.has.get("fetchOrder"):
            found = await self.fetch_by_id(exchange, symbol, order_id, venue_order_id)
            if found is not None:
                return found
        return await self.search(exchange, symbol, order_id)

    async def fetch_by_id(
        self, exchange: ccxt.pro.Exchange, symbol: str, order_id: str, venue_order_id: str
    ) -> Raw | None:
        """Return an order by our id, or the venue's where it is known; None if the venue says there is none."""
        try:
            if venue_order_id:
                return answered(await exchange.fetch_order(venue_order_id, symbol))
            return answered(
                await exchange.fetch_order("", symbol, {"clientOrderId": self.encode(order_id)}),
            )
        except ccxt.OrderNotFound:
            return None

    async def search(self, exchange: ccxt.pro.Exchange, symbol: str, order_id: str) -> Raw | None:
        """Return an order from the lists of open and closed orders, or made of its trades; None if none knows it."""
        lists = [("fetchOpenOrders", exchange.fetch_open_orders), ("fetchClosedOrders", exchange.fetch_closed_orders)]
        for capability, fetch in lists:
            if exchange.has.get(capability):
                for order in await fetch(symbol):
                    if self.order_id_of(order) == order_id:
                        return answered(order)
        for trade in await self.fetch_trades(exchange, symbol, None):
            if self.order_id_of_trade(trade) == order_id and trade.get("order"):
                return await self.fetch_by_id(exchange, symbol, order_id, str(trade["order"]))
        return None

    async def fetch_order_trades(
        self, exchange: ccxt.pro.Exchange, symbol: str, venue_order_id: str, since_ms: int | None
    ) -> list[Raw]:
        """Return every trade of one order."""
        trades = await self.fetch_trades(exchange, symbol, since_ms)
        return [trade for trade in trades if str(trade.get("order")) == venue_order_id]

    async def fetch_owner(self, exchange: ccxt.pro.Exchange, symbol: str, venue_order_id: str) -> str | None:
        """Return our id of a trade's order, "" if it is not ours, None if it is not found. Raises what ccxt raises."""
        order = await self.fetch_by_id(exchange, symbol, "", venue_order_id)
        return None if order is None else self.order_id_of(order)

    # --- the account -----------------------------------------------------------------------------------------------

    async def fetch_trades(self, exchange: ccxt.pro.Exchange, symbol: str | None, since_ms: int | None) -> list[Raw]:
        """Return our trades since a time, oldest first, page after page; the latest page if no time is given."""
        return await paged(
            lambda since: exchange.fetch_my_trades(symbol, since, PAGE_TRADES, self.trades_params(symbol)), since_ms
        )

    def trades_params(self, symbol: str | None) -> dict[str, Any]:
        """Return ccxt's params for a page of trades."""
        del symbol
        return {}

    async def fetch_all_trades(
        self, exchange: ccxt.pro.Exchange, symbols: Sequence[str], currencies: frozenset[str], since_ms: int
    ) -> list[Raw]:
        """Return the account's trades since a time: on each symbol where the venue wants one, else all at once."""
        del currencies
        if not self.trades_need_symbol:
            return await self.fetch_trades(exchange, None, since_ms)
        found: list[Raw] = []
        for symbol in symbols:
            found += await self.fetch_trades(exchange, symbol, since_ms)
        return found

    async def fetch_open_orders(self, exchange: ccxt.pro.Exchange, currencies: frozenset[str]) -> list[Raw]:
        """Return every open order of the account on these currencies."""
        del currencies
        return list(await exchange.fetch_open_orders())

    async def fetch_positions(self, exchange: ccxt.pro.Exchange, currencies: frozenset[str]) -> list[Raw]:
        """Return every open position of the account."""
        del currencies
        return list(await exchange.fetch_positions())

    async def fetch_account(self, exchange: ccxt.pro.Exchange) -> tuple[dict[str, float], tuple[ReportedMargin, ...]]:
        """Return currency → equity in it, and what the venue says of margin; one request, where it tells all in one."""
        balance = await exchange.fetch_balance()
        totals = part(balance, "total") or {}
        equity = {str(currency): number(total) for currency, total in totals.items()}
        found = {currency: total for currency, total in equity.items() if total}
        return found, await self.margins_of(exchange, part(balance, "info"))

    async def margins_of(self, exchange: ccxt.pro.Exchange, info: object) -> tuple[ReportedMargin, ...]:
        """Return what the venue's own answer for balances says of margin, nothing where it does not."""
        del exchange, info
        return ()

    async def margin_terms(self, exchange: ccxt.pro.Exchange, currencies: frozenset[str]) -> dict[str, Any]:
        """Return the parameters of margin in use, in the venue's words; empty where it does not tell them.

        `currencies` are those that contracts of ours settle in. Raises what ccxt raises.
        """
        del exchange, currencies
        return {}

    async def suppose(
        self, exchange: ccxt.pro.Exchange, changes: Sequence[tuple[str, SupposedPosition]]
    ) -> SupposedMargin | None:
        """Return what the venue would ask after changes (by symbol) of the account; None where it cannot be asked."""
        del exchange, changes
        return None

    def position_amount(self, position: Raw) -> float | None:
        """Return a position in ccxt's amounts, short is negative; None if it is not told."""
        contracts = number(position.get("contracts"))
        if contracts is None:
            return None
        return -abs(contracts) if position.get("side") == "short" else abs(contracts)

    async def permissions(self, exchange: ccxt.pro.Exchange) -> Permissions:
        """Return what the key may do, as far as the venue tells; raises what ccxt raises if the key is no good."""
        await exchange.fetch_balance()
        return Permissions(None, None)

    # --- errors ----------------------------------------------------------------------------------------------------

    def outcome_of(self, error: BaseException, *, may_have_left: bool = True) -> Outcome:
        """Return what an error means; a venue's own class knows its codes."""
        return outcome_of(error, may_have_left=may_have_left)

    def would_cross(self, error: BaseException) -> bool:
        """Tell whether a refusal says that a post-only order would have traded at once, nothing worse."""
        return isinstance(error, ccxt.OrderImmediatelyFillable) or bool(_CROSSING.search(str(error)))


def answered(order: object) -> Raw:
    """Return ccxt's answer if it is an order at all. Raises NullResponse, which is UNKNOWN, if it is not.

    ccxt makes an order without an id of an answer it cannot read.
    """
    if not isinstance(order, Mapping) or not order.get("id"):
        raise ccxt.NullResponse(f"expected an order with an id, found {str(order)[:100]}")
    return order


async def paged(fetch: Any, since_ms: int | None) -> list[Raw]:  # noqa: ANN401
    """Return all pages of trades since a time, oldest first and each once; bounded by `MAX_PAGES`."""
    found: dict[tuple[str, str], Raw] = {}
    for _ in range(MAX_PAGES):
        page = list(await fetch(since_ms))
        fresh = {(str(trade.get("symbol")), str(trade.get("id"))): trade for trade in page}
        is_news = not fresh.keys() <= found.keys()
        found.update(fresh)
        last_ms = max((int(trade.get("timestamp") or 0) for trade in page), default=0)
        if since_ms is None or len(page) < PAGE_TRADES:
            break
        since_ms = last_ms if is_news and last_ms > since_ms else max(since_ms, last_ms) + 1
    return sorted(found.values(), key=lambda trade: int(trade.get("timestamp") or 0))
