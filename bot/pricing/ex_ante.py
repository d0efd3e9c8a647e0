"""What hedging a book will cost until its last option expires, before any of it is hedged.

Hedging to the edge of the Whalley–Wilmott band costs J = ½ (3/2)^(2/3) g^(1/3) k^(2/3) S^(8/3) σ² |Γ|^(4/3) per year,
risk included (`bot.pricing.bands.edge_cost_rate_quote`), and W = E ∫ J du is what that comes to along the paths of the
price; Γ is the net gamma of the book wherever the path leads. W grows with the power 4/3 of the book's size, 2/3 of k
and 1/3 of g. Whalley & Wilmott (1997), Mathematical Finance 7:307-324, have it as the leading correction to the value.

The price is lognormal without drift. Between two expiries time is integrated by Gauss & Legendre in a variable that
takes up the singular end (at the strike Γ grows as one over the root of the time left), the price by the trapezoid rule
on a grid fine enough for the option nearest to its expiry. That takes milliseconds for a hundred options: it is for
quotes, reviews and slow beats, not for every tick.

Where every trade also costs a fixed amount F, J is that of impulse control (`bot.pricing.impulse.solve_impulse`) for
φ = F/(k S H) of each moment and price. What of it is gas, risk or proportional cost follows from its derivatives by F,
by the risk aversion and by k, because the trigger is the best one (envelope theorem).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import cbrt, inf, pi, sqrt
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bot.pricing.bands import band_half_base
from bot.pricing.black76 import greeks
from bot.pricing.impulse import solve_impulse

Floats = NDArray[np.float64]

_REACH = 6.5  # standard deviations of the price to integrate over; what is beyond is less than one in ten billion
_TIME_POWER = 2.4  # of the time left: makes J ~ (time left)^(−1/6) linear in the variable of integration
_MOST_PRICES = 4_000  # of one moment's grid; reached only in the last moments before an expiry
_PHI_DECADES = (-8.0, 12.0)  # of φ: below it gas costs nothing worth a digit, above it gas is all there is


class OptionTerms(Protocol):
    """Options as arrays of one length, as `bot.domain.decisions.Legs` has them."""

    @property
    def forward_px(self) -> Floats:
        """Forward of each expiry."""

    @property
    def strike_px(self) -> Floats:
        """Strikes."""

    @property
    def tau_years(self) -> Floats:
        """Years to expiry."""

    @property
    def vol(self) -> Floats:
        """Implied vol of each option."""


class OptionLegs(OptionTerms, Protocol):
    """Options and how much of each is held."""

    @property
    def qty_base(self) -> Floats:
        """Signed quantities; short is negative."""

    @property
    def is_call(self) -> NDArray[np.bool_]:
        """Call, else put."""


class ExAnte(NamedTuple):
    """What hedging a book is expected to cost, in quote money.

    `cost_quote` is W, from the hedge in place to the last expiry, risk included (two thirds of it are paid in fees and
    spread); `setup_quote` brings the hedge from nothing to the edge of the band, `unwind_quote` closes at expiry what
    is held against options that finish in the money (an upper bound where later expiries would take it over; nothing
    where they are settled in the underlying). `band_half_base` is the half-width of the band now
    (without gas), `slope_base` is dW/dS, the delta of the cost itself. `gas_quote` is what of W the fixed costs are.
    """

    cost_quote: float
    setup_quote: float
    unwind_quote: float
    band_half_base: float
    slope_base: float
    gas_quote: float = 0.0

    @property
    def total_quote(self) -> float:
        """All three costs together."""
        return self.cost_quote + self.setup_quote + self.unwind_quote

    @property
    def risk_quote(self) -> float:
        """What of W is not paid but risked, g/2 times the variance left: a third, with gas up to half."""
        return (self.cost_quote + self.gas_quote) / 3.0

    @property
    def paid_quote(self) -> float:
        """What of W is paid: fees, spread and gas."""
        return self.cost_quote - self.risk_quote


def expected_cost(
    legs: OptionLegs,
    spot_px: float,
    vol: float,
    cost_rate: float,
    risk_aversion_per_quote: float,
    *,
    fixed_cost_quote: float = 0.0,
    horizon_years: float = inf,
    time_points: int = 14,
    points_per_sd: float = 2.5,
) -> ExAnte:
    """Return what hedging these options is expected to cost if spot moves with `vol`.

    `fixed_cost_quote` is paid per trade beside the proportional cost. What comes after `horizon_years` is left out.
    `time_points` are those between two expiries, `points_per_sd` is the fineness of the grid of prices. Legs that have
    expired count for nothing.
    """
    alive = _Alive(legs)
    factor = _cost_factor(vol, cost_rate, risk_aversion_per_quote)
    cost = slope = gas = 0.0
    for moment in _moments(alive, vol, time_points, points_per_sd, horizon_years):
        px = spot_px * np.exp(moment.log_moves)
        rates = moment.weights * _power_8_3(px) * np.abs(moment.gamma) ** (4.0 / 3.0)
        if fixed_cost_quote > 0.0:
            half = np.cbrt(1.5 * cost_rate * px * moment.gamma**2 / risk_aversion_per_quote)
            with np.errstate(divide="ignore"):
                share, of_gas = _with_gas(fixed_cost_quote / (cost_rate * px * half))
            rates = rates * share
            gas += float((rates * of_gas).sum())
        cost += float(rates.sum())
        # d/d ln S of an expectation over ln S_u ~ N(ln S − ½σ²u, σ²u): each value times its distance over the variance
        variance = vol * vol * moment.years
        slope += float((rates * (moment.log_moves + 0.5 * variance)).sum()) / variance
    now = greeks(alive.forward, alive.strike, alive.tau, alive.vol, alive.is_call)
    half_base = band_half_base(cost_rate, spot_px, float(alive.qty @ now.gamma), risk_aversion_per_quote)
    off_base = abs(float(alive.qty @ now.delta))
    return ExAnte(
        cost_quote=factor * cost,
        setup_quote=cost_rate * spot_px * max(0.0, off_base - half_base),
        unwind_quote=cost_rate * _closed_quote(alive, spot_px, vol, horizon_years),
        band_half_base=half_base,
        slope_base=factor * slope / spot_px,
        gas_quote=factor * gas,
    )


class _Alive:
    """The legs that have not expired, as plain arrays."""

    def __init__(self, legs: OptionLegs) -> None:
        self.is_counted = (legs.tau_years > 0.0) & (legs.vol > 0.0) & (legs.forward_px > 0.0) & (legs.strike_px > 0.0)
        self.forward = legs.forward_px[self.is_counted]
        self.strike = legs.strike_px[self.is_counted]
        self.tau = legs.tau_years[self.is_counted]
        self.vol = legs.vol[self.is_counted]
        self.qty = legs.qty_base[self.is_counted]
        self.is_call = legs.is_call[self.is_counted]


class _Moment(NamedTuple):
    """The book at one moment of the future: on a grid of log moves, its gamma."""

    years: float
    weights: Floats  # of the integral over time, times the probability of each move
    log_moves: Floats
    gamma: Floats


def _moments(
    alive: _Alive, vol: float, time_points: int, points_per_sd: float, horizon_years: float = inf
) -> Iterator[_Moment]:
    nodes, node_weights = np.polynomial.legendre.leggauss(time_points)
    log_moneyness = np.log(alive.forward / alive.strike)
    start = 0.0
    for end in np.unique(alive.tau).tolist():
        if start >= horizon_years:
            return
        first = ((end - horizon_years) / (end - start)) ** (1.0 / _TIME_POWER) if horizon_years < end else 0.0
        places, place_weights = 1.0 - 0.5 * (1.0 - first) * (1.0 - nodes), 0.5 * (1.0 - first) * node_weights
        lefts, left_weights = places**_TIME_POWER, place_weights * _TIME_POWER * places ** (_TIME_POWER - 1.0)
        is_alive = alive.tau >= end
        tau, leg_vol, qty = alive.tau[is_alive], alive.vol[is_alive], alive.qty[is_alive]
        forward, distance = alive.forward[is_alive], log_moneyness[is_alive]
        for left, weight in zip(lefts.tolist(), left_weights.tolist(), strict=True):
            years = end - (end - start) * left
            sd = vol * sqrt(years)
            if not sd > 0.0:
                continue
            dev = leg_vol * np.sqrt(tau - years)
            moves, chances = _grid(sd, distance, dev, points_per_sd)
            d1 = (distance + moves[:, None]) / dev + 0.5 * dev
            gammas = np.exp(-0.5 * d1 * d1 - moves[:, None]) / (forward * dev * sqrt(2.0 * pi))
            yield _Moment(years, (end - start) * weight * chances, moves, gammas @ qty)
        start = end


def _grid(sd: float, distance: Floats, dev: Floats, points_per_sd: float) -> tuple[Floats, Floats]:
    """Return evenly spaced log moves and their probabilities, as fine as the narrowest gamma within reach needs."""
    reach = _REACH * sd
    is_near = np.abs(distance) < reach + _REACH * dev
    narrowest = min(sd, float(dev[is_near].min())) if is_near.any() else sd
    count = min(_MOST_PRICES, int(2.0 * reach * points_per_sd / narrowest) + 1)
    centred = np.linspace(-reach, reach, count | 1)
    chances = np.exp(-0.5 * (centred / sd) ** 2)
    return centred - 0.5 * sd * sd, chances / chances.sum()


def _cost_factor(vol: float, cost_rate: float, risk_aversion_per_quote: float) -> float:
    return 0.5 * cbrt(2.25 * risk_aversion_per_quote * cost_rate * cost_rate) * vol * vol


def _power_8_3(px: Floats) -> Floats:
    return np.cbrt(px) ** 8


@cache
def _gas_table() -> tuple[Floats, Floats, Floats]:
    """Return ln φ, the logarithm of J with gas over J without, and its derivative by ln φ: the share of gas."""
    log_phi = np.linspace(*_PHI_DECADES, 401) * np.log(10.0)
    log_share = np.log([solve_impulse(phi).cost_share for phi in np.exp(log_phi).tolist()])
    return log_phi, log_share, np.gradient(log_share, log_phi)


def _with_gas(phi: Floats) -> tuple[Floats, Floats]:
    """Return J with a fixed cost over J without, and what share of it is the fixed cost."""
    log_phi, log_share, of_gas = _gas_table()
    where = np.log(phi)
    beyond = np.maximum(0.0, np.minimum(where, 300.0) - log_phi[-1])  # there J goes as the root of φ
    return np.exp(np.interp(where, log_phi, log_share) + 0.5 * beyond), np.interp(where, log_phi, of_gas)


def _closed_quote(alive: _Alive, spot_px: float, vol: float, horizon_years: float) -> float:
    """Return the value of what is left to close at each expiry: E[S |Σ ± quantity of the legs in the money|]."""
    closed = 0.0
    for tau in np.unique(alive.tau[alive.tau <= horizon_years]).tolist():
        is_here = alive.tau == tau
        ratio = spot_px / alive.forward[is_here]
        strikes, qty, is_call = alive.strike[is_here] * ratio, alive.qty[is_here], alive.is_call[is_here]
        edges = np.unique(strikes)
        # between two strikes the hedge is minus the calls below and plus the puts above
        inner = np.concatenate(([edges[0] * 0.5], 0.5 * (edges[1:] + edges[:-1]), [edges[-1] * 2.0]))
        in_money = np.where(is_call, inner[:, None] > strikes, inner[:, None] < strikes)
        held = np.abs(np.where(in_money, np.where(is_call, 1.0, -1.0), 0.0) @ qty)
        dev = vol * sqrt(tau)
        above = ndtr(np.log(spot_px / edges) / dev + 0.5 * dev)  # E[S 1{S > edge}] / S
        shares = np.concatenate(([1.0], above)) - np.concatenate((above, [0.0]))
        closed += spot_px * float(held @ shares)
    return closed
