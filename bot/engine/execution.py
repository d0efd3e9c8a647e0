"""How a hedge is worked: rest first, follow the touch, cross once waiting is no longer worth it.

A *need* is one wish to be on the other side of a band, from the decision that first had it until net delta, with what
was filled alone, no longer asks for it. Age and slippage budget are counted from its beginning, however many orders it
takes. Nothing here sends anything.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from bot.domain.decisions import HedgeTarget
from bot.domain.market import Quote
from bot.domain.units import BPS, NS_PER_S
from bot.engine.orders import Order
from bot.engine.settings import HedgeSettings


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
