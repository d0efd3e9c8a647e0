"""Hedge by the Whalley–Wilmott band: wide where gamma is small or trading dear, narrow where gamma bites."""

from __future__ import annotations

from math import cbrt, isfinite
from typing import ClassVar, Literal

from pydantic import Field

from bot.domain.decisions import HedgeTarget, HedgeView
from strategies.policy import NOT_TRADABLE, Policy, is_tradable


class WhalleyWilmott(Policy):
    """A no-trade band whose half-width balances trading cost against gamma risk; traded to its nearest edge.

    H = (3/2 · k · S · Γ² / g)^(1/3) in base units, around the target delta, with k the one-way cost as a fraction of
    traded value (`view.cost_rate`), S spot (`view.spot_px`), Γ the net gamma of the book in base units per price
    (`view.greeks.gamma_base_per_px`) and g = `risk_aversion_per_quote`, the absolute risk aversion per unit of quote
    money. Whalley & Wilmott (1997), "An asymptotic analysis of an optimal hedging model for option pricing with
    transaction costs", Mathematical Finance 7:307-324, for zero rates. H is never below one lot, so a book without
    gamma is not churned.
    """

    type: Literal["whalley_wilmott"] = "whalley_wilmott"
    risk_aversion_per_quote: float = Field(
        gt=0, description="Absolute risk aversion g; ten times more about halves the band"
    )

    starting_values: ClassVar[dict[str, str]] = {"risk_aversion_per_quote": "3e-4"}

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return the band around the target, in base units; hold where the formula has no finite answer."""
        if not is_tradable(view):
            return HedgeTarget.hold(NOT_TRADABLE)
        spot_px = view.spot_px
        gamma = view.greeks.gamma_base_per_px
        risk_aversion = self.risk_aversion_per_quote
        half_base = cbrt(1.5 * view.cost_rate * spot_px * gamma * gamma / risk_aversion)
        if not (isfinite(half_base) and spot_px > 0.0):
            return HedgeTarget.hold(f"holding: no band from k {view.cost_rate}, spot {spot_px}, gamma {gamma}")
        half_base = max(half_base, view.lot_base)
        centre_base = view.target_delta_base
        return HedgeTarget.to_edge(
            centre_base - half_base,
            centre_base + half_base,
            f"band ±{half_base:.4g} {view.underlying}: k {view.cost_rate * 1e4:.3g} bp, gamma {gamma:.3g},"
            f" g {risk_aversion:g}",
        )
