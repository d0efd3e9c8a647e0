"""Quantiles of variance through a contest: made of past errors only, moved by their own record, then judged."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from bot.risk.volatility.backtests import Coverage, Flags, coverage
from bot.risk.volatility.measures import Floats
from bot.risk.volatility.quantiles import LEVELS, Recalibration, residual_quantile
from bot.risk.volatility.walk_forward import Outcome

FIRST_RESIDUALS: Final = 40  # before as many errors are known, there is no quantile to judge
KEPT_RESIDUALS: Final = 2_000


class Quantiles(msgspec.Struct, frozen=True):
    """By asset, a row per origin and a column per level: quantiles of variance (NaN at first), and what broke them."""

    levels: tuple[float, ...]
    variance: dict[str, Floats]
    broken: dict[str, Flags]
    is_apart: dict[str, Flags]

    def judged(self, asset: str, level: float) -> Coverage:
        """Return how one quantile held on one asset, by forecasts that do not overlap: others cannot be judged."""
        column = self.levels.index(level)
        known = np.isfinite(self.variance[asset][:, column]) & self.is_apart[asset]
        return coverage(self.broken[asset][known, column], level)


def quantiles_of(outcome: Outcome, model: str, levels: tuple[float, ...] = LEVELS, step: float = 0.05) -> Quantiles:
    """Return the quantiles that would have been told at each origin of a contest, and which were broken.

    Errors and breaches are known when a forecast's horizon has ended, not before.
    """
    horizon = outcome.setting.horizon
    shape = {asset: (times.size, len(levels)) for asset, times in outcome.origins.items()}
    variance = {asset: np.full(one, np.nan) for asset, one in shape.items()}
    broken = {asset: np.zeros(one, dtype=bool) for asset, one in shape.items()}
    errors = {asset: np.log(outcome.realised[asset]) - path.log_mean for asset, path in outcome.paths[model].items()}
    records = dict.fromkeys(outcome.origins, Recalibration(levels, (0.0,) * len(levels), 0, (0,) * len(levels), step))
    learnt = dict.fromkeys(outcome.origins, 0)
    pool: list[float] = []
    offsets: tuple[float, ...] = ()
    made_of = 0
    for now in np.unique(np.concatenate(list(outcome.origins.values()))):
        for asset, times in outcome.origins.items():
            while learnt[asset] < times.size and times[learnt[asset]] + horizon <= now:
                place = learnt[asset]
                records[asset] = records[asset].learnt(outcome.realised[asset][place], variance[asset][place])
                pool.append(float(errors[asset][place]))
                learnt[asset] += 1
        del pool[:-KEPT_RESIDUALS]
        if len(pool) < FIRST_RESIDUALS:
            continue
        if not offsets or abs(len(pool) - made_of) >= 0.02 * len(pool) or len(pool) == KEPT_RESIDUALS:
            kept = np.array(pool)
            offsets, made_of = tuple(residual_quantile(kept, level) for level in levels), len(pool)
        for asset, times in outcome.origins.items():
            place = int(np.searchsorted(times, now))
            if place < times.size and times[place] == now:
                row = records[asset].quantiles(float(outcome.paths[model][asset].log_mean[place]), offsets)
                variance[asset][place] = row
                broken[asset][place] = outcome.realised[asset][place] > np.array(row)
    is_apart = {asset: times % horizon == 0 for asset, times in outcome.origins.items()}
    return Quantiles(levels, variance, broken, is_apart)
