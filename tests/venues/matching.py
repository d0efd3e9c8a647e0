"""One venue's exchange core without any protocol: instruments, quotes, one account's orders, trades and positions.

The loopback servers speak a venue's protocol in front of it; tests ask it for the truth. It never sleeps and never
reads a clock but the one it was given. Prices come from outside (`set_quote`); the one account trades against them.

Amounts are counted as Deribit and Binance do: quote money for inverse futures and perpetuals, else base units.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    OPTION = "option"
    FUTURE = "future"
    PERPETUAL = "perpetual"
    SPOT = "spot"


class Listing(msgspec.Struct, kw_only=True):
    """An instrument as the venue publishes it. `quote` is what prices count in at base level, `settle` what is paid."""

    name: str
    kind: Kind
    coin: str
    quote: str = "USD"
    settle: str = "USD"
    contract_size: float = 1.0
    tick_px: float = 0.05
    tick_steps: tuple[tuple[float, float], ...] = ()  # (from this price on, this tick)
    min_amount: float = 1.0
    is_inverse: bool = False
    expiry_ms: int | None = None
    strike: float | None = None
    is_call: bool = False
    maker_rate: float = 0.0
    taker_rate: float = 0.0005
    created_ms: int = 1_534_242_287_000
    is_active: bool = True

    @property
    def is_quote_sized(self) -> bool:
        return self.is_inverse and self.kind in {Kind.FUTURE, Kind.PERPETUAL}

    def tick_at(self, px: float) -> float:
        tick = self.tick_px
        for from_px, step in self.tick_steps:
            if px >= from_px:
                tick = step
        return tick

    def cash(self, amount: float, px: float) -> float:
        """What `amount` is worth at `px`, in the currency it settles in."""
        return amount / px if self.is_quote_sized else amount * px


class Level(msgspec.Struct):
    px: float
    amount: float


class Quotes(msgspec.Struct):
    """One instrument's book, best first, and what else is published about it; vols in fractions."""

    bids: list[Level] = []
    asks: list[Level] = []
    mark_px: float | None = None
    mark_vol: float = 0.0
    bid_vol: float = 0.0
    ask_vol: float = 0.0
    forward_px: float | None = None
    funding_rate: float = 0.0  # of the current 8 hours
    last_px: float | None = None
    ts_ms: int = 0

    @property
    def mid_px(self) -> float | None:
        if self.bids and self.asks:
            return (self.bids[0].px + self.asks[0].px) / 2
        return (self.bids or self.asks)[0].px if self.bids or self.asks else None


class State(StrEnum):
    OPEN = "open"
    FILLED = "filled"
    CANCELED = "canceled"


class Order(msgspec.Struct):
    """One order of the account. `owner` is whoever placed it (a connection), for cancel on disconnect."""

    order_id: str
    client_id: str
    name: str
    is_buy: bool
    amount: float
    px: float | None  # None for a market order
    time_in_force: str = "gtc"  # gtc, ioc or fok
    is_post_only: bool = False
    is_reduce_only: bool = False
    state: State = State.OPEN
    filled: float = 0.0
    average_px: float = 0.0
    fee: float = 0.0
    created_ms: int = 0
    updated_ms: int = 0
    cancel_reason: str = ""
    owner: object = None
    is_replaced: bool = False
    trade_ids: list[str] = []

    @property
    def left(self) -> float:
        return tidy(self.amount - self.filled)

    @property
    def is_open(self) -> bool:
        return self.state is State.OPEN


class Trade(msgspec.Struct, frozen=True):
    """One fill of the account; `fee` is paid in `fee_coin`. `cause` is trade, adl, liquidation or settlement."""

    trade_id: str
    seq: int  # counts up per instrument
    order_id: str
    client_id: str
    name: str
    is_buy: bool
    amount: float
    px: float
    fee: float
    fee_coin: str
    is_maker: bool
    ts_ms: int
    cause: str = "trade"
    realized: float = 0.0


class Position(msgspec.Struct):
    """Signed amount, average entry price, and what closing parts of it earned so far (settlement currency)."""

    name: str
    amount: float = 0.0
    entry_px: float = 0.0
    realized: float = 0.0


class Delivery(msgspec.Struct, frozen=True):
    """The price at which everything of one coin and expiry settled."""

    coin: str
    expiry_ms: int
    px: float
    ts_ms: int


class Funding(msgspec.Struct, frozen=True):
    """Funding booked on a position; positive = received."""

    funding_id: str
    name: str
    rate: float
    amount: float
    coin: str
    ts_ms: int


class Why(StrEnum):
    """Why the venue refused; each server has its own words for these."""

    UNKNOWN_INSTRUMENT = "unknown_instrument"
    INACTIVE = "inactive"
    BAD_AMOUNT = "bad_amount"
    BAD_PX = "bad_px"
    POST_ONLY = "post_only"
    REDUCE_ONLY = "reduce_only"
    NOT_ENOUGH_FUNDS = "not_enough_funds"
    NO_LIQUIDITY = "no_liquidity"
    NOT_OPEN = "not_open"
    NOT_FOUND = "not_found"
    DUPLICATE = "duplicate"
    HALTED = "halted"


class Refused(Exception):
    """The venue's definitive no; nothing was changed."""

    def __init__(self, why: Why, text: str = "") -> None:
        super().__init__(text or why.value)
        self.why = why


class Topic(StrEnum):
    QUOTE = "quote"
    VOL = "vol"
    INDEX = "index"
    ORDER = "order"
    TRADE = "trade"
    POSITION = "position"
    BALANCE = "balance"
    LISTING = "listing"
    DELIVERY = "delivery"
    FUNDING = "funding"


class Change(msgspec.Struct, frozen=True):
    """Something that changed: `name` is the instrument, or the coin for INDEX, BALANCE and DELIVERY.

    `order` is a copy as of now: it may be put on the wire later than the order moves on.
    """

    topic: Topic
    name: str
    seq: int
    order: Order | None = None
    trade: Trade | None = None
    delivery: Delivery | None = None
    funding: Funding | None = None


Listener = Callable[[Change], None]


def tidy(amount: float) -> float:
    """Strip the noise of adding floats."""
    return round(amount, 9) + 0.0


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def is_multiple(value: float, step: float) -> bool:
    return math.isclose(value / step, round(value / step), abs_tol=1e-6)


class VenueBook:
    """The exchange core. Market side: `set_*`. Account side: `place`, `amend`, `cancel`. Operator side: the rest."""

    def __init__(
        self,
        listings: Sequence[Listing] = (),
        *,
        balances: dict[str, float] | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
        margin_rate: float = 0.02,
        client_ids: str = "free",
        shows_own_orders: bool = False,
    ) -> None:
        """`client_ids` may be used again: free (Deribit labels), once the old order is over: open, or never: once.

        `margin_rate` of the notional must be there in the settlement currency; 0 never lacks funds.
        """
        self.skew_ms = 0  # how wrong the venue's clock is
        self._clock_ms = now_ms
        self.margin_rate = margin_rate
        self.client_ids = client_ids
        self.shows_own_orders = shows_own_orders
        self.is_halted = False  # refuses every new order, as in maintenance
        self.listings: dict[str, Listing] = {}
        self.quotes: dict[str, Quotes] = {}
        self.index: dict[str, float] = {}
        self.index_ms: dict[str, int] = {}  # when each was set
        self.orders: dict[str, Order] = {}  # every order ever, by venue id
        self.trades: list[Trade] = []
        self.positions: dict[str, Position] = {}
        self.balances: dict[str, float] = dict(balances or {})
        self.deliveries: list[Delivery] = []
        self.fundings: list[Funding] = []
        self.seq = 0
        self._open: dict[str, dict[str, Order]] = {}
        self._listeners: list[Listener] = []
        self._last_order = 1_000
        self._last_trade = 5_000
        self._trade_seqs: dict[str, int] = {}
        for listing in listings:
            self.add(listing)

    def now_ms(self) -> int:
        """The time as the venue believes it is."""
        return self._clock_ms() + self.skew_ms

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` on every change, in order; returns what stops it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # Market ----------------------------------------------------------------------------------------------------------

    def add(self, listing: Listing) -> None:
        """List an instrument; the book keeps a copy, as it may change."""
        self.listings[listing.name] = msgspec.structs.replace(listing)
        self.quotes.setdefault(listing.name, Quotes())
        self._tell(Topic.LISTING, listing.name)

    def set_quote(
        self,
        name: str,
        bid: float | None,
        bid_amount: float,
        ask: float | None,
        ask_amount: float,
        *,
        deeper_bids: Sequence[tuple[float, float]] = (),
        deeper_asks: Sequence[tuple[float, float]] = (),
    ) -> None:
        """Replace the whole book of an instrument; a side without price or amount is empty. Resting orders may fill."""
        quotes = self.quotes[name]
        quotes.bids = [Level(px, amount) for px, amount in [(bid, bid_amount), *deeper_bids] if px and amount > 0]
        quotes.asks = [Level(px, amount) for px, amount in [(ask, ask_amount), *deeper_asks] if px and amount > 0]
        quotes.ts_ms = self.now_ms()
        self._tell(Topic.QUOTE, name)
        for order in self._by_priority(name):
            self._match(order, is_maker=True)

    def set_index(self, coin: str, px: float) -> None:
        self.index[coin] = px
        self.index_ms[coin] = self.now_ms()
        self._tell(Topic.INDEX, coin)

    def set_mark(self, name: str, px: float) -> None:
        self.quotes[name].mark_px = px
        self._tell(Topic.QUOTE, name)

    def set_vol(self, name: str, mark_iv: float, bid_iv: float, ask_iv: float, forward: float) -> None:
        """Vols as fractions; 0 where a side has no quote."""
        quotes = self.quotes[name]
        quotes.mark_vol, quotes.bid_vol, quotes.ask_vol, quotes.forward_px = mark_iv, bid_iv, ask_iv, forward
        quotes.ts_ms = self.now_ms()
        self._tell(Topic.VOL, name)

    def set_funding_rate(self, name: str, rate: float) -> None:
        """Publish the rate of the running funding period; `pay_funding` books it."""
        self.quotes[name].funding_rate = rate
        self._tell(Topic.QUOTE, name)

    def book_of(self, name: str) -> tuple[list[Level], list[Level]]:
        """Return bids and asks as published: with the account's own resting orders if the book shows them."""
        quotes = self.quotes[name]
        if not self.shows_own_orders:
            return quotes.bids, quotes.asks
        own = [order for order in self._open.get(name, {}).values() if order.px is not None]
        bids = [*quotes.bids, *(Level(order.px or 0.0, order.left) for order in own if order.is_buy)]
        asks = [*quotes.asks, *(Level(order.px or 0.0, order.left) for order in own if not order.is_buy)]
        return _merged(bids, is_bid=True), _merged(asks, is_bid=False)

    def mark_px(self, name: str) -> float | None:
        quotes = self.quotes[name]
        return quotes.mark_px if quotes.mark_px is not None else (quotes.mid_px or quotes.last_px)

    # Account ---------------------------------------------------------------------------------------------------------

    def place(
        self,
        name: str,
        *,
        is_buy: bool,
        amount: float,
        px: float | None = None,
        client_id: str = "",
        time_in_force: str = "gtc",
        is_post_only: bool = False,
        is_sliding: bool = False,
        is_reduce_only: bool = False,
        owner: object = None,
    ) -> Order:
        """Take an order and match it at once. A sliding post-only order moves away instead of being refused.

        Raises Refused, and then nothing has changed.
        """
        listing = self._listing(name)
        self._check_amount(listing, amount)
        if client_id and self.client_ids != "free":
            self._check_client_id(client_id)
        if px is not None:
            self._check_px(listing, px)
        if is_post_only and px is not None:
            px = self._post_only_px(listing, px, is_buy=is_buy, is_sliding=is_sliding)
        if is_reduce_only:
            amount = min(amount, self._reducible(name, is_buy=is_buy))
            if amount <= 0:
                raise Refused(Why.REDUCE_ONLY, "nothing to reduce")
        else:
            self._check_funds(listing, amount, px, is_buy=is_buy)
        other_side = self.quotes[name].asks if is_buy else self.quotes[name].bids
        if px is None and not other_side:
            raise Refused(Why.NO_LIQUIDITY, "no quote to trade a market order on")
        if time_in_force == "fok" and self._takeable(name, px, is_buy=is_buy) < amount:
            raise Refused(Why.NO_LIQUIDITY, "fill or kill cannot be filled")
        self._last_order += 1
        now = self.now_ms()
        order = Order(
            str(self._last_order), client_id, name, is_buy, tidy(amount), px, time_in_force,
            is_post_only, is_reduce_only, created_ms=now, updated_ms=now, owner=owner,
        )  # fmt: skip
        self.orders[order.order_id] = order
        self._open.setdefault(name, {})[order.order_id] = order
        self._match(order, is_maker=False, is_new=True)
        if order.is_open and (px is None or time_in_force != "gtc"):
            self._end(order, "ioc")
        return order

    def amend(self, order_id: str, *, amount: float | None = None, px: float | None = None) -> Order:
        """Move an open order, total amount and price; it may then trade. Raises Refused, and it is as it was."""
        order = self._open_order(order_id)
        listing = self._listing(order.name)
        amount = order.amount if amount is None else amount
        self._check_amount(listing, amount)
        if amount <= order.filled:
            raise Refused(Why.BAD_AMOUNT, "amount not above what is filled already")
        px = order.px if px is None else px
        if px is not None:
            self._check_px(listing, px)
            if order.is_post_only:
                self._post_only_px(listing, px, is_buy=order.is_buy, is_sliding=False)
        order.amount, order.px = tidy(amount), px
        order.updated_ms = self.now_ms()
        order.is_replaced = True
        self._match(order, is_maker=False, is_new=True)
        return order

    def cancel(self, order_id: str, reason: str = "user_request") -> Order:
        order = self._open_order(order_id)
        self._end(order, reason)
        return order

    def cancel_all(
        self,
        *,
        name: str | None = None,
        coin: str | None = None,
        owner: object = None,
        client_id: str | None = None,
        reason: str = "user_request",
    ) -> list[Order]:
        """Cancel the open orders that fit everything given, and return them."""
        found = [
            order
            for order in self.open_orders(name)
            if (coin is None or self.listings[order.name].coin == coin)
            and (owner is None or order.owner is owner)
            and (client_id is None or order.client_id == client_id)
        ]
        for order in found:
            self._end(order, reason)
        return found

    def open_orders(self, name: str | None = None) -> list[Order]:
        if name is not None:
            return list(self._open.get(name, {}).values())
        return [order for orders in self._open.values() for order in orders.values()]

    def orders_of(self, client_id: str) -> list[Order]:
        """Every order ever placed under a client id: more than one means that a retry doubled it."""
        return [order for order in self.orders.values() if order.client_id == client_id]

    def trades_of(self, order_id: str) -> list[Trade]:
        return [trade for trade in self.trades if trade.order_id == order_id]

    def position(self, name: str) -> Position:
        return self.positions.get(name) or Position(name)

    def unrealized(self, name: str) -> float:
        """Profit of a futures position at its mark, in settlement currency; an option is worth its whole mark."""
        position, listing, mark = self.position(name), self.listings[name], self.mark_px(name)
        if not position.amount or mark is None:
            return 0.0
        if listing.kind in {Kind.OPTION, Kind.SPOT}:
            return position.amount * mark
        if listing.is_quote_sized:
            return position.amount * (1 / position.entry_px - 1 / mark)
        return position.amount * (mark - position.entry_px)

    def equity(self, currency: str) -> float:
        held = [name for name, p in self.positions.items() if p.amount and self.listings[name].settle == currency]
        return self.balances.get(currency, 0.0) + sum(self.unrealized(name) for name in held)

    # What happens to an account --------------------------------------------------------------------------------------

    def foreign_trade(self, name: str, *, is_buy: bool, amount: float, px: float, client_id: str = "") -> Trade:
        """Trade on the account as a person at another screen would: an order not of ours, filled at `px`."""
        order = self._conjure(name, is_buy=is_buy, amount=amount, px=px, client_id=client_id)
        return self._fill(order, amount, px, is_maker=False, cause="trade")

    def self_close(
        self, name: str, amount: float | None = None, px: float | None = None, *, cause: str = "adl"
    ) -> Trade:
        """Close a position (or `amount` of it) without being asked, as auto-deleveraging and liquidation do."""
        held = self.position(name).amount
        if not held:
            raise Refused(Why.REDUCE_ONLY, f"expected a position in {name} to close, found none")
        at = px if px is not None else self.mark_px(name)
        if at is None:
            raise Refused(Why.NO_LIQUIDITY, f"expected a mark price of {name}, found none")
        closed = min(abs(held), amount if amount is not None else abs(held))
        order = self._conjure(name, is_buy=held < 0, amount=closed, px=at)
        return self._fill(order, closed, at, is_maker=False, cause=cause)

    def delist(self, name: str) -> None:
        """Take an instrument off the list: open orders are canceled, positions stay as they are."""
        self.listings[name].is_active = False
        self.cancel_all(name=name, reason="instrument_closed")
        self._tell(Topic.LISTING, name)

    def change_contract_size(self, name: str, size: float) -> None:
        self.listings[name].contract_size = size
        self._tell(Topic.LISTING, name)

    def settle(self, coin: str, expiry_ms: int, px: float) -> Delivery:
        """Settle everything of one coin and expiry at `px`: orders canceled, positions paid out and gone."""
        for name, listing in self.listings.items():
            if listing.coin == coin and listing.expiry_ms == expiry_ms:
                self.delist(name)
                self._pay_out(listing, px)
        delivery = Delivery(coin, expiry_ms, px, self.now_ms())
        self.deliveries.append(delivery)
        self._tell(Topic.DELIVERY, coin, delivery=delivery)
        return delivery

    def pay_funding(self, name: str, rate: float) -> Funding:
        """Book funding: longs pay `rate` of the notional to shorts."""
        listing, position, mark = self.listings[name], self.position(name), self.mark_px(name)
        amount = tidy(-rate * listing.cash(position.amount, mark)) if position.amount and mark else 0.0
        self._add_cash(listing.settle, amount)
        number = len(self.fundings) + 1
        funding = Funding(f"F{number}", name, rate, amount, listing.settle, self.now_ms())
        self.fundings.append(funding)
        self._tell(Topic.FUNDING, name, funding=funding)
        return funding

    # Matching --------------------------------------------------------------------------------------------------------

    def _match(self, order: Order, *, is_maker: bool, is_new: bool = False) -> None:
        """Fill what the other side shows at the order's price or better; a maker trades at its own price."""
        quotes = self.quotes[order.name]
        side = quotes.asks if order.is_buy else quotes.bids
        has_traded = False
        while order.is_open and side and _reaches(order, side[0].px):
            amount = min(order.left, side[0].amount)
            if order.is_reduce_only:
                amount = min(amount, self._reducible(order.name, is_buy=order.is_buy))
                if amount <= 0:
                    self._end(order, "reduce_only")
                    break
            px = order.px if is_maker and order.px is not None else side[0].px
            side[0].amount = tidy(side[0].amount - amount)
            if side[0].amount <= 0:
                side.pop(0)
            self._fill(order, amount, px, is_maker=is_maker, cause="trade")
            has_traded = True
        if is_new and not has_traded:
            self._tell(Topic.ORDER, order.name, order=order)
        if has_traded or (is_new and self.shows_own_orders):
            self._tell(Topic.QUOTE, order.name)

    def _by_priority(self, name: str) -> list[Order]:
        """Return the open orders of an instrument, on each side the best price first, then the oldest."""
        orders = list(self._open.get(name, {}).values())
        if len(orders) > 1:
            orders.sort(key=lambda order: -(order.px or 0.0) if order.is_buy else (order.px or 0.0))
        return orders

    def _fill(self, order: Order, amount: float, px: float, *, is_maker: bool, cause: str) -> Trade:
        listing = self.listings[order.name]
        rate = listing.maker_rate if is_maker else listing.taker_rate
        is_coin_option = listing.kind is Kind.OPTION and listing.is_inverse
        fee = tidy(rate * (amount if is_coin_option else listing.cash(amount, px)))
        realized = self._move_position(listing, amount if order.is_buy else -amount, px)
        self._add_cash(listing.settle, realized - fee)
        order.average_px = (order.average_px * order.filled + px * amount) / (order.filled + amount)
        order.filled = tidy(order.filled + amount)
        order.fee = tidy(order.fee + fee)
        order.updated_ms = self.now_ms()
        self._last_trade += 1
        number = self._trade_seqs[order.name] = self._trade_seqs.get(order.name, 0) + 1
        trade = Trade(
            str(self._last_trade), number, order.order_id, order.client_id, order.name, order.is_buy, amount, px,
            fee, listing.settle, is_maker, self.now_ms(), cause, realized,
        )  # fmt: skip
        self.trades.append(trade)
        order.trade_ids.append(trade.trade_id)
        self.quotes[order.name].last_px = px
        if order.left <= 0:
            order.state = State.FILLED
            self._open.get(order.name, {}).pop(order.order_id, None)
        self._tell(Topic.TRADE, order.name, order=order, trade=trade)
        self._tell(Topic.ORDER, order.name, order=order)
        self._tell(Topic.POSITION, order.name)
        self._tell(Topic.BALANCE, listing.settle)
        return trade

    def _move_position(self, listing: Listing, signed: float, px: float) -> float:
        """Change a position by `signed` at `px`; return the cash it earns in settlement currency."""
        position = self.positions.setdefault(listing.name, Position(listing.name))
        before = position.amount
        after = tidy(before + signed)
        closed = 0.0 if before * signed >= 0 else math.copysign(min(abs(before), abs(signed)), before)
        if listing.is_quote_sized:
            earned = closed * (1 / position.entry_px - 1 / px) if closed else 0.0
        else:
            earned = closed * (px - position.entry_px)
        if before * signed >= 0:
            weight = abs(before) + abs(signed)
            position.entry_px = _average_px(listing, before, position.entry_px, signed, px) if weight else 0.0
        elif before * after < 0:
            position.entry_px = px
        elif not after:
            position.entry_px = 0.0
        position.amount = after
        position.realized = tidy(position.realized + earned)
        # Options and coins are paid for when they change hands; futures only settle what was earned.
        return -signed * px if listing.kind in {Kind.OPTION, Kind.SPOT} else earned

    def _pay_out(self, listing: Listing, px: float) -> None:
        position = self.positions.pop(listing.name, None)
        if position is None or not position.amount:
            return
        if listing.kind is Kind.OPTION and listing.strike is not None:
            value = max(0.0, px - listing.strike if listing.is_call else listing.strike - px)
            cash = position.amount * (value / px if listing.is_inverse else value)
        elif listing.is_quote_sized:
            cash = position.amount * (1 / position.entry_px - 1 / px)
        else:
            cash = position.amount * (px - position.entry_px)
        self._add_cash(listing.settle, cash)
        self._tell(Topic.POSITION, listing.name)
        self._tell(Topic.BALANCE, listing.settle)

    def _end(self, order: Order, reason: str) -> None:
        order.state = State.CANCELED
        order.cancel_reason = reason
        order.updated_ms = self.now_ms()
        self._open.get(order.name, {}).pop(order.order_id, None)
        self._tell(Topic.ORDER, order.name, order=order)
        if self.shows_own_orders:
            self._tell(Topic.QUOTE, order.name)

    def _conjure(self, name: str, *, is_buy: bool, amount: float, px: float, client_id: str = "") -> Order:
        self._last_order += 1
        now = self.now_ms()
        order = Order(str(self._last_order), client_id, name, is_buy, amount, px, created_ms=now, updated_ms=now)
        self.orders[order.order_id] = order
        return order

    # Checks ----------------------------------------------------------------------------------------------------------

    def _listing(self, name: str) -> Listing:
        listing = self.listings.get(name)
        if listing is None:
            raise Refused(Why.UNKNOWN_INSTRUMENT, f"unknown instrument {name}")
        if self.is_halted:
            raise Refused(Why.HALTED, "trading is halted")
        if not listing.is_active:
            raise Refused(Why.INACTIVE, f"{name} is not traded any more")
        return listing

    def _open_order(self, order_id: str) -> Order:
        order = self.orders.get(order_id)
        if order is None:
            raise Refused(Why.NOT_FOUND, f"unknown order {order_id}")
        if not order.is_open:
            raise Refused(Why.NOT_OPEN, f"order {order_id} is {order.state.value}")
        return order

    def _check_amount(self, listing: Listing, amount: float) -> None:
        if (
            not math.isfinite(amount)
            or amount < listing.min_amount - 1e-9
            or not is_multiple(amount, listing.min_amount)
        ):
            raise Refused(Why.BAD_AMOUNT, f"expected a multiple of {listing.min_amount}, found {amount}")

    def _check_px(self, listing: Listing, px: float) -> None:
        if not math.isfinite(px) or px <= 0 or not is_multiple(px, listing.tick_at(px)):
            raise Refused(Why.BAD_PX, f"expected a multiple of {listing.tick_at(px)}, found {px}")

    def _check_client_id(self, client_id: str) -> None:
        known = self.orders_of(client_id)
        if self.client_ids == "open":
            known = [order for order in known if order.is_open]
        if known:
            raise Refused(Why.DUPLICATE, f"client order id {client_id} is taken")

    def _check_funds(self, listing: Listing, amount: float, px: float | None, *, is_buy: bool) -> None:
        at = px or self.mark_px(listing.name)
        if not self.margin_rate or not at:
            return
        is_paid_whole = listing.kind is Kind.SPOT or (listing.kind is Kind.OPTION and is_buy)
        needed = listing.cash(amount, at) * (1.0 if is_paid_whole else self.margin_rate)
        if needed > self.equity(listing.settle):
            raise Refused(Why.NOT_ENOUGH_FUNDS, f"expected {needed:g} {listing.settle}, found less")

    def _post_only_px(self, listing: Listing, px: float, *, is_buy: bool, is_sliding: bool) -> float:
        """Return the price a post-only order rests at."""
        quotes = self.quotes[listing.name]
        side = quotes.asks if is_buy else quotes.bids
        if not side or (px < side[0].px if is_buy else px > side[0].px):
            return px
        if not is_sliding:
            raise Refused(Why.POST_ONLY, "post-only order would trade at once")
        tick = listing.tick_at(side[0].px)
        return tidy(side[0].px - tick if is_buy else side[0].px + tick)

    def _reducible(self, name: str, *, is_buy: bool) -> float:
        held = self.position(name).amount
        return max(0.0, -held if is_buy else held)

    def _takeable(self, name: str, px: float | None, *, is_buy: bool) -> float:
        side = self.quotes[name].asks if is_buy else self.quotes[name].bids
        reached = [level.amount for level in side if px is None or (level.px <= px if is_buy else level.px >= px)]
        return sum(reached)

    def _add_cash(self, currency: str, amount: float) -> None:
        self.balances[currency] = self.balances.get(currency, 0.0) + amount

    def _tell(
        self,
        topic: Topic,
        name: str,
        *,
        order: Order | None = None,
        trade: Trade | None = None,
        delivery: Delivery | None = None,
        funding: Funding | None = None,
    ) -> None:
        self.seq += 1
        if not self._listeners:
            return
        frozen = None if order is None else msgspec.structs.replace(order, trade_ids=[*order.trade_ids])
        change = Change(topic, name, self.seq, frozen, trade, delivery, funding)
        for listener in tuple(self._listeners):
            listener(change)


def _reaches(order: Order, px: float) -> bool:
    if order.px is None:
        return True
    return order.px >= px - 1e-9 if order.is_buy else order.px <= px + 1e-9


def _average_px(listing: Listing, before: float, entry_px: float, signed: float, px: float) -> float:
    """Entry price of two parts: what it costs to be flat must not change, so inverse contracts average harmonically."""
    if not before:
        return px
    if listing.is_quote_sized:
        return (before + signed) / (before / entry_px + signed / px)
    return (before * entry_px + signed * px) / (before + signed)


def _merged(levels: Sequence[Level], *, is_bid: bool) -> list[Level]:
    amounts: dict[float, float] = {}
    for level in levels:
        amounts[level.px] = amounts.get(level.px, 0.0) + level.amount
    return [Level(px, tidy(amounts[px])) for px in sorted(amounts, reverse=is_bid)]
