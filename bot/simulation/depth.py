"""Book depth: its shape relative to the touch, as measured on recorded order books, and the price ladder it makes.

Must never know whose orders take from it: the venue matches, this only says what is shown.
"""

from __future__ import annotations

import math

import msgspec

from bot.domain.instruments import InstrumentBase
from bot.domain.units import BPS

WHOLE_LOT_SLACK = 1e-9  # 0.3 / 0.1 is 2.9999999999999996 and means three lots


class DepthLevel(msgspec.Struct, frozen=True, gc=False):
    """One bucket of resting volume: its own quote notional (not cumulative), this far from the touch, away from mid."""

    offset_bps: float
    notional_quote: float


class DepthProfile(msgspec.Struct, frozen=True):
    """The levels behind the touch of either side, nearest first; empty means that only the touch can be traded."""

    levels: tuple[DepthLevel, ...] = ()


class Rung(msgspec.Struct, gc=False):
    """One price of one side of a book and the lots still to be had there."""

    ticks: int
    left_lots: int


def build_ladder(
    instrument: InstrumentBase, profile: DepthProfile, touch_px: float, touch_base: float, *, is_ask: bool
) -> list[Rung]:
    """Return one side of the book, best price first: the touch with its own size, then the profile behind it.

    Prices are rounded away from mid to valid ticks, sizes down to whole lots, so that rounding never favours the taker.
    The profile's notional is in quote money, so the instrument must be priced in it. A touch without price or size
    means that the side is missing: the ladder is empty.
    """
    if touch_px <= 0.0 or touch_base <= 0.0:
        return []
    schedule = instrument.tick_schedule
    touch_ticks = schedule.ceil_ticks(touch_px) if is_ask else schedule.floor_ticks(touch_px)
    rungs = [Rung(touch_ticks, _whole_lots(touch_base / instrument.lot_base(touch_px)))]
    for level in profile.levels:
        move = level.offset_bps * BPS
        px = touch_px * (1.0 + move if is_ask else 1.0 - move)
        ticks = schedule.ceil_ticks(px) if is_ask else schedule.floor_ticks(px)
        if ticks <= 0:
            break
        lots = _whole_lots(level.notional_quote / (px * instrument.lot_base(px)))
        if ticks == rungs[-1].ticks:
            rungs[-1].left_lots += lots
        else:
            rungs.append(Rung(ticks, lots))
    return rungs


def take_lots(ladder: list[Rung], lots: int, limit_ticks: int | None, *, is_ask: bool) -> list[tuple[int, int]]:
    """Take up to `lots` from the ladder, best first and not beyond the limit; return (ticks, lots) per price taken."""
    taken = []
    for rung in ladder:
        if not lots:
            break
        if limit_ticks is not None and (rung.ticks > limit_ticks if is_ask else rung.ticks < limit_ticks):
            break
        size_lots = min(lots, rung.left_lots)
        if size_lots:
            rung.left_lots -= size_lots
            lots -= size_lots
            taken.append((rung.ticks, size_lots))
    return taken


def _whole_lots(lots: float) -> int:
    return math.floor(lots + WHOLE_LOT_SLACK)
