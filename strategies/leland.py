"""Hedge by the clock with Leland's delta, which counts the cost of the clock as more or less vol."""

from __future__ import annotations

from math import inf, isfinite
from typing import ClassVar, Literal

from pydantic import Field

from bot.domain.decisions import HedgeTarget, HedgeView
from bot.domain.units import NS_PER_S, NS_PER_YEAR
from bot.pricing.bands import leland_vol
from strategies.corrections import MOST_VOL
from strategies.modified_delta import delta_shift_base
from strategies.policy import NOT_TRADABLE, Policy, is_tradable


class Leland(Policy):
    """Trade to the delta at a modified vol when at least `interval_s` seconds have passed since the last hedge.

    σ_L² = σ²(1 ± A), + if the book is short gamma, A = √(8/(π dt)) · k/σ, with dt the interval and k the one-way cost
    as a fraction of traded value. Leland (1985), "Option pricing and replication with transactions costs", Journal of
    Finance 40:1283-1301; for a book the sign is that of its net gamma (Hoggard, Whalley & Wilmott 1994). At the costs
    of crypto derivatives this is within a few per cent of `fixed_interval`. Less than half a lot is left alone.
    """

    type: Literal["leland"] = "leland"
    interval_s: float = Field(gt=0, le=31_536_000, description="Shortest time between two hedges")

    starting_values: ClassVar[dict[str, str]] = {"interval_s": "3600"}

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return a band of half a lot around the modified target, if the interval is over; else hold."""
        elapsed_s = (view.now_ns - view.last_hedge_ns) / NS_PER_S
        if elapsed_s < self.interval_s:
            return HedgeTarget.hold(f"clock: next hedge in {self.interval_s - elapsed_s:.0f} s")
        gamma, vol, cost_rate = view.greeks.gamma_base_per_px, view.vol, view.cost_rate
        if not is_tradable(view):
            return HedgeTarget.hold(NOT_TRADABLE)
        if not (isfinite(gamma) and 0.0 <= cost_rate < inf and 0.0 < vol <= MOST_VOL):
            return HedgeTarget.hold(f"holding: no delta from vol {vol}, gamma {gamma}, k {cost_rate}")
        interval_years = self.interval_s * NS_PER_S / NS_PER_YEAR
        modified = leland_vol(cost_rate, vol, interval_years, gamma) if gamma else vol
        shift_base = delta_shift_base(view.legs, modified / vol)
        centre_base = view.target_delta_base + shift_base
        if not isfinite(centre_base):
            return HedgeTarget.hold(f"holding: no delta at vol {modified}")
        half_lot_base = 0.5 * view.lot_base
        return HedgeTarget.to_centre(
            centre_base - half_lot_base,
            centre_base + half_lot_base,
            centre_base,
            f"clock {self.interval_s:g} s with Leland's delta: vol {vol:.4g} as {modified:.4g}, {shift_base:+.3g}",
        )
