"""Breakers: what the market, a venue or our own orders do that forbids taking more risk for a while.

A tripped breaker blocks what adds risk, and nothing else: hedging and reducing stay allowed, since a book that may not
hedge in a storm is what loses money in one. Each is told in numbers and holds for a while after its cause is gone,
so that nothing flickers. Time is data; what is not a number trips nothing by itself, and clears nothing either.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from math import exp, isfinite, log
from typing import Final

import msgspec

from bot.domain.units import NS_PER_HOUR, NS_PER_MIN, NS_PER_S

_TOLERANCE: Final = 1e-12  # a move of exactly the limit is within it, whatever the last bit says


class Breaker(StrEnum):
    """What may trip."""

    MOVE = "move"
    VENUE_GAP = "venue_gap"
    SLIPPAGE = "slippage"
    FAILED_HEDGES = "failed_hedges"
    API_ERRORS = "api_errors"
    DEPTH = "depth"


class Intent(StrEnum):
    """What an order is for."""

    ADD = "add"
    HEDGE = "hedge"
    REDUCE = "reduce"


class BreakerRule(msgspec.Struct, frozen=True, kw_only=True):
    """When what trips. Fractions are of the price; slippage is a multiple of what was budgeted for the fill.

    Requests are counted over `window_ns` and judged from `least_requests` on; depth is held against its own average of
    about `normal_depth_ns`, once that is `learn_ns` old. `hold_ns` is how long one stays tripped after its cause.
    """

    quick_move_fraction: float = 0.05
    quick_ns: int = NS_PER_MIN
    slow_move_fraction: float = 0.10
    slow_ns: int = 5 * NS_PER_MIN
    gap_fraction: float = 0.02
    slippage_budgets: float = 1.0
    failed_hedges: int = 3
    error_share: float = 0.20
    least_requests: int = 10
    window_ns: int = NS_PER_MIN
    depth_share: float = 0.30
    normal_depth_ns: int = 6 * NS_PER_HOUR
    learn_ns: int = 10 * NS_PER_MIN
    hold_ns: int = 5 * NS_PER_MIN

    def __post_init__(self) -> None:
        """Refuse limits that are none."""
        positive = (self.quick_move_fraction, self.slow_move_fraction, self.gap_fraction, self.slippage_budgets)
        spans = (self.quick_ns, self.window_ns, self.normal_depth_ns, self.failed_hedges, self.least_requests)
        is_share = 0.0 < self.error_share <= 1.0 and 0.0 <= self.depth_share < 1.0
        if not (min(positive) > 0.0 and min(spans) > 0 and self.slow_ns >= self.quick_ns and is_share):
            raise ValueError(f"expected positive limits of breakers, the slow window the longer, found {self}")


class Tripped(msgspec.Struct, frozen=True, gc=False):
    """One breaker that is open: of what (an underlying, a venue, an instrument, or "" for all), since when, and why."""

    breaker: Breaker
    subject: str
    since_ns: int
    until_ns: int
    reason: str


class Breakers:
    """The breakers of a vault, told of everything that may trip one. Mutable, with one owner; bounded in memory."""

    def __init__(self, rule: BreakerRule | None = None) -> None:
        self._rule = rule or BreakerRule()
        self._tripped: dict[tuple[Breaker, str], Tripped] = {}
        self._moves: dict[str, tuple[_Extremes, _Extremes]] = {}
        self._fused_px: dict[str, float] = {}
        self._failed: dict[str, int] = {}
        self._requests: dict[str, _Requests] = {}
        self._depths: dict[tuple[str, str], _Depth] = {}

    def note_price(self, underlying: str, px: float, now_ns: int) -> None:
        """Take in the fused price of an underlying, and hold it against the extremes of one and of five minutes."""
        if not _is_positive(px):
            return
        rule = self._rule
        self._fused_px[underlying] = px
        windows = self._moves.setdefault(underlying, (_Extremes(rule.quick_ns), _Extremes(rule.slow_ns)))
        limits = (rule.quick_move_fraction, rule.slow_move_fraction)
        for window, limit in zip(windows, limits, strict=True):
            move = window.note(px, now_ns)
            if abs(move) > limit + _TOLERANCE:
                told = f"{underlying} moved {move:+.1%} in {window.span_ns / NS_PER_MIN:g} min, limit {limit:.0%}"
                self._trip(Breaker.MOVE, underlying, now_ns, told)

    def note_venue_index(self, venue: str, underlying: str, px: float, now_ns: int) -> None:
        """Take in a venue's own index; a venue that is far from the fused price values our collateral by it."""
        fused_px = self._fused_px.get(underlying, 0.0)
        if not (_is_positive(px) and fused_px):
            return
        gap = px / fused_px - 1.0
        if abs(gap) > self._rule.gap_fraction + _TOLERANCE:
            told = f"{venue} has {underlying} at {px:g}, {gap:+.1%} from the fused {fused_px:g}"
            self._trip(Breaker.VENUE_GAP, venue, now_ns, f"{told}, limit {self._rule.gap_fraction:.0%}")

    def note_fill(self, instrument_id: str, slippage_quote: float, budget_quote: float, now_ns: int) -> None:
        """Take in what a fill cost beyond the price it was decided at, and what was allowed for it."""
        if slippage_quote > self._rule.slippage_budgets * max(budget_quote, 0.0):
            told = f"a fill of {instrument_id} slipped by {slippage_quote:,.2f}, budget {budget_quote:,.2f}"
            self._trip(Breaker.SLIPPAGE, instrument_id, now_ns, told)

    def note_hedge(self, underlying: str, now_ns: int, *, is_done: bool) -> None:
        """Take in whether a hedge was done; failures count in a row."""
        failed = 0 if is_done else self._failed.get(underlying, 0) + 1
        self._failed[underlying] = failed
        if failed >= self._rule.failed_hedges:
            told = f"{failed} hedges of {underlying} failed in a row, limit {self._rule.failed_hedges}"
            self._trip(Breaker.FAILED_HEDGES, underlying, now_ns, told)

    def note_request(self, venue: str, now_ns: int, *, is_failed: bool) -> None:
        """Take in how a request to a venue went."""
        rule = self._rule
        counts = self._requests.setdefault(venue, _Requests(rule.window_ns))
        failed, total = counts.note(now_ns, is_failed=is_failed)
        if total >= rule.least_requests and failed > rule.error_share * total:
            told = f"{failed} of {total} requests to {venue} failed within {rule.window_ns / NS_PER_S:g} s"
            self._trip(Breaker.API_ERRORS, venue, now_ns, f"{told}, limit {rule.error_share:.0%}")

    def note_depth(self, venue: str, instrument_id: str, depth_quote: float, now_ns: int) -> None:
        """Take in how much an order book holds near its middle; an empty one is 0."""
        if not (isfinite(depth_quote) and depth_quote >= 0.0):
            return
        rule = self._rule
        depth = self._depths.setdefault((venue, instrument_id), _Depth(rule.normal_depth_ns, now_ns))
        normal_quote = depth.normal_quote
        if now_ns - depth.since_ns >= rule.learn_ns and depth_quote < rule.depth_share * normal_quote:
            told = f"{instrument_id} on {venue} shows {depth_quote:,.0f}, {depth_quote / normal_quote:.0%} of normal"
            self._trip(Breaker.DEPTH, instrument_id, now_ns, f"{told}, limit {rule.depth_share:.0%}")
        depth.note(depth_quote, now_ns)

    def tripped(self, now_ns: int) -> tuple[Tripped, ...]:
        """Return what is open now, the oldest first."""
        if not self._tripped:
            return ()
        self._tripped = {key: one for key, one in self._tripped.items() if now_ns < one.until_ns}
        return tuple(sorted(self._tripped.values(), key=lambda one: (one.since_ns, one.breaker, one.subject)))

    def refuse(self, intent: Intent, subjects: tuple[str, ...], now_ns: int) -> str:
        """Return why an order may not leave, "" if it may. Only what adds risk is ever refused.

        `subjects` are what the order is about: its underlying, venue and instrument.
        """
        if intent is not Intent.ADD:
            return ""
        found = [one.reason for one in self.tripped(now_ns) if one.subject in subjects]
        return "; ".join(found)

    def _trip(self, breaker: Breaker, subject: str, now_ns: int, reason: str) -> None:
        before = self._tripped.get((breaker, subject))
        since_ns = before.since_ns if before is not None and now_ns < before.until_ns else now_ns
        self._tripped[breaker, subject] = Tripped(breaker, subject, since_ns, now_ns + self._rule.hold_ns, reason)


class _Extremes:
    """The lowest and highest price of a window that slides: two queues whose prices only rise, or only fall.

    Of the prices within a hundredth of the window only the extreme is kept, until the last of them would leave, so that
    a queue never holds more than a hundred or so.
    """

    __slots__ = ("_high", "_low", "_slot_ns", "span_ns")

    def __init__(self, span_ns: int) -> None:
        self.span_ns = span_ns
        self._slot_ns = max(1, span_ns // 100)
        self._low: deque[tuple[int, float]] = deque()
        self._high: deque[tuple[int, float]] = deque()

    def note(self, px: float, now_ns: int) -> float:
        """Take in a price and return its move from the extreme of the window that is furthest from it."""
        slot_ns = now_ns - now_ns % self._slot_ns
        for queue, sign in ((self._low, 1.0), (self._high, -1.0)):
            while queue and queue[0][0] < now_ns - self.span_ns - self._slot_ns:
                queue.popleft()
            while queue and sign * queue[-1][1] >= sign * px:
                queue.pop()
            if not queue or queue[-1][0] != slot_ns:
                queue.append((slot_ns, px))
        up, down = px / self._low[0][1] - 1.0, px / self._high[0][1] - 1.0
        return up if up > -down else down


class _Requests:
    """Requests and failures by tenths of a window."""

    __slots__ = ("_slots", "_span_ns")

    def __init__(self, span_ns: int) -> None:
        self._span_ns = span_ns
        self._slots: deque[list[int]] = deque(maxlen=11)

    def note(self, now_ns: int, *, is_failed: bool) -> tuple[int, int]:
        """Take in a request and return failures and requests of the window."""
        slot = now_ns * 10 // self._span_ns
        while self._slots and self._slots[0][0] <= slot - 10:
            self._slots.popleft()
        if not self._slots or self._slots[-1][0] < slot:
            self._slots.append([slot, 0, 0])
        self._slots[-1][1] += is_failed
        self._slots[-1][2] += 1
        return sum(one[1] for one in self._slots), sum(one[2] for one in self._slots)


_LEARNT: Final = log(2.0)


class _Depth:
    """What an order book normally holds: an average weighted by time, half of it from the newest `half_life_ns`."""

    __slots__ = ("_depth_quote", "_half_life_ns", "_noted_ns", "normal_quote", "since_ns")

    def __init__(self, half_life_ns: int, now_ns: int) -> None:
        self._half_life_ns = half_life_ns
        self._noted_ns = self.since_ns = now_ns
        self._depth_quote = self.normal_quote = 0.0

    def note(self, depth_quote: float, now_ns: int) -> None:
        """Take in a depth that holds from now on."""
        if self.normal_quote:
            weight = 1.0 - exp(-_LEARNT * max(0, now_ns - self._noted_ns) / self._half_life_ns)
            self.normal_quote += weight * (self._depth_quote - self.normal_quote)
        else:
            self.normal_quote = depth_quote
        self._depth_quote, self._noted_ns = depth_quote, now_ns


def _is_positive(px: float) -> bool:
    return isfinite(px) and px > 0.0
