"""Hedge by Zakamouline's band: a closed form fitted to the exact solution, with a modified delta in its centre."""

from __future__ import annotations

from math import inf, isfinite
from typing import Literal

from bot.domain.decisions import HedgeTarget, HedgeView
from bot.pricing.bands import floor_half_base, zakamouline_half_base, zakamouline_vol
from strategies.corrections import MOST_VOL, horizon_years, too_late
from strategies.modified_delta import delta_shift_base
from strategies.policy import NOT_TRADABLE, is_tradable
from strategies.risk import RiskAverse


class Zakamouline(RiskAverse):
    """A no-trade band of half-width H1 + H0 around the delta at a modified vol σ_m; traded to its nearest edge.

    H0 = k/(g S σ² τ), H1 = 1.12 · k^0.31 · τ^0.05 · σ^(−0.25) · (|Γ|/g)^0.5, and σ_m² = σ²(1 ± |K|), + if the book is
    short gamma, with |K| = 4.76 · k^0.78 · τ^(−0.02) · σ^(−0.25) · (g S²|Γ|)^0.15. Zakamouline (2006), "Efficient
    analytic approximation of the optimal hedging strategy for a European call option with transaction costs",
    Quantitative Finance 6:435-445, for zero rates. For a book Γ is its net gamma and τ the time to its last expiry.
    Fitted to costs of 0.1–1 % and options of a year; at a few basis points Whalley & Wilmott's band with its
    corrections is better.
    """

    type: Literal["zakamouline"] = "zakamouline"

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return the band around the modified target, in base units; hold where there is no finite one."""
        if not is_tradable(view):
            return HedgeTarget.hold(NOT_TRADABLE)
        spot_px, vol, gamma, cost_rate = view.spot_px, view.vol, view.greeks.gamma_base_per_px, view.cost_rate
        risk_aversion, years = self.risk_aversion_at(view), horizon_years(view)
        half_base = shift_base = 0.0
        if not (isfinite(gamma) and isfinite(cost_rate) and 0.0 < spot_px < inf and 0.0 < vol <= MOST_VOL):
            return HedgeTarget.hold(f"holding: no band from spot {spot_px}, vol {vol}, gamma {gamma}, k {cost_rate}")
        if gamma and cost_rate > 0.0 and risk_aversion > 0.0:
            if years <= 0.0:
                return HedgeTarget.hold(too_late(view))
            fitted_years = min(years, 100.0)  # its powers of τ are nearly 1; for ever is as long
            half_base = zakamouline_half_base(cost_rate, vol, fitted_years, gamma, risk_aversion)
            half_base += floor_half_base(cost_rate, spot_px, vol, years, risk_aversion)
            modified = zakamouline_vol(cost_rate, spot_px, vol, fitted_years, gamma, risk_aversion)
            shift_base = delta_shift_base(view.legs, modified / vol)
        if not (isfinite(half_base) and isfinite(shift_base)):
            return HedgeTarget.hold(f"holding: no band from spot {spot_px}, vol {vol}, gamma {gamma}, k {cost_rate}")
        half_base = max(half_base, view.lot_base)
        centre_base = view.target_delta_base + shift_base
        return HedgeTarget.to_edge(
            centre_base - half_base,
            centre_base + half_base,
            f"band ±{half_base:.4g} {view.underlying} around {shift_base:+.3g}: k {cost_rate * 1e4:.3g} bp,"
            f" gamma {gamma:.3g}, g {risk_aversion:.3g}",
        )
