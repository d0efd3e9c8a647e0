"""Value and Greeks of many options at many markets at once, without discount: what a heatmap and a stress need.

The same Black-76 as `bot.pricing.black76`, which is the reference and answers where this does not: at expiry, without
vol, and where derivatives are wanted that are not here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from bot.risk.book import Flags, Floats
from bot.risk.quick_normal import quick_ndtr

LEAST_DEV: Final = 1e-4  # below this deviation the reference is asked
PHI_0: Final = 0.3989422804014327  # the normal density at 0


class OptionGrid(NamedTuple):
    """Per unit of base: value, delta, and `density_quote` = F phi(d1), of which gamma, vega and theta are multiples.

    Chances are those of `quick_ndtr`. Gamma F² = density / dev, vega = density √T, theta = −density dev / (2T).
    """

    value: Floats
    delta: Floats
    density_quote: Floats


def option_grid(log_ratio: Floats, dev: Floats, forward: Floats, strike: Floats, is_call: Flags) -> OptionGrid:
    """Return value and Greeks; `log_ratio` is ln(F/K) and `dev` vol √T, above 0. All are broadcast to one shape."""
    sign = 2.0 * is_call - 1.0
    distance, half = log_ratio / dev, 0.5 * dev
    chances = np.stack([sign * (distance + half), sign * (distance - half)])
    density = np.exp(-0.5 * chances[0] ** 2)
    density *= PHI_0 * forward
    near, far = quick_ndtr(chances)
    near *= sign
    value = forward * near
    far *= sign * strike
    value -= far
    return OptionGrid(value, near, density)
