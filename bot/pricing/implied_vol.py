"""Implied volatility: the Black-76 vol that gives an observed price, and a reason wherever there is none.

It must never raise because of a number, never warn, and never return a guess for a price that holds no information.

Every option is measured by its out-of-the-money value against the smaller of forward and strike, which bounds it:

    m = |ln(F/K)|        v = vol sqrt(tau)        near = m/v - v/2        far = m/v + v/2
    share(v) = time value / min(F, K) = N(-near) - e^m N(-far)
             = exp(-near²/2)/2 [erfcx(near/√2) - erfcx(far/√2)], between 0 and 1

1. A guess, good to 1e-5 for most: solve Bachelier's model, whose inverse is a function of one variable, and bend the
   answer to Black's.
2. One step of fourth order on ln(share), or on ln(1 - share) where the option is worth nearly its maximum.
3. Those whose first step was long take another; a fourth is enough for any price that a double can hold.

The bracket above cancels for small v, where a Taylor series about its middle takes its place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from math import log, pi, sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, ndtri

Floats = NDArray[np.float64]


class IvStatus(IntEnum):
    """Why an option has, or has not, an implied vol."""

    OK = 0
    BELOW_INTRINSIC = 1  # worth less than exercising it
    ABOVE_MAXIMUM = 2  # worth the forward (call) or the strike (put), or more: no finite vol reaches that
    NO_INFORMATION = 3  # the time value is zero, lost in the rounding of the price, or too small to resolve
    INVALID_INPUT = 4  # not finite, a forward, strike or time that is not positive, or forward and strike worlds apart


@dataclass(frozen=True, slots=True)
class ImpliedVol:
    """Implied vols and, as int8, their `IvStatus`, in the broadcast shape of the inputs; vol is NaN where not OK."""

    vol: Floats
    status: NDArray[np.int8]


ROOT_HALF: Final = sqrt(0.5)
ROOT_HALF_PI: Final = sqrt(0.5 * pi)
ROOT_2PI: Final = sqrt(2.0 * pi)

# A dozen arrays of this many doubles fit the second-level cache.
BLOCK: Final = 8192
# A time value below this fraction of its price may be nothing but the rounding of intrinsic value and discounting.
PRICE_NOISE: Final = 2.0 * float(np.finfo(np.float64).eps)
LEAST_SHARE: Final = float(np.finfo(np.float64).tiny)
# An option at the money is taken this (relative) distance away from it, which spares every 0/0 and changes nothing, as
# long as such an option is worth more than the least share at the money.
LEAST_DISTANCE: Final = 1e-140
LEAST_SHARE_AT_MONEY: Final = 1e-120
MOST_DISTANCE: Final = 1e300
# Where the scaled tails are so close that their difference loses more digits than the series does.
NARROW_DEV: Final = 0.5
NARROW_MONEYNESS: Final = 1.0
SERIES_TERMS: Final = 15
# Within this of the maximum (relative to it) the complement of the share is the better measure.
NEAR_MAXIMUM: Final = 0.25
# The error of a fourth-order step is about the fourth power of its relative length.
LONG_STEP: Final = 1e-4
MOST_STEPS: Final = 8

# Own weighted least-squares fits. BACHELIER: (s / (√(2π) straddle/2))² by a = ln(1 + distance / time value)/2, relative
# error 9e-6 up to a = 12 (5.5 standard deviations from the money) and 2 % at worst beyond. BEND: the exact ratio of
# Black's v to Bachelier's at the money, 2√2 erfinv(s/√(2π))/s, by s² up to 5.5, relative error 1.3e-5.
BACHELIER_TOP: Final = (1.0, 0.13130646293125503, 0.11690352004707556, 0.03411547583662819, 0.003596172786917403)
BACHELIER_BASE: Final = (
    1.0, 0.1314694253517145, 0.7526970465995578, 0.11794816881365226, 0.1299933503093831, 0.02199404664232642,
)  # fmt: skip
BEND_TOP: Final = (1.0, -0.203647003, 0.00769703432, 0.000120294798)
BEND_BASE: Final = (1.0, -0.245361951, 0.0143367443)
MOST_BEND: Final = 6.2
MOST_SAG: Final = 0.2


def implied_vol(
    price: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    tau_years: ArrayLike,
    is_call: ArrayLike,
    *,
    rate: ArrayLike = 0.0,
) -> ImpliedVol:
    """Return the vol at which Black-76 gives each price, with a status for each.

    Inputs broadcast together and the results have their shape. `price`, `forward` and `strike` share one currency,
    `rate` is continuous per year, vol is per square root of a year (0.6 is 60 %). Solves, with w = ±1 (Black 1976),
    price = e^(-rate tau) w [F N(w d1) - K N(w d2)]. A vol is exact to a few units in the last place, or to the rounding
    of its price where that determines it less well. What has no vol says why in `status`; no number raises or warns.
    Raises ValueError for shapes that do not broadcast.
    """
    price, forward, strike, tau_years, rate = (
        np.asarray(number, dtype=np.float64) for number in (price, forward, strike, tau_years, rate)
    )
    with np.errstate(all="ignore"):
        future_price = price if rate.ndim == 0 and rate == 0.0 else price * np.exp(rate * tau_years)
        columns = np.broadcast_arrays(future_price, forward, strike, tau_years, np.asarray(is_call, dtype=np.bool_))
        flat_price, flat_forward, flat_strike, flat_tau, flat_is_call = (column.ravel() for column in columns)
        vol = np.empty(flat_price.size)
        status = np.empty(flat_price.size, dtype=np.int8)
        for start in range(0, vol.size, BLOCK):
            block = slice(start, start + BLOCK)
            vol[block], status[block] = _solve_block(
                flat_price[block], flat_forward[block], flat_strike[block], flat_tau[block], flat_is_call[block]
            )
    return ImpliedVol(vol.reshape(columns[0].shape), status.reshape(columns[0].shape))


def _solve_block(
    price: Floats, forward: Floats, strike: Floats, tau_years: Floats, is_call: NDArray[np.bool_]
) -> tuple[Floats, NDArray[np.int8]]:
    """Return vol and status of undiscounted prices."""
    least = np.minimum(forward, strike)
    most = np.maximum(forward, strike)
    gap = most - least
    gap_error = most - gap  # with this the two numbers are the exact |F - K|
    gap_error -= least
    is_itm = (forward > strike) == is_call
    time_value = price - gap * is_itm
    time_value -= gap_error * is_itm
    headroom = np.where(is_call, forward, strike)
    headroom -= price

    share = time_value / least
    distance = gap
    distance /= least
    is_valid = (least > 0.0) & (distance < MOST_DISTANCE) & (tau_years > 0.0) & (tau_years < np.inf)
    np.maximum(distance, LEAST_DISTANCE, out=distance)
    is_solvable = (time_value > PRICE_NOISE * price) & (share >= LEAST_SHARE) & (headroom > 0.0) & is_valid
    is_solvable &= (distance > LEAST_DISTANCE) | (share > LEAST_SHARE_AT_MONEY)

    moneyness = np.log1p(distance)
    log_share = np.log(share)
    dev = _guess(share, log_share, distance, moneyness)

    headroom /= least
    is_high = is_solvable & (headroom < NEAR_MAXIMUM)
    is_narrow = is_solvable & (dev < NARROW_DEV) & (moneyness < NARROW_MONEYNESS) & ~is_high
    is_wide = is_solvable & ~(is_high | is_narrow)
    for is_member, bracket in ((is_narrow, _narrow_bracket), (is_wide, _wide_bracket)):
        members = np.flatnonzero(is_member)
        if members.size:
            dev[members] = _converge(bracket, ROOT_HALF_PI, log_share[members], moneyness[members], dev[members])
    members = np.flatnonzero(is_high)
    if members.size:
        high = headroom[members]
        guess = -2.0 * ndtri(high / (2.0 + distance[members]))  # exact at the money, and as v grows without bound
        dev[members] = _converge(_high_bracket, -ROOT_HALF_PI, np.log(high), moneyness[members], guess)

    dev /= np.sqrt(tau_years)
    status = np.zeros(dev.size, dtype=np.int8)
    if not is_solvable.all():
        dev[~is_solvable] = np.nan
        status[~is_solvable] = IvStatus.NO_INFORMATION
        status[time_value < -PRICE_NOISE * np.abs(price)] = IvStatus.BELOW_INTRINSIC
        status[headroom <= 0.0] = IvStatus.ABOVE_MAXIMUM
        status[~(is_valid & np.isfinite(price))] = IvStatus.INVALID_INPUT
    return dev, status


def _guess(share: Floats, log_share: Floats, distance: Floats, moneyness: Floats) -> Floats:
    """Return v by way of Bachelier's model, whose inverse depends on time value / |F - K| alone.

    Its s becomes Black's v by the factor ln(F/K)/(F - K), times the ratio that v and s have at the money, over
    1 + m² s² (1 + 0.15 s²)/2880, by which that ratio feels the moneyness (the 0.15 is fitted).
    """
    a = np.log(share + distance)
    a -= log_share
    a *= 0.5
    dev = _polynomial(BACHELIER_TOP, a)
    dev /= _polynomial(BACHELIER_BASE, a)
    np.sqrt(dev, out=dev)
    half_straddle = 0.5 * distance
    half_straddle += share
    dev *= half_straddle
    dev *= ROOT_2PI
    dev *= moneyness
    dev /= distance
    square = dev * dev
    np.minimum(square, MOST_BEND, out=square)
    dev *= _polynomial(BEND_TOP, square)
    dev /= _polynomial(BEND_BASE, square)
    sag = square * (0.15 / 2880.0)
    sag += 1.0 / 2880.0
    sag *= square
    sag *= moneyness
    sag *= moneyness
    np.minimum(sag, MOST_SAG, out=sag)
    sag += 1.0
    dev /= sag
    return dev


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    total = coefficients[-1] * x
    for coefficient in coefficients[-2:0:-1]:
        total += coefficient
        total *= x
    total += coefficients[0]
    return total


# The bracket of the module's formula, given m, v, m/v, near and far.
Bracket = Callable[[Floats, Floats, Floats, Floats, Floats], Floats]


def _converge(bracket: Bracket, slope: float, target: Floats, moneyness: Floats, dev: Floats) -> Floats:
    """Return v at which ln(bracket exp(-near²/2)/2) equals `target`, from the guess `dev`, which is overwritten."""
    late = np.flatnonzero(_step(bracket, slope, target, moneyness, dev) > LONG_STEP)
    for _ in range(1, MOST_STEPS):
        if not late.size:
            break
        late_dev = dev[late]
        length = _step(bracket, slope, target[late], moneyness[late], late_dev)
        dev[late] = late_dev
        late = late[length > LONG_STEP]
    return dev


def _step(bracket: Bracket, slope: float, target: Floats, moneyness: Floats, dev: Floats) -> Floats:
    """Move `dev` by one Householder step of fourth order and return the step's relative length.

    With x the share or its complement, x/x' = slope · bracket, for x' = ±exp(-near²/2)/√(2π) has the same exponential.
    Further x''/x' = near far/v = k and x'''/x' = k² - 3 (m/v)²/v² - 1/4, hence for f = ln x, with r = x'/x,
    f''/f' = k - r and f'''/f' = (k - r)(k - 2r) - 3 (m/v)²/v² - 1/4.
    """
    ratio = moneyness / dev
    near = 0.5 * dev
    far = ratio + near
    np.subtract(ratio, near, out=near)
    curve = near * far
    curve /= dev
    weight = bracket(moneyness, dev, ratio, near, far)

    newton = np.log(weight)
    near *= near
    near *= 0.5
    near += log(2.0)
    near += target
    np.subtract(near, newton, out=newton)
    weight *= slope
    newton *= weight

    np.divide(1.0, weight, out=weight)
    second = np.subtract(curve, weight, out=far)
    third = np.subtract(second, weight, out=curve)
    third *= second
    ratio /= dev
    ratio *= ratio
    ratio *= 3.0
    ratio += 0.25
    third -= ratio

    third *= newton
    third *= 1.0 / 6.0
    third += second
    third *= newton
    third += 1.0
    second *= newton
    second *= 0.5
    second += 1.0
    newton *= second
    newton /= third
    dev += newton
    newton /= dev
    return np.abs(newton, out=newton)


def _wide_bracket(_moneyness: Floats, _dev: Floats, _ratio: Floats, near: Floats, far: Floats) -> Floats:
    """Return erfcx(near/√2) - erfcx(far/√2), for the share."""
    bracket: Floats = erfcx(near * ROOT_HALF)
    bracket -= erfcx(far * ROOT_HALF)
    return bracket


def _high_bracket(_moneyness: Floats, _dev: Floats, _ratio: Floats, near: Floats, far: Floats) -> Floats:
    """Return erfcx(-near/√2) + erfcx(far/√2), for the complement of the share, where nothing cancels."""
    bracket: Floats = erfcx(near * -ROOT_HALF)
    bracket += erfcx(far * ROOT_HALF)
    return bracket


def _narrow_bracket(moneyness: Floats, dev: Floats, ratio: Floats, _near: Floats, _far: Floats) -> Floats:
    """Return the wide bracket as the odd part of a Taylor series about m/(v√2) with the step v/√8.

    With c_n = erfcx⁽ⁿ⁾(m/(v√2)) (v/√8)ⁿ/n!, the recurrence of the derivatives reads
    c_(n+1) = (m/2 c_n + v²/4 c_(n-1))/(n + 1). The digits it loses for large m/v are digits the vol does not feel.
    """
    half = 0.5 * moneyness
    quarter = dev * dev
    quarter *= 0.25
    even: Floats = erfcx(ratio * ROOT_HALF)
    odd = half * even
    odd -= dev * (1.0 / ROOT_2PI)
    bracket = odd.copy()
    product = np.empty_like(half)
    for n in range(2, SERIES_TERMS, 2):
        even *= quarter
        even += np.multiply(half, odd, out=product)
        even *= 1.0 / n
        odd *= quarter
        odd += np.multiply(half, even, out=product)
        odd *= 1.0 / (n + 1)
        bracket += odd
    bracket *= -2.0
    return bracket
