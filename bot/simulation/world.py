"""A world in virtual time: a recording and a simulated venue, stepped from one moment something reaches us to the next.

The venue sees every market event at the venue's time, we see it one feed latency later, and an order is matched against
what the venue shows when it arrives: nobody looks ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from bot.domain.events import Command, Event, SubmitOrder
from bot.domain.market import MarketEvent
from bot.domain.orders import OrderSent
from bot.simulation.venue import NEVER_NS


class Venue(Protocol):
    """What a world needs of a venue: `SimulatedVenue` and `SimulatedChain` are such."""

    @property
    def positions(self) -> dict[str, int]:
        """Signed lots by instrument id, flat ones left out."""

    @property
    def cash_settle(self) -> dict[str, float]:
        """Money by currency, from 0."""

    def on_market(self, event: MarketEvent) -> None:
        """Take in what happened on the market, in the order it happened."""

    def submit(self, command: Command, now_ns: int) -> None:
        """Send a command on its way."""

    def next_event_ns(self) -> int | None:
        """Return when `advance` will next have something to do or to tell, None if nothing is under way."""

    def advance(self, now_ns: int) -> Sequence[Event]:
        """Return every message that has reached us by then, in order of receipt."""


class World:
    """Steps through `batches` (market events grouped by receive time, in order) and the venue's answers."""

    def __init__(self, batches: Iterator[list[MarketEvent]], venue: Venue) -> None:
        self._batches = batches
        self.venue = venue
        self._shown: deque[list[MarketEvent]] = deque()  # seen by the venue, still on their way to us
        self._sent: list[Event] = []
        self._next: list[MarketEvent] | None = None
        self._next_ns = NEVER_NS  # when the venue sees it
        self._draw_next()

    def peek_ns(self) -> int | None:
        """Return the next moment anything happens, here or at the venue; None once nothing more will."""
        moments = [moment for moment in (self._market_ns(), self.venue.next_event_ns()) if moment is not None]
        if self._next is not None:
            moments.append(self._next_ns)
        return min(moments, default=None)

    def step(self, until_ns: int = NEVER_NS) -> tuple[int, list[Event]] | None:
        """Return the next moment up to `until_ns` at which something reaches us, and what; None if there is none.

        Commands submitted afterwards must not be older than that moment.
        """
        venue = self.venue
        shown = self._shown
        while True:
            market_ns = self._market_ns()
            venue_ns = venue.next_event_ns()
            now_ns = until_ns
            if market_ns is not None and market_ns < now_ns:
                now_ns = market_ns
            if venue_ns is not None and venue_ns < now_ns:
                now_ns = venue_ns
            upcoming = self._next
            if upcoming is not None and self._next_ns <= now_ns:
                for event in upcoming:
                    venue.on_market(event)
                shown.append(upcoming)
                self._draw_next()
                continue
            events: list[Event] = []
            if venue_ns is not None and venue_ns <= now_ns:
                events.extend(venue.advance(now_ns))
            if market_ns is not None and market_ns <= now_ns:
                events.extend(shown.popleft())
            if events:
                if self._sent:
                    events[:0] = self._sent
                    self._sent = []
                return now_ns, events
            if now_ns == until_ns:
                return None

    def submit(self, command: Command, now_ns: int) -> None:
        """Hand a command to the venue; the hand-off itself is reported with the next events."""
        self.venue.submit(command, now_ns)
        if isinstance(command, SubmitOrder):
            self._sent.append(OrderSent(command.intent.order_id, now_ns))

    def _market_ns(self) -> int | None:
        if self._shown:
            return self._shown[0][0].ts_recv_ns
        return self._next[0].ts_recv_ns if self._next is not None else None

    def _draw_next(self) -> None:
        batch = next(self._batches, None)
        self._next = batch
        self._next_ns = _shown_ns(batch) if batch is not None else NEVER_NS


def _shown_ns(batch: list[MarketEvent]) -> int:
    """Return when the venue showed the newest event of a batch.

    A late copy in it must not draw the others forward in time, nor a stamp from the future hold them back.
    """
    recv_ns = batch[0].ts_recv_ns
    shown_ns = -1
    for event in batch:
        if shown_ns < event.ts_event_ns <= recv_ns:
            shown_ns = event.ts_event_ns
    return shown_ns if shown_ns >= 0 else recv_ns
