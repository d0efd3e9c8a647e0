"""Which forecast of variance is the better one, and whether that is more than luck."""

from __future__ import annotations

from math import erfc, sqrt
from typing import Final

import msgspec
import numpy as np

from bot.risk.volatility.measures import Floats

STAYS_BELOW_P: Final = 0.1  # a regressor stays if its gain is as unlikely as this by luck


class Comparison(msgspec.Struct, frozen=True):
    """Losses of one forecast less those of another: negative means the first is better. `p_value` is two-sided."""

    mean_difference: float
    t_statistic: float
    p_value: float
    count: int


def qlike(realised: Floats, forecast: Floats) -> Floats:
    """Return RV/h − ln(RV/h) − 1, which ranks forecasts rightly though RV is only a proxy (Patton 2011)."""
    ratio = realised / forecast
    return np.asarray(ratio - np.log(ratio) - 1.0, dtype=np.float64)


def squared_error(realised: Floats, forecast: Floats) -> Floats:
    """Return (RV − h)²: ranks rightly too, but the largest days decide alone."""
    return np.asarray((realised - forecast) ** 2, dtype=np.float64)


def newey_west_variance(values: Floats, lags: int) -> float:
    """Return the long-run variance of a series, with Bartlett's weights over `lags` autocovariances."""
    centred = values - values.mean()
    count = centred.size
    total: float = float(centred @ centred) / count
    for lag in range(1, min(lags, count - 1) + 1):
        total += 2.0 * (1.0 - lag / (lags + 1.0)) * float(centred[lag:] @ centred[:-lag]) / count
    return total


def diebold_mariano(loss: Floats, other: Floats, horizon: int = 1) -> Comparison:
    """Return whether one forecast's losses are smaller than the other's (Diebold and Mariano 1995).

    Losses are aligned; where the forecasts overlap, `horizon` is by how many steps. The variance is Newey and West's
    with at least horizon − 1 lags, and the statistic has the small-sample correction of Harvey, Leybourne and Newbold
    (1997). Without any difference at all there is nothing to test, and p is 1.
    """
    difference = loss - other
    difference = difference[np.isfinite(difference)]
    count = difference.size
    if count < 8:
        return Comparison(float("nan"), float("nan"), 1.0, count)
    lags = max(horizon - 1, int(4.0 * (count / 100.0) ** (2.0 / 9.0)))
    variance = newey_west_variance(difference, lags)
    mean = float(difference.mean())
    if not variance > 0.0:
        return Comparison(mean, 0.0, 1.0, count)
    small = (count + 1.0 - 2.0 * horizon + horizon * (horizon - 1.0) / count) / count
    statistic = mean / sqrt(variance / count) * sqrt(max(small, 0.0))
    return Comparison(mean, statistic, erfc(abs(statistic) / sqrt(2.0)), count)


def stays(loss_with: Floats, loss_without: Floats, horizon: int = 1) -> bool:
    """Tell whether what a forecast gained by a regressor is gain enough to keep the regressor."""
    found = diebold_mariano(loss_with, loss_without, horizon)
    return found.mean_difference < 0.0 and found.p_value < STAYS_BELOW_P
