"""Hedging where a trade costs gas: when to trade and where to, what a block's delay and its late look cost.

The local model: the hedge is off by e, which moves like v dW with v = |Γ|Sσ; being off costs a e² per year with
a = ½ g σ²S², a trade of u costs c|u| + F with c = kS. S is spot, Γ the net gamma of the book, g the absolute risk
aversion per unit of quote money, k the one-way cost as a fraction of traded value, F the fixed cost of a trade.
Without F the band is that of Whalley & Wilmott (1997), Mathematical Finance 7:307-324.

With F the policy is one of impulse control (trigger ±H, trade back to ±h; Korn 1998, "Portfolio optimisation with
strictly positive transaction costs and impulse control", Finance and Stochastics 2:85-114; for hedging Zakamouline
2006, "European option pricing and hedging with both fixed and proportional transaction costs", J. Economic Dynamics
and Control 30:1-25). Its equations are solved here for all of a, c, v and F at once, in units of the band without F.
"""

from __future__ import annotations

from functools import lru_cache
from math import acos, cbrt, cos, inf, pi, sqrt
from typing import NamedTuple

import numpy as np

from bot.pricing.bands import (
    MONITORING_SHIFT,
    band_half_base,
    delta_sd_base,
    edge_cost_rate_quote,
    fixed_cost_half_base,
    implied_risk_aversion_per_quote,
    monitored_half_base,
    risk_rate_quote,
)

__all__ = [
    "MONITORING_SHIFT",
    "Impulse",
    "band_half_base",
    "delta_drift_base",
    "delta_sd_base",
    "edge_cost_rate_quote",
    "fixed_cost_half_base",
    "implied_risk_aversion_per_quote",
    "latency_cost_rate_quote",
    "monitored_half_base",
    "partial_stop_share",
    "risk_rate_quote",
    "solve_impulse",
    "stop_share",
    "value_share",
]  # the band without a fixed cost is part of this model, so it is found here as well


_REACH = 4.0  # how far off the value with impact is solved, in half-widths, and in how many points on either side
_POINTS = 160
_LEAST_STEP = 0.05


class Impulse(NamedTuple):
    """The best trigger H, where to trade to, h, and the cost per time J, each as a share of that without fixed cost."""

    trigger_share: float
    target_share: float
    cost_share: float


def solve_impulse(phi: float) -> Impulse:
    """Return the solution for φ = F/(c·H_WW), the fixed cost against that of trading one half-width.

    In units of H_WW and of its cost rate, smooth fit asks V'(h) = V'(H) = c, so that both are roots of
    e³ − 3Je + 2 = 0, and value matching V(H) − V(h) = F + c(H − h) asks
    φ = (3/2)[J(H² − h²)/2 − (H⁴ − h⁴)/12] − (H − h). By the envelope theorem dφ/dJ = (3/4)(H² − h²), which grows with
    J, so Newton's method comes down on J from any point above it. φ = 0 is the edge, 1 for all three; φ → ∞ the centre.
    """
    if not 0.0 <= phi < inf:
        raise ValueError(f"phi: expected a fixed cost of at least 0 over a cost above 0, found {phi}")
    if phi == 0.0:
        return Impulse(1.0, 1.0, 1.0)
    cost = 1.0 + cbrt(0.25 * phi * phi) + sqrt(phi / 1.125)  # never below J: the sum of its two limits
    for _ in range(60):
        high, low = _roots(cost)
        slope = 0.75 * (high * high - low * low)
        if slope <= 0.0:
            break
        step = (_phi(cost, high, low) - phi) / slope
        cost = max(1.0, cost - step)
        if abs(step) < 1e-13 * cost:
            break
    high, low = _roots(cost)
    return Impulse(high, low, cost)


def value_share(off_share: float, impulse: Impulse) -> float:
    """Return what being off by `off_share` of H_WW costs more than not being off, in units of c·H_WW.

    V(x) = (3/2)(J x²/2 − x⁴/12) up to the trigger; beyond it a trade is due at once, so V rises by what that costs.
    """
    off = abs(off_share)
    inside = min(off, impulse.trigger_share)
    square = inside * inside
    return 1.5 * square * (0.5 * impulse.cost_share - square / 12.0) + off - inside


def stop_share(off_share: float, impact_share: float, impulse: Impulse) -> float:
    """Return where to trade to from `off_share` outside the trigger if a trade also moves the price against itself.

    A trade of u units of H_WW costs u + `impact_share` · u² in units of c·H_WW, so it ends where the next unit saves
    what it costs: V'(m) = 1 + 2 · impact_share · (off − m), between h (no impact) and where V rises fastest, √J.
    """
    low, high = impulse.target_share, sqrt(impulse.cost_share)
    if impact_share <= 0.0 or high <= low:
        return min(low, off_share)
    for _ in range(40):
        middle = 0.5 * (low + high)
        slope = 1.5 * middle * (impulse.cost_share - middle * middle / 3.0)
        if slope < 1.0 + 2.0 * impact_share * (off_share - middle):
            low = middle
        else:
            high = middle
    return min(0.5 * (low + high), off_share)


def partial_stop_share(off_share: float, impact_share: float, step_share: float) -> float:
    """Return where to trade to from `off_share` where impact makes a large trade dear and the next look is soon.

    A trade of u half-widths costs u + `impact_share` · u^1.5 in units of c·H_WW, and between two looks the hedge moves
    by `step_share` half-widths (one standard deviation). What is not traded now can be traded at the next look, so a
    trade stops where W'(m) = 1 + 1.5 · impact_share · √(off − m), W being what being off by m costs from then on; less
    is left the longer the step. That is solved as a programme of average cost, and remembered: no work for a hot path.
    Raises ValueError for steps below 0.05, at which impact is avoided by trading little by little.
    """
    if not step_share >= _LEAST_STEP or impact_share < 0.0:
        found = f"{step_share} and {impact_share}"
        raise ValueError(f"step_share: expected at least {_LEAST_STEP} and an impact of at least 0, found {found}")
    slopes = _value_slopes(impact_share, step_share)
    spacing = _REACH / _POINTS
    off = abs(off_share)
    low, high = 0.0, min(off, _REACH)
    for _ in range(40):
        middle = 0.5 * (low + high)
        place = min(middle / spacing, len(slopes) - 1.001)
        whole = int(place)
        slope = slopes[whole] + (place - whole) * (slopes[whole + 1] - slopes[whole])
        if slope < 1.0 + 1.5 * impact_share * sqrt(off - middle):
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@lru_cache(maxsize=32)
def _value_slopes(impact_share: float, step_share: float) -> tuple[float, ...]:
    """Return W' from no deviation on, by value iteration of V(e) = min over m of C(|e − m|) + W(m), less V(0).

    W(m) = ¾ m² s² + E[V(m + s Z)], s the step: in these units a = ¾ and v = 1, as H_WW³ = ¾ c v²/a.
    """
    spacing = _REACH / _POINTS
    offs = np.linspace(-_REACH, _REACH, 2 * _POINTS + 1)
    wide = int(5.0 * step_share / spacing) + 1
    moves = np.arange(-wide, wide + 1)
    chances = np.exp(-0.5 * (moves * spacing / step_share) ** 2)
    chances /= chances.sum()
    trades = np.abs(offs[:, None] - offs[None, :])
    costs = trades + impact_share * trades * np.sqrt(trades)
    value = np.zeros_like(offs)
    later = value
    for _ in range(3000):
        beyond = np.arange(1, wide + 1) * (value[-1] - value[-2])
        later = np.convolve(np.concatenate((value[0] + beyond[::-1], value, value[-1] + beyond)), chances, "valid")
        later = later + 0.75 * (offs * step_share) ** 2
        found = (costs + later).min(axis=1)
        found -= found[_POINTS]
        is_close = float(np.abs(found - value).max()) < 1e-7
        value = found
        if is_close:
            break
    return tuple(np.gradient(later, spacing)[_POINTS:].tolist())


def delta_drift_base(gamma_base_per_px: float, spot_px: float, vol: float, years: float) -> float:
    """Return −σ² S Γ t, how far net delta is expected to move in that time, in base units.

    Not charm · t: for a forward without drift of its own, the derivative by S of the Black–Scholes equation is
    charm + σ²SΓ + ½σ²S²·speed = 0, and by Itô's lemma charm + ½σ²S²·speed is the drift of delta.
    """
    return -vol * vol * spot_px * gamma_base_per_px * max(0.0, years)


def latency_cost_rate_quote(
    risk_aversion_per_quote: float, gamma_base_per_px: float, spot_px: float, vol: float, latency_years: float
) -> float:
    """Return ½ g Γ² S⁴ σ⁴ L, what orders that take L to arrive cost per year: a v² L, whatever is done about it."""
    step_base = delta_sd_base(gamma_base_per_px, spot_px, vol, latency_years)
    return risk_rate_quote(risk_aversion_per_quote, spot_px, vol) * step_base * step_base


def _roots(cost: float) -> tuple[float, float]:
    """Return the two positive roots of e³ − 3Je + 2 = 0 for J ≥ 1, the larger first (Viète)."""
    radius = 2.0 * sqrt(cost)
    angle = acos(max(-1.0, -(cost**-1.5))) / 3.0
    return radius * cos(angle), radius * cos(angle - 2.0 * pi / 3.0)


def _phi(cost: float, high: float, low: float) -> float:
    squares = high * high + low * low
    return (high - low) * (1.5 * (high + low) * (0.5 * cost - squares / 12.0) - 1.0)
