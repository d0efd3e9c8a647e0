"""Orders as a state machine: what we sent, what the venue said, and what may still happen to our position.

An outcome is never guessed. Whatever is ambiguous is UNKNOWN, and only the venue's word leaves UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Iterator

from bot.domain.errors import InvariantBroken
from bot.domain.orders import (
    CancelRejected,
    Fill,
    OrderAccepted,
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

_S = OrderState

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

    __slots__ = ("filled_lots", "intent", "queried_ns", "since_ns", "state", "unknown_why")

    def __init__(self, intent: OrderIntent) -> None:
        self.intent = intent
        self.state = OrderState.INTENDED
        self.filled_lots = 0
        self.since_ns = intent.decided_ns
        self.queried_ns = 0
        self.unknown_why = ""

    @property
    def remaining_lots(self) -> int:
        """Signed lots that may still trade."""
        return 0 if self.state.is_terminal else self.intent.qty_lots - self.filled_lots


class OrderTracker:
    """Every order of a run, by client order id."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.live: dict[str, Order] = {}
        self.seen_trades: set[tuple[str, str]] = set()  # (instrument, trade id): venues count per instrument
        self.reject_streak = 0
        self.contradiction = ""  # the first thing a venue said that cannot be; the engine halts on it

    def intend(self, intent: OrderIntent) -> Order:
        """Start tracking an intent and return its order. Raises InvariantBroken if the id was used before."""
        if intent.order_id in self.orders:
            raise InvariantBroken(f"order id {intent.order_id} was issued twice")
        order = Order(intent)
        self.orders[intent.order_id] = order
        self.live[intent.order_id] = order
        return order

    def apply(self, event: OrderEvent) -> list[Fill]:  # noqa: C901 — one branch per kind of message
        """Take in the venue's word; return the fills not seen before."""
        if isinstance(event, Fill):
            return self._take_fills((event,))
        order = self.orders.get(getattr(event, "order_id", ""))
        if order is None or (order.state.is_terminal and not isinstance(event, OrderTruth)):
            return []
        if isinstance(event, OrderSent):
            if order.state is OrderState.INTENDED:
                self._move(order, OrderState.SENT, event.ts_recv_ns)
        elif isinstance(event, OrderAccepted):
            if order.state in (OrderState.SENT, OrderState.INTENDED, OrderState.UNKNOWN):
                self._move(order, OrderState.PARTLY_FILLED if order.filled_lots else OrderState.OPEN, event.ts_recv_ns)
            self.reject_streak = 0
        elif isinstance(event, OrderRejected):
            self._move(order, OrderState.REJECTED, event.ts_recv_ns)
            self.reject_streak += 1
        elif isinstance(event, OrderCanceled):
            self._move(order, OrderState.EXPIRED if event.is_expired else OrderState.CANCELED, event.ts_recv_ns)
        elif isinstance(event, CancelRejected):
            if order.state is OrderState.CANCELING:
                self._move(order, OrderState.PARTLY_FILLED if order.filled_lots else OrderState.OPEN, event.ts_recv_ns)
        elif isinstance(event, OutcomeLost):
            order.unknown_why = event.why
            self._move(order, OrderState.UNKNOWN, event.ts_recv_ns)
        elif isinstance(event, OrderTruth):
            fills = self._take_fills(event.fills)
            if event.state is OrderState.FILLED and order.filled_lots != order.intent.qty_lots:
                return fills  # the venue's trades lag behind its orders: not known before every fill is
            if order.state is OrderState.UNKNOWN or (event.state.is_terminal and not order.state.is_terminal):
                is_partly = event.state is OrderState.OPEN and order.filled_lots
                self._move(order, OrderState.PARTLY_FILLED if is_partly else event.state, event.ts_recv_ns)
            return fills
        return []

    def doubt_all(self, now_ns: int, why: str) -> None:
        """Make every order without a final answer UNKNOWN."""
        for order in self.live.values():
            self._doubt(order, now_ns, why)

    def doubt_silent(self, now_ns: int, timeout_ns: int) -> None:
        """Make UNKNOWN what should have been answered by now: anything but an order that may rest."""
        for order in self.live.values():
            may_rest = order.intent.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY)
            if may_rest and order.state in (OrderState.OPEN, OrderState.PARTLY_FILLED):
                continue
            if now_ns - order.since_ns > timeout_ns:
                self._doubt(order, now_ns, f"no answer for {(now_ns - order.since_ns) / NS_PER_S:.1f} s")

    def doubt_absent(self, order: Order, now_ns: int, why: str) -> None:
        """Make an order UNKNOWN that its venue does not show, to be asked about at once."""
        self._doubt(order, now_ns, why)
        order.queried_ns = 0

    def request_cancel(self, order: Order, now_ns: int) -> None:
        """Note that a cancel is on its way; until answered the order may still fill."""
        if order.state is not OrderState.UNKNOWN:
            self._move(order, OrderState.CANCELING, now_ns)

    def unknown(self) -> Iterator[Order]:
        """Yield the orders whose outcome is not known."""
        return (order for order in self.live.values() if order.state is OrderState.UNKNOWN)

    def _doubt(self, order: Order, now_ns: int, why: str) -> None:
        if order.state is not OrderState.UNKNOWN:
            order.unknown_why = why
            self._move(order, OrderState.UNKNOWN, now_ns)

    def _note_contradiction(self, text: str) -> None:
        """Remember what cannot be true. Whoever is right, the venue's word is what our position rests on."""
        self.contradiction = self.contradiction or text

    def _take_fills(self, fills: tuple[Fill, ...]) -> list[Fill]:
        new = []
        for fill in fills:
            trade = (fill.instrument_id, fill.trade_id)
            if trade in self.seen_trades:
                continue
            self.seen_trades.add(trade)
            new.append(fill)
            order = self.orders.get(fill.order_id)
            if order is None:
                continue
            self.reject_streak = 0
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
            elif order.state is not OrderState.CANCELING:
                self._move(order, OrderState.PARTLY_FILLED, fill.ts_recv_ns)
        return new

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
            self.live.pop(order.intent.order_id, None)
