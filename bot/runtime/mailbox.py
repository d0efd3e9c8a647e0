"""The mailbox between feeds and decisions: keeps the newest quote per instrument, never drops or reorders a fill.

Many feeds may put, one loop takes. It is bounded by the number of instruments, whatever the market does: only what a
venue or an operator says about us is kept one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bot.domain.events import Event
from bot.domain.market import IndexPrice, Quote, VolQuote


class Mailbox:
    """Events waiting for the next decision, in the order they are to be applied."""

    def __init__(self) -> None:
        self._events: dict[object, Event] = {}
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
            key: object
            if isinstance(event, VolQuote | Quote):
                key = (type(event), event.instrument_id)
            elif isinstance(event, IndexPrice):
                key = (IndexPrice, event.underlying)
            else:
                self._serial += 1
                key = self._serial
            if key in waiting:
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

    def done(self) -> None:
        """Say that what was taken has been decided upon."""
        if not self._events:
            self._drained.set()

    async def drained(self) -> None:
        """Wait until everything put has been decided upon."""
        await self._drained.wait()
