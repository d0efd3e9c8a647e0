"""Hedge by the clock: back to the target once every interval, whatever it costs."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from bot.domain.decisions import HedgeTarget, HedgeView
from bot.domain.units import NS_PER_S
from strategies.policy import NOT_TRADABLE, Policy, is_tradable


class FixedInterval(Policy):
    """Trade back to the target when at least `interval_s` seconds have passed since the last hedge.

    The textbook discrete hedge (Hull, Options, Futures, and Other Derivatives, "Dynamic aspects of delta hedging";
    its error falls with the square root of the number of hedges, Derman & Kamal 1999). Before the first hedge it is
    due at once. A delta of less than half a lot is left alone: no whole lot brings it nearer to the target.
    """

    type: Literal["fixed_interval"] = "fixed_interval"
    interval_s: float = Field(gt=0, le=31_536_000, description="Shortest time between two hedges")

    starting_values: ClassVar[dict[str, str]] = {"interval_s": "3600"}

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return a band of half a lot around the target, traded to the target, if the interval is over; else hold."""
        elapsed_s = (view.now_ns - view.last_hedge_ns) / NS_PER_S
        if elapsed_s < self.interval_s:
            return HedgeTarget.hold(f"clock: next hedge in {self.interval_s - elapsed_s:.0f} s")
        if not is_tradable(view):
            return HedgeTarget.hold(NOT_TRADABLE)
        centre_base = view.target_delta_base
        half_lot_base = 0.5 * view.lot_base
        since = f"{elapsed_s:.0f} s since the last hedge" if view.last_hedge_ns else "first hedge"
        return HedgeTarget.to_centre(
            centre_base - half_lot_base,
            centre_base + half_lot_base,
            centre_base,
            f"clock {self.interval_s:g} s: {since}",
        )
