"""What the engine itself sees that forbids taking more risk for a while: moves, gaps, slippage, failures, silence.

What a breaker refuses is what does not shrink a net delta, rolls and options included; hedging and reducing go on. An
account's depth is seen by nobody here, so that breaker never trips. Must never trade.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from bot.domain.orders import (
    Fill,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderRejected,
    OrderState,
    OrderTruth,
    OutcomeLost,
)
from bot.domain.risk import CollateralPrice
from bot.domain.units import BPS, NS_PER_S
from bot.engine.desk import Desk
from bot.engine.margin.risk_settings import RiskSettings
from bot.engine.orders import OrderTracker
from bot.risk.breakers import BreakerRule, Breakers, Tripped

MAX_CHANGES = 200
LOOK_EVERY_NS = NS_PER_S // 2  # a price in between is noted where it moved by …
LEAST_MOVE = 0.0005


class BreakerBoard:
    """The breakers of every underlying of a vault, each by the rule of its asset class."""

    def __init__(self, rule: BreakerRule, risk: RiskSettings, desks: Iterable[Desk]) -> None:
        self.changes: deque[tuple[int, str]] = deque(maxlen=MAX_CHANGES)
        self.change_count = self.trip_count = 0
        self._desks = {desk.underlying: desk for desk in desks}
        self._of = {
            name: Breakers(risk.classes.of(name).parameters.breaker_rule(rule) if risk.classes is not None else rule)
            for name in self._desks
        }
        self._desk_of = {name: desk for desk in self._desks.values() for name in desk.holdings}
        self._subjects = {
            name: {name, *desk.holdings, *(one.instrument.venue for one in desk.holdings.values())}
            for name, desk in self._desks.items()
        }
        self._open: dict[str, tuple[Tripped, ...]] = dict.fromkeys(self._desks, ())
        self._last_px = dict.fromkeys(self._desks, 0.0)
        self._due_ns = 0
        self._was_open: set[tuple[str, str, str]] = set()

    def look(self, now_ns: int) -> None:
        """Hold every price against the lately highest and lowest, and tell what is open now."""
        is_due = now_ns >= self._due_ns
        if is_due:
            self._due_ns = now_ns + LOOK_EVERY_NS
        for name, desk in self._desks.items():
            px, last_px = desk.book.marks_of_underlying.index_px, self._last_px[name]
            if px > 0.0 and (is_due or abs(px - last_px) > LEAST_MOVE * last_px):
                self._last_px[name] = px
                self._of[name].note_price(name, px, now_ns)
                is_due = True
        if not is_due:
            return
        for name, breakers in self._of.items():
            self._open[name] = breakers.tripped(now_ns)
        if self._was_open or any(self._open.values()):
            self._note_changes(now_ns)

    def doubt(self, underlying: str) -> str:
        """Return why no risk may be added to an underlying, "" if it may."""
        subjects = self._subjects[underlying]
        return "; ".join(
            [f"breaker {one.breaker}: {one.reason}" for one in self._open[underlying] if one.subject in subjects]
        )

    def tripped(self) -> tuple[Tripped, ...]:
        """Return everything that is open as of the last decision."""
        return tuple(dict.fromkeys(one for found in self._open.values() for one in found))

    def take_price(self, event: CollateralPrice) -> None:
        """Hold a venue's own index of a coin against ours."""
        breakers = self._of.get(event.asset)
        if breakers is not None:
            breakers.note_venue_index(event.venue, event.asset, event.px, event.ts_recv_ns)

    def take_order_event(self, event: OrderEvent, orders: OrderTracker) -> None:
        """Count what became of an order; called before the order itself learns of it."""
        if not isinstance(event, OrderAccepted | OrderRejected | OrderCanceled | OrderTruth | OutcomeLost | Fill):
            return
        order = orders.orders.get(event.order_id)
        desk = self._desk_of.get(order.intent.instrument_id) if order is not None else None
        if order is None or desk is None:
            return
        breakers, now_ns = self._of[desk.underlying], event.ts_recv_ns
        if isinstance(event, OrderAccepted | OrderRejected | OutcomeLost):
            venue = desk.holdings[order.intent.instrument_id].instrument.venue
            breakers.note_request(venue, now_ns, is_failed=isinstance(event, OutcomeLost))
        is_void = order.filled_lots == 0 and (
            (isinstance(event, OrderRejected) and not event.is_crossing)
            or (isinstance(event, OrderCanceled) and event.is_expired)
            or (isinstance(event, OrderTruth) and event.state is OrderState.REJECTED and not event.fills)
        )
        if is_void or (isinstance(event, Fill) and event.qty_lots):
            breakers.note_hedge(desk.underlying, now_ns, is_done=not is_void)

    def note_slippage(self, desk: Desk, fill: Fill, base: float, slippage_quote: float) -> None:
        """Hold what a hedge cost beyond the middle against half the spread and what its limit allows beyond that."""
        quote = desk.book.market.quotes.get(fill.instrument_id)
        allowed_bps = next(
            one.max_slippage_bps for one in desk.hedges if one.instrument.instrument_id == fill.instrument_id
        )
        half_spread_px = 0.5 * (quote.ask_px - quote.bid_px) if quote is not None else 0.0
        budget_quote = abs(base) * (fill.px * allowed_bps * BPS + half_spread_px)
        self._of[desk.underlying].note_fill(fill.instrument_id, -slippage_quote, budget_quote, fill.ts_recv_ns)

    def _note_changes(self, now_ns: int) -> None:
        now_open = {(name, str(one.breaker), one.subject): one for name, found in self._open.items() for one in found}
        for key, one in now_open.items():
            if key not in self._was_open:
                self.trip_count += 1
                self._tell(now_ns, f"{one.breaker}: {one.reason}")
        for name, breaker, subject in sorted(self._was_open - now_open.keys()):
            self._tell(now_ns, f"{breaker} of {subject or name} is over")
        self._was_open = set(now_open)

    def _tell(self, now_ns: int, line: str) -> None:
        self.change_count += 1
        self.changes.append((now_ns, line))
