"""Binance USD-M futures on loopback, as `ccxt.pro.binanceusdm` speaks it: REST with HMAC, market and user streams.

`server.options` points the real client here. Client order ids are unique among open orders, so make the book with
`client_ids="open"` or with `usdm_book`. What differs from the venue: the best quote and the mark are also sent on
subscribing, and depth goes out with every change and not every 100 ms.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import ccxt
import msgspec
from aiohttp import web

from tests.venues import binance_payloads as payloads
from tests.venues.binance_payloads import Json
from tests.venues.faults import FaultScript, RequestFault, http
from tests.venues.loopback import DAY_MS, Link, LoopbackServer, decimal
from tests.venues.matching import Change, Kind, Level, Listing, Order, Refused, State, Topic, VenueBook, Why

KEY, SECRET = "loopback-binance-key", "loopback-binance-secret"
LISTEN_KEY_LIFE_MS = 60 * 60_000
MINUTE_MS = 60_000
CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")

# Answers of which nobody can tell whether the order was carried out, and one that says it was not.
TIMED_OUT = '{"code":-1007,"msg":"Timeout waiting for response from backend server. Send status unknown."}'
UNKNOWN = '{"code":-1000,"msg":"Unknown error, please check your request or try again later."}'
OVERLOADED = '{"code":-1008,"msg":"Request throttled by system-level protection."}'
TOO_MANY = '{"code":-1003,"msg":"Too many requests; current limit is 2400 requests per minute."}'
BANNED = '{"code":-1003,"msg":"Way too many requests; IP banned until 1769472000000."}'


def too_many_requests(retry_after_s: float = 1.0) -> RequestFault:
    """Answer 429 as Binance does, not carried out."""
    return http(429, body=TOO_MANY, retry_after_s=retry_after_s)


def banned(retry_after_s: float = 120.0) -> RequestFault:
    """Answer 418 as Binance does to those who did not heed a 429."""
    return http(418, body=BANNED, retry_after_s=retry_after_s)


def outcome_unknown(*, is_executed: bool) -> RequestFault:
    """Answer -1007: the venue itself does not know; `is_executed` is what it finds out later."""
    return http(408, is_executed=is_executed, body=TIMED_OUT)


WORDS = {
    Why.UNKNOWN_INSTRUMENT: (-1121, "Invalid symbol."),
    Why.INACTIVE: (-4108, "This contract is being delivered or settled."),
    Why.BAD_AMOUNT: (-1111, "Precision is over the maximum defined for this asset."),
    Why.BAD_PX: (-4014, "Price not increased by tick size."),
    Why.POST_ONLY: (
        -5022,
        "Due to the order could not be executed as maker, the Post Only order will be rejected.",
    ),
    Why.REDUCE_ONLY: (-2022, "ReduceOnly Order is rejected."),
    Why.NOT_ENOUGH_FUNDS: (-2019, "Margin is insufficient."),
    Why.NO_LIQUIDITY: (-5021, "Due to the order could not be filled immediately, the FOK order has been rejected."),
    Why.NOT_OPEN: (-2011, "Unknown order sent."),
    Why.NOT_FOUND: (-2011, "Unknown order sent."),
    Why.DUPLICATE: (-4116, "ClientOrderId is duplicated."),
    Why.HALTED: (-2010, "NEW_ORDER_REJECTED"),
}
STATUSES = {-2014: 401, -2015: 401, -1003: 429}
OPERATIONS = {
    ("GET", "exchangeInfo"): "markets",
    ("GET", "time"): "time",
    ("POST", "order"): "create",
    ("PUT", "order"): "amend",
    ("DELETE", "order"): "cancel",
    ("GET", "order"): "query",
    ("DELETE", "batchOrders"): "cancel",
    ("DELETE", "allOpenOrders"): "cancel_all",
    ("GET", "openOrders"): "open_orders",
    ("GET", "allOrders"): "open_orders",
    ("GET", "userTrades"): "trades",
    ("GET", "positionRisk"): "positions",
    ("GET", "account"): "balance",
    ("POST", "countdownCancelAll"): "arm",
    ("POST", "listenKey"): "auth",
    ("PUT", "listenKey"): "auth",
    ("GET", "depth"): "ticker",
    ("GET", "premiumIndex"): "ticker",
    ("GET", "ticker/bookTicker"): "ticker",
    ("GET", "ticker/24hr"): "ticker",
    ("GET", "capital/config/getall"): "currencies",
    ("POST", "capital/withdraw/apply"): "withdraw",
    ("GET", "capital/withdraw/history"): "withdrawals",
    ("GET", "capital/deposit/hisrec"): "deposits",
    ("POST", "asset/transfer"): "transfer",
    ("GET", "insuranceBalance"): "insurance",
    ("GET", "adlQuantile"): "deleveraging",
}


def usdm_book(*listings: Listing, usdt: float = 100_000.0, **options: Any) -> VenueBook:
    """Return a book with Binance's rules; ETHUSDT and BTCUSDT perpetuals unless others are given."""
    return VenueBook(
        listings or (perpetual("ETH"), perpetual("BTC", tick_px=0.1)),
        balances={"USDT": usdt},
        **{"client_ids": "open", **options},
    )


def perpetual(coin: str, *, tick_px: float = 0.01, min_amount: float = 0.001) -> Listing:
    """Return a linear perpetual as Binance lists it."""
    return Listing(
        name=f"{coin}USDT", kind=Kind.PERPETUAL, coin=coin, quote="USDT", settle="USDT", tick_px=tick_px,
        min_amount=min_amount, maker_rate=0.0002, taker_rate=0.0005,
    )  # fmt: skip


class Denied(Exception):
    """Binance's no: a code, its text, and the HTTP status that goes with it."""

    def __init__(self, code: int, text: str, *, status: int | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.status = status or STATUSES.get(code, 400)
        self.retry_after_s = retry_after_s

    @classmethod
    def because(cls, word: str) -> Denied:
        """Return the denial for a `Why`, or for a code such as "-2015" that a fault script names."""
        if word.startswith("-"):
            return cls(int(word), "refused by the fault script")
        return cls(*WORDS[Why(word)])

    def answer(self) -> web.Response:
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return web.json_response({"code": self.code, "msg": str(self)}, status=self.status, headers=headers)


class _Depth(msgspec.Struct):
    """What was last published of one symbol's depth, so that the next event can be the difference."""

    bids: dict[float, float]
    asks: dict[float, float]
    last_id: int


class BinanceServer(LoopbackServer):
    """Binance USD-M on loopback, in front of a book."""

    def __init__(self, book: VenueBook, *, faults: FaultScript | None = None, port: int = 0) -> None:
        super().__init__(book, faults=faults, port=port)
        self.credentials = {"api_key": KEY, "secret": SECRET}
        self.min_notional = 20.0
        self.weight_limit = 2_400  # per minute; more is answered with 429, and insisting with 418
        self.permissions = {"enableReading": True, "enableFutures": True, "enableWithdrawals": False}
        self.adl_ranks: dict[str, int] = {}  # symbol → how near its position is to being auto-deleveraged, 0 to 4
        self.countdowns: dict[str, int] = {}  # symbol → when its orders are canceled, on the book's clock
        self.refused_for_weight = 0
        self._weights: tuple[int, int] = (0, 0)  # (minute, weight used in it)
        self._listen_key = ""
        self._last_listen_key = 0
        self._depths: dict[str, _Depth] = {}
        self._last_events: dict[str, Order] = {}  # order id → as the user stream last told it
        self._last_client_id = 0

    # For clients -----------------------------------------------------------------------------------------------------

    @property
    def plain_options(self) -> Json:
        """Where the real client finds this server, fit for a vault file."""
        rest = f"http://{self.host}"
        fapi = {
            f"fapi{which}{version}": f"{rest}/fapi/{version.lower() or 'v1'}"
            for which in ("Public", "Private")
            for version in ("", "V2", "V3")
        }
        return {
            "timeout_on_exit": 0,
            "urls": {"api": {**fapi, "sapi": f"{rest}/sapi/v1", "ws": {"linear": f"ws://{self.host}/ws"}}},
        }

    @property
    def options(self) -> Json:
        """As `plain_options`, with the futures error codes that ccxt looks up by the address of the real venue only."""
        return {**self.plain_options, "exceptions": {"exact": _futures_codes()}}

    # For tests -------------------------------------------------------------------------------------------------------

    def hears(self, name: str) -> bool:
        """Tell whether anybody hears a market stream of a symbol."""
        return any(topic.startswith(f"{name.lower()}@") for link in self.connections for topic in link.topics)

    def expire_listen_key(self) -> None:
        """Let the user stream's key expire as it does 60 minutes after the last keep-alive: one event, then silence."""
        key, self._listen_key = self._listen_key, ""
        self._tell_user("orders", {"e": "listenKeyExpired", "E": self.now_ms(), "listenKey": key})
        for link in self.connections:
            link.topics.discard("user")

    # Server ----------------------------------------------------------------------------------------------------------

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/{category:public|market|private}/ws", self._serve_stream)
        app.router.add_get("/{category:public|market|private}/ws/{number}", self._serve_stream)
        app.router.add_route("*", "/{api:fapi|sapi}/{version:v[123]}/{path:.+}", self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        text = request.rel_url.raw_query_string if request.method in {"GET", "DELETE"} else await request.text()
        self.calls.append((f"{request.method} {path}", dict(parse_qsl(text))))

        def execute() -> web.Response:
            try:
                self._spend_weight()
                return web.json_response(self._carry_out(request, path, text))
            except Denied as denied:
                return denied.answer()
            except Refused as refused:
                return Denied.because(refused.why).answer()

        operation = OPERATIONS.get((request.method, path), "other")
        return await self.answer(request, operation, execute, lambda word: Denied.because(word).answer())

    def _carry_out(self, request: web.Request, path: str, text: str) -> Any:
        params = dict(parse_qsl(text, keep_blank_values=True))
        routes: dict[tuple[str, str], Callable[[Json], Any]] = {
            ("GET", "time"): lambda _: {"serverTime": self.now_ms()},
            ("GET", "ping"): lambda _: {},
            ("GET", "exchangeInfo"): lambda _: payloads.exchange_info(self.book, self.now_ms(), self.min_notional),
            ("GET", "depth"): self._depth_snapshot,
            ("GET", "ticker/bookTicker"): self._per_symbol(payloads.book_ticker),
            ("GET", "ticker/24hr"): self._per_symbol(payloads.day_ticker),
            ("GET", "premiumIndex"): self._per_symbol(payloads.premium_index),
            ("GET", "fundingRate"): self._funding_rates,
            ("GET", "fundingInfo"): lambda _: payloads.funding_info(self.book),
        }
        public = routes.get((request.method, path))
        if public is not None:
            return public(params)
        if path == "listenKey":
            self._check_key(request)
            return self._keep_listen_key(request.method)
        self._check_signature(request, text, params)
        return self._private(request, path)(params)

    def _private(self, request: web.Request, path: str) -> Callable[[Json], Any]:
        is_v2 = request.match_info["version"] == "v2"
        routes: dict[tuple[str, str], Callable[[Json], Any]] = {
            ("POST", "order"): self._create,
            ("PUT", "order"): self._amend,
            ("DELETE", "order"): self._cancel,
            ("GET", "order"): lambda p: payloads.order_json(self._order(p, missing=-2013)),
            ("DELETE", "allOpenOrders"): self._cancel_all,
            ("DELETE", "batchOrders"): self._cancel_several,
            ("GET", "openOrders"): self._open_orders,
            ("GET", "allOrders"): self._all_orders,
            ("GET", "userTrades"): self._trades,
            ("GET", "positionRisk"): lambda _: payloads.position_risks(self.book, self.now_ms(), is_v2=is_v2),
            ("GET", "account"): lambda _: (
                payloads.account(self.book, self.now_ms()) | (self._rights() if is_v2 else {})
            ),
            ("POST", "countdownCancelAll"): self._count_down,
            ("GET", "income"): self._income,
            ("GET", "commissionRate"): lambda p: payloads.commission_rate(self._listing(p)),
            ("GET", "adlQuantile"): lambda _: payloads.adl_quantiles(self.book, self.adl_ranks),
            ("GET", "leverageBracket"): lambda _: payloads.leverage_brackets(self.book),
            ("GET", "positionSide/dual"): lambda _: {"dualSidePosition": False},
            ("GET", "account/apiRestrictions"): lambda _: {"ipRestrict": False, **self.permissions},
            ("GET", "capital/config/getall"): lambda _: [],
            ("GET", "margin/allPairs"): lambda _: [],
        }
        route = routes.get((request.method, path))
        if route is None:
            raise Denied(-5000, f"Path {request.path}, Method {request.method} is invalid", status=404)
        if request.match_info["api"] == "fapi" and not self.permissions["enableFutures"]:
            raise Denied(-2015, "Invalid API-key, IP, or permissions for action.")
        return route

    def _spend_weight(self) -> None:
        now = self.now_ms()
        minute, used = self._weights
        used = used + 1 if minute == now // MINUTE_MS else 1
        self._weights = (now // MINUTE_MS, used)
        if used > self.weight_limit:
            self.refused_for_weight += 1
            left_s = (MINUTE_MS - now % MINUTE_MS) // 1_000 + 1
            status = 418 if used > self.weight_limit + 20 else 429
            raise Denied(-1003, "Too many requests.", status=status, retry_after_s=left_s)

    def _check_key(self, request: web.Request) -> None:
        key = request.headers.get("X-MBX-APIKEY", "")
        if not key:
            raise Denied(-2014, "API-key format invalid.")
        if key != self.credentials["api_key"]:
            raise Denied(-2015, "Invalid API-key, IP, or permissions for action.")

    def _check_signature(self, request: web.Request, text: str, params: Json) -> None:
        self._check_key(request)
        signed, _, signature = text.rpartition("&signature=")
        expected = hmac.new(self.credentials["secret"].encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signature, expected):
            raise Denied(-1022, "Signature for this request is not valid.")
        sent_ms, window_ms = int(_needed(params, "timestamp")), int(params.get("recvWindow", 5_000))
        now = self.signing_ms()
        if sent_ms > now + 1_000:
            raise Denied(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now - sent_ms > window_ms:
            raise Denied(-1021, "Timestamp for this request is outside of the recvWindow.")

    # Orders ----------------------------------------------------------------------------------------------------------

    def _create(self, params: Json) -> Json:
        listing = self._listing(params)
        kind, side, amount = _needed(params, "type"), _needed(params, "side"), float(_needed(params, "quantity"))
        if kind not in {"LIMIT", "MARKET"}:
            raise Denied(-1116, "Invalid orderType.")
        if params.get("positionSide", "BOTH") != "BOTH":
            raise Denied(-4061, "Order's position side does not match user's setting.")
        time_in_force = _needed(params, "timeInForce") if kind == "LIMIT" else "GTC"
        px = float(_needed(params, "price")) if kind == "LIMIT" else None
        is_reduce_only = params.get("reduceOnly") == "true"
        self._check_order(listing, amount, px, is_buy=side == "BUY", is_reduce_only=is_reduce_only)
        order = self.book.place(
            listing.name,
            is_buy=side == "BUY",
            amount=amount,
            px=px,
            client_id=self._client_id(params),
            time_in_force="gtc" if time_in_force == "GTX" else time_in_force.lower(),
            is_post_only=time_in_force == "GTX",
            is_reduce_only=is_reduce_only,
        )
        if params.get("newOrderRespType", "ACK") == "ACK":
            order = _as_new(order)
        return payloads.order_json(order)

    def _check_order(
        self, listing: Listing, amount: float, px: float | None, *, is_buy: bool, is_reduce_only: bool
    ) -> None:
        mark = self.book.mark_px(listing.name)
        if px is not None and mark:
            if is_buy and px > mark * payloads.PERCENT_PRICE_UP:
                raise Denied(-4016, f"Limit price can't be higher than {mark * payloads.PERCENT_PRICE_UP:.2f}.")
            if not is_buy and px < mark * payloads.PERCENT_PRICE_DOWN:
                raise Denied(-4024, f"Limit price can't be lower than {mark * payloads.PERCENT_PRICE_DOWN:.2f}.")
        if not is_reduce_only and amount * (px or mark or 0.0) < self.min_notional:
            text = f"Order's notional must be no smaller than {self.min_notional:g} (unless you choose reduce only)."
            raise Denied(-4164, text)

    def _client_id(self, params: Json) -> str:
        given: str = params.get("newClientOrderId", "")
        if not given:
            self._last_client_id += 1
            return f"venue-{self._last_client_id}"
        if not CLIENT_ID.fullmatch(given):
            raise Denied(-4015, "Client order id is not valid.")
        return given

    def _amend(self, params: Json) -> Json:
        order = self._order(params, missing=-2013)
        if not order.is_open:
            raise Denied(-2013, "Order does not exist.")
        amount, px = float(_needed(params, "quantity")), float(_needed(params, "price"))
        if _needed(params, "side") != payloads.side_of(order):
            raise Denied(-4195, "Order side cannot be modified.")
        if (amount, px) == (order.amount, order.px):
            raise Denied(-5027, "No need to modify the order.")
        try:
            is_gone = amount <= order.filled
            if not is_gone:
                order = self.book.amend(order.order_id, amount=amount, px=px)
        except Refused as refused:
            if refused.why is not Why.POST_ONLY:
                raise
            is_gone = True
        if is_gone:  # what the venue's documentation says of both: the order is canceled
            order = self.book.cancel(order.order_id)
        return payloads.order_json(order)

    def _cancel(self, params: Json) -> Json:
        order = self._order(params, missing=-2011)
        return payloads.order_json(self.book.cancel(order.order_id))

    def _cancel_several(self, params: Json) -> list[Json]:
        """Cancel a list of orders one by one; each has an answer of its own, and the whole is always 200."""
        ours, theirs = (json.loads(params.get(name, "[]")) for name in ("origclientorderidlist", "orderidlist"))
        wanted = [{"origClientOrderId": one} for one in ours] + [{"orderId": str(one)} for one in theirs]
        answers = []
        for one in wanted:
            try:
                answers.append(self._cancel({"symbol": params.get("symbol", ""), **one}))
            except (Denied, Refused):
                answers.append({"code": -2011, "msg": "Unknown order sent."})
        return answers

    def _cancel_all(self, params: Json) -> Json:
        self.book.cancel_all(name=self._listing(params).name)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def _order(self, params: Json, *, missing: int) -> Order:
        name = self._listing(params).name
        venue_id, client_id = params.get("orderId"), params.get("origClientOrderId")
        if venue_id is None and client_id is None:
            raise Denied(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
        if venue_id is not None:
            order = self.book.orders.get(venue_id)
        else:
            order = next(reversed(self.book.orders_of(str(client_id))), None)
        if order is None or order.name != name:
            raise Denied(missing, "Order does not exist." if missing == -2013 else "Unknown order sent.")
        return order

    def _open_orders(self, params: Json) -> list[Json]:
        name = self._listing(params).name if "symbol" in params else None
        return [payloads.order_json(order) for order in self.book.open_orders(name)]

    def _all_orders(self, params: Json) -> list[Json]:
        orders = [order for order in self.book.orders.values() if params.get("symbol", order.name) == order.name]
        since = int(params.get("startTime", 0))
        fitting = [payloads.order_json(order) for order in orders if order.created_ms >= since]
        return fitting[-int(params.get("limit", 500)) :]

    def _trades(self, params: Json) -> list[Json]:
        name = self._listing(params).name
        since, until = int(params.get("startTime", 0)), int(params.get("endTime", DAY_MS * 100_000))
        first, order_id = int(params.get("fromId", 0)), params.get("orderId")
        fitting = [
            payloads.trade_json(trade)
            for trade in self.book.trades
            if trade.name == name
            and since <= trade.ts_ms <= until
            and int(trade.trade_id) >= first
            and order_id in {None, trade.order_id}
        ]
        limit = int(params.get("limit", 500))
        return fitting[:limit] if first or since else fitting[-limit:]

    def _rights(self) -> Json:
        """What version 2 of the account says besides."""
        rights = self.permissions
        return {"canTrade": rights["enableFutures"], "canDeposit": True, "canWithdraw": rights["enableWithdrawals"]}

    def _income(self, params: Json) -> list[Json]:
        if params.get("incomeType", "FUNDING_FEE") != "FUNDING_FEE":
            return []
        since = int(params.get("startTime", 0))
        paid = [one for one in self.book.fundings if params.get("symbol", one.name) == one.name and one.ts_ms >= since]
        return [payloads.funding_json(one) for one in paid]

    def _funding_rates(self, params: Json) -> list[Json]:
        since = int(params.get("startTime", 0))
        booked = [one for one in self.book.fundings if params.get("symbol", one.name) == one.name]
        told = [payloads.funding_rate_json(self.book, one) for one in booked if one.ts_ms >= since]
        return told[-int(params.get("limit", 100)) :]

    def _count_down(self, params: Json) -> Json:
        name = self._listing(params).name
        left_ms = int(_needed(params, "countdownTime"))
        if left_ms:
            self.countdowns[name] = self.book.now_ms() + left_ms
            self.at(f"countdown {name}", self.countdowns[name], lambda: self._run_out(name))
        else:
            self.countdowns.pop(name, None)
            self.never(f"countdown {name}")
        return {"symbol": name, "countdownTime": str(left_ms)}

    def _run_out(self, name: str) -> None:
        self.countdowns.pop(name, None)
        self.book.cancel_all(name=name, reason="countdown")

    def _listing(self, params: Json) -> Listing:
        listing = self.book.listings.get(_needed(params, "symbol"))
        if listing is None:
            raise Denied(-1121, "Invalid symbol.")
        return listing

    def _per_symbol(self, payload: Callable[[VenueBook, str, int], Json]) -> Callable[[Json], Any]:
        def answer(params: Json) -> Any:
            if "symbol" in params:
                return payload(self.book, self._listing(params).name, self.now_ms())
            return [payload(self.book, name, self.now_ms()) for name in self.book.listings]

        return answer

    # Streams ---------------------------------------------------------------------------------------------------------

    def _keep_listen_key(self, method: str) -> Json:
        if method == "DELETE":
            self._listen_key = ""
            return {}
        if not self._listen_key and method == "PUT":
            raise Denied(-1125, "This listenKey does not exist.")
        if not self._listen_key:
            self._last_listen_key += 1
            self._listen_key = f"loopback-listen-key-{self._last_listen_key}"
        self.at("listen key", self.book.now_ms() + LISTEN_KEY_LIFE_MS, self.expire_listen_key)
        return {"listenKey": self._listen_key}

    async def _serve_stream(self, request: web.Request) -> web.StreamResponse:
        return await self.shake_hands(request, self._read, self._greet)

    def _greet(self, link: Link) -> None:
        if self._listen_key and link.query.get("listenKey") == self._listen_key:
            link.topics.add("user")

    def _read(self, link: Link, text: str) -> None:
        message = json.loads(text)
        fault = self.faults.request("subscribe")
        if fault is not None and fault.is_dropped:
            link.cut()
            return
        if fault is not None and fault.refusal:
            self._reply(link, {"error": {"code": 2, "msg": fault.refusal}, "id": message["id"]})
            return
        if message["method"] == "UNSUBSCRIBE":
            link.topics.difference_update(message["params"])
        unknown = [topic for topic in message["params"] if topic.split("@")[0].upper() not in self.book.listings]
        if unknown:
            self._reply(link, {"error": {"code": 2, "msg": f"Invalid request: {unknown}"}, "id": message["id"]})
            return
        self._reply(link, {"result": None, "id": message["id"]})
        if message["method"] == "SUBSCRIBE":
            link.topics.update(message["params"])
            for topic in message["params"]:
                self._tell_now(link, topic)

    def _reply(self, link: Link, message: Json) -> None:
        link.pipe.send("replies", json.dumps(message))

    def _tell_now(self, link: Link, topic: str) -> None:
        name, _, channel = topic.partition("@")
        name = name.upper()
        if channel == "bookTicker":
            link.pipe.send("quotes", json.dumps(payloads.book_ticker_event(self.book, name, self.now_ms())))
        elif channel.startswith("markPrice"):
            link.pipe.send("index", json.dumps(payloads.mark_event(self.book, name, self.now_ms())))
        elif channel.startswith("depth"):
            self._published(name)

    def on_change(self, change: Change) -> None:
        if change.topic is Topic.QUOTE:
            self._tell_quote(change.name)
        elif change.topic is Topic.INDEX:
            for name, listing in self.book.listings.items():
                if listing.coin == change.name:
                    self._tell_mark(name)
        elif change.topic is Topic.TRADE or change.topic is Topic.ORDER:
            self._tell_order(change)
        elif change.topic is Topic.POSITION:
            self._tell_account("ORDER", self.book.listings[change.name].settle, change.name)
        elif change.funding is not None:
            self._tell_account("FUNDING_FEE", change.funding.coin, None)

    def beat(self) -> None:
        for name in self.book.listings:
            self._tell_mark(name)

    def _tell_quote(self, name: str) -> None:
        now = self.now_ms()
        self._tell(name, "bookTicker", "quotes", lambda: payloads.book_ticker_event(self.book, name, now))
        self._tell_mark(name)
        if name in self._depths:
            difference = self._difference(name)
            if difference is not None:
                self._tell(name, "depth", "quotes", lambda: difference)

    def _tell_mark(self, name: str) -> None:
        self._tell(name, "markPrice", "index", lambda: payloads.mark_event(self.book, name, self.now_ms()))

    def _tell(self, name: str, channel: str, stream: str, message: Callable[[], Json]) -> None:
        topic = f"{name.lower()}@{channel}"
        links = [link for link in self.connections if any(wanted.startswith(topic) for wanted in link.topics)]
        if links:
            text = json.dumps(message())
            for link in links:
                link.pipe.send(stream, text)

    def _tell_order(self, change: Change) -> None:
        """Tell what happened to an order as Binance does: NEW first even if it trades at once, then every fill."""
        order, now = change.order, self.now_ms()
        assert order is not None
        last = self._last_events.get(order.order_id)
        self._last_events[order.order_id] = order
        if last is None:
            self._tell_user("orders", payloads.order_event(_as_new(order), "NEW", now))
        elif (last.px, last.amount) != (order.px, order.amount):
            as_amended = msgspec.structs.replace(last, px=order.px, amount=order.amount, updated_ms=order.updated_ms)
            self._tell_user("orders", payloads.order_event(as_amended, "AMENDMENT", now))
        if change.trade is not None:
            execution = "TRADE" if change.trade.cause == "trade" else "CALCULATED"
            self._tell_user("fills", payloads.order_event(order, execution, now, change.trade))
        elif order.state is State.CANCELED:
            self._tell_user("orders", payloads.order_event(order, payloads.status_of(order), now))

    def _tell_account(self, reason: str, coin: str, name: str | None) -> None:
        self._tell_user("positions", payloads.account_event(self.book, reason, coin, name, self.now_ms()))

    def _tell_user(self, stream: str, event: Json) -> None:
        for link in self.connections:
            if "user" in link.topics:
                link.pipe.send(stream, json.dumps(event))

    # Depth -----------------------------------------------------------------------------------------------------------

    def _depth_snapshot(self, params: Json) -> Json:
        name = self._listing(params).name
        depth, limit, now = self._published(name), int(params.get("limit", 500)), self.now_ms()
        return {
            "lastUpdateId": depth.last_id,
            "E": now,
            "T": now,
            "bids": _pairs(sorted(depth.bids.items(), reverse=True)[:limit]),
            "asks": _pairs(sorted(depth.asks.items())[:limit]),
        }

    def _published(self, name: str) -> _Depth:
        if name not in self._depths:
            bids, asks = self.book.book_of(name)
            self._depths[name] = _Depth(_by_px(bids), _by_px(asks), self.book.seq)
        return self._depths[name]

    def _difference(self, name: str) -> Json | None:
        before = self._depths[name]
        bids, asks = (_by_px(side) for side in self.book.book_of(name))
        changed_bids, changed_asks = _changes(before.bids, bids), _changes(before.asks, asks)
        if not changed_bids and not changed_asks:
            return None
        now, last_id = self.now_ms(), max(self.book.seq, before.last_id + 1)
        self._depths[name] = _Depth(bids, asks, last_id)
        return {
            "e": "depthUpdate",
            "E": now,
            "T": now,
            "s": name,
            "U": before.last_id + 1,
            "u": last_id,
            "pu": before.last_id,
            "b": changed_bids,
            "a": changed_asks,
        }


@functools.cache
def _futures_codes() -> dict[str, type[ccxt.BaseError]]:
    codes: dict[str, type[ccxt.BaseError]] = ccxt.binanceusdm().exceptions["linear"]["exact"]
    return codes


def _needed(params: Json, name: str) -> str:
    value: str = params.get(name, "")
    if not value:
        raise Denied(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return value


def _as_new(order: Order) -> Order:
    return msgspec.structs.replace(order, state=State.OPEN, filled=0.0, average_px=0.0)


def _by_px(levels: list[Level]) -> dict[float, float]:
    return {level.px: level.amount for level in levels}


def _pairs(levels: list[tuple[float, float]]) -> list[list[str]]:
    return [[decimal(px), decimal(amount)] for px, amount in levels]


def _changes(before: dict[float, float], after: dict[float, float]) -> list[list[str]]:
    changed = {px: amount for px, amount in after.items() if before.get(px) != amount}
    return _pairs(sorted({**changed, **{px: 0.0 for px in before if px not in after}}.items()))
