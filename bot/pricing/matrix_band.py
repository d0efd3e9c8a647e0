"""One band rule for several underlyings that move together: where the risk of all of them together is least.

Being off by e_i in each of several underlyings costs (g/2) eᵀ M e a year, M_ij = ρ_ij σ_i S_i σ_j S_j. In units of
x_i = σ_i S_i e_i that is (g/2) xᵀ R x, R being the matrix of correlations, and what one more unit of x_i adds to it is
g z_i with z = R x. So an underlying is judged by z_i and not by x_i: its band is centred where z_i is 0, at
x_i = −Σ ρ_ij x_j, and its half-width is that of Whalley & Wilmott for what z_i wanders by:

    Var dz_i = (v_i + Σ ρ_ij² v_j)² + Σ ρ_ij² (1 − ρ_ij²) v_j²   per year, v_i = Γ_i (σ_i S_i)²,

exact for two underlyings; for more it takes the correlation of two peers for the product of theirs with this one. In
units of base at the own spot that is a gamma: the one whose delta wanders as far as z_i does.

The no-trade region of two underlyings is a parallelogram along the directions in which they offset each other. No
closed form of the exact region is known (Possamaï, Soner & Touzi 2015, "Homogenization and asymptotics for small
transaction costs: the multidimensional case", Communications in PDE 40:2005-2046, give the equation). The shift is cut
at the peers' own bands: residuals further out are traded away by their own desks sooner than here, and following them
costs more than it saves (docs/hedging.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, isfinite, sqrt
from typing import NamedTuple

from bot.pricing.bands import band_half_base


class Companion(NamedTuple):
    """Another underlying: its price, vol, net gamma and cost of trading, how it moves along, how far off it is."""

    spot_px: float
    vol: float
    gamma_base_per_px: float
    cost_rate: float
    correlation_ratio: float
    off_base: float


class JointBand(NamedTuple):
    """The gamma to make an underlying's band of in place of its own, and where to centre it, off its own target."""

    gamma_base_per_px: float
    centre_base: float


def joint_band(
    spot_px: float,
    vol: float,
    gamma_base_per_px: float,
    risk_aversion_per_quote: float,
    companions: Sequence[Companion],
) -> JointBand:
    """Return gamma and centre of the band of one underlying beside others; its own ones where they count for nothing.

    A companion that is no usable number, or does not move along, is left out.
    """
    unit_px = vol * spot_px  # what a unit of base moves by in a year
    if not 0.0 < unit_px < float("inf"):
        return JointBand(gamma_base_per_px, 0.0)
    along = own = gamma_base_per_px * unit_px * unit_px
    beside = centre = 0.0
    for one in companions:
        ratio, moved_px = one.correlation_ratio, one.vol * one.spot_px
        wander = one.gamma_base_per_px * moved_px * moved_px
        is_known = isfinite(wander) and isfinite(one.off_base) and isfinite(one.cost_rate)
        if not (-1.0 <= ratio <= 1.0 and ratio and moved_px > 0.0 and is_known):
            continue
        square = ratio * ratio
        along += square * wander
        beside += square * (1.0 - square) * wander * wander
        most_base = band_half_base(one.cost_rate, one.spot_px, one.gamma_base_per_px, risk_aversion_per_quote)
        off_base = one.off_base if abs(one.off_base) <= most_base else copysign(most_base, one.off_base)
        centre -= ratio * moved_px / unit_px * off_base
    if along == own and not beside and not centre:
        return JointBand(gamma_base_per_px, 0.0)
    gamma = sqrt(along * along + beside) / (unit_px * unit_px)
    return JointBand(copysign(gamma, gamma_base_per_px), centre)
