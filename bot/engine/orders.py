"""Orders as a state machine: what we sent, what the venue said, and what may still happen to our position.

An outcome is never guessed. Whatever is ambiguous is UNKNOWN, and only the venue's word leaves UNKNOWN. What is over
stays over, with one exception: what a block said that left the chain never happened, and the order is pending again.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import NamedTuple

from bot.domain.errors import InvariantBroken
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    FillReversed,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderEvent,
    OrderIntent,
    OrderRejected,
    OrderSent,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.units import NS_PER_S

MAX_FINISHED = 1_000  # finished orders remembered; live ones always are
MAX_SEEN = 50_000  # trades remembered per instrument, to know them when they are reported again
MAX_REVERSIBLE = 1_000  # newest fills that can still be taken back: far more than a chain undoes at once
DEADLINE_MARGIN_NS = 60 * NS_PER_S  # a transaction is asked about only this long after it became void: blocks take time
MAX_CANCEL_REJECTS = 2  # in a row, before an order that cannot be canceled is asked about

_S = OrderState
_PENDING = (_S.OPEN, _S.PARTLY_FILLED, _S.CANCELING)

ALLOWED: dict[OrderState, frozenset[OrderState]] = {
    _S.INTENDED: frozenset({_S.DENIED, _S.SENT, _S.UNKNOWN}),
    _S.SENT: frozenset(
        {_S.OPEN, _S.PARTLY_FILLED, _S.FILLED, _S.CANCELING, _S.REJECTED, _S.CANCELED, _S.EXPIRED, _S.UNKNOWN}
    ),
    _S.OPEN: frozenset({_S.PARTLY_FILLED, _S.FILLED, _S.CANCELING, _S.CANCELED, _S.EXPIRED, _S.REJECTED, _S.UNKNOWN}),
    _S.PARTLY_FILLED: frozenset({_S.FILLED, _S.CANCELING, _S.CANCELED, _S.EXPIRED, _S.UNKNOWN}),
    _S.CANCELING: frozenset({_S.OPEN, _S.PARTLY_FILLED, _S.FILLED, _S.CANCELED, _S.EXPIRED, _S.REJECTED, _S.UNKNOWN}),
    _S.UNKNOWN: frozenset({_S.OPEN, _S.PARTLY_FILLED, _S.FILLED, _S.CANCELING, _S.REJECTED, _S.CANCELED, _S.EXPIRED}),
    _S.DENIED: frozenset(),
    _S.FILLED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.CANCELED: frozenset(),
    _S.EXPIRED: frozenset(),
}


class Order:
    """One order and all that is known of it; owned by the tracker."""

    __slots__ = (
        "amend_ticks",
        "cancel_ns",
        "cancel_rejects",
        "filled_lots",
        "intent",
        "is_amendable",
        "is_marked",
        "limit_ticks",
        "pegged_ns",
        "queried_ns",
        "since_ns",
        "state",
        "unknown_why",
    )

    def __init__(self, intent: OrderIntent) -> None:
        self.intent = intent
        self.state = OrderState.INTENDED
        self.filled_lots = 0
        self.limit_ticks = intent.limit_ticks  # 0 while an amend whose outcome was lost leaves it open
        self.amend_ticks = 0  # where an amend under way would move it, 0 if none is
        self.is_amendable = True  # until the venue refuses an amend
        self.is_marked = False  # whether a fill of it was marked as a hedge
        self.since_ns = intent.decided_ns
        self.pegged_ns = intent.decided_ns  # when its limit was last chosen
        self.cancel_ns = 0
        self.cancel_rejects = 0
        self.queried_ns = 0
        self.unknown_why = ""

    @property
    def remaining_lots(self) -> int:
        """Signed lots that may still trade."""
        return 0 if self.state.is_terminal else self.intent.qty_lots - self.filled_lots

    @property
    def may_rest(self) -> bool:
        """Tell whether the order may stay open without an answer being overdue."""
        return self.intent.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY)

    @property
    def is_transaction(self) -> bool:
        """Tell whether the order waits for a block of a chain, not for an answer."""
        return self.intent.gas is not None

    @property
    def is_working(self) -> bool:
        """Tell whether the order rests or is about to, and nobody doubts it."""
        return self.may_rest and not self.is_doubtful and not self.state.is_terminal

    @property
    def is_doubtful(self) -> bool:
        """Tell whether what remains may be gone already: its outcome is unknown, or it is being canceled."""
        return self.state is OrderState.UNKNOWN or self.state is OrderState.CANCELING


class Streak(NamedTuple):
    """Orders in a row on one instrument that came to nothing in the same way, and when the last one did."""

    times: int
    last_ns: int


class OrderTracker:
    """The orders of a run by client order id: every live one, and the newest of those that are over."""

    def __init__(
        self, max_finished: int = MAX_FINISHED, max_seen: int = MAX_SEEN, max_reversible: int = MAX_REVERSIBLE
    ) -> None:
        self.orders: dict[str, Order] = {}
        self.live: dict[str, Order] = {}
        self.reject_streaks: dict[str, Streak] = {}  # by instrument
        self.lost_streaks: dict[str, Streak] = {}  # by instrument: orders that provably never reached their venue
        self.post_only_rejects = 0
        self.last_reject = ""  # what was said of the newest rejected order
        self._max_finished = max_finished
        self._max_seen = max_seen
        self._finished: deque[str] = deque()
        # by instrument, as venues count trades per instrument; oldest first
        self._seen_trades: dict[str, OrderedDict[str, None]] = {}
        self._max_reversible = max_reversible
        # by instrument and trade, oldest first: the newest fills, and when those that were taken back were
        self._reversible: OrderedDict[tuple[str, str], Fill] = OrderedDict()
        self._reversed_ns: OrderedDict[tuple[str, str], int] = OrderedDict()
        self.contradiction = ""  # the first thing a venue said that cannot be; the engine halts on it

    def intend(self, intent: OrderIntent) -> Order:
        """Start tracking an intent and return its order. Raises InvariantBroken if the id was used before."""
        if intent.order_id in self.orders:
            raise InvariantBroken(f"order id {intent.order_id} was issued twice")
        order = Order(intent)
        self.orders[intent.order_id] = order
        self.live[intent.order_id] = order
        return order

    def reject_streak_of(self, instrument_id: str) -> int:
        """Return how many orders on an instrument were rejected in a row."""
        streak = self.reject_streaks.get(instrument_id)
        return streak.times if streak is not None else 0

    def has_seen(self, instrument_id: str, trade_id: str) -> bool:
        """Tell whether a trade was booked, among the newest of its instrument."""
        return trade_id in self._seen_trades.get(instrument_id, ())

    def apply(self, event: OrderEvent) -> list[Fill]:  # noqa: C901, PLR0912 — one branch per kind of message
        """Take in the venue's word; return the fills not seen before."""
        if isinstance(event, Fill):
            return self._take_fills((event,))
        if isinstance(event, FillReversed):
            self.reverse(event)
            return []
        order = self.orders.get(getattr(event, "order_id", ""))
        if order is not None and isinstance(event, OrderAccepted) and _is_pending_again(order, event):
            self._reopen(order, event.ts_recv_ns, "")
        if order is None or (order.state.is_terminal and not isinstance(event, OrderTruth)):
            return []
        if isinstance(event, OrderSent):
            if order.state is OrderState.INTENDED:
                self._move(order, OrderState.SENT, event.ts_recv_ns)
        elif isinstance(event, OrderAccepted):
            if order.state in (OrderState.SENT, OrderState.INTENDED, OrderState.UNKNOWN):
                self._move(order, OrderState.PARTLY_FILLED if order.filled_lots else OrderState.OPEN, event.ts_recv_ns)
            self._note_arrival(order)
        elif isinstance(event, OrderRejected):
            self._move(order, OrderState.REJECTED, event.ts_recv_ns)
            self._note_reject(order, event)
        elif isinstance(event, OrderCanceled):
            self._move(order, OrderState.EXPIRED if event.is_expired else OrderState.CANCELED, event.ts_recv_ns)
        elif isinstance(event, CancelRejected):
            if order.state is OrderState.CANCELING:
                self._take_cancel_reject(order, event)
        elif isinstance(event, OrderAmended):
            order.limit_ticks, order.amend_ticks = event.limit_ticks, 0
        elif isinstance(event, AmendRejected):
            order.amend_ticks, order.is_amendable = 0, False
        elif isinstance(event, OutcomeLost):
            order.unknown_why = event.why
            self._move(order, OrderState.UNKNOWN, event.ts_recv_ns)
        elif isinstance(event, OrderTruth):
            if order.amend_ticks:
                order.limit_ticks = order.amend_ticks = 0  # the truth is silent about the limit
            fills = self._take_fills(event.fills)
            state = event.state
            if state is OrderState.FILLED and order.filled_lots != order.intent.qty_lots:
                if not event.is_complete:
                    return fills  # the venue's trades lag behind its orders: not known before every fill is
                state = OrderState.EXPIRED  # of an order the venue made smaller nothing is left
            if order.state is OrderState.UNKNOWN and state is OrderState.OPEN and _is_void(order, event.ts_recv_ns):
                return fills  # it waits for a block in which it would do nothing: that is no hedge under way
            if order.state is OrderState.UNKNOWN or (state.is_terminal and not order.state.is_terminal):
                self._note_truth(order, event)
                is_partly = state is OrderState.OPEN and order.filled_lots
                self._move(order, OrderState.PARTLY_FILLED if is_partly else state, event.ts_recv_ns)
            return fills
        return []

    def reverse(self, event: FillReversed) -> Fill | None:
        """Take back a fill whose block left the chain; return it, None if it is not booked.

        Its lots are pending again: a transaction is sent again by those who hold its bytes and waits for a block; what
        became of any other order its venue has to say. Nothing else leaves a final state.
        """
        trade = (event.instrument_id, event.trade_id)
        if not self.has_seen(*trade):
            return None
        fill = self._reversible.get(trade)
        if fill is None:
            self._note_contradiction(f"trade {event.trade_id} of {event.instrument_id} is too old to be taken back")
            return None
        if event.ts_recv_ns < fill.ts_recv_ns:
            return None  # said before this fill was: it took back an earlier one, and is only told again
        del self._reversible[trade]
        del self._seen_trades[event.instrument_id][event.trade_id]
        self._reversed_ns[trade] = event.ts_recv_ns
        if len(self._reversed_ns) > self._max_reversible:
            self._reversed_ns.popitem(last=False)
        order = self.orders.get(fill.order_id)
        if order is not None:
            order.filled_lots -= fill.qty_lots
            self._reopen(order, event.ts_recv_ns, f"a fill was taken back: {event.reason}")
        return fill

    def doubt_all(self, now_ns: int, why: str) -> None:
        """Make every order without a final answer UNKNOWN."""
        for order in self.live.values():
            self._doubt(order, now_ns, why)

    def doubt_silent(self, now_ns: int, timeout_ns: int) -> None:
        """Make UNKNOWN what should have been answered by now: anything but an order that may rest.

        A transaction that a node took is pending for as many blocks as it takes until its own deadline.
        """
        for order in self.live.values():
            asked_ns = due_ns = order.since_ns
            gas = order.intent.gas
            if gas is not None and order.state in _PENDING:
                due_ns = max(due_ns, gas.deadline_ns + DEADLINE_MARGIN_NS)
            if order.may_rest and order.state in (OrderState.OPEN, OrderState.PARTLY_FILLED):
                if not order.amend_ticks:
                    continue
                asked_ns = due_ns = order.pegged_ns
            if now_ns - due_ns > timeout_ns:
                self._doubt(order, now_ns, f"no answer for {(now_ns - asked_ns) / NS_PER_S:.1f} s")

    def doubt_absent(self, order: Order, now_ns: int, why: str) -> None:
        """Make an order UNKNOWN that its venue does not show, to be asked about at once."""
        self._doubt(order, now_ns, why)
        order.queried_ns = 0

    def request_cancel(self, order: Order, now_ns: int) -> None:
        """Note that a cancel is on its way; until answered the order may still fill."""
        order.cancel_ns = now_ns
        if order.state is not OrderState.UNKNOWN:
            self._move(order, OrderState.CANCELING, now_ns)

    def request_amend(self, order: Order, limit_ticks: int, now_ns: int) -> None:
        """Note that an amend is on its way; until answered the order may fill at its old limit or at the new one."""
        order.amend_ticks = limit_ticks
        order.pegged_ns = now_ns

    def live_instruments(self) -> Iterator[str]:
        """Yield the instrument of every order that is not over."""
        return (order.intent.instrument_id for order in self.live.values())

    def unknown(self) -> Iterator[Order]:
        """Yield the orders whose outcome is not known."""
        return (order for order in self.live.values() if order.state is OrderState.UNKNOWN)

    def _doubt(self, order: Order, now_ns: int, why: str) -> None:
        if order.state is not OrderState.UNKNOWN:
            order.unknown_why = why
            self._move(order, OrderState.UNKNOWN, now_ns)

    def _note_reject(self, order: Order, event: OrderRejected) -> None:
        """Count a reject; that a post-only order came too late for its price says nothing against the venue."""
        if event.is_crossing and order.intent.time_in_force is TimeInForce.POST_ONLY:
            self.post_only_rejects += 1
            return
        self.last_reject = event.reason
        instrument_id = order.intent.instrument_id
        self.reject_streaks[instrument_id] = Streak(self.reject_streak_of(instrument_id) + 1, event.ts_recv_ns)

    def _note_truth(self, order: Order, event: OrderTruth) -> None:
        """Count an order in doubt that never arrived: the venue's way in is not open, whatever its prices do.

        Those that left before this was known count as one.
        """
        instrument_id = order.intent.instrument_id
        if event.state is not OrderState.REJECTED:
            self._note_arrival(order)
        elif order.state is OrderState.UNKNOWN and not order.filled_lots:
            last = self.lost_streaks.get(instrument_id, Streak(0, 0))
            is_another = order.intent.decided_ns > last.last_ns
            self.lost_streaks[instrument_id] = Streak(last.times + is_another, event.ts_recv_ns)

    def _note_arrival(self, order: Order) -> None:
        """Forget what went wrong before: this order reached the venue, and it took it."""
        self.reject_streaks.pop(order.intent.instrument_id, None)
        self.lost_streaks.pop(order.intent.instrument_id, None)

    def _take_cancel_reject(self, order: Order, event: CancelRejected) -> None:
        """Take the order as it was before; if it cannot be canceled again and again, it may be over: ask."""
        order.cancel_rejects += 1
        if order.cancel_rejects >= MAX_CANCEL_REJECTS:
            order.cancel_rejects = 0
            self._doubt(order, event.ts_recv_ns, f"its cancel was refused twice: {event.reason}")
        else:
            self._move(order, OrderState.PARTLY_FILLED if order.filled_lots else OrderState.OPEN, event.ts_recv_ns)

    def _note_contradiction(self, text: str) -> None:
        """Remember what cannot be true. Whoever is right, the venue's word is what our position rests on."""
        self.contradiction = self.contradiction or text

    def _take_fills(self, fills: tuple[Fill, ...]) -> list[Fill]:
        new = []
        for fill in fills:
            if self.has_seen(fill.instrument_id, fill.trade_id) or self._is_of_the_past(fill):
                continue
            self._remember_trade(fill)
            new.append(fill)
            order = self.orders.get(fill.order_id)
            if order is None:
                continue
            self._note_arrival(order)
            order.filled_lots += fill.qty_lots
            ordered_lots = order.intent.qty_lots
            if fill.qty_lots * ordered_lots <= 0 or abs(order.filled_lots) > abs(ordered_lots):
                self._note_contradiction(
                    f"order {fill.order_id} of {ordered_lots} lots was filled {order.filled_lots} lots"
                )
            if order.state.is_terminal:
                continue  # a late fill: the position follows it, the order stays over
            if order.filled_lots * ordered_lots >= ordered_lots * ordered_lots:
                self._move(order, OrderState.FILLED, fill.ts_recv_ns)
            elif not order.is_doubtful:  # a fill says nothing of what remains
                self._move(order, OrderState.PARTLY_FILLED, fill.ts_recv_ns)
        return new

    def _is_of_the_past(self, fill: Fill) -> bool:
        """Tell whether a fill is only told again that was taken back since; one told later counts anew."""
        if not self._reversed_ns:
            return False
        return fill.ts_recv_ns < self._reversed_ns.get((fill.instrument_id, fill.trade_id), 0)

    def _remember_trade(self, fill: Fill) -> None:
        seen = self._seen_trades.setdefault(fill.instrument_id, OrderedDict())
        seen[fill.trade_id] = None
        if len(seen) > self._max_seen:
            seen.popitem(last=False)
        self._reversible[fill.instrument_id, fill.trade_id] = fill
        if len(self._reversible) > self._max_reversible:
            self._reversible.popitem(last=False)

    def _reopen(self, order: Order, now_ns: int, why: str) -> None:
        """Let an order be pending again whose end, or a fill of it, was taken back; one in doubt stays in doubt."""
        if order.state.is_terminal:
            self._finished.remove(order.intent.order_id)
            self.live[order.intent.order_id] = order
        elif order.is_doubtful:
            return
        if order.is_transaction:
            order.state = OrderState.PARTLY_FILLED if order.filled_lots else OrderState.OPEN
        else:
            order.state, order.unknown_why, order.queried_ns = OrderState.UNKNOWN, why, 0
        order.since_ns = now_ns

    def _finish(self, order_id: str) -> None:
        """Let go of an order that is over, and of the oldest such ones altogether."""
        if self.live.pop(order_id, None) is None:
            return
        self._finished.append(order_id)
        if len(self._finished) > self._max_finished:
            del self.orders[self._finished.popleft()]

    def _move(self, order: Order, state: OrderState, now_ns: int) -> None:
        if order.state is state:
            return
        previous = order.state
        if previous is OrderState.INTENDED and state not in ALLOWED[previous]:
            previous = OrderState.SENT  # the venue may answer before our own note of sending arrives
        if state not in ALLOWED[previous]:
            self._note_contradiction(f"order {order.intent.order_id} went from {order.state} to {state}")
        order.state = state
        order.since_ns = now_ns
        if state.is_terminal:
            self._finish(order.intent.order_id)


def _is_void(order: Order, now_ns: int) -> bool:
    """Tell whether a transaction is so late that it only fills if it is in a block already, which nobody told yet."""
    gas = order.intent.gas
    return gas is not None and 0 < gas.deadline_ns + DEADLINE_MARGIN_NS < now_ns


def _is_pending_again(order: Order, event: OrderAccepted) -> bool:
    """Tell whether a node took a transaction anew after it had failed: in a block that is no more.

    One that filled is over until its fill is taken back, and a word from before the end is only told again.
    """
    is_over = order.state.is_terminal and order.state is not OrderState.FILLED
    return is_over and order.is_transaction and event.ts_recv_ns > order.since_ns
