"""Hedge by a fixed band: leave net delta alone within it, trade when it is left."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from bot.domain.decisions import HedgeTarget, HedgeView
from strategies.policy import NOT_TRADABLE, Policy, is_tradable

STARTING_SHARE = 0.025  # of the book's gross quantity: ±5 for a hundred straddles


class DeltaBand(Policy):
    """A no-trade band of constant half-width around the target delta: target ± `half_width_base`.

    Whalley & Wilmott (1993, "Counting the costs", RISK 6:59-66) call it hedging to a fixed bandwidth in delta. With
    costs in proportion to the value traded, back to the nearest edge is cheapest; with a fixed cost per trade, back
    to the centre. A half-width below one lot counts as one lot: nothing smaller can be traded.
    """

    type: Literal["delta_band"] = "delta_band"
    half_width_base: float = Field(gt=0, description="Half-width of the band on net delta")
    trade_to: Literal["edge", "centre"] = Field(
        default="edge", description="Where a hedge ends: nearest edge or centre"
    )

    starting_values: ClassVar[dict[str, str]] = {"half_width_base": "5"}

    @classmethod
    def starting_values_for(cls, gross_base: float | None) -> dict[str, str]:
        """Return a half-width of a fixed share of the book."""
        if gross_base is None:
            return super().starting_values_for(None)
        return {"half_width_base": f"{STARTING_SHARE * gross_base:g}"}

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return the band around the target, in base units."""
        if not is_tradable(view):
            return HedgeTarget.hold(NOT_TRADABLE)
        centre_base = view.target_delta_base
        half_base = max(self.half_width_base, view.lot_base)
        low_base, high_base = centre_base - half_base, centre_base + half_base
        reason = f"fixed band ±{half_base:.4g} {view.underlying} to the {self.trade_to}"
        if self.trade_to == "centre":
            return HedgeTarget.to_centre(low_base, high_base, centre_base, reason)
        return HedgeTarget.to_edge(low_base, high_base, reason)
