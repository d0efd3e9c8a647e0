"""Dated futures near their expiry: nothing more is opened there, and what is held moves on before it ends.

A future that is left to expire takes its hedge with it at one moment, and its venue averages the settlement price over
the last half-hour, in which its delta fades. Moving earlier costs a spread twice, so there is time to wait for a good
one: what may be paid grows from nothing to all of the slippage allowed over the first half of the time set aside.
"""

from __future__ import annotations

from typing import NamedTuple

from bot.domain.instruments import Future
from bot.domain.market import Quote
from bot.domain.units import BPS, NS_PER_MIN
from bot.engine.desk import Desk
from bot.engine.settings import HedgeSettings

PATIENCE_SHARE = 0.5  # of the time set aside for a roll, after which it is made at any spread


class Roll(NamedTuple):
    """What should move: the signed lots held in a future near its expiry, and how urgent that is by now (1: now)."""

    hedge: HedgeSettings
    held_lots: int
    urgency: float
    left_ns: int

    @property
    def text(self) -> str:
        """Why, for the reason of its orders."""
        minutes = self.left_ns / NS_PER_MIN
        return f"roll of {self.hedge.instrument.instrument_id}, which expires in {minutes:.0f} min"

    def is_too_dear(self, quote: Quote) -> bool:
        """Tell whether it is better to wait for a narrower spread than this."""
        if self.urgency >= 1.0:
            return False
        half_spread = (quote.ask_px - quote.bid_px) / (quote.ask_px + quote.bid_px)
        return half_spread > self.urgency * self.hedge.max_slippage_bps * BPS


def is_ending(hedge: HedgeSettings, now_ns: int) -> bool:
    """Tell whether a hedge is a future so near its expiry that it is only to be left."""
    instrument = hedge.instrument
    return isinstance(instrument, Future) and now_ns >= instrument.expiry_ns - hedge.roll_before_ns


def find_roll(desk: Desk, now_ns: int) -> Roll | None:
    """Return what is held in the first future that is ending, if anything is."""
    for hedge in desk.hedges:
        instrument = hedge.instrument
        if isinstance(instrument, Future) and is_ending(hedge, now_ns) and now_ns < instrument.expiry_ns:
            held_lots = desk.holdings[instrument.instrument_id].lots
            if held_lots:
                left_ns = instrument.expiry_ns - now_ns
                elapsed_ns = hedge.roll_before_ns - left_ns
                urgency = min(1.0, elapsed_ns / (PATIENCE_SHARE * hedge.roll_before_ns))
                return Roll(hedge, held_lots, urgency, left_ns)
    return None
