"""What hedging two correlated underlyings costs by the bands of a real policy: the local model, played tick by tick.

Prices, vols and gammas stay as they are; net delta of each underlying wanders by Γ S σ √dt between two looks, and the
two by moves that are correlated. The policy sees each as the engine would show it, one after the other, the second with
what the first has just traded. Counted are what is traded at its cost, and the risk of both together, (g/2) xᵀ R x with
the true correlation, whatever the policy was told.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np

from bot.domain.decisions import HedgePolicy, HedgeView, Legs, Peer
from bot.domain.portfolio import Greeks

FIRST_NS = 1_750_000_000_000_000_000  # any moment long after 0
LOT_BASE = 1e-9
_NONE = np.zeros(0)
_NO_LEGS = Legs(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE > 0)


class Side(NamedTuple):
    """One of the two underlyings."""

    name: str
    spot_px: float
    vol: float
    gamma_base_per_px: float
    cost_rate: float

    @property
    def unit_px(self) -> float:
        """What a unit of base moves by in a year."""
        return self.spot_px * self.vol


class Costs(NamedTuple):
    """What hedging cost per year: all, and what of it was paid for trades; the rest is risk."""

    total_quote: float
    trading_quote: float


def play_together(
    policy: HedgePolicy,
    risk_aversion_per_quote: float,
    sides: tuple[Side, Side],
    correlation_ratio: float,
    told_ratio: float,
    *,
    seed: int,
    ticks: int,
    step_years: float,
) -> Costs:
    """Play `policy` over so many looks; told 0 it hedges each underlying alone. One seed is one path for all."""
    rng = np.random.default_rng(seed)
    moves = rng.standard_normal((ticks, 2))
    moves[:, 1] = correlation_ratio * moves[:, 0] + sqrt(1.0 - correlation_ratio**2) * moves[:, 1]
    wander = [side.gamma_base_per_px * side.unit_px * sqrt(step_years) for side in sides]
    steps = (moves * wander).tolist()
    off = [0.0, 0.0]
    trading = risk = 0.0
    first = ticks // 10
    for tick, step in enumerate(steps):
        off[0] += step[0]
        off[1] += step[1]
        for i, side in enumerate(sides):
            other = sides[1 - i]
            peers: tuple[Peer, ...] = ()
            if told_ratio:
                seen = (other.spot_px, other.vol, told_ratio, off[1 - i], other.gamma_base_per_px, other.cost_rate)
                peers = (Peer(other.name, *seen),)
            target = policy.target(_view(side, off[i], step_years, peers))
            traded = 0.0
            if off[i] < target.low_base:
                traded = target.buy_to_base - off[i]
            elif off[i] > target.high_base:
                traded = target.sell_to_base - off[i]
            off[i] += traded
            if tick >= first:
                trading += abs(traded) * side.cost_rate * side.spot_px
        if tick >= first:
            x, y = off[0] * sides[0].unit_px, off[1] * sides[1].unit_px
            risk += x * x + 2.0 * correlation_ratio * x * y + y * y
    years = (ticks - first) * step_years
    risk_quote = 0.5 * risk_aversion_per_quote * risk / (ticks - first)
    return Costs(trading / years + risk_quote, trading / years)


def _view(side: Side, off_base: float, step_years: float, peers: tuple[Peer, ...]) -> HedgeView:
    return HedgeView(
        now_ns=FIRST_NS,
        underlying=side.name,
        spot_px=side.spot_px,
        target_delta_base=0.0,
        greeks=Greeks(off_base, side.gamma_base_per_px),
        delta_low_base=off_base,
        delta_high_base=off_base,
        hedge_base=0.0,
        pending_base=0.0,
        cost_rate=side.cost_rate,
        fixed_cost_quote=0.0,
        lot_base=LOT_BASE,
        monitor_years=step_years,
        last_hedge_ns=0,
        last_hedge_px=0.0,
        legs=_NO_LEGS,
        vol=side.vol,
        peers=peers,
        vanna_base_per_vol=0.0,
    )
