"""A chain we only watch: its blocks and prices are real, that our transactions get into them is simulated.

For paper trading with a node and no key. Fed with the `Quote` and the `ExecutionTerms` that its gateway tells of every
block, it decides by the terms' fees and by chance which block takes a transaction, fills it at that block's quote, or
lets it fail where the limit is missed by then, and charges gas at the block's base fee. Pure and seeded: the same
events and calls give the same answers, so that a journal rebuilds it.

What it assumes, and a real chain does not grant: our trades leave no trace in a pool, others neither follow nor
sandwich us (what competes for a price is what moves the pool anyway), no fill is undone by a reorg, funds and
permissions suffice, and a perpetual pays no funding.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import msgspec
import numpy as np

from bot.domain.chain import GasPaid
from bot.domain.events import AmendOrder, CancelOrder, Command, Event, QueryOrder, SubmitOrder
from bot.domain.instruments import Instrument, Option, Payoff
from bot.domain.market import ExecutionTerms, MarketEvent, Quote
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    Liquidity,
    OrderAccepted,
    OrderCanceled,
    OrderIntent,
    OrderRejected,
    OrderState,
    OrderTruth,
)
from bot.domain.venues import VenueOrder
from bot.simulation.chain import (
    CANCEL_GAS_UNITS,
    MAX_REPLACEMENTS,
    REPLACE_AFTER_BLOCKS,
    REPLACE_RISE,
    WEI_PER_COIN,
    ChainFigures,
)
from bot.simulation.venue import MAX_FINISHED, NEVER_NS, Latency

INCLUSION_SHARES = (0.5, 0.8, 0.95)  # of blocks that take a transaction whose tip is that of each tier
UNDERPAID_SHARE = 0.25  # … and of one that tips less than the cheapest


class _Market(msgspec.Struct):
    instrument: Instrument
    quote: Quote | None = None
    terms: ExecutionTerms | None = None
    base_fee_wei: int = 0  # of the newest block, as its parent's terms told it
    done_seq: int = -1
    position_lots: int = 0
    cash: float = 0.0


class _Transaction(msgspec.Struct):
    intent: OrderIntent
    arrival_ns: int
    market: _Market
    number: int
    state: OrderState = OrderState.OPEN
    cancel_ns: int = NEVER_NS
    fill: Fill | None = None
    waited_blocks: int = 0


class WatchedChain:
    """The simulated half of a chain, used like `SimulatedVenue`; its blocks come as the market's events.

    A block counts once both its quote and its terms were shown, which are read at one moment. It takes what was under
    way before its own time, or a block time before we heard of it, whichever is later: chains with several blocks a
    second stamp whole seconds.
    """

    def __init__(
        self, venue: str, coin: str, instruments: Sequence[Instrument], *, latency: Latency, seed: int
    ) -> None:
        """Watch a chain whose gas is paid in `coin`; of `latency` entry and response count.

        Raises ValueError for an instrument that is not linear: on a chain base is traded for quote.
        """
        if strange := [one for one in instruments if isinstance(one, Option) or one.payoff is not Payoff.LINEAR]:
            raise ValueError(f"expected linear instruments on {venue}, found {strange[0].instrument_id}")
        self._venue = venue
        self._coin = coin
        self._latency = latency
        self._markets = {instrument.instrument_id: _Market(instrument) for instrument in instruments}
        self._rng = np.random.default_rng(seed)
        self._transactions: dict[str, _Transaction] = {}
        self._pending: list[_Transaction] = []
        self._outbox: list[tuple[int, int, Event]] = []
        self._messages = 0
        self._sent = 0
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
                cash[market.instrument.settle] = cash.get(market.instrument.settle, 0.0) + market.cash
        if self.figures.gas_coin:
            cash[self._coin] = cash.get(self._coin, 0.0) - self.figures.gas_coin
        return cash

    @property
    def equity_settle(self) -> dict[str, float]:
        """Money by currency as in `cash_settle`, plus what the positions are worth at mid prices."""
        equity = self.cash_settle
        for market in self._markets.values():
            quote, one = market.quote, market.instrument
            if market.position_lots and quote is not None:
                mid_px = 0.5 * (quote.bid_px + quote.ask_px)
                worth = market.position_lots * one.lot_size * mid_px
                equity[one.settle] = equity.get(one.settle, 0.0) + worth
        return equity

    @property
    def open_orders(self) -> tuple[VenueOrder, ...]:
        """Every transaction that waits for its block, oldest first."""
        return tuple(
            VenueOrder(
                _hash(one),
                one.intent.order_id,
                one.intent.instrument_id,
                one.intent.qty_lots,
                one.market.instrument.tick_schedule.px(one.intent.limit_ticks),
            )
            for one in self._pending
        )

    @property
    def last_reply_ns(self) -> int:
        """When the last message that has left reaches us; later ones come no earlier."""
        return self._last_reply_ns

    def on_market(self, event: MarketEvent) -> None:
        """Take in what a block says, in any order."""
        if isinstance(event, Quote):
            market = self._markets.get(event.instrument_id)
            if market is not None:
                market.quote = event
                self._take_block(market)
        elif isinstance(event, ExecutionTerms):
            market = self._markets.get(event.instrument_id)
            if market is not None:
                market.base_fee_wei = (market.terms or event).base_fee_wei
                market.terms = event
                self._take_block(market)

    def submit(self, command: Command, now_ns: int) -> None:
        """Send a command on its way."""
        arrival_ns = max(now_ns + self._latency.entry_ns, self._block_ns)
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
        market = self._markets.get(intent.instrument_id)
        problem = ""
        if market is None:
            problem = f"expected one of {len(self._markets)} instruments, found {intent.instrument_id}"
        elif intent.gas is None:
            problem = "no gas bid: an order here is a transaction, and says what it may pay for its place in a block"
        elif not intent.qty_lots or intent.limit_ticks <= 0:
            problem = f"expected lots and a limit, found {intent.qty_lots} lots and {intent.limit_ticks} ticks"
        reply_ns = self._reply_ns(arrival_ns)
        if problem or market is None:
            self._send(OrderRejected(intent.order_id, problem, arrival_ns, reply_ns))
            return
        self._forget_finished()
        self._sent += 1
        made = _Transaction(intent, arrival_ns, market, self._sent)
        self._transactions[intent.order_id] = made
        self._pending.append(made)
        self._send(OrderAccepted(intent.order_id, _hash(made), arrival_ns, reply_ns))

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

    # Blocks

    def _take_block(self, market: _Market) -> None:
        """Once quote and terms are of one block, read together, let it take what was under way, at its own base fee."""
        quote, terms = market.quote, market.terms
        if quote is None or terms is None or quote.ts_recv_ns != terms.ts_recv_ns or terms.seq <= market.done_seq:
            return
        market.done_seq = terms.seq
        made_ns = max(terms.ts_event_ns, terms.ts_recv_ns - terms.block_ns)
        self._block_ns = max(self._block_ns, made_ns)
        for one in [one for one in self._pending if one.market is market and one.arrival_ns < made_ns]:
            self._offer(one, quote, terms, made_ns)

    def _offer(self, one: _Transaction, quote: Quote, terms: ExecutionTerms, made_ns: int) -> None:
        """Include a transaction if the block takes it, or its cancel in its place."""
        bid = one.intent.gas
        assert bid is not None, "an order without a gas bid was accepted"
        rise = REPLACE_RISE ** min(MAX_REPLACEMENTS, one.waited_blocks // REPLACE_AFTER_BLOCKS)
        one.waited_blocks += 1
        max_fee_wei, tip_wei = bid.max_fee_wei * rise, bid.tip_wei * rise
        base_fee_wei = one.market.base_fee_wei
        reply_ns = self._reply_ns(terms.ts_recv_ns)
        if one.cancel_ns < made_ns:
            fee_wei = (base_fee_wei + tip_wei) * REPLACE_RISE  # it replaces the other one
            self._pay(one, CANCEL_GAS_UNITS * fee_wei, terms, reply_ns)
            self.figures.cancels += 1
            self._finish(one, OrderState.CANCELED)
            order_id, event_ns = one.intent.order_id, terms.ts_event_ns
            self._send(OrderCanceled(order_id, is_expired=False, ts_event_ns=event_ns, ts_recv_ns=reply_ns))
            return
        tip_wei = min(tip_wei, max_fee_wei - base_fee_wei)
        is_taken = self._rng.random() < _share(terms, tip_wei)
        if tip_wei < 0.0 or not is_taken:
            return
        self._execute(one, quote, terms, reply_ns)
        self._pay(one, terms.gas_units * (base_fee_wei + tip_wei), terms, reply_ns)

    def _execute(self, one: _Transaction, quote: Quote, terms: ExecutionTerms, reply_ns: int) -> None:
        intent, market = one.intent, one.market
        assert intent.gas is not None, "an order without a gas bid was accepted"
        base = intent.qty_lots * market.instrument.lot_size
        impact = base / terms.depth_base if terms.depth_base > 0.0 else 1.0
        px = quote.ask_px * (1.0 + impact) if base > 0.0 else quote.bid_px * max(0.0, 1.0 + impact)
        limit_px = market.instrument.tick_schedule.px(intent.limit_ticks)
        order_id, event_ns = intent.order_id, terms.ts_event_ns
        is_missed = px > limit_px if base > 0.0 else px < limit_px
        if is_missed or event_ns > intent.gas.deadline_ns:
            self.figures.reverts += 1
            self._finish(one, OrderState.EXPIRED)
            self._send(OrderCanceled(order_id, is_expired=True, ts_event_ns=event_ns, ts_recv_ns=reply_ns))
            return
        market.position_lots += intent.qty_lots
        market.cash -= px * base
        self.figures.fills += 1
        name = f"{_hash(one)}@{terms.seq}"
        lots = intent.qty_lots
        one.fill = Fill(name, order_id, intent.instrument_id, lots, px, 0.0, Liquidity.TAKER, event_ns, reply_ns)
        self._finish(one, OrderState.FILLED)
        self._send(one.fill)

    def _finish(self, one: _Transaction, state: OrderState) -> None:
        one.state = state
        self._pending.remove(one)

    def _pay(self, one: _Transaction, gas_wei: float, terms: ExecutionTerms, reply_ns: int) -> None:
        coin = gas_wei / WEI_PER_COIN
        quote = coin * terms.coin_px
        self.figures.gas_coin += coin
        self.figures.gas_quote += quote
        intent = one.intent
        names = f"{_hash(one)}@{terms.seq}", self._venue, intent.order_id, intent.instrument_id, self._coin
        self._send(GasPaid(*names, coin, quote, terms.ts_event_ns, reply_ns))

    # Messages

    def _reply_ns(self, ts_ns: int) -> int:
        """Return when a message that leaves at `ts_ns` reaches us, never before an earlier one."""
        self._last_reply_ns = max(ts_ns + self._latency.response_ns, self._last_reply_ns)
        return self._last_reply_ns

    def _send(self, event: Event) -> None:
        self._messages += 1
        heapq.heappush(self._outbox, (self._last_reply_ns, self._messages, event))


def _hash(one: _Transaction) -> str:
    return f"paper-{one.number}"


def _share(terms: ExecutionTerms, tip_wei: float) -> float:
    """Return the share of blocks like this one that take a transaction with this tip."""
    paid = [share for tier, share in zip(terms.tiers, INCLUSION_SHARES, strict=False) if tier.tip_wei <= tip_wei]
    return paid[-1] if paid else UNDERPAID_SHARE
