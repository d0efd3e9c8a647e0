"""Heterogeneous autoregression of log variance (Corsi 2009), and every kin of it that is linear in its regressors.

log RV_t = b₀ + Σ b_k·x_k + e. The forecast of the variance itself is exp(μ + s²/2), with s² the residual variance of
the fit, or, where residuals are not normal, exp(μ) times the mean of exp(e) that was seen (Duan 1983), for each hour of
the day its own. It is never beyond what was seen: a linear model far outside its data is not to be believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Final

import msgspec
import numpy as np

from bot.risk.volatility.features import HOURS_OF_DAY
from bot.risk.volatility.measures import Floats

SANITY_WIDTH: Final = 1.0  # how far beyond the range of its training, in logs, a forecast may go
LEAST_PER_COEFFICIENT: Final = 5
LEAST_PER_SHRUNK: Final = 2
PRIOR_ROWS: Final = 100.0  # as many rows of all hours are added to those of one hour of the day, whose mean is vague


class Linear(msgspec.Struct, frozen=True, tag="linear", omit_defaults=True):
    """A fitted regression of log variance: names, coefficients, residual variance, and the range it was fitted in.

    `lift` is how far the log of the mean lies above the mean of the log; without it that is s²/2.
    """

    names: tuple[str, ...]
    coefficients: tuple[float, ...]
    residual_variance: float
    low: float
    high: float
    lift: float | None = None

    def log_mean(self, rows: Floats) -> Floats:
        """Return the mean of the log variance for each row of regressors, kept within what was seen."""
        found = rows @ np.array(self.coefficients)
        return np.asarray(np.clip(found, self.low - SANITY_WIDTH, self.high + SANITY_WIDTH), dtype=np.float64)

    def variance(self, rows: Floats) -> Floats:
        """Return the forecast of the variance for each row."""
        lift = 0.5 * self.residual_variance if self.lift is None else self.lift
        return np.asarray(np.exp(self.log_mean(rows) + lift), dtype=np.float64)


def fit_linear(
    names: Sequence[str], rows: Floats, target: Floats, ridge: float = 0.0, *, is_lifted: bool = False
) -> Linear:
    """Return the least-squares fit; rows with anything unknown are left out.

    `ridge` shrinks coefficients, in units of their regressors' variance; a constant column has none and is not shrunk.
    `is_lifted` takes the mean from the residuals as they are, not as normal ones, and moves each hour of the day, where
    the regressors tell it, by what its own mean differs from that of all: its quantiles move with it.
    """
    known = np.isfinite(rows).all(axis=1) & np.isfinite(target)
    rows, target = rows[known], target[known]
    count, width = rows.shape
    least = (LEAST_PER_SHRUNK if ridge > 0.0 else LEAST_PER_COEFFICIENT) * width
    if count < least:
        raise ValueError(f"expected at least {least} rows to fit {width} coefficients, found {count}")
    if ridge > 0.0:
        spread = np.diag(np.sqrt(ridge * count * rows.var(axis=0)))
        coefficients = np.linalg.lstsq(np.vstack([rows, spread]), np.concatenate([target, np.zeros(width)]))[0]
    else:
        coefficients = np.linalg.lstsq(rows, target)[0]
    residuals = target - rows @ coefficients
    lift = None
    if is_lifted:
        ratios = np.exp(residuals)
        lift = log(ratios.mean())
        coefficients = coefficients + _hour_lifts(names, rows, ratios / ratios.mean())
    return Linear(
        names=tuple(names),
        coefficients=tuple(coefficients.tolist()),
        residual_variance=float(residuals @ residuals) / (count - width),
        low=float(target.min()),
        high=float(target.max()),
        lift=lift,
    )


def _hour_lifts(names: Sequence[str], rows: Floats, ratios: Floats) -> Floats:
    """Return, by regressor, the log of the mean ratio in its hour of the day; nought for what is no hour."""
    found = np.zeros(len(names))
    for place, name in enumerate(names):
        if name in HOURS_OF_DAY:
            share = rows[:, place]
            found[place] = log((share @ ratios + PRIOR_ROWS) / (share.sum() + PRIOR_ROWS))
    return found


def lagged_means(log_variance: Floats, windows: Sequence[int], others: Floats | None = None) -> Floats:
    """Return the regressors of each time: a one, means of the log variance over the windows before it, and `others`.

    Row t tells only of what came before t; rows without that much before them are NaN. `others` are as of t − 1.
    """
    size = log_variance.size
    total = np.concatenate(([0.0], np.cumsum(log_variance)))
    columns = [np.ones(size)]
    for window in windows:
        column = np.full(size, np.nan)
        column[window:] = (total[window:-1] - total[: size - window]) / window
        columns.append(column)
    if others is not None:
        before = np.full(others.shape, np.nan)
        before[1:] = others[:-1]
        columns.extend(before.T)
    return np.column_stack(columns)


def rolling(names: Sequence[str], rows: Floats, target: Floats, start: int, window: int) -> tuple[Floats, Floats]:
    """Return mean log and variance forecast of each time from `start` on, fitted on the `window` rows before."""
    means, forecasts = np.empty(target.size - start), np.empty(target.size - start)
    for place, now in enumerate(range(start, target.size)):
        model = fit_linear(names, rows[now - window : now], target[now - window : now])
        means[place] = model.log_mean(rows[now : now + 1])[0]
        forecasts[place] = model.variance(rows[now : now + 1])[0]
    return means, forecasts
