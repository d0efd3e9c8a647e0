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
    distance = log_ratio / dev
    half = 0.5 * dev
    z = np.abs(distance)
    near = quick_ndtr(half - z)
    far = quick_ndtr(-half - z)
    value = np.minimum(forward, strike) * near
    value -= np.maximum(forward, strike) * far
    value += np.maximum(np.where(is_call, forward - strike, strike - forward), 0.0)
    is_above = distance > 0.0
    delta = np.where(is_above, 1.0 - far, near)
    delta -= ~is_call
    distance += half
    distance *= distance
    distance *= -0.5
    np.exp(distance, out=distance)
    distance *= PHI_0 * forward
    return OptionGrid(value, delta, distance)
