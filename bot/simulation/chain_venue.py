"""What every simulated chain keeps: transactions under way, our account on it, and messages on their way to us.

A chain of our own making (`chain.py`) and one that is only watched (`watched_chain.py`) differ in where their blocks
come from and in what a block takes from whom. What a command begins, how a transaction that waits is sent again with
higher fees, what its inclusion leaves in the account, and what is told of it is the same on both, and stands here.
Pure: the same calls give the same answers, so that a journal rebuilds it.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

import msgspec

from bot.domain.chain import GasPaid
from bot.domain.events import AmendOrder, CancelOrder, Command, Event, QueryOrder, SubmitOrder
from bot.domain.instruments import Instrument
from bot.domain.market import MarketEvent
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    GasBid,
    Liquidity,
    OrderAccepted,
    OrderCanceled,
    OrderIntent,
    OrderRejected,
    OrderState,
    OrderTruth,
)
from bot.domain.venues import VenueOrder
from bot.simulation.venue import MAX_FINISHED, NEVER_NS, Latency

WEI_PER_COIN = 10**18
REPLACE_AFTER_BLOCKS = 3  # a transaction that waits is sent again with higher fees after this many …
REPLACE_RISE = 1.125  # … times this, …
MAX_REPLACEMENTS = 4  # … no more often than this
CANCEL_GAS_UNITS = 21_000  # a transfer of nothing to oneself


class ChainFigures(msgspec.Struct):
    """What our transactions came to so far."""

    fills: int = 0
    reverts: int = 0
    cancels: int = 0
    gas_coin: float = 0.0
    gas_quote: float = 0.0


class ChainMarket(msgspec.Struct):
    """What is traded on a chain, and what we have of it."""

    instrument: Instrument
    position_lots: int = 0
    cash: float = 0.0


class Transaction(msgspec.Struct):
    """An order on a chain, from its arrival in the pool of pending transactions on."""

    intent: OrderIntent
    bid: GasBid
    arrival_ns: int
    number: int
    state: OrderState = OrderState.OPEN
    cancel_ns: int = NEVER_NS
    fill: Fill | None = None
    waited_blocks: int = 0

    def next_bid_wei(self) -> tuple[float, float]:
        """Let a block pass, and return the most per unit of gas and the tip that it was offered."""
        rise = REPLACE_RISE ** min(MAX_REPLACEMENTS, self.waited_blocks // REPLACE_AFTER_BLOCKS)
        self.waited_blocks += 1
        return self.bid.max_fee_wei * rise, self.bid.tip_wei * rise


class Inclusion(NamedTuple):
    """The block that has a transaction: what marks it in ids, the coin's price, its time, and when we hear of it."""

    mark: str
    coin_px: float
    ts_event_ns: int
    ts_recv_ns: int


Market = TypeVar("Market", bound=ChainMarket)


class ChainVenue(ABC, Generic[Market]):
    """The venue that both chains are, but for their blocks, which each makes or is told of in its own way.

    Used like `SimulatedVenue`. A cancel is another transaction, included in the next block if the order is not: it
    costs gas too. Nothing can be amended. `latency.entry_ns` is from us to the pool of pending transactions,
    `response_ns` from a block to us.
    """

    def __init__(self, venue: str, coin: str, markets: Mapping[str, Market], *, latency: Latency, tag: str) -> None:
        """Trade `markets`, by instrument id; gas is paid in `coin`, and hashes begin with `tag`."""
        self._venue = venue
        self._coin = coin
        self._markets = dict(markets)
        self._latency = latency
        self._tag = tag
        self._transactions: dict[str, Transaction] = {}
        self._pending: list[Transaction] = []
        self._outbox: list[tuple[int, int, Event]] = []
        self._messages = 0
        self._taken = 0
        self._block_ns = 0
        self._last_reply_ns = 0
        self.figures = ChainFigures()

    @property
    def positions(self) -> dict[str, int]:
        """Signed lots by instrument id, flat ones left out."""
        return {name: market.position_lots for name, market in self._markets.items() if market.position_lots}

    @property
    def cash_settle(self) -> dict[str, float]:
        """Money by currency, from 0: minus what was paid for positions, minus gas in the chain's coin."""
        cash: dict[str, float] = {}
        for market in self._markets.values():
            if market.cash:
                settle = market.instrument.settle
                cash[settle] = cash.get(settle, 0.0) + market.cash
        if self.figures.gas_coin:
            cash[self._coin] = cash.get(self._coin, 0.0) - self.figures.gas_coin
        return cash

    @property
    def equity_settle(self) -> dict[str, float]:
        """Money by currency as in `cash_settle`, plus what the positions are worth at the chain's prices."""
        equity = self.cash_settle
        for market in self._markets.values():
            px = self._px_of(market)
            if market.position_lots and px is not None:
                instrument = market.instrument
                worth = market.position_lots * instrument.lot_size * px
                equity[instrument.settle] = equity.get(instrument.settle, 0.0) + worth
        return equity

    @property
    def open_orders(self) -> tuple[VenueOrder, ...]:
        """Every transaction that waits for its block, oldest first."""
        return tuple(
            VenueOrder(
                self._hash(one),
                one.intent.order_id,
                one.intent.instrument_id,
                one.intent.qty_lots,
                self._market_of(one).instrument.tick_schedule.px(one.intent.limit_ticks),
            )
            for one in self._pending
        )

    @property
    def last_reply_ns(self) -> int:
        """When the last message that has left the chain reaches us; later ones come no earlier."""
        return self._last_reply_ns

    @abstractmethod
    def on_market(self, event: MarketEvent) -> None:
        """Take in what happened on the market."""

    @abstractmethod
    def _px_of(self, market: Market) -> float | None:
        """Return what a unit of base is worth there now, None while it is not known."""

    def submit(self, command: Command, now_ns: int) -> None:
        """Send a command on its way."""
        arrival_ns = self._arrival_ns(now_ns)
        if isinstance(command, SubmitOrder):
            self._take_order(command.intent, arrival_ns)
        elif isinstance(command, CancelOrder):
            found = self._transactions.get(command.order_id)
            if found is None or found.state is not OrderState.OPEN:
                why = "nothing to cancel: no such transaction is pending"
                self._send(CancelRejected(command.order_id, why, arrival_ns, self._reply_ns(arrival_ns)))
            else:
                found.cancel_ns = min(found.cancel_ns, arrival_ns)
        elif isinstance(command, AmendOrder):
            why = "a transaction is replaced or canceled, never amended"
            self._send(AmendRejected(command.order_id, why, arrival_ns, self._reply_ns(arrival_ns)))
        elif isinstance(command, QueryOrder):
            self._send(self._truth(command.order_id, arrival_ns))

    def next_event_ns(self) -> int | None:
        """Return when `advance` will next have something to tell, None if that depends on the next block."""
        return self._outbox[0][0] if self._outbox else None

    def advance(self, now_ns: int) -> list[Event]:
        """Return every message that has reached us by then, in order of receipt."""
        events: list[Event] = []
        while self._outbox and self._outbox[0][0] <= now_ns:
            events.append(heapq.heappop(self._outbox)[2])
        return events

    # Orders

    def _take_order(self, intent: OrderIntent, arrival_ns: int) -> None:
        if intent.order_id in self._transactions:
            self._send(self._truth(intent.order_id, arrival_ns))
            return
        problem = ""
        if intent.instrument_id not in self._markets:
            problem = f"unknown instrument: expected one of {len(self._markets)} here, found {intent.instrument_id}"
        elif intent.gas is None:
            problem = "no gas bid: an order here is a transaction, and says what it may pay for its place in a block"
        elif not intent.qty_lots or intent.limit_ticks <= 0:
            problem = f"expected lots and a limit, found {intent.qty_lots} lots and {intent.limit_ticks} ticks"
        reply_ns = self._reply_ns(arrival_ns)
        if problem or intent.gas is None:
            self._send(OrderRejected(intent.order_id, problem, arrival_ns, reply_ns))
            return
        self._forget_finished()
        self._taken += 1
        made = Transaction(intent, intent.gas, arrival_ns, self._taken)
        self._transactions[intent.order_id] = made
        self._pending.append(made)
        self._send(OrderAccepted(intent.order_id, self._hash(made), arrival_ns, reply_ns))

    def _truth(self, order_id: str, arrival_ns: int) -> OrderTruth:
        found = self._transactions.get(order_id)
        state = found.state if found is not None else OrderState.REJECTED
        fills = (found.fill,) if found is not None and found.fill is not None else ()
        return OrderTruth(order_id, state, fills, arrival_ns, self._reply_ns(arrival_ns))

    def _forget_finished(self) -> None:
        """Let go of the oldest that are over, many at once and rarely."""
        if len(self._transactions) > 2 * MAX_FINISHED:
            over = [name for name, one in self._transactions.items() if one.state is not OrderState.OPEN]
            for name in over[: max(0, len(over) - MAX_FINISHED)]:
                del self._transactions[name]

    def _market_of(self, one: Transaction) -> Market:
        return self._markets[one.intent.instrument_id]

    def _hash(self, one: Transaction) -> str:
        return f"{self._tag}{one.number}"

    # What a block does with a transaction

    def _include_cancel(self, one: Transaction, fee_wei: float, block: Inclusion) -> None:
        """Include its cancel in its place, at a fee raised once more: it replaces the other one."""
        self._pay(one, CANCEL_GAS_UNITS * (fee_wei * REPLACE_RISE), block)
        self.figures.cancels += 1
        self._end(one, OrderState.CANCELED, block)

    def _fail(self, one: Transaction, block: Inclusion) -> None:
        self.figures.reverts += 1
        self._end(one, OrderState.EXPIRED, block)

    def _end(self, one: Transaction, state: OrderState, block: Inclusion) -> None:
        self._finish(one, state)
        is_expired = state is OrderState.EXPIRED
        stamp = block.ts_event_ns, block.ts_recv_ns
        self._send(OrderCanceled(one.intent.order_id, is_expired, *stamp))

    def _fill(self, one: Transaction, trade_id: str, px: float, paid: float, block: Inclusion) -> None:
        """Trade all of it for `paid`, which is negative for a sale."""
        intent, market = one.intent, self._market_of(one)
        market.position_lots += intent.qty_lots
        market.cash -= paid
        self.figures.fills += 1
        names, stamp = (trade_id, intent.order_id, intent.instrument_id), (block.ts_event_ns, block.ts_recv_ns)
        one.fill = Fill(*names, intent.qty_lots, px, 0.0, Liquidity.TAKER, *stamp)
        self._finish(one, OrderState.FILLED)
        self._send(one.fill)

    def _finish(self, one: Transaction, state: OrderState) -> None:
        one.state = state
        self._pending.remove(one)

    def _pay(self, one: Transaction, gas_wei: float, block: Inclusion) -> None:
        gas_coin = gas_wei / WEI_PER_COIN
        gas_quote = gas_coin * block.coin_px
        self.figures.gas_coin += gas_coin
        self.figures.gas_quote += gas_quote
        intent = one.intent
        payment_id = f"{self._hash(one)}{block.mark}"
        names = payment_id, self._venue, intent.order_id, intent.instrument_id, self._coin
        self._send(GasPaid(*names, gas_coin, gas_quote, block.ts_event_ns, block.ts_recv_ns))

    # Messages

    def _arrival_ns(self, now_ns: int) -> int:
        return max(now_ns + self._latency.entry_ns, self._block_ns)

    def _reply_ns(self, ts_ns: int) -> int:
        """Return when a message that leaves at `ts_ns` reaches us, never before an earlier one."""
        self._last_reply_ns = max(ts_ns + self._latency.response_ns, self._last_reply_ns)
        return self._last_reply_ns

    def _send(self, event: Event) -> None:
        self._messages += 1
        heapq.heappush(self._outbox, (self._last_reply_ns, self._messages, event))
