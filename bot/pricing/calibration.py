"""What trading has cost, measured: half-spreads from quotes, impact from books and from own fills, with intervals.

Where there are too few data there is no number: an `Estimate` says what it lacks instead. Impact is the Y of the peak
convention of `bot.pricing.costs`: the average unit of an order of q costs the share (2/3) Y σ_d √(q/V) beyond half the
spread, so Y is the slope of a line through the origin. From own fills its interval is that of White (1980), "A
heteroskedasticity-consistent covariance matrix estimator", Econometrica 48:817-838, as large orders scatter more. Books
a moment apart are nearly the same book: there the interval is that of the means of consecutive blocks.
"""

from __future__ import annotations

from math import isfinite, nan, sqrt

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_QUOTES = 100
LEAST_BOOKS = 200
LEAST_ORDERS = 30
LEAST_FILLS = 5
LEAST_VOL_STEPS = 60
BLOCKS = 20
_NORMAL_95 = 1.959964  # two-sided 95 % of a normal distribution
_STUDENT_95 = 2.093024  # of Student's t with BLOCKS − 1 = 19 degrees of freedom
_NS_PER_DAY = 86_400e9
_VOL_STEP_NS = 60_000_000_000  # shorter steps measure the bounce between bid and ask


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """A number with an interval, or NaN and what it `lacks`. `samples` counts what it was made of."""

    value: float
    low: float
    high: float
    samples: int
    lacks: str = ""

    @property
    def is_known(self) -> bool:
        """Tell whether there is a number."""
        return isfinite(self.value)


def unknown(lacks: str, samples: int = 0) -> Estimate:
    """Return that there is no number, and why."""
    return Estimate(nan, nan, nan, samples, lacks)


def weighted_quantile(values: Floats, weights: Floats, share: float) -> float:
    """Return the smallest value below or at which lies at least this share of the weight."""
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order])
    place = int(np.searchsorted(cumulated, share * cumulated[-1] * (1.0 - 1e-12)))
    return float(values[order[min(place, values.size - 1)]])


def half_spread(ts_ns: NDArray[np.int64], bid_px: Floats, ask_px: Floats, longest_ns: int) -> Estimate:
    """Return the time-weighted median of half the spread over mid; the interval holds the middle 80 % of the time.

    A quote counts until the next one, at most for `longest_ns`: over a gap nobody knows it. One that is crossed or
    lacks a side does not count.
    """
    held_ns = np.append(np.diff(ts_ns), 0).clip(0, longest_ns).astype(np.float64)
    whole = (bid_px > 0.0) & (ask_px >= bid_px) & (held_ns > 0.0)
    count = int(whole.sum())
    if count < LEAST_QUOTES:
        return unknown(f"{LEAST_QUOTES} quotes, found {count}", count)
    rate = (ask_px[whole] - bid_px[whole]) / (ask_px[whole] + bid_px[whole])
    low, middle, high = (weighted_quantile(rate, held_ns[whole], share) for share in (0.1, 0.5, 0.9))
    return Estimate(middle, low, high, count)


def daily_vol(ts_ns: NDArray[np.int64], px: Floats) -> Estimate:
    """Return the vol of one day, √(Σ r²/days), from log returns over a minute or more; interval ±1.96/√(2n) of it."""
    seen = px > 0.0
    ts_ns, px = ts_ns[seen], px[seen]
    if px.size:
        minute = (ts_ns - ts_ns[0]) // _VOL_STEP_NS
        last = np.append(np.diff(minute) > 0, True)
        ts_ns, px = ts_ns[last], px[last]
    steps = max(0, px.size - 1)
    if steps < LEAST_VOL_STEPS:
        return unknown(f"{LEAST_VOL_STEPS} prices a minute apart, found {steps}", steps)
    returns = np.diff(np.log(px))
    vol = sqrt(float(returns @ returns) / (float(ts_ns[-1] - ts_ns[0]) / _NS_PER_DAY))
    off = vol * _NORMAL_95 / sqrt(2.0 * steps)
    return Estimate(vol, vol - off, vol + off, steps)


def impact_from_fills(
    size_base: Floats, cost_rate: Floats, daily_vol_fraction: float, daily_volume_base: float
) -> Estimate:
    """Return Y from own taker orders: what each cost beyond half the spread, as a share of its value at mid.

    The interval is robust to a scatter that grows with size. Y may come out below 0, where impact is lost in the noise.
    """
    lacks = _lacks_scale(daily_vol_fraction, daily_volume_base)
    if lacks:
        return unknown(lacks, size_base.size)
    if size_base.size < LEAST_ORDERS:
        return unknown(f"{LEAST_ORDERS} taker orders, found {size_base.size}", size_base.size)
    unit = (2.0 / 3.0) * daily_vol_fraction * np.sqrt(size_base / daily_volume_base)
    squares = float(unit @ unit)
    slope = float(unit @ cost_rate) / squares
    off = unit * (cost_rate - slope * unit)
    error = sqrt(float(off @ off) / (1.0 - 1.0 / size_base.size)) / squares
    return Estimate(slope, slope - _NORMAL_95 * error, slope + _NORMAL_95 * error, size_base.size)


def impact_from_books(
    bid_px: Floats,
    bid_base: Floats,
    ask_px: Floats,
    ask_base: Floats,
    daily_vol_fraction: float,
    daily_volume_base: float,
) -> Estimate:
    """Return Y of the square root that walking recorded books is nearest to; a row per snapshot, best level first.

    Nothing refills the book while it is walked at once, so this is what an order costs that cannot wait. Each snapshot
    gives one slope over all its levels and both sides; the interval is that of the means of 20 consecutive blocks.
    """
    lacks = _lacks_scale(daily_vol_fraction, daily_volume_base)
    count = len(bid_px)
    if lacks:
        return unknown(lacks, count)
    if count < LEAST_BOOKS:
        return unknown(f"{LEAST_BOOKS} books, found {count}", count)
    top = squares = 0.0
    for px, base, sign in ((bid_px, bid_base, -1.0), (ask_px, ask_base, 1.0)):
        size = np.cumsum(base, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            beyond = sign * (np.cumsum(px * base, axis=1) / size / px[:, :1] - 1.0)
        unit = (2.0 / 3.0) * daily_vol_fraction * np.sqrt(size / daily_volume_base)
        counted = np.where(np.isfinite(beyond), 1.0, 0.0)
        top = top + (unit * np.nan_to_num(beyond) * counted).sum(axis=1)
        squares = squares + (unit * unit * counted).sum(axis=1)
    slopes = np.asarray(top) / np.asarray(squares)
    means = np.array([block.mean() for block in np.array_split(slopes, BLOCKS)])
    error = float(means.std(ddof=1)) / sqrt(BLOCKS)
    middle = float(means.mean())
    return Estimate(middle, middle - _STUDENT_95 * error, middle + _STUDENT_95 * error, count)


def mean_rate(rates: Floats, least: int = LEAST_FILLS) -> Estimate:
    """Return the mean with its 95 % interval by the normal approximation; too few are no number."""
    count = int(rates.size)
    if count < least:
        return unknown(f"{least} of them, found {count}", count)
    middle = float(rates.mean())
    error = float(rates.std(ddof=1)) / sqrt(count)
    return Estimate(middle, middle - _NORMAL_95 * error, middle + _NORMAL_95 * error, count)


def _lacks_scale(daily_vol_fraction: float, daily_volume_base: float) -> str:
    """Return which of the two scales of the square root is not known, if one is not."""
    if not daily_volume_base > 0.0:
        return "the daily volume"
    return "" if daily_vol_fraction > 0.0 else "the vol of a day"
