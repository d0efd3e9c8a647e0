"""Deribit's JSON-RPC methods on a `VenueBook`: what each is called, what it needs, and what it answers.

Methods that concern a connection (auth, subscriptions, heartbeat, cancel on disconnect) are the server's own.
Parameters come as JSON values over WebSocket and POST, as strings over GET; both are understood.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.venues import deribit_words as words
from tests.venues.deribit_words import Json
from tests.venues.matching import Listing, Order, Refused, Trade, VenueBook, Why

Params = dict[str, Any]


class RpcError(Exception):
    """An error answer: Deribit's code, its short message, and what is wrong with which parameter."""

    def __init__(self, code: int, message: str, data: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @property
    def http_status(self) -> int:
        return {10028: 429, 13004: 401, 13009: 401, 13021: 403, 11051: 503}.get(self.code, 400)

    def body(self) -> Json:
        """The `error` member of the answer."""
        said: Json = {"code": self.code, "message": self.message}
        return said if self.data is None else {**said, "data": self.data}


# What each refusal of the book is called here. Codes and words as documented.
REFUSALS: dict[Why, tuple[int, str]] = {
    Why.UNKNOWN_INSTRUMENT: (10020, "invalid_or_unsupported_instrument"),
    Why.INACTIVE: (13019, "orderbook_closed"),
    Why.BAD_AMOUNT: (10021, "invalid_amount"),
    Why.BAD_PX: (10043, "price_wrong_tick"),
    Why.POST_ONLY: (11054, "post_only_reject"),
    Why.REDUCE_ONLY: (11030, "other_reject reduce_only"),
    Why.NOT_ENOUGH_FUNDS: (10009, "not_enough_funds"),
    Why.NO_LIQUIDITY: (11030, "other_reject no_liquidity"),
    Why.NOT_OPEN: (11044, "not_open_order"),
    Why.NOT_FOUND: (10004, "order_not_found"),
    Why.DUPLICATE: (11030, "other_reject duplicate"),
    Why.HALTED: (11051, "system_maintenance"),
}
CODES: dict[int, str] = {
    **dict(REFUSALS.values()),
    -32602: "Invalid params",
    10001: "error",
    10028: "too_many_requests",
    10040: "retry",
    10041: "settlement_in_progress",
    10047: "matching_engine_queue_full",
    11050: "bad_request",
    11094: "internal_server_error",
    13004: "invalid_credentials",
    13009: "unauthorized",
    13021: "forbidden",
}


def refusal(word: str) -> RpcError:
    """Return the error for a `Why`, by its value, or for one of Deribit's codes."""
    if word.lstrip("-").isdigit():
        return RpcError(int(word), CODES.get(int(word), "error"))
    return of_refused(Refused(Why(word)))


def of_refused(refused: Refused) -> RpcError:
    code, message = REFUSALS[refused.why]
    return RpcError(code, message, {"reason": str(refused)})


def invalid(param: str, reason: str) -> RpcError:
    return RpcError(-32602, "Invalid params", {"param": param, "reason": reason})


class Call(NamedTuple):
    """One request: on which book, with which parameters, and over which connection (None over HTTP)."""

    book: VenueBook
    params: Params
    owner: object

    def text(self, name: str, default: str | None = None) -> str:
        value = self.params.get(name, default)
        if value is None:
            raise invalid(name, "value required")
        return str(value)

    def number(self, name: str) -> float | None:
        value = self.params.get(name)
        try:
            return None if value is None else float(value)
        except (TypeError, ValueError) as error:
            raise invalid(name, "must be a number") from error

    def integer(self, name: str, default: int) -> int:
        value = self.number(name)
        return default if value is None else int(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        return str(self.params.get(name, default)).lower() == "true"

    def listing(self) -> Listing:
        name = self.text("instrument_name")
        if name not in self.book.listings:
            raise RpcError(10020, "invalid_or_unsupported_instrument", {"param": "instrument_name"})
        return self.book.listings[name]


class Method(NamedTuple):
    """How a method is carried out, the fault script's word for it, and the scope it needs ("" for public ones)."""

    answer: Callable[[Call], Any]
    operation: str
    scope: str = ""


# Public --------------------------------------------------------------------------------------------------------------


def get_time(call: Call) -> int:
    return call.book.now_ms()


def get_currencies(call: Call) -> list[Json]:
    coins = {listing.coin for listing in call.book.listings.values()}
    coins |= {listing.settle for listing in call.book.listings.values()} | set(call.book.balances)
    return [
        {
            "currency": coin,
            "currency_long": coin.title(),
            "coin_type": coin,
            "fee_precision": 8,
            "decimals": 8,
            "min_confirmations": 1,
            "withdrawal_fee": 0.0,
            "min_withdrawal_fee": 0.0,
            "withdrawal_priorities": [],
            "in_cross_collateral_pool": False,
        }
        for coin in sorted(coins)
    ]


def get_instruments(call: Call) -> list[Json]:
    is_expired = call.flag("expired")
    return [words.instrument(one) for one in _matching(call) if one.is_active is not is_expired]


def get_instrument(call: Call) -> Json:
    return words.instrument(call.listing())


def ticker(call: Call) -> Json:
    return words.ticker(call.book, call.listing().name)


def get_order_book(call: Call) -> Json:
    return words.order_book(call.book, call.listing().name, call.integer("depth", 5), call.book.seq)


def get_book_summary_by_currency(call: Call) -> list[Json]:
    return [words.summary(call.book, one.name) for one in _matching(call) if one.is_active]


def get_book_summary_by_instrument(call: Call) -> list[Json]:
    return [words.summary(call.book, call.listing().name)]


def get_index_price(call: Call) -> Json:
    name = call.text("index_name")
    px = call.book.index.get(words.coin_of_index(name))
    if px is None:
        raise invalid("index_name", f"unknown index {name}")
    return {"index_price": px, "estimated_delivery_price": px}


def get_index_price_names(call: Call) -> list[str]:
    return sorted({words.index_name_of(listing) for listing in call.book.listings.values()})


def get_funding_rate_value(call: Call) -> float:
    return call.book.quotes[call.listing().name].funding_rate


def get_funding_rate_history(call: Call) -> list[Json]:
    listing = call.listing()
    start_ms, end_ms = call.integer("start_timestamp", 0), call.integer("end_timestamp", 2**62)
    index = words.index_px(call.book, listing)
    return [
        {
            "timestamp": one.ts_ms,
            "index_price": index,
            "prev_index_price": index,
            "interest_1h": one.rate,
            "interest_8h": one.rate,
        }
        for one in call.book.fundings
        if one.name == listing.name and start_ms <= one.ts_ms <= end_ms
    ]


def get_delivery_prices(call: Call) -> Json:
    coin = words.coin_of_index(call.text("index_name"))
    known = [delivery for delivery in reversed(call.book.deliveries) if delivery.coin == coin]
    first = call.integer("offset", 0)
    shown = known[first : first + call.integer("count", 10)]
    data = [{"date": _date(delivery.expiry_ms), "delivery_price": delivery.px} for delivery in shown]
    return {"data": data, "records_total": len(known)}


def get_last_settlements(call: Call) -> Json:
    wanted = call.params.get("instrument_name")
    found = [
        entry
        for delivery in reversed(call.book.deliveries)
        for entry in words.delivery_settlements(call.book, delivery)
        if (wanted is None or entry["instrument_name"] == wanted) and _is_of(call, entry["instrument_name"])
    ]
    return {"settlements": found[: call.integer("count", 20)], "continuation": None}


def get_last_trades(call: Call) -> Json:
    found = _trades(call)
    return {"trades": [words.public_trade(call.book, one) for one in found], "has_more": False}


def test(_call: Call) -> Json:
    return {"version": "1.2.26"}


def status(_call: Call) -> Json:
    return {"locked": "false", "locked_indices": []}


# Orders --------------------------------------------------------------------------------------------------------------

TIMES = {"good_til_cancelled": "gtc", "good_til_day": "gtc", "immediate_or_cancel": "ioc", "fill_or_kill": "fok"}


def buy(call: Call) -> Json:
    return _place(call, is_buy=True)


def sell(call: Call) -> Json:
    return _place(call, is_buy=False)


def _place(call: Call, *, is_buy: bool) -> Json:
    kind = call.text("type", "limit")
    if kind not in {"limit", "market"}:
        raise invalid("type", "only limit and market orders here")
    px = call.number("price") if kind == "limit" else None
    if kind == "limit" and px is None:
        raise invalid("price", "value required")
    words_of_time = call.text("time_in_force", "good_til_cancelled")
    if words_of_time not in TIMES:
        raise invalid("time_in_force", "wrong value")
    if len(label := call.text("label", "")) > 64:
        raise invalid("label", "must be at most 64 characters")
    listing = call.listing()
    until_ms = call.number("valid_until")
    if until_ms is not None and call.book.now_ms() > until_ms:
        raise RpcError(11030, "other_reject", {"reason": "valid_until has passed"})
    placed = call.book.place(
        listing.name,
        is_buy=is_buy,
        amount=_amount(call, listing),
        px=px,
        client_id=label,
        time_in_force=TIMES[words_of_time],
        is_post_only=call.flag("post_only"),
        is_sliding=not call.flag("reject_post_only"),
        is_reduce_only=call.flag("reduce_only"),
        owner=call.owner,
    )
    return _with_trades(call.book, placed, 0)


def edit(call: Call) -> Json:
    number = words.number_of(call.text("order_id"))
    return _edit(call, number)


def edit_by_label(call: Call) -> Json:
    label, name = call.text("label"), call.listing().name
    known = [order for order in call.book.open_orders(name) if order.client_id == label]
    if len(known) != 1:
        raise RpcError(10004, "order_not_found", {"reason": f"{len(known)} open orders with this label"})
    return _edit(call, known[0].order_id)


def _edit(call: Call, number: str) -> Json:
    known = call.book.orders.get(number)
    before = len(known.trade_ids) if known is not None else 0
    moved = call.book.amend(number, amount=call.number("amount"), px=call.number("price"))
    return _with_trades(call.book, moved, before)


def cancel(call: Call) -> Json:
    return words.order(call.book, call.book.cancel(words.number_of(call.text("order_id"))))


def cancel_by_label(call: Call) -> int:
    wanted = call.params.get("currency")
    known = [order for order in call.book.open_orders() if order.client_id == call.text("label")]
    gone = [order for order in known if wanted is None or words.currency_of(_listing_of(call, order)) == wanted]
    for order in gone:
        call.book.cancel(order.order_id)
    return len(gone)


def cancel_all(call: Call) -> Any:
    known = [order for order in call.book.open_orders() if _is_of(call, order.name)]
    gone = [call.book.cancel(order.order_id) for order in known]
    return [words.order(call.book, order) for order in gone] if call.flag("detailed") else len(gone)


def close_position(call: Call) -> Json:
    held = call.book.position(call.listing().name).amount
    if not held:
        raise RpcError(11030, "other_reject", {"reason": "no position"})
    market = {**call.params, "amount": abs(held), "reduce_only": True}
    return _place(Call(call.book, market, call.owner), is_buy=held < 0)


def get_order_state(call: Call) -> Json:
    known = call.book.orders.get(words.number_of(call.text("order_id")))
    if known is None:
        raise RpcError(10004, "order_not_found")
    return words.order(call.book, known)


def get_order_state_by_label(call: Call) -> list[Json]:
    known = call.book.orders_of(call.text("label"))
    return [words.order(call.book, order) for order in known if _is_of(call, order.name)]


def get_open_orders(call: Call) -> list[Json]:
    known = [order for order in call.book.open_orders() if _is_of(call, order.name)]
    label = call.params.get("label")
    return [words.order(call.book, order) for order in known if label is None or order.client_id == label]


def get_order_history(call: Call) -> list[Json]:
    """Orders that are over, newest first; those never filled only if asked for."""
    over = [order for order in call.book.orders.values() if not order.is_open and _is_of(call, order.name)]
    shown = [order for order in reversed(over) if order.filled or call.flag("include_unfilled")]
    first = call.integer("offset", 0)
    return [words.order(call.book, order) for order in shown[first : first + call.integer("count", 20)]]


def get_user_trades(call: Call) -> Json:
    found = _trades(call)
    count = call.integer("count", 10)
    return {"trades": [words.trade(call.book, one) for one in found[:count]], "has_more": len(found) > count}


def get_user_trades_by_order(call: Call) -> list[Json]:
    number = words.number_of(call.text("order_id"))
    return [words.trade(call.book, one) for one in call.book.trades_of(number)]


# Account -------------------------------------------------------------------------------------------------------------


def get_positions(call: Call) -> list[Json]:
    """All positions ever held and not yet settled: flat ones too, as Deribit reports them."""
    return [words.position(call.book, name) for name in call.book.positions if _is_of(call, name)]


def get_position(call: Call) -> Json:
    return words.position(call.book, call.listing().name)


def get_account_summary(call: Call) -> Json:
    return {**words.account(call.book, call.text("currency")), "id": 10, "username": "test", "type": "main"}


def get_account_summaries(call: Call) -> Json:
    held = sorted(call.book.balances)
    return {"id": 10, "username": "test", "summaries": [words.account(call.book, currency) for currency in held]}


def pme_simulate(call: Call) -> Json:
    return words.simulated_matrix(call.book, call.text("currency"), _supposed(call))


def simulate_portfolio(call: Call) -> Json:
    currency, supposed = call.text("currency"), _supposed(call)
    margin = words.simulated_margin(call.book, currency, supposed)
    return words.account(call.book, currency) | {"initial_margin": margin, "maintenance_margin": 0.8 * margin}


def _supposed(call: Call) -> dict[str, float]:
    told = call.params.get("simulated_positions", {})
    found = json.loads(told) if isinstance(told, str) else told
    unknown = sorted(set(found) - set(call.book.listings))
    if unknown:
        raise invalid("simulated_positions", f"unknown instrument {unknown[0]}")
    return {str(name): float(amount) for name, amount in found.items()}


def get_subaccounts(_call: Call) -> list[Json]:
    return [{"id": 10, "type": "main", "username": "test", "system_name": "test", "is_password": True}]


def get_settlement_history(call: Call) -> Json:
    found = [
        {
            "type": "settlement",
            "timestamp": one.ts_ms,
            "instrument_name": one.name,
            "funding": one.amount,
            "funded": 0.0,
            "position": call.book.position(one.name).amount,
            "mark_price": call.book.mark_px(one.name),
            "index_price": words.index_px(call.book, call.book.listings[one.name]),
            "profit_loss": 0.0,
            "session_profit_loss": 0.0,
        }
        for one in reversed(call.book.fundings)
        if _is_of(call, one.name)
    ]
    return {"settlements": found[: call.integer("count", 20)], "continuation": None}


def withdraw(_call: Call) -> Json:
    raise RpcError(13021, "forbidden", {"reason": "withdrawals are not part of this venue"})


# Common --------------------------------------------------------------------------------------------------------------


def _matching(call: Call) -> Iterable[Listing]:
    return [listing for listing in call.book.listings.values() if _is_of(call, listing.name)]


def _is_of(call: Call, name: str) -> bool:
    """Tell whether the call asks for an instrument: by its name, its currency and its kind, any if not said."""
    listing, params = call.book.listings[name], call.params
    currency, kind = params.get("currency", "any"), params.get("kind", "any")
    return (
        params.get("instrument_name", name) == name
        and currency in {"any", words.currency_of(listing)}
        and kind in {"any", words.kind_of(listing)}
    )


def _listing_of(call: Call, order: Order) -> Listing:
    return call.book.listings[order.name]


def _amount(call: Call, listing: Listing) -> float:
    amount, contracts = call.number("amount"), call.number("contracts")
    if amount is None and contracts is None:
        raise invalid("amount", "value required")
    return amount if amount is not None else (contracts or 0.0) * listing.contract_size


def _with_trades(book: VenueBook, order: Order, first: int) -> Json:
    known = {trade.trade_id: trade for trade in book.trades_of(order.order_id)}
    trades = [words.trade(book, known[trade_id]) for trade_id in order.trade_ids[first:]]
    return {"order": words.order(book, order), "trades": trades}


def _trades(call: Call) -> list[Trade]:
    start_ms, end_ms = call.integer("start_timestamp", 0), call.integer("end_timestamp", 2**62)
    first_seq, last_seq = call.integer("start_seq", 0), call.integer("end_seq", 2**62)
    found = [
        trade
        for trade in call.book.trades
        if _is_of(call, trade.name) and start_ms <= trade.ts_ms <= end_ms and first_seq <= trade.seq <= last_seq
    ]
    return found if call.params.get("sorting") == "asc" else found[::-1]


def _date(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d")


_TRADE, _READ, _ACCOUNT, _WALLET = "trade:read_write", "trade:read", "account:read", "wallet:read_write"

METHODS: dict[str, Method] = {
    "public/get_time": Method(get_time, "time"),
    "public/test": Method(test, "other"),
    "public/hello": Method(test, "other"),
    "public/status": Method(status, "other"),
    "public/get_currencies": Method(get_currencies, "markets"),
    "public/get_instruments": Method(get_instruments, "markets"),
    "public/get_instrument": Method(get_instrument, "markets"),
    "public/ticker": Method(ticker, "ticker"),
    "public/get_order_book": Method(get_order_book, "ticker"),
    "public/get_book_summary_by_currency": Method(get_book_summary_by_currency, "ticker"),
    "public/get_book_summary_by_instrument": Method(get_book_summary_by_instrument, "ticker"),
    "public/get_index_price": Method(get_index_price, "ticker"),
    "public/get_index_price_names": Method(get_index_price_names, "ticker"),
    "public/get_funding_rate_value": Method(get_funding_rate_value, "ticker"),
    "public/get_funding_rate_history": Method(get_funding_rate_history, "ticker"),
    "public/get_delivery_prices": Method(get_delivery_prices, "ticker"),
    "public/get_last_settlements_by_instrument": Method(get_last_settlements, "ticker"),
    "public/get_last_settlements_by_currency": Method(get_last_settlements, "ticker"),
    "public/get_last_trades_by_instrument": Method(get_last_trades, "ticker"),
    "public/get_last_trades_by_instrument_and_time": Method(get_last_trades, "ticker"),
    "public/get_last_trades_by_currency": Method(get_last_trades, "ticker"),
    "public/get_last_trades_by_currency_and_time": Method(get_last_trades, "ticker"),
    "private/buy": Method(buy, "create", _TRADE),
    "private/sell": Method(sell, "create", _TRADE),
    "private/edit": Method(edit, "amend", _TRADE),
    "private/edit_by_label": Method(edit_by_label, "amend", _TRADE),
    "private/cancel": Method(cancel, "cancel", _TRADE),
    "private/cancel_by_label": Method(cancel_by_label, "cancel", _TRADE),
    "private/cancel_all": Method(cancel_all, "cancel_all", _TRADE),
    "private/cancel_all_by_currency": Method(cancel_all, "cancel_all", _TRADE),
    "private/cancel_all_by_instrument": Method(cancel_all, "cancel_all", _TRADE),
    "private/cancel_all_by_kind_or_type": Method(cancel_all, "cancel_all", _TRADE),
    "private/close_position": Method(close_position, "create", _TRADE),
    "private/get_order_state": Method(get_order_state, "query", _READ),
    "private/get_order_state_by_label": Method(get_order_state_by_label, "query", _READ),
    "private/get_open_orders": Method(get_open_orders, "open_orders", _READ),
    "private/get_open_orders_by_currency": Method(get_open_orders, "open_orders", _READ),
    "private/get_open_orders_by_instrument": Method(get_open_orders, "open_orders", _READ),
    "private/get_open_orders_by_label": Method(get_open_orders, "open_orders", _READ),
    "private/get_order_history_by_currency": Method(get_order_history, "open_orders", _READ),
    "private/get_order_history_by_instrument": Method(get_order_history, "open_orders", _READ),
    "private/get_user_trades_by_currency": Method(get_user_trades, "trades", _READ),
    "private/get_user_trades_by_currency_and_time": Method(get_user_trades, "trades", _READ),
    "private/get_user_trades_by_instrument": Method(get_user_trades, "trades", _READ),
    "private/get_user_trades_by_instrument_and_time": Method(get_user_trades, "trades", _READ),
    "private/get_user_trades_by_order": Method(get_user_trades_by_order, "trades", _READ),
    "private/get_settlement_history_by_currency": Method(get_settlement_history, "trades", _READ),
    "private/get_settlement_history_by_instrument": Method(get_settlement_history, "trades", _READ),
    "private/get_positions": Method(get_positions, "positions", _READ),
    "private/get_position": Method(get_position, "positions", _READ),
    "private/get_account_summary": Method(get_account_summary, "balance", _ACCOUNT),
    "private/get_account_summaries": Method(get_account_summaries, "balance", _ACCOUNT),
    "private/pme/simulate": Method(pme_simulate, "simulate", _ACCOUNT),
    "private/simulate_portfolio": Method(simulate_portfolio, "simulate_sums", _ACCOUNT),
    "private/get_subaccounts": Method(get_subaccounts, "balance", _ACCOUNT),
    "private/withdraw": Method(withdraw, "other", _WALLET),
}
