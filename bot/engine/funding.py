"""What holding a perpetual has cost lately, from the funding rates its venue told of."""

from __future__ import annotations

from collections import deque
from math import isfinite

from bot.domain.market import FundingRate
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR

MEMORY_NS = NS_PER_DAY  # what was paid over a day says what to expect; one payment says little
FIRST_INTERVAL_NS = 8 * NS_PER_HOUR  # what a single payment is taken to be for, the longest that venues have
LEAST_SPAN_NS = NS_PER_HOUR  # two payments nearer than that, as a correction, are no rate for a day
MOST_PER_DAY = 0.05  # as much as a vault file may state; more is believed by nobody


class FundingBoard:
    """The newest funding rates by instrument; a long pays them to a short."""

    def __init__(self) -> None:
        self._paid: dict[str, deque[tuple[int, float]]] = {}

    def note(self, event: FundingRate) -> None:
        """Take in a payment; one told again, or earlier than the last, changes nothing."""
        if not isfinite(event.rate):
            return
        paid = self._paid.setdefault(event.instrument_id, deque())
        if paid and event.ts_event_ns <= paid[-1][0]:
            return
        paid.append((event.ts_event_ns, event.rate))
        while len(paid) > 2 and event.ts_event_ns - paid[1][0] >= MEMORY_NS:
            paid.popleft()

    def rate_per_day(self, instrument_id: str, now_ns: int) -> float:
        """Return the share of value a long has paid per day, 0 where nothing is known or all of it is long ago."""
        paid = self._paid.get(instrument_id)
        if not paid or now_ns - paid[-1][0] > 2 * MEMORY_NS:
            return 0.0
        if len(paid) == 1:
            rate = paid[0][1] * NS_PER_DAY / FIRST_INTERVAL_NS
        else:  # the first payment is for the time before it, which is not part of the span
            total = sum(rate for _, rate in paid) - paid[0][1]
            rate = total * NS_PER_DAY / max(LEAST_SPAN_NS, paid[-1][0] - paid[0][0])
        return max(-MOST_PER_DAY, min(MOST_PER_DAY, rate))
