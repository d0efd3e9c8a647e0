"""How long things took, from the stamps of events alone: market data to us, decisions to the venue, orders to fills.

Memory stays flat however long a run is: a histogram counts in buckets that are a few percent wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

from bot.domain.events import Command, Event, SubmitOrder
from bot.domain.market import FundingRate, IndexPrice, Quote, Settlement, VolQuote
from bot.domain.orders import Fill, OrderAccepted, OrderRejected, OrderSent
from bot.domain.results import LatencyHistogram
from bot.domain.units import NS_PER_S, NS_PER_US
from bot.domain.windows import DurationCounts

BUCKETS_PER_OCTAVE = 32  # a bucket is 2.2 % wide
MARKET_EVENTS = (Quote, VolQuote, IndexPrice)
MAX_ORDERS = 1_000  # orders whose stamps are remembered; the oldest are forgotten first

STEPS = ("venue_to_receive", "receive_to_decide", "decide_to_sent", "sent_to_ack", "ack_to_fill")


class Histogram:
    """Counts durations; percentiles are those of the bucket, the largest is exact."""

    def __init__(self) -> None:
        self.count = 0
        self.max_ns = 0
        self.sum_ns = 0
        self._buckets: dict[int, int] = {}

    def add(self, duration_ns: int) -> None:
        """Count one duration; one below zero, as two clocks may give, counts as none at all."""
        duration_ns = max(0, duration_ns)
        self.count += 1
        self.sum_ns += duration_ns
        self.max_ns = max(self.max_ns, duration_ns)
        bucket = int(log2(duration_ns + 1) * BUCKETS_PER_OCTAVE)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def percentile_ns(self, share: float) -> int:
        """Return the duration that `share` of all do not exceed, to the width of a bucket; 0 without any."""
        wanted = share * self.count
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(self.max_ns, round(2 ** ((bucket + 0.5) / BUCKETS_PER_OCTAVE)) - 1)
        return 0

    def counts(self, bounds_s: tuple[float, ...]) -> DurationCounts:
        """Return how many were at most each bound, to the width of a bucket; ascending bounds."""
        limits = [int(log2(bound * NS_PER_S + 1) * BUCKETS_PER_OCTAVE) for bound in bounds_s]
        upto = tuple(sum(n for bucket, n in self._buckets.items() if bucket <= limit) for limit in limits)
        return DurationCounts(bounds_s, upto, self.sum_ns / NS_PER_S, self.count)

    def summary(self) -> LatencyHistogram:
        """Return count and percentiles in microseconds."""
        return LatencyHistogram(
            self.count,
            round(self.percentile_ns(0.5) / NS_PER_US, 1),
            round(self.percentile_ns(0.99) / NS_PER_US, 1),
            round(self.max_ns / NS_PER_US, 1),
        )


class Latencies:
    """Follows market events and orders through one run; must never influence it."""

    def __init__(self) -> None:
        self._steps = {step: Histogram() for step in STEPS}
        self._decided_ns: dict[str, int] = {}
        self._sent_ns: dict[str, int] = {}
        self._acked_ns: dict[str, int] = {}

    def note(self, now_ns: int, events: Sequence[Event], commands: Sequence[Command]) -> None:
        """Take in one batch: its events, the moment it was decided at, and what was commanded."""
        newest_ns = 0
        for event in events:
            if isinstance(event, MARKET_EVENTS):
                self._steps["venue_to_receive"].add(event.ts_recv_ns - event.ts_event_ns)
                newest_ns = max(newest_ns, event.ts_recv_ns)
            elif not isinstance(event, FundingRate | Settlement):
                self._note_order(event)
        if newest_ns:
            self._steps["receive_to_decide"].add(now_ns - newest_ns)
        for command in commands:
            if isinstance(command, SubmitOrder):
                self._decided_ns[command.intent.order_id] = command.intent.decided_ns
                if len(self._decided_ns) > MAX_ORDERS:
                    self._forget(next(iter(self._decided_ns)))

    def summary(self) -> dict[str, LatencyHistogram]:
        """Return every step that was seen at least once."""
        return {step: histogram.summary() for step, histogram in self._steps.items() if histogram.count}

    def counts(self, bounds_s: tuple[float, ...]) -> dict[str, DurationCounts]:
        """Return the histogram of every step that was seen at least once."""
        return {step: histogram.counts(bounds_s) for step, histogram in self._steps.items() if histogram.count}

    def _note_order(self, event: Event) -> None:
        order_id = getattr(event, "order_id", "")
        if isinstance(event, OrderSent):
            self._lap("decide_to_sent", self._decided_ns.get(order_id), event.ts_recv_ns)
            if order_id in self._decided_ns:
                self._sent_ns.setdefault(order_id, event.ts_recv_ns)
        elif isinstance(event, OrderAccepted):
            self._lap("sent_to_ack", self._sent_ns.get(order_id), event.ts_recv_ns)
            if order_id in self._sent_ns:
                self._acked_ns.setdefault(order_id, event.ts_recv_ns)
        elif isinstance(event, Fill):
            # of its first fill only, from the acknowledgement if there was one
            since_ns = self._acked_ns.get(order_id, self._sent_ns.get(order_id))
            self._lap("ack_to_fill", since_ns, event.ts_recv_ns)
            self._forget(order_id)
        elif isinstance(event, OrderRejected):
            self._forget(order_id)

    def _lap(self, step: str, since_ns: int | None, until_ns: int) -> None:
        if since_ns is not None:
            self._steps[step].add(until_ns - since_ns)

    def _forget(self, order_id: str) -> None:
        for stamps in (self._decided_ns, self._sent_ns, self._acked_ns):
            stamps.pop(order_id, None)
