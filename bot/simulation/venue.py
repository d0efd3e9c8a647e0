"""The simulated venue: one seeded, pure, synchronous exchange for replay (virtual time) and paper trading (live time).

The same seed and the same calls give the same answers, byte for byte: that is how a venue is rebuilt after a crash.
It must never read a clock, never look ahead (an order sees the newest quote as of its arrival, no newer one), and
never fill on a quote that is not finite, crossed, out of order or from the future: such a quote is as if never sent.
Options are shown at the prices of their vol quotes, with the sizes told, and trade at once or not at all.

What it assumes, and a real venue does not grant: our orders move nobody else's, a resting order is filled as soon as
the other side is quoted at its price (and not before), depth behind the touch has the shape of recorded books and is
whole again with the next quote, our own orders never meet each other, and margin is never short.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from math import inf, isfinite

import msgspec
import numpy as np

from bot.domain.events import AmendOrder, CancelOrder, Command, QueryOrder, SubmitOrder
from bot.domain.instruments import Future, Instrument, Option, Payoff
from bot.domain.market import FundingRate, MarketEvent, Quote, Settlement, VolQuote
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    FundingPayment,
    Liquidity,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderEvent,
    OrderIntent,
    OrderRejected,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.units import BPS, NS_PER_S
from bot.domain.venues import VenueOrder
from bot.engine.market import CLOCK_TOLERANCE_NS
from bot.engine.option_prices import option_fee_settle, price_quote, prices_of
from bot.simulation.depth import DepthProfile, Rung, build_ladder, take_lots

NEVER_NS = 2**63 - 1
MAX_FINISHED = 1_000  # orders that are over and can still be asked about: venues do not remember every one either
RANDOM_REFUSAL = "venue fault: refused at random, as the fault settings ask"
_CROSSING = "post only: "  # how a refusal begins that is about the price alone


class Fees(msgspec.Struct, frozen=True, gc=False):
    """What the venue charges on the notional of a fill; negative is a rebate."""

    maker_bps: float
    taker_bps: float


class OptionFees(msgspec.Struct, frozen=True, gc=False):
    """What the venue charges for an option: a share of the underlying's worth, at most `cap_fraction` of its price."""

    taker_bps: float
    cap_fraction: float


class Latency(msgspec.Struct, frozen=True, gc=False):
    """One-way delays: venue to us (quotes), us to venue (commands), venue to us (answers).

    Each is a floor; jitter adds up to `jitter_fraction` of it, drawn per message from the venue's seed, and never
    reorders the messages of one direction. The venue itself sees quotes at their event time: `feed_ns` is for whoever
    replays them to the engine.
    """

    feed_ns: int = 0
    entry_ns: int = 0
    response_ns: int = 0
    jitter_fraction: float = 0.0

    def __post_init__(self) -> None:
        if min(self.feed_ns, self.entry_ns, self.response_ns) < 0 or not 0.0 <= self.jitter_fraction < inf:
            raise ValueError(f"expected latencies and jitter of at least 0, found {self}; a message cannot travel back")


class Faults(msgspec.Struct, frozen=True, gc=False):
    """Probabilities of seeded misfortune per submit, amend or cancel; queries always get through, truth is found.

    A lost request never reaches the venue. A lost reply silences every answer about that order until it is queried.
    Either way an `OutcomeLost` reaches us `timeout_ns` after the command was sent.
    """

    reject_probability: float = 0.0
    lose_request_probability: float = 0.0
    lose_reply_probability: float = 0.0
    timeout_ns: int = 2 * NS_PER_S

    def __post_init__(self) -> None:
        probabilities = (self.reject_probability, self.lose_request_probability, self.lose_reply_probability)
        if not all(0.0 <= probability <= 1.0 for probability in probabilities) or self.timeout_ns < 0:
            raise ValueError(f"expected probabilities within 0…1 and a timeout of at least 0, found {self}")

    @property
    def is_possible(self) -> bool:
        """Tell whether anything can go wrong at all."""
        return self.reject_probability + self.lose_request_probability + self.lose_reply_probability > 0.0


NO_FAULTS = Faults()


class _Order(msgspec.Struct):
    intent: OrderIntent
    left_lots: int
    limit_ticks: int
    state: OrderState = OrderState.REJECTED
    fills: list[Fill] = []
    is_muted: bool = False
    venue_order_id: str = ""

    @property
    def is_buy(self) -> bool:
        return self.intent.qty_lots > 0


class _Book(msgspec.Struct):
    instrument: Instrument
    depth: DepthProfile
    fees: Fees | OptionFees | None
    expiry_ns: int
    quote: Quote | None = None
    vol_quote: VolQuote | None = None  # of an option; its quote is made of it once somebody needs one
    asks: list[Rung] | None = None  # None until somebody needs them: most quotes are never traded on
    bids: list[Rung] | None = None
    resting: dict[str, _Order] = {}
    position_lots: int = 0
    funded_ns: int = -1


class _Arrival(msgspec.Struct, frozen=True):
    arrival_ns: int
    command: Command
    is_refused: bool
    is_reply_lost: bool


class SimulatedVenue:
    """An exchange made of recorded quotes.

    Feed it every market event of its instruments in the order of event time and before `advance` reaches that time;
    `submit` commands as they leave; `advance` to learn what came of them. A command is executed at its arrival, sent
    time plus entry latency, against the newest quote with `ts_event_ns` up to that moment. Execution waits until a
    later event or the due time of the answer shows that no such quote is still under way.

    `reduce_only` clips, as most venues do: the order fills at most what reduces the position, the rest expires; where
    nothing can be reduced it is rejected. A second order with a known id is refused, and the answer is the truth about
    the first one: a plain rejection would make its sender believe that the first one is dead. Orders long over are
    forgotten, and their ids with them.

    An amend moves the limit of a resting order, which then stands behind the older ones of its new price; refused, it
    leaves the order as it was. Commands about the account are not for a matching engine and are passed over.
    """

    def __init__(
        self,
        instruments: Sequence[Instrument],
        *,
        fees: Mapping[str, Fees | OptionFees],
        latency: Latency,
        depth: Mapping[str, DepthProfile],
        seed: int,
        faults: Faults = NO_FAULTS,
        max_finished: int = MAX_FINISHED,
    ) -> None:
        """`fees` and `depth` go by instrument id; without fees it cannot be traded, without depth only its touch can.

        Raises ValueError if a depth profile, which counts in quote money, is given for a coin-priced instrument.
        """
        self._books: dict[str, _Book] = {}
        for instrument in instruments:
            name = instrument.instrument_id
            self.list_instrument(instrument, fees.get(name), depth.get(name, DepthProfile()))
        self._latency = latency
        self._faults = faults
        # Two streams, so that what is sent never changes the draws of what is answered.
        requests, responses = np.random.SeedSequence(seed).spawn(2)
        self._request_rng = np.random.default_rng(requests)
        self._response_rng = np.random.default_rng(responses)
        self._orders: dict[str, _Order] = {}
        self._max_finished = max_finished
        self._cash_settle: dict[str, float] = {}
        self._arrivals: deque[_Arrival] = deque()
        self._outbox: list[tuple[int, int, OrderEvent]] = []
        self._clock_ns = 0
        self._last_reply_ns = 0
        self._next_arrival_ns = NEVER_NS
        self._next_event_ns = NEVER_NS
        self._messages = 0
        self._trades = 0
        self._accepted = 0
        self._payments = 0

    def list_instrument(
        self, instrument: Instrument, fees: Fees | OptionFees | None, depth: DepthProfile | None = None
    ) -> None:
        """Trade `instrument` from now on; one listed already stays as it is. Raises ValueError as the venue itself."""
        profile = depth or DepthProfile()
        if instrument.instrument_id in self._books:
            return
        if profile.levels and instrument.price_currency == instrument.base:
            raise ValueError(
                f"expected {instrument.instrument_id} to be priced in {instrument.quote} as its depth profile "
                f"counts in it, found prices in {instrument.price_currency}; leave its depth out"
            )
        levels = tuple(sorted(profile.levels, key=lambda level: level.offset_bps))
        expiry_ns = instrument.expiry_ns if isinstance(instrument, Option | Future) else NEVER_NS
        self._books[instrument.instrument_id] = _Book(instrument, DepthProfile(levels), fees, expiry_ns)

    @property
    def positions(self) -> dict[str, int]:
        """Signed lots by instrument id, flat ones left out."""
        return {key: book.position_lots for key, book in self._books.items() if book.position_lots}

    @property
    def cash_settle(self) -> dict[str, float]:
        """Money by currency, from 0: minus the value of what was bought, minus fees, plus funding and settlements.

        Adding the value of the open positions gives the result so far; a long inverse contract of Q quote is worth
        −Q/px coin, so that buying at F₀ and ending at F yields Q(1/F₀ − 1/F).
        """
        return dict(self._cash_settle)

    @property
    def equity_settle(self) -> dict[str, float]:
        """Money by currency as in `cash_settle`, plus what the open positions are worth at mid."""
        equity = dict(self._cash_settle)
        for book in self._books.values():
            if book.position_lots and (mid_px := _mark_px(book)):
                equity[book.instrument.settle] += _value_settle(book.instrument, book.position_lots, mid_px)
        return equity

    @property
    def open_orders(self) -> tuple[VenueOrder, ...]:
        """Every resting order, by instrument and then by age."""
        return tuple(
            VenueOrder(
                order.venue_order_id,
                order_id,
                book.instrument.instrument_id,
                order.left_lots if order.is_buy else -order.left_lots,
                book.instrument.tick_schedule.px(order.limit_ticks),
            )
            for book in self._books.values()
            for order_id, order in book.resting.items()
        )

    @property
    def last_reply_ns(self) -> int:
        """When the last message that has left the venue reaches us; later ones come no earlier."""
        return self._last_reply_ns

    def on_market(self, event: MarketEvent) -> None:
        """Take in what happened on the market at `event.ts_event_ns`; indices mean nothing here."""
        if isinstance(event, Quote):
            self._apply_quote(event)
        elif isinstance(event, VolQuote):
            self._apply_vol_quote(event)
        elif isinstance(event, FundingRate):
            self._apply_funding(event)
        elif isinstance(event, Settlement):
            self._apply_settlement(event)

    def submit(self, command: Command, now_ns: int) -> None:
        """Send a command on its way to the venue."""
        is_refused = is_request_lost = is_reply_lost = False
        if self._faults.is_possible:
            # Always three draws per command, so that one probability never shifts the luck of another.
            refuse, lose_request, lose_reply = self._request_rng.random(3).tolist()
            is_refused = refuse < self._faults.reject_probability
            is_request_lost = lose_request < self._faults.lose_request_probability
            is_reply_lost = lose_reply < self._faults.lose_reply_probability
        arrival_ns = now_ns + self._draw_ns(self._request_rng, self._latency.entry_ns)
        if isinstance(command, QueryOrder):
            is_refused = is_request_lost = is_reply_lost = False
        if is_request_lost or is_reply_lost:
            self._lose_outcome(command, now_ns)
        if not is_request_lost:
            # Not on a book that has already moved past it; the queue keeps it behind the commands sent before it.
            arrival_ns = max(arrival_ns, self._clock_ns)
            self._arrivals.append(_Arrival(arrival_ns, command, is_refused, is_reply_lost))
        self._reschedule()

    def next_event_ns(self) -> int | None:
        """Return when `advance` will next have something to do or to tell, None if nothing is under way."""
        return None if self._next_event_ns == NEVER_NS else self._next_event_ns

    def advance(self, now_ns: int) -> list[OrderEvent]:
        """Execute what is due by `now_ns` and return every message that has reached us by then, in order of receipt."""
        if now_ns < self._next_event_ns:
            return []
        while self._arrivals and self._arrivals[0].arrival_ns + self._latency.response_ns <= now_ns:
            self._execute(self._arrivals.popleft())
        events = []
        while self._outbox and self._outbox[0][0] <= now_ns:
            events.append(heapq.heappop(self._outbox)[2])
        self._reschedule()
        return events

    def take_over(self, instrument_id: str, qty_lots: int, px: float, fee_settle: float, now_ns: int) -> None:
        """Trade on the account without being asked, at a price of the venue's own: a liquidation, a deleveraging.

        We hear of it as of a fill of no order of ours. Raises KeyError for an instrument that is not listed.
        """
        book = self._books[instrument_id]
        self._clock_ns = max(self._clock_ns, now_ns)
        book.position_lots += qty_lots
        self._book_cash(book, -_value_settle(book.instrument, qty_lots, px) - fee_settle)
        self._trades += 1
        trade, reply_ns = f"T{self._trades}", self._draw_reply_ns()
        self._send(Fill(trade, "", instrument_id, qty_lots, px, fee_settle, Liquidity.TAKER, self._clock_ns, reply_ns))
        self._reschedule()

    # Market events

    def _apply_quote(self, quote: Quote) -> None:
        book = self._books.get(quote.instrument_id)
        if book is None:
            return
        bid_px = quote.bid_px
        ask_px = quote.ask_px
        if not (
            0.0 <= bid_px < inf
            and 0.0 <= ask_px < inf
            and (bid_px < ask_px or ask_px == 0.0)
            and 0.0 <= quote.bid_base < inf
            and 0.0 <= quote.ask_base < inf
        ):
            return
        ts_ns = quote.ts_event_ns
        last = book.quote
        if last is not None and (ts_ns < last.ts_event_ns or (ts_ns == last.ts_event_ns and quote.seq <= last.seq)):
            return
        if not self._move_clock(ts_ns, quote.ts_recv_ns):
            return
        if ts_ns >= book.expiry_ns:
            self._expire_resting(book)
            return
        book.quote = quote
        book.asks = book.bids = None
        if book.resting:
            self._match_resting(book)
            self._reschedule()

    def _apply_vol_quote(self, quote: VolQuote) -> None:
        """Show an option at the prices of its vols, whole again with every quote."""
        book = self._books.get(quote.instrument_id)
        if book is None or not isinstance(book.instrument, Option):
            return
        sides = (quote.bid_vol, quote.ask_vol, quote.bid_base, quote.ask_base)
        if not (all(0.0 <= side < inf for side in sides) and 0.0 < quote.forward_px < inf and quote.mark_vol > 0.0):
            return
        ts_ns, last = quote.ts_event_ns, book.vol_quote
        if last is not None and (ts_ns, quote.seq) <= (last.ts_event_ns, last.seq):
            return
        if self._move_clock(ts_ns, quote.ts_recv_ns) and ts_ns < book.expiry_ns:
            book.vol_quote = quote
            book.quote = book.asks = book.bids = None

    def _apply_funding(self, funding: FundingRate) -> None:
        """Longs pay rate × notional at mid to shorts."""
        book = self._books.get(funding.instrument_id)
        ts_ns = funding.ts_event_ns
        if book is None or not isfinite(funding.rate) or ts_ns <= book.funded_ns:
            return
        if not self._move_clock(ts_ns, funding.ts_recv_ns):
            return
        book.funded_ns = ts_ns
        mid_px = _mid_px(book.quote)
        if not book.position_lots or not funding.rate or not mid_px:
            return
        notional_settle = abs(_value_settle(book.instrument, book.position_lots, mid_px))
        amount_settle = -funding.rate * (notional_settle if book.position_lots > 0 else -notional_settle)
        self._book_cash(book, amount_settle)
        self._payments += 1
        self._send(
            FundingPayment(
                f"F{self._payments}", funding.instrument_id, amount_settle, self._clock_ns, self._draw_reply_ns()
            )
        )
        self._reschedule()

    def _apply_settlement(self, settlement: Settlement) -> None:
        """Turn positions of that expiry into cash; the engine does the same on the same event, so nothing is sent."""
        ts_ns = settlement.ts_event_ns
        if not 0.0 < settlement.px < inf or ts_ns < settlement.expiry_ns:
            return
        if not self._move_clock(ts_ns, settlement.ts_recv_ns):
            return
        for book in self._books.values():
            instrument = book.instrument
            if instrument.base != settlement.underlying or book.expiry_ns != settlement.expiry_ns:
                continue
            self._expire_resting(book)
            self._book_cash(book, _settlement_value_settle(instrument, book.position_lots, settlement.px))
            book.position_lots = 0

    def _move_clock(self, ts_ns: int, recv_ns: int) -> bool:
        """Move the venue's time on to a market event, executing first what arrived before it; False for a bad stamp."""
        if ts_ns > recv_ns + CLOCK_TOLERANCE_NS:
            return False
        if ts_ns > self._next_arrival_ns:
            while self._arrivals and self._arrivals[0].arrival_ns < ts_ns:
                self._execute(self._arrivals.popleft())
            self._reschedule()
        self._clock_ns = max(self._clock_ns, ts_ns)
        return True

    def _match_resting(self, book: _Book) -> None:
        """Fill resting orders the other side has come to as maker at their own price, best price first, then oldest."""
        for order in sorted(book.resting.values(), key=_price_priority):
            self._fill(order, book, Liquidity.MAKER)
            if order.state is OrderState.FILLED:
                del book.resting[order.intent.order_id]
            elif not _fillable_lots(order, book):
                self._end(order, book, OrderState.EXPIRED)

    def _expire_resting(self, book: _Book) -> None:
        for order in list(book.resting.values()):
            self._end(order, book, OrderState.EXPIRED)
        self._reschedule()

    # Commands

    def _execute(self, arrival: _Arrival) -> None:
        self._clock_ns = max(self._clock_ns, arrival.arrival_ns)
        command = arrival.command
        order_id = _order_id(command)
        order = self._orders.get(order_id)
        if isinstance(command, QueryOrder):
            if order is not None:
                order.is_muted = False
            self._tell_truth(order_id, order)
            return
        if not isinstance(command, SubmitOrder | AmendOrder | CancelOrder):
            return
        if order is None and isinstance(command, SubmitOrder):
            self._execute_order(command.intent, is_refused=arrival.is_refused, is_muted=arrival.is_reply_lost)
            return
        if order is not None:
            order.is_muted |= arrival.is_reply_lost
        if isinstance(command, SubmitOrder):
            self._tell_truth(order_id, order)
        elif isinstance(command, AmendOrder):
            self._execute_amend(command, order, is_refused=arrival.is_refused, is_reply_lost=arrival.is_reply_lost)
        elif order is not None and not order.state.is_terminal and not arrival.is_refused:
            self._end(order, self._books[order.intent.instrument_id], OrderState.CANCELED)
        elif order is not None or not arrival.is_reply_lost:
            why = _cancel_problem(order_id, order, is_refused=arrival.is_refused)
            self._send(CancelRejected(order_id, why, self._clock_ns, self._draw_reply_ns()), order)

    def _execute_order(self, intent: OrderIntent, *, is_refused: bool, is_muted: bool) -> None:
        order = _Order(intent, left_lots=abs(intent.qty_lots), limit_ticks=intent.limit_ticks, is_muted=is_muted)
        self._forget_finished()
        self._orders[intent.order_id] = order
        book = self._books.get(intent.instrument_id)
        problem = RANDOM_REFUSAL if is_refused else ""
        problem = problem or self._find_problem(order, book)
        if problem or book is None:
            is_crossing = problem.startswith(_CROSSING)
            reply_ns = self._draw_reply_ns()
            self._send(OrderRejected(intent.order_id, problem, self._clock_ns, reply_ns, is_crossing), order)
            return
        self._accepted += 1
        order.state = OrderState.OPEN
        order.venue_order_id = f"V{self._accepted}"
        self._send(OrderAccepted(intent.order_id, order.venue_order_id, self._clock_ns, self._draw_reply_ns()), order)
        self._fill(order, book, Liquidity.TAKER)
        if order.state is OrderState.FILLED:
            return
        if intent.time_in_force in (TimeInForce.IOC, TimeInForce.MARKET) or not _fillable_lots(order, book):
            self._end(order, book, OrderState.EXPIRED)
        else:
            book.resting[intent.order_id] = order

    def _forget_finished(self) -> None:
        """Let go of the oldest orders that are over, many at once and rarely: looking for them takes time."""
        if len(self._orders) <= 2 * self._max_finished:
            return
        finished = [order_id for order_id, order in self._orders.items() if order.state.is_terminal]
        for order_id in finished[: max(0, len(finished) - self._max_finished)]:
            del self._orders[order_id]

    def _execute_amend(
        self, command: AmendOrder, order: _Order | None, *, is_refused: bool, is_reply_lost: bool
    ) -> None:
        """Move a resting order, at once filling what its new limit crosses unless it may only rest."""
        problem = self._find_amend_problem(command, order, is_refused=is_refused)
        if problem or order is None:
            if order is not None or not is_reply_lost:
                self._send(AmendRejected(command.order_id, problem, self._clock_ns, self._draw_reply_ns()), order)
            return
        order.limit_ticks = command.limit_ticks
        book = self._books[order.intent.instrument_id]
        book.resting[command.order_id] = book.resting.pop(command.order_id)
        reply_ns = self._draw_reply_ns()
        self._send(OrderAmended(command.order_id, command.limit_ticks, self._clock_ns, reply_ns), order)
        self._fill(order, book, Liquidity.TAKER)
        if order.state is OrderState.FILLED:
            del book.resting[command.order_id]
        elif not _fillable_lots(order, book):
            self._end(order, book, OrderState.EXPIRED)

    def _find_amend_problem(self, command: AmendOrder, order: _Order | None, *, is_refused: bool) -> str:
        if order is None:
            return f"unknown order: nothing with the id {command.order_id} ever arrived"
        if order.state.is_terminal:
            return f"nothing to amend: the order is already {order.state}"
        if is_refused:
            return RANDOM_REFUSAL
        book = self._books[order.intent.instrument_id]
        problem = _limit_problem(order.intent, command.limit_ticks, book)
        return problem or _crossing_problem(order, command.limit_ticks, book)

    def _find_problem(self, order: _Order, book: _Book | None) -> str:
        """Return why the venue refuses the order, empty if it does not."""
        intent = order.intent
        if book is None:
            return f"unknown instrument: expected one of {len(self._books)} listed, found {intent.instrument_id}"
        if book.fees is None:
            return f"not tradable: {intent.instrument_id} has market data but no fee schedule"
        if isinstance(book.fees, OptionFees) and intent.time_in_force is not TimeInForce.IOC:
            return f"options trade immediately or not at all: expected an ioc order, found {intent.time_in_force}"
        if self._clock_ns >= book.expiry_ns:
            return f"expired instrument: {intent.instrument_id} expired at {book.expiry_ns}, the order came later"
        if intent.qty_lots == 0:
            return "quantity is zero: expected a signed number of lots"
        min_lots = book.instrument.min_lots
        if abs(intent.qty_lots) < min_lots:
            return f"below minimum: expected at least {min_lots} lots, found {abs(intent.qty_lots)}"
        problem = _limit_problem(intent, intent.limit_ticks, book)
        return problem or self._position_problem(order, book) or _value_problem(order, book)

    def _position_problem(self, order: _Order, book: _Book) -> str:
        _price_option(book)
        if book.quote is None:
            return f"no market yet: {book.instrument.instrument_id} has not been quoted"
        if not _fillable_lots(order, book):
            return f"reduce only: the position is {book.position_lots} lots, the order would make it larger"
        return _crossing_problem(order, order.limit_ticks, book)

    def _fill(self, order: _Order, book: _Book, liquidity: Liquidity) -> None:
        """Fill what the other side shows up to the order's limit: taker at the prices shown, maker at its own."""
        intent = order.intent
        limit_ticks = None if intent.time_in_force is TimeInForce.MARKET else order.limit_ticks
        ladder = _ladder(book, is_ask=order.is_buy)
        taken = take_lots(ladder, _fillable_lots(order, book), limit_ticks, is_ask=order.is_buy)
        if not taken:
            return
        if liquidity is Liquidity.MAKER:
            taken = [(order.limit_ticks, sum(lots for _, lots in taken))]
        for ticks, lots in taken:
            self._book_fill(order, book, ticks, lots, liquidity)
        order.state = OrderState.PARTLY_FILLED if order.left_lots else OrderState.FILLED

    def _book_fill(self, order: _Order, book: _Book, ticks: int, lots: int, liquidity: Liquidity) -> None:
        instrument = book.instrument
        qty_lots = lots if order.is_buy else -lots
        px = instrument.tick_schedule.px(ticks)
        value_settle = _value_settle(instrument, qty_lots, px)
        fee_settle = _fee_settle(book, qty_lots, px, liquidity)
        order.left_lots -= lots
        book.position_lots += qty_lots
        self._book_cash(book, -value_settle - fee_settle)
        self._trades += 1
        fill = Fill(
            f"T{self._trades}",
            order.intent.order_id,
            instrument.instrument_id,
            qty_lots,
            px,
            fee_settle,
            liquidity,
            self._clock_ns,
            self._draw_reply_ns(),
        )
        order.fills.append(fill)
        self._send(fill, order)

    def _end(self, order: _Order, book: _Book, state: OrderState) -> None:
        """Let go of what is left of an order, resting or not."""
        book.resting.pop(order.intent.order_id, None)
        order.state = state
        order_id = order.intent.order_id
        is_expired = state is OrderState.EXPIRED
        self._send(OrderCanceled(order_id, is_expired, self._clock_ns, self._draw_reply_ns()), order)

    def _tell_truth(self, order_id: str, order: _Order | None) -> None:
        state, fills = (order.state, tuple(order.fills)) if order is not None else (OrderState.REJECTED, ())
        self._send(OrderTruth(order_id, state, fills, self._clock_ns, self._draw_reply_ns()), order)

    # Messages

    def _send(self, event: OrderEvent, order: _Order | None = None) -> None:
        if order is None or not order.is_muted:
            self._messages += 1
            heapq.heappush(self._outbox, (event.ts_recv_ns, self._messages, event))

    def _lose_outcome(self, command: Command, now_ns: int) -> None:
        order_id = _order_id(command)
        what = "order" if isinstance(command, SubmitOrder) else "amend" if isinstance(command, AmendOrder) else "cancel"
        timeout_ns = self._faults.timeout_ns
        why = f"timeout: no answer to the {what} within {timeout_ns / NS_PER_S:g} s"
        self._send(OutcomeLost(order_id, why, now_ns + timeout_ns))

    def _draw_reply_ns(self) -> int:
        """Return when a message leaving the venue now reaches us, never before an earlier one."""
        reply_ns = self._clock_ns + self._draw_ns(self._response_rng, self._latency.response_ns)
        self._last_reply_ns = max(reply_ns, self._last_reply_ns)
        return self._last_reply_ns

    def _draw_ns(self, rng: np.random.Generator, floor_ns: int) -> int:
        if not self._latency.jitter_fraction:
            return floor_ns
        return floor_ns + int(floor_ns * self._latency.jitter_fraction * rng.random())

    def _book_cash(self, book: _Book, amount_settle: float) -> None:
        currency = book.instrument.settle
        self._cash_settle[currency] = self._cash_settle.get(currency, 0.0) + amount_settle

    def _reschedule(self) -> None:
        self._next_arrival_ns = self._arrivals[0].arrival_ns if self._arrivals else NEVER_NS
        due_ns = self._next_arrival_ns + self._latency.response_ns if self._arrivals else NEVER_NS
        self._next_event_ns = min(due_ns, self._outbox[0][0]) if self._outbox else due_ns


def _price_option(book: _Book) -> None:
    """Make the quote of an option from its newest vols; prices that cross are none."""
    if book.vol_quote is None or book.quote is not None or not isinstance(book.instrument, Option):
        return
    quote = price_quote(book.instrument, book.vol_quote)
    if not quote.ask_px or quote.bid_px < quote.ask_px:
        book.quote = quote


def _fee_settle(book: _Book, qty_lots: int, px: float, liquidity: Liquidity) -> float:
    """Return what a fill costs in settlement money."""
    instrument, fees = book.instrument, book.fees
    assert fees is not None, "an order without fees was accepted"
    if isinstance(fees, OptionFees):
        assert isinstance(instrument, Option), "fees of an option"
        forward_px = book.vol_quote.forward_px if book.vol_quote is not None else px
        size_base = qty_lots * instrument.lot_size
        return option_fee_settle(instrument, px, size_base, forward_px, fees.taker_bps, fees.cap_fraction)
    rate_bps = fees.maker_bps if liquidity is Liquidity.MAKER else fees.taker_bps
    return abs(_value_settle(instrument, qty_lots, px)) * rate_bps * BPS


def _mark_px(book: _Book) -> float:
    """Return what a position is valued at: mid, of an option that is quoted in vols the price at its mark vol."""
    if book.vol_quote is not None and isinstance(book.instrument, Option):
        return prices_of(book.instrument, book.vol_quote).mark_px
    return _mid_px(book.quote)


def _ladder(book: _Book, *, is_ask: bool) -> list[Rung]:
    """Return one side of the book as our own orders have left it since its last quote."""
    quote = book.quote
    assert quote is not None, "an order was accepted without a market"
    if is_ask:
        if book.asks is None:
            book.asks = build_ladder(book.instrument, book.depth, quote.ask_px, quote.ask_base, is_ask=True)
        return book.asks
    if book.bids is None:
        book.bids = build_ladder(book.instrument, book.depth, quote.bid_px, quote.bid_base, is_ask=False)
    return book.bids


def _fillable_lots(order: _Order, book: _Book) -> int:
    """Return how much of the order may still fill: a reduce-only one at most what brings the position to zero."""
    if not order.intent.reduce_only:
        return order.left_lots
    against_lots = -book.position_lots if order.is_buy else book.position_lots
    return min(order.left_lots, max(0, against_lots))


def _price_priority(order: _Order) -> int:
    return -order.limit_ticks if order.is_buy else order.limit_ticks


def _crossing_problem(order: _Order, limit_ticks: int, book: _Book) -> str:
    """Return why an order that may only rest cannot do so at this limit, empty if it can."""
    if order.intent.time_in_force is not TimeInForce.POST_ONLY or book.quote is None:
        return ""
    ladder = _ladder(book, is_ask=order.is_buy)
    best = next((rung.ticks for rung in ladder if rung.left_lots), None)
    if best is not None and (best <= limit_ticks if order.is_buy else best >= limit_ticks):
        return f"{_CROSSING}a limit of {limit_ticks} ticks would cross the other side at {best}"
    return ""


def _value_problem(order: _Order, book: _Book) -> str:
    """Return why the order is worth too little, empty if it is not; valued at its limit, without one at mid."""
    instrument = book.instrument
    if not instrument.min_quote:
        return ""
    px = instrument.tick_schedule.px(order.limit_ticks) or _mid_px(book.quote)
    value_quote = order.left_lots * (instrument.lot_size if instrument.is_quote_sized else instrument.lot_size * px)
    if value_quote < instrument.min_quote * (1.0 - 1e-9):
        return f"below minimum: expected a value of at least {instrument.min_quote:g}, found {value_quote:g}"
    return ""


def _limit_problem(intent: OrderIntent, limit_ticks: int, book: _Book) -> str:
    if intent.time_in_force is TimeInForce.MARKET:
        return ""
    if limit_ticks <= 0:
        return f"no limit: a {intent.time_in_force} order needs a limit above 0 ticks, found {limit_ticks}"
    schedule = book.instrument.tick_schedule
    step_ticks = schedule.step_ticks(schedule.px(limit_ticks))
    if limit_ticks % step_ticks:
        return f"off tick: expected a multiple of {step_ticks} ticks at this price, found {limit_ticks}"
    return ""


def _cancel_problem(order_id: str, order: _Order | None, *, is_refused: bool) -> str:
    if order is None:
        return f"unknown order: nothing with the id {order_id} ever arrived"
    if is_refused and not order.state.is_terminal:
        return RANDOM_REFUSAL
    return f"nothing to cancel: the order is already {order.state}"


def _order_id(command: Command) -> str:
    if isinstance(command, SubmitOrder):
        return command.intent.order_id
    return getattr(command, "order_id", "")


def _value_settle(instrument: Instrument, qty_lots: int, px: float) -> float:
    """Return the value of signed lots in settlement money; a quote-sized inverse contract is worth −quote/px coin."""
    size = qty_lots * instrument.lot_size
    return -size / px if instrument.is_quote_sized else size * px


def _settlement_value_settle(instrument: Instrument, qty_lots: int, settlement_px: float) -> float:
    """Return what a position is worth at expiry: an option its payoff, in coin if inverse, a future its last price."""
    if not isinstance(instrument, Option):
        return _value_settle(instrument, qty_lots, settlement_px)
    sign = 1.0 if instrument.is_call else -1.0
    payoff_quote = max(0.0, sign * (settlement_px - instrument.strike_px)) * qty_lots * instrument.lot_size
    return payoff_quote / settlement_px if instrument.payoff is Payoff.INVERSE else payoff_quote


def _mid_px(quote: Quote | None) -> float:
    """Return the middle of a quote, the one side of a one-sided one, 0 without any."""
    if quote is None:
        return 0.0
    if quote.bid_px and quote.ask_px:
        return 0.5 * (quote.bid_px + quote.ask_px)
    return quote.bid_px or quote.ask_px
