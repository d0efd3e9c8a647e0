"""Hard limits: the last word before an intent exists. Each cuts an order or refuses it with numbers.

Limits count what was sent, not only what was acknowledged, and the trips (hedge loop, daily loss, rejects) change the
bot's state until a person resumes.
"""

from __future__ import annotations

from collections import deque

from bot.domain.decisions import BotState, Refusal
from bot.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S
from bot.engine.settings import Limits

LOOP_SHARE = 0.5  # of what was ordered must have reached the hedge, or hedging runs in a loop


class LimitKeeper:
    """Remembers just enough of the past to enforce one vault's limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sent_ns: deque[int] = deque()
        self._hedges: dict[str, deque[tuple[int, float, float]]] = {}
        self._day = -1
        self._day_start_quote = 0.0
        self._profit_quote = 0.0
        self.day_pnl_quote = 0.0

    def adopt(self, limits: Limits) -> None:
        """Enforce other limits from now on; what was sent, traded and lost so far counts against them."""
        self._limits = limits
        most = limits.max_hedges_same_way
        self._hedges = {name: deque(hedges, maxlen=most) for name, hedges in self._hedges.items()}

    def mark_profit(self, now_ns: int, profit_quote: float) -> tuple[Refusal, str] | None:
        """Take in the vault's profit so far; tell whether the day's loss has reached its limit. Days are UTC."""
        day = now_ns // NS_PER_DAY
        if day != self._day:
            # what happened while nobody looked belongs to the new day
            self._day_start_quote = self._profit_quote if self._day >= 0 else profit_quote
            self._day = day
        self._profit_quote = profit_quote
        self.day_pnl_quote = profit_quote - self._day_start_quote
        if -self.day_pnl_quote >= self._limits.daily_loss_quote:
            return Refusal.DAILY_LOSS, (
                f"loss since 00:00 UTC is {-self.day_pnl_quote:,.0f}, limit {self._limits.daily_loss_quote:,.0f}"
            )
        return None

    def discount(self, gain_quote: float) -> None:
        """Keep a gain that nobody traded for from making up for a loss of the day."""
        self._day_start_quote += gain_quote
        self._profit_quote += gain_quote

    def cut_to_value(self, lots: int, lot_quote: float) -> int:
        """Return `lots` cut to the largest allowed order value, 0 if not even one lot is allowed."""
        most = int(self._limits.max_order_quote / lot_quote + 1e-9)
        return max(-most, min(most, lots))

    def cut_to_size(self, lots: int, lot_base: float) -> int:
        """Return `lots` cut to the largest allowed order size, 0 if not even one lot is allowed."""
        if self._limits.max_order_base is None:
            return lots
        most = int(self._limits.max_order_base / lot_base + 1e-9)
        return max(-most, min(most, lots))

    def refuse_rate(self, now_ns: int, others: int = 0) -> str | None:
        """Return why no further order may be sent now, if so; `others` are about to be sent with it."""
        sent = self._sent_ns
        while sent and now_ns - sent[0] >= NS_PER_MIN:
            sent.popleft()
        if len(sent) + others >= self._limits.max_orders_per_min:
            return f"{len(sent) + others} orders in the last minute, limit {self._limits.max_orders_per_min}"
        return None

    def refuse_price(self, limit_px: float, reference_px: float) -> str | None:
        """Return why `limit_px` is too far from the reference, if so."""
        away_bps = abs(limit_px / reference_px - 1.0) * 1e4
        if away_bps > self._limits.price_collar_bps:
            return (
                f"limit {limit_px:g} is {away_bps:.0f} bp from the reference {reference_px:g}, "
                f"collar {self._limits.price_collar_bps:g} bp"
            )
        return None

    def find_hedge_loop(self, underlying: str, now_ns: int, side: int, hedged_base: float) -> str | None:
        """Return why hedging runs in a loop, if it does: one side again and again, and the hedge does not follow.

        `hedged_base` is the hedge held plus what is pending. A market that runs away is no loop: there every hedge
        arrives, and the next one is wanted because the book moved.
        """
        hedges = self._hedges_of(underlying)
        if len(hedges) < self._limits.max_hedges_same_way:
            return None
        since_ns, _, first_base = hedges[0]
        if now_ns - since_ns > self._limits.hedge_loop_window_ns or any(base * side <= 0 for _, base, _ in hedges):
            return None
        ordered_base = sum(base for _, base, _ in hedges)
        moved_base = hedged_base - first_base
        if abs(moved_base) >= LOOP_SHARE * abs(ordered_base) and moved_base * side > 0:
            return None
        return (
            f"{len(hedges)} hedges the same way within {(now_ns - since_ns) / NS_PER_S:.0f} s "
            f"ordered {ordered_base:+.4g} and the hedge moved {moved_base:+.4g}"
        )

    def note_sent(self, now_ns: int) -> None:
        """Count an order or an amend against the order rate."""
        self._sent_ns.append(now_ns)

    def note_hedge(self, underlying: str, now_ns: int, ordered_base: float, hedged_base: float) -> None:
        """Remember what was ordered, and the hedge held plus pending before it, so that a loop is noticed."""
        self._hedges_of(underlying).append((now_ns, ordered_base, hedged_base))

    def note_relief(self, underlying: str, ordered_base: float) -> None:
        """Take a hedge that is closed for want of margin out of what the hedges before it have to have moved."""
        hedges = self._hedges_of(underlying)
        moved = [(ts_ns, base, held_base + ordered_base) for ts_ns, base, held_base in hedges]
        hedges.clear()
        hedges.extend(moved)

    def forget_hedge_loop(self) -> None:
        """Start counting afresh after a person resumed."""
        self._hedges.clear()

    def find_reject_streak(self, streak: int) -> str | None:
        """Return why rejects in a row must stop the bot, if so."""
        if streak >= self._limits.max_reject_streak:
            return f"{streak} orders rejected in a row, limit {self._limits.max_reject_streak}"
        return None

    def _hedges_of(self, underlying: str) -> deque[tuple[int, float, float]]:
        """Return the newest hedges of one underlying: time, signed order, hedge held plus pending before it."""
        return self._hedges.setdefault(underlying, deque(maxlen=self._limits.max_hedges_same_way))


STATE_AFTER_TRIP = {
    Refusal.DAILY_LOSS: BotState.REDUCE_ONLY,
    Refusal.HEDGE_LOOP: BotState.PAUSED,
    Refusal.REJECT_STREAK: BotState.HALTED,
    Refusal.VENUE_CONTRADICTION: BotState.HALTED,
    Refusal.VENUE_FATAL: BotState.HALTED,
}

# From the loosest to the strictest: a trip only ever goes to the right.
STRICTNESS = (
    BotState.RUNNING,
    BotState.REDUCE_ONLY,
    BotState.PAUSED,
    BotState.RECONCILING,
    BotState.HALTED,
)
