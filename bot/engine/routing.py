"""Where a hedge may go: what is known of venues and listings, and how much more may be at stake at each of them.

An instrument is refused for a reason of its own, and the same need then goes to the next one. Whatever is in flight
anywhere counts: routing chooses the place of an order, never its size beyond what the need leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import NamedTuple

from bot.domain.decisions import Refusal
from bot.domain.instruments import Hedgeable, Instrument
from bot.domain.units import NS_PER_MIN, NS_PER_S
from bot.domain.venues import InstrumentDelisted, VenueHealth, VenueStatus
from bot.engine.book import Holding
from bot.engine.orders import OrderTracker

REFUSING_FOR_NS = 5 * NS_PER_MIN  # an instrument whose orders were refused in a row is tried again after this long
LOSING_FOR_NS = 30 * NS_PER_S  # one whose order never arrived comes after the others for this long, per such order


class Blocked(NamedTuple):
    """Why one hedge instrument cannot be traded now."""

    instrument_id: str
    refusal: Refusal
    why: str


class Span(NamedTuple):
    """What one instrument's position may become in lots, whichever of its live orders fill."""

    low_lots: int
    high_lots: int


class VenueBoard:
    """The newest word of every venue about itself and its listings; a venue never heard of counts as up."""

    def __init__(self) -> None:
        self.statuses: dict[str, VenueStatus] = {}
        self.delisted: dict[str, str] = {}

    def apply_status(self, event: VenueStatus) -> None:
        """Take in how a venue is from now on."""
        self.statuses[event.venue] = event

    def apply_delisting(self, event: InstrumentDelisted) -> None:
        """Never trade this instrument again in this run; its position stays in the books."""
        self.delisted[event.instrument_id] = event.reason

    def health_of(self, venue: str) -> VenueHealth:
        """Return how a venue is."""
        status = self.statuses.get(venue)
        return status.health if status is not None else VenueHealth.UP

    def is_delisted(self, instrument_id: str) -> bool:
        """Tell whether the venue no longer lists the instrument as it was."""
        return instrument_id in self.delisted

    def find_block(self, instrument: Instrument) -> Blocked | None:
        """Return why nothing can be traded on the instrument as its venue stands, if so."""
        instrument_id = instrument.instrument_id
        if instrument_id in self.delisted:
            return Blocked(instrument_id, Refusal.DELISTED, f"{instrument_id}: {self.delisted[instrument_id]}")
        status = self.statuses.get(instrument.venue)
        if status is None or status.health is VenueHealth.UP:
            return None
        refusal = Refusal.VENUE_DOWN if status.health is VenueHealth.DOWN else Refusal.VENUE_FATAL
        return Blocked(instrument_id, refusal, f"{instrument.venue} is {status.health}: {status.reason}")

    def find_fatal(self, instruments: Iterable[Hedgeable]) -> str | None:
        """Return what only a person can mend, if every instrument still listed is on a venue that waits for one."""
        listed = [one for one in instruments if not self.is_delisted(one.instrument_id)]
        if not listed or any(self.health_of(one.venue) is not VenueHealth.FATAL for one in listed):
            return None
        venues = dict.fromkeys(one.venue for one in listed)
        return "; ".join(f"{venue}: {self.statuses[venue].reason}" for venue in venues)


def find_refusing(orders: OrderTracker, instrument: Instrument, max_streak: int, now_ns: int) -> Blocked | None:
    """Return why an instrument is left alone after rejects in a row, if it is."""
    instrument_id = instrument.instrument_id
    streak = orders.reject_streaks.get(instrument_id)
    if streak is None or streak.times < max_streak or now_ns - streak.last_ns >= REFUSING_FOR_NS:
        return None
    why = f"{streak.times} orders rejected in a row, limit {max_streak}"
    return Blocked(instrument_id, Refusal.VENUE_REFUSING, f"{instrument.venue}: {why}")


def find_losing(orders: OrderTracker, instrument: Hedgeable, now_ns: int) -> Blocked | None:
    """Return why an instrument comes after all others, if its last orders never arrived; alone it is tried again."""
    instrument_id = instrument.instrument_id
    streak = orders.lost_streaks.get(instrument_id)
    if streak is None or now_ns - streak.last_ns >= min(streak.times * LOSING_FOR_NS, REFUSING_FOR_NS):
        return None
    why = f"orders never arrived, {streak.times} times in a row" if streak.times > 1 else "the last order never arrived"
    return Blocked(instrument_id, Refusal.VENUE_REFUSING, f"{instrument.venue}: {why}")


def explain_blocks(blocks: list[Blocked]) -> tuple[Refusal, str]:
    """Return the refusal of the most preferred instrument, and why each one is out."""
    if len(blocks) == 1:
        return blocks[0].refusal, blocks[0].why
    return blocks[0].refusal, "; ".join(f"{one.instrument_id}: {one.refusal}, {one.why}" for one in blocks)


def span_of(holding: Holding, orders: OrderTracker) -> Span:
    """Return what a position may become: live orders fill in any part, an unknown one may also have."""
    instrument_id = holding.instrument.instrument_id
    low_lots = high_lots = holding.lots
    for order in orders.live.values():
        if order.intent.instrument_id == instrument_id:
            remaining_lots = order.remaining_lots
            if remaining_lots < 0:
                low_lots += remaining_lots
            else:
                high_lots += remaining_lots
    return Span(low_lots, high_lots)


def room_lots(
    holding: Holding, side: int, holdings: Iterable[Holding], orders: OrderTracker, limits: Mapping[str, float]
) -> float:
    """Return the most lots that may be ordered on `side` (1 buys, −1 sells) within its venue's exposure limit.

    At stake is the largest position that live orders may still lead to, of every hedge at that venue, at its newest
    mark; infinite without a limit, below zero beyond it.
    """
    venue = holding.instrument.venue
    limit_quote = limits.get(venue)
    if limit_quote is None:
        return inf
    for other in holdings:
        if other is not holding and other.instrument.venue == venue:
            span = span_of(other, orders)
            limit_quote -= max(abs(span.low_lots), abs(span.high_lots)) * lot_quote(other)
    span = span_of(holding, orders)
    reached_lots = span.high_lots if side > 0 else -span.low_lots
    # beyond the limit by what others hold, as options whose deltas grew, what is held here may still shrink to nothing
    return (max(0.0, limit_quote) / lot_quote(holding) + 1e-9) // 1 - reached_lots


def lot_quote(holding: Holding) -> float:
    """Return the value of one lot in quote money at the newest mark."""
    return holding.lot_size if holding.is_inverse else holding.lot_size * holding.mark_px


def in_flight(orders: OrderTracker, lot_base_of: Mapping[str, float]) -> tuple[float, float, float]:
    """Return (pending, lowest unknown, highest unknown) in base units over all instruments of the mapping.

    An order counts in full; one of unknown outcome, or being canceled, may still trade anything from nothing on.
    """
    pending = low = high = 0.0
    for instrument_id, lot_base in lot_base_of.items():
        pending_lots = low_lots = high_lots = 0
        for order in orders.live.values():
            if order.intent.instrument_id != instrument_id:
                continue
            remaining_lots = order.remaining_lots
            if not order.is_doubtful:
                pending_lots += remaining_lots
            elif remaining_lots < 0:
                low_lots += remaining_lots
            else:
                high_lots += remaining_lots
        pending += pending_lots * lot_base
        low += low_lots * lot_base
        high += high_lots * lot_base
    return pending, low, high


def age_text(what: str, age_ns: int, limit_ns: int) -> str:
    """Say how old an input is and may be."""
    return f"{what} is {age_ns / NS_PER_S:.0f} s old, limit {limit_ns / NS_PER_S:.0f} s"
