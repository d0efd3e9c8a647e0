"""The delta of the book at another vol: where costs are part of the value, they are part of the delta."""

from __future__ import annotations

import numpy as np

from bot.domain.decisions import Legs
from bot.pricing.black76 import greeks


def delta_shift_base(legs: Legs, vol_ratio: float) -> float:
    """Return where net delta should be if the options' delta is that at `vol_ratio` times their vol, less the target.

    Net delta counts them at their own vol, so what is hedged in excess of it is Σ q (Δ(σ) − Δ(σ · ratio)). Deltas are
    Black's by the forward. What has expired counts for nothing.
    """
    alive = (legs.tau_years > 0.0) & (legs.vol > 0.0)
    if not alive.any() or vol_ratio == 1.0:
        return 0.0
    forward, strike, tau, vol = legs.forward_px[alive], legs.strike_px[alive], legs.tau_years[alive], legs.vol[alive]
    is_call, qty = legs.is_call[alive], legs.qty_base[alive]
    own = greeks(forward, strike, tau, vol, is_call).delta
    modified = greeks(forward, strike, tau, vol * vol_ratio, is_call).delta
    return float(np.dot(qty, own - modified))
