"""Closed forms of how far net delta may stray, and what that costs: bands, corrections, centres, cost rates.

Names are the same throughout: S spot, Γ the net gamma of the book in base units per price, k the one-way cost as a
fraction of traded value, g the absolute risk aversion per unit of quote money, σ vol, τ years to expiry; rates are
zero. Every band depends on its inputs only through S/K, σ²τ, k and gK, and n contracts at g are one contract at ng,
n times over. All of them take the net gamma of a book: bands per option, added up, are several times too wide.

The local model behind them: the hedge is off by e, which moves like v dW with v = |Γ|Sσ; being off costs a e² per
year with a = ½ g σ²S², a trade of u costs c|u| with c = kS.

All arguments are plain floats, for a policy asks with every tick. Nothing here warns or raises for a number that
makes no sense; it answers with a number that makes no sense either, and the caller has to look at what it was given.
"""

from __future__ import annotations

from math import cbrt, exp, inf, pi, sqrt
from math import pow as power

# −ζ(1/2)/√(2π): Broadie, Glasserman & Kou (1997), "A continuity correction for discrete barrier options",
# Mathematical Finance 7:325-349.
MONITORING_SHIFT = 0.5825971579390107
_SAFE_STEP = 1.2  # steps wider than this times the band: from here on the shift is bent, or the band would vanish
_CLOSING_SHARE = 0.7
_COST_RATE_FACTOR = 0.5 * cbrt(2.25)  # ½ (3/2)^(2/3)


def band_half_base(cost_rate: float, spot_px: float, gamma_base_per_px: float, risk_aversion_per_quote: float) -> float:
    """Return the Whalley–Wilmott half-width H_WW = (3/2 · k S Γ²/g)^(1/3), in base units.

    Whalley & Wilmott (1997), "An asymptotic analysis of an optimal hedging model for option pricing with transaction
    costs", Mathematical Finance 7:307-324.
    """
    return cbrt(1.5 * cost_rate * spot_px * gamma_base_per_px * gamma_base_per_px / risk_aversion_per_quote)


def implied_risk_aversion_per_quote(
    half_base: float, cost_rate: float, spot_px: float, gamma_base_per_px: float
) -> float:
    """Return the risk aversion at which a band of this half-width is that of Whalley & Wilmott; 0 without gamma."""
    cube = half_base * half_base * half_base
    return 1.5 * cost_rate * spot_px * gamma_base_per_px * gamma_base_per_px / cube if cube > 0.0 else inf


def floor_half_base(
    cost_rate: float, spot_px: float, vol: float, tau_years: float, risk_aversion_per_quote: float
) -> float:
    """Return H0 = k/(g S σ² τ), which keeps a band from closing where gamma dies out but delta still wanders.

    Zakamouline (2006), "Efficient analytic approximation of the optimal hedging strategy for a European call option
    with transaction costs", Quantitative Finance 6:435-445. It is where trading a unit of base, kS, costs what that
    unit would cost in risk until τ is over, g e σ²S²τ: whoever is less far off had better wait for the end.
    Infinite where no risk is left to save (no time, no vol), 0 where time has no end.
    """
    saved = risk_aversion_per_quote * spot_px * vol * vol * tau_years
    return cost_rate / saved if saved > 0.0 else inf


def floored_half_base(half_base: float, floor_base: float) -> float:
    """Return (H³ + H0³)^(1/3), a half-width that is H near the strike and H0 far from it.

    H of Whalley & Wilmott is a cube root too: its cube is a cost against the risk of gamma, that of H0 against the
    risk of the time left, and what holds a trade back adds up. A plain sum is too wide wherever both count, at the
    strike above all. Found for this project by comparing bands with the exact optimum on a lattice, which it meets
    within a few per cent; a fit to nothing, as it has no constant (docs/hedging-efficiency.md).
    """
    wide, narrow = (half_base, floor_base) if half_base > floor_base else (floor_base, half_base)
    if not 0.0 < wide < inf:
        return wide
    share = narrow / wide
    return wide * cbrt(1.0 + share * share * share)


def closing_half_base(gamma_base_per_px: float, spot_px: float, vol: float, tau_years: float) -> float:
    """Return 0.7 |Γ| S σ √τ: how far a hedge that must be closed at expiry may be beyond what is wanted.

    Closing it now costs what closing it then would, so nothing holds it back but that delta may wander back and ask for
    it again; which is a matter of how far it wanders in the time left. The constant was fitted to the exact optimum on
    a lattice, calls and books alike, and is flat about its best (docs/hedging-efficiency.md). 0 without gamma,
    infinite where time has no end.
    """
    return _CLOSING_SHARE * delta_sd_base(gamma_base_per_px, spot_px, vol, tau_years) if tau_years < inf else inf


def monitored_half_base(half_base: float, step_base: float) -> float:
    """Return the trigger that, looked at only now and then, is as good as `half_base` watched all the time.

    Between two looks delta wanders by `step_base` (one standard deviation), so it is found 0.5826 of that beyond the
    trigger on average (Broadie, Glasserman & Kou 1997). For x = step/half above 1.2 the form is bent into an
    exponential: the trigger stays above 0, as it does in the exact solution of the discrete problem.
    """
    if half_base <= 0.0:
        return 0.0
    steps = step_base / half_base
    if steps < _SAFE_STEP:
        return half_base * (1.0 - MONITORING_SHIFT * steps)
    return half_base * (1.0 - _SAFE_STEP * MONITORING_SHIFT) * exp(_SAFE_STEP - steps)


def fixed_cost_half_base(fixed_cost_quote: float, gamma_base_per_px: float, risk_aversion_per_quote: float) -> float:
    """Return the half-width (12 F Γ²/g)^(1/4) of a band traded to its centre where only F is paid per trade."""
    return sqrt(sqrt(12.0 * fixed_cost_quote * gamma_base_per_px * gamma_base_per_px / risk_aversion_per_quote))


def zakamouline_half_base(
    cost_rate: float, vol: float, tau_years: float, gamma_base_per_px: float, risk_aversion_per_quote: float
) -> float:
    """Return H1 = 1.12 · k^0.31 · τ^0.05 · σ^(−0.25) · (|Γ|/g)^0.5 of Zakamouline (2006); his half-width is H1 + H0.

    Fitted by its author to costs of 0.1–1 % and options of about a year; at a few basis points it is no better than
    Whalley & Wilmott's.
    """
    root = sqrt(abs(gamma_base_per_px) / risk_aversion_per_quote)
    return 1.12 * power(cost_rate, 0.31) * power(tau_years, 0.05) * power(vol, -0.25) * root


def zakamouline_vol(
    cost_rate: float,
    spot_px: float,
    vol: float,
    tau_years: float,
    gamma_base_per_px: float,
    risk_aversion_per_quote: float,
) -> float:
    """Return σ_m, the vol of the delta in the centre of Zakamouline's band (2006): higher if short gamma, else lower.

    σ_m² = σ²(1 + |K|) for a negative Γ and σ²(1 − |K|) for a positive one, with |K| = `zakamouline_shift`: costs make
    a short position dearer and a long one worth less. Where |K| ≥ 1 (costs of many per cent) the long side is 0.
    """
    shift = zakamouline_shift(cost_rate, spot_px, vol, tau_years, gamma_base_per_px, risk_aversion_per_quote)
    return vol * sqrt(max(0.0, 1.0 + shift if gamma_base_per_px < 0.0 else 1.0 - shift))


def zakamouline_shift(
    cost_rate: float,
    spot_px: float,
    vol: float,
    tau_years: float,
    gamma_base_per_px: float,
    risk_aversion_per_quote: float,
) -> float:
    """Return |K| = 4.76 · k^0.78 · τ^(−0.02) · σ^(−0.25) · (g S²|Γ|)^0.15, the relative change of variance."""
    gamma_share = risk_aversion_per_quote * spot_px * spot_px * abs(gamma_base_per_px)
    return 4.76 * power(cost_rate, 0.78) * power(tau_years, -0.02) * power(vol, -0.25) * power(gamma_share, 0.15)


def centre_vol_ratio(
    cost_rate: float, spot_px: float, gamma_base_per_px: float, risk_aversion_per_quote: float
) -> float:
    """Return by how much to multiply every vol for the delta in the centre of a band: above 1 if short gamma.

    Hedging costs J per year (`edge_cost_rate_quote`) beside the ½ σ²S²|Γ| that gamma costs, as if σ² were higher by the
    share K = (3/2)^(2/3) (g k² S² |Γ|)^(1/3) for who is short gamma, lower for who is long. While an option stays at
    its strike K grows as the time left to the power −1/6, so that until expiry it all comes to 6/5 K: a closed form of
    the delta of the whole expected cost, dW/dS (`bot.pricing.ex_ante`), at a thousandth of its price, with no constant
    that was fitted. It is worth up to 3 % of the cost where gK is 100, and little where it is 10
    (docs/hedging-efficiency.md).
    """
    weight = risk_aversion_per_quote * spot_px * spot_px * abs(gamma_base_per_px)
    share = min(0.5, 1.2 * cbrt(2.25 * weight * cost_rate * cost_rate))
    return sqrt(1.0 + share if gamma_base_per_px < 0.0 else 1.0 - share)


def leland_number(cost_rate: float, vol: float, interval_years: float) -> float:
    """Return A = √(8/(π dt)) · k/σ, the relative change of variance when hedging by a clock of dt; k is one-way.

    Leland (1985), "Option pricing and replication with transactions costs", Journal of Finance 40:1283-1301; his own k
    is a round trip, twice ours.
    """
    return sqrt(8.0 / (pi * interval_years)) * cost_rate / vol


def leland_vol(cost_rate: float, vol: float, interval_years: float, gamma_base_per_px: float) -> float:
    """Return the vol of Leland's delta: σ√(1 + A) if short gamma, σ√(1 − A) if long, 0 where A ≥ 1.

    For a book the sign is that of its net gamma: Hoggard, Whalley & Wilmott (1994), "Hedging option portfolios in the
    presence of transaction costs", Advances in Futures and Options Research 7:21-35.
    """
    number = leland_number(cost_rate, vol, interval_years)
    return vol * sqrt(max(0.0, 1.0 + number if gamma_base_per_px < 0.0 else 1.0 - number))


def edge_cost_rate_quote(
    cost_rate: float, spot_px: float, gamma_base_per_px: float, risk_aversion_per_quote: float, vol: float
) -> float:
    """Return what hedging to the edge of H_WW costs per year, risk included: J = a H_WW², two thirds of it paid.

    That is ½ (3/2)^(2/3) g^(1/3) k^(2/3) S^(8/3) σ² |Γ|^(4/3).
    """
    root = cbrt(abs(gamma_base_per_px) * spot_px * spot_px)
    costs = cbrt(risk_aversion_per_quote * cost_rate * cost_rate)
    return _COST_RATE_FACTOR * costs * vol * vol * root * root * root * root


def risk_rate_quote(risk_aversion_per_quote: float, spot_px: float, vol: float) -> float:
    """Return a = ½ g σ²S²: what being off by one unit of base costs per year, in quote money."""
    moved_px = vol * spot_px
    return 0.5 * risk_aversion_per_quote * moved_px * moved_px


def delta_sd_base(gamma_base_per_px: float, spot_px: float, vol: float, years: float) -> float:
    """Return |Γ| S σ √t, how far net delta wanders in that time: one standard deviation."""
    return abs(gamma_base_per_px) * spot_px * vol * sqrt(max(0.0, years))


def daily_sd_half_base(daily_sd_quote: float, spot_px: float, vol: float) -> float:
    """Return the half-width H at which being off costs a standard deviation of `daily_sd_quote` per day.

    Net delta is found anywhere in a band with equal probability, H/√3 off on average (root mean square), and S moves
    by Sσ/√365 in a day.
    """
    return daily_sd_quote * sqrt(3.0 * 365.0) / (spot_px * vol)
