"""The normal distribution from a table: half the time of `scipy.special.ndtr`, within 3e-12 of it.

Between points 1/2048 apart N(x + d) = N(x) + phi(x) d (1 − x d / 2 + (x d)² / 6), Taylor's series. That is enough where
values are added up in money, a thousandth of a cent per bitcoin; relative digits of far tails are lost (below −9 it is
N(−9), 1e-19), so whoever wants those asks `ndtr`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import ndtr

from bot.risk.book import Floats

PER_UNIT: Final = 2048
LEAST: Final = -9.0
MOST: Final = 9.0
_POINTS: Final[Floats] = (np.arange((MOST - LEAST) * PER_UNIT) + 0.5) / PER_UNIT + LEAST
_CHANCE: Final[Floats] = ndtr(_POINTS)
_DENSITY: Final[Floats] = np.exp(-0.5 * _POINTS * _POINTS) / np.sqrt(2.0 * np.pi) / PER_UNIT
_LINEAR: Final = -0.5 / PER_UNIT
_SQUARE: Final = 1.0 / (6.0 * PER_UNIT * PER_UNIT)


def quick_ndtr(x: Floats) -> Floats:
    """Return N(x). What it is given is overwritten; NaN stays NaN."""
    np.maximum(x, LEAST, out=x)
    np.minimum(x, MOST, out=x)
    step = x * PER_UNIT
    step -= LEAST * PER_UNIT
    whole = np.floor(step)
    with np.errstate(invalid="ignore"):
        place = whole.astype(np.int64)
    step -= whole
    step -= 0.5
    out: Floats = _DENSITY.take(place, mode="clip")
    out *= step
    x *= step
    factor = np.multiply(x, _SQUARE, out=step)
    factor += _LINEAR
    factor *= x
    factor += 1.0
    out *= factor
    out += _CHANCE.take(place, mode="clip")
    return out
