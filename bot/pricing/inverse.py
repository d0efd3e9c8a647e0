"""Coin-settled (inverse) options: what a Black-76 premium and its Greeks are in coins.

The premium in coins is c = V/F, with F the forward of the option's own expiry and not the index. A vault that counts in
quote money hedges dV/dF, which is `Black76Greeks.delta` as it stands; one that counts in coins hedges the net delta
F dc/dF = delta - c, since being paid in coins is itself worth c coins of delta. This module must never decide which of
the two a vault wants.

Formulas: by differentiation of V/F; the net delta is the premium-adjusted delta of currency options (Wystup, FX Options
and Structured Products, 2nd ed. 2017, section 1.4) and what Deribit adds up in its DeltaTotal.
"""

import numpy as np
from numpy.typing import NDArray

from bot.pricing.black76 import Black76Greeks

Floats = NDArray[np.float64]


def coin_price(greeks: Black76Greeks, forward_px: Floats) -> Floats:
    """Return the premium in coins per unit of base, c = V/F, in the broadcast shape of the Greeks and the forward."""
    return greeks.value / forward_px


def net_delta_base(greeks: Black76Greeks, forward_px: Floats, strike_px: Floats) -> Floats:
    """Return the premium-adjusted delta F dc/dF = delta - c = D w (K/F) N(w d2), in base per unit of base.

    Taken from the last form, because the difference loses every digit of a deep call's small net delta.
    """
    return -strike_px / forward_px * greeks.dual_delta


def coin_gamma(greeks: Black76Greeks, forward_px: Floats, strike_px: Floats) -> Floats:
    """Return d2c/dF2 = gamma/F - 2 (delta - c)/F^2, in coins per unit of base and squared unit of price.

    Negative for a call deep in the money, whose worth in coins bends like -K/F. Infinite where gamma is: at expiry, at
    the strike.
    """
    return (greeks.gamma - 2.0 * net_delta_base(greeks, forward_px, strike_px) / forward_px) / forward_px
