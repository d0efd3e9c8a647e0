"""How much a margin asks for just when money is scarce: the four figures of Murphy, Vasios and Vause (2014)."""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.volatility.measures import Floats


class Procyclicality(msgspec.Struct, frozen=True):
    """Highest over lowest requirement, its worst rise over some days, the share of breaches, and its mean."""

    peak_to_trough: float
    worst_rise: float
    rise_days: int
    breach_share: float
    mean: float


def procyclicality(margin: Floats, loss: Floats, rise_days: int = 5) -> Procyclicality:
    """Return the four figures of a margin by day against the loss of that day, both as shares of the position."""
    if margin.size <= rise_days or not np.all(margin > 0.0):
        raise ValueError(f"expected more than {rise_days} positive requirements, found {margin.size}")
    rise = margin[rise_days:] / margin[:-rise_days] - 1.0
    return Procyclicality(
        peak_to_trough=float(margin.max() / margin.min()),
        worst_rise=float(rise.max()),
        rise_days=rise_days,
        breach_share=float(np.mean(loss > margin)),
        mean=float(margin.mean()),
    )


def limited_speed(margin: Floats, rise: float = 0.10, fall: float = 0.03) -> Floats:
    """Return the margin when it may rise by at most `rise` and fall by at most `fall` a day."""
    out = margin.copy()
    for day in range(1, out.size):
        out[day] = min(max(margin[day], out[day - 1] * (1.0 - fall)), out[day - 1] * (1.0 + rise))
    return out


def buffered(margin: Floats, longest: int = 250, buffer: float = 0.25) -> Floats:
    """Return the margin with a buffer of 25 % that is used up as it rises above its own average (Art. 28 (a)).

    The average is of the `longest` days before; a day that asks for more than the average with its buffer asks for no
    more than that day would without one.
    """
    out = np.empty_like(margin)
    for day in range(margin.size):
        usual = margin[max(0, day - longest) : day + 1].mean()
        out[day] = max(margin[day], min(margin[day] * (1.0 + buffer), usual * (1.0 + buffer)))
    return out


def stressed(margin: Floats, stress: float, weight: float = 0.25) -> Floats:
    """Return the margin with a weight of at least 25 % on stressed observations (Art. 28 (b))."""
    return np.asarray((1.0 - weight) * margin + weight * stress, dtype=np.float64)


def floored(margin: Floats, floor: Floats | float) -> Floats:
    """Return the margin that never falls below that of ten years' vol (Art. 28 (c))."""
    return np.asarray(np.maximum(margin, floor), dtype=np.float64)
