"""How far a forecast may be off: quantiles from its own residuals, moved until they are broken as often as they say."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, isfinite
from typing import Final

import msgspec
import numpy as np

from bot.risk.volatility.measures import Floats

LEVELS: Final = (0.9, 0.95, 0.99)
DEFAULT_STEP: Final = 0.05  # how much one breach teaches, in logs of variance
WIDEST_SHIFT: Final = 2.0  # no quantile is moved further than this, in logs of variance, by its own record


def residual_quantile(residuals: Floats, level: float) -> float:
    """Return the quantile of residuals that a new one stays below with probability `level`, if all are alike.

    The ⌈(n + 1)·level⌉-th smallest (Vovk); with too few residuals for that the greatest, and by as much more as the
    greatest is above the median for every halving that is lacking: a tail that is not known is not taken to be short.
    """
    known = np.sort(residuals[np.isfinite(residuals)])
    if not known.size:
        raise ValueError("expected residuals to take a quantile of, found none")
    place = ceil((known.size + 1) * level)
    if place <= known.size:
        return float(known[place - 1])
    lacking = np.log2(1.0 / (1.0 - level) / (known.size + 1.0))
    return float(known[-1] + max(0.0, lacking) * (known[-1] - np.median(known)) * 0.5)


def filtered_historical(returns: Floats, variance: Floats, level: float, window: int) -> Floats:
    """Return, for each return, the loss that is exceeded with probability 1 − level: σ times past shocks' quantile.

    `variance` is each return's forecast, made before it (Barone-Adesi, Giannopoulos and Vosper 1999). The first
    `window` are NaN: their shocks are what the others are judged by.
    """
    shocks = returns / np.sqrt(variance)
    out = np.full(returns.size, np.nan)
    for place in range(window, returns.size):
        out[place] = residual_quantile(-shocks[place - window : place], level) * np.sqrt(variance[place])
    return out


class Recalibration(msgspec.Struct, frozen=True):
    """How far each level's quantile is moved, in logs of variance, and how often it has been broken.

    Every outcome moves a quantile: up by step·level where it was broken, down by step·(1 − level) where it held, which
    is at rest only where breaches are as frequent as they say (Gibbs and Candès 2021; Angelopoulos and others 2023).
    """

    levels: tuple[float, ...] = LEVELS
    shift: tuple[float, ...] = (0.0,) * len(LEVELS)
    count: int = 0
    breaches: tuple[int, ...] = (0,) * len(LEVELS)
    step: float = DEFAULT_STEP

    def learnt(self, realised: float, quantiles: Sequence[float]) -> Recalibration:
        """Return what is known after one more outcome against the quantiles of variance that were forecast for it."""
        if not isfinite(realised) or not all(isfinite(one) for one in quantiles):
            return self
        broken = [realised > one for one in quantiles]
        return Recalibration(
            self.levels,
            tuple(
                min(WIDEST_SHIFT, max(-WIDEST_SHIFT, shift + self.step * (is_broken - (1.0 - level))))
                for shift, is_broken, level in zip(self.shift, broken, self.levels, strict=True)
            ),
            self.count + 1,
            tuple(before + is_broken for before, is_broken in zip(self.breaches, broken, strict=True)),
            self.step,
        )

    def quantiles(self, log_mean: float, residuals: Sequence[float]) -> tuple[float, ...]:
        """Return the quantile of the variance at each level; `residuals` are the residual quantiles by level.

        A higher level is never below a lower one.
        """
        found: list[float] = []
        for shift, residual in zip(self.shift, residuals, strict=True):
            here = exp(log_mean + residual + shift)
            found.append(max(here, found[-1]) if found else here)
        return tuple(found)
