"""Hedge by the Whalley–Wilmott band: wide where gamma is small or trading dear, narrow where gamma bites."""

from __future__ import annotations

from math import isinf, isnan
from typing import Literal

from bot.domain.decisions import HedgeTarget, HedgeView
from strategies.corrections import UNKNOWN_HEDGE, CorrectedBand, about, edges_base, too_late, width
from strategies.policy import NOT_TRADABLE, is_tradable


class WhalleyWilmott(CorrectedBand):
    """A no-trade band whose half-width balances trading cost against gamma risk; traded to its nearest edge.

    H = (3/2 · k · S · Γ² / g)^(1/3) in base units, around the target delta, with k the one-way cost as a fraction of
    traded value (`view.cost_rate`), S spot (`view.spot_px`), Γ the net gamma of the book in base units per price
    (`view.greeks.gamma_base_per_px`) and g the absolute risk aversion per unit of quote money. Whalley & Wilmott
    (1997), "An asymptotic analysis of an optimal hedging model for option pricing with transaction costs",
    Mathematical Finance 7:307-324, for zero rates; then the corrections of `CorrectedBand`. The band is never below
    one lot, so a book without gamma is not churned.

    It knows nothing of fixed costs. Where a trade has one (gas), the engine fits the band to it, and to the time
    between two looks; so that correction is left to the engine there. `impulse` does all of it by itself.
    """

    type: Literal["whalley_wilmott"] = "whalley_wilmott"

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return the band around the target, in base units; hold where the formula has no finite answer."""
        if not is_tradable(view):
            return HedgeTarget.hold(NOT_TRADABLE)
        band = self.band(view)
        if isnan(band.half_base):
            return HedgeTarget.hold(f"holding: no band from {about(view, band)}")
        if view.fixed_cost_quote > 0.0:
            band = band._replace(step_base=0.0)
        below_base, above_base = edges_base(band.half_base, band)
        if isnan(below_base):
            return HedgeTarget.hold(UNKNOWN_HEDGE)
        if isinf(below_base) or isinf(above_base):
            return HedgeTarget.hold(too_late(view))
        below_base, above_base = max(below_base, view.lot_base), max(above_base, view.lot_base)
        centre_base = view.target_delta_base + band.shift_base
        reason = f"band {width(below_base, above_base)} {view.underlying}: {about(view, band)}"
        return HedgeTarget.to_edge(centre_base - below_base, centre_base + above_base, reason)
