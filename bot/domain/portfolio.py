"""What a book is exposed to, and what it earned."""

from __future__ import annotations

from math import fsum

import msgspec


class Greeks(msgspec.Struct, frozen=True, gc=False):
    """Net Greeks of one underlying, in quote money and base units."""

    delta_base: float = 0.0
    gamma_base_per_px: float = 0.0
    vega_quote_per_vol: float = 0.0
    theta_quote_per_day: float = 0.0
    value_quote: float = 0.0


class PnlBreakdown(msgspec.Struct, frozen=True, gc=False):
    """Profit and loss in quote money by cause; the parts add up to `total` exactly.

    `lp_fees` is what liquidity positions earned from those who traded against them.
    """

    delta: float = 0.0
    gamma: float = 0.0
    theta: float = 0.0
    vega: float = 0.0
    vanna_volga: float = 0.0
    funding: float = 0.0
    fees: float = 0.0
    gas: float = 0.0
    slippage: float = 0.0
    unexplained: float = 0.0
    lp_fees: float = 0.0

    @property
    def total(self) -> float:
        """Sum of the parts."""
        return fsum(msgspec.structs.astuple(self))
