"""What is held and what it is exposed to."""

from __future__ import annotations

import msgspec


class Greeks(msgspec.Struct, frozen=True, gc=False):
    """Additive position Greeks of one underlying, in quote money and base units."""

    delta_base: float = 0.0
    gamma_base_per_px: float = 0.0
    vega_quote_per_vol: float = 0.0
    theta_quote_per_day: float = 0.0
    value_quote: float = 0.0

    def __add__(self, other: Greeks) -> Greeks:
        """Return the sum, component by component."""
        return Greeks(
            self.delta_base + other.delta_base,
            self.gamma_base_per_px + other.gamma_base_per_px,
            self.vega_quote_per_vol + other.vega_quote_per_vol,
            self.theta_quote_per_day + other.theta_quote_per_day,
            self.value_quote + other.value_quote,
        )


class Position(msgspec.Struct, frozen=True, gc=False):
    """A holding in one instrument: signed lots, average entry, and realised results in settlement currency."""

    instrument_id: str
    qty_lots: int
    entry_px: float
    realised_settle: float
    funding_settle: float
    fees_settle: float


class PnlBreakdown(msgspec.Struct, frozen=True, gc=False):
    """Profit and loss in quote money by cause; the parts add up to `total` exactly."""

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

    @property
    def total(self) -> float:
        """Sum of the parts."""
        return (
            self.delta
            + self.gamma
            + self.theta
            + self.vega
            + self.vanna_volga
            + self.funding
            + self.fees
            + self.gas
            + self.slippage
            + self.unexplained
        )
