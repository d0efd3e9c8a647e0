"""Hedge by the move of the price: back to the target once spot has moved far enough since the last hedge."""

from __future__ import annotations

from math import inf
from typing import ClassVar, Literal

from pydantic import Field

from bot.domain.decisions import HedgeTarget, HedgeView
from strategies.policy import NOT_TRADABLE, Policy, is_tradable


class PriceMove(Policy):
    """Trade back to the target when spot is `move_fraction` away from the price of the last hedge, up or down.

    Henrotte (1993), "Transaction costs and duplication strategies" (Stanford working paper), compares it with the
    clock; Martellini & Priaulet (2002), "Competing methods for option hedging in the presence of transaction costs",
    Journal of Derivatives 9:26-38, with bands in delta. Before the first hedge it is due at once. It does not see time
    pass, so a delta that decays unhedged stays so until spot moves. Less than half a lot is left alone.
    """

    type: Literal["price_move"] = "price_move"
    move_fraction: float = Field(
        gt=0, le=1, description="Move of spot since the last hedge, as a fraction of its price"
    )

    starting_values: ClassVar[dict[str, str]] = {"move_fraction": "0.01"}

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return a band of half a lot around the target, traded to the target, if spot has moved; else hold."""
        last_px, spot_px = view.last_hedge_px, view.spot_px
        if not (is_tradable(view) and 0.0 < spot_px < inf and 0.0 <= last_px < inf):
            return HedgeTarget.hold(NOT_TRADABLE)
        moved = spot_px / last_px - 1.0 if last_px else inf
        if abs(moved) < self.move_fraction:
            return HedgeTarget.hold(f"move: {moved:+.2%} since the last hedge, due at {self.move_fraction:.2%}")
        centre_base = view.target_delta_base
        half_lot_base = 0.5 * view.lot_base
        since = f"{moved:+.2%} since the last hedge" if last_px else "first hedge"
        return HedgeTarget.to_centre(
            centre_base - half_lot_base,
            centre_base + half_lot_base,
            centre_base,
            f"move of {self.move_fraction:.2%}: {since}",
        )
