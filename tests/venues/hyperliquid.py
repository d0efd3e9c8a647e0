"""Hyperliquid perpetuals on loopback, as `ccxt.pro.hyperliquid` speaks it: /info, signed /exchange, and one WebSocket.

Who signed is recovered from every action; reading needs no signature, as on the venue. An amended order is a new order
with a new id (the venue replaces it), so one client order id may stand for several orders of which one is open.
What differs from the venue: streams tell every change at once and not once a block.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.venues import hyperliquid_payloads as payloads
from tests.venues.faults import FaultScript, RequestFault
from tests.venues.hyperliquid_payloads import Json
from tests.venues.hyperliquid_signing import address_of, signer_of
from tests.venues.loopback import DAY_MS, Link, LoopbackServer, decimal
from tests.venues.matching import Change, Kind, Listing, Order, Refused, Topic, VenueBook, Why

PRIVATE_KEY = "0x" + "4c" * 32
AGENT_KEY = "0x" + "5d" * 32  # of an API wallet: may trade, not approve fees or withdraw
MIN_VALUE_USD = 10.0
MIN_VOLUME_USD = 1_000_000.0
SCHEDULE_AHEAD_MS = 5_000
SCHEDULED_A_DAY = 10
NONCES_KEPT = 100
MOST_DECIMALS = 6
SIGNIFICANT = 5
CLIENT_ID = re.compile("0x[0-9a-f]{32}")

WORDS = {
    Why.UNKNOWN_INSTRUMENT: "Asset not found.",
    Why.INACTIVE: "Trading is halted.",
    Why.BAD_AMOUNT: "Order has invalid size.",
    Why.BAD_PX: "Price must be divisible by tick size.",
    Why.POST_ONLY: "Post only order would have immediately matched, bbo was {bbo}.",
    Why.REDUCE_ONLY: "Reduce only order would increase position.",
    Why.NOT_ENOUGH_FUNDS: "Insufficient margin to place order.",
    Why.NO_LIQUIDITY: "Order could not immediately match against any resting orders.",
    Why.NOT_OPEN: "Order was never placed, already canceled, or filled.",
    Why.NOT_FOUND: "Order was never placed, already canceled, or filled.",
    Why.DUPLICATE: "Duplicate client order id.",
    Why.HALTED: "Trading is halted.",
}
REJECTED_AS = {
    Why.BAD_PX: "tickRejected",
    Why.POST_ONLY: "badAloPxRejected",
    Why.REDUCE_ONLY: "reduceOnlyRejected",
    Why.NOT_ENOUGH_FUNDS: "perpMarginRejected",
    Why.NO_LIQUIDITY: "iocCancelRejected",
}
OPERATIONS = {
    "meta": "markets",
    "metaAndAssetCtxs": "markets",
    "spotMeta": "markets",
    "spotMetaAndAssetCtxs": "markets",
    "perpDexs": "markets",
    "exchangeStatus": "time",
    "orderStatus": "query",
    "openOrders": "open_orders",
    "frontendOpenOrders": "open_orders",
    "historicalOrders": "open_orders",
    "userFills": "trades",
    "userFillsByTime": "trades",
    "clearinghouseState": "positions",
    "spotClearinghouseState": "balance",
    "l2Book": "ticker",
    "allMids": "ticker",
    "order": "create",
    "batchModify": "amend",
    "modify": "amend",
    "cancel": "cancel",
    "cancelByCloid": "cancel",
    "scheduleCancel": "arm",
    "approveBuilderFee": "auth",
    "setReferrer": "auth",
}


def hyperliquid_book(*listings: Listing, usdc: float = 100_000.0, **options: Any) -> VenueBook:
    """Return a book with Hyperliquid's listings; BTC and ETH perpetuals unless others are given."""
    return VenueBook(
        listings or (perpetual("BTC", size_decimals=5), perpetual("ETH", size_decimals=4)),
        balances={"USDC": usdc},
        **options,
    )


def perpetual(coin: str, *, size_decimals: int = 4) -> Listing:
    """Return a perpetual as Hyperliquid lists it; the server also holds prices to five significant figures."""
    return Listing(
        name=coin, kind=Kind.PERPETUAL, coin=coin, quote="USDC", settle="USDC",
        tick_px=10.0 ** (size_decimals - MOST_DECIMALS), min_amount=10.0**-size_decimals,
        maker_rate=0.00015, taker_rate=0.00045,
    )  # fmt: skip


class Denied(Exception):
    """A whole request is refused: status "err" and these words."""


class HyperliquidServer(LoopbackServer):
    """Hyperliquid on loopback, in front of a book."""

    beat_every_s = 0.5

    def __init__(self, book: VenueBook, *, faults: FaultScript | None = None, port: int = 0) -> None:
        super().__init__(book, faults=faults, port=port)
        self.address = address_of(PRIVATE_KEY)
        self.credentials = {"wallet_address": self.address, "private_key": PRIVATE_KEY}
        self.agents = {address_of(AGENT_KEY)}
        self.volume_usd = 5 * MIN_VOLUME_USD  # traded; below a million nobody may schedule a cancel
        self.scheduled_ms: int | None = None  # when everything is canceled, on the venue's clock
        self.approved_fees: dict[str, str] = {}  # builder → the most it may take
        self.referrer = ""
        self._triggers: list[int] = []
        self._nonces: dict[str, set[int]] = {}
        self._rejected: dict[str, Json] = {}  # client order id → as the venue remembers what it refused

    # For clients -----------------------------------------------------------------------------------------------------

    @property
    def options(self) -> Json:
        """Where the real client finds this server, fit for a vault file."""
        rest = f"http://{self.host}"
        urls = {"public": rest, "private": rest, "ws": {"public": f"ws://{self.host}/ws"}}
        return {"timeout_on_exit": 0, "urls": {"api": urls}}

    @property
    def agent_credentials(self) -> dict[str, str]:
        """Credentials of an API wallet, which signs for the account with a key of its own."""
        return {"wallet_address": self.address, "private_key": AGENT_KEY}

    # For tests -------------------------------------------------------------------------------------------------------

    def hears(self, name: str) -> bool:
        """Tell whether anybody hears a market stream of a coin."""
        return any(topic.endswith(f":{name}") for link in self.connections for topic in link.topics)

    # Server ----------------------------------------------------------------------------------------------------------

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/info", self._serve_info)
        app.router.add_post("/exchange", self._serve_exchange)
        app.router.add_get("/ws", self._serve_stream)

    async def _serve_info(self, request: web.Request) -> web.StreamResponse:
        query = await request.json()
        self.calls.append((query["type"], query))
        operation = OPERATIONS.get(query["type"], "other")
        return await self.answer(
            request, operation, lambda: self._told(query), lambda word: web.json_response(_err(_words(word)))
        )

    async def _serve_exchange(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        kind = body["action"]["type"]
        self.calls.append((kind, body))
        return await self.answer(
            request,
            OPERATIONS.get(kind, "other"),
            lambda: web.json_response(self._carry_out(body)),
            lambda word: web.json_response(_refusal(kind, word)),
        )

    # Reading ---------------------------------------------------------------------------------------------------------

    def _told(self, query: Json) -> web.Response:
        route = self._queries().get(query["type"])
        if route is None:
            return web.Response(status=422, text="Failed to deserialize the JSON body into the target type")
        is_stranger = "user" in query and query["user"].lower() != self.address
        return web.json_response(_nothing(query["type"]) if is_stranger else route(query))

    def _queries(self) -> dict[str, Callable[[Json], Any]]:
        book = self.book
        contexts = [payloads.asset_context(book, name) for name in book.listings]
        return {
            "exchangeStatus": lambda _: {"specialStatuses": None, "time": self.now_ms()},
            "meta": lambda _: payloads.meta(book),
            "metaAndAssetCtxs": lambda _: [payloads.meta(book), contexts],
            "spotMeta": lambda _: payloads.NO_SPOT,
            "spotMetaAndAssetCtxs": lambda _: [payloads.NO_SPOT, []],
            "perpDexs": lambda _: [None],
            "allMids": lambda _: payloads.mids(book),
            "l2Book": lambda q: payloads.l2_book(book, q["coin"], self.now_ms()),
            "userAbstraction": lambda _: "disabled",
            "userRole": lambda _: {"role": "user"},
            "extraAgents": lambda _: [{"address": a, "name": "api", "validUntil": None} for a in sorted(self.agents)],
            "clearinghouseState": lambda _: payloads.clearinghouse_state(book, self.now_ms()),
            "spotClearinghouseState": lambda _: {"balances": []},
            "openOrders": lambda _: [payloads.order_json(order) for order in book.open_orders()],
            "frontendOpenOrders": lambda _: [payloads.long_order_json(order) for order in book.open_orders()],
            "historicalOrders": lambda _: [
                payloads.order_state(order, is_long=True) for order in reversed(book.orders.values())
            ],
            "orderStatus": self._order_status,
            "userFills": lambda _: payloads.fills(book.trades)[::-1][: payloads.FILLS],
            "userFillsByTime": self._fills_by_time,
            "userFunding": lambda q: [
                payloads.funding_json(paid, book.position(paid.name).amount)
                for paid in book.fundings
                if paid.ts_ms >= q.get("startTime", 0)
            ],
            "fundingHistory": lambda q: [
                {"coin": paid.name, "fundingRate": decimal(paid.rate), "premium": "0", "time": paid.ts_ms}
                for paid in book.fundings
                if paid.name == q["coin"] and paid.ts_ms >= q["startTime"]
            ],
            "userFees": lambda _: self._fees(),
        }

    def _fees(self) -> Json:
        listing = next(iter(self.book.listings.values()))
        return {"userCrossRate": decimal(listing.taker_rate), "userAddRate": decimal(listing.maker_rate)}

    def _order_status(self, query: Json) -> Json:
        order = self._order_of(query["oid"])
        if order is not None:
            return {"status": "order", "order": payloads.order_state(order, is_long=True)}
        rejected = self._rejected.get(str(query["oid"]))
        return {"status": "order", "order": rejected} if rejected else {"status": "unknownOid"}

    def _order_of(self, oid: int | str) -> Order | None:
        """Return an order by the venue's id or ours; of several with our id the open one, or else the last."""
        if isinstance(oid, int):
            return self.book.orders.get(str(oid))
        orders = self.book.orders_of(oid)
        return next((order for order in orders if order.is_open), orders[-1] if orders else None)

    def _fills_by_time(self, query: Json) -> list[Json]:
        since, until = query["startTime"], query.get("endTime", self.now_ms())
        return [fill for fill in payloads.fills(self.book.trades) if since <= fill["time"] <= until][: payloads.FILLS]

    # Acting ----------------------------------------------------------------------------------------------------------

    def _carry_out(self, body: Json) -> Json:
        action = body["action"]
        actions: dict[str, Callable[[Json], Json]] = {
            "order": lambda a: _ok("order", [self._placed(order) for order in a["orders"]]),
            "batchModify": lambda a: _ok("order", [self._modified(change) for change in a["modifies"]]),
            "modify": lambda a: _ok("order", [self._modified(a)]),
            "cancel": lambda a: _ok("cancel", [self._canceled(c["o"]) for c in a["cancels"]]),
            "cancelByCloid": lambda a: _ok("cancel", [self._canceled(c["cloid"]) for c in a["cancels"]]),
            "scheduleCancel": self._schedule,
            "approveBuilderFee": self._approve,
            "setReferrer": self._refer,
        }
        try:
            self._check_signer(body)
            return actions[action["type"]](action)
        except (KeyError, TypeError, ValueError) as malformed:
            return _err(f"Failed to deserialize the JSON body into the target type: {malformed}")
        except Denied as denied:
            return _err(str(denied))

    def _check_signer(self, body: Json) -> None:
        """Refuse whoever is neither the account nor one of its API wallets, and a nonce used before."""
        signer = signer_of(body)
        is_personal = body["action"]["type"] == "approveBuilderFee"
        if signer != self.address and (is_personal or signer not in self.agents):
            raise Denied(f"User or API Wallet {signer} does not exist.")
        if body.get("vaultAddress"):
            raise Denied(f"Vault not registered: {body['vaultAddress']}")
        nonce, now, used = body["nonce"], self.signing_ms(), self._nonces.setdefault(signer, set())
        if not now - 2 * DAY_MS < nonce < now + DAY_MS:
            raise Denied(f"Invalid nonce: {nonce} is too far from the time, {now}")
        if nonce in used or (len(used) >= NONCES_KEPT and nonce < min(used)):
            raise Denied(f"Invalid nonce: duplicate nonce {nonce}")
        used.add(nonce)
        if len(used) > NONCES_KEPT:
            used.remove(min(used))

    def _placed(self, wire: Json) -> Json:
        """Place one order and tell what became of it; a refusal is an error inside an answer that is "ok"."""
        try:
            order = self._place(wire)
        except Refused as refused:
            self._remember(wire, refused.why)
            return {"error": f"{self._refusal_text(refused, wire)} asset={wire['a']}"}
        if order.filled:
            filled = {"totalSz": decimal(order.filled), "avgPx": decimal(order.average_px), "oid": int(order.order_id)}
            return {"filled": filled}
        if not order.is_open:
            return {"error": f"{WORDS[Why.NO_LIQUIDITY]} asset={wire['a']}"}
        resting = {"oid": int(order.order_id)}
        return {"resting": {**resting, "cloid": order.client_id} if order.client_id else resting}

    def _place(self, wire: Json) -> Order:
        listing, px, amount = self._listing(wire["a"]), float(wire["p"]), float(wire["s"])
        time_in_force, client_id = wire["t"]["limit"]["tif"], wire.get("c", "")
        if client_id and not CLIENT_ID.fullmatch(client_id):
            raise Denied("Failed to deserialize the JSON body into the target type")
        self._check_px(listing, wire["p"])
        if amount * px < MIN_VALUE_USD and not wire["r"]:
            raise Refused(Why.BAD_AMOUNT, f"Order must have minimum value of ${MIN_VALUE_USD:g}.")
        return self.book.place(
            listing.name,
            is_buy=wire["b"],
            amount=amount,
            px=px,
            client_id=client_id,
            time_in_force="ioc" if time_in_force == "Ioc" else "gtc",
            is_post_only=time_in_force == "Alo",
            is_reduce_only=wire["r"],
        )

    def _listing(self, asset: int) -> Listing:
        listings = list(self.book.listings.values())
        if not 0 <= asset < len(listings):
            raise Refused(Why.UNKNOWN_INSTRUMENT)
        return listings[asset]

    def _check_px(self, listing: Listing, px: str) -> None:
        """Refuse more than five significant figures, unless it is a whole number, and what is absurdly far away."""
        if "." in px and len(px.replace(".", "").strip("0")) > SIGNIFICANT:
            raise Refused(Why.BAD_PX)
        mark = self.book.mark_px(listing.name)
        if mark and abs(float(px) / mark - 1) > 0.8:
            raise Refused(Why.BAD_AMOUNT, "Order price cannot be more than 80% away from the reference price")

    def _refusal_text(self, refused: Refused, wire: Json) -> str:
        if str(refused).startswith("Order "):
            return str(refused)
        text = WORDS[refused.why]
        if refused.why is not Why.POST_ONLY:
            return text
        bids, asks = self.book.book_of(self._listing(wire["a"]).name)
        return text.format(bbo="@".join(decimal(side[0].px) if side else "none" for side in (bids, asks)))

    def _remember(self, wire: Json, why: Why) -> None:
        if "c" in wire and why in REJECTED_AS:
            now = self.now_ms()
            rejected = Order(
                "0", wire["c"], self._listing(wire["a"]).name, wire["b"], float(wire["s"]), float(wire["p"]),
                created_ms=now, updated_ms=now,
            )  # fmt: skip
            self._rejected[wire["c"]] = payloads.order_state(rejected, is_long=True) | {"status": REJECTED_AS[why]}

    def _modified(self, change: Json) -> Json:
        """Replace an order: the new one is placed, then the old one is canceled; if it is refused the old one stays."""
        old = self._order_of(change["oid"])
        if old is None or not old.is_open:
            return {"error": "Cannot modify canceled or filled order"}
        outcome = self._placed(change["order"])
        if "error" not in outcome and old.is_open:
            self.book.cancel(old.order_id)
        return outcome

    def _canceled(self, oid: int | str) -> Any:
        order = self._order_of(oid)
        if order is None or not order.is_open:
            return {"error": WORDS[Why.NOT_OPEN]}
        self.book.cancel(order.order_id)
        return "success"

    def _schedule(self, action: Json) -> Json:
        when = action.get("time")
        if when is None:
            self.scheduled_ms = None
            self.never("scheduled cancel")
            return {"status": "ok", "response": {"type": "default"}}
        if self.volume_usd < MIN_VOLUME_USD:
            raise Denied(
                f"Cannot set scheduled cancel time until enough volume traded. "
                f"Required: ${MIN_VOLUME_USD:.0f}. Traded: ${self.volume_usd}."
            )
        now = self.now_ms()
        if when < now + SCHEDULE_AHEAD_MS:
            raise Denied("Scheduled cancel time too early, must be at least 5 seconds from now.")
        if len([at for at in self._triggers if at // DAY_MS == now // DAY_MS]) >= SCHEDULED_A_DAY:
            raise Denied(f"Scheduled cancel was triggered {SCHEDULED_A_DAY} times today.")
        self.scheduled_ms = when
        self.at("scheduled cancel", when, self._cancel_as_scheduled)
        return {"status": "ok", "response": {"type": "default"}}

    def _cancel_as_scheduled(self) -> None:
        self.scheduled_ms = None
        self._triggers.append(self.now_ms())
        self.book.cancel_all(reason="scheduled")

    def _approve(self, action: Json) -> Json:
        self.approved_fees[action["builder"].lower()] = action["maxFeeRate"]
        return {"status": "ok", "response": {"type": "default"}}

    def _refer(self, action: Json) -> Json:
        self.referrer = action["code"]
        return {"status": "ok", "response": {"type": "default"}}

    # Streams ---------------------------------------------------------------------------------------------------------

    async def _serve_stream(self, request: web.Request) -> web.StreamResponse:
        return await self.shake_hands(request, self._read, lambda _: None)

    def _read(self, link: Link, text: str) -> None:
        message = json.loads(text)
        method = message["method"]
        if method == "ping":
            link.pipe.send("replies", '{"channel":"pong"}')
        elif method == "post":
            self._post(link, message)
        else:
            self._subscribe(link, method, message["subscription"])

    def _subscribe(self, link: Link, method: str, subscription: Json) -> None:
        fault = self.faults.request("subscribe")
        if fault is not None and fault.is_dropped:
            link.cut()
            return
        topic = _topic(subscription)
        if method == "unsubscribe":
            link.topics.discard(topic)
        elif topic in link.topics or (fault is not None and fault.refusal):
            word = fault.refusal if fault is not None else f"Already subscribed: {json.dumps(subscription)}"
            link.pipe.send("replies", json.dumps({"channel": "error", "data": word}))
            return
        data = {"method": method, "subscription": subscription}
        link.pipe.send("replies", json.dumps({"channel": "subscriptionResponse", "data": data}))
        if method == "subscribe":
            link.topics.add(topic)
            self._tell_now(link, topic)

    def _post(self, link: Link, message: Json) -> None:
        """Carry out what came over the WebSocket; faults of its operation hold here too, but for delays."""
        kind, payload = message["request"]["type"], message["request"]["payload"]
        action = payload["action"]["type"] if kind == "action" else payload["type"]
        self.calls.append((action, payload))
        fault = self.faults.request(OPERATIONS.get(action, "other")) or RequestFault()
        answer: Any = None
        if fault.refusal:
            answer = _refusal(action, fault.refusal)
        elif fault.is_executed:
            answer = self._carry_out(payload) if kind == "action" else json.loads(self._told(payload).text or "null")
        if fault.is_dropped or fault.status is not None:
            link.cut()
        elif not fault.is_silent:
            data = {"id": message["id"], "response": {"type": kind, "payload": answer}}
            link.pipe.send("replies", json.dumps({"channel": "post", "data": data}))

    def _tell_now(self, link: Link, topic: str) -> None:
        kind, _, of = topic.partition(":")
        told: dict[str, Callable[[], None]] = {
            "l2Book": lambda: self._send([link], "quotes", kind, payloads.l2_book(self.book, of, self.now_ms())),
            "bbo": lambda: self._send([link], "quotes", kind, payloads.best_quote(self.book, of, self.now_ms())),
            "activeAssetCtx": lambda: self._send([link], "index", kind, self._context(of)),
            "allMids": lambda: self._send([link], "quotes", kind, {"mids": payloads.mids(self.book)}),
            "userFills": lambda: self._send([link], "fills", kind, self._all_fills(of)),
            "clearinghouseState": lambda: self._send([link], "positions", kind, self._state(of)),
            "webData2": lambda: self._send([link], "positions", kind, self._everything(of)),
        }
        if kind in told:
            told[kind]()

    def on_change(self, change: Change) -> None:
        if change.topic is Topic.QUOTE:
            self._tell_quote(change.name)
        elif change.topic is Topic.INDEX:
            for name, listing in self.book.listings.items():
                if listing.coin == change.name:
                    self._tell_context(name)
        elif change.topic is Topic.ORDER and change.order is not None:
            state = payloads.order_state(change.order, is_long=False)
            self._tell(f"orderUpdates:{self.address}", "orders", lambda: [state])
        elif change.trade is not None:
            start = self.book.position(change.name).amount
            start -= change.trade.amount if change.trade.is_buy else -change.trade.amount
            fill = payloads.fill(change.trade, start)
            self._tell(f"userFills:{self.address}", "fills", lambda: {"user": self.address, "fills": [fill]})
        elif change.topic is Topic.POSITION or change.topic is Topic.FUNDING:
            self._tell_state()

    def beat(self) -> None:
        for name in self.book.listings:
            self._tell_quote(name)
        self._tell_state()

    def _tell_quote(self, name: str) -> None:
        now = self.now_ms()
        self._tell(f"l2Book:{name}", "quotes", lambda: payloads.l2_book(self.book, name, now))
        self._tell(f"bbo:{name}", "quotes", lambda: payloads.best_quote(self.book, name, now))
        self._tell_context(name)
        self._tell("allMids:", "quotes", lambda: {"mids": payloads.mids(self.book)})

    def _tell_context(self, name: str) -> None:
        self._tell(f"activeAssetCtx:{name}", "index", lambda: self._context(name))

    def _tell_state(self) -> None:
        self._tell(f"clearinghouseState:{self.address}", "positions", lambda: self._state(self.address))
        self._tell(f"webData2:{self.address}", "positions", lambda: self._everything(self.address))

    def _tell(self, topic: str, stream: str, data: Callable[[], Any]) -> None:
        links = [link for link in self.connections if topic in link.topics]
        if links:
            self._send(links, stream, topic.partition(":")[0], data())

    def _send(self, links: list[Link], stream: str, channel: str, data: Any) -> None:
        text = json.dumps({"channel": channel, "data": data})
        for link in links:
            link.pipe.send(stream, text)

    def _context(self, name: str) -> Json:
        return {"coin": name, "ctx": payloads.asset_context(self.book, name)}

    def _state(self, user: str) -> Json:
        return {"dex": "", "user": user, "clearinghouseState": payloads.clearinghouse_state(self.book, self.now_ms())}

    def _everything(self, user: str) -> Json:
        return self._state(user) | {
            "openOrders": [payloads.long_order_json(order) for order in self.book.open_orders()],
            "meta": payloads.meta(self.book),
            "assetCtxs": [payloads.asset_context(self.book, name) for name in self.book.listings],
            "serverTime": self.now_ms(),
        }

    def _all_fills(self, user: str) -> Json:
        fills = payloads.fills(self.book.trades)[::-1] if user == self.address else []
        return {"isSnapshot": True, "user": user, "fills": fills[: payloads.FILLS]}


def _topic(subscription: Json) -> str:
    of = subscription.get("coin") or subscription.get("user", "").lower()
    return f"{subscription['type']}:{of}"


def _ok(kind: str, statuses: list[Any]) -> Json:
    return {"status": "ok", "response": {"type": kind, "data": {"statuses": statuses}}}


def _err(text: str) -> Json:
    return {"status": "err", "response": text}


def _refusal(action: str, word: str) -> Json:
    """Return a refusal where this action has its refusals: of orders inside an answer that is "ok"."""
    if action in {"order", "batchModify", "cancel", "cancelByCloid"}:
        return _ok("cancel" if action.startswith("cancel") else "order", [{"error": _words(word)}])
    return _err(_words(word))


def _words(word: str) -> str:
    return WORDS[Why(word)] if word in set(Why) else word


def _nothing(kind: str) -> Any:
    """Return what the venue says of an account it has never seen: nothing, and no error."""
    if kind == "orderStatus":
        return {"status": "unknownOid"}
    if kind == "clearinghouseState":
        return payloads.clearinghouse_state(VenueBook(), 0)
    if kind == "spotClearinghouseState":
        return {"balances": []}
    return "default" if kind == "userAbstraction" else []
