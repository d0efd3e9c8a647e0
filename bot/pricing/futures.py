"""Futures and perpetuals, linear (settled in quote) and inverse (settled in coins): profit, delta and gamma.

Contracts are signed, long above 0. A linear contract is `contract_size_base` of base, an inverse one
`contract_size_quote` of quote money. Each function takes numbers, or arrays of one shape, and returns the same. This
module must never add up positions or choose a numeraire.

An inverse position of Q = contracts x size, entered at F0, earns Q (1/F0 - 1/F) coins. Its delta in coins is Q/F, the
change of those coins for a relative move of the price; for a vault that counts in quote money the same Q/F is the delta
as long as the coins earned so far are counted with its coin cash, for d/dF of F Q (1/F0 - 1/F) is Q/F plus those coins.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Amount = TypeVar("Amount", float, NDArray[np.float64])


def linear_profit_quote(contracts: Amount, contract_size_base: float, entry_px: Amount, px: Amount) -> Amount:
    """Return Q (F - F0), in quote."""
    return contracts * contract_size_base * (px - entry_px)


def inverse_profit_settle(contracts: Amount, contract_size_quote: float, entry_px: Amount, px: Amount) -> Amount:
    """Return Q (1/F0 - 1/F), in coins, written so that a small move loses no digits."""
    return contracts * contract_size_quote * ((px - entry_px) / (px * entry_px))


def inverse_delta_base(contracts: Amount, contract_size_quote: float, px: Amount) -> Amount:
    """Return the coin delta F d/dF of the coins earned, Q/F, in base."""
    return contracts * contract_size_quote / px


def inverse_gamma_settle(contracts: Amount, contract_size_quote: float, px: Amount) -> Amount:
    """Return d2/dF2 of the coins earned, -2 Q/F^3, in coins per squared unit of price."""
    return contracts * contract_size_quote * -2.0 / px**3
