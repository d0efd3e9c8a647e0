"""The mailbox between feeds and decisions: keeps the newest quote per instrument, never drops or reorders a fill.

Many feeds may put, one loop takes. A market that runs ahead of us fills it with one quote per instrument at most; kept
one by one is only what a venue or an operator says about us, and what no sound feed sends (the engine counts it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence

from bot.domain.events import Event
from bot.domain.market import IndexPrice, Quote, VolQuote
from bot.engine.market import CLOCK_TOLERANCE_NS, find_fault


class Mailbox:
    """Events waiting for the next decision, in the order they are to be applied."""

    def __init__(self) -> None:
        self._events: dict[Hashable, Event] = {}
        self._now_ns = 0
        self._serial = 0
        self.conflated = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    def put(self, now_ns: int, events: Sequence[Event]) -> None:
        """Add events received at `now_ns`; a newer quote takes the place of one not yet taken."""
        waiting = self._events
        for event in events:
            key = _conflation_key(event)
            older = waiting.get(key)
            if key is None or (older is not None and not _supersedes(event, older)):
                self._serial += 1
                key = self._serial
            elif older is not None:
                del waiting[key]  # the newer one is applied when it came, not when the older one did
                self.conflated += 1
            waiting[key] = event
        self._now_ns = max(self._now_ns, now_ns)
        self._drained.clear()
        self._filled.set()

    async def take(self) -> tuple[int, tuple[Event, ...]]:
        """Wait for events; return the newest receive time and all that is waiting."""
        await self._filled.wait()
        self._filled.clear()
        events = tuple(self._events.values())
        self._events = {}
        return self._now_ns, events

    @property
    def is_drained(self) -> bool:
        """Whether everything put has been decided upon."""
        return self._drained.is_set()

    def done(self) -> None:
        """Say that what was taken has been decided upon."""
        if not self._events:
            self._drained.set()

    async def drained(self) -> None:
        """Wait until everything put has been decided upon."""
        await self._drained.wait()


def _conflation_key(event: Event) -> Hashable | None:
    if isinstance(event, VolQuote | Quote):
        return type(event), event.instrument_id
    return (IndexPrice, event.underlying, event.venue) if isinstance(event, IndexPrice) else None


def _supersedes(event: Event, older: Event) -> bool:
    """Tell whether a quote may take the place of a waiting one: it is later, and not one the engine would refuse."""
    if not isinstance(event, VolQuote | Quote | IndexPrice) or type(event) is not type(older):
        return False
    is_later = (event.ts_event_ns, event.seq) > (older.ts_event_ns, older.seq)
    is_now = event.ts_event_ns - event.ts_recv_ns <= CLOCK_TOLERANCE_NS
    return is_later and is_now and find_fault(event) is None
