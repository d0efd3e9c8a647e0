"""A world in virtual time: a recording and a simulated venue, stepped from one moment something reaches us to the next.

The venue sees every market event at the venue's time, we see it one feed latency later, and an order is matched against
what the venue shows when it arrives: nobody looks ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from bot.domain.events import Command, Event, SubmitOrder
from bot.domain.market import MarketEvent
from bot.domain.orders import OrderSent
from bot.simulation.venue import SimulatedVenue

_NEVER_NS = 2**63 - 1


class World:
    """Steps through `batches` (market events grouped by receive time, in order) and the venue's answers."""

    def __init__(self, batches: Iterator[list[MarketEvent]], venue: SimulatedVenue) -> None:
        self._batches = batches
        self.venue = venue
        self._shown: deque[list[MarketEvent]] = deque()  # seen by the venue, still on their way to us
        self._next = next(batches, None)
        self._sent: list[Event] = []

    def step(self) -> tuple[int, list[Event]] | None:
        """Return the next moment and the events that reach us at it; None once nothing more will happen."""
        venue = self.venue
        shown = self._shown
        while True:
            upcoming = self._next
            if upcoming is not None and not shown:
                market_ns = upcoming[0].ts_recv_ns
            else:
                market_ns = shown[0][0].ts_recv_ns if shown else _NEVER_NS
            venue_ns = venue.next_event_ns()
            now_ns = market_ns if venue_ns is None or market_ns <= venue_ns else venue_ns
            if upcoming is not None and upcoming[0].ts_event_ns <= now_ns:
                for event in upcoming:
                    venue.on_market(event)
                shown.append(upcoming)
                self._next = next(self._batches, None)
                continue
            if now_ns == _NEVER_NS:
                return None
            events: list[Event] = self._sent
            self._sent = []
            if venue_ns is not None and venue_ns <= now_ns:
                events.extend(venue.advance(now_ns))
            if market_ns == now_ns:
                events.extend(shown.popleft())
            if events:
                return now_ns, events

    def submit(self, command: Command, now_ns: int) -> None:
        """Hand a command to the venue; the hand-off itself is reported with the next events."""
        self.venue.submit(command, now_ns)
        if isinstance(command, SubmitOrder):
            self._sent.append(OrderSent(command.intent.order_id, now_ns))
