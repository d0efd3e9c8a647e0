"""Rest at the touch or cross the spread: what waiting for a maker fill is expected to cost against crossing now.

A resting order fills at a constant rate λ per second (a Poisson process, as in Avellaneda & Stoikov 2008,
"High-frequency trading in a limit order book", Quantitative Finance 8:217-224). Until it does, being off costs w per
second: the risk a e² of the local model (`bot.pricing.impulse`), and the drift against us that goes with not being
filled (the queue is passed when the price comes, missed when it leaves: Cont & Kukanov 2017, "Optimal order placement
in limit order markets", Quantitative Finance 17:21-39). If it is not filled after T, it crosses. With M the cost of a
maker fill and C that of crossing, the wait costs (1 − e^(−λT)) (M + w/λ) + e^(−λT) C: a mixture, so resting pays at any
T or at none, and it does while w < λ (C − M).
"""

from __future__ import annotations

from math import exp, expm1, inf, sqrt

import msgspec

SECONDS_PER_YEAR = 365.0 * 86_400.0


class Wait(msgspec.Struct, frozen=True, gc=False):
    """What resting is expected to cost against crossing at once, in quote money beyond mid, and why."""

    is_maker: bool
    rest_quote: float
    cross_quote: float
    fill_probability: float
    wait_s: float
    wait_quote_per_s: float
    most_off_base: float


def expected_wait_cost(
    maker_quote: float, cross_quote: float, fill_rate_per_s: float, wait_quote_per_s: float, max_rest_s: float = inf
) -> float:
    """Return (1 − e^(−λT)) (M + w/λ) + e^(−λT) C; without a chance to fill wT + C, infinite for T infinite."""
    if max_rest_s <= 0.0:
        return cross_quote
    if fill_rate_per_s <= 0.0:
        return cross_quote + wait_quote_per_s * max_rest_s if wait_quote_per_s else cross_quote
    missed = exp(-fill_rate_per_s * max_rest_s)
    filled = -expm1(-fill_rate_per_s * max_rest_s)
    return filled * (maker_quote + wait_quote_per_s / fill_rate_per_s) + missed * cross_quote


def maker_or_taker(
    qty_base: float,
    mid_px: float,
    cross_quote: float,
    *,
    half_spread_rate: float,
    maker_rate: float,
    fill_rate_per_s: float,
    off_base: float,
    risk_quote_per_year: float,
    adverse_rate: float = 0.0,
    drift_px_per_s: float = 0.0,
    max_rest_s: float = inf,
) -> Wait:
    """Return whether to rest: `cross_quote` is what crossing costs (a curve's `cost_quote`), all of it taken at once.

    A maker fill earns the half-spread and pays its fee, and then the price is `adverse_rate` worse on average (the
    adverse selection of being the one that was filled). While waiting, being off by `off_base` costs
    `risk_quote_per_year` · off² a year (`impulse.risk_rate_quote`), and the price leaves at `drift_px_per_s`.
    `most_off_base` is how far off crossing becomes the better: sqrt(λ (C − M)/a) without drift.
    """
    maker_quote = qty_base * mid_px * (maker_rate + adverse_rate - half_spread_rate)
    risk_per_s = risk_quote_per_year / SECONDS_PER_YEAR
    wait_quote_per_s = risk_per_s * off_base * off_base + drift_px_per_s * qty_base
    rest_quote = expected_wait_cost(maker_quote, cross_quote, fill_rate_per_s, wait_quote_per_s, max_rest_s)
    fill_probability = -expm1(-fill_rate_per_s * max_rest_s) if fill_rate_per_s > 0.0 else 0.0
    wait_s = fill_probability / fill_rate_per_s if fill_rate_per_s > 0.0 else max_rest_s
    spare = fill_rate_per_s * (cross_quote - maker_quote) - drift_px_per_s * qty_base
    most_off_base = 0.0
    if spare > 0.0:
        most_off_base = sqrt(spare / risk_per_s) if risk_per_s > 0.0 else inf
    return Wait(
        is_maker=rest_quote < cross_quote,
        rest_quote=rest_quote,
        cross_quote=cross_quote,
        fill_probability=fill_probability,
        wait_s=wait_s,
        wait_quote_per_s=wait_quote_per_s,
        most_off_base=most_off_base,
    )
