"""Hedge where a trade costs a fixed amount as well: wait longer for it, then trade further, to an inner edge."""

from __future__ import annotations

from math import inf, isinf, isnan, sqrt
from typing import Literal

from bot.domain.decisions import HedgeTarget, HedgeView
from bot.pricing.bands import fixed_cost_half_base, floored_half_base, monitored_half_base, risk_rate_quote
from bot.pricing.impulse import solve_impulse
from strategies.corrections import (
    MOST_VOL,
    UNKNOWN_HEDGE,
    Band,
    CorrectedBand,
    about,
    by_side,
    edges_base,
    horizon_years,
    too_late,
    width,
)
from strategies.policy import NOT_TRADABLE, is_tradable


class Impulse(CorrectedBand):
    """Whalley & Wilmott's band for a cost of k per unit traded and F per trade (`view.fixed_cost_quote`).

    Trigger ±H, trade back to ±h: the impulse control of the local model, solved by `bot.pricing.impulse.solve_impulse`
    for φ = F/(k S H_WW). Without F both are the edge, and the band is that of `whalley_wilmott`, corrections included;
    with nothing but F the trigger is (12 F Γ²/g)^(1/4) and h the centre. Korn (1998), "Portfolio optimisation with
    strictly positive transaction costs and impulse control", Finance and Stochastics 2:85-114; for hedging Zakamouline
    (2006), "European option pricing and hedging with both fixed and proportional transaction costs", J. Economic
    Dynamics and Control 30:1-25.

    `h0_floor` asks of F what it asks of k: the time left must earn it back. Going from e to H0 saves a(e − H0)² τ more
    than what is traded costs, a = ½ g σ²S²; so H0 + √(F/(aτ)) is what the trigger is floored by, in cubes again.
    Likewise `unwinds_at_expiry`: 2 H0 in place of H0 where the hedge grows; where it shrinks, trigger and inner edge
    come nearer together, until the inner edge is where the band would end without F.
    """

    type: Literal["impulse"] = "impulse"

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return trigger and inner edge around the target, in base units; hold where there are no finite ones."""
        if not is_tradable(view):
            return HedgeTarget.hold(NOT_TRADABLE)
        band = self.band(view)
        fixed_quote = view.fixed_cost_quote
        if isnan(band.half_base) or not 0.0 <= fixed_quote < inf:
            return HedgeTarget.hold(f"holding: no band from {about(view, band)}, fixed cost {fixed_quote:.4g}")
        triggers_base, stops_base = self._triggers_and_stops(view, band)
        below_base, above_base = triggers_base
        if isnan(below_base):
            return HedgeTarget.hold(UNKNOWN_HEDGE)
        if isinf(below_base) or isinf(above_base):
            return HedgeTarget.hold(too_late(view))
        below_base, above_base = max(below_base, view.lot_base), max(above_base, view.lot_base)
        centre_base = view.target_delta_base + band.shift_base
        low_base, high_base = centre_base - below_base, centre_base + above_base
        reason = f"band {width(below_base, above_base)} {view.underlying}: {about(view, band)}"
        if fixed_quote == 0.0:
            return HedgeTarget.to_edge(low_base, high_base, reason)
        # Strictly inside: a band that is traded to its very edge has left the fixed cost to the engine.
        below_stop_base = min(stops_base[0], below_base * (1.0 - 1e-6))
        above_stop_base = min(stops_base[1], above_base * (1.0 - 1e-6))
        return HedgeTarget(
            low_base,
            high_base,
            centre_base - below_stop_base,
            centre_base + above_stop_base,
            0.0,
            f"{reason}, to {width(below_stop_base, above_stop_base)} for {fixed_quote:.4g} a trade",
        )

    def _triggers_and_stops(self, view: HedgeView, band: Band) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the triggers below and above the centre, and likewise where a trade through them ends."""
        half_base, fixed_quote = band.half_base, view.fixed_cost_quote
        if fixed_quote == 0.0:
            edges = edges_base(half_base, band)
            return edges, edges
        unit_quote = view.cost_rate * view.spot_px * half_base
        share = fixed_quote / unit_quote if unit_quote > 0.0 else inf
        if share < 1e12:
            solved = solve_impulse(share)
            trigger_base, stop_base = half_base * solved.trigger_share, half_base * solved.target_share
        else:  # nothing but the fixed cost counts
            gamma = band.gamma_base_per_px
            is_averse = band.risk_aversion_per_quote > 0.0
            trigger_base = fixed_cost_half_base(fixed_quote, gamma, band.risk_aversion_per_quote) if is_averse else 0.0
            stop_base = 0.0
        last_base = self._last_trade_base(view, band)
        trigger_base = monitored_half_base(trigger_base, band.step_base) if band.step_base else trigger_base
        opening = band.opening_floor_base
        opening_base = floored_half_base(trigger_base, opening + last_base)
        opening_stop_base = floored_half_base(stop_base, opening)
        if not band.wanted_base or isinf(opening_base):
            return (opening_base, opening_base), (opening_stop_base, opening_stop_base)
        # Closing has its gas to earn, whatever the units cost: the trigger stays as far beyond the stop as it was.
        closing_base = floored_half_base(trigger_base, band.floor_base + last_base)
        closing_stop_base = min(floored_half_base(stop_base, band.floor_base), closing_base)
        nearer_base = max(0.0, closing_stop_base - band.closing_base)
        return (
            by_side(band, opening_base, closing_base - nearer_base),
            by_side(band, opening_stop_base, closing_stop_base - nearer_base),
        )

    def _last_trade_base(self, view: HedgeView, band: Band) -> float:
        """Return how far beyond its stop net delta must be for a last trade to earn its gas in the time left."""
        if not (self.h0_floor and 0.0 < view.vol <= MOST_VOL) or self.is_daily_limit:
            return 0.0
        saved = risk_rate_quote(band.risk_aversion_per_quote, view.spot_px, view.vol) * horizon_years(view)
        return sqrt(view.fixed_cost_quote / saved) if saved > 0.0 else inf
