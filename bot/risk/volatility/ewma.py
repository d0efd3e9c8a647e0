"""The average that forgets: tomorrow's variance as an exponentially weighted mean of those before."""

from __future__ import annotations

from math import exp, isfinite, log

import numpy as np
from scipy.signal import lfilter

from bot.risk.volatility.measures import Floats


def ewma(values: Floats, decay: float, start: float | None = None) -> Floats:
    """Return the forecast of each value from those before it: s ← λ·s + (1 − λ)·x.

    `start` is the forecast of the first; without it, the mean of the first twenty, which those twenty are not to be
    judged by. A value that is not known leaves the forecast as it is.
    """
    if not 0.0 < decay < 1.0:
        raise ValueError(f"expected a decay between 0 and 1, found {decay}")
    if not values.size:
        return values.copy()
    first = float(np.nanmean(values[:20])) if start is None else start
    if np.all(np.isfinite(values)):
        after = lfilter([1.0 - decay], [1.0, -decay], values, zi=[decay * first])[0]
        return np.concatenate(([first], after[:-1]))
    out = np.empty(values.size)
    level = first
    for place, value in enumerate(values):
        out[place] = level
        if isfinite(value):
            level = decay * level + (1.0 - decay) * value
    return out


def decay_of_half_life(steps: float) -> float:
    """Return the decay at which what is `steps` old counts half."""
    return exp(-log(2.0) / steps)
