"""Volatility that was realised, from prices every few minutes: variances, ranges, jumps, and hours that hold them.

An hour keeps sums that add up (squared returns, those of falls, neighbours' products, fourth powers, squared ranges),
its own range and how it ended: a day, or any stretch of hours, is made of its hours without going back to the prices.
"""

from __future__ import annotations

from math import log, pi, sqrt
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NS_PER_HOUR: Final = 3_600_000_000_000
HOURS_PER_YEAR: Final = 8_760.0
STEPS_PER_HOUR: Final = 12  # of five minutes: short enough to see an hour, long enough not to see the bounce of quotes
STEP_NS: Final = NS_PER_HOUR // STEPS_PER_HOUR
LEAST_STEPS: Final = 6  # an hour of fewer returns is not known
LATE_STEPS: Final = 2  # the steps after which a step before the end of an hour counts half of what the next one counts
LATE_WEIGHTS: Final[tuple[float, ...]] = tuple(
    0.5 ** ((STEPS_PER_HOUR - 1 - step) / LATE_STEPS) for step in range(STEPS_PER_HOUR)
)


class Hours(msgspec.Struct, frozen=True, gc=False):
    """Hours in a row, each known by `hour`, the hours since 1970 at its end in UTC; what is not known is NaN.

    `rv` is the sum of squared five-minute log returns, `down` that of falls alone, `bipower` the sum of
    |r_i r_{i-1}|·π/2, `quarticity` the sum of fourth powers, `swing` that of Parkinson's variances of the five-minute
    ranges (Christensen and Podolskij 2007): all carried to 12 returns where some were missing. `late` is `swing` with
    most weight on the end of the hour, as variance per hour.
    """

    hour: Ints
    close_px: Floats
    high_px: Floats
    low_px: Floats
    rv: Floats
    down: Floats
    bipower: Floats
    quarticity: Floats
    swing: Floats
    late: Floats

    def __len__(self) -> int:
        return int(self.hour.size)

    def upto(self, end: int) -> Hours:
        """Return the first `end` of them."""
        return Hours(*(getattr(self, name)[:end] for name in self.__struct_fields__))


def realised_variance(returns: Floats) -> float:
    """Return the sum of squared returns."""
    return float(returns @ returns)


def semivariances(returns: Floats) -> tuple[float, float]:
    """Return the part of the realised variance that falls made, and the part that rises made."""
    falls = returns[returns < 0.0]
    down = float(falls @ falls)
    return down, realised_variance(returns) - down


def bipower(returns: Floats) -> float:
    """Return the variance without jumps: (π/2)·(M/(M−1))·Σ|r_i||r_{i−1}| (Barndorff-Nielsen and Shephard 2004)."""
    size = np.abs(returns)
    count = returns.size
    return float(0.5 * pi * count / (count - 1) * (size[1:] @ size[:-1]))


def quarticity(returns: Floats) -> float:
    """Return the realised quarticity, (M/3)·Σr⁴: how vague the realised variance is."""
    return float(returns.size / 3.0 * np.sum(returns**4))


def tripower(returns: Floats) -> float:
    """Return the quarticity without jumps: M·μ⁻³·(M/(M−2))·Σ|r_i r_{i−1} r_{i−2}|^{4/3}, with μ = E|Z|^{4/3}."""
    size = np.abs(returns) ** (4.0 / 3.0)
    count = returns.size
    mu = 0.8308609047415444  # 2^{2/3}·Γ(7/6)/Γ(1/2)
    return float(count * count / (count - 2) * mu**-3 * np.sum(size[2:] * size[1:-1] * size[:-2]))


def jump_statistic(returns: Floats) -> float:
    """Return the ratio statistic of jumps (Huang and Tauchen 2005), standard normal where there were none.

    Z = ((RV − BV)/RV) / sqrt((π²/4 + π − 5)/M · max(1, TQ/BV²)). NaN where nothing moved.
    """
    rv, bv = realised_variance(returns), bipower(returns)
    if not (rv > 0.0 and bv > 0.0):
        return float("nan")
    vague = (0.25 * pi**2 + pi - 5.0) / returns.size * max(1.0, tripower(returns) / bv**2)
    return ((rv - bv) / rv) / sqrt(vague)


def parkinson(high_px: Floats, low_px: Floats) -> Floats:
    """Return the variance that the range tells of: ln(H/L)²/(4 ln 2) (Parkinson 1980)."""
    return np.asarray(np.log(high_px / low_px) ** 2 / (4.0 * log(2.0)), dtype=np.float64)


def garman_klass(open_px: Floats, high_px: Floats, low_px: Floats, close_px: Floats) -> Floats:
    """Return ½·ln(H/L)² − (2 ln 2 − 1)·ln(C/O)² (Garman and Klass 1980)."""
    spread = np.log(high_px / low_px) ** 2
    return np.asarray(0.5 * spread - (2.0 * log(2.0) - 1.0) * np.log(close_px / open_px) ** 2, dtype=np.float64)


def hours_of(ts_ns: Ints, close_px: Floats, high_px: Floats | None = None, low_px: Floats | None = None) -> Hours:
    """Return the hours that prices tell of: each price holds from its time on, times ascending.

    `high_px` and `low_px` are the extremes between the price before and this one; without them the prices are all there
    is. The first hour is the first one that began with a price known.
    """
    known = np.isfinite(close_px) & (close_px > 0.0)
    ts_ns, close_px = ts_ns[known], close_px[known]
    high_px = close_px if high_px is None else high_px[known]
    low_px = close_px if low_px is None else low_px[known]
    if ts_ns.size < 2:
        return empty_hours()
    first, last = -(-int(ts_ns[0]) // STEP_NS), int(ts_ns[-1]) // STEP_NS
    first_hour, last_hour = -(-first // STEPS_PER_HOUR), last // STEPS_PER_HOUR
    if last_hour <= first_hour:
        return empty_hours()
    edges = np.arange(first_hour * STEPS_PER_HOUR, last_hour * STEPS_PER_HOUR + 1, dtype=np.int64)
    bounds = np.searchsorted(ts_ns, edges * STEP_NS, side="right")
    price = close_px[bounds - 1]
    fresh = np.diff(bounds) > 0  # a step without a price of its own has no return, and the next one has two steps'
    returns = np.where(fresh & np.concatenate(([True], fresh[:-1])), np.diff(np.log(price)), np.nan)
    returns = returns.reshape(-1, STEPS_PER_HOUR)
    high, low = _highest(high_px, bounds, price), -_highest(-low_px, bounds, -price)
    sums = _sums(returns, parkinson(high, low).reshape(-1, STEPS_PER_HOUR))
    return Hours(
        hour=np.arange(first_hour + 1, last_hour + 1, dtype=np.int64),
        close_px=price[STEPS_PER_HOUR::STEPS_PER_HOUR],
        high_px=high.reshape(-1, STEPS_PER_HOUR).max(axis=1),
        low_px=low.reshape(-1, STEPS_PER_HOUR).min(axis=1),
        rv=sums[0],
        down=sums[1],
        bipower=sums[2],
        quarticity=sums[3],
        swing=sums[4],
        late=sums[5],
    )


def _highest(values: Floats, bounds: Ints, edge: Floats) -> Floats:
    """Return the greatest value of each stretch between two bounds, its value at either edge among them."""
    found = np.maximum.reduceat(np.append(values[: bounds[-1]], -np.inf), bounds[:-1])
    found = np.where(np.diff(bounds) > 0, found, -np.inf)
    return np.asarray(np.maximum(found, np.maximum(edge[:-1], edge[1:])), dtype=np.float64)


def _sums(returns: Floats, ranges: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Return the sums of each row of an hour's returns and of its ranges' variances."""
    count = np.sum(np.isfinite(returns), axis=1)
    scale = np.where(count >= LEAST_STEPS, STEPS_PER_HOUR / np.maximum(count, 1), np.nan)
    found = np.nan_to_num(returns)
    size = np.abs(found)
    is_known = np.isfinite(returns)
    weights = np.where(is_known, LATE_WEIGHTS, 0.0)
    ranges = np.where(is_known, ranges, 0.0)
    pairs = np.isfinite(returns[:, 1:]) & np.isfinite(returns[:, :-1])
    pair_scale = np.where(count >= LEAST_STEPS, STEPS_PER_HOUR / np.maximum(pairs.sum(axis=1), 1), np.nan)
    return (
        scale * np.sum(found**2, axis=1),
        scale * np.sum(np.minimum(found, 0.0) ** 2, axis=1),
        0.5 * pi * pair_scale * np.sum(size[:, 1:] * size[:, :-1] * pairs, axis=1),
        scale * np.sum(found**4, axis=1),
        scale * np.sum(ranges, axis=1),
        scale * count * np.sum(weights * ranges, axis=1) / np.maximum(weights.sum(axis=1), LATE_WEIGHTS[0]),
    )


def empty_hours() -> Hours:
    """Return no hours."""
    none = np.empty(0)
    return Hours(np.empty(0, dtype=np.int64), *(none for _ in Hours.__struct_fields__[1:]))


def without_gaps(hours: Hours) -> Hours:
    """Return the hours with those missing in between put in as unknown, at the price before."""
    if not len(hours):
        return hours
    hour = np.arange(hours.hour[0], hours.hour[-1] + 1, dtype=np.int64)
    if hour.size == len(hours):
        return hours
    place = hours.hour - hours.hour[0]
    before = np.searchsorted(hours.hour, hour, side="right") - 1
    is_known = np.zeros(hour.size, dtype=bool)
    is_known[place] = True

    def spread(values: Floats) -> Floats:
        return np.where(is_known, values[before], np.nan)

    return Hours(
        hour,
        hours.close_px[before],
        np.where(is_known, hours.high_px[before], hours.close_px[before]),
        np.where(is_known, hours.low_px[before], hours.close_px[before]),
        *(spread(getattr(hours, name)) for name in Hours.__struct_fields__[4:]),
    )


def trailing_sum(values: Floats, window: int, least_share: float = 0.75) -> Floats:
    """Return the sum over the last `window` values at each place, carried to all of them where some are unknown.

    NaN where fewer than `least_share` of them are known.
    """
    known = np.isfinite(values)
    total = np.concatenate(([0.0], np.cumsum(np.where(known, values, 0.0))))
    count = np.concatenate(([0], np.cumsum(known)))
    end = np.arange(1, values.size + 1)
    start = np.maximum(end - window, 0)
    found = count[end] - count[start]
    enough = found >= max(1.0, least_share * window)
    return np.where(enough, np.maximum(total[end] - total[start], 0.0) * window / np.maximum(found, 1), np.nan)


def trailing_range(hours: Hours, window: int) -> Floats:
    """Return Parkinson's variance of the last `window` hours at each hour, NaN before there are as many."""
    out = np.full(len(hours), np.nan)
    if len(hours) < window:
        return out
    high = np.lib.stride_tricks.sliding_window_view(hours.high_px, window).max(axis=1)
    low = np.lib.stride_tricks.sliding_window_view(hours.low_px, window).min(axis=1)
    out[window - 1 :] = parkinson(high, low)
    return out


def annual_vol(variance: Floats | float, hours: float) -> Floats:
    """Return the yearly vol that a variance over so many hours amounts to."""
    return np.asarray(np.sqrt(np.asarray(variance) * HOURS_PER_YEAR / hours), dtype=np.float64)
