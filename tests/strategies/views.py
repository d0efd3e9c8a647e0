"""A view to change one thing of at a time."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from bot.domain.decisions import HedgeView, Legs
from bot.domain.portfolio import Greeks
from bot.domain.units import NS_PER_HOUR

NOW_NS = 1_681_300_000_000_000_000


def view(gamma: float = -0.12, **changes: Any) -> HedgeView:
    """A short-gamma ETH book that was hedged two hours ago."""
    none = np.zeros(0)
    base = HedgeView(
        now_ns=NOW_NS,
        underlying="ETH",
        spot_px=1_900.0,
        target_delta_base=0.0,
        greeks=Greeks(delta_base=3.0, gamma_base_per_px=gamma),
        delta_low_base=3.0,
        delta_high_base=3.0,
        hedge_base=0.0,
        pending_base=0.0,
        cost_rate=5.1e-4,
        fixed_cost_quote=0.0,
        lot_base=0.1,
        monitor_years=1e-5,
        last_hedge_ns=NOW_NS - 2 * NS_PER_HOUR,
        last_hedge_px=1_890.0,
        legs=Legs(none, none, none, none, none, none > 0),
    )
    return msgspec.structs.replace(base, **changes)
