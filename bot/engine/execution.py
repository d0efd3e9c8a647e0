"""How a hedge is worked: rest first, follow the touch, cross once waiting is no longer worth it.

A *need* is one wish to be on the other side of a band, from the decision that first had it until net delta, with what
was filled alone, no longer asks for it. Age and slippage budget are counted from its beginning, however many orders it
takes. Nothing here sends anything.
"""

from __future__ import annotations

from math import inf, isfinite, sqrt
from typing import NamedTuple

from bot.domain.decisions import HedgeTarget, HedgeView
from bot.domain.market import Quote
from bot.domain.units import BPS, NS_PER_S
from bot.engine.orders import Order
from bot.engine.settings import HedgeSettings
from bot.pricing.impulse import implied_risk_aversion_per_quote, risk_rate_quote
from bot.pricing.waiting import maker_or_taker

FIRST_FILL_S = 30.0  # what a fill at the touch is taken to need before one was seen
FILL_MEMORY = 20.0  # fills remembered, so that the rate follows the market


class Need:
    """One wish to trade: its side (1 buys, −1 sells), since when, and the prices it was first decided at."""

    __slots__ = ("first_px", "side", "started_ns")

    def __init__(self, side: int, now_ns: int) -> None:
        self.side = side
        self.started_ns = now_ns
        self.first_px: dict[str, float] = {}  # by instrument: what crossing would have met


class Move(NamedTuple):
    """What to do with a resting order: move it to `limit_ticks`, or cancel it where that is 0; and why."""

    limit_ticks: int
    reason: str


def side_of(target: HedgeTarget, delta_base: float) -> int:
    """Return which way net delta asks to trade: 1 below the band, −1 above it, 0 inside."""
    if delta_base < target.low_base:
        return 1
    return -1 if delta_base > target.high_base else 0


def find_urgency(
    need: Need, hedge: HedgeSettings, target: HedgeTarget, delta_base: float, lot_base: float, now_ns: int
) -> str:
    """Return why the need should cross the spread now, "" if it may rest; `delta_base` is that of what was filled.

    A band narrower than a lot is a point: how far net delta is from it says nothing about how much it matters.
    """
    urgency = target.urgency / hedge.escalate_urgency if hedge.escalate_urgency > 0.0 else inf
    if urgency >= 1.0:
        return f"urgency {target.urgency:g}"
    age_ns = now_ns - need.started_ns
    limit_ns = hedge.max_rest_ns * (1.0 - max(0.0, urgency))
    if age_ns > limit_ns:
        return f"wanted for {age_ns / NS_PER_S:.1f} s, limit {limit_ns / NS_PER_S:.1f} s"
    half_width_base = 0.5 * (target.high_base - target.low_base)
    outside_base = max(target.low_base - delta_base, delta_base - target.high_base)
    if lot_base <= half_width_base < inf and outside_base > hedge.escalate_bands * half_width_base:
        return f"net delta {delta_base:+.3f} is {outside_base / half_width_base:.1f} half-widths outside its band"
    return ""


class FillRates:
    """How fast resting orders have been filled, by instrument: fills a second, starting from a guess."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}

    def note(self, instrument_id: str, rested_s: float, filled_share: float) -> None:
        """Take in how long an order rested until it was over, and how much of it was filled by then."""
        fills, seconds = self._seen.get(instrument_id, (1.0, FIRST_FILL_S))
        kept = FILL_MEMORY / (FILL_MEMORY + 1.0) if fills > FILL_MEMORY else 1.0
        self._seen[instrument_id] = (kept * (fills + filled_share), kept * (seconds + max(0.0, rested_s)))

    def rate_per_s(self, instrument_id: str) -> float:
        """Return the fills a second to expect."""
        fills, seconds = self._seen.get(instrument_id, (1.0, FIRST_FILL_S))
        return fills / seconds


def find_crossing(
    need: Need,
    hedge: HedgeSettings,
    target: HedgeTarget,
    view: HedgeView,
    quote: Quote,
    *,
    vol: float,
    lot_base: float,
    fill_rate_per_s: float,
) -> str:
    """Return why the need should cross the spread now, "" if it may rest; for "auto" also where waiting is dearer.

    What waiting risks is a (e² − m²) per time, net delta being off by e and traded to m; without a risk aversion of its
    own the hedge takes the one that the policy's band implies. Who is filled at the touch is taken to lose the
    half-spread to whoever knew better, so that resting saves no more than the fees (Glosten & Milgrom 1985, "Bid, ask
    and transaction prices", Journal of Financial Economics 14:71-100).
    """
    urgency = find_urgency(need, hedge, target, view.greeks.delta_base, lot_base, view.now_ns)
    if urgency or hedge.style != "auto":
        return urgency
    half_base = 0.5 * (target.high_base - target.low_base)
    mid_px = 0.5 * (quote.bid_px + quote.ask_px)
    half_spread = 0.5 * (quote.ask_px - quote.bid_px) / mid_px
    aversion_per_quote = hedge.risk_aversion_per_quote
    if not aversion_per_quote and lot_base <= half_base < inf:
        gamma = view.greeks.gamma_base_per_px
        aversion_per_quote = implied_risk_aversion_per_quote(half_base, view.cost_rate, view.spot_px, gamma)
    if not (aversion_per_quote < inf and isfinite(vol)):
        return ""
    delta_base = view.greeks.delta_base
    centre_base = 0.5 * (target.low_base + target.high_base) if half_base < inf else view.target_delta_base
    stop_base = target.buy_to_base if need.side > 0 else target.sell_to_base
    qty_base = max(lot_base, abs(stop_base - delta_base))
    risk_base = (delta_base - centre_base) ** 2 - (stop_base - centre_base) ** 2
    wait = maker_or_taker(
        qty_base,
        mid_px,
        qty_base * mid_px * (half_spread + hedge.taker_bps * BPS),
        half_spread_rate=half_spread,
        maker_rate=hedge.maker_bps * BPS,
        fill_rate_per_s=fill_rate_per_s,
        off_base=sqrt(max(0.0, risk_base)),
        risk_quote_per_year=risk_rate_quote(aversion_per_quote, view.spot_px, vol),
        adverse_rate=half_spread,
        max_rest_s=hedge.max_rest_ns / NS_PER_S,
    )
    if wait.is_maker:
        return ""
    return f"resting would cost {wait.rest_quote:.4g}, crossing {wait.cross_quote:.4g}"


def near_touch_ticks(hedge: HedgeSettings, quote: Quote, side: int) -> int:
    """Return where an order of that side rests: at the best price of its own side, in finest ticks."""
    ticks = hedge.instrument.tick_schedule
    return ticks.floor_ticks(quote.bid_px) if side > 0 else ticks.ceil_ticks(quote.ask_px)


def crossing_ticks(hedge: HedgeSettings, quote: Quote, side: int) -> int:
    """Return the limit of an order that crosses: the far touch and the slippage allowed beyond it, rounded outwards."""
    ticks = hedge.instrument.tick_schedule
    slip = hedge.max_slippage_bps * BPS
    if side > 0:
        return ticks.ceil_ticks(quote.ask_px * (1.0 + slip))
    return ticks.floor_ticks(quote.bid_px * (1.0 - slip))


def budget_ticks(need: Need, hedge: HedgeSettings, side: int) -> int:
    """Return the worst limit inside the slippage allowed from the price at which the need was first decided."""
    ticks = hedge.instrument.tick_schedule
    first_px = need.first_px[hedge.instrument.instrument_id]
    slip = hedge.max_slippage_bps * BPS
    return ticks.floor_ticks(first_px * (1.0 + slip)) if side > 0 else ticks.ceil_ticks(first_px * (1.0 - slip))


def find_repeg(order: Order, hedge: HedgeSettings, quote: Quote, now_ns: int) -> Move | None:
    """Return how a resting order should follow the touch, if it should: a move where the venue can, else a cancel."""
    if order.amend_ticks or now_ns - order.pegged_ns < hedge.repeg_every_ns:
        return None
    side = 1 if order.intent.qty_lots > 0 else -1
    touch_ticks = near_touch_ticks(hedge, quote, side)
    if order.limit_ticks and abs(touch_ticks - order.limit_ticks) < max(1, hedge.repeg_ticks):
        return None
    ticks = hedge.instrument.tick_schedule
    was = f"{ticks.px(order.limit_ticks):g}" if order.limit_ticks else "unknown"
    reason = f"touch at {ticks.px(touch_ticks):g}, limit {was}"
    return Move(touch_ticks if hedge.can_amend and order.is_amendable else 0, reason)
